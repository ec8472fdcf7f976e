"""Which versions of which models are served: what is on disk, what was ordered, and how the one becomes the other.

Owns the loaded models and their swap: a new version is loaded whole and proved, takes the place of the old one, and the old
one is let go when those who use it have ended. Nothing that serves makes way for something that cannot. Knows nothing of
requests.
"""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from app.errors import BadArtifact, BadModel, ModelNotFound, ProviderUnavailable
from app.lifecycle import Loader, Model
from app.manifest import Mark, mark_of
from app.orders import OrderBook, Orders, VersionPolicy
from app.repository import Repository

log = logging.getLogger(__name__)

Key = tuple[str, str]  # name and version


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that is on disk and must not be served, and why."""

    name: str
    version: str
    reason: str
    mark: Mark | None  # of its files


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version in the repository: whether it is served, and why it is not."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str = ""


class Catalog:
    """The models of a repository, as far as they are loaded. Every method belongs to the event loop."""

    def __init__(self, repository: Repository, loader: Loader, policy: VersionPolicy, book: OrderBook) -> None:
        self.repository = repository
        self.refused: dict[Key, Refused] = {}
        self.replaced: dict[Key, float] = {}  # when versions had to make way for others
        self._loader = loader
        self.policy = policy  # where nothing else was ordered
        self._book = book
        self._orders: Orders = {}
        self._loaded: dict[str, dict[str, Model]] = {}  # by name and version, newest first
        self._aside: dict[Key, Model] = {}  # no longer served, but for those who began with it
        self._leaving: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    def names(self) -> list[str]:
        """The models that are served."""
        return list(self._loaded)

    def find(self, name: str, version: str | None = None) -> Model | None:
        """The one that is served: the newest, where no version is named."""
        versions = self._loaded.get(name, {})
        return next(iter(versions.values()), None) if version is None else versions.get(version)

    def versions(self, name: str) -> list[str]:
        """Those that are served, newest first."""
        return list(self._loaded.get(name, ()))

    @property
    def served(self) -> list[Model]:
        return [model for versions in self._loaded.values() for model in versions.values()]

    @property
    def ordered(self) -> int:
        """The number of the last order."""
        return self._book.read()[0]

    @property
    def aside(self) -> dict[Key, Model]:
        """What is kept for those who began with it."""
        return self._aside

    @property
    def loaded(self) -> list[Model]:
        """What is served, and what is kept for those who began with it."""
        return [*self.served, *self._aside.values()]

    def index(self) -> list[VersionState]:
        """Every version in the repository; BadArtifact when it cannot be read."""
        found = []
        for name in self.repository.names():
            for version in self.repository.versions(name):
                refused = self.refused.get((name, version))
                if version in self._loaded.get(name, ()):
                    found.append(
                        VersionState(name, version, "READY", f"newer files are refused: {refused.reason}" if refused else "")
                    )
                else:
                    found.append(VersionState(name, version, "UNAVAILABLE", refused.reason if refused else "not loaded"))
        return found

    async def refresh(self, only: str | None = None, *, again: bool = False) -> int:
        """Bring what is served in line with what is on disk and what was ordered; the number of the last order.

        `again`: versions that were refused are tried once more though their files are the same. BadArtifact when the
        repository cannot be read; then all stays as it is.
        """
        async with self._changing:
            number, self._orders = self._book.read()
            on_disk = await asyncio.to_thread(self._look)
            for name in sorted({*on_disk, *self._loaded}) if only is None else [only]:
                policy = self._orders.get(name, self.policy)
                gone = name not in on_disk and bool(on_disk)  # an empty repository is one that was not mounted
                await self._bring(name, on_disk.get(name, []), None if gone else policy, again=again)
            for name, version in [*self.refused]:
                if version not in on_disk.get(name, ()):
                    del self.refused[name, version]
            return number

    async def order(self, name: str, policy: VersionPolicy | None) -> int:
        """Serve these versions of a model from now on, or none; the number of the order, once it is carried out here.

        Raises ModelNotFound, and BadModel when a version that is wanted is refused; what was served goes on then.
        """
        versions = (await asyncio.to_thread(self._look)).get(name, [])
        if not versions and name not in self._loaded:
            raise ModelNotFound(f"There is no model {name[:64]!r} in the repository.")
        self._book.give(name, policy)
        number = await self.refresh(name, again=True)
        if policy is not None:
            self._check(name, policy, versions)
        return number

    async def keep_aside(self, name: str, version: str) -> Model:
        """A version for those who began with it, loaded when it must be; raises what Loader.load raises."""
        async with self._changing:
            if (name, version) not in self._aside:
                self._aside[name, version] = await self._loader.load(self.repository.folder(name, version))
            return self._aside[name, version]

    def release(self, key: Key) -> None:
        """Nobody needs this version any more that was kept aside."""
        self._let_go(self._aside.pop(key))

    async def close(self) -> None:
        """Finish what waits and runs, and let all go."""
        await asyncio.gather(*(model.batcher.close() for model in self.loaded), *self._leaving)

    def _look(self) -> dict[str, list[str]]:
        return {name: self.repository.versions(name) for name in self.repository.names()}

    async def _bring(self, name: str, versions: list[str], policy: VersionPolicy | None, *, again: bool) -> None:
        """Load what is wanted of a model, then put it in the place of what is served."""
        before = self._loaded.get(name, {})
        after: dict[str, Model] = {}
        for version in policy.among(versions) if policy else ():
            model = before.get(version)
            mark = mark_of(self.repository.folder(name, version))
            if model is None or model.mark != mark:
                model = await self._try(name, version, mark, again=again) or model
            if model is not None:
                after[version] = model
            if policy and policy.enough(len(after)):
                break
        if policy is not None and not after:
            return  # what is served does not make way for nothing
        self._loaded[name] = after
        if not after:
            del self._loaded[name]
        for version, model in before.items():
            if after.get(version) is not model:
                self._replace(model, by=after)

    async def _try(self, name: str, version: str, mark: Mark | None, *, again: bool) -> Model | None:
        """The version, loaded; None when it is refused, or was before and has not changed since."""
        known = self.refused.get((name, version))
        if known is not None and known.mark == mark and not again:
            return None
        try:
            model = await self._loader.load(self.repository.folder(name, version))
        except (BadArtifact, ProviderUnavailable) as error:
            log.error("Refused version %s of %s: %s", version, name, error)
            self.refused[name, version] = Refused(name, version, str(error), mark)
            return None
        self.refused.pop((name, version), None)
        return model

    def _replace(self, model: Model, *, by: dict[str, Model]) -> None:
        key = model.spec.name, model.spec.version
        log.info("%s makes way for %s.", model.spec, f"version {next(iter(by))}" if by else "nothing: it is not to be served")
        self.replaced[key] = monotonic()
        if key[1] not in by and model.followed:
            self._aside[key] = model
        else:
            self._let_go(model)

    def _let_go(self, model: Model) -> None:
        async def finish() -> None:
            await model.let_go()
            if self.find(model.spec.name, model.spec.version) is None:
                model.counts.gone()

        task = asyncio.get_running_loop().create_task(finish())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _check(self, name: str, policy: VersionPolicy, versions: list[str]) -> None:
        """BadModel unless what was ordered is served."""
        served = self.versions(name)
        problems = [f"There is no version {version} of {name}." for version in policy.specific or () if version not in versions]
        for version in policy.among(versions):
            if policy.enough(len([each for each in served if int(each) > int(version)])):
                break
            if (refused := self.refused.get((name, version))) is not None:
                problems.append(f"Version {version} of {name} is refused: {refused.reason}")
        if problems:
            going_on = f" Version {served[0]} goes on." if served else ""
            raise BadModel(" ".join(problems) + going_on)
