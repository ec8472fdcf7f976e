"""Measure what a GPU changes, in one run: placement, exactness, speed, the service over HTTP, and the loss of GPU memory.

    python -m scripts.bench_gpu                               on the GPU where there is a driver for one, about 5 minutes
    python -m scripts.bench_gpu --device cpu                  the same on the CPU: shows that it runs, but nothing about a GPU
    python -m scripts.bench_gpu --markdown docs/gpu.md        the tables as Markdown; --json FILE for the figures

Every part runs in its own process and survives the others' failures; what has been measured is written after each.
Needs torch, onnx and onnxruntime-gpu. Exits 0 when all was measured and is as it must be, 1 when not, or when CUDA was asked
for and cannot be used, 2 on wrong use, 130 when it was stopped.
"""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

from app.runtime import Runtime
from scripts import command, results
from scripts.bench import servers
from scripts.bench_gpu import child, report
from scripts.bench_gpu.child import FAILED, Job, Result
from scripts.bench_gpu.parts import NO_GPU, PARTS

NEEDED = {"machine", "models"}  # by the other parts: whether there is CUDA, and the models


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.bench_gpu", __doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda where this machine has a driver for it, else cpu")
    parser.add_argument("--version", type=Path, default=servers.ROOT / "model/gyro-denoiser/1", help="the version to measure")
    parser.add_argument(
        "--only", default="", metavar="PARTS", help=f"of {', '.join(PARTS)}: these, with commas between, and what they need"
    )
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement under load (1.5)")
    parser.add_argument("--quick", action="store_true", help="as little as shows that it runs; its figures say nothing")
    results.add_option(parser)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    args = parser.parse_args(argv)
    only = set(args.only.split(",")) if args.only else set(PARTS)
    chosen = [part for part in PARTS if part in only | NEEDED]
    if args.seconds <= 0 or only - set(PARTS):
        parser.error("--seconds must be above 0, and --only name parts that there are")
    if args.markdown is not None and (args.markdown.is_dir() or not args.markdown.parent.is_dir()):
        parser.error(f"{args.markdown} cannot be written: its folder must exist")

    device: Literal["cuda", "cpu"] = args.device or ("cuda" if Runtime().expects_gpu else "cpu")
    if device == "cpu":
        print(NO_GPU, flush=True)
    result: Result = {
        "device": device,
        "no_gpu": NO_GPU if device == "cpu" else None,
        "not_shown": {name: part.hidden for name, part in PARTS.items() if part.hidden} if device == "cpu" else {},
        "command": shlex.join(["python", "-m", "scripts.bench_gpu", *(sys.argv[1:] if argv is None else argv)]),
        "quick": args.quick,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "parts": {},
    }
    begin = perf_counter()
    with TemporaryDirectory(prefix="recurve-bench-") as models:
        job = Job(device, str(args.version.resolve()), models, args.seconds, args.quick)
        for name in chosen:
            part = PARTS[name]
            print(f"[{perf_counter() - begin:3.0f} s] {name}", file=sys.stderr, flush=True)
            if part.needed and device == "cpu":
                answer = {report.LEFT_OUT: f"without a GPU there is nothing to take away. Not shown: {part.hidden}"}
            else:
                answer = child.run(name, job, patience=part.patience)
            if name == "machine" and (obstacle := answer.get("obstacle")):
                print(f"CUDA was asked for and cannot be had: {obstacle}.", file=sys.stderr)
                return 1
            result["parts"][name] = answer
            result["seconds"] = perf_counter() - begin
            for line in report.part_lines(result, name):
                print(line, flush=True)
            results.write(args.json, result)
            if args.markdown is not None:
                args.markdown.write_text("\n".join(report.lines(result)).rstrip() + "\n")
    bad = [name for name, answer in result["parts"].items() if FAILED in answer or answer.get("faults")]
    print(f"{result['seconds']:.0f} s; {'not as it must be: ' + ', '.join(bad) if bad else 'all is as it must be'}.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(command.run(main))
