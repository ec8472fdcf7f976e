"""Measure the service beside what ONNX Runtime alone can do, a plain service and a bare route, in one run.

    python -m scripts.bench                           about 10 minutes; the load is wrk's where it is installed
    python -m scripts.bench --seconds 1 --repeat 1    a quick look
    python -m scripts.bench --only "64 callers"       scenarios with this in their name; those of streams begin with "streams"
    python -m scripts.bench --json bench.json         with the extremes of the rounds
    python -m scripts.bench --soak 30                 30 minutes of good, broken, slow and greedy clients: does the service hold?

Everything is measured once per round, and a ratio is of two figures of the same round; the report shows the medians over the
rounds. Ratios can be compared between machines, figures cannot.
Exits 0 when measured, 1 when something failed or did not hold, 2 on wrong use, 130 when it was stopped.
"""

import resource
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from app import manifest
from scripts import command, results
from scripts.bench import load, report, rounds, scenarios, servers, soak
from scripts.bench.rounds import Plan


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.bench", __doc__)
    parser.add_argument("--version", type=Path, default=servers.ROOT / "model/gyro-denoiser/1", help="the version to serve")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement (4)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds, over which the median is taken (3)")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="run the scenarios that have this in their name")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="load the service with everything for so long instead")
    results.add_option(parser)
    args = parser.parse_args(argv)
    if args.seconds < 1 or args.repeat < 1 or (args.soak is not None and args.soak <= 0):
        parser.error("--seconds, --repeat and --soak must be above 0")
    version = args.version.resolve()
    spec = manifest.read(version)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # an open loop needs more connections than a shell allows by default

    if args.soak is not None:
        return soak.run(version, spec, minutes=args.soak, target=args.json)

    # -- what is measured ----------------------------------------------------------------------------------------------
    features = len(spec.features)
    open_loops = [each for each in scenarios.open_loops(features) if args.only in each.name]
    needed = {each.capacity for each in open_loops}
    closed_loops = [each for each in scenarios.closed_loops(features) if args.only in each.name or each.name in needed]
    streams = [each for each in scenarios.streams(features) if args.only in each.name]
    expiries = [each for each in scenarios.expiries() if args.only in each.name]
    plan = Plan(
        version=version, spec=spec, closed=closed_loops, open=open_loops, streams=streams, expiries=expiries, seconds=args.seconds
    )
    if not len(plan):
        parser.error(f"--only {args.only!r} is in the name of no scenario")
    if closed_loops:
        print(f"Load from {'wrk' if load.has_wrk() else 'the generator of this package: wrk is not installed'}.", file=sys.stderr)

    # -- measure -------------------------------------------------------------------------------------------------------
    with tqdm(total=args.repeat * len(plan), unit="run", file=sys.stderr, disable=None) as bar:

        def tell(name: str) -> None:
            bar.set_description(name)
            bar.update()

        found = [rounds.measure(plan, tell) for _ in range(args.repeat)]

    # -- tell ----------------------------------------------------------------------------------------------------------
    summary = report.summary(found)
    print("\n".join(report.lines(plan, summary)))
    spreads = {name: {k: v and asdict(v) for k, v in figures.items()} for name, figures in summary.items()}
    results.write(args.json, {"version": str(spec), "seconds": args.seconds, "rounds": args.repeat, "figures": spreads})
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
