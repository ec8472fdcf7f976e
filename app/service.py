"""What the product does, in Python objects: no bytes, no HTTP.

Owns the loaded models and which of them answers. Knows nothing of wire formats, routes or settings.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from app.errors import BadArtifact, ModelNotFound, NotReady, ProviderUnavailable, StreamConflict, Unavailable
from app.lifecycle import Loader, Model
from app.manifest import ModelSpec
from app.queue import Ticket
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
    """Every model of a repository, each in its newest version that proved itself, and in older ones that streams are at."""

    default_model: str
    drain_streams: float = 0.0  # seconds for which streams of an older version go on
    models: dict[str, Model] = field(default_factory=dict)
    older: dict[tuple[str, str], Model] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    draining: bool = False
    refused_late: int = 0  # instances that were accepted and not come to before the end
    started: float = field(default_factory=monotonic)
    _repository: Repository | None = None
    _loader: Loader | None = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def status(self) -> Status:
        if self.draining:
            return "draining"
        if self.default_model not in self.models:
            return "starting"
        fallen_back = any(model.engine.provider.fallback_reason for model in self.loaded)
        return "degraded" if fallen_back or self.refused else "ok"

    @property
    def loaded(self) -> list[Model]:
        return [*self.models.values(), *self.older.values()]

    @property
    def ready(self) -> bool:
        return self.status in ("ok", "degraded")

    def load(self, repository: Repository, loader: Loader) -> None:
        """Load the newest good version of every model; BadArtifact when the default model has none."""
        self._repository, self._loader = repository, loader
        for name in repository.names():
            for version in repository.versions(name):
                try:
                    self.models[name] = loader.load(repository.folder(name, version))
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

    def spec(self, name: str | None, version: str | None) -> ModelSpec:
        """What that model takes; raises what `model` raises."""
        return self.model(name, version).spec

    async def pinned(self, name: str, version: str) -> Model:
        """The model that goes on with a stream which began with this version: an older one too, for `drain_streams` seconds.

        Raises StreamConflict when it will not go on, and NotReady when another replica may know the version.
        """
        if name not in self.models:
            self.model()  # is there any?
            raise StreamConflict(f"The stream is one of the model {name}, which is not served here any more.")
        newest = self.models[name]
        if newest.spec.version == version:
            return newest
        if int(version) > int(newest.spec.version):
            raise NotReady(f"The stream is at version {version} of {name}; version {newest.spec.version} is the newest here.")
        if self._drained:
            raise StreamConflict(
                f"The stream began with version {version} of {name}. It went on with that for {self.drain_streams:g} s after "
                f"version {newest.spec.version} came, and ends now: begin a new one."
            )
        async with self._loading:
            if (name, version) not in self.older:
                self.older[name, version] = await self._load_older(name, version)
        return self.older[name, version]

    async def retire(self) -> None:
        """Let older versions go whose time is over."""
        while self._drained and self.older:
            key, model = self.older.popitem()
            await model.batcher.close()
            log.info("Version %s of %s is let go: its streams had %g s to end.", key[1], key[0], self.drain_streams)

    @property
    def _drained(self) -> bool:
        return monotonic() - self.started > self.drain_streams

    async def _load_older(self, name: str, version: str) -> Model:
        assert self._repository is not None
        assert self._loader is not None
        try:
            return await self._loader.load_aside(self._repository.folder(name, version))
        except (BadArtifact, ProviderUnavailable) as error:
            raise StreamConflict(f"The stream began with version {version} of {name}, which cannot be served: {error}") from None

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
        self.refused_late += sum(model.batcher.refuse() for model in self.loaded)

    async def close(self) -> None:
        """Finish what waits and runs, and let the models go."""
        self.draining = True
        await asyncio.gather(*(model.batcher.close() for model in self.loaded))

    def _why_no_default(self, repository: Repository) -> str:
        reasons = [f"version {r.version}: {r.reason}" for r in self.refused if r.name == self.default_model]
        if reasons:
            return f"No version of the default model {self.default_model!r} can be served. " + " ".join(reasons)
        names = ", ".join(repository.names()) or "no models"
        return (
            f"There is no model {self.default_model!r} in {repository.root.resolve()} (it holds {names}). Set "
            "RECURVE_MODEL_DIR and RECURVE_DEFAULT_MODEL, or train and export one: see README.md."
        )
