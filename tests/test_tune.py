"""scripts.tune: what it searches and prunes, that a study can continue, and that the best line reproduces its result."""

import gc
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn

from scripts import command, flags, problems, runs, train, tune
from scripts.overview import kept
from scripts.series.config import Config
from scripts.tables.recording import DataError, Dataset
from scripts.training.scores import Scores
from scripts.tuning import space
from scripts.tuning.problems import Problems
from scripts.tuning.study import DATABASE, SPARED, STARTUP, Study
from tests.series_files import hourly, regression

Shown = pytest.CaptureFixture[str]
BASE = Config(task="regress", data=("a.csv",), epochs=6, patience=6)
FILES = Path("/proc/self/fd")  # one entry for each file that this process holds open


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """Small trials over a small file: cell and learning rate are searched."""
    data = regression(tmp_path / "data.csv", rows=100)
    words = ["--data", str(data), "--features=a,b", "--targets=y", "--hidden=2", "--layers=1", "--epochs=1", "--chunk=4"]
    return [*words, "--study", str(tmp_path / "study"), "--json", str(tmp_path / "tuned.json")]


class Decided:
    """A problem.Problem whose validation loss is a function of its config and epoch; its network learns nothing."""

    def __init__(self, config: Config, loss: Callable[[Config, int], float]) -> None:
        self.config = config
        self.updates_per_epoch = 1
        self.facts: dict[str, Any] = {}
        self.epoch = 0
        self._loss = loss

    def network(self) -> nn.Module:
        return nn.Linear(1, 1)

    def prepare(self, epoch: int) -> int:
        return epoch

    def losses(self, network: nn.Module, prepared: int, device: str) -> Iterator[Tensor]:
        yield network(torch.zeros(prepared + 1, 1, device=device)).square().mean()

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:  # noqa: ARG002  # the loss is decided already
        self.epoch += 1
        return {"loss": self._loss(self.config, self.epoch)}

    def scores(self, *_: Any) -> Scores:
        raise AssertionError("the test part was looked at")

    def pictures(self, *_: Any) -> list[Path]:
        raise AssertionError("the test part was looked at")


def rated(rate: Callable[[int], float]) -> Callable[[Any], Config]:
    """A function that suggests for each trial the learning rate that `rate` gives for its number."""
    return lambda trial: replace(BASE, learning_rate=rate(trial.number))


# -- the command --------------------------------------------------------------------------------------------------------


def test_a_study_goes_on_where_it_was_stopped(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """With the same line again, finished trials stay finished, and the best is the best of all sittings."""
    assert tune.main([*line, "--trials=2"]) == 0
    first = json.loads((tmp_path / "tuned.json").read_bytes())
    assert tune.main([*line, "--trials=3"]) == 0
    second = json.loads((tmp_path / "tuned.json").read_bytes())
    assert "2 trials are done already." in capsys.readouterr().out
    assert [len(first["trials"]), len(second["trials"])] == [2, 3]
    assert second["trials"][:2] == first["trials"]
    assert len({trial["learning_rate"] for trial in second["trials"]}) == 3  # a new sitting does not try the same again
    assert second["best"]["loss"] == min(trial["loss"] for trial in second["trials"])
    assert tune.main([*line, "--trials=3"]) == 0
    assert json.loads((tmp_path / "tuned.json").read_bytes()) == second


def test_the_best_line_trains_what_the_study_found(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """Users copy this line: it makes the same choices and, with the same seed, gives the same validation loss to the last digit."""
    assert tune.main([*line, "--trials=2"]) == 0
    best = json.loads((tmp_path / "tuned.json").read_bytes())["best"]
    shown = capsys.readouterr().out
    assert best["command"] in shown
    assert (tmp_path / "study" / "best.toml").read_text() in shown
    words = shlex.split(best["command"])
    assert words[:3] == [command.python(), "-m", "scripts.train"]
    assert train.main([*words[3:], "--run", str(tmp_path / "run")]) == 0
    checkpoint = problems.checkpoint_of(tmp_path / "run")
    assert checkpoint.best_loss == best["loss"]
    assert checkpoint.config.to_dict() == Config.from_dict(best["config"]).to_dict()
    assert flags.config_of(train.arguments(["--config", str(tmp_path / "study" / "best.toml")])) == checkpoint.config


def test_the_test_part_is_never_looked_at(line: list[str], tmp_path: Path) -> None:
    """Even if the targets in it change, every trial has the same loss."""
    assert tune.main([*line, "--trials=1"]) == 0
    before = json.loads((tmp_path / "tuned.json").read_bytes())["trials"]
    data = tmp_path / "data.csv"
    rows = data.read_text().splitlines()
    data.write_text("\n".join([*rows[:86], *(f"{row.rpartition(',')[0]},1000" for row in rows[86:])]) + "\n")
    line[line.index(str(tmp_path / "study"))] = str(tmp_path / "again")
    assert tune.main([*line, "--trials=1"]) == 0
    assert json.loads((tmp_path / "tuned.json").read_bytes())["trials"] == before


def test_a_forecast_is_tuned_with_its_framing(tmp_path: Path, capsys: Shown) -> None:
    """Context, segment and normalisation are searched too; a trial whose context does not fit the data fails alone."""
    data = hourly(tmp_path / "hours.csv", rows=200)
    words = [
        "--data",
        str(data),
        "--horizon=4",
        "--hidden=2",
        "--layers=1",
        "--cell=rnn",
        "--epochs=1",
        "--context=24",
        "--trials=2",
    ]
    assert tune.main([*words, "--study", str(tmp_path / "study")]) == 0
    assert "learning_rate, segment, normalise; 1 epochs at most" in capsys.readouterr().out
    assert runs.main([str(tmp_path / "study")]) == 0
    shown = capsys.readouterr().out
    assert "trial-0000" in shown
    assert "trial-0001" in shown
    assert "broken" not in shown
    assert runs.main([str(tmp_path)]) == 0
    line = command.line("scripts.runs", tmp_path / "study")
    assert f"study is a study of scripts.tune; its trials: {line}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--learning-rate=0.01", "--cell=rnn"], "nothing is left to search"),
        (["--data", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--targets=z"], "no column `z`"),
        (["--part=ADIS16448"], "is for the simulated gyroscope"),
    ],
)
def test_what_cannot_be_tuned_is_said(more: list[str], says: str, line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """The error comes before a study is begun."""
    assert tune.main([*line, *more]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_the_gyroscope_is_not_tuned(capsys: Shown) -> None:
    """Its choices are fixed by the paper."""
    assert tune.main(["--trials=1"]) == 2
    assert "--data FILE" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--trials=0", "--timeout=-1", "--timeout=soon", "--resume=x"])
def test_a_line_that_cannot_be_understood_exits_2(word: str, capsys: Shown) -> None:
    """The error comes before anything is read."""
    with pytest.raises(SystemExit) as ended:
        tune.main([word])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_shows_the_examples(capsys: Shown) -> None:
    """Users copy the commands that they need most from the help."""
    with pytest.raises(SystemExit) as ended:
        tune.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(each.strip() in shown for each in str(tune.__doc__).splitlines() if "python -m" in each)


def test_another_study_in_the_folder_is_refused(line: list[str], capsys: Shown) -> None:
    """Trials of other choices cannot be compared; the message names the choices that differ."""
    assert tune.main([*line, "--trials=1"]) == 0
    assert tune.main([*line, "--trials=1", "--seed=3"]) == 2
    assert "holds a study of other choices: seed." in capsys.readouterr().err
    assert tune.main([*line, "--trials=1", "--cell=rnn"]) == 2
    assert "holds a study of other choices: cell." in capsys.readouterr().err


@pytest.mark.skipif(not FILES.is_dir(), reason="this system does not tell which files a process holds open")
def test_the_database_is_closed_where_a_study_is_refused(line: list[str], tmp_path: Path) -> None:
    """Otherwise it would stay locked for as long as the process runs."""
    assert tune.main([*line, "--trials=1"]) == 0
    with pytest.raises(ValueError, match="other choices"):
        Study(tmp_path / "study", BASE, searched=("learning_rate",))
    assert not [file for file in FILES.iterdir() if file.exists() and file.resolve().name == DATABASE]


def test_a_study_does_not_go_into_a_run(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """It would be listed as one run, and its trials not at all."""
    words = line[: line.index("--study")]
    assert train.main([*words, "--run", str(tmp_path / "run")]) == 0
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert tune.main([*words, "--study", str(tmp_path / "run"), "--trials=1"]) == 2
    assert f"{tmp_path / 'run'} holds a training run and no study" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_a_study_whose_database_is_none_is_told(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """A file that was copied in part, say: it is left as it is."""
    (tmp_path / DATABASE).write_bytes(b"no database" * 100)
    assert tune.main([*line, "--study", str(tmp_path)]) == 2
    assert f"{tmp_path / DATABASE} cannot be used: file is not a database. Give another folder" in capsys.readouterr().err
    assert (tmp_path / DATABASE).read_bytes() == b"no database" * 100


def test_a_study_where_nothing_can_be_written_is_told_with_the_remedy(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """The message shows neither an errno nor the database's words."""
    (tmp_path / "file").touch()
    assert tune.main([*line, "--study", str(tmp_path / "file" / "study")]) == 2
    assert "study cannot be written: Not a directory. Make its folder writable, or name another." in capsys.readouterr().err


def test_a_full_disk_ends_a_study_that_goes_on(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """Finished trials are kept, and the message says how to continue."""
    study = tmp_path / "study"
    assert tune.main([*line, "--trials=1"]) == 0
    full = study / "trial-0001" / ".checkpoint.pt.tmp"
    full.parent.mkdir()
    full.symlink_to("/dev/full")
    assert tune.main([*line, "--trials=3"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written: No space left on device. The trials that have ended are kept." in told
    assert told.endswith(f"go on with the same line and --study {study}")
    assert tune.main([*line, "--trials=3"]) == 0


def test_a_time_too_short_for_a_trial_is_named(line: list[str], tmp_path: Path, capsys: Shown) -> None:
    """No trial has failed then: with more time, they would have finished."""
    assert tune.main([*line, "--trials=3", "--timeout=1e-9"]) == 1
    told = capsys.readouterr().err
    assert "There is no best among 0 trials. The time of --timeout was too short for one of them." in told
    assert f"Go on with the same line and --study {tmp_path / 'study'}, and a longer time." in told


def test_one_dataset_is_held_however_many_contexts_are_tried(tmp_path: Path) -> None:
    """A file of several gigabytes would not fit into memory several times."""
    data = hourly(tmp_path / "hours.csv", rows=400)
    base = Config(task="forecast", data=(str(data),), context=48, segment=12, horizon=4)
    before, source = datasets(), Problems()
    for context in (48, 24, 48):
        source.of(replace(base, context=context))
        assert datasets() == before + 1


def datasets() -> int:
    gc.collect()
    return sum(type(each) is Dataset for each in gc.get_objects())


def test_without_its_package_the_line_that_installs_it_is_told(line: list[str]) -> None:
    """Most users do not tune, so the package is optional."""
    code = "import sys; sys.modules['optuna'] = None\nfrom scripts import tune\nsys.exit(tune.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "scripts.tune needs the package optuna" in done.stderr
    assert "requirements/extras.txt" in done.stderr


# -- the study ----------------------------------------------------------------------------------------------------------


def test_a_trial_that_promises_little_is_ended_early(tmp_path: Path) -> None:
    """It ends as early as allowed: after the epochs that each trial is granted, and once there are trials to compare it with."""
    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study:
        suggest = rated(lambda number: 1.0 if number < STARTUP else 9.0 if number == STARTUP else 0.5)
        outcomes = [*study.go_on(lambda config: Decided(config, lambda c, _: c.learning_rate), suggest, trials=STARTUP + 2)]
        assert [outcome.state for outcome in outcomes] == ["complete"] * STARTUP + ["pruned", "complete"]
        assert outcomes[STARTUP].reason == f"worse than the median after epoch {SPARED + 1}"
        assert study.best == outcomes[-1]
        assert study.outcomes == outcomes


def test_the_objective_is_the_loss_of_the_best_epoch(tmp_path: Path) -> None:
    """It is the loss of the checkpoint that would be exported, not of the last epoch."""
    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study:
        losses = [3.0, 1.0, 2.0, 4.0, 5.0, 6.0]
        (outcome,) = study.go_on(lambda config: Decided(config, lambda _, epoch: losses[epoch - 1]), rated(lambda _: 1.0), trials=1)
        assert outcome.loss == 1.0
        assert study.best is not None
        assert study.best.loss == problems.checkpoint_of(tmp_path / "study" / "trial-0000").best_loss


@pytest.mark.parametrize(
    ("loss", "state", "reason"),
    [
        (lambda _, __: float("nan"), "failed", "the validation loss became nan in epoch 1"),
        (lambda _, __: (_ for _ in ()).throw(DataError("The part is too short.")), "failed", "The part is too short."),
    ],
    ids=["no finite loss", "data that do not fit"],
)
def test_a_trial_that_fails_is_not_the_end(loss: Any, state: str, reason: str, tmp_path: Path) -> None:
    """The user is told why it failed, and the next trial begins."""
    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study:
        later = Decided(BASE, lambda _, __: 1.0)
        first, second = study.go_on(
            lambda config: later if later.epoch or len(study.outcomes) else Decided(config, loss), rated(lambda _: 1.0), trials=2
        )
        assert (first.state, first.loss) == (state, inf)
        assert reason in first.reason
        assert second.state == "complete"
        assert study.best == second


def test_no_trial_begins_after_the_time(tmp_path: Path) -> None:
    """This holds however short the time is."""
    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study:
        assert [*study.go_on(lambda config: Decided(config, lambda _, __: 1.0), rated(lambda _: 1.0), trials=5, end=-inf)] == []


def test_a_trial_whose_time_is_over_is_neither_judged_nor_counted(tmp_path: Path) -> None:
    """Its epochs are kept and reported, but nobody knows how it would have ended, so another trial takes its place."""
    now = [0.0]

    def slow(config: Config, _: int) -> float:
        now[0] += 10.0
        return config.learning_rate

    with Study(tmp_path / "study", BASE, searched=("learning_rate",), clock=lambda: now[0]) as study:
        suggest = rated(lambda number: 0.1 if number == 0 else 1.0)
        (cut,) = study.go_on(lambda config: Decided(config, slow), suggest, trials=1, end=15.0)
        assert (cut.state, cut.loss) == ("unfinished", 0.1)
        assert cut.reason == "no time was left after epoch 2 of 6"
        assert (study.best, study.ended) == (None, 0)
        assert problems.checkpoint_of(tmp_path / "study" / "trial-0000").epoch == 2
        assert kept.read(tmp_path / "study" / "trial-0000").state == "stopped"
        (whole,) = study.go_on(lambda config: Decided(config, slow), suggest, trials=1)
        assert (whole.number, whole.state) == (1, "complete")
        assert study.best == whole


def test_a_trial_that_ends_in_its_time_is_complete(tmp_path: Path) -> None:
    """Even if the time runs out with its last epoch, nothing of the trial is missing."""
    now = [0.0]

    def slow(_: Config, epoch: int) -> float:
        now[0] = 100.0 * (epoch == BASE.epochs)
        return 1.0

    with Study(tmp_path / "study", BASE, searched=("learning_rate",), clock=lambda: now[0]) as study:
        (only,) = study.go_on(lambda config: Decided(config, slow), rated(lambda _: 1.0), trials=5, end=50.0)
        assert (only.state, study.best) == ("complete", only)


def test_a_trial_is_held_while_it_is_trained(tmp_path: Path) -> None:
    """It must be listed as running, and no other process may resume it meanwhile."""
    seen = []

    def loss(*_: Any) -> float:
        run = kept.read(tmp_path / "study" / "trial-0000")
        seen.append((run.state, torch.get_num_threads()))
        return 1.0

    base = replace(BASE, threads=2)
    with Study(tmp_path / "study", base, searched=("learning_rate",)) as study:
        assert [each.state for each in study.go_on(lambda config: Decided(config, loss), lambda _: base, trials=1)] == ["complete"]
    assert seen == [("running", 2)] * base.epochs
    assert kept.read(tmp_path / "study" / "trial-0000").state == "finished"


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    """The interrupted trial is unfinished, and another takes its place; the finished ones stay."""

    def interrupted(config: Config, epoch: int) -> float:
        if config.learning_rate == 2.0 and epoch == 2:
            raise KeyboardInterrupt
        return config.learning_rate

    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study, pytest.raises(KeyboardInterrupt):
        [*study.go_on(lambda config: Decided(config, interrupted), rated(lambda number: 1.0 + number), trials=5)]
    with Study(tmp_path / "study", BASE, searched=("learning_rate",)) as study:
        assert [outcome.state for outcome in study.outcomes] == ["complete", "unfinished"]
        assert study.outcomes[1].reason == "interrupted"
        (later,) = study.go_on(lambda config: Decided(config, lambda _, __: 0.5), rated(lambda _: 1.0), trials=2)
        assert later.number == 2


# -- what is searched ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed", [(), ("segment",), ("context",), ("hidden", "layers", "cell", "learning_rate", "normalise")])
@pytest.mark.parametrize(("context", "segment"), [(336, 24), (96, 12), (7, 7), (5, 1), (48, 48), (90, 15)])
def test_every_suggestion_is_a_config_that_can_be(context: int, segment: int, fixed: tuple[str, ...]) -> None:
    """Whatever the initial framing, a segment divides the context, and fixed choices do not change."""
    base = Config(task="forecast", data=("a.csv",), context=context, segment=segment, season=context - 1)
    names = space.searched(base, fixed)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(30):
        config = space.suggest(study.ask(), base, names)
        assert config.context % config.segment == 0
        assert config.context >= config.season
        assert config.learning_rate == float(f"{config.learning_rate:.4g}")  # few enough digits to copy
        assert all(getattr(config, name) == getattr(base, name) for name in fixed)
        assert all(getattr(config, name) == getattr(base, name) for name in ("seed", "horizon", "epochs", "data", "split"))


def test_the_framing_is_searched_for_forecasts_only() -> None:
    """Models that follow a stream have no context."""
    assert set(space.FORECASTING) - set(space.STREAMING) == {"segment", "context", "normalise"}
    assert space.searched(BASE, ("hidden",)) == ("layers", "learning_rate", "cell")


@pytest.mark.parametrize(
    "config",
    [
        Config(name="x", task="forecast", data=("/tmp/a b.csv", "/tmp/it's.csv"), features=("load, kW", 'the "heat"'), season=12),
        Config(name="x", task="denoise", data=("/a",), features=("raw",), targets=("clean",), bias=False, chunk=7, clip=0.1),
        Config(
            name="x",
            task="forecast",
            data=("/a",),
            quantiles=(0.1, 0.9),
            normalise="none",
            channels="joint",
            period=0.02,
            na=(-999.0, 9999.0),
        ),
        Config(name="x", task="regress", data=("/a",), cell="lstm,reset_before", split=("2017-01-01", "2018-01-01", "2019-01-01")),
        Config(name="x", task="classify", data=("/a",), targets=("y",), group="trial", learning_rate=1.23456789e-4, seed=3),
    ],
    ids=["names with commas and quotes", "no bias", "quantiles", "a cell for each layer", "digits of a number"],
)
def test_a_config_and_its_line_are_the_same(config: Config) -> None:
    """scripts.train reads the same config back from the line, through a shell too."""
    words = flags.arguments_of(config)
    assert flags.config_of(train.arguments(words)) == config
    assert shlex.split(command.line("scripts.train", *words))[3:] == words
