"""ONNX Runtime: a graph in a session on one execution provider, and the reason where that provider cannot be had.

The only module that imports onnxruntime. Owns how sessions are opened, where their buffers lie and which thread touches them.
Knows nothing of models, batches or what is done when there is no GPU. What computes releases the GIL.

Everything on CUDA is done by one thread. ONNX Runtime keeps a recorded CUDA graph for the thread that recorded it: any other
would record it anew, in runs that advance the states several times. And while one thread records, CUDA allows no other to do
anything (seen with 1.31 on an H200: error 900).
"""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from itertools import count
from pathlib import Path
from threading import Lock
from traceback import clear_frames
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # since 1.29 it reports to its maker unless told not to before it is imported
import onnxruntime as ort

from app import gpu
from app.errors import BadArtifact, ProviderUnavailable

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

CUDA_OPTIONS = {
    "use_tf32": "0",  # which is the default where it is not said; it keeps 3 digits of 7
    "arena_extend_strategy": "kSameAsRequested",
}

AnyArray = NDArray[Any]
T = TypeVar("T")


class Bound:
    """Buffers for the inputs and outputs of one shape, on the device, and the work between them. For use in `Session.perform`.

    A state that is carried on has one buffer for what enters and what leaves: the next run starts where the last one ended. The
    graph must have read it before it writes it; one that does not answers wrongly, as the golden sample shows.
    """

    def __init__(
        self, session: "Session", inputs: Mapping[str, AnyArray], outputs: Mapping[str, AnyArray], carried: Mapping[str, str]
    ):
        """Take buffers as large as these arrays; `carried`: the output by which an input leaves.

        Raises what ONNX Runtime raises.
        """
        self._session = session.raw
        place = session.device
        self._values = {name: ort.OrtValue.ortvalue_from_numpy(array, place, 0) for name, array in {**inputs, **outputs}.items()}
        self._binding = self._session.io_binding()
        for name in inputs:
            self._binding.bind_ortvalue_input(name, self._values[name])
        for name in outputs:
            self._binding.bind_ortvalue_output(name, self._values[name])
        for enters, leaves in carried.items():
            self._binding.bind_ortvalue_output(leaves, self._values[enters])
        self._options = ort.RunOptions()
        if session.recorded:
            self._options.add_run_config_entry("gpu_graph_id", str(next(session.numbers)))
        self.run()  # where it is recorded, this one computes several times: what it leaves in the states is not to be used

    def write(self, name: str, array: AnyArray) -> None:
        self._values[name].update_inplace(np.ascontiguousarray(array))

    def read(self, name: str) -> AnyArray:
        """A copy of what is there."""
        return np.array(self._values[name].numpy())

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)


class Session:
    """One graph on one execution provider. `recorded`: what is bound is recorded as a CUDA graph, and replayed."""

    def __init__(self, raw: ort.InferenceSession, device: Literal["cpu", "cuda"], *, recorded: bool = False) -> None:
        self.raw, self.device, self.recorded = raw, device, recorded
        self.inputs = {node.name: node for node in raw.get_inputs()}
        self.outputs = {node.name: node for node in raw.get_outputs()}
        self.numbers = count(1)
        self._lock = Lock()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
        """The outputs of these names; raises what ONNX Runtime raises. For any thread."""
        if self.device == "cuda":
            return self.perform(lambda: self._run(outputs, feeds))
        return self._run(outputs, feeds)

    def _run(self, outputs: Sequence[str], feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
        return [*map(np.asarray, self.raw.run(outputs, feeds))]

    def bound(self, inputs: Mapping[str, AnyArray], outputs: Mapping[str, AnyArray], carried: Mapping[str, str]) -> Bound:
        """New buffers; for use in `perform`."""
        return Bound(self, inputs, outputs, carried)

    def close(self) -> None:
        """Free the memory on the device; it is not used again."""
        self.perform(self._free)

    def _free(self) -> None:
        self.inputs, self.outputs = {}, {}  # each of them keeps all of the session
        self.raw = None

    def perform(self, work: Callable[[], T]) -> T:
        """What this returns, done where this session's buffers may be touched, and by nobody else meanwhile."""
        if self.device == "cuda":
            return _on_cuda_thread(work)
        with self._lock:
            return work()


class Runtime:
    """The ONNX Runtime that is installed. `driver`: NVIDIA's library, None for that of this machine."""

    def __init__(self, driver: Any = None) -> None:
        self._driver = driver
        self.expects_gpu = driver is not None or gpu.has_driver()

    def cpu(self, path: Path, *, threads: int) -> Session:
        """Raises BadArtifact where the file is not a graph that runs. `threads`: that one run may use."""
        try:
            return Session(_open(path, threads, [CPU]), "cpu")
        except Exception as error:  # ONNX Runtime raises its own and built-in types
            raise BadArtifact(f"ONNX Runtime cannot open {path.name}: {error}") from error

    def cuda(self, path: Path, *, record: bool = False) -> Session:
        """A session that really is on CUDA; ProviderUnavailable says why there is none. `record`: as Session has it."""
        if (reason := self._obstacle()) is not None:
            raise ProviderUnavailable(reason)
        options = CUDA_OPTIONS | {"enable_cuda_graph": str(int(record))}
        try:
            raw = _on_cuda_thread(lambda: _open(path, 1, [(CUDA, options), CPU]))
        except Exception as error:  # as above; every one of them means: no CUDA
            raise ProviderUnavailable(f"CUDA could not be started: {error}") from error
        if CUDA not in raw.get_providers():  # it only logs that
            raise ProviderUnavailable("ONNX Runtime could not start its CUDA provider")
        return Session(raw, "cuda", recorded=record)

    def _obstacle(self) -> str | None:
        """What is known to stand in the way of CUDA; its libraries are loaded when nothing does."""
        if CUDA not in ort.get_available_providers():
            return "the installed ONNX Runtime is built without CUDA (install onnxruntime-gpu)"
        major = int(ort.cuda_version.split(".")[0])
        if (reason := gpu.obstacle(major, self._driver)) is not None:
            return reason
        with _loading, redirect_stdout(StringIO()):  # it prints what it does not find
            ort.preload_dlls()
        try:
            ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
        except OSError as error:
            return (
                f"a library that CUDA needs cannot be loaded: {error}. "
                f"pip install 'onnxruntime-gpu[cuda,cudnn]' brings those of CUDA {major}"
            )
        return None


_loading = Lock()  # stdout is everyone's


_cuda_thread = ThreadPoolExecutor(1, thread_name_prefix="cuda")  # which starts when there is work for it


def _on_cuda_thread(work: Callable[[], T]) -> T:
    def done() -> T:
        try:
            return work()
        except Exception as error:
            clear_frames(error.__traceback__)  # else what they hold of the device is freed by the thread that gets the error
            raise

    return _cuda_thread.submit(done).result()


def _open(path: Path, threads: int, providers: Sequence[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal; what fails is raised, and what matters of the rest is checked and reported here
    # Where a provider fails it would go on with the CPU of its own accord, for good, and print that.
    return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
