"""The command lines that users type: a wrong one gets a one-line message, and those that scripts print work when copied."""

import os
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from scripts import command, export, runs, train, tune

ROOT = Path(__file__).parent.parent
Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("script", "words", "says"),
    [
        (train, "--hiden 8", "there is no --hiden, but --hidden"),
        (train, "--learning_rate=0.1", "there is no --learning_rate, but --learning-rate"),
        (train, "--zzz", "there is no --zzz;"),
        (train, "--part ADXL345", "argument --part: invalid choice: 'ADXL345'"),
        (train, "--hidden many", "argument --hidden: invalid int value: 'many'"),
        (train, "surplus", "nothing takes surplus"),
        (train, "--csv load.csv", "there is no --csv, but --data;"),
        (tune, "--file=load.csv", "there is no --file, but --data;"),
        (runs, "--csv load.csv", "there is no --csv;"),
        (tune, "--trails 3", "there is no --trails, but --trials"),
        (export, "runs/some --modeldir x", "there is no --modeldir, but --model-dir"),
        (export, "", "required: RUN_DIR"),
        (runs, "--sorted x", "there is no --sorted, but --sort"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, ModuleType) else None,
)
def test_a_wrong_line_is_answered_in_one(script: ModuleType, words: str, says: str, capsys: Shown) -> None:
    """The message suggests the flag that was meant; sixty lines of usage would hide it."""
    with pytest.raises(SystemExit) as ended:
        script.main(words.split())
    assert ended.value.code == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"python -m {script.__name__}: error: ")
    assert says in told
    assert told.endswith("--help lists what it takes")


def test_a_flag_may_be_cut_short(capsys: Shown) -> None:
    """A prefix of a flag is accepted as long as it is unambiguous."""
    assert train.arguments(["--learn", "0.1"]).learning_rate == 0.1
    with pytest.raises(SystemExit):
        train.arguments(["--re", "1"])
    assert "ambiguous option: --re could match --recordings, " in capsys.readouterr().err


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize("here", ["the root", "elsewhere"])
def test_a_line_works_from_the_folder_that_it_is_printed_in(here: str, activated: bool, tmp_path: Path) -> None:
    """If the environment is not activated, `python` is another interpreter or does not exist."""
    folder = ROOT if here == "the root" else tmp_path
    own = Path(sys.executable).parent
    path = os.pathsep.join([str(own), "/usr/bin", "/bin"] if activated else ["/usr/bin", "/bin"])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    run = partial(subprocess.run, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    code = "from scripts import command; print(command.line('pip', '--version'))"
    line = run([sys.executable, "-c", code]).stdout.rstrip("\n")
    assert f" from {sys.prefix}/" in run(["/bin/sh", "-c", line]).stdout
    if not activated and own.is_relative_to(folder):
        assert not Path(shlex.split(line)[0]).is_absolute()


def test_torch_is_loaded_when_its_threads_are_told_to_sleep_while_they_wait(tmp_path: Path) -> None:
    """torch reads how its threads wait when it is loaded: if processes share a core, spinning makes an update take minutes."""
    (tmp_path / "torch.py").write_text("import os\nraise SystemExit(os.environ.get('GOMP_SPINCOUNT', 'not said'))\n")
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for module in ("scripts.train", "scripts.tune"):
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == "1000\n"


def test_an_interpreter_outside_the_folder_has_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins with ../.. is hard to read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.python() == sys.executable


COMMANDS = [path for path in (ROOT / "scripts").rglob("*.py") if "command.run(main)" in path.read_text()]


@pytest.mark.parametrize("module", ["app", *(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in COMMANDS)])
def test_ctrl_c_while_modules_are_loaded_leaves_no_traceback(module: str, tmp_path: Path) -> None:
    """KeyboardInterrupt inside the import of NumPy or torch becomes another error, or a crash."""
    (tmp_path / "numpy.py").write_text(
        "import os\nimport signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit('went on')\n"
    )
    command = [sys.executable, "-m", module.removesuffix(".__main__"), "--help"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_streams_that_were_made_to_expire_are_gone_when_ctrl_c_ends_that(tmp_path: Path) -> None:
    """The streams fill tens of megabytes of a temporary folder."""
    (tmp_path / "uvloop.py").write_text(
        "import os\nimport signal\ndef run(work):\n    work.close()\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    (tmp_path / "temporary").mkdir()
    more = {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path / "temporary")}
    version = next((ROOT / "model" / "gyro-denoiser").glob("[0-9]*"))
    arguments = ["-m", "scripts.bench.expiry", str(version), "embedded", "1"]
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | more, capture_output=True, check=False)
    assert (done.returncode, [*(tmp_path / "temporary").iterdir()]) == (command.STOPPED, [])


def test_a_command_that_ctrl_c_ends_says_so_in_a_line(capsys: Shown) -> None:
    def stopped() -> int:
        raise KeyboardInterrupt

    assert command.run(stopped) == command.STOPPED == 130
    assert capsys.readouterr().err == "\nStopped.\n"
    assert [command.run(lambda each=each: each) for each in (0, 1)] == [0, 1]


@pytest.mark.parametrize(
    ("does", "read_from", "code", "says"),
    [
        pytest.param("print('much') or 0", False, 141, "", id="kept-until-the-end"),
        pytest.param("print('much', flush=True)", False, 141, "", id="at-once"),
        pytest.param("os.write(another, b'much')", True, 1, "BrokenPipeError: ", id="another-pipe"),
    ],
)
def test_a_command_whose_reader_has_left_ends_without_a_word(does: str, read_from: bool, code: int, says: str) -> None:
    """A reader such as `| head` has all it wanted; a broken pipe anywhere else is a defect and must show."""
    imports = "import os, sys\nfrom scripts import command"
    program = f"{imports}\nread, another = os.pipe()\nos.close(read)\nsys.exit(command.run(lambda: {does}))"
    read, write = os.pipe()
    if not read_from:
        os.close(read)
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    if read_from:
        os.close(read)
    assert ended.returncode == code
    assert (ended.stderr == "") == (says == "")
    assert says in ended.stderr


def test_the_longest_installation_is_announced() -> None:
    """pip runs quietly, so nothing else is printed for minutes."""
    told = subprocess.check_output(["make", "--dry-run", "VENV=nowhere", "install-train"], cwd=ROOT, text=True)
    said = [line for line in told.splitlines() if line.startswith("echo")]
    assert [("minutes" in line) for line in said] == ["torch.txt" in line for line in said]
    assert any("torch.txt (PyTorch: this takes some minutes)" in line for line in said)
