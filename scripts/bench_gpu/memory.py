"""Takes the GPU's memory away from a running service, which must go on, report it, and return to the GPU.

Owns the order of events and what must be true at each. Knows nothing of who takes the memory. The model is the one whose
graph needs more memory for larger batches; the committed model's graph takes all that it needs at the start.
"""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from app.manifest import Tolerance
from app.runtime import CPU, CUDA
from app.tensors import Instance
from scripts.bench import scenarios, servers
from scripts.bench_gpu import child, grid, hog, state
from scripts.bench_gpu.child import Job, Result
from scripts.bench_gpu.sides import Sides

LEFT = 40  # MiB
SMALL, LARGE = (256, 32), (256, 500)  # instances and steps: the largest batch at the service's start; the largest that it makes
RECOVERY = 30.0  # seconds, at most

Holding = Callable[[], AbstractContextManager[dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Request:
    """A batch and its expected answer: that of the CPU in this process, or an earlier one of the service."""

    body: bytes
    expected: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
    tolerance: Tolerance

    @classmethod
    def of(cls, sides: Sides, size: int, steps: int) -> "Request":
        drawn = sides.drawn([steps] * size, seed=size)
        sequences = [each.steps.astype(float).round(3).tolist() for each in drawn]
        answers = sides.cpu.predict([Instance(np.array(each, np.float32)) for each in sequences])
        body = json.dumps({"instances": sequences}).encode()
        return cls(body, [each.output for each in answers], sides.cpu.engine.spec.tolerance)

    def as_answered(self, port: int) -> "Request":
        """The same batch, with the service's present answer as the expected one; `port`: the service's."""
        answers = state.predicted(port, self.body)["predictions"]
        return replace(self, expected=[np.array(each, np.float32) for each in answers])

    def ask(self, port: int) -> tuple[str, float]:
        """The provider that answered, and how far its answer is from what is expected, in tolerances."""
        answer = state.predicted(port, self.body)
        return answer["provider"], self._difference(answer["predictions"])

    def _difference(self, predictions: Sequence[Any]) -> float:
        worst = 0.0
        for got, expected in zip(predictions, self.expected, strict=True):
            array = np.array(got, np.float64)
            if array.shape != expected.shape or not np.isfinite(array).all():
                return float("inf")
            allowed = self.tolerance.atol + self.tolerance.rtol * np.abs(expected)
            worst = max(worst, float((np.abs(array - expected) / allowed).max()))
        return worst


def measure(job: Job) -> Result:
    """Serve both models, take the memory away, and give it back."""
    folders = {title: grid.folders(job)[title] for title in (grid.AFTER, grid.REFERENCE)}
    sides = {title: Sides.open(folder, "cpu") for title, folder in folders.items()}
    with ExitStack() as stack:
        ports = {}
        for title, folder in folders.items():
            child.say(f"{title}: the service starts")
            spec = sides[title].cpu.engine.spec
            first = scenarios.body(len(spec.features), 1)
            server = stack.enter_context(servers.service(folder, spec, first, "--device", "cuda", "--workers", "1"))
            ports[title] = server.port
        small, large = (Request.of(sides[grid.AFTER], *each) for each in (SMALL, LARGE))
        other = Request.of(sides[grid.REFERENCE], *SMALL).as_answered(ports[grid.REFERENCE])
        return watched(small, large, ports[grid.AFTER], lambda: hog.holding(LEFT), other=(other, ports[grid.REFERENCE]))


def watched(
    small: Request,
    large: Request,
    port: int,
    holding: Holding,
    *,
    other: tuple[Request, int] | None = None,
    patience: float = RECOVERY,
) -> Result:
    """What the service at `port` did before, while and after the memory was held, and what was wrong with it.

    `small` needs no more memory than the service has, `large` more than is left. `other`: a request to a second service, which
    takes all its memory at its start, and that service's port. `patience`: seconds within which the GPU must be in use again.
    """
    events: list[Result] = []
    faults: list[str] = []

    def ask(when: str, what: str, request: Request, at: int = port) -> None:
        child.say(f"{when}: {what}")
        provider, tolerances = request.ask(at)
        health = state.health(at)
        events.append({"when": when, "what": what, "provider": provider, "tolerances": tolerances, **asdict(health)})
        if tolerances > 1:
            faults.append(f"{when}, {what}: {tolerances:.3g} times the tolerance from what must be answered")

    def must(held: bool, text: str) -> None:
        if not held:
            faults.append(text)

    ask("before", "a batch as at its start", small)
    must(events[-1]["provider"] == CUDA and events[-1]["status"] == "ok", "it did not run on CUDA to begin with")
    with holding() as memory:
        ask("memory gone", "a batch that needs more than is left", large)
        must(events[-1]["provider"] == CPU, "the batch that needs more than is left did not run on the CPU")
        must(events[-1]["status"] == "degraded" and bool(events[-1]["reason"]), "/health did not say degraded, and why")
        ask("memory gone", "a batch as at its start", small)
        if other is not None:
            ask("memory gone", "the committed model, all of whose memory was taken at its start", *other)
    child.say("memory back: until /health says ok")
    begin, back = perf_counter(), None
    while back is None and perf_counter() - begin < patience:
        large.ask(port)
        if state.health(port).status == "ok":
            back = perf_counter() - begin
    must(back is not None, f"/health did not say ok within {patience:g} s")
    ask("memory back", "the large batch again", large)
    must(events[-1]["provider"] == CUDA, "the large batch did not run on CUDA when there was memory again")
    return {"memory": memory, "events": events, "recovered_seconds": back, "faults": faults}


if __name__ == "__main__":
    sys.exit(child.answer(measure))
