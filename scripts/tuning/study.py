"""A study: trials of configs, each a short run. Trials that promise little are ended early.

Owns the study's folder: the database from which a stopped study goes on, and a run for each trial. Its package is optional,
imported only when a study is opened. The objective is the loss on the validation part; the test part is never used.
Knows nothing of which choices are searched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Self

from scripts import results
from scripts.overview import presence
from scripts.overview.extras import needed
from scripts.series.config import Config
from scripts.tables.recording import DataError
from scripts.training import fit, threads
from scripts.training.checkpoint import FILE_NAME, Checkpoint
from scripts.training.problem import Problem

DATABASE = "study.db"
STARTUP = 5  # trials that are drawn at random, and are not ended early
SPARED = 2  # first epochs of each trial, in which it is not ended early

State = Literal["complete", "pruned", "failed", "unfinished"]
ProblemOf = Callable[[Config], Problem]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trial. loss: of its best epoch; infinite if it has none. An unfinished trial was stopped, by the user or
    by the time limit: it says nothing about its choices, and does not count among the trials that were asked for."""

    number: int
    state: State
    config: Config | None  # None: it failed before there was one
    loss: float
    reason: str  # why it ended


class OutOfTime(Exception):
    """No time is left for the next epoch of a trial."""


class Study:
    """The study in `folder`, new or continued; raises ValueError if it holds a run, a broken study or one of other choices."""

    def __init__(self, folder: Path, base: Config, *, searched: tuple[str, ...], clock: Callable[[], float] = monotonic) -> None:
        self._optuna = needed("optuna", "scripts.tune")
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        if (folder / FILE_NAME).exists():
            raise ValueError(f"{folder} holds a training run and no study: give another folder with --study.")
        presence.made(folder)
        self.folder = folder
        self._clock = clock
        try:
            self._storage = self._optuna.storages.RDBStorage(f"sqlite:///{(folder / DATABASE).resolve()}")
        except needed("sqlalchemy.exc", "scripts.tune").DatabaseError as error:
            raise ValueError(f"{folder / DATABASE} cannot be used: {error.orig}. Give another folder with --study.") from error
        try:
            self._study: Any = self._optuna.create_study(storage=self._storage, study_name="recurve", load_if_exists=True)
            self._check(base, searched)
        except BaseException:
            self.close()
            raise
        self._study.pruner = self._optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=SPARED)
        # another seed whenever the study goes on, or it would begin with the same random trials again
        self._study.sampler = self._optuna.samplers.TPESampler(seed=base.seed + len(self._study.trials), n_startup_trials=STARTUP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; it is not used again."""
        self._storage.engine.dispose()

    @property
    def unwritable(self) -> type[Exception]:
        """The exception that is raised if the database cannot be written."""
        error: type[Exception] = self._optuna.exceptions.StorageInternalError
        return error

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of all trials that have ended, also before the study was continued."""
        return [_outcome(trial) for trial in self._study.trials if trial.state.is_finished()]

    @property
    def ended(self) -> int:
        """How many trials have ended without being stopped."""
        return sum(outcome.state != "unfinished" for outcome in self.outcomes)

    @property
    def best(self) -> Outcome | None:
        """The complete trial with the least loss."""
        complete = [outcome for outcome in self.outcomes if outcome.state == "complete"]
        return min(complete, key=lambda outcome: outcome.loss, default=None)

    def go_on(
        self, problem_of: ProblemOf, suggest: Callable[[Any], Config], *, trials: int, end: float = inf, device: str = "cpu"
    ) -> Iterator[Outcome]:
        """Run one trial after the other until `trials` have ended in all, or until `end` (of the clock): then the trial in
        progress is stopped after its epoch, and stays unfinished."""
        while self.ended < trials and self._clock() < end:
            trial = self._study.ask()
            states = self._optuna.trial.TrialState
            begin = self._clock()
            try:
                checkpoint, reason = self._trained(trial, suggest(trial), problem_of, end, device)
            except self._optuna.TrialPruned as pruned:
                trial.set_user_attr("reason", str(pruned))
                self._study.tell(trial, state=states.PRUNED)
            except DataError as error:  # for this framing: a context that is longer than a recording
                trial.set_user_attr("reason", str(error))
                self._study.tell(trial, state=states.FAIL)
            except OutOfTime as over:
                self._stop(trial, str(over))
            except BaseException:
                self._stop(trial, "interrupted")
                raise
            else:
                trial.set_user_attr("reason", reason)
                finite = isfinite(checkpoint.best_loss)
                self._study.tell(trial, checkpoint.best_loss if finite else None, None if finite else states.FAIL)
            outcome = _outcome(self._study.trials[trial.number])
            if outcome.state != "unfinished":
                self._tell(outcome, self._clock() - begin)
            yield outcome

    def _stop(self, trial: Any, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("unfinished", True)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    def _trained(self, trial: Any, config: Config, problem_of: ProblemOf, end: float, device: str) -> tuple[Checkpoint, str]:
        """Train a trial: its checkpoint, and why it ended. Raises optuna.TrialPruned to end it early, OutOfTime after `end`."""
        trial.set_user_attr("config", _plain(config))

        def told(row: dict[str, float]) -> Exception | None:
            trial.report(row["validation_loss"], int(row["epoch"]) - 1)  # optuna's steps count from 0
            if trial.should_prune():
                pruned: Exception = self._optuna.TrialPruned(f"worse than the median after epoch {row['epoch']:.0f}")
                return pruned
            if self._clock() >= end:
                return OutOfTime(f"no time was left after epoch {row['epoch']:.0f} of {config.epochs}")
            return None

        run = self._run_of(trial.number)
        with threads.limited(config.threads):
            problem = problem_of(config)
            network, checkpoint = fit.start(problem)
            with presence.held(run):
                checkpoint.save(run)
                return checkpoint, fit.fit(network, problem, checkpoint, run, device=device, told=told).reason

    def _run_of(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"

    def _tell(self, outcome: Outcome, seconds: float) -> None:
        """Write a result beside the trial's checkpoint, so that scripts.runs shows that the trial has ended."""
        run = self._run_of(outcome.number)
        if run.is_dir():
            told = {"run": str(run), "reason": f"{outcome.state}: {outcome.reason}", "seconds": seconds}
            results.write(run / "result.json", told)

    def _check(self, base: Config, searched: tuple[str, ...]) -> None:
        """Record the choices in a new study; raise ValueError if a continued one was begun with others."""
        known = self._study.user_attrs
        now: dict[str, Any] = {"config": _plain(base), "searched": list(searched)}
        if not known:
            for name, value in now.items():
                self._study.set_user_attr(name, value)
        elif (begun := known | {"config": _plain(Config.from_dict(known["config"]))}) != now:
            differ = [name for name, value in now["config"].items() if begun["config"][name] != value]
            what = ", ".join(differ or ["what is searched"])
            raise ValueError(f"{self.folder} holds a study of other choices: {what}. Give those it began with, or another --study.")


def _outcome(trial: Any) -> Outcome:
    kept = trial.user_attrs.get("config")
    losses = [value for value in trial.intermediate_values.values() if isfinite(value)]
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned"}
    return Outcome(
        number=trial.number,
        state="unfinished" if trial.user_attrs.get("unfinished") else states.get(trial.state.name, "failed"),
        config=None if kept is None else Config.from_dict(kept),
        loss=min(losses, default=inf),
        reason=trial.user_attrs.get("reason", ""),
    )


def _plain(config: Config) -> dict[str, Any]:
    """A config as it comes back from a database that holds JSON: with lists for tuples."""
    return {name: [*value] if isinstance(value, tuple) else value for name, value in config.to_dict().items()}
