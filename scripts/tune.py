"""Search the choices of a training run: hidden units, layers, cell, learning rate, and how a forecast is framed.

    python -m scripts.tune --data load.csv --trials 30                       a forecast; every choice that has no flag is searched
    python -m scripts.tune --data load.csv --cell reset_after --trials 50 --timeout 3600 --study runs/load-study
    python -m scripts.tune --task denoise --data 'runs/*.csv' --features raw --targets reference --epochs 10

Takes the flags of scripts.train for your own data; a choice that a flag or --config gives is not searched. A trial is a short run,
judged by its loss on the validation part; a trial that is worse than the median of those before it is ended early. The test part
is never used. To go on with a stopped study, give the same line and --study DIR; scripts.runs DIR shows its trials.
Exits 0 when done, 1 when no trial succeeded or the study cannot be written, 2 on wrong use, 130 when it was stopped.
"""

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Collection
from datetime import datetime
from math import inf, isfinite
from pathlib import Path
from time import monotonic

import torch

from scripts import command, config_file, flags, results
from scripts.overview.extras import NotInstalled
from scripts.series.config import Config
from scripts.tuning import space
from scripts.tuning.problems import Problems
from scripts.tuning.study import Outcome, Study


def arguments(argv: list[str] | None) -> Namespace:
    parser = command.Parser("scripts.tune", __doc__)
    parser.add_argument("--trials", type=command.count, default=30, help="in all, those of earlier sittings included (30)")
    parser.add_argument("--timeout", type=_seconds, default=inf, metavar="SECONDS", help="after which no epoch begins (none)")
    parser.add_argument("--study", type=Path, metavar="DIR", help="where it is kept, and gone on with (runs/NAME-study-TIME)")
    flags.add_options(parser)
    results.add_option(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    end = monotonic() + args.timeout

    # -- what is searched, over which data ------------------------------------------------------------------------
    try:
        config = flags.config_of(args)
        if not isinstance(config, Config):
            raise ValueError("give your own data with --data FILE; the gyroscope's choices are not searched.")
        fixed = _fixed(args)
        names = space.searched(config, fixed)
        if not names:
            raise ValueError(f"nothing is left to search: every one of {', '.join(space.searched(config, ()))} is given.")
        problems = Problems()
        problems.of(config)
        folder = args.study or Path("runs") / f"{config.name}-study-{datetime.now():%Y%m%d-%H%M%S}"
        study = Study(folder, config, searched=names)
    except (OSError, ValueError, NotInstalled) as error:
        print(f"python -m scripts.tune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped before the first trial. Go on with the same line.", file=sys.stderr)
        return command.STOPPED
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"Tuning {config.name} in {folder}: {', '.join(names)}; {config.epochs} epochs at most, on {device}.")

    # -- trials ---------------------------------------------------------------------------------------------------
    with study:
        done = study.ended
        if done:
            print(f"{done} trials are done already.")
        stopped, unwritten = False, ""
        try:
            suggested = study.go_on(
                problems.of, lambda trial: space.suggest(trial, config, names), trials=args.trials, end=end, device=device
            )
            for outcome in suggested:
                print(_told(outcome, names, study.best))
        except KeyboardInterrupt:
            stopped = True
        except BrokenPipeError:  # the reader of the output has closed the pipe
            raise
        except (OSError, study.unwritable) as error:
            unwritten = _why(error, folder)
        best, outcomes = study.best, study.outcomes

    # -- tell -----------------------------------------------------------------------------------------------------
    on = f"Go on with the same line and --study {folder}"
    if best is not None and best.config is not None:
        try:
            (folder / "best.toml").write_text(config_file.text_of(best.config))
        except OSError as error:
            unwritten = unwritten or _why(error, folder)
        print(f"\nBest of {_counted(outcomes)}: trial {best.number}, validation loss {best.loss:.6g}.")
        print(f"\n{config_file.text_of(best.config)}\nTrain with these choices (also in {folder / 'best.toml'}):")
        print(f"\n{_line_of(best.config)}")
        results.write(args.json, _result(folder, names, best, outcomes))
    if stopped:
        print(f"\nStopped. {on}", file=sys.stderr)
        return command.STOPPED
    if unwritten:
        print(f"\n{unwritten} The trials that have ended are kept. Once it can be: {on[0].lower()}{on[1:]}", file=sys.stderr)
        return 1
    if best is None:
        print(f"\nThere is no best among {_counted(outcomes)}. {_remedy(outcomes, on)}", file=sys.stderr)
    return int(best is None)


def _why(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or folder} cannot be written: {error.strerror or error}."
    cause = getattr(error.__cause__, "orig", None) or error
    return f"{folder} cannot be written: {cause}."


def _fixed(args: Namespace) -> set[str]:
    """The choices that were given, on the command line or in a file; a cell for each layer gives their number too."""
    made = flags.chosen(args) | (config_file.read(args.config) if args.config else {})
    return {*made, *(("layers",) if "," in made.get("cell", "") else ())}


def _told(outcome: Outcome, names: Collection[str], best: Outcome | None) -> str:
    said = ""
    if outcome.config is not None:
        values = ((name, getattr(outcome.config, name)) for name in names)
        said = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values)
    far = f", {outcome.loss:.6g} so far" if isfinite(outcome.loss) else ""
    became = f"{outcome.loss:.6g}" if outcome.state == "complete" else f"{outcome.state}{far}"
    mark = " (best so far)" if best is not None and best.number == outcome.number else ""
    return f"Trial {outcome.number}: {became}{mark}: {said}; {outcome.reason}."


def _counted(outcomes: Collection[Outcome]) -> str:
    """How many trials there are, and what became of those that did not complete."""
    told = {"pruned": "ended early", "failed": "failed", "unfinished": "stopped before the end, not counted"}
    states = [outcome.state for outcome in outcomes]
    parts = [f"{states.count(state)} {words}" for state, words in told.items() if state in states]
    return f"{len(states)} trial{'s' * (len(states) != 1)}" + (f" ({', '.join(parts)})" if parts else "")


def _remedy(outcomes: Collection[Outcome], on: str) -> str:
    """What to do if no trial has completed."""
    if all(outcome.state == "unfinished" for outcome in outcomes):
        return f"The time of --timeout was too short for one of them. {on}, and a longer time."
    return "See above why each has ended."


def _result(folder: Path, names: Collection[str], best: Outcome, outcomes: Collection[Outcome]) -> dict[str, object]:
    assert best.config is not None
    told = [
        {"number": each.number, "state": each.state, "loss": each.loss, "reason": each.reason}
        | {name: getattr(each.config, name) for name in names if each.config is not None}
        for each in outcomes
    ]
    return {
        "study": str(folder),
        "searched": list(names),
        "best": {"number": best.number, "loss": best.loss, "config": best.config.to_dict(), "command": _line_of(best.config)},
        "trials": told,
    }


def _line_of(config: Config) -> str:
    """The shell line that trains with this config."""
    return command.line("scripts.train", *flags.arguments_of(config))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ArgumentTypeError(f"a number of seconds above 0, got {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(command.run(main))
