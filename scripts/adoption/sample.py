"""Typical input, on which the checks run and from which the golden sample is made.

Owns reading it from a file, and the noise that is used if there is no file. Knows nothing of graphs.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from scripts.adoption.refusal import WrongUse

SEED = 22
STEPS = 128


@dataclass(frozen=True, slots=True)
class Sample:
    """Steps (time, features) and where they come from."""

    steps: Array
    source: str


def noise(features: int, steps: int) -> Sample:
    """Standard normal numbers, always the same."""
    found = np.random.default_rng(SEED).standard_normal((steps, features)).astype(np.float32)
    return Sample(found, "seeded noise of mean 0 and deviation 1 (--sample FILE gives typical input instead)")


def read(path: Path, features: int, names: Sequence[str], least: int) -> Sample:
    """Read steps from a .npy, an .npz with one array or a .csv with or without a header; WrongUse if they do not fit."""
    try:
        if not path.is_file():  # reading a pipe might never end
            raise ValueError("it is no file: give a .npy, .npz or .csv file")
        steps = _load(path, names)
    except Exception as error:  # a broken archive may fail with any error
        raise WrongUse(f"--sample {path} cannot be read: {str(error).rstrip('.') or type(error).__name__}.") from error
    steps = steps[:, None] if steps.ndim == 1 else steps
    if steps.ndim != 2 or steps.shape[1] != features or len(steps) < least:
        raise WrongUse(
            f"--sample {path} is of shape {list(steps.shape)}; it must be time x {features} features, {least} steps or more."
        )
    if not np.isfinite(steps).all():
        raise WrongUse(f"--sample {path} holds numbers that are not finite: leave those steps out.")
    return Sample(np.ascontiguousarray(steps, dtype=np.float32), f"the {len(steps)} steps of {path.name}")


def _load(path: Path, names: Sequence[str]) -> Array:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():  # spreadsheets write a byte-order mark
            warnings.filterwarnings("ignore", message="loadtxt: input contained no data")  # its shape will say so
            header = [word.strip().strip('"') for word in file.readline().split(",")]
            titled = not all(map(_is_number, header))
            columns = [header.index(name) for name in names] if titled and set(names) <= set(header) else None
            file.seek(0)
            return _real(np.loadtxt(file, delimiter=",", skiprows=int(titled), usecols=columns, ndmin=2, dtype=np.float64))
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return _real(loaded)
    with loaded:
        if len(loaded.files) != 1:
            raise ValueError(f"it holds the arrays {', '.join(loaded.files) or 'none'}, and must hold one")
        return _real(np.asarray(loaded[loaded.files[0]]))


def _real(array: NDArray[Any]) -> Array:
    """The array in float32, infinite where a number is too large for it; ValueError if it does not hold real numbers."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"it holds {array.dtype}, and must hold real numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
