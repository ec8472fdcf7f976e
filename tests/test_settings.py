"""Settings: which source wins, which values are refused, and how many CPUs the process really has."""

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic_settings import CliApp

from app import __version__, configuration, cpus
from app.configuration import WrongSettings
from app.settings import Settings
from tests.servers import ROOT


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name == "PORT" or name.startswith("RECURVE_"):
            monkeypatch.delenv(name)


def mistakes(*flags: str) -> list[str]:
    """The errors that these wrong settings give."""
    with pytest.raises(WrongSettings) as refused:
        configuration.read(flags)
    return str(refused.value).splitlines()


def test_a_flag_beats_a_variable_beats_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The source nearer to the person who starts the service wins."""
    (tmp_path / ".env").write_text("RECURVE_MAX_STEPS=1\nSOMEBODY_ELSES=2\n")
    assert Settings().max_steps == 1
    monkeypatch.setenv("RECURVE_MAX_STEPS", "2")
    assert Settings().max_steps == 2
    assert CliApp.run(Settings, cli_args=["--max-steps", "3"]).max_steps == 3


def test_port_is_understood_and_our_own_name_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platforms pass the service its port as PORT."""
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
    """Two processes would each have streams of their own."""
    assert CliApp.run(Settings, cli_args=["--stream-store", "memory://"]).resolved_workers == 1


def test_the_log_shows_no_password() -> None:
    def shown(store: str) -> str:
        return str(CliApp.run(Settings, cli_args=["--stream-store", store]).public()["stream_store"])

    assert shown("redis://user:secret@host:6379/0") == "redis://***@host:6379/0"
    assert shown("redis://user:se/cret@host:6379/0") == "redis://***@host:6379/0"
    assert shown("rediss://host/0?password=secret&ssl_cert_reqs=none") == "rediss://host/0?password=***&ssl_cert_reqs=none"


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
    """Sixty-four threads in a container with one CPU would compete for it."""
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
    ],
)
def test_auto_gives_every_worker_its_share_of_the_cpus(flags: list[str], expected: tuple[int, int]) -> None:
    settings = CliApp.run(Settings, cli_args=["--device", "cpu", *flags])
    assert (settings.resolved_workers, settings.resolved_lanes()) == expected


@pytest.mark.parametrize(
    ("cpus", "gib", "expected"),
    [(2, 80, 2), (16, 80, 16), (64, 80, 16), (16, 12, 6), (16, None, 4), (16, 1, 1)],
)
def test_as_many_workers_share_a_gpu_as_it_has_memory_for(
    cpus: int, gib: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker has its own model and CUDA context on the GPU; one that found no memory would report that it is degraded."""
    monkeypatch.setattr("app.settings.available", lambda: cpus)
    monkeypatch.setattr("app.settings.smallest_memory", lambda: gib and gib << 30)
    assert CliApp.run(Settings, cli_args=["--device", "cuda"]).resolved_workers == expected
    assert CliApp.run(Settings, cli_args=["--device", "cpu"]).resolved_workers == cpus


@pytest.mark.parametrize(
    ("flags", "cpu", "cuda"),
    [
        pytest.param([], (16, 8192), (256, 131_072), id="auto"),
        pytest.param(["--max-batch-size", "8"], (8, 8192), (8, 131_072), id="given-size"),
        pytest.param(["--max-batch-steps", "100"], (16, 100), (256, 100), id="given-steps"),
    ],
)
def test_a_gpu_takes_larger_batches_unless_told(flags: list[str], cpu: tuple[int, int], cuda: tuple[int, int]) -> None:
    """A small batch takes a GPU as much time as a large one."""
    settings = CliApp.run(Settings, cli_args=flags)
    assert (settings.resolved_batch(), settings.resolved_batch(cuda=True)) == (cpu, cuda)
    assert settings.resolved_lanes(cuda=True) == 1


def test_capitals_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURVE_LOG_LEVEL", "WARNING")
    assert Settings().log_level == "warning"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        pytest.param("PORT", "99999", "RECURVE_PORT: expected a whole number from 0 to 65535, got '99999'", id="range"),
        pytest.param("LANES", "none", "RECURVE_LANES: expected a whole number from 1 to 256 or auto, got 'none'", id="or-a-word"),
        pytest.param("MAX_STEPS", "0", "RECURVE_MAX_STEPS: expected a whole number from 1 up, got '0'", id="no-upper-limit"),
        pytest.param(
            "MAX_PADDING_WASTE", "1", "RECURVE_MAX_PADDING_WASTE: expected a number from 0 to below 1, got '1'", id="below"
        ),
        pytest.param("LOG_LEVEL", "loud", "RECURVE_LOG_LEVEL: expected debug, info, warning or error, got 'loud'", id="words"),
        pytest.param("HOST", "x.org", "RECURVE_HOST: expected an IP address or localhost, got 'x.org'", id="address"),
        pytest.param("STATE_KEY", "hunter2", "RECURVE_STATE_KEY: expected 16 characters or more", id="secret"),
        pytest.param("STATE_KEY", "a key of sixteen,hunter2", "RECURVE_STATE_KEY: expected 16 characters or more", id="second"),
    ],
)
def test_a_wrong_value_is_told_with_its_limits(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This line is all that an operator sees of a service that does not start. It must not contain a secret."""
    monkeypatch.setenv(f"RECURVE_{name}", value)
    assert mistakes() == [said]


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wrong values, unknown names and settings that conflict are listed together, so that one start shows them all."""
    (tmp_path / ".env").write_text("RECURVE_MAX_STEP=1\nRECURVE_DEVICE=tpu\nSOMEBODY_ELSES=2\n")
    monkeypatch.setenv("RECURVE_MAX_BATCHSIZE", "hunter2")
    monkeypatch.setenv("RECURVE_STATE_KEY_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("RECURVE_API_KEYS", "a:root:hunter2")
    told = mistakes("--stream-store", "memory", "--workers", "2")
    assert [line.split(" ")[0].rstrip(":") for line in told] == [
        "RECURVE_DEVICE",
        "RECURVE_STATE_KEY",
        "RECURVE_API_KEYS",
        "RECURVE_STREAM_STORE",
        "RECURVE_MAX_BATCHSIZE",
        ".env",
    ]
    assert told[4:] == [
        "RECURVE_MAX_BATCHSIZE is not a setting; did you mean RECURVE_MAX_BATCH_SIZE?",
        ".env: RECURVE_MAX_STEP is not a setting; did you mean RECURVE_MAX_STEPS?",
    ]
    assert "hunter2" not in "".join(told)


def test_a_name_like_no_other_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURVE_XYZZY", "1")
    assert mistakes() == ["RECURVE_XYZZY is not a setting; python -m app --help lists them all"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--prot", "9000"], ["--prot is not a flag; did you mean --port?"]),
        (
            ["--lanse=2", "--xyzzy", "--port", "9000"],
            ["--lanse is not a flag; did you mean --lanes?", "--xyzzy is not a flag; python -m app --help lists them all"],
        ),
        (["9000"], ["9000 is not a flag and belongs to none; python -m app --help lists them all"]),
        ([""], ["An empty word is not a flag and belongs to none; python -m app --help lists them all"]),
        (["--port"], ["--port: expected a value; python -m app --help lists them all"]),
    ],
)
def test_a_flag_that_is_none_is_told_in_a_line(flags: list[str], told: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The line suggests the flag that was meant, without twenty lines of usage before it. The flag's value may be a secret."""
    assert mistakes(*flags) == told
    assert capsys.readouterr().err == ""


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        configuration.read(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    flags = {"--" + name.replace("_", "-") for name in Settings.model_fields} - {"--state-key", "--api-keys"}
    assert {*re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE)} == flags | {"--version"}
    assert "--max-body-bytes N " in told
    assert not re.search(r"SecretStr|Path|\b(int|float|str)\b|None|--recurve", told)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        configuration.read(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"Recurve {__version__}\n")


def test_what_others_set_under_our_prefix_is_no_mistake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compose reads two names of its own from the same file; Kubernetes sets variables for every Service in every pod."""
    (tmp_path / ".env").write_text("RECURVE_PUBLISH=0.0.0.0:8000\nRECURVE_PUBLISH_SCALED=8080\nrecurve_max_steps=7\n")
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8000_TCP", "PORT_8000_TCP_ADDR", "REDIS_SERVICE_HOST"):
        monkeypatch.setenv(f"RECURVE_{name}", "10.0.0.1")
    monkeypatch.setenv("RECURVE_REDIS_PORT", "tcp://10.0.0.1:6379")
    assert configuration.read([]).max_steps == 7


def test_a_port_that_kubernetes_set_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kubernetes Service named recurve sets RECURVE_PORT to a URL, not a number."""
    monkeypatch.setenv("RECURVE_PORT", "tcp://10.0.0.1:8000")
    (told,) = mistakes()
    assert told.startswith("RECURVE_PORT: expected a whole number from 0 to 65535, got 'tcp://10.0.0.1:8000'")
    assert "enableServiceLinks: false" in told


def test_a_port_is_named_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "http")
    assert mistakes() == ["PORT: expected a whole number from 0 to 65535, got 'http'"]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"RECURVE_MAX_STEPS=\xff\n")
    assert mistakes()[0].startswith(".env cannot be read")


def test_a_secret_stands_in_one_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If both were allowed, one of them would be ignored in silence."""
    (tmp_path / "key").write_text("a key of sixteen\n")
    monkeypatch.setenv("RECURVE_STATE_KEY_FILE", str(tmp_path / "key"))
    assert configuration.read([]).state_keys == [b"a key of sixteen"]
    monkeypatch.setenv("RECURVE_STATE_KEY", "another of sixteen")
    assert mistakes() == ["RECURVE_STATE_KEY: set beside RECURVE_STATE_KEY_FILE: one of them"]


@pytest.mark.parametrize("text", ["a key of sixteen, another of sixteen,", "a key of sixteen\nanother of sixteen\n"])
def test_keys_that_sign_may_be_several(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key signs; in a file, each key may stand on its own line."""
    monkeypatch.setenv("RECURVE_STATE_KEY", text)
    assert configuration.read([]).state_keys == [b"a key of sixteen", b"another of sixteen"]


def test_an_empty_file_holds_no_key_that_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty secret is a mistake, not a request for a random key."""
    (tmp_path / "key").write_text("\n")
    monkeypatch.setenv("RECURVE_STATE_KEY_FILE", str(tmp_path / "key"))
    assert mistakes() == ["RECURVE_STATE_KEY: expected 16 characters or more"]


def test_what_is_shown_is_what_is_in_use() -> None:
    """A log should show the resolved values, not `auto`."""
    settings = Settings(device="cpu", state_key=SecretStr("a key of sixteen"), max_batch_size=7)
    shown = settings.public()
    assert (shown["workers"], shown["lanes"]) == (settings.resolved_workers, settings.resolved_lanes())
    assert (shown["max_batch_size"], shown["max_batch_steps"]) == (7, 8192)
    assert "a key of sixteen" not in str(shown)


def test_the_files_that_start_the_service_set_nothing_that_is_unknown() -> None:
    """The service does not start with an unknown setting."""
    known = {f"RECURVE_{name.upper()}" for name in Settings.model_fields} | configuration.COMPOSE
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(path for path in (ROOT / "deploy").rglob("*") if path.is_file())]
    named = {name for path in files for name in re.findall(r"\bRECURVE_[A-Z_]*[A-Z]\b", path.read_text())}
    assert "RECURVE_LOG_FORMAT" in named
    assert named <= known
