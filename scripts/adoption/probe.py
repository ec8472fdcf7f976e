"""Runs a graph before anything is known about it, to see the shapes of its outputs.

Owns the adoption's only direct ONNX Runtime session; as soon as there is a manifest, graphs run through app.engine. Knows
nothing of what the tensors mean.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in app.engine: it is read when ONNX Runtime is imported
import onnxruntime as ort

from app.runtime import CPU
from scripts.adoption.inspection import unopenable
from scripts.adoption.refusal import Refused

LIMIT_S = 60.0  # per run: a loop in a graph may be endless

_AROUND = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : |.*Status Message: (?:\S+\.(?:cc|h):\d+ )?(?:.* was false\. )?", re.DOTALL
)


def shortened(error: Exception) -> str:
    """ONNX Runtime's message, without the place in its own source."""
    text = str(error).strip()
    return (_AROUND.sub("", text).strip() or text).splitlines()[0][:200]


class Probe:
    """An open graph, on the CPU."""

    def __init__(self, path: Path, *, limit_s: float = LIMIT_S) -> None:
        """Open the graph; Refused if ONNX Runtime cannot."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal: a failed run is a normal result here, and its exception says everything
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[CPU])
        except Exception as error:  # ONNX Runtime raises its own and built-in types
            raise Refused(unopenable(path, error)) from error
        self._limit_s = limit_s
        self._names = [node.name for node in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name; RuntimeError with the first line of ONNX Runtime's reason if it does not run, Refused if it
        does not end."""
        options = ort.RunOptions()
        options.log_severity_level = 4
        ended = Event()

        def end() -> None:
            ended.set()
            options.terminate = True  # ONNX Runtime checks it before every node, also inside loops

        timer = Timer(self._limit_s, end)
        timer.daemon = True
        timer.start()
        try:
            arrays = self._session.run(None, dict(feeds), options)
        except Exception as error:  # as above
            if ended.is_set():
                raise Refused(
                    f"The graph did not answer a few steps within {self._limit_s:g} s, the limit of a first run: look for a loop "
                    "in it that does not end."
                ) from error
            raise RuntimeError(shortened(error)) from error
        finally:
            timer.cancel()
        return {name: np.asarray(array) for name, array in zip(self._names, arrays, strict=True)}
