"""A training run that is killed and resumed ends with the same weights as one that nothing happened to."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from scripts import problems, train
from scripts.training.checkpoint import Checkpoint

ROOT = Path(__file__).parent.parent
EPOCHS, KILLS, ROWS = 5, 2, 800
SIZES = ["--hidden=16", "--layers=1", f"--epochs={EPOCHS}", "--batch=4", "--seed=3"]
TASKS = {
    "a_stream": ["--task=regress", "--targets=y", "--chunk=32"],
    "a_forecast": ["--task=forecast", "--context=24", "--segment=6", "--horizon=4"],
}


# `python -c KILLED RUNS`: for each [n, line] in the JSON, trains with these arguments in a process that kills itself after n
# batches; prints each exit code.
KILLED = """
import json, os, signal, sys
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from scripts import train

def kill_at(last):
    done = []
    def learned(*_):
        done.append(1)
        if len(done) == last:
            os.kill(os.getpid(), signal.SIGKILL)
    register_optimizer_step_post_hook(learned)

torch.optim.Adam([torch.zeros(1)])  # the first imports for a second what none of them uses
for batches, line in json.loads(sys.argv[1]):
    if not (pid := os.fork()):
        sys.stdout = sys.stderr
        kill_at(batches)
        sys.exit(train.main(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels with a season, and the moving average of their sum."""
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(ROWS)[:, None] * [0.26, 0.5]) + 0.1 * rng.standard_normal((ROWS, 2))
    path = tmp_path_factory.mktemp("data") / "table.csv"
    rows = (f"{a:.5f},{b:.5f},{y:.5f}" for (a, b), y in zip(x, np.convolve(x.sum(axis=1), np.ones(10) / 10)[:ROWS], strict=True))
    path.write_text("a,b,y\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, table: Path) -> dict[str, tuple[Path, Path]]:
    """For each task, a run that was killed several times, each time in the middle of the next epoch, and one that was not."""
    made, killed = {}, []
    for task, options in TASKS.items():
        line = ["--data", str(table), *options, *SIZES]
        folder = tmp_path_factory.mktemp(task)
        run, whole = made[task] = folder / "killed", folder / "whole"
        batches: list[Optimizer] = []
        counting = register_optimizer_step_post_hook(lambda optimizer, *_, batches=batches: batches.append(optimizer))
        assert train.main([*line, "--run", str(whole)]) == 0
        counting.remove()
        epoch = len(batches) // EPOCHS
        assert epoch > 1
        killed += [(epoch + epoch // 2, each) for each in ([*line, "--run", str(run)], *[["--resume", str(run)]] * (KILLS - 1))]
    done = subprocess.run([sys.executable, "-c", KILLED, json.dumps(killed)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(killed), done.stderr
    return made


def loaded(run: Path) -> Checkpoint:
    return problems.checkpoint_of(run)


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(runs: dict[str, tuple[Path, Path]], task: str) -> None:
    """SIGKILL gives no chance to save: only what was written before counts."""
    killed, whole = runs[task]
    assert loaded(killed).epoch == KILLS
    assert train.main(["--resume", str(killed)]) == 0
    one, other = loaded(killed), loaded(whole)
    assert one.history == other.history
    for name, tensor in other.network.items():
        assert torch.equal(one.network[name], tensor)
        assert torch.equal(one.best_network[name], other.best_network[name])


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its validation loss would be compared with the loss on the old data."""
    data = tmp_path / "data.csv"
    data.write_text(table.read_text())
    line = ["--data", str(data), *TASKS["a_stream"], *SIZES, "--epochs=1"]
    assert train.main([*line, "--run", str(tmp_path / "run")]) == 0
    text = data.read_text().splitlines(keepends=True)
    data.write_text("".join([*text[:100], text[200], *text[101:]]))
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert "its data have changed" in capsys.readouterr().err
