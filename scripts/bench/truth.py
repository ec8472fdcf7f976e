"""Sequences with their right answers, which the engine computes once in this process.

Owns the signals, how their parts are written, and their right answers. Knows nothing of how they are sent. The right answer
to a part of a signal is the same part of the answer to the whole: the model is causal, and continues from a state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from app.engine import Engine
from app.manifest import ModelSpec
from app.tensors import Array, Instance

SIGNALS, STEPS = 8, 2000
LONGEST = 100_000  # steps of one more signal: the service's limit for one instance


@dataclass(frozen=True, slots=True)
class Part:
    """The steps from `begin` to `end` of a signal."""

    signal: int
    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin


class Truth:
    """The signals to send to one model version, and their right answers."""

    def __init__(self, spec: ModelSpec, folder: Path, *, seed: int = 0, longest: int = LONGEST) -> None:
        """Compute the answers; ValueError if the model does not answer parts of a sequence like the whole."""
        if not (spec.causal and spec.divisible) or spec.max_batch_size is not None:
            raise ValueError(f"{spec} does not answer each step of sequences of any length and number, so it cannot be soaked.")
        self.spec = spec
        rng = np.random.default_rng(seed)
        values = [(50 * rng.standard_normal((steps, len(spec.features)))).round(3) for steps in (*[STEPS] * SIGNALS, longest)]
        self.signals: list[Array] = [each.astype(np.float32) for each in values]
        self._texts = [[orjson.dumps(step) for step in each.tolist()] for each in values]
        engine = Engine(spec, folder, device="cpu")
        try:
            self._answers = [engine.predict([Instance(each)])[0].outputs for each in self.signals]
        finally:
            engine.close()

    def text(self, part: Part) -> bytes:
        """The sequence as JSON."""
        return b"[" + b",".join(self._texts[part.signal][part.begin : part.end]) + b"]"

    def octets(self, part: Part) -> bytes:
        return self.signals[part.signal][part.begin : part.end].astype("<f4").tobytes()

    def is_right(self, part: Part, told: Any) -> bool:
        """Whether the `predictions` of a JSON answer are right: an array, or one for each output by its name."""
        named = told if isinstance(told, dict) else {self.spec.outputs[0].name: told}
        if list(named) != [output.name for output in self.spec.outputs]:
            return False
        return self._are_right(part, [np.asarray(array, np.float64) for array in named.values()])

    def are_right_octets(self, part: Part, told: bytes) -> bool:
        """Whether a binary answer is right: the outputs, one after the other, in float32."""
        shapes = [(len(part), *output.width) for output in self.spec.outputs]
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        if len(told) != 4 * ends[-1]:
            return False
        numbers = np.frombuffer(told, "<f4")
        pieces = zip(ends, ends[1:], shapes, strict=False)
        return self._are_right(part, [numbers[begin:end].reshape(shape) for begin, end, shape in pieces])

    def _are_right(self, part: Part, told: Sequence[Any]) -> bool:
        allowed = self.spec.tolerance
        for array, whole in zip(told, self._answers[part.signal], strict=True):
            expected = whole[part.begin : part.end]
            if array.shape != expected.shape or not np.allclose(array, expected, rtol=allowed.rtol, atol=allowed.atol):
                return False
        return True
