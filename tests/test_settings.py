"""Settings: which source wins, and what is refused. And how many CPUs there really are."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from app import cpus
from app.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "RECURVE_PORT", "RECURVE_MAX_STEPS"):
        monkeypatch.delenv(name, raising=False)


def test_a_flag_beats_a_variable_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The nearer to the person who starts the service, the stronger."""
    (tmp_path / ".env").write_text("RECURVE_MAX_STEPS=1\nSOMEBODY_ELSES=2\n")
    assert Settings().max_steps == 1
    monkeypatch.setenv("RECURVE_MAX_STEPS", "2")
    assert Settings().max_steps == 2
    assert CliApp.run(Settings, cli_args=["--max-steps", "3"]).max_steps == 3


def test_port_is_understood_and_our_own_name_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platforms that start a service tell it its port as PORT."""
    monkeypatch.setenv("PORT", "1001")
    assert Settings().port == 1001
    monkeypatch.setenv("RECURVE_PORT", "1002")
    assert Settings().port == 1002
    assert CliApp.run(Settings, cli_args=["--port", "1003"]).port == 1003


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--host", "example.com"], id="host-is-no-address"),
        pytest.param(["--device", "tpu"], id="unknown-device"),
        pytest.param(["--max-padding-waste", "1"], id="all-padding"),
        pytest.param(["--request-timeout", "0"], id="no-time"),
        pytest.param(["--lanes", "0"], id="no-lanes"),
        pytest.param(["--stream-store", "postgres://db"], id="unknown-store"),
        pytest.param(["--stream-store", "redis://"], id="store-without-a-host"),
        pytest.param(["--stream-store", "memory", "--workers", "2"], id="memory-of-two-processes"),
        pytest.param(["--stream-ttl", "0"], id="no-life"),
    ],
)
def test_what_cannot_work_is_refused(flags: list[str]) -> None:
    with pytest.raises(ValidationError):
        CliApp.run(Settings, cli_args=flags)


def test_memory_is_one_process_unless_it_is_told_otherwise() -> None:
    """Two would each have streams of their own."""
    assert CliApp.run(Settings, cli_args=["--stream-store", "memory://"]).resolved_workers == 1


def test_the_log_shows_no_password() -> None:
    settings = CliApp.run(Settings, cli_args=["--stream-store", "redis://user:secret@host:6379/0"])
    assert settings.public()["stream_store"] == "redis://***@host:6379/0"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="no-cgroup"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="v2-unlimited"),
        pytest.param({"cpu.max": "50000 100000\n"}, 1, id="v2-half-a-cpu"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, id="v1-unlimited"),
        pytest.param({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1, id="v1-one-cpu"),
    ],
)
def test_the_containers_quota_counts_not_the_hosts_cores(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    """Sixty-four threads in a container of one CPU would fight for it."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert cpus.available(tmp_path) == (expected or cpus.available(tmp_path / "none"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        pytest.param([], (cpus.available(), 1), id="auto"),
        pytest.param(["--workers", "1"], (1, cpus.available()), id="one-worker"),
        pytest.param(["--lanes", "3"], (cpus.available(), 3), id="given-lanes"),
        pytest.param(["--device", "cuda"], (1, cpus.available()), id="one-for-a-gpu"),
    ],
)
def test_auto_gives_every_worker_its_share_of_the_cpus(flags: list[str], expected: tuple[int, int]) -> None:
    settings = CliApp.run(Settings, cli_args=["--device", "cpu", *flags])
    assert (settings.resolved_workers, settings.resolved_lanes()) == expected


@pytest.mark.parametrize(
    ("flags", "cpu", "cuda"),
    [
        pytest.param([], (16, 8192), (256, 131_072), id="auto"),
        pytest.param(["--max-batch-size", "8"], (8, 8192), (8, 131_072), id="given-size"),
        pytest.param(["--max-batch-steps", "100"], (16, 100), (256, 100), id="given-steps"),
    ],
)
def test_a_gpu_takes_larger_batches_unless_told(flags: list[str], cpu: tuple[int, int], cuda: tuple[int, int]) -> None:
    """A small batch takes a GPU as long as a large one."""
    settings = CliApp.run(Settings, cli_args=flags)
    assert (settings.resolved_batch(), settings.resolved_batch(cuda=True)) == (cpu, cuda)
    assert settings.resolved_lanes(cuda=True) == 1


def test_capitals_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURVE_LOG_LEVEL", "WARNING")
    assert Settings().log_level == "warning"
