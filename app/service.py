"""What the product does, in Python objects: no bytes, no HTTP.

Owns which of the loaded models answers, and to whom each is promised. Knows nothing of wire formats, routes or settings.
"""

from collections.abc import Callable
from time import monotonic
from typing import Literal, Self

from app.catalog import Catalog
from app.errors import MOST_SHOWN, ModelNotFound, NotReady, Unavailable
from app.lifecycle import Model
from app.manifest import ModelSpec

Status = Literal["starting", "ok", "degraded", "draining"]

BUSY = 0.01  # seconds of work that wait: then it is worth finding out early who would be refused
LONGEST = 1000  # characters of a reason, in an answer


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


class Service:
    """Answers from the models of a catalog.

    `tell_default` is told whether the default model is served, after every change.
    """

    def __init__(
        self, catalog: Catalog, *, default_model: str, tell_default: Callable[[bool], None] = lambda _served: None
    ) -> None:
        self.catalog = catalog
        self.default_model = default_model
        self.default_trouble: str | None = None  # why who names no model cannot be answered, where that is so though others can
        self.draining = False
        self.refused_late = 0  # instances that were accepted and not come to before the end
        self.started = monotonic()
        self._tell_default = tell_default
        self._loaded = False  # it has been, once

    @property
    def status(self) -> Status:
        if self.draining:
            return "draining"
        if not self._loaded:
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

    def update(self) -> None:
        """What is loaded has changed, or may have. From the first time on there are answers."""
        self._loaded = True
        self._tell_default(self.has_default)
        self.default_trouble = None if self.has_default else self._why_not(self.default_model, None)  # once: it looks into a folder

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The model to answer with; ModelNotFound names what there is, NotReady before the models are loaded.

        Use it in a `with` block, in the same turn of the loop, or through a `Lease`.
        """
        if not self._loaded:
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
        if refusals := self.catalog.refused.of(name):
            return f"No version of {name} can be served. {refusals}"[:LONGEST]
        if holds(name):
            return f"{name} is in the repository and not loaded yet: {load}, and so does a restart."
        return f"There is no model {name[:MOST_SHOWN]!r}; this service has {', '.join(self.catalog.names()) or 'none'}."

    def backlog(self) -> float:
        """Seconds until what waits now is done, of the model that is done first."""
        return min([model.batcher.backlog for model in self.catalog.served], default=0.0)

    def admit(self, timeout: float) -> None:
        """Raises what Batcher.admit would raise, whatever model is asked for, were the timeout so many seconds."""
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

    def drain(self) -> None:
        """Not ready any more; what comes all the same is still answered."""
        self.draining = True

    def refuse(self) -> None:
        """Answer everything that waits with Draining: there is no more time."""
        self.refused_late += sum(model.batcher.refuse() for model in self.catalog.working)

    async def close(self) -> None:
        """Finish what waits and runs, and let the models go."""
        self.draining = True
        await self.catalog.close()
