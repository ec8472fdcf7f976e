"""Keeps the served models in line with the repository and the operator's orders.

Owns when these are read, and that all workers have carried out an order before it is answered. Knows nothing of requests.
"""

import asyncio
import logging
from collections.abc import Coroutine
from difflib import get_close_matches

from app.errors import BadArtifact, NotReady
from app.orders import VersionPolicy
from app.processes.fleet import Fleet
from app.service import Service

log = logging.getLogger(__name__)

AGAIN = 1.0  # seconds between two attempts to carry out an order
EVERYWHERE = 60.0  # seconds that an order may take to reach all workers


class Operations:
    """Brings a service in line with the disk and with the orders that any worker of the `fleet` received."""

    def __init__(self, service: Service, fleet: Fleet) -> None:
        self._service = service
        self._catalog = service.catalog
        self._fleet = fleet
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, *, poll: float = 0.0) -> None:
        """Load the models; raises BadArtifact when the default model cannot be served.

        From then on look for new versions every `poll` seconds, unless it is 0, and whenever another worker has an order.
        """
        number = await self._catalog.refresh()
        if not self._service.has_default and not self._catalog.is_off(self._service.default_model):
            raise BadArtifact(self._why_no_default())
        self._fleet.summon = self._carry_out
        self._carried_out(number)
        if poll:
            self._begin(self._poll(poll))

    async def load(self, name: str, policy: VersionPolicy | None = None) -> None:
        """Serve a model from now on, in all workers. Raises ModelNotFound, BadModel, and NotReady when a worker takes too long."""
        await self._order(name, policy or self._catalog.policy)

    async def unload(self, name: str) -> None:
        """Stop serving a model, in all workers; its waiting requests are finished. Raises ModelNotFound, NotReady."""
        await self._order(name, None)

    async def close(self) -> None:
        """Stop all background tasks."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _order(self, name: str, policy: VersionPolicy | None) -> None:
        try:
            number = await self._catalog.order(name, policy)
        except BadArtifact as error:
            raise NotReady(f"The repository cannot be looked through now: {error}") from None
        if self._catalog.done < number:
            self._carry_out()  # the other workers are told once it is done here
        else:
            self._carried_out(number)
        if not await self._fleet.wait_for(number, timeout=EVERYWHERE):
            raise NotReady(f"Not all workers have done this after {EVERYWHERE:g} s: their logs may say why.")

    def _carried_out(self, number: int) -> None:
        self._service.update()
        self._fleet.carried_out(number)  # last: workers that wait for it may then read what `update` changed

    def _carry_out(self) -> None:
        """Carry out the orders, whichever worker received them."""
        self._begin(self._catch_up())

    async def _catch_up(self) -> None:
        while True:  # also while draining, for requests are still answered; `close` cancels it
            try:
                self._carried_out(await self._catalog.refresh())
                return
            except Exception:
                log.exception("What was ordered could not be done; it is tried again in %g s.", AGAIN)
            await asyncio.sleep(AGAIN)

    async def _poll(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                self._carried_out(await self._catalog.refresh())
            except BadArtifact as error:
                log.error("The repository could not be looked through: %s", error)
            except Exception:
                log.exception("The repository could not be looked through.")

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _why_no_default(self) -> str:
        """Why the default model cannot be served, and what the operator can do about it."""
        name, root = self._service.default_model, self._catalog.repository.root.resolve()
        if refusals := self._catalog.refused.of(name):
            others = "".join(
                f" With --default-model {good} the service starts: that one is good." for good in self._catalog.names()[:1]
            )
            return f"No version of the default model {name!r} can be served. {refusals}{others}"
        if not root.is_dir():
            return f"There is no folder {root}: RECURVE_MODEL_DIR, or --model-dir, says where the models are."
        names = self._catalog.repository.names()
        spelled = {each[: len(name)]: each for each in names} | {each: each for each in names}  # the given name may be a prefix
        meant = "".join(f" Did you mean {spelled[near]}?" for near in get_close_matches(name, [*spelled], n=1))
        return (
            f"There is no model {name!r} in {root} (it holds {', '.join(names) or 'no models'}).{meant} Set RECURVE_MODEL_DIR and "
            "RECURVE_DEFAULT_MODEL, or train and export one: see README.md."
        )
