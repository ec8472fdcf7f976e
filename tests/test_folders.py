"""The temporary folders of a service: removed when it ends, swept after it was killed, and never taken from a live process."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from shutil import rmtree
from time import monotonic

import pytest

from app.errors import NoRoom
from app.main import _store
from app.processes import folders
from app.settings import Settings
from app.streaming import data_folder
from tests.servers import ROOT, serve
from tests.test_http import children, wait_for_end
from tests.test_stores import fill, small_disk

KILLED = """
import os, sys
from pathlib import Path
from app.processes import folders
folders.MEMORY = Path(sys.argv[1])
with folders.shared("test") as folder:
    (folder / "file").touch()
    if sys.argv[2] == "with a worker" and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""

ALONE = """
import sys
from pathlib import Path
from app.processes import folders
with folders.alone(Path(sys.argv[1])):
    print("alone", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make and sweep folders here, away from those of other tests."""
    monkeypatch.setattr(folders, "MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed(place: Path, what: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(place), what], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_one_process_at_a_time_is_alone_and_who_dies_is_no_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ALONE, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with (tmp_path / "alone.lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.kill()
    with folders.alone(tmp_path):
        pass


def test_a_folder_is_gone_at_the_end_and_no_sweep_takes_it_before(place: Path) -> None:
    with folders.shared("test") as folder:
        (folder / "file").touch()
        assert folders.sweep() == []
        assert (folder / "file").exists()
    assert [*place.iterdir()] == []


def test_what_a_killed_service_has_left_is_swept(place: Path) -> None:
    """It may hold streams, and it takes memory that nothing else would free before the next boot."""
    with killed(place, "alone") as dead:
        assert dead.wait(timeout=30) == -signal.SIGKILL
        (left,) = place.iterdir()
        assert folders.sweep() == [left]
        assert [*place.iterdir()] == []


def test_what_a_worker_still_uses_is_not_swept(place: Path) -> None:
    """A worker outlives a supervisor that was killed, until it has answered the requests it had accepted."""
    with killed(place, "with a worker") as dead:
        assert dead.stdout is not None
        assert dead.stdin is not None
        left = Path(dead.stdout.readline().rstrip("\n"))
        assert dead.wait(timeout=30) == -signal.SIGKILL
        assert folders.sweep() == []
        assert (left / "file").exists()
        dead.stdin.close()
        assert dead.stdout.read() == ""  # the worker has ended
        assert folders.sweep() == [left]


def test_what_is_another_users_or_only_called_so_is_not_swept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has the rights to remove everybody's folders, so the owner must be checked."""
    (place / "elsewhere").mkdir()
    for name in ("test-dir", "test-link"):
        (place / f"{folders.PREFIX}{name}").symlink_to(place / "elsewhere")
    (place / f"{folders.PREFIX}test-file").touch()
    (place / "recurve-metrics-of-an-older-one").mkdir()
    left = place / f"{folders.PREFIX}test-theirs"
    left.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: -1)
        assert folders.sweep() == []
    assert folders.sweep() == [left]
    assert len([*place.iterdir()]) == 5


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its lock is held, a new folder looks like an abandoned one."""
    made: list[str] = []

    def making(**where: str) -> str:
        made.append(tempfile.mkdtemp(**where))
        if len(made) == 1:
            assert len(folders.sweep()) == 1
        return made[-1]

    monkeypatch.setattr(folders, "mkdtemp", making)
    with folders.shared("test") as folder:
        assert [str(folder)] == made[1:]
        assert folder.exists()


def test_a_folder_is_made_again_that_a_sweep_holds_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new folder must not be used in the moment before the sweep removes it."""
    made: list[str] = []
    sweeps: list[int] = []
    begun = threading.Event()

    def making(**where: str) -> str:
        made.append(tempfile.mkdtemp(**where))
        if len(made) == 1:
            sweeps.append(os.open(made[0], os.O_RDONLY))
            fcntl.flock(sweeps[0], fcntl.LOCK_EX)
            begun.set()
        return made[-1]

    def finish() -> None:
        begun.wait()
        rmtree(made[0])
        os.close(sweeps[0])

    monkeypatch.setattr(folders, "mkdtemp", making)
    sweep = threading.Thread(target=finish)
    sweep.start()
    with folders.shared("test") as folder:
        assert [str(folder)] == made[1:]
        assert folder.exists()
    sweep.join()


def test_a_folder_is_where_there_is_room(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory if it fits, else on disk; and the error says how much room is needed, so nobody has to find it out."""
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(folders, "free", {place: 2**20, disk: 2**22}.__getitem__)
    for room, where in ((2**20, place), (2**21, disk)):
        with folders.shared("test", room=room) as folder:
            assert folder.parent == where
    with pytest.raises(NoRoom) as raised, folders.shared("test", room=2**23):
        pass
    assert f"There is no room for test: 8.0 MiB are needed, and {place} has 1.0 MiB and {disk} has 4.0 MiB. " in str(raised.value)
    assert "--shm-size" in str(raised.value)


def test_streams_in_memory_leave_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full /dev/shm harms every program that uses it; a full store only answers 503 and says so."""
    (tmp_path / "no-folder").touch()
    with small_disk(tmp_path / "disk"):
        monkeypatch.setattr(folders, "MEMORY", tmp_path / "disk")
        before = folders.free(tmp_path / "disk")
        with data_folder.writable(tmp_path / "no-folder") as (kept, map_size):
            assert map_size is not None
            assert map_size == before // 8192 * 4096

            async def main() -> str:
                store = _store(Settings(data_dir=kept), map_size)
                _, error = await fill(store, 5000)
                await store.close()
                return error

            assert f"It may take {map_size / 2**20:g} MiB; nothing in it was lost." in asyncio.run(main())
            assert folders.free(tmp_path / "disk") > before / 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to see what is open")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_sweeps_what_one_that_was_killed_has_left(repository: Path, tmp_path: Path, workers: str) -> None:
    """Both its streams, which were in memory because the data folder was unusable, and what its workers shared."""
    (tmp_path / "no-folder").touch()
    with serve(repository, "--workers", workers, "--data-dir", str(tmp_path / "no-folder")) as server:
        pid = server.process.pid
        links = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
        used = {link for link in links if link.name.startswith(folders.PREFIX)}
        assert len(used) == (1 if workers == "1" else 3)
        counted = [file.stat() for folder in used for file in folder.glob("*.db")]
        assert (counted != []) == (workers == "2")
        assert all(file.st_blocks * 512 >= file.st_size for file in counted)
        after = children(pid)
        server.stop(signal.SIGKILL)
        for worker in after:
            wait_for_end(worker)
        until = monotonic() + 30
        with serve(repository, "--workers", "1"):
            while any(folder.exists() for folder in used):  # the service of another test may be sweeping it already
                assert monotonic() < until
