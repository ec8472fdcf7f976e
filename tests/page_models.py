"""Three models that the page shows in different ways, beside the committed one: a forecaster with quantiles, a classifier, and
a regressor of hourly tables with gaps.

Their graphs are written by hand and untrained: the forecaster repeats the last day, the others answer from random weights.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from app.golden import Golden
from app.manifest import ModelSpec, OutputSpec, Signal, StateSpec, Tolerance
from app.tensors import Instance, Prediction
from tests.graphs import FEATURES, FLOAT, HIDDEN, INT32, Builder, answer

CONTEXT, HORIZON, LEVELS = 96, 24, ("0.1", "0.5", "0.9")
TARGETS = (Signal(name="load", unit="MW"), Signal(name="temperature", unit="°C"))
CLASSES = ("rest", "walk", "run")
LOADS = (Signal(name="load", unit="MW"), Signal(name="wind"), Signal(name="pressure"), Signal(name="ambient", unit="degC"))


def forecaster(model_dir: Path) -> np.ndarray:
    """Publish the forecaster; returns the context of its golden sample, (CONTEXT, 2)."""
    folder = model_dir / "load-forecaster" / "1"
    folder.mkdir(parents=True)
    g = Builder(3)
    x = g.input("input", ["batch", CONTEXT, len(TARGETS)])
    last = g.add("Slice", [x, g.constant([CONTEXT - HORIZON]), g.constant([CONTEXT]), g.constant([1])])
    g.output("output", ["batch", HORIZON, len(TARGETS)], last)
    middle = g.add("Unsqueeze", [last, g.constant([3])])
    width = g.constant(np.linspace(0.5, 8, HORIZON).reshape(1, HORIZON, 1, 1), np.float32)
    levels = [g.add("Sub", [middle, width]), middle, g.add("Add", [middle, width])]
    g.output("quantiles", ["batch", HORIZON, len(TARGETS), len(levels)], g.add("Concat", levels, axis=3))
    graph = g.save(folder / "model.onnx")
    hours, noise = np.arange(CONTEXT) * 2 * np.pi / 24, np.random.default_rng(0).normal(size=(CONTEXT, 2))
    context = (np.stack([50 + 20 * np.sin(hours), 15 + 6 * np.cos(hours)], axis=1) + noise).astype(np.float32)
    answers = answer(graph, {"input": context[None]})
    outputs = (
        OutputSpec(shape=(HORIZON, len(TARGETS)), time_axis=None, signals=TARGETS),
        OutputSpec(
            name="quantiles",
            shape=(HORIZON, len(TARGETS), len(LEVELS)),
            time_axis=None,
            signals=tuple(Signal(name=level) for level in LEVELS),
        ),
    )
    golden = Golden([Instance(context)], [Prediction(tuple(answers[each.name][0] for each in outputs), ())])
    _publish(
        folder,
        golden,
        outputs=outputs,
        task="forecast",
        description="Load and temperature of the next day.",
        sample_rate=1 / 3600,
        features=TARGETS,
        lengths=None,
        time_steps=CONTEXT,
        causal=False,
    )
    return context


def classifier(model_dir: Path) -> None:
    features = tuple(Signal(name=f"channel_{index}") for index in range(FEATURES))
    outputs = tuple(Signal(name=name) for name in CLASSES)
    _stepwise(model_dir / "activity-classifier" / "1", features, outputs, task="classify")


def regressor(model_dir: Path) -> None:
    """Publish a model of hourly data, whose training filled gaps with the value before."""
    read = {
        "time": "",
        "group": "",
        "missing": "hold",
        "na": [-999.0],
        "irregular": "error",
        "period": 0.0,
        "split": [],
        "season": 0,
    }
    _stepwise(
        model_dir / "oil-temperature" / "1",
        LOADS,
        (Signal(name="oil", unit="degC"),),
        task="regress",
        sample_rate=1 / 3600,
        provenance={"config": read},
    )


def _stepwise(folder: Path, features: tuple[Signal, ...], signals: tuple[Signal, ...], **members: Any) -> None:
    """Publish a model that answers every step; a classifier answers probabilities."""
    folder.mkdir(parents=True)
    g = Builder(4)
    x, lengths = g.input("input", ["batch", "time", FEATURES]), g.input("lengths", ["batch"], INT32)
    start = g.input("h0", [1, "batch", HIDDEN], FLOAT)
    y, final, _ = g.cell(g.add("Transpose", [x], perm=[1, 0, 2]), start, lengths=lengths, linear_before_reset=1)
    answers = g.add("MatMul", [g.add("Transpose", [y], perm=[1, 0, 2]), g.weight(HIDDEN, len(signals))])
    if members["task"] == "classify":
        answers = g.add("Softmax", [answers], axis=-1)
    g.output("output", ["batch", "time", len(signals)], answers)
    g.output("hn", [1, "batch", HIDDEN], final)
    graph = g.save(folder / "model.onnx")
    rng, zeros = np.random.default_rng(1), np.zeros((1, 1, HIDDEN), np.float32)
    sequences = [rng.normal(size=(length, FEATURES)).astype(np.float32) for length in (1, 7, 60)]
    found = [answer(graph, {"input": each[None], "lengths": np.int32([len(each)]), "h0": zeros}) for each in sequences]
    _publish(
        folder,
        Golden(
            [Instance(each, (zeros[:, 0],)) for each in sequences],
            [Prediction((each["output"][0],), (each["hn"][:, 0],)) for each in found],
        ),
        outputs=(OutputSpec(shape=(len(signals),), signals=signals),),
        states=(StateSpec(input="h0", output="hn", shape=(1, HIDDEN), batch_axis=1),),
        features=features,
        **members,
    )


def _publish(
    folder: Path, golden: Golden, *, outputs: tuple[OutputSpec, ...], states: tuple[StateSpec, ...] = (), **members: Any
) -> None:
    golden.save(folder, outputs=outputs, states=states)
    spec = ModelSpec(
        name=folder.parent.name,
        version=folder.name,
        outputs=outputs,
        states=states,
        opset=17,
        graphs={"CPUExecutionProvider": "model.onnx"},
        files={path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()},
        tolerance=Tolerance(rtol=1e-4, atol=1e-4),
        **members,
    )
    (folder / "manifest.json").write_text(spec.model_dump_json())
