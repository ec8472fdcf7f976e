"""Computes batches, each on the execution provider that is done with it sooner, and says which one is in use and why.

Owns the model's graphs on the providers that there are: the CPU's always, and CUDA's where it was asked for and can be had. What
CUDA cannot compute the CPU does, nothing is lost, and the reason is known. Knows nothing of queues or HTTP. Thread-safe; what
computes releases the GIL.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Lock
from time import monotonic, perf_counter
from typing import Literal

from app.chunked import Chunked, chunk_of
from app.errors import BadArtifact, NotFinite, ProviderUnavailable
from app.gpu import NO_DRIVER
from app.manifest import ModelSpec
from app.runner import Computed, Runner, Stepwise, Whole
from app.runtime import CPU, CUDA, Runtime, Session
from app.tensors import Array, Batch, Instance, Prediction, is_finite

log = logging.getLogger(__name__)

Device = Literal["auto", "cuda", "cpu"]
Alone = Callable[[], AbstractContextManager[None]]  # within it no other process of the service uses the GPU for this

TIMES = 3  # that a batch is timed
AGAIN = (1.0, 60.0)  # seconds after which CUDA is tried again: the first time, and at most


@dataclass(frozen=True, slots=True)
class Provider:
    """What was asked for, what is in use, and why they differ when they do."""

    requested: Device
    in_use: str
    fallback_reason: str | None = None


class Engine:
    """One model version, ready to predict. `threads` is what one call of `predict` may use on the CPU."""

    def __init__(
        self,
        spec: ModelSpec,
        folder: Path,
        *,
        device: Device = "auto",
        threads: int = 1,
        runtime: Runtime | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Open the version in `folder`; BadArtifact when its graphs are not what the manifest says,
        ProviderUnavailable when `device` is cuda and CUDA cannot be had."""
        self.spec = spec
        self.on_change: Callable[[Provider], None] = lambda _: None  # called, by any thread, when `provider` has changed
        self._clock = clock
        self._any_company = spec.ragged and spec.max_batch_size is None
        runtime = runtime or Runtime()
        if CPU not in spec.graphs:
            raise BadArtifact(f"{spec} has graphs for {', '.join(spec.graphs)} only, none for {CPU}.")
        self._cpu = runner_of(spec, runtime.cpu(folder / spec.graphs[CPU], threads=threads), CPU)
        self._cuda: Runner | None = None
        self._tries = 0  # of CUDA that failed, one after the other
        self._again = -inf  # when it may be tried again
        self._changing = Lock()  # for these two, and what is said of them
        self.provider = Provider(device, CPU)
        if device != "cpu":
            try:
                self._cuda = _on_cuda(spec, folder, runtime)
                self.provider = Provider(device, CUDA)
            except ProviderUnavailable as error:
                if device == "cuda" or runtime.expects_gpu:  # else nothing was lost: this machine has no GPU
                    self.lose_cuda(str(error))

    @property
    def runners(self) -> tuple[Runner, ...]:
        """One for each provider that a batch may go to."""
        return (self._cpu,) if self._cuda is None else (self._cpu, self._cuda)

    def runs_on_cpu(self, size: int, steps: int) -> bool:
        """Whether the CPU computes a batch of `size` instances, the longest of `steps` steps, as things are now."""
        cuda = self._cuda
        return cuda is None or self._cpu_is_sooner(cuda, size, steps)

    def lose_cuda(self, reason: str) -> None:
        """Do without CUDA from now on; ProviderUnavailable where that was not to be."""
        if self.provider.requested == "cuda":
            raise ProviderUnavailable(f"The device asked for is cuda, but {reason}. With auto or cpu it runs on the CPU.")
        if self._cuda is not None:
            self._cuda.close()
        self._cuda = None
        self._change_provider(Provider(self.provider.requested, CPU, reason))

    def close(self) -> None:
        """Free what it holds; it is not used again."""
        for runner in self.runners:
            runner.close()

    def predict(self, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances: one or more, of any lengths that the model takes, with or without states.

        The graph runs as often as it must: once for all where it takes sequences of different lengths.
        """
        return self._predict(instances, self._run)[0]

    def answer(self, instances: Sequence[Instance]) -> Sequence[Prediction | NotFinite]:
        """Predictions in the order of the instances; NotFinite in the place of one that overflows float32, or whose state does."""
        predictions, whole = self._predict(instances, self._run)
        if all(map(is_finite, whole)):
            return predictions
        error = NotFinite(f"The prediction overflows float32: the values are too large for {self.spec}.")
        return [each if all(map(is_finite, (*each.outputs, *each.state))) else error for each in predictions]

    def predict_on(self, runner: Runner, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances, by this runner, whatever it costs; raises what goes wrong there."""
        return self._predict(instances, runner.predict)[0]

    def warm_up(self, batches: Sequence[Sequence[Instance]], *, alone: Alone = nullcontext) -> list[float]:
        """Run these on every provider, so that each is ready for such and knows what they cost; the fewest seconds of each.

        CUDA is given up where it cannot. What it costs is found out within `alone`.
        """
        fewest = [inf] * len(batches)
        for runner in self.runners:
            try:
                with nullcontext() if runner.provider == CPU else alone():
                    runner.prepare(max(map(len, batches)))
                    seconds = [self._timed(runner, batch) for batch in batches]
            except Exception as error:  # ONNX Runtime's: no memory there, most likely
                if runner.provider == CPU:
                    raise
                self.lose_cuda(f"CUDA could not be made ready: {' '.join(str(error).split())}")
            else:
                fewest = [*map(min, fewest, seconds)]
        return fewest

    def _timed(self, runner: Runner, batch: Sequence[Instance]) -> float:
        """Seconds that this takes there when it has run before, which it learns from."""
        self.predict_on(runner, batch)
        times = []
        for _ in range(TIMES):
            begin = perf_counter()
            self.predict_on(runner, batch)
            times.append(perf_counter() - begin)
        seconds = min(times)
        runner.learn(len(batch), max(map(len, batch)), seconds)
        return seconds

    def _predict(self, instances: Sequence[Instance], run: Callable[[Batch], Computed]) -> Computed:
        if self._any_company or len(instances) == 1:
            return run(Batch.collate(instances, self.spec.states))
        predictions: dict[int, Prediction] = {}
        whole: list[Array] = []
        for group in _groups([len(each) for each in instances], self.spec):
            some, arrays = run(Batch.collate([instances[index] for index in group], self.spec.states))
            predictions.update(zip(group, some, strict=True))
            whole += arrays
        return [predictions[index] for index in range(len(instances))], whole

    def _run(self, batch: Batch) -> Computed:
        """Where it is done soonest, or at all."""
        cuda, tries = self._cuda, self._tries
        if cuda is None:
            return self._cpu.predict(batch)
        if self._cpu_is_sooner(cuda, *batch.input.shape[:2]):
            return self._cpu.timed(batch)
        try:
            answer = cuda.timed(batch)
        except Exception as error:  # ONNX Runtime raises its own and built-in types
            answer = self._cpu.predict(batch)  # if that fails too, the batch is to blame
            self._failed(error, tries)
            return answer
        if tries:
            self._recovered(tries)
        return answer

    def _cpu_is_sooner(self, cuda: Runner, size: int, steps: int) -> bool:
        return self._clock() < self._again or cuda.seconds_now(size, steps) > self._cpu.seconds_now(size, steps)

    def _failed(self, error: Exception, tries: int) -> None:
        """`tries`: those that had failed when this one began. What fails beside it fails for the same reason: it counts once."""
        with self._changing:
            if self._tries != tries:
                return
            first, most = AGAIN
            wait = min(first * 2 ** min(tries, 32), most)  # a device that is lost fails for days: no float holds 2**1024
            self._again = self._clock() + wait
            self._tries += 1  # last: who has seen it may not try before then
            reason = f"CUDA failed, and is tried again after {wait:.0f} s: {' '.join(str(error).split())}"
            self._change_provider(Provider(self.provider.requested, CPU, reason))

    def _recovered(self, tries: int) -> None:
        """Unless another try has failed meanwhile."""
        with self._changing:
            if self._tries == tries:
                self._tries = 0
                self._change_provider(Provider(self.provider.requested, CUDA))

    def _change_provider(self, provider: Provider) -> None:
        self.provider = provider
        if provider.fallback_reason is None:
            log.warning("%s runs on %s again.", self.spec, provider.in_use)
        else:
            log.warning("%s runs on %s: %s", self.spec, provider.in_use, provider.fallback_reason)
        self.on_change(provider)


def _on_cuda(spec: ModelSpec, folder: Path, runtime: Runtime) -> Runner:
    """ProviderUnavailable says why that cannot be."""
    if not runtime.expects_gpu:
        raise ProviderUnavailable(NO_DRIVER)
    if CUDA not in spec.graphs:
        raise ProviderUnavailable(
            f"{spec} has no graph for CUDA: ONNX Runtime would run nodes of the one it has on the CPU in silence"
        )
    path = folder / spec.graphs[CUDA]
    session = runtime.cuda(path)
    try:
        if chunk_of(spec, session) is not None:
            session.close()
            session = runtime.cuda(path, record=True)
        return runner_of(spec, session, CUDA)
    except BadArtifact:
        session.close()
        raise


def runner_of(spec: ModelSpec, session: Session, provider: str) -> Runner:
    """BadArtifact unless the graph has the tensors of the manifest, each of its type and number of axes."""
    kind = Stepwise if spec.stepwise else Whole if chunk_of(spec, session) is None else Chunked
    return kind(spec, session, provider)


def _groups(lengths: Sequence[int], spec: ModelSpec) -> list[list[int]]:
    """Which of these may run together, by their places."""
    alike: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        alike.setdefault(0 if spec.ragged else length, []).append(index)
    most = spec.max_batch_size or len(lengths)
    return [same[begin : begin + most] for same in alike.values() for begin in range(0, len(same), most)]
