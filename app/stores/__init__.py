"""Where streams are kept: records by key, changed by compare-and-set only.

Owns the promise that every store gives. Knows nothing of what a record holds beyond its tag.
"""

from typing import ClassVar, Protocol

TAG = 16  # bytes, the first of a record: no two writes of a record have the same
GONE = 3600.0  # seconds for which a key that expired is remembered


class Store(Protocol):
    """Bytes by key, each with a time after which it may be dropped.

    The heart is `swap`: of two that expect the same record, in whatever process, one succeeds. Every method raises
    StoreUnavailable when the store cannot be used now; then nothing has changed, as far as can be told.
    """

    name: ClassVar[str]

    def now(self) -> float:
        """What time it is, in seconds since the epoch: the same for everyone who uses the records of this store.

        StoreUnavailable where that is not known, until it has been reached: `count` will do.
        """

    async def read(self, key: str) -> bytes | None:
        """The record, whether its time is over or not; None where there is none."""

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        """Put the record in the place of the one whose tag is `expected`; None: of no record.

        `until`: when it may be dropped, in seconds since the epoch. True when it is written, whole; False, with nothing
        changed, when another stands there.
        """

    async def remove(self, key: str, *, expected: bytes) -> bool:
        """Remove the record whose tag is `expected`, and remember nothing of it; False when another or none stands there."""

    async def expired(self, key: str) -> bool:
        """Whether `sweep` dropped a record of this key within the last GONE seconds, and none has been written since."""

    async def sweep(self, now: float, *, limit: int) -> int:
        """Drop records whose time is over, `limit` at most; how many. In two processes at once, each is counted once."""

    async def count(self) -> int:
        """How many records there are."""

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        """Keys, about `limit` of them, and the cursor for those that follow, empty after the last; begin with an empty one.

        A key that is there all the while comes once or more. InvalidRequest for a cursor that no page gave, where that shows.
        """

    async def prove(self) -> None:
        """Write something that is no record, and remove it: StoreUnavailable where no record could be written either."""

    async def close(self) -> None:
        """Let go of it. What is kept stays, where the store outlives the process."""
