"""A forecaster's network: which changes of its input must not matter, and that the equations, torch and ONNX Runtime agree."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from forecasts import CONTEXT, HORIZON, NAMES, config, dataset, forecaster, seasons, shaken

from app.engine import Engine
from app.golden import Golden, difference
from app.manifest import OutputSpec, Signal
from app.runtime import CPU, CUDA
from app.tensors import Instance
from scripts.forecasting.network import Network
from scripts.forecasting.problem import Forecasting
from scripts.forecasting.windows import Windows
from scripts.training import cuda_graph, fit, publish, verify

KINDS = ("reset_before", "reset_after", "lstm", "rnn", "lstm,reset_before")
TARGETS = {"all": NAMES, "some, turned": ("heat", "load"), "another": ("heat", "sum")}


def contexts(count: int = 5, *, seed: int = 3) -> torch.Tensor:
    rows = seasons(CONTEXT + 10 * count, seed=seed, noise=3.0)
    return torch.from_numpy(np.stack([rows[10 * index : 10 * index + CONTEXT] for index in range(count)]))


def network(data_targets: tuple[str, ...] = NAMES, **changes: object) -> Network:
    return shaken(config(**changes), dataset(seasons(), data_targets))[0]


# -- what must not matter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["last", "instance"])
@pytest.mark.parametrize("channels", ["independent", "joint"])
def test_what_is_added_to_a_window_is_added_to_its_forecast(normalise: str, channels: str) -> None:
    """A series that has drifted away from its level in training is forecast as well as before."""
    found = network(normalise=normalise, channels=channels, quantiles=(0.1, 0.9))
    shift = torch.tensor([1000.0, -50.0, 8.0])
    with torch.inference_mode():
        before, levels = found(contexts())
        after, shifted = found(contexts() + shift)
    torch.testing.assert_close(after, before + shift, rtol=0, atol=0.02)
    torch.testing.assert_close(shifted, levels + shift[:, None], rtol=0, atol=0.02)


def test_without_normalisation_the_level_counts() -> None:
    """Otherwise the test above would hold for any network."""
    found = network(normalise="none")
    with torch.inference_mode():
        apart = found(contexts() + 1000)[0] - found(contexts())[0] - 1000
    assert apart.abs().max() > 10


def test_a_window_that_is_scaled_is_forecast_scaled_by_instance() -> None:
    """Reversible instance normalisation makes the forecast scale with its window."""
    found = network(normalise="instance")
    with torch.inference_mode():
        once, twice = found(contexts())[0], found(3 * contexts())[0]
    torch.testing.assert_close(twice, 3 * once, rtol=1e-3, atol=0.02)


@pytest.mark.parametrize("normalise", ["last", "instance", "none"])
@pytest.mark.parametrize("value", [0.0, 7.5, -1e9])
def test_a_window_of_one_value_has_a_finite_forecast(normalise: str, value: float) -> None:
    """A stuck sensor has no spread to divide by."""
    with torch.inference_mode():
        answers = network(normalise=normalise, quantiles=(0.5,))(torch.full((2, CONTEXT, 3), value))
    assert all(torch.isfinite(answer).all() for answer in answers)


@pytest.mark.parametrize("normalise", ["last", "instance", "none"])
def test_a_constant_column_of_training_has_a_finite_forecast(normalise: str) -> None:
    """Its deviation in training is 0, but it may change later."""
    rows = seasons()
    rows[:, 1] = 3.25
    found, _ = shaken(config(normalise=normalise), dataset(rows))
    with torch.inference_mode():
        (answer,) = found(contexts())
    assert torch.isfinite(answer).all()


def test_channels_do_not_see_each_other_where_they_are_independent() -> None:
    """They do see each other where channels are joint."""
    changed = contexts()
    changed[..., 2] += torch.linspace(0, 100, CONTEXT)
    for channels in ("independent", "joint"):
        found = network(channels=channels)
        with torch.inference_mode():
            apart = (found(changed)[0] - found(contexts())[0])[..., :2].abs().max()
        assert (apart == 0) == (channels == "independent")


def test_a_column_that_is_not_forecast_is_seen_by_its_level() -> None:
    """The temperature tells how much is heated: its level must not be subtracted from it."""
    found = network(("load",))
    changed = contexts()
    changed[..., 2] += 100
    with torch.inference_mode():
        assert (found(changed)[0] - found(contexts())[0]).abs().max() > 0.1


@pytest.mark.parametrize("channels", ["independent", "joint"])
@pytest.mark.parametrize("levels", [(0.1, 0.5, 0.9), (0.01, 0.02, 0.3, 0.99)])
def test_quantiles_never_cross(channels: str, levels: tuple[float, ...]) -> None:
    """By construction, for any weights and any window."""
    found = network(channels=channels, quantiles=levels)
    with torch.no_grad():
        assert found.levels is not None
        found.levels.weight.mul_(50)
        _, quantiles = found(contexts(20))
    assert quantiles.shape == (20, HORIZON, 3, len(levels))
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_asking_for_quantiles_does_not_move_the_forecast() -> None:
    """The loss of the quantiles trains the recurrence, but not the forecast that the quantiles are laid around."""
    found = network(quantiles=(0.1, 0.9))
    answer = found.answer(contexts())
    assert answer.levels is not None
    answer.levels.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves `backward` untyped
    assert found.head.weight.grad is None


# -- the start of training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["last", "instance", "none"])
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_the_first_forecast_is_linear(normalise: str, targets: tuple[str, ...]) -> None:
    """Training starts from the best line. With joint channels it reads all features, also for a target that is none of them."""
    found, _ = fit.start(Forecasting(config(normalise=normalise), dataset(seasons(), targets)))
    assert isinstance(found, Network)
    found.eval()
    with torch.inference_mode():
        (whole,) = found(contexts())
        (zero,) = found(contexts() * 0)
        (half,) = found(contexts() / 2)
    if normalise != "instance":
        torch.testing.assert_close(half - zero, (whole - zero) / 2, rtol=1e-3, atol=0.01)
    if "sum" in targets:
        outside = targets.index("sum")
        truth = torch.from_numpy(
            np.stack([seasons(98, seed=3, noise=0.0)[at : at + HORIZON].sum(axis=1) for at in range(48, 90, 10)])
        )
        assert (whole[..., outside] - truth).square().mean() < 0.1 * (found.normal.target_mean[outside] - truth).square().mean()


def test_the_first_quantiles_are_those_of_the_line() -> None:
    """They come from the line's errors in training: four fifths of the truth lie between 0.1 and 0.9 from the start."""
    data = dataset(seasons(noise=4.0))
    found, _ = fit.start(Forecasting(config(quantiles=(0.1, 0.9)), data))
    windows = Windows(data.training, context=CONTEXT, horizon=HORIZON, part="training")
    context, _, truth = windows.take(np.arange(len(windows)))
    with torch.inference_mode():
        _, levels = found.eval()(context)
    inside = (truth >= levels[..., 0]) & (truth <= levels[..., 1])
    assert inside.double().mean() == pytest.approx(0.8, abs=0.02)


# -- equations = torch = ONNX Runtime -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("channels", ["independent", "joint"])
@pytest.mark.parametrize("normalise", ["last", "instance", "none"])
def test_equations_are_torch_are_the_graph(cell: str, channels: str, normalise: str, tmp_path: Path) -> None:
    """Alone and in a batch; the cells take turns with the choices of targets and quantiles."""
    turn = KINDS.index(cell)
    targets = [*TARGETS.values()][turn % 3]
    quantiles: tuple[float, ...] = ((0.1, 0.5, 0.9), (), (0.3,))[turn % 3]
    choices = config(cell=cell, channels=channels, normalise=normalise, quantiles=quantiles)
    artifact = forecaster(choices, dataset(seasons(), targets))
    artifact.write_graphs(tmp_path)
    golden = artifact.golden()
    golden.save(tmp_path, outputs=artifact.outputs, states=())
    spec = artifact.spec("1", tmp_path)
    assert difference(artifact.by_torch(golden.instances), golden.predictions, spec.tolerance) <= 1
    for check in verify.verify(Engine(spec, tmp_path, device="cpu"), golden) + cuda_graph.verify(spec, tmp_path, golden):
        assert check.holds, str(check)
    again = Golden.load(tmp_path, spec)
    assert difference(again.predictions, golden.predictions, spec.tolerance) == 0


def test_prediction_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    """Windows from different places, in batches of different sizes."""
    artifact = forecaster(config(quantiles=(0.1, 0.9)), dataset(seasons()))
    artifact.write_graphs(tmp_path)
    artifact.golden().save(tmp_path, outputs=artifact.outputs, states=())
    spec = artifact.spec("1", tmp_path)
    engine = Engine(spec, tmp_path, device="cpu")
    instances = [Instance(steps) for steps in contexts(9).numpy()]
    alone = [engine.predict([instance])[0] for instance in instances]
    for size in (2, 5, 9):
        assert difference(engine.predict(instances[:size]), alone[:size], spec.tolerance) <= 1


def test_a_defect_of_a_thousandth_is_beyond_the_tolerance(tmp_path: Path) -> None:
    """A tolerance that lets a wrong graph pass is useless."""
    artifact = forecaster(config(), dataset(seasons()))
    artifact.write_graphs(tmp_path)
    golden = artifact.golden()
    golden.save(tmp_path, outputs=artifact.outputs, states=())
    spec = artifact.spec("1", tmp_path)
    proto = onnx.load(tmp_path / "model.onnx")
    (weights,) = (each for each in proto.graph.initializer if each.name == "R_0")
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * np.float32(1.001), "R_0"))
    onnx.save(proto, tmp_path / "model.onnx")
    (runtime, *_) = verify.verify(Engine(spec, tmp_path, device="cpu"), golden)
    assert not runtime.holds


def test_the_manifest_says_that_it_takes_whole_contexts(tmp_path: Path) -> None:
    """So the service can refuse streams and contexts of another length, and report columns, levels and units."""
    data = dataset(seasons())
    artifact = forecaster(config(quantiles=(0.1, 0.9), cell="lstm"), data)
    artifact.write_graphs(tmp_path)
    artifact.golden().save(tmp_path, outputs=artifact.outputs, states=())
    spec = artifact.spec("1", tmp_path)
    assert (spec.task, spec.causal, spec.time_steps, spec.lengths, spec.states) == ("forecast", False, CONTEXT, None, ())
    assert spec.sample_rate == 1 / 3600
    assert [(signal.name, signal.unit) for signal in spec.features] == [("load", "kW"), ("flow", "l/s"), ("heat", "°C")]
    assert spec.outputs == (
        OutputSpec(shape=(HORIZON, 3), time_axis=None, signals=spec.features),
        OutputSpec(name="quantiles", shape=(HORIZON, 3, 2), time_axis=None, signals=(Signal(name="0.1"), Signal(name="0.9"))),
    )
    assert spec.graphs == {CPU: "model.onnx", CUDA: "model.onnx"}
    assert spec.provenance["config"] == config(quantiles=(0.1, 0.9), cell="lstm").to_dict() | {"data": []}
    assert spec.provenance["channels"] == "independent"
    assert publish.checksums(tmp_path) == spec.files


def test_a_period_that_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    """Also, reset_before has a graph for the CPU only here: without lengths, it cannot run in chunks."""
    artifact = forecaster(config(), dataset(seasons(), period=None))
    artifact.write_graphs(tmp_path)
    artifact.golden().save(tmp_path, outputs=artifact.outputs, states=())
    spec = artifact.spec("1", tmp_path)
    assert spec.sample_rate is None
    assert spec.graphs == {CPU: "model.onnx"}


def test_the_golden_sample_is_spread_and_lively() -> None:
    """Six contexts spread over the test part, its first and last among them, and three of the training part where most happens."""
    data = dataset(seasons())
    instances = forecaster(config(), data).golden().instances
    (test,) = data.test
    assert len(instances) == 9
    np.testing.assert_array_equal(instances[0].steps, test.features[:CONTEXT])
    np.testing.assert_array_equal(instances[5].steps, test.features[-CONTEXT - HORIZON : -HORIZON])
    assert all(np.abs(a.steps - b.steps).max() > 0 for a, b in pairwise(instances))


def test_a_golden_sample_shows_what_the_recurrence_does_though_the_test_part_stands_still() -> None:
    """The test part may come from a sensor that was switched off: with only its windows, a graph with wrong gates would pass."""
    data = dataset(seasons())
    still = tuple(replace(each, features=np.zeros_like(each.features), targets=np.zeros_like(each.targets)) for each in data.test)
    spreads = [each.steps.std(axis=0) for each in forecaster(config(), replace(data, test=still)).golden().instances]
    assert sum(spread.max() == 0 for spread in spreads) == 6
    assert min(spread.min() for spread in spreads[6:]) > 0.5 * max(each.features.std() for each in data.training) / 10
