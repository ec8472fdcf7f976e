"""What the operator has ordered: which versions of which models are to be served, where that differs from the settings.

Owns the orders and, where there are several workers, the file by which they know of each other's. Knows nothing of models.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "orders.json"


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which versions of a model are served side by side: the newest good ones, or those that are named."""

    latest: int | None = 1  # None: all
    specific: tuple[str, ...] | None = None

    def among(self, versions: Sequence[str]) -> list[str]:
        """Of these, newest first, the ones to be tried."""
        return [version for version in versions if self.specific is None or version in self.specific]

    def enough(self, count: int) -> bool:
        """Whether so many good ones are all that is wanted."""
        return self.specific is None and self.latest is not None and count >= self.latest


Orders = dict[str, VersionPolicy | None]  # by model; None: it is not to be served


class OrderBook:
    """The orders that were given, each of them numbered; in `folder`, where that is given, so that other processes see them."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._number = 0
        self._orders: Orders = {}

    def read(self) -> tuple[int, Orders]:
        """The number of the last order, and what holds after it."""
        if self._folder is not None:
            with suppress(FileNotFoundError):  # none was given yet
                self._number, self._orders = _parsed((self._folder / FILE_NAME).read_bytes())
        return self._number, dict(self._orders)

    def give(self, name: str, policy: VersionPolicy | None) -> int:
        """Order what is to be served of a model from now on; the number of the order."""
        if self._folder is None:
            self._number += 1
            self._orders[name] = policy
            return self._number
        with (self._folder / f"{FILE_NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            number, orders = self.read()
            orders[name] = policy
            written = self._folder / f"{FILE_NAME}.new"
            kept = {each: policy and asdict(policy) for each, policy in orders.items()}
            written.write_text(json.dumps({"number": number + 1, "orders": kept}))
            os.replace(written, self._folder / FILE_NAME)
            return number + 1


def _parsed(text: bytes) -> tuple[int, Orders]:
    kept = json.loads(text)
    orders: Orders = {}
    for name, policy in kept["orders"].items():
        specific = policy and policy["specific"]
        orders[name] = policy and VersionPolicy(latest=policy["latest"], specific=specific and tuple(specific))
    return kept["number"], orders
