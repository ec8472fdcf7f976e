"""Other people's graphs: adopted by the command, served by a real process, with the same answers as ONNX Runtime itself gives."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import torch

from app import manifest
from app.engine import Engine
from app.golden import difference
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Instance
from scripts import adopt, card, verify
from scripts.adoption import artifact, inspection
from scripts.adoption.hypotheses import MOST
from scripts.adoption.probe import Probe
from scripts.adoption.refusal import Refused
from tests import graphs
from tests.graphs import FEATURES, FLOAT, HIDDEN, INT64, Builder
from tests.servers import serve

Array = np.ndarray
Shown = pytest.CaptureFixture[str]
CHUNK = 64


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


# For each model: its builder, its flags, and the function that makes its graph's inputs from one sequence.
CASES: dict[str, tuple[Callable[[Path], Path], list[str], Callable[[Array], dict[str, Array]]]] = {
    "torch-gru": (graphs.torch_gru, [], lambda x: {"input": x[None], "h0": zeros(2, 1, HIDDEN)}),
    "torch-lstm": (graphs.torch_lstm, [], lambda x: {"input": x[None], "h0": zeros(2, 1, HIDDEN), "c0": zeros(2, 1, HIDDEN)}),
    "bidirectional": (graphs.bidirectional, [], lambda x: {"input": x[None]}),
    "keras-gru": (graphs.keras_gru, [], lambda x: {"input_1": x[None], "initial_state": zeros(1, HIDDEN)}),
    "rank-4-state": (graphs.rank_4_state, [], lambda x: {"frames": x[None], "state": zeros(2, 1, 1, HIDDEN)}),
    "relaxed": (graphs.rank_4_state, ["--relax"], lambda x: {"frames": x[None], "state": zeros(2, 1, 1, HIDDEN)}),
    "relaxed-torch": (graphs.torch_fixed_batch, ["--relax"], lambda x: {"input": x[None]}),
    "crossed-names": (
        graphs.crossed_names,
        [],
        lambda x: {"x": x[None], "state_a": zeros(1, 1, HIDDEN), "state_b": zeros(1, 1, HIDDEN)},
    ),
    "time-major": (graphs.time_major, [], lambda x: {"x": x[:, None], "h": zeros(1, 1, HIDDEN)}),
    "with-lengths": (
        graphs.with_lengths,
        [],
        lambda x: {"x": x[None], "x_len": np.array([len(x)]), "h": zeros(1, 1, HIDDEN)},
    ),
    "several-outputs": (graphs.several_outputs, [], lambda x: {"x": x[None], "h": zeros(1, 1, HIDDEN)}),
    "forecaster": (graphs.forecaster, [], lambda x: {"context": x[None]}),
    "fixed-chunks": (
        graphs.fixed_chunks,
        [],
        lambda x: {"x": x[None], "one": zeros(1, 1, HIDDEN), "two": zeros(1, 1, HIDDEN)},
    ),
    "horizon-of-context": (graphs.horizon_of_context, [], lambda x: {"context": x[None]}),
    "torch-fixed": (graphs.torch_fixed, [], lambda x: {"input": x[None], "h0": zeros(2, 1, HIDDEN)}),
    "raw-time-first": (
        lambda path: graphs.raw_frames(path, dims=(8, 1, FEATURES)),
        [],
        lambda x: {"x": x[:, None], "h": zeros(1, 1, HIDDEN)},
    ),
    "gain-of-chunks": (graphs.gain_of_chunks, ["--input", "x"], lambda x: {"x": x[None], "mean": zeros(1, FEATURES)}),
    "dependent-rows": (graphs.dependent_rows, [], lambda x: {"x": x[None], "h": zeros(1, 1, HIDDEN)}),
}
STEPWISE: dict[str, tuple[Callable[[Path], Path], list[str], dict[str, Array], dict[str, str]]] = {
    "chunked": (
        graphs.chunked,
        ["--constant", "sr=16000", "--features", str(CHUNK)],
        {"sr": np.array(16000), "state": zeros(2, 1, HIDDEN)},
        {"state": "stateN"},
    ),
    "chunked-plain": (graphs.chunked_plain, ["--features", str(CHUNK)], {"state": zeros(1, HIDDEN)}, {"state": "stateN"}),
    "cells": (
        graphs.stepwise_cells,
        ["--state", "a:p", "--state", "b:q"],
        {"a": zeros(1, HIDDEN), "b": zeros(1, HIDDEN)},
        {"a": "p", "b": "q"},
    ),
    "gain": (graphs.gain, ["--input", "x", "--state", "mean:mean_out"], {"mean": zeros(1, FEATURES)}, {"mean": "mean_out"}),
    "one-cell": (graphs.only_its_state, [], {"h": zeros(1, HIDDEN)}, {"h": "h_next"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    return {name: case[0](folder / f"{name}.onnx") for name, case in (CASES | STEPWISE).items()}


@pytest.fixture(scope="module")
def adopted(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with all of these models; shared, so no test may write into it."""
    model_dir = tmp_path_factory.mktemp("adopted")
    for name, case in (CASES | STEPWISE).items():
        assert adopt.main([str(files[name]), "--name", name, "--model-dir", str(model_dir), *case[1]]) == 0, name
    return model_dir


@pytest.fixture(scope="module")
def client(adopted: Path) -> Iterator[httpx.Client]:
    with serve(adopted, "--default-model", "torch-gru") as server, httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def spec_of(model_dir: Path, name: str) -> ModelSpec:
    return manifest.read(model_dir / name / "1")


def sequences(spec: ModelSpec, seed: int = 0) -> list[Array]:
    """Sequences, some of the same length and some not, unless the model fixes the length."""
    rng = np.random.default_rng(seed)
    lengths = [spec.time_steps] * 3 if spec.time_steps else [1, 7, 40, 7, 2]
    return [rng.standard_normal((length, len(spec.features))).astype(np.float32) for length in lengths]


def served(client: httpx.Client, name: str, instances: list[Array], spec: ModelSpec) -> list[dict[str, Array]]:
    answer = client.post("/predict", json={"model": name, "instances": [each.tolist() for each in instances]})
    assert answer.status_code == 200, answer.text
    found = []
    for prediction in answer.json()["predictions"]:
        named = prediction if isinstance(prediction, dict) else {spec.outputs[0].name: prediction}
        found.append({output: np.array(values, np.float32) for output, values in named.items()})
    return found


def assert_close(actual: Array, expected: Array, spec: ModelSpec) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


# -- adopted and served ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_served_model_answers_as_its_file_does(name: str, client: httpx.Client, adopted: Path, files: dict[str, Path]) -> None:
    """In every layout, each of several sequences in one request equals a run of the bare graph on that sequence alone."""
    spec = spec_of(adopted, name)
    instances = sequences(spec)
    for steps, prediction in zip(instances, served(client, name, instances, spec), strict=True):
        alone = graphs.answer(files[name], CASES[name][2](steps))
        assert prediction.keys() == {output.name for output in spec.outputs}
        for output in spec.outputs:
            expected = np.take(alone[output.name], 0, axis=output.batch_axis)
            assert_close(prediction[output.name], expected, spec)


@pytest.mark.parametrize("name", STEPWISE)
def test_a_model_of_one_step_a_call_is_stepped_through_the_sequence(
    name: str, client: httpx.Client, adopted: Path, files: dict[str, Path]
) -> None:
    """Each state must be passed from call to call, to its own input."""
    spec = spec_of(adopted, name)
    _, _, start, back = STEPWISE[name]
    (output,) = spec.outputs
    instances = sequences(spec)
    for steps, prediction in zip(instances, served(client, name, instances, spec), strict=True):
        feeds, expected = dict(start), []
        for step in steps:
            answers = graphs.answer(files[name], {spec.input.name: step[None], **feeds})
            expected.append(answers[output.name.removesuffix("_answer")][0])
            feeds |= {state: answers[end] for state, end in back.items()}
        assert_close(prediction[output.name], np.stack(expected), spec)


@pytest.mark.parametrize(("name", "cell"), [("torch-gru", torch.nn.GRU), ("torch-lstm", torch.nn.LSTM)])
def test_a_model_from_torch_answers_as_torch_does(
    name: str, cell: type[torch.nn.RNNBase], client: httpx.Client, adopted: Path
) -> None:
    """The user has the network, and the exporter stands between it and the adopted graph."""
    spec, module = spec_of(adopted, name), graphs.network(cell)
    instances = sequences(spec)
    for steps, prediction in zip(instances, served(client, name, instances, spec), strict=True):
        with torch.inference_mode():
            expected = module(torch.tensor(steps[None]))[0]
        assert_close(prediction["output"], expected[0].numpy(), spec)


@pytest.mark.parametrize("name", [*CASES, *STEPWISE])
def test_what_was_adopted_can_be_verified(name: str, adopted: Path, capsys: Shown) -> None:
    """An adopted version is an artifact like any other."""
    assert verify.main([str(adopted / name / "1")]) == 0
    shown = capsys.readouterr().out
    assert "reproduces its golden sample" in shown
    assert "float64" not in shown  # there are no equations of an adopted model


def test_a_version_is_served_from_its_own_folder(files: dict[str, Path], adopted: Path) -> None:
    """A file that needed no change is published to the byte, and the manifest says where it came from."""
    for name in ("torch-gru", "forecaster"):
        assert (adopted / name / "1" / "model.onnx").read_bytes() == files[name].read_bytes()
        assert spec_of(adopted, name).provenance["source"] == f"{name}.onnx"


# -- what it finds out ----------------------------------------------------------------------------------------------


def test_states_are_paired_by_what_they_do(adopted: Path) -> None:
    """The output names of this file are swapped: pairing by name or position would mix up the states without an error."""
    pairs = {state.input: state.output for state in spec_of(adopted, "crossed-names").states}
    assert pairs == {"state_a": "state_b_out", "state_b": "state_a_out"}
    pairs = {state.input: state.output for state in spec_of(adopted, "torch-lstm").states}
    assert pairs == {"h0": "hn", "c0": "cn"}


def test_where_pieces_cannot_be_compared_a_recurrent_node_tells_the_pairs(adopted: Path) -> None:
    """A graph of exactly 16 steps cannot run a whole sequence in one call, but its LSTM node shows which states belong together."""
    spec = spec_of(adopted, "fixed-chunks")
    assert {state.input: state.output for state in spec.states} == {"one": "second", "two": "first"}
    assert (spec.time_steps, spec.causal) == (16, True)


def test_a_forecast_as_long_as_its_context_is_not_taken_for_answers_to_each_step(adopted: Path) -> None:
    """A forecast's first number depends on the last step."""
    spec = spec_of(adopted, "horizon-of-context")
    assert [output.shape for output in spec.outputs] == [(12, 1)]
    assert not spec.every_step(spec.outputs[0])


def test_axes_are_read_by_what_they_do(adopted: Path) -> None:
    """Nothing in this file says that the time axis comes first."""
    spec = spec_of(adopted, "time-major")
    assert (spec.input.time_axis, spec.input.batch_axis) == (0, 1)
    (output,) = spec.outputs
    assert (output.time_axis, output.batch_axis) == (0, 1)


@pytest.mark.parametrize("name", ["bidirectional", "forecaster", "relaxed-torch"])
def test_what_needs_the_whole_sequence_is_not_streamed(name: str, adopted: Path) -> None:
    """As a stream, such a model would give other answers than for the whole sequence."""
    assert not spec_of(adopted, name).causal


def test_a_graph_that_keeps_its_states_inside_is_told_how_it_could_be_streamed(tmp_path: Path, capsys: Shown) -> None:
    """Such a model is causal: only its export lacks the states."""
    file = graphs.torch_export(tmp_path / "m.onnx", graphs.network(torch.nn.LSTM, stateful=False))
    assert run(tmp_path / "model", file, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "whole sequences only, no streams" in shown
    assert "because it has no states to carry" in shown
    assert "export those of its recurrent layers (h and c of an LSTM) as inputs and outputs" in shown
    assert "not causal" not in shown


def test_outputs_for_a_step_and_for_a_sequence_are_told_apart(adopted: Path) -> None:
    """Both are served, and an output that is not a float is left out."""
    spec = spec_of(adopted, "several-outputs")
    assert {output.name: spec.every_step(output) for output in spec.outputs} == {"scores": True, "summary": False}


def test_rows_that_depend_on_their_batch_run_alone(adopted: Path) -> None:
    """Otherwise a client's answer would depend on the requests of other clients."""
    spec = spec_of(adopted, "dependent-rows")
    assert spec.max_batch_size == 1
    assert spec.causal


def test_a_graph_without_free_axes_is_served_as_it_is(adopted: Path) -> None:
    """torch exports such a graph without `dynamic_axes`: it runs one sequence with exactly as many steps as the example."""
    spec = spec_of(adopted, "torch-fixed")
    assert (spec.max_batch_size, spec.time_steps, spec.input.batch_axis, spec.causal) == (1, 5, 0, True)
    spec = spec_of(adopted, "raw-time-first")
    assert (spec.max_batch_size, spec.time_steps, spec.input.batch_axis, spec.causal) == (1, 8, 1, True)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_what_looks_ahead_is_seen_to_at_any_size_of_input(size: float, tmp_path: Path) -> None:
    """A change of 1 does not show beside large raw readings, and a bidirectional model would then pass as causal."""
    sample = tmp_path / "sample.npy"
    np.save(sample, (size * np.random.default_rng(4).standard_normal((100, FEATURES))).astype(np.float32))
    for direction, batch in (("forward", 1), ("bidirectional", 1), ("bidirectional", "batch")):
        file = graphs.raw_frames(tmp_path / "m.onnx", direction=direction, dims=(batch, 8, FEATURES))
        assert adopt.main([str(file), "--name", direction, "--model-dir", str(tmp_path), "--sample", str(sample)]) == 0
    assert spec_of(tmp_path, "forward").causal
    for version in ("1", "2"):
        spec = manifest.read(tmp_path / "bidirectional" / version)
        assert not spec.causal
        assert [output.shape for output in spec.outputs] == [(8, 2 * HIDDEN)]


def large(folder: Path, size: float = 1e6) -> list[str]:
    """The flags that give a sample of this size as typical input."""
    np.save(folder / "large.npy", (size * np.random.default_rng(4).standard_normal((100, FEATURES))).astype(np.float32))
    return ["--sample", str(folder / "large.npy")]


@pytest.mark.parametrize(
    ("choices", "causal"),
    [
        ({"direction": "forward"}, True),
        ({"direction": "reverse"}, False),
        ({"direction": "bidirectional"}, False),
        ({"direction": "bidirectional", "dims": ("batch", 8, FEATURES)}, False),
        ({"direction": "bidirectional", "dims": ("batch", "time", FEATURES), "stateful": False}, False),
        ({"direction": "forward", "dims": ("batch", "time", FEATURES), "stateful": False}, False),
        ({"direction": "forward", "dims": ("batch", "time", FEATURES)}, True),
    ],
    ids=["forward", "reverse", "both-ways", "both-ways-in-batches", "both-ways-no-state", "no-state", "free"],
)
@pytest.mark.parametrize("size", [1e3, 1e6])
def test_what_large_input_hides_is_seen_at_smaller_sizes(
    choices: dict[str, Any], causal: bool, size: float, tmp_path: Path
) -> None:
    """Saturated units hide that a model looks ahead, or has a memory, which smaller input shows."""
    file = graphs.saturating(tmp_path / "m.onnx", **choices)
    assert run(tmp_path / "model", file, *large(tmp_path, size)) == 0
    assert spec_of(tmp_path / "model", "m").causal == causal


@pytest.mark.parametrize(("axis", "causal", "together"), [(0, True, 1), (1, False, None)], ids=["batch", "time"])
@pytest.mark.parametrize("louder", [False, True], ids=["down", "up"])
def test_what_shows_in_loud_input_only_is_seen(axis: int, causal: bool, together: int | None, louder: bool, tmp_path: Path) -> None:
    """Tried on noise about 1 only, it would pass as causal or its rows as independent, and loud streams would get wrong answers."""
    assert run(tmp_path / "model", graphs.loud(tmp_path / "m.onnx", axis=axis, louder=louder)) == 0
    spec = spec_of(tmp_path / "model", "m")
    assert (spec.causal, spec.max_batch_size) == (causal, together)


@pytest.mark.parametrize(("direction", "causal"), [("forward", True), ("bidirectional", False)])
def test_a_graph_that_fixes_one_step_is_streamed_step_by_step(direction: str, causal: bool, tmp_path: Path) -> None:
    """Causality cannot be tried with one step a call, so the direction of the nodes decides: a backward node needs all steps."""
    file = graphs.saturating(tmp_path / "m.onnx", direction=direction, dims=("batch", 1, FEATURES))
    assert run(tmp_path / "model", file) == 0
    spec = spec_of(tmp_path / "model", "m")
    assert (spec.time_steps, spec.max_batch_size, spec.causal) == (1, None, causal)


def test_what_the_last_bit_of_the_input_leads_beyond_says_nothing(tmp_path: Path, capsys: Shown) -> None:
    """This graph has no answer above 1 and typical input reaches 1, so a change of the last bit may give NaN."""
    np.save(tmp_path / "sample.npy", np.ones((100, FEATURES), np.float32))
    assert run(tmp_path / "model", graphs.edge(tmp_path / "m.onnx"), "--sample", str(tmp_path / "sample.npy")) == 0
    shown = capsys.readouterr().out
    assert "the last bit of the input, a float32, moves it by" in shown
    assert "nan" not in shown


@pytest.mark.parametrize("name", ["gain", "gain-of-chunks"])
def test_a_state_that_may_not_be_below_zero_is_asked_where_it_can_be(name: str, adopted: Path) -> None:
    """From a state that the graph never reaches it answers NaN, and NaN does not show what depends on what."""
    spec = spec_of(adopted, name)
    assert spec.causal
    assert spec.max_batch_size is None
    assert all(map(spec.every_step, spec.outputs))


def test_the_tolerance_is_as_sharp_as_the_smallest_tensor_lets_it_be(tmp_path: Path) -> None:
    """One tolerance serves all tensors: it must allow the rounding of the largest, and be no coarser than that."""
    g = Builder(21)
    y, final, _ = g.cell(g.input("x", ["time", "batch", FEATURES]), g.input("h", [1, "batch", HIDDEN]), linear_before_reset=1)
    g.output("y", ["time", "batch", HIDDEN], g.add("Mul", [y, g.constant(100.0, np.float32)]))
    g.output("h_out", [1, "batch", HIDDEN], final)
    assert run(tmp_path / "model", g.save(tmp_path / "m.onnx")) == 0
    largest = np.abs(np.load(tmp_path / "model" / "m" / "1" / "golden.npz")["output_y"]).max()
    atol = spec_of(tmp_path / "model", "m").tolerance.atol
    assert 2**-18 * largest * 0.9 < atol < 1e-5 * largest / 2


def test_a_gru_that_cuda_does_not_run_is_not_promised_there(adopted: Path) -> None:
    """ONNX Runtime would run it on the CPU without a message."""
    assert set(spec_of(adopted, "keras-gru").graphs) == {CPU}
    assert set(spec_of(adopted, "torch-gru").graphs) == {CPU, CUDA}


@pytest.mark.parametrize("name", ["rank-4-state", "relaxed"])
def test_a_relaxed_graph_equals_the_original_from_any_state(name: str, adopted: Path) -> None:
    """This file has a batch of one in its constants: with more rows, each must still get the answer that it gets alone."""
    spec = spec_of(adopted, name)
    original = Engine(spec_of(adopted, "rank-4-state"), adopted / "rank-4-state" / "1", device="cpu")
    engine = Engine(spec, adopted / name / "1", device="cpu")
    rng = np.random.default_rng(1)
    states = [(rng.standard_normal((2, 1, HIDDEN)).astype(np.float32),) for _ in range(5)]
    rows = [Instance(steps, state) for steps, state in zip(sequences(spec), states, strict=True)]
    for row, prediction in zip(rows, engine.predict(rows), strict=True):
        (alone,) = original.predict([row])
        assert_close(prediction.output, alone.output, spec)
        assert_close(prediction.state[0], alone.state[0], spec)
    assert spec.max_batch_size == (1 if name == "rank-4-state" else None)


# -- what it says ---------------------------------------------------------------------------------------------------


def run(model_dir: Path, file: Path, *flags: str) -> int:
    return adopt.main([str(file), "--name", "m", "--model-dir", str(model_dir), *flags])


def test_it_says_what_each_tensor_was_taken_for_and_why(tmp_path: Path, capsys: Shown) -> None:
    """The user must be able to check that the file was understood."""
    assert run(tmp_path / "model", graphs.torch_lstm(tmp_path / "m.onnx")) == 0
    shown = capsys.readouterr().out
    for said in (
        "input: 4 features a step (f0, f1, f2, f3)",
        "h0 -> hn: 2 x 8 numbers",
        "because only so does a sequence in pieces equal the whole",
        "output: 3 numbers a step",
        "causal: it can be streamed",
        f"Published {tmp_path / 'model' / 'm' / '1'}",
    ):
        assert said in shown
    assert "curl -s http://127.0.0.1:8000/predict" in shown


def test_a_dry_run_publishes_nothing(tmp_path: Path, capsys: Shown) -> None:
    """A dry run only shows what would be done."""
    result = tmp_path / "result.json"
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx"), "--dry-run", "--json", str(result)) == 0
    assert not (tmp_path / "model").exists()
    assert "Nothing was published" in capsys.readouterr().out
    told = json.loads(result.read_text())
    assert told["version"] is None
    assert all(worst <= 1 for worst in told["checks"].values())


def test_the_line_that_serves_it_makes_it_the_default(tmp_path: Path, capsys: Shown) -> None:
    """With several models in a repository, the service does not start without a default model."""
    assert run(tmp_path / "model", graphs.simple(tmp_path / "m.onnx")) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Serve it:"))
    assert line.split(maxsplit=2)[2] == f"make serve ARGS='--model-dir {tmp_path / 'model'} --default-model m'"


def test_flags_beat_inference(tmp_path: Path) -> None:
    """The user knows the model better than any inference from its file."""
    flags = ["--features", "a,b,c,d", "--outputs", "summary", "--description", "A test.", "--sample-rate", "100"]
    assert run(tmp_path / "model", graphs.several_outputs(tmp_path / "m.onnx"), *flags) == 0
    spec = spec_of(tmp_path / "model", "m")
    assert [signal.name for signal in spec.features] == ["a", "b", "c", "d"]
    assert [output.name for output in spec.outputs] == ["summary"]
    assert (spec.description, spec.sample_rate) == ("A test.", 100)


def test_pairs_that_the_user_gives_are_taken_and_doubted(tmp_path: Path, capsys: Shown) -> None:
    """Flags win, but a warning says what was measured: a stream with these pairs does not equal the sequence."""
    flags = ["--state", "state_a:state_a_out", "--state", "state_b:state_b_out"]
    assert run(tmp_path / "model", graphs.crossed_names(tmp_path / "m.onnx"), *flags) == 0
    assert not spec_of(tmp_path / "model", "m").causal
    assert "are the pairs that --state gives wrong?" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["npy", "npz", "csv"])
def test_the_golden_sample_is_made_of_typical_input(suffix: str, tmp_path: Path) -> None:
    """A model is made for typical input, not for noise."""
    steps = np.random.default_rng(3).uniform(100, 200, (60, FEATURES)).astype(np.float32)
    sample = tmp_path / f"sample.{suffix}"
    if suffix == "npy":
        np.save(sample, steps)
    elif suffix == "npz":
        np.savez(sample, steps=steps)
    else:
        np.savetxt(sample, steps, delimiter=",", header="f0,f1,f2,f3", comments="")
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx"), "--sample", str(sample)) == 0
    with np.load(tmp_path / "model" / "m" / "1" / "golden.npz") as golden:
        given = golden["input"][golden["input"] != 0]
    assert given.min() >= 100


def test_external_data_is_packed_into_the_version(tmp_path: Path) -> None:
    """A version must open from its own folder, wherever that is copied."""
    original = graphs.torch_gru(tmp_path / "m.onnx")
    split = tmp_path / "split.onnx"
    onnx.save(onnx.load(original), split, save_as_external_data=True, location="split.data", size_threshold=0)
    assert run(tmp_path / "model", split) == 0
    folder = tmp_path / "model" / "m" / "1"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "manifest.json", "golden.npz"}
    assert verify.main([str(folder)]) == 0
    assert list(spec_of(tmp_path / "model", "m").provenance["source_external_data"]) == ["split.data"]
    (tmp_path / "split.data").unlink()
    assert run(tmp_path / "model", split) == 1


def test_weights_too_large_for_one_file_lie_beside_it(tmp_path: Path, adopted: Path) -> None:
    """Protobuf is limited to 2 GiB; ONNX Runtime opens both files from their folder, and writing again appends nothing."""
    original = onnx.load(graphs.torch_gru(tmp_path / "m.onnx"))
    onnx.save(original, tmp_path / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=0)
    graph, folder = inspection.read(tmp_path / "split.onnx"), tmp_path / "written"
    folder.mkdir()
    sizes = []
    for _ in range(2):
        artifact.write_graph(graph, folder, one_file=0)
        sizes.append([path.stat().st_size for path in sorted(folder.iterdir())])
    assert sizes[0] == sizes[1]
    spec = spec_of(adopted, "torch-gru")
    steps = [Instance(each) for each in sequences(spec)]
    expected = Engine(spec, adopted / "torch-gru" / "1", device="cpu").predict(steps)
    assert difference(Engine(spec, folder, device="cpu").predict(steps), expected, spec.tolerance) == 0


# -- what it refuses ------------------------------------------------------------------------------------------------


def text_file(path: Path) -> Path:
    path.write_text("not a model\n" * 5)
    return path


def new_opset(path: Path) -> Path:
    return graphs.simple(path, opset=onnx.defs.onnx_opset_version(), ir=13)


def new_ir(path: Path) -> Path:
    return graphs.simple(path, ir=int(onnx.IR_VERSION))


def invalid(path: Path) -> Path:
    proto = onnx.load(graphs.simple(path))
    proto.graph.node[0].input[0] = "nowhere"
    onnx.save(proto, path)
    return path


def wide(path: Path) -> Path:
    return graphs.simple(path, ("batch", "time", 2**62))


def external(**entries: object) -> Callable[[Path], Path]:
    return lambda path: graphs.external_weight(path, **entries)


REFUSED: dict[str, tuple[Callable[[Path], Path], list[str], list[str]]] = {
    "no ONNX": (text_file, [], ["is not an ONNX model", "torch.onnx.export"]),
    "new opset": (new_opset, [], ["newer than what is installed", "opset_version"]),
    "new IR": (new_ir, [], ["newer than what is installed", "IR version"]),
    "invalid": (invalid, [], ["is not a valid ONNX model", "nowhere"]),
    "float16": (lambda path: graphs.simple(path, kind=onnx.TensorProto.FLOAT16), [], ["x float16", "export the model in float32"]),
    "float64": (lambda path: graphs.simple(path, kind=onnx.TensorProto.DOUBLE), [], ["x float64", "export the model in float32"]),
    "int64": (lambda path: graphs.simple(path, ["batch", "time"], INT64), [], ["x int64", "behind the embedding"]),
    "tokens and a state": (
        graphs.tokens,
        [],
        ["tokens int64 [batch, time] cannot be the sequence", "behind the embedding", "one-hot"],
    ),
    "tokens and two states": (lambda path: graphs.tokens(path, operator="LSTM"), [], ["tokens int64", "behind the embedding"]),
    "tokens of one row": (lambda path: graphs.tokens(path, dims=(1, "time")), [], ["tokens int64 [1, time]", "the embedding"]),
    "tokens and a pair": (graphs.tokens, ["--state", "h0:hn"], ["tokens int64 [batch, time]", "behind the embedding"]),
    "tokens beside a sequence": (lambda path: graphs.masked(path, INT64), [], ["other int64", "token numbers", "one sequence"]),
    "a mask": (lambda path: graphs.masked(path, onnx.TensorProto.BOOL), [], ["other bool", "with lengths in its place"]),
    "halves beside a sequence": (
        lambda path: graphs.masked(path, onnx.TensorProto.FLOAT16),
        [],
        ["other float16", "export the model in float32"],
    ),
    "a second sequence": (graphs.two_sequences, ["--input", "left"], ["right float32", "one input that has the features of both"]),
    "strings": (graphs.texts, [], ["x string", "leave the preparation of the input out"]),
    "a sequence of tensors": (graphs.sequence_of_tensors, [], ["xs sequence", "leave the preparation of the input out"]),
    "two sequences": (graphs.two_sequences, [], ["--input left or --input right", "one input that has the features of both"]),
    "a constant without a value": (graphs.chunked, ["--features", "64"], ["--constant sr=VALUE"]),
    "two questions": (graphs.chunked, [], ["--constant sr=VALUE", "--features N"]),
    "features without a number": (graphs.chunked, ["--constant", "sr=16000"], ["--features N"]),
    "features in the middle": (lambda path: graphs.simple(path, ["batch", 6, "time"]), [], ["x.transpose(1, 2)"]),
    "a batch of four": (graphs.batch_of_four, [], ["fixed at 4", "a free batch axis"]),
    "a sequence without a batch": (graphs.unbatched, [], ["The first axis of x is time, not batch", "with a batch axis"]),
    "steps that it has no numbers for": (
        lambda path: graphs.positions(path, 50),
        [],
        ["ran when it was tried, and fails where it is checked", "50 by 128"],
    ),
    "axes whose names are wrong": (
        lambda path: graphs.positions(path, 9),
        [],
        ["Read batch first, as its axes are named, the graph does not run", "9 by 11"],
    ),
    "a loop that was recorded with one step": (
        graphs.loop_of_one,
        [],
        ["with the first step of a sequence and with no other", "as nodes of ONNX.\n"],
    ),
    "noise of its own": (graphs.by_chance, [], ["from run to run: it holds RandomNormalLike", "model.eval()"]),
    "little noise of its own": (lambda path: graphs.by_chance(path, 1e-5), [], ["from run to run: it holds RandomNormalLike"]),
    "a small state that depends on the batch": (graphs.small_state_of_all_rows, [], ["of 3 checks failed"]),
    "axes that nothing tells apart": (graphs.dependent_both_ways, [], ["Nothing tells which axis of x is the batch"]),
    "a sequence without a batch, and large": (
        lambda path: graphs.unbatched_saturating(path),
        ["--sample", "LARGE"],
        ["The first axis of x is time, not batch"],
    ),
    "too many features": (wide, [], ["4,611,686,018,427,387,904 features a step, and Recurve takes 65,536 at most"]),
    "too many features by a flag": (
        lambda path: graphs.simple(path, ("batch", "time", "features")),
        ["--features", str(10**9)],
        ["1,000,000,000 features a step"],
    ),
    "too many steps": (lambda path: graphs.simple(path, ("batch", 10**10, 4)), [], ["fixes an axis at 10,000,000,000"]),
    "too many numbers": (lambda path: graphs.simple(path, ("batch", 10**6, 64)), [], ["64,000,000 numbers", "16,777,216"]),
    "too many answers": (
        graphs.repeated,
        [],
        ["y has 262,144 numbers for each step of a sequence, and Recurve takes 65,536 at most"],
    ),
    "a type that there is none of": (graphs.of_no_type, [], ["not a valid ONNX model", "99"]),
    "no features": (lambda path: graphs.simple(path, ("batch", "time", 0)), [], ["an axis of size 0"]),
    "weights at no place": (external(location="weights", offset=-5), [], ["says of its weights", "must be non-negative"]),
    "weights of no length": (external(location="weights", length="all"), [], ["says of its weights", "'all'"]),
    "weights in no file": (external(location="x" * 5000), [], ["says of its weights", "File name too long"]),
    "a lost state": (
        graphs.lost_state,
        [],
        ["h0 float32 [1, batch, 8] comes back by no output", "export its final value as an output"],
    ),
    "pairs that nothing decides": (graphs.stepwise_cells, [], ["--state a:p --state b:q", "--state a:q --state b:p"]),
    "pairs of which none is right": (graphs.forgetful, [], ["In none of the possible ways", "--state s:u --state t:v"]),
    "too many pairs": (graphs.many_states, [], [f"more than {MOST} ways", "--state in_0:OUT, OUT one of out_0, out_1"]),
    "no numbers": (graphs.no_numbers, [], ["NaN or Infinity", "--sample FILE"]),
    "a batch that cannot be freed": (graphs.bound_to_one, ["--relax"], ["cannot be freed", "times what is allowed"]),
    "rows that relaxing cannot part": (graphs.dependent_rows, ["--relax"], ["free already"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_adopted_is_refused_with_the_next_step(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The user gets one message and no traceback, and nothing is left in the repository."""
    build, flags, said = REFUSED[case]
    flags = large(tmp_path) if "LARGE" in flags else flags
    assert run(tmp_path / "model", build(tmp_path / "m.onnx"), *flags) == 1
    shown = capfd.readouterr().err
    for words in said:
        assert words in shown
    assert shown.endswith("Nothing was published.\n")
    assert not (tmp_path / "model").exists()


WRONG: dict[str, tuple[list[str], str]] = {
    "an input that is not there": (["--input", "X"], "no input X; its inputs are input, h0"),
    "an output that is not there": (["--state", "h0:h_n"], "no output h_n; its outputs are output, hn"),
    "two parts": (["--input", "h0", "--state", "h0:hn"], "h0 was given two parts"),
    "too few features": (["--features", "a,b"], "--features gives 2"),
    "a constant of another type": (["--constant", 'h0="x"'], "--constant h0 must be JSON that fits"),
    "a constant of another shape": (["--constant", "h0=[1]"], "--constant h0 must be JSON that fits h0 float32 [2, batch, 8]"),
    "lengths that are none": (["--lengths", "h0"], "must be int32 or int64"),
    "no sample": (["--sample", "nowhere.npy"], "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_flag_that_does_not_fit_is_wrong_use(case: str, tmp_path: Path, capsys: Shown) -> None:
    """The message says which values are possible."""
    flags, said = WRONG[case]
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx"), *flags) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def huge_by_its_header(path: Path) -> None:
    np.save(path, zeros(2, FEATURES))
    header = path.read_bytes()[10:128].rstrip().replace(b"(2, 4)", b"(99999999999, 4)")
    path.write_bytes(path.read_bytes()[:10] + header.ljust(117) + b"\n")


def locked(path: Path) -> None:
    """Mark the archive as encrypted."""
    with path.open("wb") as file:
        np.savez(file, steps=zeros(5, FEATURES))
    found = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        found[found.rindex(mark) + place] |= 1
    path.write_bytes(bytes(found))


BAD_SAMPLES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": (".npy", Path.touch, "cannot be read"),
    "a pipe": (".npy", os.mkfifo, "it is no file"),
    "a folder": (".npy", Path.mkdir, "it is no file"),
    "records": (".npy", lambda path: np.save(path, np.zeros(5, [("a", "f4"), ("b", "f4")])), "must hold real numbers"),
    "complex numbers": (".npy", lambda path: np.save(path, zeros(5, FEATURES) + 1j), "complex64, and must hold real numbers"),
    "dates": (".npy", lambda path: np.save(path, np.zeros((5, FEATURES), "M8[s]")), "must hold real numbers"),
    "more than there is memory": (".npy", huge_by_its_header, "cannot be read"),
    "too large for float32": (".npy", lambda path: np.save(path, np.full((5, FEATURES), 1e300)), "not finite"),
    "an encrypted archive": (".npz", locked, "is encrypted"),
    "an empty table": (".csv", Path.touch, "is of shape [0, 1]"),
    "a table of text": (".csv", lambda path: path.write_text("1,2,3,4\n1,2,3,x\n"), "could not convert string 'x'"),
}


@pytest.mark.parametrize("kind", BAD_SAMPLES)
def test_a_sample_of_no_use_is_wrong_use(kind: str, tmp_path: Path, capsys: Shown) -> None:
    """The user gets one message and no traceback, and the command does not wait for a pipe that nobody writes to."""
    suffix, write, said = BAD_SAMPLES[kind]
    sample = tmp_path / f"sample{suffix}"
    write(sample)
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx"), "--sample", str(sample)) == 2
    assert said in capsys.readouterr().err


def test_a_table_may_begin_with_the_mark_of_a_spreadsheet(tmp_path: Path) -> None:
    """The byte order mark must not become part of the first number or the first name."""
    sample = tmp_path / "sample.csv"
    for first in ("", "f1,f0,f2,f3\n"):
        sample.write_text("\ufeff" + first + "1,2,3,4\n" * 50, encoding="utf-8")
        assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx"), "--sample", str(sample)) == 0
    goldens = [np.load(tmp_path / "model" / "m" / version / "golden.npz")["input"][0, 0] for version in ("1", "2")]
    assert [each.tolist() for each in goldens] == [[1, 2, 3, 4], [2, 1, 3, 4]]


@pytest.mark.parametrize(("name", "said"), [("nowhere.onnx", "is no file"), (".", "is no file"), ("x" * 300, "name too long")])
def test_what_is_no_file_is_wrong_use(name: str, said: str, tmp_path: Path, capsys: Shown) -> None:
    """The system reports such names with different errors."""
    assert run(tmp_path / "model", tmp_path / name) == 2
    assert said in capsys.readouterr().err


def test_a_graph_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    """Otherwise the command would hang."""
    probe = Probe(graphs.endless(tmp_path / "m.onnx"), limit_s=0.5)
    with pytest.raises(Refused, match="look for a loop in it that does not end"):
        probe.run({"x": zeros(1, 2, FEATURES)})


def test_folders_that_are_no_versions_are_not_counted(tmp_path: Path) -> None:
    """A version has nine digits at most: a date with a time is not a version."""
    for name in ("20260102030405", "007", "3"):
        (tmp_path / "model" / "m" / name).mkdir(parents=True)
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx")) == 0
    assert manifest.read(tmp_path / "model" / "m" / "4").version == "4"


def test_a_model_whose_versions_are_used_up_is_refused(tmp_path: Path, capsys: Shown) -> None:
    """No number is left for the next version."""
    (tmp_path / "model" / "m" / "999999999").mkdir(parents=True)
    assert run(tmp_path / "model", graphs.torch_gru(tmp_path / "m.onnx")) == 1
    assert "its versions end at 999999999" in capsys.readouterr().err


def test_names_of_axes_tell_apart_what_nothing_else_does(tmp_path: Path) -> None:
    """If the outputs depend on all of both axes, only their names tell batch from time."""
    for dims in (("batch", "time", FEATURES), ("time", "batch", FEATURES)):
        assert run(tmp_path / "model", graphs.dependent_both_ways(tmp_path / "m.onnx", dims)) == 0
    first, second = (manifest.read(tmp_path / "model" / "m" / version) for version in ("1", "2"))
    assert (first.input.batch_axis, first.max_batch_size, first.causal) == (0, 1, False)
    assert (second.input.batch_axis, second.max_batch_size, second.causal) == (1, 1, False)


def test_a_sample_of_another_width_is_wrong_use(tmp_path: Path, capsys: Shown) -> None:
    """The message gives both shapes."""
    np.save(tmp_path / "sample.npy", zeros(50, FEATURES + 1))
    file = graphs.torch_gru(tmp_path / "m.onnx")
    assert run(tmp_path / "model", file, "--sample", str(tmp_path / "sample.npy")) == 2
    assert "[50, 5]; it must be time x 4 features" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["--constant", "sr=" + 9999 * "["],
        ["--state", "h0"],
        ["--constant", "sr"],
        ["--features", "a,,b"],
        ["--features", "0"],
        ["--features", "-1"],
        ["--features", "2.5"],
        ["--sample-rate", "0"],
        ["--name", "a/b"],
    ],
)
def test_a_flag_that_cannot_be_read_is_wrong_use(flags: list[str], tmp_path: Path) -> None:
    """Every script treats such flags the same."""
    with pytest.raises(SystemExit) as exit:
        run(tmp_path / "model", graphs.simple(tmp_path / "m.onnx"), *flags)
    assert exit.value.code == 2


def test_a_constant_of_no_axes_is_one_number(tmp_path: Path, capsys: Shown) -> None:
    """A number in a list has an axis, and does not fit."""
    flags = ["--features", str(CHUNK), "--constant"]
    assert run(tmp_path / "model", graphs.chunked(tmp_path / "m.onnx"), *flags, "sr=[16000]") == 2
    assert "must be JSON that fits sr int64 []: its shape is [1]" in capsys.readouterr().err
    assert run(tmp_path / "model", graphs.chunked(tmp_path / "m.onnx"), *flags, "sr=16000") == 0


def test_names_of_tensorflow_may_hold_colons() -> None:
    """IN:OUT is split at the colon between the names, not at that of a suffix such as :0."""
    assert adopt._pair("h_in:h_out") == ("h_in", "h_out")
    assert adopt._pair("h:0:h_next:0") == ("h:0", "h_next:0")


def test_a_model_of_others_has_no_model_card(adopted: Path, capsys: Shown) -> None:
    """The card measures a model as a gyro denoiser, and other people's models are not one."""
    assert card.main([str(adopted / "torch-gru" / "1")]) == 1
    assert "cannot be measured" in capsys.readouterr().err


def test_a_memoryless_graph_needs_no_state_to_be_streamed(tmp_path: Path) -> None:
    """Pieces of its input get the same answers as the whole: this is measured, not concluded from the lack of states."""
    assert run(tmp_path / "model", graphs.simple(tmp_path / "m.onnx")) == 0
    spec = spec_of(tmp_path / "model", "m")
    assert spec.causal
    assert not spec.states


def test_an_input_with_a_default_needs_no_value(tmp_path: Path) -> None:
    """ONNX files may hold default values, and older files list every weight as an input."""
    g = Builder()
    x = g.input("x", ["batch", "time", FEATURES])
    scale = g.input("scale", [1], FLOAT)
    g.weights.append(onnx.numpy_helper.from_array(np.array([2], np.float32), scale))
    g.output("y", ["batch", "time", FEATURES], g.add("Mul", [x, scale]))
    assert run(tmp_path / "model", g.save(tmp_path / "m.onnx")) == 0
    assert spec_of(tmp_path / "model", "m").constants == ()
