"""The network that follows a stream: graph, torch and equations agree, it scales its input, and no input breaks it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from app.engine import Engine
from app.golden import Golden, difference
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Array, Instance, Prediction, State
from scripts.streaming import losses
from scripts.streaming.artifact import Follower
from scripts.streaming.network import NEAR
from scripts.streaming.problem import Following
from scripts.streaming.rows import Rows
from scripts.streaming.sample import MOST as MOST_SAMPLED
from scripts.streaming.tolerance import tolerance_of
from scripts.tables.recording import Recording
from scripts.training import fit, verify
from scripts.training.apart import compare
from scripts.training.checkpoint import Checkpoint
from tests import recordings
from tests.recordings import network_of

CELLS = ("reset_before", "reset_after", "lstm", "rnn", "lstm,reset_before", "reset_after,lstm")
GRID = [pytest.param(task, cell, id=f"{task}-{cell}") for task in ("denoise", "regress", "classify") for cell in CELLS]
LENGTHS = [7, 1, 40, 3, 12]


def follower(made: Checkpoint) -> Follower:
    return Follower(made.config, made)  # type: ignore[arg-type]  # a checkpoint of a run with this config


def opened(made: Checkpoint, folder: Path) -> Engine:
    """The engine that the service would open."""
    artifact = follower(made)
    artifact.write_graphs(folder)
    artifact.golden().save(folder, outputs=artifact.outputs, states=artifact.states)
    return Engine(artifact.spec("1", folder), folder, device="cpu")


def drawn(made: Checkpoint, lengths: list[int], *, seed: int = 0) -> list[Instance]:
    """Random instances; all but the first start from random states. Some values are far beyond those of training."""
    rng, network = np.random.default_rng(seed), network_of(made)
    mean, scale = network.mean.numpy(), network.scale.numpy()
    found = []
    for length in lengths:
        steps = mean + scale * rng.standard_normal((length, network.features)) * rng.choice([1.0, 1.0, 20.0], (length, 1))
        state = tuple(rng.uniform(-0.9, 0.9, shape).astype(np.float32) for shape in network.stack.shapes)
        found.append(Instance(steps.astype(np.float32), state))
    return [Instance(found[0].steps), *found[1:]]


def by_equations(made: Checkpoint, instances: list[Instance]) -> list[Prediction]:
    """The predictions of the float64 equations, not rounded to float32."""
    network = network_of(made)
    answers = []
    for instance in instances:
        state = instance.state or tuple(np.zeros(shape, np.float32) for shape in network.stack.shapes)
        output, end = network.equations(instance.steps.astype(np.float64), tuple(each.astype(np.float64) for each in state))
        answers.append(Prediction((output,), end))  # type: ignore[arg-type]  # float64, where the type says float32
    return answers


# -- graph, torch and equations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "cell"), GRID)
def test_graph_and_torch_and_the_equations_agree(tmp_path: Path, task: str, cell: str) -> None:
    """Ragged instances from random states: outputs and final states agree."""
    made = recordings.checkpoint(recordings.of_task(task), cell=cell, layers=2)
    engine, instances = opened(made, tmp_path), drawn(made, LENGTHS)
    expected = by_equations(made, instances)
    assert difference(engine.predict(instances), expected, engine.spec.tolerance) <= 1
    assert difference(follower(made).by_torch(instances), expected, engine.spec.tolerance) <= 1
    for instance, prediction in zip(instances, expected, strict=True):
        assert difference(engine.predict([instance]), [prediction], engine.spec.tolerance) <= 1


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
@pytest.mark.parametrize("cell", ["reset_before", "lstm,reset_before"])
def test_a_sequence_in_pieces_equals_the_whole(tmp_path: Path, task: str, cell: str) -> None:
    """Streams depend on this."""
    made = recordings.checkpoint(recordings.of_task(task), cell=cell, layers=2)
    engine = opened(made, tmp_path)
    (instance,) = drawn(made, [60])
    (whole,) = engine.predict([instance])
    pieces, state = [], instance.state
    for begin, end in ((0, 1), (1, 2), (2, 40), (40, 60)):
        (piece,) = engine.predict([Instance(instance.steps[begin:end], state)])
        pieces.append(piece.output)
        state = piece.state
    assert state is not None
    joined = Prediction((np.concatenate(pieces),), state)
    assert difference([joined], [whole], engine.spec.tolerance) <= 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers_with_and_without_bias(tmp_path: Path, bias: bool, layers: int) -> None:
    """Both are choices of a run."""
    made = recordings.checkpoint(recordings.smoothed(), bias=bias, layers=layers)
    engine, instances = opened(made, tmp_path), drawn(made, LENGTHS)
    assert difference(engine.predict(instances), by_equations(made, instances), engine.spec.tolerance) <= 1


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
def test_the_graph_for_cuda_is_the_same_function(tmp_path: Path, task: str) -> None:
    """For CUDA, the paper's cell consists of ordinary operators. The graph runs here on the CPU, chunk by chunk."""
    made = recordings.checkpoint(recordings.of_task(task))
    engine, instances = opened(made, tmp_path), drawn(made, [1, 70, 32, 3])
    spec = engine.spec.model_copy(update={"graphs": {CPU: engine.spec.graphs[CUDA]}})
    chunked = Engine(spec, tmp_path, device="cpu")
    assert difference(chunked.predict(instances), by_equations(made, instances), spec.tolerance) <= 1


@pytest.mark.parametrize(
    ("cell", "files"),
    [
        ("reset_before", {"model.onnx", "model.cuda.onnx"}),
        ("lstm", {"model.onnx"}),
        ("lstm,reset_before", {"model.onnx"}),
    ],
)
def test_each_provider_has_the_graph_that_it_can_run(tmp_path: Path, cell: str, files: set[str]) -> None:
    """CUDA has no kernel for the paper's cell, so a stack that mixes it in runs on the CPU only."""
    follower(recordings.checkpoint(recordings.smoothed(), cell=cell)).write_graphs(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == files
    for path in tmp_path.iterdir():
        onnx.checker.check_model(onnx.load(path), full_check=True)


# -- scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
@pytest.mark.parametrize("value", [1e30, -1e30, 3e38, 1e12])
def test_an_absurd_value_gives_a_finite_answer_and_is_forgotten(tmp_path: Path, task: str, value: float) -> None:
    """A sensor that fails for one step must not end its stream: neither the answer nor the state may become infinite."""
    made = recordings.checkpoint(recordings.of_task(task))
    engine = opened(made, tmp_path)
    (instance,) = drawn(made, [40])
    for column in range(instance.steps.shape[1]):
        steps = instance.steps.copy()
        steps[10, column] = value
        (found,) = engine.predict([Instance(steps)])
        assert all(np.isfinite(array).all() for array in (found.output, *found.state))
        assert np.abs(found.state[0]).max() <= 1
        assert difference([found], by_equations(made, [Instance(steps)]), engine.spec.tolerance) <= 1


def test_a_stack_sees_little_of_what_is_far_off() -> None:
    """Values within three standard deviations are nearly unchanged; none exceeds ten."""
    made = recordings.checkpoint(recordings.smoothed())
    network = network_of(made)
    seen: list[torch.Tensor] = []
    network.stack.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    z = torch.tensor([0.0, 1.0, -3.0, 10.0, 1e9])
    input = network.mean + z[:, None] * network.scale
    network(input[None])
    np.testing.assert_allclose(seen[0][0, :3, 0], z[:3], atol=0.1)
    assert seen[0].abs().max() <= NEAR


def test_a_constant_feature_is_not_divided_by_nothing() -> None:
    """A constant feature carries no information and must do no harm."""
    network = Following(recordings.checkpoint(recordings.smoothed()).config, recordings.smoothed()).network()  # type: ignore[arg-type]  # its config
    assert network.scale[1] == 1
    assert network.mean[1] == 7
    assert network.skip[:, 1].abs().max() < 1e-6


def test_scaling_is_of_the_training_part_only() -> None:
    """Held-out data must not influence the network in any way."""
    data = recordings.smoothed()
    network = Following(recordings.checkpoint(data).config, data).network()  # type: ignore[arg-type]  # its config
    features = data.training[0].features.astype(np.float64)
    np.testing.assert_allclose(network.mean, features.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(network.scale, np.where(features.std(axis=0) > 0, features.std(axis=0), 1), rtol=1e-6)


def test_a_large_measurement_keeps_its_digits(tmp_path: Path) -> None:
    """Denoising adds a small correction to the measurement, whose digits must not be lost on the way."""
    data = recordings.smoothed(denoise=True)
    made = recordings.checkpoint(data)
    engine = opened(made, tmp_path)
    (instance,) = drawn(made, [50])
    far = Instance(np.concatenate([instance.steps[:, :1] + np.float32(2**20), instance.steps[:, 1:]], axis=1))
    (near,), (away,) = by_equations(made, [far]), engine.predict([far])
    ulp = np.spacing(np.float32(2**20))
    assert np.abs(near.output - away.output).max() <= ulp + engine.spec.tolerance.atol


@pytest.mark.parametrize("task", ["denoise", "regress"])
def test_a_new_network_gives_the_best_linear_answer(task: str) -> None:
    """Training begins from the least-squares solution."""
    data = recordings.of_task(task)
    data = replace(data, validation=data.training)  # so that no penalty for large weights is an improvement
    problem = Following(recordings.checkpoint(data).config, data)  # type: ignore[arg-type]  # its config
    network = problem.network()
    recording = data.training[0]
    x = np.concatenate([recording.features, np.ones((len(recording.features), 1))], axis=1).astype(np.float64)
    weights, *_ = np.linalg.lstsq(x, recording.targets.astype(np.float64), rcond=None)
    with torch.inference_mode():
        output, _ = network(torch.from_numpy(recording.features)[None])
    expected, size = x @ weights, recording.targets.std()
    np.testing.assert_allclose(output[0], expected, rtol=0, atol=1e-4 * size)
    error = recording.targets - expected
    np.testing.assert_allclose(network.gain, np.sqrt(np.square(error).mean(axis=0)), rtol=1e-4)
    assert fit.start(problem)[1].epoch == 0


def test_a_new_classifier_gives_the_frequencies_of_training() -> None:
    """The first updates must not be spent on learning the frequencies."""
    data = recordings.labelled(per_recording=False)
    network = Following(recordings.checkpoint(data).config, data).network()  # type: ignore[arg-type]  # its config
    labels = np.concatenate([recording.labels for recording in data.training if recording.labels is not None])
    expected = (np.bincount(labels) + 1) / (len(labels) + 2)
    output, _ = network.answers(torch.from_numpy(data.training[0].features)[None])
    np.testing.assert_allclose(output[0, -1].detach(), expected, rtol=1e-5)


def test_a_low_precision_does_not_touch_what_is_not_trained() -> None:
    """A large linear part in bfloat16 would drown what the network is to learn."""
    made = recordings.checkpoint(recordings.smoothed())
    network = network_of(made)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.skip.fill_(1000.0)
        input = torch.from_numpy(drawn(made, [30])[0].steps)[None]
        exact, _ = network(input)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed, _ = network(input)
    torch.testing.assert_close(mixed, exact, rtol=1e-6, atol=1e-4)


# -- losses -----------------------------------------------------------------------------------------------------------


def rows(targets: torch.Tensor, counts: list[list[bool]], lengths: list[int] | None) -> Rows:
    return Rows(torch.zeros(0), targets, torch.tensor(counts), None if lengths is None else torch.tensor(lengths))


def test_loss_of_targets_is_the_mean_square_of_what_counts() -> None:
    """The loss is in units of the error that the linear answer leaves for each target."""
    output = torch.tensor([[[1.0, 10.0], [3.0, 0.0]], [[5.0, 20.0], [1e6, 1e6]]])
    truth = torch.zeros(2, 2, 2)
    loss = losses.of_targets(output, rows(truth, [[True, True], [True, False]], [2, 1]), torch.tensor([2.0, 10.0]))
    np.testing.assert_allclose(loss, np.mean([0.25, 1, 2.25, 0, 6.25, 4]))


def test_loss_of_a_recording_is_mostly_that_of_its_last_step() -> None:
    """Padding does not count, and each recording has the same weight however long it is."""
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4)
    surprise = -logits.log_softmax(dim=-1)
    last = (surprise[0, 2, 1] + surprise[1, 0, 3]) / 2
    along = (surprise[0, :, 1].mean() + surprise[1, 0, 3]) / 2
    targets = torch.tensor([[1, 1, 1], [3, 0, 0]])
    loss = losses.of_recordings(logits, rows(targets, [[True] * 3, [True, False, False]], [3, 1]))
    torch.testing.assert_close(loss, 0.8 * last + 0.2 * along)
    steps = losses.of_steps(logits, rows(targets, [[True] * 3, [True, False, False]], [3, 1]))
    torch.testing.assert_close(steps, (surprise[0, :, 1].sum() + surprise[1, 0, 3]) / 4)


# -- golden sample and tolerance --------------------------------------------------------------------------------------


def test_the_golden_sample_is_of_held_out_rows_from_random_states() -> None:
    """Rows from training might be answered well by luck; zero states would hide a state that is not read."""
    data = recordings.smoothed()
    golden = follower(recordings.checkpoint(data)).golden()
    assert [len(instance) for instance in golden.instances] == [1, 1, 2, 7, 33, 128]
    test = {row.tobytes() for row in data.test[0].features}
    for instance in golden.instances:
        assert all(row.tobytes() in test for row in instance.steps)
        assert instance.state is not None
        assert all(np.abs(array).min() > 0 for array in instance.state)


def test_typical_rows_are_about_the_farthest_value_that_is_still_one() -> None:
    """Digits are lost first near that value; beside an absurd one, no other error would be visible."""
    data = recordings.smoothed(rows=3000)
    problem = Following(recordings.checkpoint(data).config, data)  # type: ignore[arg-type]  # its config
    network = problem.network()
    features = data.test[0].features.copy()
    features[2000, 0] = network.mean[0] + 6 * network.scale[0]
    features[100, 0] = 1e30
    changed = Recording("a", features, data.test[0].targets)
    sample = Following(problem.config, replace(data, test=(changed,))).facts["sample"].numpy()
    assert len(sample) == MOST_SAMPLED
    assert features[2000].tobytes() in {row.tobytes() for row in sample}
    assert sample.max() < 1e6


@pytest.mark.parametrize("task", ["denoise", "regress", "classify"])
def test_the_tolerance_allows_rounding_and_no_defect(tmp_path: Path, task: str) -> None:
    """Correct graphs pass with a margin; weights that are off by a thousandth, or two swapped ones, fail."""
    made = recordings.checkpoint(recordings.of_task(task), hidden=16)
    engine = opened(made, tmp_path)
    golden = follower(made).golden()
    assert max(part.share for part in verify.by_runtime(engine, golden, compare(engine, golden))) < 0.5
    for name in ("head.weight", "stack.layers.0.weight_ih", "stack.layers.1.weight_hh"):
        wrong = {key: tensor.clone() for key, tensor in made.best_network.items()}
        wrong[name] *= 1.001
        assert _off(engine.spec, golden, wrong, made) > 1, name
        swapped = {key: tensor.clone() for key, tensor in made.best_network.items()}
        swapped[name][..., [0, 1]] = swapped[name][..., [1, 0]]
        assert _off(engine.spec, golden, swapped, made) > 10, name


def test_the_tolerance_of_a_network_that_amplifies_hangs_on_no_single_draw() -> None:
    """One draw of last bits may miss what is amplified most: a good model is then not published, or not loaded elsewhere."""
    made = recordings.checkpoint(recordings.of_task("classify"), hidden=16)
    network = network_of(made)
    network.load_state_dict({key: 2.1 * value if "weight_hh" in key else value for key, value in made.best_network.items()})
    instances = follower(made).golden().instances
    found = [tolerance_of(network, instances, seed=seed).atol for seed in range(20)]
    assert max(found) <= 4 * min(found)


def _off(spec: ModelSpec, golden: Golden, weights: dict[str, torch.Tensor], made: Checkpoint) -> float:
    network = network_of(made)
    network.load_state_dict(weights)
    worst = 0.0
    for instance, expected in zip(golden.instances, golden.predictions, strict=True):
        state: State = instance.state or ()
        output, end = network.equations(instance.steps.astype(np.float64), tuple(each.astype(np.float64) for each in state))
        ends: tuple[Array, ...] = tuple(each.astype(np.float32) for each in end)
        worst = max(worst, difference([Prediction((output.astype(np.float32),), ends)], [expected], spec.tolerance))
    return worst


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_model_holds_in_any_units(tmp_path: Path, scale: float) -> None:
    """Whether data are in volts or microvolts, the checks before publication must give the same result."""
    factor, data = np.float32(scale), recordings.smoothed()
    parts: dict[str, Any] = {
        part: tuple(Recording(each.name, each.features * factor, each.targets * factor) for each in getattr(data, part))
        for part in recordings.PARTS
    }
    data = replace(data, **parts)
    made = recordings.checkpoint(data)
    engine, golden = opened(made, tmp_path), follower(made).golden()
    assert all(check.holds for check in verify.verify(engine, golden))
