"""The published model is the trained one: graph, torch and equations agree, or nothing is published."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from app import manifest
from app.engine import Engine
from app.golden import Golden, difference
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Instance, Prediction
from scripts import export as export_script
from scripts.gyro.artifact import Denoised
from scripts.gyro.model import Denoiser
from scripts.training import cuda_graph, publish, recurrent, verify
from scripts.training.exactness import Exactness
from scripts.training.tolerance import tolerance
from tests import artifacts

GRID = (
    [
        pytest.param({"cell": cell, "bias": bias, "layers": layers}, id=f"{cell}-{'bias' if bias else 'no_bias'}-{layers}")
        for cell in ("reset_before", "reset_after", "lstm", "rnn")
        for bias in (True, False)
        for layers in (1, 2)
    ]
    + [
        pytest.param({"cell": cell}, id=cell.replace(",", "-"))
        for cell in ("lstm,reset_before", "reset_before,lstm", "lstm,reset_after", "reset_after,reset_before", "rnn,lstm")
    ]
    + [pytest.param({"zero_rate": False}, id="no_zero_rate")]
)
BUILDER = """
import sys
from pathlib import Path
from scripts.training import publish
with publish.staging(Path(sys.argv[1]), "model") as folder:
    (folder / "model.onnx").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""
BATCHES = {"one_step": [1], "alone": [9], "one_step_each": [1, 1, 1], "equal": [6, 6], "ragged": [7, 1, 40, 3, 12]}


def opened(folder: Path) -> Engine:
    """The version in this folder, as the service would open it."""
    return Engine(manifest.read(folder), folder, device="cpu")


def draw(lengths: list[int], network: Denoiser, *, fastest: float, seed: int = 0) -> list[Instance]:
    """Instances at rates up to `fastest` (deg/s), each from a random state, the first from no state."""
    rng = np.random.default_rng(seed)
    drawn = []
    for length in lengths:
        rates, forces = rng.uniform(-fastest, fastest, (length, 3)), rng.uniform(-30, 30, (length, 3))
        state = tuple(rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in network.stack.shapes)
        drawn.append(Instance(steps=np.concatenate([rates, forces], axis=1).astype(np.float32), state=state))
    drawn[0] = Instance(steps=drawn[0].steps)
    return drawn


def by_equations(network: Denoiser, instances: list[Instance]) -> list[Prediction]:
    """The predictions of the equations, computed and returned in float64."""
    answers = []
    for instance in instances:
        state = instance.state or [np.zeros(shape) for shape in network.stack.shapes]
        output, ends = network.equations(instance.steps.astype(np.float64), [each.astype(np.float64) for each in state])
        answers.append(Prediction(outputs=(output,), state=ends))  # type: ignore[arg-type]  # more digits than the type asks for
    return answers


# -- the graph --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", GRID)
def test_graph_and_torch_and_the_equations_agree(tmp_path: Path, choice: dict[str, Any]) -> None:
    """The third equality, for every kind of cell: outputs and final states, ragged, from random states."""
    folder = artifacts.build(tmp_path, **choice)
    engine, denoised = opened(folder), Denoised(artifacts.checkpoint(**choice))
    for seed, lengths in enumerate(BATCHES.values()):
        for fastest in (1.0, 50.0, 500.0):
            instances = draw(lengths, denoised.network, fastest=fastest, seed=seed)
            expected, served = by_equations(denoised.network, instances), engine.predict(instances)
            assert difference(served, expected, engine.spec.tolerance) <= 1
            assert difference(denoised.by_torch(instances), expected, engine.spec.tolerance) <= 1
            for actual, wanted in zip(served, expected, strict=True):  # states have no large terms, so they agree far better
                for ours, theirs in zip(actual.state, wanted.state, strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("choice", GRID)
def test_a_large_rate_costs_no_precision(tmp_path: Path, choice: dict[str, Any]) -> None:
    """At 1000 deg/s only the last rounding to float32 is allowed, so corrections of hundredths of a degree are not lost."""
    engine = opened(artifacts.build(tmp_path, **choice))
    denoised = Denoised(artifacts.checkpoint(**choice))
    instances = draw([50, 50], denoised.network, fastest=1000.0)
    expected = by_equations(denoised.network, instances)
    for predictions in (engine.predict(instances), denoised.by_torch(instances)):
        for actual, wanted in zip(predictions, expected, strict=True):
            rounding = np.spacing(np.abs(wanted.output).astype(np.float32)) / 2
            assert np.all(np.abs(actual.output - wanted.output) <= rounding + 1e-5)


def test_the_best_network_of_a_run_is_exported() -> None:
    """The last network of a run may be worse than the best one."""
    checkpoint = artifacts.checkpoint()
    checkpoint.network = artifacts.checkpoint(seed=1).network
    for name, tensor in Denoised(checkpoint).network.state_dict().items():
        assert torch.equal(tensor, checkpoint.best_network[name])


@pytest.mark.parametrize(("cell", "linear_before_reset"), [("reset_before", 0), ("reset_after", 1)])
def test_graph_says_which_cell_it_is(tmp_path: Path, cell: str, linear_before_reset: int) -> None:
    """ONNX Runtime's CUDA provider runs only one of these cells, so the service must not send it the other."""
    folder = artifacts.build(tmp_path, cell=cell)
    graph = onnx.load(folder / "model.onnx")
    layers = [node for node in graph.graph.node if node.op_type == "GRU"]
    assert len(layers) == 2
    for node in layers:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        assert attributes["linear_before_reset"] == linear_before_reset
        assert attributes["hidden_size"] == 8
    spec = manifest.read(folder)
    assert spec.cell.variant == cell
    assert spec.graphs == {CPU: "model.onnx", CUDA: "model.cuda.onnx" if cell == "reset_before" else "model.onnx"}
    for name in spec.graphs.values():
        assert [entry.version for entry in onnx.load(folder / name).opset_import] == [spec.opset]


@pytest.mark.parametrize("cell", ["lstm", "rnn", "lstm,reset_before", "reset_before,lstm"])
def test_manifest_of_other_cells_names_them_and_their_states(tmp_path: Path, cell: str) -> None:
    """An LSTM has two states, and a stream must keep both; CUDA is listed where it runs every node, and nowhere else."""
    folder = artifacts.build(tmp_path, cell=cell)
    spec, kinds = manifest.read(folder), cell.split(",")
    lstms = kinds.count("lstm") if len(kinds) == 2 else 2 * kinds.count("lstm")
    assert spec.cell.variant == (cell if len(kinds) == 1 else tuple(kinds))
    assert [(state.input, state.output, state.shape) for state in spec.states] == (
        [("h0", "hn", (2, 8)), *([("c0", "cn", (lstms, 8))] if lstms else [])]
    )
    assert spec.graphs == {CPU: "model.onnx"} | ({} if "reset_before" in kinds else {CUDA: "model.onnx"})
    assert spec.task == "denoise"
    checks = verify.verify(opened(folder), Golden.load(folder, spec)) + cuda_checks(folder)
    assert len(checks) == 3 + (CUDA in spec.graphs)
    assert all(check.holds and (check.worst or 0) < 0.7 for check in checks)


@pytest.mark.parametrize("cell", ["reset_before", "lstm", "rnn,reset_before"])
def test_no_graph_holds_what_it_does_not_use(tmp_path: Path, cell: str) -> None:
    """ONNX Runtime warns of every unused weight, and the file is larger than necessary."""
    folder = artifacts.build(tmp_path, cell=cell)
    for name in set(manifest.read(folder).graphs.values()):
        graph = onnx.load(folder / name).graph
        used = {tensor for node in graph.node for tensor in node.input} | {value.name for value in graph.output}
        there = {tensor for node in graph.node for tensor in node.output} | {weight.name for weight in graph.initializer}
        assert there <= used


# -- the checks -------------------------------------------------------------------------------------------------------


def failing(folder: Path) -> set[str]:
    """The first word of each check that this version does not pass."""
    spec = ModelSpec.model_validate_json((folder / "manifest.json").read_bytes())  # the files are altered on purpose
    checks = verify.verify(Engine(spec, folder, device="cpu"), Golden.load(folder, spec))
    return {check.name.split()[0] for check in checks if not check.holds}


def rewrite(folder: Path, change: Any, name: str = "model.onnx") -> None:
    """Alter the graph as a defect of the exporter would."""
    proto = onnx.load(folder / name)
    change(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, folder / name)


def layers_of(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "GRU"]


def swap_reset(graph: onnx.GraphProto) -> None:
    for node in layers_of(graph):
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 1 - attribute.i


def forget_lengths(graph: onnx.GraphProto) -> None:
    for node in layers_of(graph):
        node.input[4] = ""


def forget_initial_states(graph: onnx.GraphProto) -> None:
    for node in layers_of(graph):
        node.input[5] = ""


def swap_final_states(graph: onnx.GraphProto) -> None:
    (node,) = (node for node in graph.node if list(node.output) == ["hn"])
    node.input[0], node.input[1] = node.input[1], node.input[0]


@pytest.mark.parametrize("cell", ["reset_before", "reset_after"])
def test_a_sound_artifact_passes_every_check(tmp_path: Path, cell: str) -> None:
    """It passes by a margin, so the tests below refuse a graph only for its defect."""
    folder = artifacts.build(tmp_path, cell=cell)
    spec = manifest.read(folder)
    checks = verify.verify(opened(folder), Golden.load(folder, spec))
    assert len(checks) == 3
    for check in checks:
        assert check.holds
        assert check.worst < 0.7
        assert "holds" in str(check)


@pytest.mark.parametrize(
    ("defect", "seen_by"),
    [
        (swap_reset, {"runtime-invariant"}),
        (forget_lengths, {"runtime-invariant", "batch-invariant"}),
        (forget_initial_states, {"runtime-invariant", "split-invariant"}),
        (swap_final_states, {"runtime-invariant", "split-invariant"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_defect_of_the_graph_is_seen(tmp_path: Path, defect: Any, seen_by: set[str]) -> None:
    """Each check must find its own kind of defect: a check that cannot fail protects nobody."""
    folder = artifacts.build(tmp_path)
    rewrite(folder, defect)
    assert failing(folder) == seen_by


def off_in_its_fifth_digit(graph: onnx.GraphProto) -> None:
    """Shift the final states of both layers by 5e-5: half of what the manifest allows a rate of hundreds of deg/s."""
    (node,) = (node for node in graph.node if list(node.output) == ["hn"])
    node.output[0] = "exact"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(5e-5, np.float32), "off"))
    graph.node.append(onnx.helper.make_node("Add", ["exact", "off"], ["hn"]))


def test_a_state_is_not_measured_by_what_its_output_may_be_off(tmp_path: Path) -> None:
    """The manifest's only tolerance fits the largest tensor, so a state is checked with its own, and named in the message."""
    folder = artifacts.build(tmp_path)
    rewrite(folder, off_in_its_fifth_digit)
    spec = ModelSpec.model_validate_json((folder / "manifest.json").read_bytes())
    engine, golden = Engine(spec, folder, device="cpu"), Golden.load(folder, spec)
    assert difference(engine.predict(golden.instances), golden.predictions, spec.tolerance) <= 1
    runtime, *_ = verify.verify(engine, golden)
    output, state = runtime.parts
    assert (output.tensor, state.tensor) == ("output", "hn")
    assert output.share <= 1 < state.share
    assert 4e-5 < state.by < 6e-5
    assert 5e-6 < state.allowed < 2e-5
    assert not runtime.holds
    assert f"FAILS, largest difference {state.share:.3g} of the tolerance: hn by " in str(runtime)


def test_an_update_gate_the_wrong_way_round_is_seen(tmp_path: Path) -> None:
    """This is the easiest mistake with this cell: the graph is consistent with itself, and only the equations show the error."""
    folder = artifacts.build(tmp_path)
    checkpoint = artifacts.checkpoint()
    with torch.no_grad():
        for name, tensor in checkpoint.best_network.items():
            if name.startswith("stack."):
                tensor[8:16].neg_()  # the rows of Z
    Denoised(checkpoint).write_graphs(folder)
    assert failing(folder) == {"runtime-invariant"}


def cuda_checks(folder: Path) -> list[verify.Check]:
    spec = ModelSpec.model_validate_json((folder / "manifest.json").read_bytes())  # the files are altered on purpose
    return cuda_graph.verify(spec, folder, Golden.load(folder, spec))


@pytest.mark.parametrize(("cell", "count"), [("reset_before", 4), ("reset_after", 1)])
def test_a_sound_graph_for_cuda_passes_every_check(tmp_path: Path, cell: str, count: int) -> None:
    """It passes by a margin; if it is the CPU's own graph, only its nodes remain to be checked."""
    checks = cuda_checks(artifacts.build(tmp_path, cell=cell))
    assert len(checks) == count
    for check in checks:
        assert check.holds
        assert (check.worst or 0) < 0.7
        assert str(check).endswith("holds") or "holds, largest difference" in str(check)


def other_weight(graph: onnx.GraphProto) -> None:
    change_constant(graph, "U", lambda array: array * 1.01)


def never_at_an_end(graph: onnx.GraphProto) -> None:
    change_constant(graph, "when", lambda array: np.full_like(array, -1))


def one_step_late(graph: onnx.GraphProto) -> None:
    change_constant(graph, "when", lambda array: np.maximum(array, 1) - 1)


def without_kernel(graph: onnx.GraphProto) -> None:
    graph.node.append(onnx.helper.make_node("Hardmax", ["input"], ["nowhere"], name="hardest"))


def change_constant(graph: onnx.GraphProto, name: str, change: Any) -> None:
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == name)
    changed = change(onnx.numpy_helper.to_array(tensor))
    tensor.CopyFrom(onnx.numpy_helper.from_array(changed.astype(changed.dtype), name))


@pytest.mark.parametrize(
    ("defect", "seen_by"),
    [
        (other_weight, {"equals the golden sample", "equals model.onnx"}),
        (one_step_late, {"equals the golden sample", "equals model.onnx"}),
        (never_at_an_end, {"equals the golden sample", "equals model.onnx", "keeps the state"}),
        (without_kernel, {"runs on CUDA"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_defect_of_the_graph_for_cuda_is_seen(tmp_path: Path, defect: Any, seen_by: set[str]) -> None:
    """Without a GPU the service never opens this file, so nothing else would find the defect."""
    folder = artifacts.build(tmp_path)
    rewrite(folder, defect, "model.cuda.onnx")
    failed = [str(check) for check in cuda_checks(folder) if not check.holds]
    assert len(failed) == len(seen_by)
    for text in seen_by:
        assert any(f"model.cuda.onnx {text}" in line for line in failed)


def test_a_graph_that_cuda_cannot_run_whole_is_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime would run such a node on the CPU without a message, and a GPU would be slower than none."""
    monkeypatch.setattr(recurrent, "graphs_of", lambda _, **__: {CPU: "model.onnx", CUDA: "model.onnx"})
    artifacts.checkpoint().save(tmp_path)
    assert export_script.main([str(tmp_path), "--model-dir", str(tmp_path / "model")]) == 1
    shown = capsys.readouterr()
    assert "Nothing was published: 1 of 5 checks failed" in shown.err
    assert "model.onnx runs on CUDA, every node of it: FAILS, GRU gru_0 resets before the product" in shown.out
    assert list((tmp_path / "model").iterdir()) == []


def test_difference_is_what_the_tolerance_allows() -> None:
    """A difference of 1 is the limit; NaN and a different shape are beyond every limit."""
    tolerance = manifest.Tolerance(rtol=0.1, atol=1.0)
    expected = [Prediction(outputs=(np.full((2, 1), 10.0, dtype=np.float32),), state=(np.zeros(1, dtype=np.float32),))]

    def of(output: float, state: float, steps: int = 2) -> float:
        actual = Prediction(outputs=(np.full((steps, 1), output, dtype=np.float32),), state=(np.full(1, state, dtype=np.float32),))
        return difference([actual], expected, tolerance)

    assert of(12.0, 0.0) == 1.0
    assert of(10.0, -3.0) == 3.0
    assert of(float("nan"), 0.0) > 1e300
    assert of(10.0, float("nan")) > 1e300
    assert of(10.0, 0.0, steps=3) == float("inf")


def test_the_least_tolerance_tells_the_smallest_numbers_apart() -> None:
    """A model may answer in numbers of 1e-31, and half of such a number must not pass as equal to it."""
    small = np.full((2, 1), 1e-31)
    assert tolerance([(1e-31, small, small)], roundings=8).atol < 1e-35
    exact = Exactness(largest=(1e-31,), moved=(0.0,), beyond=0.0)
    assert exact.tolerance.atol < 1e-35
    assert exact.allowed[0] < 1e-35


# -- the artifact -----------------------------------------------------------------------------------------------------


def test_golden_sample_is_ragged_and_starts_from_random_states(repository: Path) -> None:
    """Length 1, unequal lengths and a state that is not zero are where a wrong graph shows."""
    folder = repository / "gyro-denoiser" / "1"
    golden = Golden.load(folder, manifest.read(folder))
    assert sorted(len(instance) for instance in golden.instances) == [1, 1, 2, 7, 33, 128]
    for instance, prediction in zip(golden.instances, golden.predictions, strict=True):
        assert instance.state is not None
        assert instance.state[0].shape == prediction.state[0].shape == (2, 8)
        assert np.abs(instance.state[0]).min() > 0
        assert prediction.output.shape == (len(instance), 3)
        assert np.abs(prediction.output - instance.steps[:, :3]).max() > 0.1  # the network does change its input


@pytest.mark.parametrize("seed", range(5))
def test_golden_sample_holds_fast_motion(seed: int) -> None:
    """Precision is lost at large rates: a golden sample of a body at rest would not see it."""
    golden = Denoised(artifacts.checkpoint(seed=seed)).golden()
    assert max(np.abs(instance.steps[:, :3]).max() for instance in golden.instances) > 100


@pytest.mark.parametrize("cell", ["reset_before", "lstm,rnn"])
def test_golden_sample_comes_back_as_it_was_saved(tmp_path: Path, cell: str) -> None:
    """Every start of the service compares with the golden sample, so it must be exact to the last digit."""
    denoised = Denoised(artifacts.checkpoint(cell=cell))
    artifacts.write(denoised, tmp_path)
    saved, loaded = denoised.golden(), Golden.load(tmp_path, denoised.spec("1", tmp_path))
    exactly = manifest.Tolerance(rtol=0, atol=1e-30)
    assert difference(loaded.predictions, saved.predictions, exactly) == 0
    again, before = ([Prediction(outputs=(i.steps,), state=i.state or ()) for i in golden.instances] for golden in (loaded, saved))
    assert difference(again, before, exactly) == 0


def test_same_arguments_same_artifact(tmp_path: Path) -> None:
    """Exports are reproducible to the byte, so every difference between two versions has a reason."""
    first, second = artifacts.build(tmp_path / "a"), artifacts.build(tmp_path / "b")
    assert (first / "manifest.json").read_bytes() == (second / "manifest.json").read_bytes()
    assert manifest.read(first).files == manifest.read(second).files


def test_manifest_lists_the_checksum_of_every_other_file(repository: Path) -> None:
    """A file that was cut short or replaced on its way must not be served."""
    folder = repository / "gyro-denoiser" / "1"
    content = json.loads((folder / "manifest.json").read_bytes())
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.onnx", "model.cuda.onnx", "golden.npz", "manifest.json"}
    assert content["files"] == {name: sha256((folder / name).read_bytes()).hexdigest() for name in names - {"manifest.json"}}


def test_manifest_holds_the_scores_of_a_run_that_has_ended(tmp_path: Path) -> None:
    """The comparison with simpler methods goes with the file; a run that was stopped has none."""
    checkpoint = artifacts.checkpoint()
    assert "scores" not in Denoised(checkpoint).spec("1", artifacts.build(tmp_path)).provenance
    checkpoint.facts["scores"] = {"data": "two recordings", "scores": {"raw": {"RMSE": 1.0}}, "warnings": []}
    assert Denoised(checkpoint).spec("1", artifacts.build(tmp_path)).provenance["scores"] == checkpoint.facts["scores"]


def test_manifest_tells_where_the_model_comes_from(repository: Path) -> None:
    """The manifest alone must be enough to train the model again."""
    spec = manifest.read(repository / "gyro-denoiser" / "1")
    assert spec.provenance["config"] == artifacts.checkpoint().config.to_dict()
    assert spec.provenance["metrics"] == artifacts.checkpoint().history[0]
    assert torch.__version__.startswith(spec.provenance["packages"]["torch"])  # the package of a CUDA build lacks +cu130
    assert "ADIS16448" in spec.provenance["data"]
    assert [str(signal.unit) for signal in spec.features] == ["deg/s"] * 3 + ["m/s^2"] * 3
    assert [signal.unit for signal in spec.outputs[0].signals] == ["deg/s"] * 3


# -- publishing -------------------------------------------------------------------------------------------------------


def test_versions_count_up(tmp_path: Path) -> None:
    """The next version is one above the highest number; other folders do not count, and no version is overwritten."""
    assert [artifacts.build(tmp_path).name for _ in range(2)] == ["1", "2"]
    (tmp_path / "gyro-denoiser" / "10").mkdir()
    (tmp_path / "gyro-denoiser" / "latest").mkdir()
    folder = artifacts.build(tmp_path)
    assert folder.name == manifest.read(folder).version == "11"
    assert artifacts.build(tmp_path, name="other").name == "1"


@contextmanager
def building(model_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process that builds a version of `model` until the block ends, and its staging folder."""
    line = [sys.executable, "-c", BUILDER, str(model_dir)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, Path(process.stdout.readline().strip())


def test_two_publishers_at_once_get_a_version_each(tmp_path: Path) -> None:
    """Both chose version 1 before either published it: the slower takes version 2, and its manifest says so."""
    both_have_chosen = threading.Barrier(2)
    published: list[Path] = []

    def publisher(seed: int) -> None:
        denoised = Denoised(artifacts.checkpoint(seed=seed))
        staged = tmp_path / "gyro-denoiser" / f".staging-{seed}"
        staged.mkdir(parents=True)
        artifacts.write(denoised, staged)

        def spec_of(version: str) -> ModelSpec:
            if version == "1":
                both_have_chosen.wait(timeout=30)
            return denoised.spec(version, staged)

        published.append(publish.publish(staged, spec_of))

    threads = [threading.Thread(target=publisher, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(folder.name for folder in published) == ["1", "2"]
    specs = [manifest.read(folder) for folder in published]  # reads every checksum
    assert {spec.provenance["config"]["seed"] for spec in specs} == {0, 1}


def test_each_publisher_has_a_staging_folder_of_its_own(tmp_path: Path) -> None:
    """The process id is not enough: in containers that share a repository, every trainer may be process 1."""
    with publish.staging(tmp_path, "model") as first:
        (first / "model.onnx").touch()
        with publish.staging(tmp_path, "model") as second:
            assert second != first
        assert (first / "model.onnx").exists()


def test_what_is_published_can_be_read_by_another_user(tmp_path: Path) -> None:
    """A service in a container does not run as whoever trains, whose umask may hide all from others."""
    before = os.umask(0o077)
    try:
        published = artifacts.build(tmp_path / "models")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (published.parent, published)} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in published.iterdir()} == {0o644}


def test_what_a_killed_publisher_left_goes_with_the_next(tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up; the folder of a living process must not be touched."""
    with building(tmp_path) as (killed, left), building(tmp_path) as (_, living):
        killed.kill()
        killed.wait()
        assert left.exists()
        with publish.staging(tmp_path, "model") as folder:
            assert {*folder.parent.iterdir()} == {folder, living}
        assert (living / "model.onnx").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_version_can_be_read_by_anyone(repository: Path) -> None:
    """The service may run as another user than the trainer."""
    folder = repository / "gyro-denoiser" / "1"
    assert folder.stat().st_mode & 0o555 == 0o555
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())


def test_a_publication_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A service that watches the repository sees whole versions or none."""
    with pytest.raises(RuntimeError, match="full"), publish.staging(tmp_path, "model") as folder:  # noqa: PT012  # both are needed
        (folder / "model.onnx").write_bytes(b"half")
        raise RuntimeError("the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_a_publication_that_fails_leaves_the_versions_before_it(tmp_path: Path) -> None:
    """The earlier versions must stay as they are."""
    folder = artifacts.build(tmp_path)
    before = manifest.read(folder)
    with pytest.raises(RuntimeError, match="full"), publish.staging(tmp_path, "gyro-denoiser"):
        raise RuntimeError("the disk is full")
    assert manifest.read(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stack.layers.1.weight_hh", "head.weight", "calibration"])
def test_a_network_that_is_not_a_number_is_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A run that diverged must not replace a working model, and the user must learn what is wrong with it."""
    checkpoint = artifacts.checkpoint()
    checkpoint.best_network[name][0, 0] = float("nan")
    checkpoint.save(tmp_path)
    artifacts.build(tmp_path / "model")
    assert export_script.main([str(tmp_path), "--model-dir", str(tmp_path / "model")]) == 1
    shown = capsys.readouterr()
    assert "Nothing was published" in shown.err
    assert "torch equals the equations in float64: FAILS" in shown.out
    assert "runtime-invariant (equals the equations in float64): FAILS" in shown.out
    assert [path.name for path in (tmp_path / "model" / "gyro-denoiser").iterdir()] == ["1"]


def test_a_network_that_is_not_a_number_leaves_no_empty_model(tmp_path: Path) -> None:
    """The service cannot serve a model without versions."""
    checkpoint = artifacts.checkpoint()
    checkpoint.best_network["head.weight"].fill_(float("nan"))
    checkpoint.save(tmp_path)
    assert export_script.main([str(tmp_path), "--model-dir", str(tmp_path / "model")]) == 1
    assert list((tmp_path / "model").iterdir()) == []


def test_a_run_of_which_no_epoch_was_any_good_is_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every loss was NaN, so there is no best epoch, and the network on disk is untrained."""
    checkpoint = artifacts.checkpoint()
    checkpoint.best_epoch, checkpoint.best_loss = 0, float("inf")
    checkpoint.history[0].update(training_loss=float("nan"), validation_loss=float("nan"), validation_rmse=float("nan"))
    checkpoint.save(tmp_path)
    assert export_script.main([str(tmp_path), "--model-dir", str(tmp_path / "model")]) == 2
    assert "finite validation loss" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
