"""ONNX Runtime, and the truth about which execution provider it runs on.

Owns the inference session; the only module that imports onnxruntime. Knows nothing of queues or HTTP.
`Engine.predict` is thread-safe and releases the GIL while it computes: several threads may call one engine.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # since 1.29 it reports to its maker unless told not to before it is imported
import onnxruntime as ort

from app.errors import BadArtifact, NotFinite, ProviderUnavailable
from app.manifest import ModelSpec
from app.tensors import Array, Batch, Instance, Prediction

Device = Literal["auto", "cuda", "cpu"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True, slots=True)
class Provider:
    """What was asked for, what is in use, and why they differ when they do."""

    requested: Device
    in_use: str
    fallback_reason: str | None = None


class Engine:
    """One model version, ready to predict. `threads` is what one call of `predict` may use on the CPU."""

    def __init__(self, spec: ModelSpec, folder: Path, *, device: Device = "auto", threads: int = 1) -> None:
        """Open the version in `folder`; BadArtifact when its graph is not what the manifest says,
        ProviderUnavailable when `device` is cuda and CUDA cannot be had."""
        self.spec = spec
        self._session, self.provider = _open(spec, folder, device, threads)
        self._outputs = [spec.tensors.output, *(state.output for state in spec.states)]
        self._check_signature()

    def predict(self, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances: one or more, of any lengths from 1 up, with or without states."""
        return self._predict(instances)[0]

    def answer(self, instances: Sequence[Instance]) -> Sequence[Prediction | NotFinite]:
        """The same, but NotFinite in place of a prediction, or of a state, that overflows float32."""
        predictions, whole = self._predict(instances)
        if all(map(_is_finite, whole)):
            return predictions
        error = NotFinite(f"The prediction overflows float32: the values are too large for {self.spec}.")
        return [each if all(map(_is_finite, (each.output, *each.state))) else error for each in predictions]

    def _predict(self, instances: Sequence[Instance]) -> tuple[list[Prediction], list[Array]]:
        """Predictions, and the arrays that they are views of."""
        batch = Batch.collate(instances, self.spec.states)
        output, *finals = self.run(self.feeds(batch))
        return batch.split(output, finals, self.spec.states), [output, *finals]

    def feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The graph's inputs by name."""
        tensors, states = self.spec.tensors, self.spec.states
        feeds: dict[str, NDArray[Any]] = {tensors.input: batch.input, tensors.lengths: batch.lengths}
        feeds.update((state.input, array) for state, array in zip(states, batch.states, strict=True))
        return feeds

    def run(self, feeds: dict[str, NDArray[Any]]) -> list[Array]:
        """The graph's outputs: the output, then the states in the manifest's order."""
        return [np.asarray(array) for array in self._session.run(self._outputs, feeds)]

    def _check_signature(self) -> None:
        spec = self.spec
        for kind, has, wants in (
            ("input", self._session.get_inputs(), [spec.tensors.input, spec.tensors.lengths, *(s.input for s in spec.states)]),
            ("output", self._session.get_outputs(), self._outputs),
        ):
            names = {node.name for node in has}
            if names != set(wants):
                raise BadArtifact(f"The {kind}s of the graph are {sorted(names)}; the manifest of {spec} says {sorted(wants)}.")


def _is_finite(array: Array) -> bool:
    """Whether every number is; the product is so only then, or it is worth a closer look."""
    return isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _open(spec: ModelSpec, folder: Path, device: Device, threads: int) -> tuple[ort.InferenceSession, Provider]:
    reason = None
    if device != "cpu":
        session, reason = _try_cuda(spec, folder, threads)
        if session is not None:
            return session, Provider(requested=device, in_use=CUDA)
        if device == "cuda":
            raise ProviderUnavailable(f"The device asked for is cuda, but {reason}. With auto or cpu it runs on the CPU.")
        if not _has_driver():
            reason = None  # nothing was lost: this machine has no GPU
    if CPU not in spec.graphs:
        raise BadArtifact(f"{spec} has graphs for {', '.join(spec.graphs)} only, none for {CPU}.")
    session = _session(folder / spec.graphs[CPU], [CPU], threads)
    return session, Provider(requested=device, in_use=CPU, fallback_reason=reason)


def _try_cuda(spec: ModelSpec, folder: Path, threads: int) -> tuple[ort.InferenceSession | None, str | None]:
    """A session that really runs on CUDA, or the reason why there is none."""
    if not _has_driver():
        return None, "this machine has no NVIDIA driver (libcuda.so.1 cannot be loaded)"
    if CUDA not in ort.get_available_providers():
        return None, "the installed ONNX Runtime is built without CUDA (install onnxruntime-gpu)"
    if CUDA not in spec.graphs:
        return None, f"{spec} has no graph for CUDA: ONNX Runtime would run its {spec.cell.variant} GRU on the CPU in silence"
    ort.preload_dlls()
    try:
        session = _session(folder / spec.graphs[CUDA], [CUDA, CPU], threads)
    except Exception as error:  # ONNX Runtime raises its own and built-in types here; every one of them means: no CUDA
        return None, f"CUDA could not be started: {error}"
    if CUDA not in session.get_providers():
        return None, "ONNX Runtime could not load its CUDA provider (CUDA or cuDNN libraries are missing or of another version)"
    return session, None


def _has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _session(path: Path, providers: list[str], threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; what matters of the warnings is checked and reported here
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # as above; the caller learns that this file is not a graph that runs
        if providers == [CPU]:
            raise BadArtifact(f"ONNX Runtime cannot open {path.name}: {error}") from error
        raise
