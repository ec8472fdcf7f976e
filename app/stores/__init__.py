"""The stores that keep streams: records by key, changed by compare-and-set only.

Owns the interface of every store. Knows nothing of what a record holds beyond its tag.
"""

from typing import ClassVar, Protocol

TAG = 16  # a record begins with so many bytes, its tag, which differ in every write
GONE = 3600.0  # seconds for which the key of an expired record is remembered


class Store(Protocol):
    """Bytes by key, each with a time after which it may be dropped.

    The central method is `swap`: of two calls that expect the same record, in any processes, one succeeds. Every method raises
    StoreUnavailable when the store cannot be used now; then nothing has changed, as far as is known.
    """

    name: ClassVar[str]

    def now(self) -> float:
        """The time in seconds since the epoch, from one clock for all processes that use this store.

        Raises StoreUnavailable while that clock is not known: any method that reaches the store, such as `count`, makes it known.
        """

    async def read(self, key: str) -> bytes | None:
        """The record, expired or not; None when there is none."""

    async def swap(self, key: str, record: bytes, *, expected: bytes | None, until: float) -> bool:
        """Write the record if the stored one has the tag `expected`, or, for None, if there is no stored record.

        `until`: when the record may be dropped, in seconds since the epoch. Returns True when the whole record is written; False,
        with nothing changed, when the stored record is another.
        """

    async def remove(self, key: str, *, expected: bytes) -> bool:
        """Remove the record if its tag is `expected`, and do not remember its key; False when there is another record or none."""

    async def expired(self, key: str) -> bool:
        """Whether `sweep` dropped a record of this key within the last GONE seconds, and none has been written since."""

    async def sweep(self, now: float, *, limit: int) -> int:
        """Drop expired records, at most `limit`, and return how many. Two processes that sweep at once count each record once."""

    async def count(self) -> int:
        """How many records there are."""

    async def page(self, cursor: str, *, limit: int) -> tuple[list[str], str]:
        """About `limit` keys, and the cursor for the next page, empty after the last; the first page has an empty cursor.

        A key that is stored throughout is returned once or more. May raise InvalidRequest for a cursor that no page returned.
        """

    async def prove(self) -> None:
        """Write something that is not a record, and remove it; raises StoreUnavailable when no record could be written either."""

    async def close(self) -> None:
        """Close the store. Its records stay if the store outlives the process."""
