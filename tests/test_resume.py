"""A run that is killed, by nobody's leave, and gone on with: the weights are those of a run that nothing happened to."""

import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts import problems, train
from scripts.training.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent
EPOCHS, KILLS = 5, 2
SIZES = ["--hidden=16", "--layers=1", f"--epochs={EPOCHS}", "--batch=4", "--seed=3"]
TASKS = {
    "a_stream": ["--task=regress", "--targets=y", "--chunk=32"],
    "a_forecast": ["--task=forecast", "--context=24", "--segment=6", "--horizon=4"],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels with a season, and their sum so far: an epoch of it takes a while."""
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(6000)[:, None] * [0.26, 0.5]) + 0.1 * rng.standard_normal((6000, 2))
    path = tmp_path_factory.mktemp("data") / "table.csv"
    rows = (f"{a:.5f},{b:.5f},{y:.5f}" for (a, b), y in zip(x, np.convolve(x.sum(axis=1), np.ones(10) / 10)[:6000], strict=True))
    path.write_text("a,b,y\n" + "\n".join(rows) + "\n")
    return path


def killed_in_the_next_epoch(line: list[str], run: Path) -> None:
    """Run the command until one more epoch than before is kept, and kill it while it is at another."""
    before = epochs_of(run)
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.train", *line], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with process:
        while epochs_of(run) <= before and process.poll() is None:
            time.sleep(0.01)  # a file says how far it is, and tells nobody
        process.kill()
        assert process.wait() == -signal.SIGKILL, process.stderr.read() if process.stderr else ""


def epochs_of(run: Path) -> int:
    path = run / "checkpoint.pt"
    return _epochs_of(run, path.stat().st_mtime_ns) if path.exists() else 0


@cache
def _epochs_of(run: Path, _written: int) -> int:
    return problems.checkpoint_of(run).epoch


def loaded(run: Path) -> Checkpoint:
    return problems.checkpoint_of(run)


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path, table: Path, task: str) -> None:
    """SIGKILL asks nobody and saves nothing: what counts is what was written before."""
    line = ["--data", str(table), *TASKS[task], *SIZES]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed_in_the_next_epoch([*line, "--run", str(killed)], killed)
    for _ in range(KILLS - 1):
        killed_in_the_next_epoch(["--resume", str(killed)], killed)
    assert KILLS <= epochs_of(killed) < EPOCHS
    assert train.main(["--resume", str(killed)]) == 0
    assert train.main([*line, "--run", str(whole)]) == 0
    one, other = loaded(killed), loaded(whole)
    assert one.history == other.history
    for name, tensor in other.network.items():
        assert torch.equal(one.network[name], tensor)
        assert torch.equal(one.best_network[name], other.best_network[name])


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its validation loss would be compared with that of the data before."""
    data = tmp_path / "data.csv"
    data.write_text(table.read_text())
    line = ["--data", str(data), *TASKS["a_stream"], *SIZES, "--epochs=1"]
    assert train.main([*line, "--run", str(tmp_path / "run")]) == 0
    text = data.read_text().splitlines(keepends=True)
    data.write_text("".join([*text[:100], text[200], *text[101:]]))
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert "its data have changed" in capsys.readouterr().err
