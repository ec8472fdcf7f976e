"""Which versions of which models are served, by what is on disk and what the operator ordered.

Owns the loaded models and their swap: a new version is loaded whole and proved, takes the place of the old one, and the old one is
let go when those who use it have ended. Nothing that serves makes way for something that cannot. Knows nothing of requests.
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
    """The models of a repository, as far as they are loaded. Every method belongs to the event loop."""

    def __init__(self, repository: Repository, loader: Loader, policy: VersionPolicy, book: OrderBook, refused: Refusals) -> None:
        self.repository = repository
        self.refused = refused
        self.replaced: dict[Key, float] = {}  # when versions had to make way for others
        self.aside: dict[Key, Model] = {}  # no longer served, but kept for the streams that began with them
        self.policy = policy  # where nothing else was ordered
        self._loader = loader
        self._book = book
        self._loaded: dict[str, dict[str, Model]] = {}  # by name and version, newest first
        self._leaving: dict[asyncio.Task[None], Model] = {}
        self.done = 0  # the number of the last order that was carried out
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
    def loaded(self) -> list[Model]:
        """What is served, and what is kept for those who began with it."""
        return [*self.served, *self.aside.values()]

    @property
    def working(self) -> list[Model]:
        """What is served, what is kept for those who began with it, and what finishes its work before it is let go."""
        return [*self.loaded, *self._leaving.values()]

    def is_off(self, name: str) -> bool:
        """Whether a model is not served because that was ordered."""
        return self._book.read()[1].get(name, self.policy) is None

    def index(self) -> list[VersionState]:
        """Every version in the repository; BadArtifact when it cannot be read."""
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
        """Bring what is served in line with what is on disk and what was ordered; the number of the last order.

        What was refused is tried again when its files or the orders have changed. BadArtifact when the repository cannot be read;
        then all stays as it is.
        """
        async with self._changing:
            return await self._refresh()

    async def order(self, name: str, policy: VersionPolicy | None) -> int:
        """Serve these versions of a model from now on, or none; the number of the last order. It is carried out here unless `done`
        is less: then what was ordered before of other models is not, and `refresh` has to be tried again.

        Raises ModelNotFound, BadModel when a version that is wanted is refused, BadArtifact when the repository cannot be read,
        and OSError when the order cannot be written down: then nothing was ordered, and what was served goes on.
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
            except BaseException:  # it is not given, and nobody needs what was loaded for it
                for model in after.values():
                    if model not in self.loaded:
                        self._let_go(model)
                raise
            self._serve(name, after)
            with suppress(Exception):  # it is given: what is not done of it now is for the next refresh, which says what is wrong
                number = await self._refresh()
            return number

    async def keep_aside(self, name: str, version: str) -> Model:
        """A version for those who began with it, loaded when it must be; raises what Loader.load raises."""
        async with self._changing:
            model = self.find(name, version) or self.aside.get((name, version))
            if model is None:
                model = self.aside[name, version] = await self._loader.load(self.repository.folder(name, version))
            return model

    def release(self, key: Key) -> None:
        """Nobody needs this version any more that was kept aside."""
        self._let_go(self.aside.pop(key))

    @property
    def hanging(self) -> ModelSpec | None:
        """Whose batch does not end any more; None: nobody's."""
        return next((model.spec for model in self.working if model.batcher.hangs), None)

    def check_live(self) -> None:
        """Hanging where a batch does not end any more."""
        if (spec := self.hanging) is not None:
            raise Hanging(f"A batch of {spec} does not end: this process has to be replaced.")

    async def close(self) -> None:
        """Finish what waits and runs, and let all go."""
        async with self._changing:
            await asyncio.gather(*(model.batcher.close() for model in self.loaded), *self._leaving)

    def _look(self) -> dict[str, dict[str, Mark | None]]:
        """What is on disk: the marks of the versions of each model, the newest version first."""
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
            if policy is None or (name not in on_disk and on_disk):  # an empty repository is one that was not mounted
                self._serve(name, {})
            elif after := await self._wanted(name, on_disk.get(name, {}), policy, again=number > self.done):
                self._serve(name, after)
            # else what is served does not make way for nothing
        for name, version in [*self.refused]:
            if version not in on_disk.get(name, ()):
                del self.refused[name, version]
        self.done = number
        return number

    async def _wanted(
        self, name: str, versions: Mapping[str, Mark | None], policy: VersionPolicy, *, again: bool
    ) -> dict[str, Model]:
        """The good ones of the versions that are wanted, loaded where they are not yet."""
        found: dict[str, Model] = {}
        tried = set()
        for version in policy.among([*versions]):
            tried.add(version)
            model = self.find(name, version) or self.aside.get((name, version))
            if model is None or model.mark != versions[version]:
                model = await self._try(name, version, versions[version], again=again) or self.find(name, version)
            else:
                self.refused.pop((name, version), None)  # the files are again those that are loaded
            if model is not None:
                found[version] = model
            if policy.enough(len(found)):
                break
        for version in versions.keys() - tried:
            self.refused.pop((name, version), None)  # nobody wants it any more
        return found

    def _serve(self, name: str, after: dict[str, Model]) -> None:
        """Put these versions in the place of what is served of a model."""
        before = self._loaded.get(name, {})
        if after:
            self._loaded[name] = after  # in one step: `index` may look from another thread
        else:
            self._loaded.pop(name, None)
        for version, model in after.items():
            if self.aside.get((name, version)) is model:
                del self.aside[name, version]
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
        """Why what is ordered, and was tried, cannot be served whole."""
        problems = [f"There is no version {version} of {name}." for version in policy.specific or () if version not in versions]
        problems += [
            f"Version {version} of {name} is refused: {refused.reason}"
            for version in policy.among([*versions])
            if (refused := self.refused.get((name, version))) is not None
        ]
        return problems
