"""A fake GPU that tests control: its graphs run on the CPU, and it refuses to start or fails when a test says so."""

from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import Any

from numpy.typing import NDArray

from app.errors import ProviderUnavailable
from app.runtime import Bound, Runtime, Session


class Driver:
    """NVIDIA's driver library, with these answers."""

    def __init__(self, *, code: int = 0, gpus: int = 1, version: int = 13000) -> None:
        self.code, self.gpus, self.version = code, gpus, version

    def cuInit(self, _: int) -> int:  # the library's own name
        return self.code

    def cuDeviceGetCount(self, number: Any) -> int:
        number._obj.value = self.gpus
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = self.version
        return 0


class Management:
    """NVIDIA's management library, for GPUs with `memories` bytes each; None: a GPU that does not report its memory."""

    def __init__(self, *memories: int | None, code: int = 0) -> None:
        self.memories, self.code = memories, code
        self.open = 0

    def nvmlInit_v2(self) -> int:  # the library's own names
        self.open += not self.code
        return self.code

    def nvmlShutdown(self) -> int:
        self.open -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, number: Any) -> int:
        number._obj.value = len(self.memories)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        device._obj.value = 1000 + index.value
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, its: Any) -> int:
        if (total := self.memories[device.value - 1000]) is None:
            return 3  # not supported
        its._obj.total = total
        return 0


class FakeCuda(Runtime):
    """CUDA sessions that run on the CPU. `refuses`: why CUDA is not available; `trouble`: what every run raises while set."""

    def __init__(self, *, refuses: str | None = None) -> None:
        super().__init__(driver=Driver())
        self.refuses = refuses
        self.trouble: Exception | None = None
        self.delay = 0.0  # seconds added to every run
        self.runs = 0  # of graphs, including failed ones
        self.sessions: list[Session] = []  # all that were opened

    def cuda(self, path: Path, *, record: bool = False) -> Session:  # noqa: ARG002  # the CPU records nothing
        if self.refuses is not None:
            raise ProviderUnavailable(self.refuses)
        session = Unsteady(self.cpu(path, threads=1).raw, "cpu")
        session.runtime = self
        self.sessions.append(session)
        return session

    def step(self) -> None:
        self.runs += 1
        sleep(self.delay)
        if self.trouble is not None:
            raise type(self.trouble)(*self.trouble.args)  # a new error each time: one that is kept would keep its frames


class Unsteady(Session):
    """A session whose runs are delayed or fail as its `FakeCuda` says."""

    runtime: FakeCuda

    def run(self, outputs: Any, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.runtime.step()
        return super().run(outputs, feeds)

    def bound(self, inputs: Any, outputs: Any, carried: Mapping[str, str]) -> Bound:
        return UnsteadyBound(self, inputs, outputs, carried)


class UnsteadyBound(Bound):
    def __init__(self, session: Unsteady, inputs: Any, outputs: Any, carried: Mapping[str, str]) -> None:
        self._step = session.runtime.step
        super().__init__(session, inputs, outputs, carried)

    def run(self) -> None:
        self._step()
        super().run()
