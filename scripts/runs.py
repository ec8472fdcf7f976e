"""List the training runs: the state of each, its results, and those of the best simple method.

    python -m scripts.runs                                 all in runs/, the newest last
    python -m scripts.runs experiments --sort test         by the result on the test part, the least first
    python -m scripts.runs runs/load-forecast-20260101-120000
                                                           one in full: config, history, scores, files

Exits 0 when shown, 2 on wrong use, or when there is no such folder.
"""

import sys
from pathlib import Path

from scripts import command, results
from scripts.overview import kept, shown


def main(argv: list[str] | None = None) -> int:
    columns = "\n".join(f"  {column.name:<11}{column.meaning}" for column in shown.COLUMNS)
    parser = command.Parser("scripts.runs", __doc__, epilog=f"columns:\n{columns}")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="of runs, or one run (runs)")
    parser.add_argument(
        "--sort",
        choices=[column.name for column in shown.COLUMNS],
        default="when",
        metavar="COLUMN",
        help="the least first, what is not known last (when)",
    )
    results.add_option(parser)
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        print(f"{args.folder} is no folder: scripts.train writes its runs into runs/, or where --run says.", file=sys.stderr)
        return 2

    if kept.is_run(args.folder):
        run = kept.read(args.folder)
        print(shown.in_full(run))
        results.write(args.json, shown.to_dict(run))
        return 0
    runs = shown.ordered(kept.runs_in(args.folder), args.sort)
    print(shown.table(runs) if runs else f"{args.folder} holds no runs. Begin one with: {command.line('scripts.train')}")
    for study in sorted(filter(kept.is_study, args.folder.iterdir())):
        print(f"{study.name} is a study of scripts.tune; its trials: {command.line('scripts.runs', study)}")
    results.write(args.json, {"runs": [shown.to_dict(run) for run in runs]})
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
