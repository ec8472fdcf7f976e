"""Decides which versions of which models are served, from what is on disk and what the operator ordered.

Owns the loaded models and their swap: a new version is loaded and proved, then replaces the old one, which is freed when nothing
uses it any more. A version that serves is never replaced by one that cannot. Knows nothing of requests.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic

from app.errors import MOST_SHOWN, BadArtifact, BadModel, Hanging, ModelNotFound, ProviderUnavailable
from app.lifecycle import Loader, Model
from app.manifest import ModelSpec
from app.orders import OrderBook, VersionPolicy
from app.repository import Mark, Refusals, Refused, Repository, VersionState, mark_of

log = logging.getLogger(__name__)

Key = tuple[str, str]  # name and version


class Catalog:
    """The loaded models of a repository. Only the event loop may change it; other threads may read it."""

    def __init__(self, repository: Repository, loader: Loader, policy: VersionPolicy, book: OrderBook, refused: Refusals) -> None:
        self.repository = repository
        self.refused = refused
        self.replaced: dict[Key, float] = {}  # when a version was replaced
        self.aside: dict[Key, Model] = {}  # not served any more, but kept for the streams that began with them
        self.policy = policy  # for models without an order
        self._loader = loader
        self._book = book
        self._loaded: dict[str, dict[str, Model]] = {}  # by name and version, newest first
        self._leaving: dict[asyncio.Task[None], Model] = {}
        self.done = 0  # number of the last order that was carried out here
        self._changing = asyncio.Lock()

    def names(self) -> list[str]:
        """The names of the served models."""
        return list(self._loaded)

    def find(self, name: str, version: str | None = None) -> Model | None:
        """The served model of this name and version, or its newest served version; None when it is not served."""
        versions = self._loaded.get(name, {})
        return next(iter(versions.values()), None) if version is None else versions.get(version)

    def versions(self, name: str) -> list[str]:
        """The served versions of a model, newest first."""
        return list(self._loaded.get(name, ()))

    @property
    def served(self) -> list[Model]:
        return [model for versions in self._loaded.values() for model in versions.values()]

    @property
    def loaded(self) -> list[Model]:
        """The served models, and those kept for streams."""
        return [*self.served, *self.aside.values()]

    @property
    def working(self) -> list[Model]:
        """The loaded models, and those that finish their work before they are freed."""
        return [*self.loaded, *self._leaving.values()]

    def is_off(self, name: str) -> bool:
        """Whether the operator ordered that this model is not served."""
        return self._book.read()[1].get(name, self.policy) is None

    def index(self) -> list[VersionState]:
        """Every version in the repository; raises BadArtifact when it cannot be read."""
        found = []
        for name in self.repository.names():
            for version in self.repository.versions(name):
                refused = self.refused.get((name, version))
                if version in self._loaded.get(name, ()):
                    why = f"newer files are refused: {refused.reason}" if refused else ""
                    found.append(VersionState(name, version, "READY", why))
                else:
                    found.append(VersionState(name, version, "UNAVAILABLE", refused.reason if refused else "not loaded"))
        return found

    async def refresh(self) -> int:
        """Load and replace versions to match the disk and the orders; return the number of the last order.

        A refused version is tried again when its files or the orders have changed. Raises BadArtifact, with nothing changed, when
        the repository cannot be read.
        """
        async with self._changing:
            return await self._refresh()

    async def order(self, name: str, policy: VersionPolicy | None) -> int:
        """Order which versions of a model are served from now on (None: none), and do so here; return the number of the last order.

        If `done` is less than that number, earlier orders for other models are not carried out yet: `refresh` must be tried again.
        Raises ModelNotFound, BadModel when a wanted version is refused, BadArtifact when the repository cannot be read, and
        OSError when the order cannot be written: then nothing is ordered and nothing changes.
        """
        async with self._changing:
            versions = (await asyncio.to_thread(self._look)).get(name, {})
            if not versions and name not in self._loaded:
                raise ModelNotFound(f"There is no model {name[:MOST_SHOWN]!r} in the repository.")
            after = await self._wanted(name, versions, policy, again=True) if policy is not None else {}
            try:
                if policy is not None and (problems := self._problems(name, policy, versions)):
                    going_on = f" Version {served[0]} goes on." if (served := self.versions(name)) else ""
                    raise BadModel(" ".join(problems) + going_on)
                number = await asyncio.to_thread(self._book.give, name, policy)
            except BaseException:  # the order is not given: free the models that were loaded for it
                for model in after.values():
                    if model not in self.loaded:
                        self._let_go(model)
                raise
            self._serve(name, after)
            with suppress(Exception):  # the order stands: the next refresh does the rest, and reports what is wrong
                number = await self._refresh()
            return number

    async def keep_aside(self, name: str, version: str) -> Model:
        """A version for the streams that began with it, loaded if it is not yet; raises what Loader.load raises."""
        async with self._changing:
            model = self.find(name, version) or self.aside.get((name, version))
            if model is None:
                model = self.aside[name, version] = await self._loader.load(self.repository.folder(name, version))
            return model

    def release(self, key: Key) -> None:
        """Free a version that was kept aside."""
        self._let_go(self.aside.pop(key))

    @property
    def hanging(self) -> ModelSpec | None:
        """A model with a batch that hangs, or None."""
        return next((model.spec for model in self.working if model.batcher.hangs), None)

    def check_live(self) -> None:
        """Raises Hanging when a batch hangs."""
        if (spec := self.hanging) is not None:
            raise Hanging(f"A batch of {spec} does not end: this process has to be replaced.")

    async def close(self) -> None:
        """Finish what waits and runs, and wait for the models that are being freed."""
        async with self._changing:
            await asyncio.gather(*(model.batcher.close() for model in self.loaded), *self._leaving)

    def _look(self) -> dict[str, dict[str, Mark | None]]:
        """What is on disk: for each model its versions, newest first, with their marks."""
        repository = self.repository
        return {
            name: {version: mark_of(repository.folder(name, version)) for version in repository.versions(name)}
            for name in repository.names()
        }

    async def _refresh(self) -> int:
        number, orders = self._book.read()
        on_disk = await asyncio.to_thread(self._look)
        for name in sorted({*on_disk, *self._loaded}):
            policy = orders.get(name, self.policy)
            if policy is None or (name not in on_disk and on_disk):  # an empty repository is probably not mounted: keep all
                self._serve(name, {})
            elif after := await self._wanted(name, on_disk.get(name, {}), policy, again=number > self.done):
                self._serve(name, after)
            # else no version is good: what is served goes on
        for name, version in [*self.refused]:
            if version not in on_disk.get(name, ()):
                del self.refused[name, version]
        self.done = number
        return number

    async def _wanted(
        self, name: str, versions: Mapping[str, Mark | None], policy: VersionPolicy, *, again: bool
    ) -> dict[str, Model]:
        """The wanted versions that are good, loaded if they are not yet. `again`: also try those refused before."""
        found: dict[str, Model] = {}
        tried = set()
        for version in policy.among([*versions]):
            tried.add(version)
            model = self.find(name, version) or self.aside.get((name, version))
            if model is None or model.mark != versions[version]:
                model = await self._try(name, version, versions[version], again=again) or self.find(name, version)
            else:
                self.refused.pop((name, version), None)  # the files are the loaded ones again
            if model is not None:
                found[version] = model
            if policy.enough(len(found)):
                break
        for version in versions.keys() - tried:
            self.refused.pop((name, version), None)  # not wanted any more
        return found

    def _serve(self, name: str, after: dict[str, Model]) -> None:
        """Serve these versions of a model instead of those served so far."""
        before = self._loaded.get(name, {})
        if after:
            self._loaded[name] = after  # in one step: `index` may read it in another thread
        else:
            self._loaded.pop(name, None)
        for version, model in after.items():
            if self.aside.get((name, version)) is model:
                del self.aside[name, version]
        for version, model in before.items():
            if after.get(version) is not model:
                self._replace(model, by=after)

    async def _try(self, name: str, version: str, mark: Mark | None, *, again: bool) -> Model | None:
        """Load the version; None when it is refused, or was refused before and has not changed since."""
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
        if by and key[1] not in by and model.followed:
            if (other := self.aside.get(key)) is not None:
                self._let_go(other)
            self.aside[key] = model
        else:
            self._let_go(model)

    def _let_go(self, model: Model) -> None:
        async def finish() -> None:
            await model.let_go()
            name, version = model.spec.name, model.spec.version
            if self.find(name, version) is None and (name, version) not in self.aside:
                model.counts.gone()

        task = asyncio.get_running_loop().create_task(finish())
        self._leaving[task] = model
        task.add_done_callback(self._leaving.pop)

    def _problems(self, name: str, policy: VersionPolicy, versions: Mapping[str, Mark | None]) -> list[str]:
        """Why not all that was ordered can be served."""
        problems = [f"There is no version {version} of {name}." for version in policy.specific or () if version not in versions]
        problems += [
            f"Version {version} of {name} is refused: {refused.reason}"
            for version in policy.among([*versions])
            if (refused := self.refused.get((name, version))) is not None
        ]
        return problems
