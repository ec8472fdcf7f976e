"""The files of the embedded store: opening them, checking them for damage, and the operations within one transaction.

LMDB does not check its files, and damaged ones can crash the process. A power failure or a restored copy can damage them. So a
process that opens them while no other process has them open verifies them first. Times are milliseconds in 8 bytes, big-endian,
so that they sort.

    records   key -> until, due, record; using a record moves only its `until`, so only this database is written
    due       due, key -> nothing: when to look at a record (never after its `until`) or at an entry of `gone`
    gone      key -> until when to remember that a record of this key was dropped; also, briefly, what `prove` writes
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

MAP_SIZE = 2**38  # bytes of address space; the file grows only to the most that it ever held
READERS = 1024  # processes
ROOM = 2**18  # bytes that must be free on the disk to make the files
PREFIX = 16  # bytes before a record: `until` and `due`
SLICE = 128  # entries that one transaction looks at, before the event loop does other work
FULL = {ENOSPC, EDQUOT, EFBIG, EIO}  # LMDB reports a write that was cut short as EIO
DAMAGED = (VerifyError, lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
DOUBTFUL = (*DAMAGED, lmdb.BadTxnError, lmdb.MapResizedError, lmdb.PanicError)  # after these every later call may fail too
PROOF = [b"\0%d" % number for number in range(8)]  # keys that no stream has
USUAL = 1500  # bytes of a typical record

_BEGINNING = Struct(f"8s8s{TAG}s")  # until, due, the record's tag
_problems: Callable[[str], list[str]] = verify  # has no type hints
Transaction: TypeAlias = "lmdb.Transaction[memoryview]"  # the memory that it returns is valid until its next write


def stamp_of(seconds: float) -> bytes:
    return ceil(seconds * 1000).to_bytes(8, "big")


# One swap, or a removal if the record is None: key, record, the expected tag, until. A bare tuple: one is made for each chunk.
Write: TypeAlias = tuple[bytes, bytes | None, bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Files:
    """The open LMDB environment with its databases, and the operations within one transaction."""

    folder: Path
    marks: tuple[object, object]  # of the open files
    env: lmdb.Environment
    records: _Database
    due: _Database
    gone: _Database

    @classmethod
    def open(cls, folder: Path, map_size: int, *, doubted: bool = False) -> "Files":
        """Open the files, one process at a time. Damaged files are renamed, and new ones are made.

        The files must not be open in this process. `doubted`: verify them even if another process has them open. Raises
        StoreUnavailable.
        """
        try:
            with _alone_in(folder):  # else a second process could rename the files that the first one has just made
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
            # LMDB maps the file without allocating its space: on a full disk, writing to it would kill the process
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
                    _look_through(folder)  # within a write transaction, so that no process writes meanwhile
                return cls(folder, _marks(folder), env, *(env.open_db(name, txn) for name in (b"records", b"due", b"gone")))
        except BaseException:
            env.close()
            raise

    def are_there(self) -> bool:
        """Whether the open files still have their names in the folder. If not, other processes no longer share them."""
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
        """Write as much as some records take, or remove it. LMDB does not write pages that one transaction both takes and frees."""
        for key in PROOF:
            if put:
                txn.put(key, bytes(USUAL), db=self.gone)
            else:
                txn.delete(key, db=self.gone)

    def after(self, txn: Transaction, key: bytes, most: int) -> list[str]:
        cursor = txn.cursor(self.records)
        found = cursor.set_range(key + b"\0")  # False: no key follows, and `iternext` would begin at the first of all
        return [bytes(key).decode() for key in islice(cursor.iternext(values=False), most)] if found else []

    def drop(self, txn: Transaction, now: float, most: int) -> tuple[int, int]:
        """Look at some entries that are due. Returns how many these were, and how many records were dropped."""
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
    """Bytes that must be free on the folder's disk to open the files: ROOM if they have to be made, else 0."""
    files = (folder / "data.mdb", folder / "lock.mdb")
    return 0 if all(file.exists() and file.stat().st_size for file in files) else ROOM


def advice(error: OSError | lmdb.Error) -> str:
    """What the operator can do about the error; empty when that is not known."""
    code = error.errno if isinstance(error, OSError) else error.code
    if code in FULL:
        fails = " Where there is space, the disk fails: see the system's log." if code == EIO else ""
        return f" Free space on its disk; nothing in it was lost.{fails}"
    if code == ENOMEM:
        return " It needs more address space than this process may have: see ulimit -v."
    return ""


def _fitting(map_size: int) -> int:
    """The map size, limited to a quarter of the address space that this process may have."""
    limit, _ = getrlimit(RLIMIT_AS)
    if limit == RLIM_INFINITY or map_size <= limit // 4:
        return map_size
    log.warning("The address space is limited (ulimit -v): streams may take %d MiB at most.", limit // 2**22)
    return limit // 2**22 * 2**20  # whole pages


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time runs this block; makes the folder if there is none."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (folder / "opened").open("ab") as gate:
            flock(gate, LOCK_EX)
            if _mark(gate.fileno()) == _mark(folder / "opened"):  # else it was removed meanwhile, and others lock a new one
                yield
                return


def _is_in_use(lock: IO[bytes]) -> bool:
    """Whether another process has the files open: it holds LMDB's lock on the first byte, which ends with the process.

    A process that has the files open itself must not call this: it would lose its own lock.
    """
    try:
        lockf(lock, LOCK_EX | LOCK_NB, 1)
    except (BlockingIOError, PermissionError):
        return True
    return False


def _look_through(folder: Path) -> None:
    """Verify the files; raises VerifyError when they are damaged. A thousand streams take about 30 ms."""
    data = folder / "data.mdb"
    if data.exists() and data.stat().st_size and (problems := _problems(str(folder))):  # an empty file was never used
        raise VerifyError(problems[0])


def _mark(file: Path | int) -> tuple[int, int] | None:
    """Identifies a file, also after it is renamed: its device and inode; None when there is no such file."""
    try:
        found = os.stat(file)  # noqa: PTH116  # takes a descriptor too
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _marks(folder: Path) -> tuple[object, object]:
    return _mark(folder / "data.mdb"), _mark(folder / "lock.mdb")
