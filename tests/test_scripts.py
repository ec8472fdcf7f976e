"""The command lines, from a simulated sensor to a version that serves: what they print, and their exit codes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from app import manifest
from scripts import command, export, problems, train, verify
from scripts.gyro.model import Denoiser
from scripts.overview import kept, presence
from scripts.overview.shown import table
from scripts.training import threads
from tests import artifacts
from tests.fakes import interruption
from tests.series_files import hourly

SIZES = {"recordings": 2, "recording-seconds": 12, "sample-rate": 25, "chunk": 128, "hidden": 4, "layers": 1, "epochs": 2}
CALLS = 300 // SIZES["chunk"] + 1  # of the network in an epoch: one for each chunk of a recording, and one for the evaluation
TINY = [f"--{name}={value}" for name, value in {**SIZES, "seed": 7, "name": "tiny"}.items()]
Shown = pytest.CaptureFixture[str]


def words(value: object) -> str:
    """The id of a parameter: the name of a script or function, or the command line itself."""
    return str(getattr(value, "__name__", value)).removeprefix("scripts.") or "nothing"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that was trained to its end. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert train.main([*TINY, "--run", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def version(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version published from `run`. Tests must not write to it."""
    model_dir = tmp_path_factory.mktemp("model")
    assert export.main([str(run), "--model-dir", str(model_dir)]) == 0
    return model_dir / "tiny" / "1"


@pytest.mark.parametrize("script", [train, export, verify], ids=["train", "export", "verify"])
def test_help_shows_the_examples(script: ModuleType, capsys: Shown) -> None:
    """Users copy the commands that they need most from the help, and write scripts by the exit codes."""
    with pytest.raises(SystemExit) as ended:
        script.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    examples = [line.strip() for line in str(script.__doc__).splitlines() if line.startswith("    python -m ")]
    assert len(examples) >= 2
    assert all(example.startswith(f"python -m {script.__name__}") and example in shown for example in examples)
    assert "Exits 0" in shown


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (train, "--no-such-option"),
        (train, "--part ADXL345"),
        (train, "--split 0.5,,0.5"),
        (train, "--hidden many"),
        (train, "--resume runs/some --seed 1"),
        (train, "--resume runs/some --no-bias"),
        (train, "--resume runs/some --run runs/other"),
        (export, ""),
        (export, "runs/some --version 3"),
        (verify, ""),
        (verify, "model/some/1 --device tpu"),
    ],
    ids=words,
)
def test_a_line_that_cannot_be_understood_exits_2(script: ModuleType, line: str, capsys: Shown) -> None:
    """The error says what is wrong before anything is written."""
    with pytest.raises(SystemExit) as ended:
        script.main(line.split())
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def nowhere(folder: Path) -> None:
    """Leaves the folder missing."""


def empty(folder: Path) -> None:
    folder.mkdir()


def of_another_version(folder: Path) -> None:
    folder.mkdir()
    torch.save({"config": {"dropout": 0.5}}, folder / "checkpoint.pt")


def without_an_epoch(folder: Path) -> None:
    folder.mkdir()
    checkpoint = artifacts.checkpoint()
    checkpoint.best_epoch = 0
    checkpoint.history.clear()
    checkpoint.save(folder)


def cut_short(folder: Path) -> None:
    folder.mkdir()
    artifacts.checkpoint().save(folder)
    path = folder / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("script", "broken", "says"),
    [
        (train, nowhere, "cannot be resumed"),
        (train, empty, "cannot be resumed"),
        (train, of_another_version, "dropout"),
        (train, cut_short, "cannot be resumed"),
        (export, nowhere, "cannot be exported"),
        (export, empty, "cannot be exported"),
        (export, of_another_version, "dropout"),
        (export, without_an_epoch, "has not finished its first epoch"),
        (export, cut_short, "cannot be exported"),
        (verify, nowhere, "holds no manifest"),
    ],
    ids=words,
)
def test_a_folder_that_holds_nothing_of_use_exits_2(
    script: ModuleType, broken: Callable[[Path], None], says: str, tmp_path: Path, capsys: Shown
) -> None:
    """The error is a sentence that names the folder, not a traceback."""
    folder = tmp_path / "folder"
    broken(folder)
    line = {train: ["--resume"], export: ["--model-dir", str(tmp_path / "model")], verify: []}[script]
    assert script.main([*line, str(folder)]) == 2
    shown = capsys.readouterr().err
    assert str(folder) in shown
    assert says in shown
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "line",
    [
        "--hidden 0",
        "--learning-rate nan",
        "--recording-seconds 1",
        "--name ../elsewhere",
        "--cell gru",
        "--horizon 12",
    ],
)
def test_a_choice_that_makes_no_sense_exits_2(line: str, tmp_path: Path, capsys: Shown) -> None:
    """A choice that cannot work is refused before the first epoch, not at the export after the last."""
    assert train.main([*TINY, *line.split(), "--run", str(tmp_path / "run")]) == 2
    assert line.split()[0].strip("-").replace("-", "_").split("_")[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_export_under_a_name_that_is_no_name_exits_2(run: Path, tmp_path: Path) -> None:
    """A name is one folder of the repository and must never lead out of it."""
    assert export.main([str(run), "--model-dir", str(tmp_path / "model"), "--name", "../elsewhere"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_version_s_network_are_not_exported(run: Path, tmp_path: Path, capsys: Shown) -> None:
    """Resuming such a run is refused in the same words."""
    checkpoint = problems.checkpoint_of(run)
    checkpoint.best_network = {f"old_{name}": tensor for name, tensor in checkpoint.best_network.items()}
    checkpoint.save(tmp_path)
    assert export.main([str(tmp_path), "--model-dir", str(tmp_path / "model")]) == 2
    assert "cannot be exported: its network is not one of this version" in capsys.readouterr().err


def test_a_repository_that_cannot_be_written_is_told(run: Path, tmp_path: Path, capsys: Shown) -> None:
    (tmp_path / "file").write_text("")
    assert export.main([str(run), "--model-dir", str(tmp_path / "file" / "model")]) == 1
    assert "cannot be written: Not a directory. Nothing was published." in capsys.readouterr().err


def test_a_run_is_never_written_over(run: Path, capsys: Shown) -> None:
    """A line that was typed twice must not cost hours of work; the message has the command that resumes the run."""
    before = (run / "checkpoint.pt").read_bytes()
    assert train.main([*TINY, "--run", str(run)]) == 2
    assert f"--resume {run}" in capsys.readouterr().err
    assert (run / "checkpoint.pt").read_bytes() == before


def test_training_tells_what_it_decided_and_what_comes_next(tmp_path: Path, capsys: Shown) -> None:
    """The user sees what is trained, on what data and where; then how good it became, and the command that exports it."""
    run, result = tmp_path / "run", tmp_path / "result.json"
    assert train.main([*TINY, "--cell", "reset_after", "--no-bias", "--run", str(run), "--json", str(result)]) == 0
    shown = capsys.readouterr().out
    assert f"Training tiny into {run}: 1 x 4, reset_after, 216 parameters" in shown  # 3 * 4 * (12 + 4) + 6 * 4
    assert "ADIS16448 recordings at 25 Hz, seed 7" in shown
    assert "Ended: all 2 epochs are done, " in shown
    assert f"Next: {command.line('scripts.export', run)}" in shown
    pictures = {"curves.png", "motion.png"}
    assert {path.name for path in run.iterdir()} == {".running", "checkpoint.pt", "config.toml", "result.json", *pictures}
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    told = json.loads(result.read_bytes())
    assert told == json.loads((run / "result.json").read_bytes())
    assert told["config"] == problems.checkpoint_of(run).config.to_dict()
    assert told["config"]["bias"] is False
    assert told["config"]["cell"] == "reset_after"
    assert [row["epoch"] for row in told["history"]] == [1, 2]
    assert f"rmse {told['best']['validation_rmse']:.4g}" in shown
    assert list(told["scores"])[-1] == "the model"
    assert [f"Warning: {each}" for each in told["warnings"]] == [line for line in shown.splitlines() if line.startswith("Warning")]


@pytest.mark.parametrize("epochs", [0, 1])
def test_ctrl_c_says_how_to_go_on(epochs: int, tmp_path: Path, capsys: Shown) -> None:
    """The printed command resumes the run where it was stopped."""
    run = tmp_path / "run"
    with interruption(after=epochs * CALLS + 1):
        assert train.main([*TINY, "--run", str(run)]) == 130
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == f"Stopped after epoch {epochs}. Go on with: {command.line('scripts.train', '--resume', run)}"
    assert train.main(message.split("scripts.train ")[1].split()) == 0
    assert problems.checkpoint_of(run).epoch == 2


def test_ctrl_c_after_the_last_epoch_says_what_is_kept(tmp_path: Path, capsys: Shown) -> None:
    """Everything that was learned is kept; the printed command makes what is still missing."""
    run, result = tmp_path / "run", tmp_path / "result.json"
    with interruption(after=2 * CALLS):
        assert train.main([*TINY, "--run", str(run), "--json", str(result)]) == 130
    message = capsys.readouterr().err.splitlines()[-1]
    again = command.line("scripts.train", "--resume", run)
    is_kept = "what is learned is kept, scores and pictures are not"
    assert message == f"Stopped after the last epoch: {is_kept}. Make them with: {again}"
    assert not result.exists()
    assert kept.read(run).state == "stopped"
    learned = problems.checkpoint_of(run)
    assert train.main(message.split("scripts.train ")[1].split()) == 0
    assert kept.read(run).state == "finished"
    assert problems.checkpoint_of(run).history == learned.history


def test_a_full_disk_says_how_to_go_on(tmp_path: Path, capsys: Shown) -> None:
    """The last checkpoint stays, nothing of the next is left, and the printed command resumes; likewise for the pictures."""
    run = tmp_path / "run"
    with interruption(after=1):
        assert train.main([*TINY, "--run", str(run)]) == 130
    again = command.line("scripts.train", "--resume", run)
    kept_so = {".checkpoint.pt.tmp": "What was saved before is whole.", "curves.png": "What is learned is kept."}
    for file, told in kept_so.items():
        full = run / file
        full.symlink_to("/dev/full")
        assert train.main(["--resume", str(run)]) == 1
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith(f"{run} cannot be written: No space left on device. {told}")
        assert message.endswith(f" with: {again}")
        assert problems.checkpoint_of(run).epoch == (0 if file[0] == "." else 2)
        full.unlink(missing_ok=True)
    assert train.main(["--resume", str(run)]) == 0
    assert not (run / ".checkpoint.pt.tmp").exists()


def test_a_run_where_nothing_can_be_written_is_told_with_the_remedy(tmp_path: Path, capsys: Shown) -> None:
    """The message is the same whether the folder is read-only or a file stands in its place."""
    (tmp_path / "file").touch()
    assert train.main([*TINY, "--run", str(tmp_path / "file" / "run")]) == 2
    told = capsys.readouterr().err
    assert "run cannot be written: Not a directory. Make its folder writable, or name another." in told
    assert "Errno" not in told


@pytest.mark.parametrize("file", [".checkpoint.pt.tmp", "config.toml"])
def test_a_run_that_cannot_be_begun_leaves_nothing(file: str, tmp_path: Path, capsys: Shown) -> None:
    """An empty folder would be listed as a broken run, or be in the way of the next try."""
    run = tmp_path / "run"
    run.mkdir()
    (run / file).symlink_to("/dev/full")
    assert train.main([*TINY, "--run", str(run)]) == 2
    assert "cannot be written: No space left on device. Mend that, or give another --run." in capsys.readouterr().err
    assert not run.exists()


def test_a_run_is_held_and_has_its_threads_until_all_of_it_is_written(tmp_path: Path) -> None:
    """Another process that resumed the run meanwhile would overwrite it, and another number of threads rounds differently."""
    run, seen = tmp_path / "run", []

    def see(module: nn.Module, _: object) -> None:
        if isinstance(module, Denoiser):
            seen.append((presence.is_held(run), torch.get_num_threads()))

    handle = register_module_forward_pre_hook(see)
    try:
        with threads.limited(2):
            assert train.main([*TINY, "--run", str(run)]) == 0
            assert torch.get_num_threads() == 2
    finally:
        handle.remove()
    assert len(seen) > 2 * CALLS  # the test recordings, in scores and pictures, add further calls
    assert set(seen) == {(True, 1)}
    assert not presence.is_held(run)


def test_a_run_that_another_process_is_at_is_not_gone_on_with(run: Path, capsys: Shown) -> None:
    """The run is not even read: it changes until the other process releases it."""
    with presence.held(run):
        assert train.main(["--resume", str(run)]) == 2
    assert "is being trained by another process" in capsys.readouterr().err


def test_a_run_does_not_go_into_a_study(tmp_path: Path, capsys: Shown) -> None:
    """In one folder, a run and a study could not be told apart."""
    (tmp_path / "study.db").touch()
    assert train.main([*TINY, "--run", str(tmp_path)]) == 2
    assert "holds a study of scripts.tune" in capsys.readouterr().err


def test_a_season_longer_than_the_context_is_refused(tmp_path: Path, capsys: Shown) -> None:
    """The seasonal baseline, the only use of `--season`, would be left out of the comparison without a word."""
    data = hourly(tmp_path / "hours.csv", rows=200)
    line = ["--data", str(data), "--context=24", "--segment=6", "--horizon=4", "--season=25", "--run", str(tmp_path / "run")]
    assert train.main(line) == 2
    assert "A season of 25 rows is longer than the context of 24 rows" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_says_so(tmp_path: Path, capsys: Shown) -> None:
    """The weights leave float32 in the first update: nothing can be exported, and the message says what to try next."""
    run = tmp_path / "run"
    assert train.main([*TINY, "--learning-rate=1e38", "--run", str(run)]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("Ended: the training loss became inf in epoch 1, and no epoch before it is done. Try a lower --learning")
    assert kept.read(run).state == "diverged"
    assert kept.read(run).reason == "the training loss became inf in epoch 1"


def test_a_run_that_diverges_late_keeps_its_best_epoch(tmp_path: Path, capsys: Shown) -> None:
    """The best epoch is measured and can be exported, but nobody may mistake the run for one that ended well."""
    run = tmp_path / "run"
    with interruption(after=CALLS + 1):
        assert train.main([*TINY, "--run", str(run)]) == 130
    checkpoint = problems.checkpoint_of(run)
    checkpoint.config = replace(checkpoint.config, learning_rate=1e38)
    checkpoint.save(run)
    capsys.readouterr()
    assert train.main(["--resume", str(run)]) == 1
    shown = capsys.readouterr()
    assert "Ended: the training loss became inf in epoch 2, " in shown.out
    assert "Best epoch 1, validation: loss " in shown.out
    assert "It diverged, and what came after its best epoch is not used. Try a lower --learning-rate" in shown.err
    told = kept.read(run)
    assert (told.state, told.reason) == ("diverged", "the training loss became inf in epoch 2")
    assert f"{told.name} has diverged: {told.reason}" in table([told])
    assert export.main([str(run), "--model-dir", str(tmp_path / "model")]) == 0


def test_a_published_version_is_what_was_trained(run: Path, version: Path) -> None:
    """What is exported to the folder that serves has the run's name, best epoch and choices."""
    spec, checkpoint = manifest.read(version), problems.checkpoint_of(run)
    assert (spec.name, spec.version) == ("tiny", "1")
    assert spec.provenance["config"] == checkpoint.config.to_dict()
    assert spec.provenance["metrics"]["epoch"] == checkpoint.best_epoch
    assert spec.provenance["metrics"]["validation_loss"] == checkpoint.best_loss
    assert (spec.cell.hidden_size, spec.cell.num_layers) == (4, 1)


def test_export_tells_each_check_and_where_the_version_is(run: Path, tmp_path: Path, capsys: Shown) -> None:
    """The version can have another name if asked, and its number counts up."""
    model_dir, result = tmp_path / "model", tmp_path / "result.json"
    line = [str(run), "--model-dir", str(model_dir), "--name", "renamed", "--json", str(result)]
    assert export.main(line) == 0
    shown = capsys.readouterr().out
    assert shown.count(": holds") == 8
    assert f"Published {model_dir / 'renamed' / '1'}" in shown
    told = json.loads(result.read_bytes())
    assert told["version"] == str(model_dir / "renamed" / "1")
    assert len(told["checks"]) == 8
    assert all(0 <= worst <= 1 for worst in told["checks"].values())
    assert export.main(line) == 0
    assert manifest.read(model_dir / "renamed" / "2").name == "renamed"


def test_ctrl_c_stops_an_export_and_nothing_is_published(run: Path, tmp_path: Path, capsys: Shown) -> None:
    """The message is one line and the exit status is that of train, so that the user knows where it stopped."""
    with interruption(after=0):
        assert export.main([str(run), "--model-dir", str(tmp_path / "model")]) == 130
    assert capsys.readouterr().err == "\nStopped: nothing was published.\n"
    assert list((tmp_path / "model").iterdir()) == []


def test_verify_passes_what_was_published(version: Path, tmp_path: Path, capsys: Shown) -> None:
    """Anyone can repeat the exporter's checks, on the machine that serves."""
    result = tmp_path / "result.json"
    assert verify.main([str(version), "--json", str(result)]) == 0
    shown = capsys.readouterr().out
    assert "tiny version 1: files are whole, runs on CPUExecutionProvider; 6 golden instances." in shown
    assert shown.count(": holds") == 7
    told = json.loads(result.read_bytes())
    assert (told["version"], told["provider"], len(told["checks"])) == ("tiny version 1", "CPUExecutionProvider", 7)


def copied(version: Path, model_dir: Path) -> Path:
    """Copies the version to a repository of its own, where a test may damage it."""
    folder = model_dir / version.parent.name / version.name
    folder.mkdir(parents=True)
    for path in version.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_verify_sees_a_file_that_is_not_the_published_one(version: Path, tmp_path: Path, capsys: Shown) -> None:
    """One changed byte must be enough."""
    folder = copied(version, tmp_path)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-100] ^= 1
    (folder / "model.onnx").write_bytes(content)
    assert verify.main([str(folder)]) == 1
    assert "model.onnx is not the file that was published" in capsys.readouterr().err


def test_verify_sees_a_graph_that_does_not_equal_its_golden_sample(version: Path, tmp_path: Path, capsys: Shown) -> None:
    """Every checksum may be right and the answers wrong: here, the sample belongs to another model."""
    other = artifacts.build(tmp_path / "other", name="tiny", hidden=4, layers=1, seed=1)
    folder = copied(version, tmp_path / "model")
    (folder / "golden.npz").write_bytes((other / "golden.npz").read_bytes())
    content = json.loads((folder / "manifest.json").read_bytes())
    content["files"]["golden.npz"] = manifest.read(other).files["golden.npz"]
    (folder / "manifest.json").write_text(json.dumps(content))
    assert verify.main([str(folder)]) == 1
    assert "runtime-invariant (equals the equations in float64): FAILS" in capsys.readouterr().out
