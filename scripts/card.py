"""Measure a published model against the best classical filters, and write its model card.

    python -m scripts.card model/gyro-denoiser/1                       about a minute; writes model/README.md and two PNGs
    python -m scripts.card model/gyro-denoiser/1 --json scores.json    the numbers as JSON too

Everything is measured on recordings that neither training nor tuning has seen. The model runs as it is served: the
artifact, in ONNX Runtime, on the CPU. Exits 0 when written, 1 when the artifact cannot be measured, 2 on wrong use, 130 when it was
stopped.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app import cpus, manifest
from app.engine import Engine
from app.errors import BadArtifact
from app.manifest import ModelSpec
from app.tensors import Instance, State
from scripts import command, results
from scripts.gyro import card, comparison, plots
from scripts.gyro.baselines import Array, Method, baselines
from scripts.gyro.comparison import Result
from scripts.gyro.config import Config
from scripts.gyro.data import Gyro
from scripts.gyro.evaluate import even_turns, score
from scripts.gyro.model import Denoiser

STILL_SECONDS = 3600.0
INSTANCES = 8  # in one call of the engine: enough on a CPU
STEPS = 1000  # in one call of the engine; the state is carried on, as in a stream


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.card", __doc__)
    parser.add_argument("version", type=Path, metavar="DIR", help="the published version, <repository>/<name>/<version>")
    results.add_option(parser)
    args = parser.parse_args(argv)

    # -- the artifact, and the device it was trained for ------------------------------------------------------------
    try:
        spec = manifest.read(args.version)
        config = trained_with(spec)
        engine = Engine(spec, args.version, device="cpu", threads=cpus.available())
    except (BadArtifact, ValueError) as error:
        print(f"{args.version} cannot be measured: {error}", file=sys.stderr)
        return 1
    gyro = Gyro(config)
    test, still = gyro.test(), gyro.still(seconds=STILL_SECONDS)

    # -- measure ----------------------------------------------------------------------------------------------------
    model = Method(spec.name, "trained", lambda features: served(engine, features))
    methods = [*tqdm(baselines(gyro), desc="tuning", unit="method"), model]
    measured = [
        Result(method=method, scores=score(method.run, test, still, config.sample_rate))
        for method in tqdm(methods, desc="measuring", unit="method")
    ]
    print(comparison.table(measured))

    # -- write ------------------------------------------------------------------------------------------------------
    root = args.version.resolve().parents[1]
    shown = comparison.shown(measured)
    figures = card.Figures(allan=f"{spec.name}-allan.png", motion=f"{spec.name}-motion.png")
    curves = {result.method.name: result.scores.allan for result in shown}
    plots.draw_allan(curves, gyro.specimen.part.gyro.white, root / figures.allan)
    index, moment = plots.eventful(test, config.sample_rate)
    truth = test.targets[index, :, 0].astype(np.float64)
    features = test.features[index : index + 1].astype(np.float64)
    errors = {result.method.name: (result.method.run(features)[0, :, 0] - truth)[moment] for result in shown}
    plots.draw_motion(truth[moment], errors, config.sample_rate, root / figures.motion)
    parameters = sum(parameter.numel() for parameter in Denoiser(config).parameters())
    turns = even_turns(model.run, gyro)
    (root / "README.md").write_text(card.markdown(spec, config, measured, figures, turns=turns, parameters=parameters))
    scores = {result.method.name: asdict(result.scores) | {"detail": result.method.detail} for result in measured}
    results.write(args.json, {"model": str(spec), "scores": scores})
    print(f"Written: {root / 'README.md'}, {figures.allan}, {figures.motion}")
    return 0


def trained_with(spec: ModelSpec) -> Config:
    """The config of the run that made the model; ValueError when the manifest holds none."""
    values = spec.provenance.get("config")
    if not isinstance(values, dict) or "task" in values:  # a run on the user's own data has a task
        raise ValueError(
            "it is no gyro denoiser of scripts.train, and the card is of nothing else; scripts.verify checks any model."
        )
    try:
        return Config.from_dict(values)
    except TypeError as error:
        raise ValueError(f"its config is none of scripts.train: {error}.") from error


def served(engine: Engine, features: Array) -> Array:
    """Rates (count, time, 3) from features (count, time, 6), in pieces as a stream would send them."""
    steps = np.ascontiguousarray(features, dtype=np.float32)
    rates = np.empty((*steps.shape[:2], 3))
    for first in range(0, len(steps), INSTANCES):
        rows = range(first, min(first + INSTANCES, len(steps)))
        states: list[State | None] = [None for _ in rows]
        for begin in range(0, steps.shape[1], STEPS):
            instances = [Instance(steps[row, begin : begin + STEPS], state) for row, state in zip(rows, states, strict=True)]
            predictions = engine.predict(instances)
            states = [prediction.state for prediction in predictions]
            rates[rows.start : rows.stop, begin : begin + STEPS] = [prediction.output for prediction in predictions]
    return rates


if __name__ == "__main__":
    sys.exit(command.run(main))
