"""What the product does, in Python objects: no bytes, no HTTP.

Owns which of the loaded models answers, and to whom each is promised. Knows nothing of wire formats, routes or settings.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, Self

from app.catalog import Catalog
from app.errors import MOST_SHOWN, BadArtifact, ModelNotFound, NotReady, Unavailable
from app.fleet import Fleet
from app.lifecycle import Model
from app.manifest import ModelSpec
from app.orders import VersionPolicy
from app.queue import Ticket
from app.tensors import Instance

log = logging.getLogger(__name__)

Status = Literal["starting", "ok", "degraded", "draining"]

BUSY = 0.01  # seconds of work that wait: then it is worth finding out early who would be refused
LONGEST = 1000  # characters of a reason, in an answer
AGAIN = 1.0  # seconds between two attempts to do what was ordered
EVERYWHERE = 60.0  # seconds that an order may take to reach all workers


class Lease:
    """One request's hold on the models that it chooses: they are not let go before its `with` block ends."""

    __slots__ = ("_held", "_service")

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._held: list[Model] = []

    @property
    def model(self) -> Model:
        """The last one chosen."""
        return self._held[-1]

    def choose(self, name: str | None = None, version: str | None = None) -> ModelSpec:
        """What that model takes; raises what Service.model raises."""
        while True:  # this may be another thread than the one that swaps models
            model = self._service.model(name, version).hold()
            self._held.append(model)
            if self._service.model(name, version) is model:
                return model.spec

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for model in self._held:
            model.release()


@dataclass(slots=True)
class Service:
    """Answers from the models of a catalog."""

    default_model: str
    catalog: Catalog
    fleet: Fleet
    tell_default: Callable[[bool], None] = lambda _served: None  # told whether the default model is served, after every change
    default_trouble: str | None = None  # why a request that names no model cannot be answered, where that is so though others can
    draining: bool = False
    refused_late: int = 0  # instances that were accepted and not come to before the end
    started: float = field(default_factory=monotonic)
    _ready: bool = False  # it has been, once
    _watch: asyncio.Task[None] | None = None
    _carrying_out: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def status(self) -> Status:
        if self.draining:
            return "draining"
        if not self._ready:
            return "starting"
        fallen_back = any(model.engine.provider.fallback_reason for model in self.catalog.loaded)
        return "degraded" if fallen_back or self.catalog.refused or not self.has_default else "ok"

    @property
    def ready(self) -> bool:
        return self.status in ("ok", "degraded")

    def check_ready(self) -> None:
        """NotReady unless predictions are served."""
        if not self.ready:
            raise NotReady(f"The service is {self.status}.")

    @property
    def has_default(self) -> bool:
        """Whether a request may name no model."""
        return self.catalog.find(self.default_model) is not None

    async def load(self, *, poll: float = 0.0) -> None:
        """Load what is to be served; BadArtifact when the default model cannot be.

        From then on look for new versions every `poll` seconds, unless that is 0, and whenever another worker has an order.
        """
        number = await self.catalog.refresh()
        if self.catalog.find(self.default_model) is None and not self.catalog.is_off(self.default_model):
            raise BadArtifact(self._why_no_default())
        self._ready = True
        self.fleet.summon = self._carry_out
        self._carried_out(number)
        if poll:
            self._watch = asyncio.get_running_loop().create_task(self._poll(poll))

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The model to answer with; ModelNotFound names what there is, NotReady before the models are loaded.

        Use it in a `with` block, in the same turn of the loop, or through a `Lease`.
        """
        if not self._ready:
            raise NotReady("The models are still being loaded.")
        name = self.default_model if name is None else name
        found = self.catalog.find(name, version)
        if found is None:
            raise ModelNotFound(self._why_not(name, version))
        return found

    def _why_not(self, name: str, version: str | None) -> str:
        """Why this is not served; it may look into the model's folder for that."""
        holds, load = self.catalog.repository.holds, f"POST /v2/repository/models/{name}/load serves the newest"
        if versions := self.catalog.versions(name):
            loaded = f"version {', '.join(map(repr, versions))} {'is' if len(versions) == 1 else 'are'}"
            where = f" It is in the repository: {load}, or those that a version_policy names." if holds(name, version) else ""
            return f"Version {str(version)[:MOST_SHOWN]!r} of {name} is not loaded; {loaded}.{where}"
        if self.catalog.is_off(name):
            return f"{name} was unloaded: POST /v2/repository/models/{name}/load serves it again."
        if refusals := self._refusals(name):
            return f"No version of {name} can be served. {' '.join(refusals)}"[:LONGEST]
        if holds(name):
            return f"{name} is in the repository and not loaded yet: {load}, and so does a restart."
        return f"There is no model {name[:MOST_SHOWN]!r}; this service has {', '.join(self.catalog.names()) or 'none'}."

    async def load_model(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Serve a model from now on, in all workers; ModelNotFound, BadModel, NotReady when one of them takes too long."""
        await self._order(name, policy or self.catalog.policy)

    async def unload_model(self, name: str) -> None:
        """Serve a model no more, in all workers: what waits for it is finished. ModelNotFound, NotReady."""
        await self._order(name, None)

    async def _order(self, name: str, policy: VersionPolicy | None) -> None:
        try:
            number = await self.catalog.order(name, policy)
        except BadArtifact as error:
            raise NotReady(f"The repository cannot be looked through now: {error}") from None
        if self.catalog.done < number:
            self._carry_out()  # the other workers are called once it is done here
        else:
            self._carried_out(number)
        if not await self.fleet.wait_for(number, timeout=EVERYWHERE):
            raise NotReady(f"Not all workers have done this after {EVERYWHERE:g} s: their logs may say why.")

    def _carried_out(self, number: int) -> None:
        self.fleet.carried_out(number)
        self.tell_default(self.has_default)
        self.default_trouble = None if self.has_default else self._why_not(self.default_model, None)  # once: it looks into a folder

    def _carry_out(self) -> None:
        """Do what was ordered of another worker."""

        async def do() -> None:
            while True:  # draining too: until it is cancelled in `close`, requests are answered
                try:
                    self._carried_out(await self.catalog.refresh())
                    return
                except Exception:
                    log.exception("What was ordered could not be done; it is tried again in %g s.", AGAIN)
                await asyncio.sleep(AGAIN)

        task = asyncio.get_running_loop().create_task(do())
        self._carrying_out.add(task)
        task.add_done_callback(self._carrying_out.discard)

    async def _poll(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                self._carried_out(await self.catalog.refresh())
            except BadArtifact as error:
                log.error("The repository could not be looked through: %s", error)
            except Exception:
                log.exception("The repository could not be looked through.")

    def backlog(self) -> float:
        """Seconds until what waits now is done, of the model that is done first."""
        return min([model.batcher.backlog for model in self.catalog.served], default=0.0)

    def admit(self, timeout: float) -> None:
        """Raises what `predict` would raise, whatever model is asked for, were the timeout so many seconds."""
        refusals: list[Unavailable] = []
        served = self.catalog.served
        for model in served:
            try:
                model.batcher.admit(timeout)
            except Unavailable as refusal:
                refusals.append(refusal)
        try:
            if refusals and len(refusals) == len(served):
                raise refusals[0]
        finally:
            refusals.clear()  # or each would keep itself, and by its traceback the request, until garbage is collected

    def predict(self, model: Model, instances: Sequence[Instance], *, timeout: float) -> Ticket:
        """Await the ticket for the predictions, in the order of the instances (one or more), within `timeout` seconds.

        Raises what Batcher.predict raises; the ticket raises NotFinite when an answer overflows float32.
        """
        return model.batcher.predict(instances, timeout=timeout)

    def drain(self) -> None:
        """Not ready any more; what comes all the same is still answered."""
        self.draining = True

    def refuse(self) -> None:
        """Answer everything that waits with Draining: there is no more time."""
        self.refused_late += sum(model.batcher.refuse() for model in self.catalog.working)

    async def close(self) -> None:
        """Finish what waits and runs, and let the models go."""
        self.draining = True
        tasks = [*self._carrying_out] + ([self._watch] if self._watch is not None else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.catalog.close()

    def _refusals(self, name: str) -> list[str]:
        return [f"version {each.version}: {each.reason}" for each in self.catalog.refused.values() if each.name == name]

    def _why_no_default(self) -> str:
        repository = self.catalog.repository
        if refusals := self._refusals(self.default_model):
            return f"No version of the default model {self.default_model!r} can be served. " + " ".join(refusals)
        names = ", ".join(repository.names()) or "no models"
        return (
            f"There is no model {self.default_model!r} in {repository.root.resolve()} (it holds {names}). Set "
            "RECURVE_MODEL_DIR and RECURVE_DEFAULT_MODEL, or train and export one: see README.md."
        )
