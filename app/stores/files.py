"""The files of the embedded store: opened by one process after the other, and what is done within one transaction.

Owns who looks through them: LMDB trusts them to the death, and they may be damaged, by a machine that lost its power as by a
copy that was put back. So whoever opens them while nobody else has them open does. Times are milliseconds, 8 bytes,
big-endian: they sort.

    records   key -> until, due, record; using it moves `until` alone, which writes to this database only
    due       due, key -> nothing: when to look at a record, never after its `until`, or at the memory of one
    gone      key -> when it may be forgotten that a record of this key was dropped; for a moment, what `prove` writes
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, EIO, ENOMEM, ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock, lockf
from itertools import islice, takewhile
from math import ceil
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
from struct import Struct
from time import time_ns
from typing import IO, TypeAlias

import lmdb
from lmdb import _Database
from lmdb.verify import VerifyError, verify

from app.disk import allot
from app.errors import StoreUnavailable
from app.stores import GONE, TAG

log = logging.getLogger(__name__)

MAP_SIZE = 2**38  # bytes of address space; the file is as large as what was in it at once
READERS = 1024  # processes
ROOM = 2**18  # bytes on the disk, without which nothing is begun
PREFIX = 16  # bytes before a record
SLICE = 128  # entries that are looked at in one transaction, before others have their turn
FULL = {ENOSPC, EDQUOT, EFBIG, EIO}  # LMDB says EIO of a write that was cut short
DAMAGED = (VerifyError, lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
DOUBTFUL = (*DAMAGED, lmdb.BadTxnError, lmdb.MapResizedError, lmdb.PanicError)  # after these LMDB may never say anything else
PROOF = [b"\0%d" % number for number in range(8)]  # keys that no stream has
USUAL = 1500  # bytes of a record

_BEGINNING = Struct(f"8s8s{TAG}s")  # until, due, the record's tag
_problems: Callable[[str], list[str]] = verify  # which lacks types
Transaction: TypeAlias = "lmdb.Transaction[memoryview]"  # what it gives is valid until its next write


def stamp_of(seconds: float) -> bytes:
    return ceil(seconds * 1000).to_bytes(8, "big")


# One swap, or a removal where the record is None: key, record, the tag expected, until. A bare tuple: there is one for each chunk.
Write: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Files:
    """The open environment and its databases: what is done within one transaction."""

    folder: Path
    marks: tuple[object, object]  # of the files that are open
    env: lmdb.Environment
    records: _Database
    due: _Database
    gone: _Database

    @classmethod
    def open(cls, folder: Path, map_size: int, *, doubted: bool = False) -> "Files":
        """Open the files, one process at a time; those that cannot be read are set aside, and it begins anew.

        They must not be open in this process. `doubted`: they are looked through whoever else has them open. StoreUnavailable.
        """
        try:
            with _alone_in(folder):  # or a second process would set aside what the first one has just begun
                try:
                    return cls._open(folder, map_size, doubted=doubted)
                except DAMAGED as error:
                    aside = f"damaged-{time_ns()}"
                    for file in folder.glob("*.mdb"):
                        os.replace(file, f"{file}.{aside}")
                    log.error("%s cannot be read (%s). It is kept as data.mdb.%s; streams begin anew.", folder, error, aside)
                    return cls._open(folder, map_size)
        except (OSError, lmdb.Error) as error:
            raise StoreUnavailable(f"Streams cannot be kept in {folder}: {error}.{advice(error)}") from error

    @classmethod
    def _open(cls, folder: Path, map_size: int, *, doubted: bool = False) -> "Files":
        with (folder / "lock.mdb").open("ab") as lock:
            if not _is_in_use(lock):
                _look_through(folder)
            # LMDB maps it as it is: on a full disk that would end the process
            allot(lock.fileno(), 64 * (READERS + 3))
        env = lmdb.open(
            str(folder),
            _fitting(map_size),
            mode=0o600,
            max_dbs=3,
            max_readers=READERS,
            max_spare_txns=1,
            sync=False,
            metasync=False,
            readahead=False,
        )
        try:
            env.reader_check()
            with env.begin(write=True, buffers=True) as txn:
                if doubted:
                    _look_through(folder)  # nobody writes meanwhile
                return cls(folder, _marks(folder), env, *(env.open_db(name, txn) for name in (b"records", b"due", b"gone")))
        except BaseException:
            env.close()
            raise

    def are_there(self) -> bool:
        """Whether these are the files that others find under their names. If not, each process goes on by itself."""
        return None not in self.marks and _marks(self.folder) == self.marks

    def write(self, txn: Transaction, write: Write) -> bool:
        key, record, expected, until = write
        kept = txn.get(key)
        if kept is not None:
            _, due, tag = _BEGINNING.unpack_from(kept)
            if tag != expected:
                return False
        elif expected is not None or record is None:
            return False
        elif (forget := txn.get(key, db=self.gone)) is not None:
            txn.delete(bytes(forget) + key, db=self.due)
            txn.delete(key, db=self.gone)
        if record is None:
            return txn.delete(due + key, db=self.due) and txn.delete(key)
        if kept is None or until < due:  # it is new, or its time was shortened
            if kept is not None:
                txn.delete(due + key, db=self.due)
            due = until
            txn.put(due + key, b"", db=self.due)
        return txn.put(key, until + due + record)

    def prove(self, txn: Transaction, *, put: bool) -> None:
        """Write as much as some records are, or remove it: pages that one transaction takes and gives back are not written."""
        for key in PROOF:
            if put:
                txn.put(key, bytes(USUAL), db=self.gone)
            else:
                txn.delete(key, db=self.gone)

    def after(self, txn: Transaction, key: bytes, most: int) -> list[str]:
        cursor = txn.cursor(self.records)
        found = cursor.set_range(key + b"\0")  # or it would stand at the first
        return [bytes(key).decode() for key in islice(cursor.iternext(values=False), most)] if found else []

    def drop(self, txn: Transaction, now: float, most: int) -> tuple[int, int]:
        """How many entries were due, of as many as were looked at, and how many records were dropped."""
        stamp, forget = int(now * 1000).to_bytes(8, "big"), stamp_of(now + GONE)
        first = map(bytes, islice(txn.cursor(self.due).iternext(values=False), min(most, SLICE)))
        entries = list(takewhile(lambda entry: entry[:8] <= stamp, first))
        dropped = 0
        for entry in entries:
            due, key = entry[:8], entry[8:]
            txn.delete(entry, db=self.due)
            kept = txn.get(key)
            if kept is None or kept[8:16] != due:
                txn.delete(key, db=self.gone)
            elif (until := bytes(kept[:8])) > stamp:
                txn.put(key, until + until + bytes(kept[16:]))
                txn.put(until + key, b"", db=self.due)
            else:
                txn.delete(key)
                txn.put(key, forget, db=self.gone)
                txn.put(forget + key, b"", db=self.due)
                dropped += 1
        return len(entries), dropped


def room(folder: Path) -> int:
    """Bytes that have to be free on the folder's disk for the files to be opened, which are made where there are none."""
    files = (folder / "data.mdb", folder / "lock.mdb")
    return 0 if all(file.exists() and file.stat().st_size for file in files) else ROOM


def advice(error: OSError | lmdb.Error) -> str:
    """What can be done about it; empty where that is not known."""
    code = error.errno if isinstance(error, OSError) else error.code
    if code in FULL:
        fails = " Where there is space, the disk fails: see the system's log." if code == EIO else ""
        return f" Free space on its disk; nothing in it was lost.{fails}"
    if code == ENOMEM:
        return " It needs more address space than this process may have: see ulimit -v."
    return ""


def _fitting(map_size: int) -> int:
    """As much of it as leaves others three quarters of the address space that this process may have."""
    limit, _ = getrlimit(RLIMIT_AS)
    if limit == RLIM_INFINITY or map_size <= limit // 4:
        return map_size
    log.warning("The address space is limited (ulimit -v): streams may take %d MiB at most.", limit // 2**22)
    return limit // 2**22 * 2**20  # whole pages


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; the folder is made where there is none."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "opened").open("ab") as gate:
            flock(gate, LOCK_EX)
            if _mark(gate.fileno()) == _mark(folder / "opened"):  # else it was removed meanwhile, and others take the new one
                yield
                return


def _is_in_use(lock: IO[bytes]) -> bool:
    """Whether another process has the files open: LMDB keeps the first byte locked for as long, and the lock dies with it.

    Not to be asked by a process that has them open itself: its own lock would be gone.
    """
    try:
        lockf(lock, LOCK_EX | LOCK_NB, 1)
    except (BlockingIOError, PermissionError):
        return True
    return False


def _look_through(folder: Path) -> None:
    """VerifyError unless all is well: a thousand streams take some 30 ms."""
    data = folder / "data.mdb"
    if data.exists() and data.stat().st_size and (problems := _problems(str(folder))):  # empty: it was never begun
        raise VerifyError(problems[0])


def _mark(file: Path | int) -> tuple[int, int] | None:
    """By which a file is known, whatever its name is by now; None where there is none that can be found."""
    try:
        found = os.stat(file)  # noqa: PTH116  # or a descriptor
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _marks(folder: Path) -> tuple[object, object]:
    return _mark(folder / "data.mdb"), _mark(folder / "lock.mdb")
