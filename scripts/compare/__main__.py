"""Test the paper's claims: compare GRU, LSTM and tanh RNN at equal size, on tasks whose answers are known.

    python -m scripts.compare                                         about 3 minutes on 2 cores: shows that it runs
    python -m scripts.compare --budget full --resume runs/compare     about an hour; a killed run goes on where it was
    python -m scripts.compare --budget full --resume runs/compare --markdown docs/compare.md     what is done is not done again
    python -m scripts.compare --tasks gyro --cells reset_before,lstm,lstm+reset_before

Every trial (a cell, a size, a task, a seed) runs in a process with one thread. Ctrl-C stops it; every trial that is done is kept.
Exits 0 when all was tried, 1 when it failed, 2 on wrong use, 130 when it was stopped.
"""

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from app import cpus
from scripts import command
from scripts import results as result_files
from scripts.compare import cells, comparison, plan, report
from scripts.compare.budget import BUDGETS, FAMILIES
from scripts.compare.cells import Cell
from scripts.compare.store import Store
from scripts.training import processor
from scripts.training.packages import installed


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    budget = BUDGETS[args.budget]
    tasks = [task for task in budget.tasks if task.family in args.tasks]
    seeds = args.seeds or budget.seeds
    folder = args.resume or Path("runs") / f"compare-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        store = Store(folder, budget, tasks, jobs=args.jobs, machine=_machine())
    except (OSError, ValueError) as error:
        print(f"python -m scripts.compare: {error}", file=sys.stderr)
        return 2
    print(f"Cells: {', '.join(cell.name for cell in args.cells)}. Tasks: {', '.join(task.name for task in tasks)}.")
    print(f"Seeds: {seeds}, beside those that choose learning rates. Trials at the same time: {args.jobs}. Kept in {folder}.")

    try:
        done = comparison.run(budget, tasks, args.cells, store, seeds=seeds, workers=args.jobs)
    except KeyboardInterrupt:
        said = _without_resume(sys.argv[1:] if argv is None else argv)
        again = command.line("scripts.compare", *said, "--resume", folder)
        print(f"\nStopped; trials kept: {len(store.outcomes)}. Go on with: {again}", file=sys.stderr)
        return command.STOPPED
    print(report.verdict_table(done.verdicts))
    if args.markdown is not None:
        pictures = comparison.write(done, store, args.markdown)
        print(f"Written: {args.markdown} and {pictures} pictures beside it.")
    outcomes = [outcome.to_dict() for outcome in store.outcomes.values()]
    result_files.write(args.json, {"run": str(folder), "verdicts": [asdict(each) for each in done.verdicts], "outcomes": outcomes})
    return 0


def arguments(argv: list[str] | None) -> Namespace:
    parser = command.Parser("scripts.compare", __doc__)
    every = [*cells.SINGLE, *cells.HYBRIDS]
    parser.add_argument("--tasks", type=_tasks, default=FAMILIES, help=f"with commas between ({','.join(FAMILIES)})")
    parser.add_argument(
        "--cells",
        type=_cells,
        default=[cells.named(name) for name in every],
        help=f"with commas between, lstm always among them; a hybrid's layers joined by +, from the input up ({','.join(every)})",
    )
    parser.add_argument("--seeds", type=command.count, help="of every cell on every task (as the budget has it)")
    parser.add_argument("--budget", choices=BUDGETS, default="quick", help="how much is tried (quick)")
    parser.add_argument("--jobs", type=command.count, default=2, help="trials at the same time (2)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="where outcomes are kept, and gone on with (runs/compare-TIME)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page, with its pictures beside it")
    result_files.add_option(parser)
    args = parser.parse_args(argv)
    if args.markdown is not None and (args.markdown.is_dir() or not args.markdown.parent.is_dir()):
        parser.error(f"{args.markdown} cannot be written: its folder must exist")
    return args


def _machine() -> dict[str, Any]:
    """What the trials run on, and the packages that they use."""
    packages = {name: number for name, number in installed().items() if name in ("python", "torch", "numpy")}
    return {
        "cpu": processor.name() or "an unknown processor",
        "cpus": cpus.available(),
        "packages": packages | {"scikit-learn": version("scikit-learn")},
    }


def _without_resume(argv: Sequence[str]) -> list[str]:
    """The arguments without --resume and its folder."""
    kept = [word for word in argv if not word.startswith("--resume=")]
    if "--resume" in kept:
        at = kept.index("--resume")
        del kept[at : at + 2]
    return kept


def _tasks(text: str) -> tuple[str, ...]:
    named = tuple(text.split(","))
    if unknown := [name for name in named if name not in FAMILIES]:
        raise ArgumentTypeError(f"{unknown[0]!r} is no task: name some of {', '.join(FAMILIES)}, with commas between")
    return named


def _cells(text: str) -> list[Cell]:
    try:
        return [cells.named(name) for name in dict.fromkeys([*text.split(","), plan.REFERENCE])]
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(command.run(main))
