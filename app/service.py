"""What the product does, in Python objects: no bytes, no HTTP.

Owns which of the loaded models answers a request, and the leases that keep it loaded meanwhile. Knows nothing of wire formats,
routes or settings.
"""

from collections.abc import Callable
from time import monotonic
from typing import Literal, Self

from app.catalog import Catalog
from app.errors import MOST_SHOWN, ModelNotFound, NotReady, Unavailable
from app.lifecycle import Model
from app.manifest import ModelSpec

Status = Literal["starting", "ok", "degraded", "draining"]

BUSY = 0.01  # seconds of waiting work from which on it pays to find requests to refuse before their bodies are decoded
LONGEST = 1000  # characters of a reason in an answer


class Lease:
    """Holds the models that one request chooses: they are not freed before its `with` block ends."""

    __slots__ = ("_held", "_service")

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._held: list[Model] = []

    @property
    def model(self) -> Model:
        """The model chosen last."""
        return self._held[-1]

    def choose(self, name: str | None = None, version: str | None = None) -> ModelSpec:
        """Hold this model and return its spec; raises what Service.model raises."""
        while True:  # this may run in a thread while the event loop swaps the model: then hold the new one
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

    `tell_default` is called after every change with whether the default model is served.
    """

    def __init__(
        self, catalog: Catalog, *, default_model: str, tell_default: Callable[[bool], None] = lambda _served: None
    ) -> None:
        self.catalog = catalog
        self.default_model = default_model
        self.default_trouble: str | None = None  # why the default model is not served, if it is not
        self.draining = False
        self.refused_late = 0  # instances that were accepted, and refused at shutdown before they ran
        self.started = monotonic()
        self._tell_default = tell_default
        self._loaded = False  # whether the models have been loaded once

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
        """Raises NotReady unless the service answers predictions."""
        if not self.ready:
            raise NotReady(f"The service is {self.status}.")

    @property
    def has_default(self) -> bool:
        """Whether a request that names no model can be answered."""
        return self.catalog.find(self.default_model) is not None

    def update(self) -> None:
        """Note that the loaded models may have changed. The first call makes the service ready."""
        self._loaded = True
        self._tell_default(self.has_default)
        self.default_trouble = None if self.has_default else self._why_not(self.default_model, None)  # once: this reads a folder

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The model to answer with. Raises ModelNotFound, which names the served models, and NotReady before models are loaded.

        Enter its `with` block in the same turn of the event loop, or use a `Lease`: it may be freed otherwise.
        """
        if not self._loaded:
            raise NotReady("The models are still being loaded.")
        name = self.default_model if name is None else name
        found = self.catalog.find(name, version)
        if found is None:
            raise ModelNotFound(self._why_not(name, version))
        return found

    def _why_not(self, name: str, version: str | None) -> str:
        """Why this model or version is not served; may read the model's folder."""
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
        """Estimated seconds until all that waits now is done, for the model that is done first."""
        return min([model.batcher.backlog for model in self.catalog.served], default=0.0)

    def admit(self, timeout: float) -> None:
        """Raises what Batcher.admit raises for a request with this timeout, in seconds, if every served model would refuse it."""
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
            refusals.clear()  # else each refusal, by its traceback, is in a cycle that keeps the request until garbage collection

    def drain(self) -> None:
        """Report the service as not ready from now on; requests that still come are answered."""
        self.draining = True

    def refuse(self) -> None:
        """Fail everything that waits with Draining: the time to drain is over."""
        self.refused_late += sum(model.batcher.refuse() for model in self.catalog.working)

    async def close(self) -> None:
        """Finish what waits and runs, and free the models."""
        self.draining = True
        await self.catalog.close()
