"""The operator's orders: which versions of which models to serve, if that differs from the settings.

Owns the orders and, with several workers, the file by which they share them. Knows nothing of loaded models.
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
    """Which versions of a model are served side by side: the newest good ones, or the named ones."""

    latest: int | None = 1  # None: all
    specific: tuple[str, ...] | None = None

    def among(self, versions: Sequence[str]) -> list[str]:
        """Those of these versions that should be tried, in the given order: newest first."""
        return [version for version in versions if self.specific is None or version in self.specific]

    def enough(self, count: int) -> bool:
        """Whether `count` good versions are all that is wanted."""
        return self.specific is None and self.latest is not None and count >= self.latest


Orders = dict[str, VersionPolicy | None]  # by model; None: do not serve it


class OrderBook:
    """The orders given so far, numbered. `folder`: where to keep them, so that other processes see them; None: in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._number = 0
        self._orders: Orders = {}

    def read(self) -> tuple[int, Orders]:
        """The number of the last order, and the order in force for each model."""
        if self._folder is not None:
            with suppress(FileNotFoundError):  # no order was given yet
                self._number, self._orders = _parsed((self._folder / FILE_NAME).read_bytes())
        return self._number, dict(self._orders)

    def give(self, name: str, policy: VersionPolicy | None) -> int:
        """Order what is served of a model from now on; returns the order's number."""
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
