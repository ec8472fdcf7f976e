"""Pins each stream to the model version that it began with, and keeps a replaced version loaded while streams need it.

Owns how long a replaced version is kept. Knows nothing of what a stream holds.
"""

import asyncio
import logging
from math import inf
from time import monotonic

from app.catalog import Catalog
from app.errors import BadArtifact, NotReady, ProviderUnavailable, StreamConflict
from app.lifecycle import Model
from app.repository import mark_of

log = logging.getLogger(__name__)

MISSED = 1.0  # seconds between two scans of the repository for a version that another process may have loaded already


class Pins:
    """Finds the version that a stream is pinned to. `drain`: seconds for which streams may go on with a replaced version."""

    def __init__(self, catalog: Catalog, *, drain: float) -> None:
        self._catalog = catalog
        self._drain = drain
        self._started = monotonic()
        self._looked: dict[str, float] = {}  # model -> when the repository was last scanned for its versions

    async def model(self, name: str, version: str) -> Model:
        """The model for a stream that began with this version, which may have been replaced since.

        Raises StreamConflict when the stream cannot go on any more, and NotReady when the version may be loaded on another
        replica and not yet here.
        """
        model = self._catalog.find(name, version) or await self._other(name, version)
        model.follow()
        return model

    def retire(self) -> None:
        """Release the versions that were kept for streams and are not needed any more."""
        for key in [*self._catalog.replaced]:
            if self._is_over(key) and key not in self._catalog.aside:
                del self._catalog.replaced[key]  # `_is_over` then counts from the start of this process, so it stays true
        for key, model in [*self._catalog.aside.items()]:
            if self._is_over(key) or not model.followed:
                self._catalog.release(key)
                log.info("Version %s of %s is let go: no stream goes on with it.", key[1], key[0])

    async def _other(self, name: str, version: str) -> Model:
        """The model for a version that is not served; raises what `model` raises."""
        key, newest = (name, version), self._catalog.find(name)
        if key not in self._catalog.aside and (newest is None or int(version) > int(newest.spec.version)):
            if (found := await self._look_again(name, version)) is not None:
                return found
            newest = self._catalog.find(name)
        if newest is None:
            raise StreamConflict(f"The stream belongs to the model {name}, which is no longer served here.")
        if int(version) > int(newest.spec.version) and key not in self._catalog.aside and not await self._is_here(name, version):
            raise NotReady(f"The stream is at version {version} of {name}; version {newest.spec.version} is the newest here.")
        if self._is_over(key):
            raise StreamConflict(
                f"The stream began with version {version} of {name}, which version {newest.spec.version} replaced more than "
                f"{self._drain:g} s ago: begin a new stream."
            )
        if key in self._catalog.aside:
            return self._catalog.aside[key]
        try:
            return await self._catalog.keep_aside(name, version)
        except (BadArtifact, ProviderUnavailable) as error:
            raise StreamConflict(f"The stream began with version {version} of {name}, which cannot be served: {error}") from None

    async def _look_again(self, name: str, version: str) -> Model | None:
        """The version, if a scan of the repository finds it: another worker or replica may have loaded it before this one."""
        if monotonic() - self._looked.get(name, -inf) < MISSED:
            return None
        self._looked[name] = monotonic()
        try:
            await self._catalog.refresh()
        except BadArtifact as error:
            raise NotReady(f"The repository cannot be looked through now: {error}") from None
        return self._catalog.find(name, version)

    async def _is_here(self, name: str, version: str) -> bool:
        return await asyncio.to_thread(mark_of, self._catalog.repository.folder(name, version)) is not None

    def _is_over(self, key: tuple[str, str]) -> bool:
        return monotonic() - self._catalog.replaced.get(key, self._started) > self._drain
