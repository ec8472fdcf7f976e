"""The GPU benchmark, as far as it can be tested without a GPU: what it counts, reads, judges and reports."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from app import manifest
from app.engine import Engine
from app.errors import ProviderUnavailable
from app.runtime import CPU, CUDA, Runtime
from app.tensors import Instance, Prediction
from scripts.bench.job import Answer, Own, Report
from scripts.bench.job import Job as Load
from scripts.bench_gpu import __main__ as bench_gpu
from scripts.bench_gpu import child, grid, memory, mps, parity, placement, report, service
from scripts.bench_gpu.child import FAILED, Job
from scripts.bench_gpu.memory import Request
from scripts.bench_gpu.parts import NO_GPU, PARTS
from scripts.bench_gpu.placement import Ran
from scripts.bench_gpu.roofline import Network, Roof
from scripts.bench_gpu.sides import Sides
from scripts.bench_gpu.table import Table, milliseconds
from scripts.bench_gpu.timing import LEAST, median_seconds
from tests import artifacts
from tests.fake_cuda import FakeCuda
from tests.listeners import Handler, listening
from tests.servers import ROOT

REFERENCE = ROOT / "model/gyro-denoiser/1"


# -- the roofline ------------------------------------------------------------------------------------------------------


def test_the_arithmetic_is_that_of_the_weights_in_the_graph() -> None:
    """Each weight of a product is multiplied and added once a step; the weights are counted here from the served graph."""
    proto = onnx.load(REFERENCE / "model.onnx")
    weights = {each.name: int(np.prod(each.dims)) for each in proto.graph.initializer}
    products = [node.input[1] for node in proto.graph.node if node.op_type == "MatMul"]
    products += [name for node in proto.graph.node if node.op_type == "GRU" for name in node.input[1:3]]
    network = Network(raw=6, inputs=grid.SCALED, hidden=64, layers=2, outputs=3)
    assert network.products == sum(weights[name] for name in products)
    assert network.flops(5, 7) == 2 * network.products * 5 * 7


def test_the_memory_that_must_move_is_counted_by_hand() -> None:
    network = Network(raw=2, inputs=3, hidden=4, layers=1, outputs=1)
    weights = 3 * 4 * (3 + 4) + 3 * 4 + 2 * 4 + 2 + 1 * 2  # gates, their biases, the head and its bias, the calibration
    assert network.bytes(5, 7) == 4 * (weights + 5 * 7 * (2 + 1) + 2 * 5 * 4 + 5)


def test_the_roof_is_the_higher_of_the_two_floors() -> None:
    network = Network(raw=2, inputs=3, hidden=4, layers=1, outputs=1)
    flops, moved = network.flops(5, 7), network.bytes(5, 7)
    assert Roof(flops=float(flops), bandwidth=10.0 * moved).seconds(network, 5, 7) == 1.0
    assert Roof(flops=10.0 * flops, bandwidth=moved / 2).seconds(network, 5, 7) == 2.0


def test_a_time_is_the_median_of_several_runs_without_the_first() -> None:
    """The first run with a shape also allocates memory and compiles."""
    runs: list[None] = []
    assert median_seconds(lambda: runs.append(None), budget=0.0) < 0.1
    assert len(runs) == 1 + LEAST


# -- where nodes run ---------------------------------------------------------------------------------------------------


def test_a_profile_of_a_real_run_tells_each_node_and_its_provider() -> None:
    """There is one GRU node for each layer of the model, counted once, on the only provider that was available."""
    spec = manifest.read(REFERENCE)
    nodes = placement.profiled(spec, REFERENCE / spec.graphs[CPU], [CPU])
    assert {node.provider for node in nodes} == {CPU}
    assert sorted(node.name for node in nodes if node.operator == "GRU") == ["gru_0", "gru_1"]
    assert placement.summary(nodes)["providers"] == {CPU: len(nodes)}


def test_a_node_that_ran_twice_counts_once_and_what_is_no_node_not_at_all(tmp_path: Path) -> None:
    event = {"cat": "Node", "name": "gru_0_kernel_time", "args": {"op_name": "GRU", "provider": CPU}}
    other = {"cat": "Session", "name": "model_run", "args": {}}
    (tmp_path / "profile.json").write_text(json.dumps([other, event, event, {"cat": "Node", "name": "x_fence_before"}]))
    assert placement.read(tmp_path / "profile.json") == [Ran("gru_0", "GRU", CPU)]


def test_what_cuda_left_to_the_cpu_is_named_and_copies_compute_nothing() -> None:
    nodes = [Ran("a", "MatMul", CUDA), Ran("b", "GRU", CPU), Ran("Memcpy", "MemcpyToHost", CUDA)]
    assert placement.summary(nodes) == {"providers": {CUDA: 1, CPU: 1}, "copies": 1, "elsewhere": ["GRU b"]}


# -- how exactly -------------------------------------------------------------------------------------------------------


def test_the_two_graphs_of_the_committed_model_agree_here() -> None:
    """The same comparison as on a GPU, with both graphs on the CPU: they differ by no more than the last bit of the input does."""
    apart, last_bit = parity.compare(Sides.open(REFERENCE, "cpu"), quick=True)
    assert apart.beyond <= parity.allowed(len(apart.outputs))
    assert 0 < max(apart.outputs) < 0.01
    assert 0 < np.median(last_bit.outputs) < 1e-3


def test_what_runs_on_cuda_is_told_from_what_runs_on_the_cpu() -> None:
    """With a fake GPU: each side runs on its own provider, and their costs decide where a batch goes."""
    sides = Sides.open(REFERENCE, "cuda", FakeCuda())
    instances = sides.drawn([3, 40, 700], seed=1)
    assert [len(each) for each in instances] == [3, 40, 700]
    assert {each.provider for each in sides.cpu.predict(instances)} == {CPU}
    assert {each.provider for each in sides.gpu.predict(instances)} == {CUDA}
    sides.learn(2)
    assert np.isfinite([side.runner.seconds(2, 64) for side in (sides.cpu, sides.gpu)]).all()
    assert sides.sent_to_gpu(2, 64) == (sides.gpu.runner.seconds(2, 64) <= sides.cpu.runner.seconds(2, 64))
    with pytest.raises(ProviderUnavailable, match="no such card"):
        Sides.open(REFERENCE, "cuda", FakeCuda(refuses="no such card"))


def test_a_difference_in_a_state_is_not_hidden_by_equal_outputs(tmp_path: Path) -> None:
    folder = artifacts.build(tmp_path)
    engine = Engine(manifest.read(folder), folder, device="cpu")
    (one,) = engine.predict([Instance(np.ones((3, 6), np.float32))])
    moved = Prediction(one.outputs, tuple(state + np.float32(0.5) for state in one.state))
    apart = parity.Apart()
    apart.add([one, one], [one, moved], engine.spec.tolerance)
    assert apart.summary() | {"tolerances": 0} == {
        "sequences": 2,
        "beyond": 1,
        "outputs": 0.0,
        "outputs_median": 0.0,
        "states": pytest.approx(0.5),
        "states_median": pytest.approx(0.25),
        "tolerances": 0,
    }


def test_rare_differences_are_let_pass_and_more_are_not() -> None:
    assert [parity.allowed(sequences) for sequences in (10, 100, 300)] == [1, 5, 15]


# -- the parts ---------------------------------------------------------------------------------------------------------


def job(tmp_path: Path, *, reference: Path = REFERENCE) -> Job:
    return Job("cpu", str(reference), str(tmp_path), quick=True)


def test_a_part_that_fails_says_why(tmp_path: Path) -> None:
    """The reason stands in the table of that part, and the other parts go on."""
    answer = child.run("parity", job(tmp_path, reference=tmp_path / "none"), patience=60)
    assert "BadArtifact" in answer[FAILED]


def test_a_part_that_hangs_is_ended(tmp_path: Path) -> None:
    assert child.run("parity", job(tmp_path), patience=0.01) == {FAILED: "it took longer than 0.01 s"}


def test_a_part_that_dies_is_told(tmp_path: Path) -> None:
    """A part that is killed for its memory gives no answer."""
    assert child.run("roofline", job(tmp_path), patience=60) == {FAILED: "its process ended with exit code 0 and no answer"}


def test_callers_are_shared_among_generators() -> None:
    """No client may be lost or added, whatever the machine."""
    for callers in (1, 8, 64, 70, 256):
        assert [sum(service.shares(callers, cpus)) for cpus in (1, 2, 16, 64)] == [callers] * 4
    assert service.shares(256, 2) == [256]
    assert service.shares(8, 64) == [8]
    assert service.shares(70, 64) == [18, 18, 17, 17]


def test_several_generators_are_one_load() -> None:
    """Rates and failures are summed; of latencies and of the generators' own CPU time, the worst counts."""
    loaded = Load(url="http://127.0.0.1:1/predict", bodies=[b""], connections=2, seconds=1.0)

    def seen(*latencies: float, status: int = 200, cpus: float = 0.5) -> Report:
        answers = [Answer(status, retry_after=False, due=0.0, written=0.0, arrived=each) for each in latencies]
        return Report.of(loaded, answers, Own(counts_from=0.0, sent=len(answers), late=[], waited=0, cpus=cpus))

    (many,) = [each for each in service.points(6) if each.sequences == 32]
    found = service.together(many, [seen(0.1, 0.2), seen(0.4, cpus=0.95), seen(0.5, status=503)])
    assert (found["requests_per_second"], found["sequences_per_second"]) == (3.0, 96.0)
    assert (found["p50"], found["p99"], found["failed"], found["generator_busy"]) == (0.4, 0.4, 1, True)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which a fake of NVIDIA's MPS control program writes its commands."""
    said = tmp_path / "said"
    program = tmp_path / mps.CONTROL
    program.write_text(f'#!/bin/sh\n{{ test -d "$CUDA_MPS_PIPE_DIRECTORY" && echo "$@"; cat; }} >> {said}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return said


def test_processes_share_the_gpu_for_as_long_as_it_is_wanted(told: Path) -> None:
    before = dict(os.environ)
    with mps.running():
        assert told.read_text() == "-d\n"
        assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] != before.get("CUDA_MPS_PIPE_DIRECTORY")
    assert told.read_text() == "-d\n\nquit -t 5\n"
    assert dict(os.environ) == before


def test_the_daemon_ends_though_the_measurement_fails(told: Path) -> None:
    with pytest.raises(RuntimeError, match="no answer"), mps.running():
        raise RuntimeError("no answer")
    assert told.read_text() == "-d\n\nquit -t 5\n"


def test_sharing_the_gpu_is_measured_where_the_driver_brings_it(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (*_, shared, _) = service.setups("cuda")
    assert (shared.name[-5:], shared.together) == (", MPS", True)
    (told.parent / mps.CONTROL).unlink()
    monkeypatch.setenv("PATH", str(told.parent))
    assert not any(each.together for each in service.setups("cuda"))


# -- memory that is gone -----------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """A service that behaves as it must while GPU memory is held, or with one thing wrong."""

    engine: Engine
    held: bool = False
    silent: bool = False  # its health is always ok
    shift: float = 0.0  # error of its answers while memory is held

    @contextmanager
    def holding(self) -> Iterator[dict[str, int]]:
        self.held = True
        yield {"taken": 1000, "left": 40}
        self.held = False

    def predict(self, body: bytes) -> dict[str, Any]:
        instances = [Instance(np.array(each, np.float32)) for each in json.loads(body)["instances"]]
        shift = self.shift if self.held else 0.0
        predictions = [(each.output + shift).tolist() for each in self.engine.predict(instances)]
        return {"predictions": predictions, "provider": CPU if self.held else CUDA}

    def health(self) -> dict[str, Any]:
        held = self.held and not self.silent
        model = {"provider": CPU if held else CUDA, "fallback_reason": "no memory" if held else None}
        return {"status": "degraded" if held else "ok", "models": [model]}


def handler_of(peer: Peer) -> type[Handler]:
    class Answers(Handler):
        def do_POST(self) -> None:
            self.answer(json.dumps(peer.predict(self.rfile.read(int(self.headers["Content-Length"])))).encode())

        def do_GET(self) -> None:
            self.answer(json.dumps(peer.health()).encode())

    return Answers


def watched(tmp_path: Path, **wrong: Any) -> dict[str, Any]:
    sides = Sides.open(artifacts.build(tmp_path), "cpu")
    peer = Peer(sides.cpu.engine, **wrong)
    small, large = Request.of(sides, 2, 3), Request.of(sides, 4, 5)
    with listening(handler_of(peer)) as port:
        return memory.watched(small, large, port, peer.holding, patience=2.0)


def test_a_service_that_goes_on_says_so_and_comes_back_is_as_it_must_be(tmp_path: Path) -> None:
    found = watched(tmp_path)
    assert found["faults"] == []
    assert found["recovered_seconds"] < 2
    assert [(each["when"], each["status"]) for each in found["events"]] == [
        ("before", "ok"),
        ("memory gone", "degraded"),
        ("memory gone", "degraded"),
        ("memory back", "ok"),
    ]
    table = "\n".join(report.part_lines({"no_gpu": None, "device": "cuda", "parts": {"memory": found}}, "memory"))
    assert "no memory" in table
    assert "1,000 MiB" in table


def test_a_service_that_does_not_say_so_is_found_out(tmp_path: Path) -> None:
    assert watched(tmp_path, silent=True)["faults"] == ["/health did not say degraded, and why"]


def test_other_answers_without_the_memory_are_found_out(tmp_path: Path) -> None:
    faults = watched(tmp_path, shift=0.01)["faults"]
    assert len(faults) == 2
    assert all("times the tolerance from what must be answered" in fault for fault in faults)


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_table_is_markdown_whatever_stands_in_it() -> None:
    table = Table("Title", ["A", "B"], [["1", "x|y"], ["222", "z"]], ["One sentence.", "Another."])
    assert list(table.lines("A note.")) == [
        "## Title",
        "",
        "**A note.**",
        "",
        "One sentence. Another.",
        "",
        "| A   | B    |",
        "|-----|------|",
        "| 1   | x\\|y |",
        "| 222 | z    |",
        "",
    ]


def test_times_have_three_digits() -> None:
    assert [milliseconds(each) for each in (0.0000261, 0.00454, 0.1234, 1.5, None)] == ["0.0261", "4.54", "123", "1,500", "-"]


def batches() -> dict[str, Any]:
    """One cell of the table, which takes four times the least time on a machine that is limited by arithmetic."""
    network = {"raw": 6, "inputs": 12, "hidden": 64, "layers": 2, "outputs": 3}
    cell = {"size": 64, "steps": 128, "gpu": 0.004, "cpu": 0.016, "sent_to_gpu": True}
    lanes = [{"steps": 128, "sequences_per_second": 32_000.0}]
    models = {grid.REFERENCE: {"network": network, "cells": [cell], "lanes": lanes}}
    return {"models": models, "cpus": 16, "lane_batch": 16}


def result(**parts: Any) -> dict[str, Any]:
    return {"device": "cuda", "no_gpu": None, "command": "python -m scripts.bench_gpu", "seconds": 200.0, "parts": parts}


def test_the_shares_and_ratios_of_a_known_result() -> None:
    flops = 4 * Network(raw=6, inputs=12, hidden=64, layers=2, outputs=3).flops(64, 128) / 0.004 / 4
    torch = {
        "versions": {"torch": "2", "cuda": "13", "cudnn": 9},
        "roof": {"flops": 4 * flops, "bandwidth": 1e15, "side": 1, "copied": 2**20},
        "eager": {grid.AFTER: [{"size": 64, "steps": 128, "seconds": 0.001}]},
        "compiled": None,
    }
    text = "\n".join(report.lines(result(torch_gru=torch, batches=batches())))
    row = ["64", "128", "4", "16,000", "16", "4,000", "1", "64,000", "CUDA", "25 %"]
    assert row in [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["reset_before", "128", "32,000", "16,000", "64", "0.5"] in [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
    ]
    assert "No GPU" not in text


def test_a_batch_that_goes_where_it_takes_longer_is_named() -> None:
    """Routing is judged by the figures in the table; batches that the service never runs are not judged."""
    found = batches()
    (cells,) = [model["cells"] for model in found["models"].values()]
    cells += [{"size": 1, "steps": 32, "gpu": 0.003, "cpu": 0.001, "sent_to_gpu": True}]
    cells += [{"size": 1024, "steps": 32, "gpu": 0.003, "cpu": 0.001, "sent_to_gpu": None}]
    text = " ".join(line for line in report.lines(result(batches=found)))
    wrong = "Of 2 batches 1 go to a provider that takes over 1.2 times as long as the other: 1 x 32 steps (CUDA takes 3 times as"
    assert wrong in text


def test_the_batches_are_told_where_torch_failed() -> None:
    """The columns of torch are empty, but everything else was measured."""
    text = "\n".join(report.lines(result(torch_gru={FAILED: "RuntimeError: cuDNN"}, batches=batches())))
    assert "**Failed:** RuntimeError: cuDNN." in text
    row = ["64", "128", "4", "16,000", "16", "4,000", "-", "-", "CUDA", "-"]
    assert row in [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


@pytest.mark.skipif(Runtime().expects_gpu, reason="this machine has an NVIDIA driver")
def test_without_a_driver_cuda_is_refused_and_nothing_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Results measured on the CPU must never be reported as CUDA's, so an explicit request for CUDA fails."""
    assert bench_gpu.main(["--device", "cuda", "--quick", "--json", str(tmp_path / "result.json")]) == 1
    said = capsys.readouterr()
    assert "CUDA was asked for and cannot be had: this machine has no NVIDIA driver" in said.err
    assert said.out == ""
    assert not (tmp_path / "result.json").exists()


def test_a_whole_run_on_the_cpu_says_in_all_places_that_no_gpu_was_used(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A small run of all parts succeeds, and none of its tables can be taken for a GPU's."""
    target, markdown = tmp_path / "result.json", tmp_path / "gpu.md"
    arguments = ["--device", "cpu", "--quick", "--seconds", "0.05", "--json", str(target), "--markdown", str(markdown)]
    assert bench_gpu.main(arguments) == 0
    assert capfd.readouterr().out.startswith(NO_GPU)
    found = json.loads(target.read_text())
    assert found["no_gpu"] == NO_GPU
    assert list(found["parts"]) == list(PARTS)
    assert found["not_shown"].keys() == {name for name, part in PARTS.items() if part.hidden}
    assert {provider for each in found["parts"]["service"]["points"] for provider in each["batches"]} == {CPU}
    text = markdown.read_text()
    assert text.startswith("# Measured without a GPU")
    for section in text.split("\n## ")[1:]:
        assert section.split("\n")[2].startswith("**No GPU was used."), section
