"""Computes each batch on the execution provider that finishes it sooner, and reports which provider is in use and why.

Owns the model's graphs: always the one on the CPU, and the one on CUDA if it was asked for and works. When CUDA fails, the CPU
computes the same batch, so that no request is lost, and the reason is kept. Knows nothing of queues or HTTP. Thread-safe;
computing releases the GIL.
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
Alone = Callable[[], AbstractContextManager[None]]  # a block that only one process of the service is in: warm-up on the GPU

TIMES = 3  # runs to time a batch
AGAIN = (1.0, 60.0)  # seconds before CUDA is tried again: after the first failure, and at most; the wait doubles each time


@dataclass(frozen=True, slots=True)
class Provider:
    """The device that was asked for, the execution provider in use, and why they differ if they do."""

    requested: Device
    in_use: str
    fallback_reason: str | None = None


class Engine:
    """One model version, ready to predict. `threads`: how many one call of `predict` may use on the CPU."""

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
        """Open the version in `folder`; raises BadArtifact when its graphs are not what the manifest says,
        ProviderUnavailable when `device` is cuda and CUDA cannot be used."""
        self.spec = spec
        self.on_change: Callable[[Provider], None] = lambda _: None  # called when `provider` has changed, from any thread
        self._clock = clock
        self._any_company = spec.ragged and spec.max_batch_size is None
        runtime = runtime or Runtime()
        if CPU not in spec.graphs:
            raise BadArtifact(f"{spec} has graphs for {', '.join(spec.graphs)} only, none for {CPU}.")
        self._cpu = runner_of(spec, runtime.cpu(folder / spec.graphs[CPU], threads=threads), CPU)
        self._cuda: Runner | None = None
        self._tries = 0  # consecutive failures of CUDA
        self._again = -inf  # when CUDA may be tried again
        self._changing = Lock()  # guards these two and `provider`
        self.provider = Provider(device, CPU)
        if device != "cpu":
            try:
                self._cuda = _on_cuda(spec, folder, runtime)
                self.provider = Provider(device, CUDA)
            except ProviderUnavailable as error:
                if device == "cuda" or runtime.expects_gpu:  # else this machine has no GPU: the CPU is no fallback
                    self.lose_cuda(str(error))

    @property
    def runners(self) -> tuple[Runner, ...]:
        """One runner for each provider that a batch may go to."""
        return (self._cpu,) if self._cuda is None else (self._cpu, self._cuda)

    def runs_on_cpu(self, size: int, steps: int) -> bool:
        """Whether a batch of `size` instances, the longest of `steps` steps, would go to the CPU now."""
        cuda = self._cuda
        return cuda is None or self._cpu_is_sooner(cuda, size, steps)

    def lose_cuda(self, reason: str) -> None:
        """Stop using CUDA for good; raises ProviderUnavailable if the device asked for is cuda."""
        if self.provider.requested == "cuda":
            raise ProviderUnavailable(f"The device asked for is cuda, but {reason}. With auto or cpu it runs on the CPU.")
        if self._cuda is not None:
            self._cuda.close()
        self._cuda = None
        self._change_provider(Provider(self.provider.requested, CPU, reason))

    def close(self) -> None:
        """Free all resources; the engine is not used again."""
        for runner in self.runners:
            runner.close()

    def predict(self, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances: one or more, of any lengths that the model takes, with or without states.

        They run as one batch if the model takes different lengths and any batch size, else as one batch for each group that fits.
        """
        return self._predict(instances, self._run)[0]

    def answer(self, instances: Sequence[Instance]) -> Sequence[Prediction | NotFinite]:
        """Like `predict`, but with NotFinite in place of a prediction whose outputs or state overflow float32."""
        predictions, whole = self._predict(instances, self._run)
        if all(map(is_finite, whole)):
            return predictions
        error = NotFinite(f"The prediction overflows float32: the values are too large for {self.spec}.")
        return [each if all(map(is_finite, (*each.outputs, *each.state))) else error for each in predictions]

    def predict_on(self, runner: Runner, instances: Sequence[Instance]) -> list[Prediction]:
        """Predictions in the order of the instances, by this runner; raises what the runner raises."""
        return self._predict(instances, runner.predict)[0]

    def warm_up(self, batches: Sequence[Sequence[Instance]], *, alone: Alone = nullcontext) -> list[float]:
        """Run these batches on every provider, to prepare and to time them; return the fewest seconds of each batch.

        If CUDA fails, it is not used any more. CUDA is timed within `alone`.
        """
        fewest = [inf] * len(batches)
        for runner in self.runners:
            try:
                with nullcontext() if runner.provider == CPU else alone():
                    runner.prepare(max(map(len, batches)))
                    seconds = [self._timed(runner, batch) for batch in batches]
            except Exception as error:  # from ONNX Runtime: most likely the GPU is out of memory
                if runner.provider == CPU:
                    raise
                self.lose_cuda(f"CUDA could not be made ready: {' '.join(str(error).split())}")
            else:
                fewest = [*map(min, fewest, seconds)]
        return fewest

    def _timed(self, runner: Runner, batch: Sequence[Instance]) -> float:
        """Seconds that the batch takes on this runner after a first run; the runner learns them."""
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
        """Run the batch on the provider that is faster for it now; on the CPU if CUDA fails."""
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
        """Count a failure of CUDA. `tries`: the failures when this run began: runs that fail together are counted once."""
        with self._changing:
            if self._tries != tries:
                return
            first, most = AGAIN
            wait = min(first * 2 ** min(tries, 32), most)  # a lost device may fail for days, and 2**1024 overflows a float
            self._again = self._clock() + wait
            self._tries += 1  # after `_again`: a thread that sees the new count must not try earlier
            reason = f"CUDA failed, and is tried again after {wait:.0f} s: {' '.join(str(error).split())}"
            self._change_provider(Provider(self.provider.requested, CPU, reason))

    def _recovered(self, tries: int) -> None:
        """Note that CUDA works again, unless another run has failed meanwhile."""
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
    """A runner on CUDA; raises ProviderUnavailable, which says why there can be none."""
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
    """The runner for this graph; raises BadArtifact unless it has the manifest's tensors, with their types and numbers of axes."""
    kind = Stepwise if spec.stepwise else Whole if chunk_of(spec, session) is None else Chunked
    return kind(spec, session, provider)


def _groups(lengths: Sequence[int], spec: ModelSpec) -> list[list[int]]:
    """Groups of instances that may run together, as their indices."""
    alike: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        alike.setdefault(0 if spec.ragged else length, []).append(index)
    most = spec.max_batch_size or len(lengths)
    return [same[begin : begin + most] for same in alike.values() for begin in range(0, len(same), most)]
