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
from app.tensors import Array, Batch, Instance, Prediction, batch_first, rows

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
        self._outputs = [*(output.name for output in spec.outputs), *(state.output for state in spec.states)]
        self._constants = {each.name: np.array(each.value, dtype=each.type) for each in spec.constants}
        self._any_company = spec.ragged and spec.max_batch_size is None
        self._check_signature()

    def predict(self, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances: one or more, of any lengths that the model takes, with or without states.

        The graph runs as often as it must: once for all where it takes sequences of different lengths.
        """
        return self._predict(instances)[0]

    def answer(self, instances: Sequence[Instance]) -> Sequence[Prediction | NotFinite]:
        """The same, but NotFinite in place of a prediction, or of a state, that overflows float32."""
        predictions, whole = self._predict(instances)
        if all(map(_is_finite, whole)):
            return predictions
        error = NotFinite(f"The prediction overflows float32: the values are too large for {self.spec}.")
        return [each if all(map(_is_finite, (*each.outputs, *each.state))) else error for each in predictions]

    def feeds(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """The graph's inputs by name, for a graph that takes whole sequences."""
        spec = self.spec
        input = batch.input if spec.input.batch_axis == 0 else np.ascontiguousarray(batch.input.swapaxes(0, 1))
        feeds: dict[str, NDArray[Any]] = {spec.input.name: input, **self._constants}
        if spec.lengths is not None:
            feeds[spec.lengths.name] = batch.lengths.astype(spec.lengths.type, copy=False)
        feeds.update((state.input, array) for state, array in zip(spec.states, batch.states, strict=True))
        return feeds

    def run(self, feeds: dict[str, NDArray[Any]]) -> list[Array]:
        """What the graph returns: the outputs and then the states, in the manifest's order."""
        return [np.asarray(array) for array in self._session.run(self._outputs, feeds)]

    def _predict(self, instances: Sequence[Instance]) -> tuple[list[Prediction], list[Array]]:
        """Predictions, and the arrays that they are views of."""
        if self._any_company or len(instances) == 1:
            return self._run_together(instances)
        predictions: dict[int, Prediction] = {}
        whole = []
        for group in _groups([len(each) for each in instances], self.spec):
            some, arrays = self._run_together([instances[index] for index in group])
            predictions.update(zip(group, some, strict=True))
            whole += arrays
        return [predictions[index] for index in range(len(instances))], whole

    def _run_together(self, instances: Sequence[Instance]) -> tuple[list[Prediction], list[Array]]:
        spec = self.spec
        batch = Batch.collate(instances, spec.states)
        if spec.stepwise:
            return self._run_steps(batch)
        arrays = self.run(self.feeds(batch))
        count = len(spec.outputs)
        return batch.split(arrays[:count], arrays[count:], outputs=spec.outputs, states=spec.states), arrays

    def _run_steps(self, batch: Batch) -> tuple[list[Prediction], list[Array]]:
        """A run for each step, of those sequences that have so many."""
        spec = self.spec
        size, longest, _ = batch.input.shape
        outputs = [np.zeros((size, longest, *output.width), np.float32) for output in spec.outputs]
        states = [np.copy(array) for array in batch.states]
        for time in range(longest):
            live = np.flatnonzero(batch.lengths > time)
            feeds: dict[str, NDArray[Any]] = {spec.input.name: batch.input[live, time], **self._constants}
            feeds.update((s.input, array.take(live, s.batch_axis)) for s, array in zip(spec.states, states, strict=True))
            arrays = self.run(feeds)
            answers = [batch_first(array, output) for output, array in zip(spec.outputs, arrays, strict=False)]
            ends = [rows(array, state.batch_axis) for state, array in zip(spec.states, arrays[len(outputs) :], strict=True)]
            if wrong := next((len(part) for part in (*answers, *ends) if len(part) != len(live)), None):
                raise ValueError(f"the graph of {spec} answers {wrong} rows to a batch of {len(live)}")  # NumPy would repeat one
            for found, part in zip(outputs, answers, strict=True):
                found[live, time] = part
            for state, kept, part in zip(spec.states, states, ends, strict=True):
                rows(kept, state.batch_axis)[live] = part
        every_step = [output.model_copy(update={"batch_axis": 0, "time_axis": 1, "shape": output.width}) for output in spec.outputs]
        return batch.split(outputs, states, outputs=every_step, states=spec.states), [*outputs, *states]

    def _check_signature(self) -> None:
        """BadArtifact unless the graph has the tensors of the manifest, each of its type and number of axes."""
        spec = self.spec
        inputs = {spec.input.name: ("float32", 2 if spec.stepwise else 3)}
        if spec.lengths is not None:
            inputs[spec.lengths.name] = (spec.lengths.type, 1)
        inputs |= {name: (str(value.dtype), value.ndim) for name, value in self._constants.items()}
        inputs |= {state.input: ("float32", len(state.shape) + 1) for state in spec.states}
        outputs = {each.name: ("float32", len(each.shape) + (1 if each.time_axis is None else 2)) for each in spec.outputs}
        outputs |= {state.output: ("float32", len(state.shape) + 1) for state in spec.states}
        has = {node.name for node in self._session.get_inputs()}
        if has != set(inputs):
            raise BadArtifact(f"The inputs of the graph are {sorted(has)}; the manifest of {spec} says {sorted(inputs)}.")
        given = {node.name: node for node in self._session.get_outputs()}
        if missing := set(outputs) - set(given):
            raise BadArtifact(
                f"The outputs of the graph are {sorted(given)}; the manifest of {spec} has {', '.join(sorted(missing))} too."
            )
        given.update((node.name, node) for node in self._session.get_inputs())
        for name, (type, rank) in (inputs | outputs).items():
            node = given[name]
            if node.type != _TYPES[type] or (node.shape and len(node.shape) != rank):
                raise BadArtifact(
                    f"{name} is a {node.type} of {len(node.shape)} axes in the graph; the manifest of {spec} says {type}, {rank}."
                )


_TYPES = {
    "bool": "tensor(bool)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}


def _groups(lengths: Sequence[int], spec: ModelSpec) -> list[list[int]]:
    """Which of these may run together, by their places."""
    alike: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        alike.setdefault(0 if spec.ragged else length, []).append(index)
    most = spec.max_batch_size or len(lengths)
    return [same[begin : begin + most] for same in alike.values() for begin in range(0, len(same), most)]


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
        return None, f"{spec} has no graph for CUDA: ONNX Runtime would run nodes of the one it has on the CPU in silence"
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
