"""ONNX Runtime: opens a graph in a session on one execution provider, or gives the reason why that provider cannot be used.

The only module that imports onnxruntime. Owns how sessions are opened, where their buffers are and which thread uses them.
Knows nothing of models, batches or what to do without a GPU. Computing releases the GIL.

One thread does everything on CUDA. ONNX Runtime keeps a recorded CUDA graph for the thread that recorded it: another thread
would record it again, in runs that advance the states several times. And while one thread records, CUDA refuses the work of all
others (seen with 1.31 on an H200: error 900).
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

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # since 1.29 ONNX Runtime sends telemetry unless this is set before the import
import onnxruntime as ort

from app import gpu
from app.errors import BadArtifact, ProviderUnavailable

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
VERSION: str = ort.__version__

CUDA_OPTIONS = {
    "use_tf32": "0",  # TF32 is on by default, and keeps 3 digits of 7
    "arena_extend_strategy": "kSameAsRequested",
}

AnyArray = NDArray[Any]
T = TypeVar("T")


class Bound:
    """Buffers on the device for inputs and outputs of one shape, and the graph bound to them. For use in `Session.perform`.

    A carried state has one buffer as input and output: the next run starts where the last one ended. The graph must read this
    buffer before it writes it; a graph that does not gives wrong answers, which the golden sample detects.
    """

    def __init__(
        self, session: "Session", inputs: Mapping[str, AnyArray], outputs: Mapping[str, AnyArray], carried: Mapping[str, str]
    ):
        """Allocate buffers as large as these arrays. `carried`: an input's name -> the output that shares its buffer.

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
        self.run()  # if recorded, the first run computes several times, so its states must not be used

    def write(self, name: str, array: AnyArray) -> None:
        self._values[name].update_inplace(np.ascontiguousarray(array))

    def read(self, name: str) -> AnyArray:
        """A copy of the buffer's content."""
        return np.array(self._values[name].numpy())

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding, self._options)


class Session:
    """One graph on one execution provider. `recorded`: a Bound records its runs as a CUDA graph and replays it."""

    def __init__(self, raw: ort.InferenceSession, device: Literal["cpu", "cuda"], *, recorded: bool = False) -> None:
        self.raw, self.device, self.recorded = raw, device, recorded
        self.inputs = {node.name: node for node in raw.get_inputs()}
        self.outputs = {node.name: node for node in raw.get_outputs()}
        self.numbers = count(1)
        self._lock = Lock()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
        """The outputs of these names; raises what ONNX Runtime raises. Any thread may call it."""
        if self.device == "cuda":
            return self.perform(lambda: self._run(outputs, feeds))
        return self._run(outputs, feeds)

    def _run(self, outputs: Sequence[str], feeds: Mapping[str, AnyArray]) -> list[AnyArray]:
        return [*map(np.asarray, self.raw.run(outputs, feeds))]

    def bound(self, inputs: Mapping[str, AnyArray], outputs: Mapping[str, AnyArray], carried: Mapping[str, str]) -> Bound:
        """New buffers; for use in `perform`."""
        return Bound(self, inputs, outputs, carried)

    def close(self) -> None:
        """Free the memory on the device; the session is not used again."""
        self.perform(self._free)

    def _free(self) -> None:
        self.inputs, self.outputs = {}, {}  # each node keeps the whole session in memory
        self.raw = None

    def perform(self, work: Callable[[], T]) -> T:
        """The result of `work`, which runs where this session's buffers may be used, with nothing else using them meanwhile."""
        if self.device == "cuda":
            return _on_cuda_thread(work)
        with self._lock:
            return work()


class Runtime:
    """The installed ONNX Runtime. `driver`: NVIDIA's driver library; None: this machine's."""

    def __init__(self, driver: Any = None) -> None:
        self._driver = driver
        self.expects_gpu = driver is not None or gpu.has_driver()

    def cpu(self, path: Path, *, threads: int) -> Session:
        """A session on the CPU; raises BadArtifact when the file is not a graph that runs. `threads`: how many one run may use."""
        try:
            return Session(_open(path, threads, [CPU]), "cpu")
        except Exception as error:  # ONNX Runtime raises its own and built-in types
            raise BadArtifact(f"ONNX Runtime cannot open {path.name}: {error}") from error

    def cuda(self, path: Path, *, record: bool = False) -> Session:
        """A session that really is on CUDA; raises ProviderUnavailable with the reason if there is none. `record`: see Session."""
        if (reason := self._obstacle()) is not None:
            raise ProviderUnavailable(reason)
        options = CUDA_OPTIONS | {"enable_cuda_graph": str(int(record))}
        try:
            raw = _on_cuda_thread(lambda: _open(path, 1, [(CUDA, options), CPU]))
        except Exception as error:  # as above; every one of them means: no CUDA
            raise ProviderUnavailable(f"CUDA could not be started: {error}") from error
        if CUDA not in raw.get_providers():  # ONNX Runtime only logs that it failed
            raise ProviderUnavailable("ONNX Runtime could not start its CUDA provider")
        return Session(raw, "cuda", recorded=record)

    def _obstacle(self) -> str | None:
        """The reason why CUDA cannot be used, or None; also loads CUDA's libraries, when no reason was found before."""
        if CUDA not in ort.get_available_providers():
            return "the installed ONNX Runtime is built without CUDA (install onnxruntime-gpu)"
        major = int(ort.cuda_version.split(".")[0])
        if (reason := gpu.obstacle(major, self._driver)) is not None:
            return reason
        with _loading, redirect_stdout(StringIO()):  # preload_dlls prints which libraries it does not find
            ort.preload_dlls()
        try:
            ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"))
        except OSError as error:
            return (
                f"a library that CUDA needs cannot be loaded: {error}. "
                f"pip install 'onnxruntime-gpu[cuda,cudnn]' brings those of CUDA {major}"
            )
        return None


_loading = Lock()  # redirecting stdout concerns all threads


_cuda_thread = ThreadPoolExecutor(1, thread_name_prefix="cuda")  # the thread starts with the first work


def _on_cuda_thread(work: Callable[[], T]) -> T:
    def done() -> T:
        try:
            return work()
        except Exception as error:
            clear_frames(error.__traceback__)  # else the thread that gets the error would free what the frames hold on the device
            raise

    return _cuda_thread.submit(done).result()


def _open(path: Path, threads: int, providers: Sequence[Any]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal only: failures are raised, and this module checks and reports what else matters
    # enable_fallback: when a provider fails, ONNX Runtime would switch to the CPU by itself, for good, and print that.
    return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
