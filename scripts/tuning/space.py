"""Which choices of a run are searched, and among which values.

Owns the search space. What the user has fixed is not searched. Knows nothing of how a trial is run or judged.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, get_args

from scripts.series.config import Config, Normalise
from scripts.training.reference import Kind

HIDDEN = (16, 128)
LAYERS = (1, 3)
LEARNING_RATE = (5e-4, 2e-2)
STREAMING = ("hidden", "layers", "learning_rate", "cell")
FORECASTING = (*STREAMING, "segment", "context", "normalise")


def searched(base: Config, fixed: Collection[str]) -> tuple[str, ...]:
    """The names of the choices that are searched, without those in `fixed`."""
    names = FORECASTING if base.task == "forecast" else STREAMING
    return tuple(name for name in names if name not in fixed)


def suggest(trial: Any, base: Config, names: Collection[str]) -> Config:
    """The config of an optuna trial: `base`, with the trial's values for the choices in `names`."""
    chosen: dict[str, Any] = {}
    if "hidden" in names:
        chosen["hidden"] = trial.suggest_int("hidden", *HIDDEN, log=True)
    if "layers" in names:
        chosen["layers"] = trial.suggest_int("layers", *LAYERS)
    if "learning_rate" in names:
        # rounded to four digits, so that the value shown is the value trained with
        chosen["learning_rate"] = float(f"{trial.suggest_float('learning_rate', *LEARNING_RATE, log=True):.4g}")
    if "cell" in names:
        chosen["cell"] = trial.suggest_categorical("cell", get_args(Kind))
    if "normalise" in names:
        chosen["normalise"] = trial.suggest_categorical("normalise", get_args(Normalise))
    for name, values in _framings(base, names).items():
        chosen[name] = trial.suggest_categorical(name, values)
    return replace(base, **chosen)


def _framings(base: Config, names: Collection[str]) -> dict[str, list[int]]:
    """Segments and contexts to try, about half, once and twice those of the base; each segment divides each context."""
    segments = [base.segment]
    if "segment" in names:
        segments = [each for each in (base.segment // 2, base.segment, base.segment * 2) if each and base.segment * 2 % each == 0]
        if "context" not in names:
            segments = [each for each in segments if base.context % each == 0]
    step = max(segments)
    contexts = sorted({max(step, round(base.context * factor / step) * step) for factor in (0.5, 1, 2)})
    contexts = [context for context in contexts if context >= base.season]
    found = {"segment": segments, "context": contexts}
    return {name: values for name, values in found.items() if name in names}
