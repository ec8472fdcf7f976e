"""What the product does, in Python objects: no bytes, no HTTP.

Owns the loaded models and which of them answers. Knows nothing of wire formats, routes or settings.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from app import lifecycle
from app.engine import Device
from app.errors import BadArtifact, ModelNotFound, NotReady, Unavailable
from app.lifecycle import Model
from app.metrics import Metrics
from app.queue import Limits, Ticket
from app.repository import Repository
from app.tensors import Instance

log = logging.getLogger(__name__)

Status = Literal["starting", "ok", "degraded", "draining"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that is on disk and must not be served, and why."""

    name: str
    version: str
    reason: str


@dataclass(slots=True)
class Service:
    """Every model of a repository, each in its newest version that proved itself."""

    default_model: str
    models: dict[str, Model] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    draining: bool = False
    refused_late: int = 0  # instances that were accepted and not come to before the end
    started: float = field(default_factory=monotonic)

    @property
    def status(self) -> Status:
        if self.draining:
            return "draining"
        if self.default_model not in self.models:
            return "starting"
        fallen_back = any(model.engine.provider.fallback_reason for model in self.models.values())
        return "degraded" if fallen_back or self.refused else "ok"

    @property
    def ready(self) -> bool:
        return self.status in ("ok", "degraded")

    def load(self, repository: Repository, *, device: Device, limits: Limits, lanes: int, metrics: Metrics) -> None:
        """Load the newest good version of every model; BadArtifact when the default model has none."""
        for name in repository.names():
            for version in repository.versions(name):
                try:
                    folder = repository.folder(name, version)
                    self.models[name] = lifecycle.load(folder, device=device, limits=limits, lanes=lanes, metrics=metrics)
                    break
                except BadArtifact as error:
                    log.error("Refused version %s of %s: %s", version, name, error)
                    self.refused.append(Refused(name=name, version=version, reason=str(error)))
        if self.default_model not in self.models:
            raise BadArtifact(self._why_no_default(repository))

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The model to answer with; ModelNotFound names what there is, NotReady before the models are loaded."""
        if not self.models:
            raise NotReady("The models are still being loaded.")
        name = self.default_model if name is None else name
        found = self.models.get(name)
        if found is None:
            raise ModelNotFound(f"There is no model {name[:64]!r}; this service has {', '.join(self.models)}.")
        if version is not None and version != found.spec.version:
            raise ModelNotFound(f"Version {version[:64]!r} of {name} is not loaded; version {found.spec.version!r} is.")
        return found

    def backlog(self) -> float:
        """Seconds until what waits now is done, of the model that is done first."""
        return min((model.batcher.backlog for model in self.models.values()), default=0.0)

    def admit(self, timeout: float) -> None:
        """Raises what `predict` would raise, whatever model is asked for, were the timeout so many seconds."""
        refusals: list[Unavailable] = []
        for model in self.models.values():
            try:
                model.batcher.admit(timeout)
            except Unavailable as refusal:
                refusals.append(refusal)
        if refusals and len(refusals) == len(self.models):
            raise refusals[0]

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
        self.refused_late += sum(model.batcher.refuse() for model in self.models.values())

    async def close(self) -> None:
        """Finish what waits and runs, and let the models go."""
        self.draining = True
        await asyncio.gather(*(model.batcher.close() for model in self.models.values()))

    def _why_no_default(self, repository: Repository) -> str:
        reasons = [f"version {r.version}: {r.reason}" for r in self.refused if r.name == self.default_model]
        if reasons:
            return f"No version of the default model {self.default_model!r} can be served. " + " ".join(reasons)
        names = ", ".join(repository.names()) or "no models"
        return (
            f"There is no model {self.default_model!r} in {repository.root.resolve()} (it holds {names}). Set "
            "RECURVE_MODEL_DIR and RECURVE_DEFAULT_MODEL, or train and export one: see README.md."
        )
