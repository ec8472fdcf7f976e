"""Compare how long the cells take to train.

    python -m scripts.compare.speed                          about a minute; a table
    python -m scripts.compare.speed --rounds 50 --json FILE  a quieter one, and the numbers

A step is forward, backward and nothing else, of one layer, on the CPU. The cells take turns, round after round, so that whatever
else the machine does affects all of them alike. The table has the median of a cell's rounds, and the median of its ratios to
torch.nn.GRU in the same round. On a machine that is not idle, one thread (--threads 1) tells the cells apart best.
Exits 0 when measured, 2 on wrong use.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import get_args

import torch
from torch import Tensor
from tqdm import tqdm

from scripts import command, results
from scripts.training.reference import Kind
from scripts.training.stack import Stack

KINDS: tuple[str, ...] = get_args(Kind)
BASE = "reset_after"  # torch.nn.GRU
HIDDEN = (64, 128)
INPUTS, BATCH, STEPS = 12, 64, 128
ROUNDS, WARM_UP = 20, 2


@dataclass(frozen=True, slots=True)
class Speed:
    """One layer of a cell: seconds of a step, and the same in units of torch.nn.GRU's."""

    kind: str
    hidden: int
    backend: str
    seconds: float
    ratio: float


def measure(*, hidden: Sequence[int] = HIDDEN, batch: int = BATCH, steps: int = STEPS, rounds: int = ROUNDS) -> list[Speed]:
    """Every cell of every size, in the order of the sizes."""
    found = []
    with tqdm(total=len(hidden) * (rounds + WARM_UP), desc="measuring", unit="round") as bar:
        for size in hidden:
            torch.manual_seed(0)
            stacks = {kind: Stack(INPUTS, size, (kind,)) for kind in KINDS}
            input, towards = torch.randn(batch, steps, INPUTS), torch.randn(batch, steps, size)
            taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for _ in range(rounds + WARM_UP):
                for kind, stack in stacks.items():
                    taken[kind].append(_step(stack, input, towards))
                bar.update()
            base = taken[BASE][WARM_UP:]
            for kind, every in taken.items():
                ratio = median(own / other for own, other in zip(every[WARM_UP:], base, strict=True))
                found.append(Speed(kind, size, backend(kind), median(every[WARM_UP:]), ratio))
    return found


def backend(kind: str) -> str:
    """What computes it."""
    return "hand-written autograd function" if kind == "reset_before" else "torch's fused kernel"


def table(speeds: Sequence[Speed]) -> str:
    """In Markdown, for a terminal too."""
    lines = ["| cell | hidden | backend | ms a step | times torch.nn.GRU |", "| --- | ---: | --- | ---: | ---: |"]
    lines += [f"| {each.kind} | {each.hidden} | {each.backend} | {each.seconds * 1e3:.1f} | {each.ratio:.2f} |" for each in speeds]
    return "\n".join(lines)


def _step(stack: Stack, input: Tensor, towards: Tensor) -> float:
    stack.zero_grad()
    begin = perf_counter()
    h, _ = stack(input)
    h.backward(towards)
    return perf_counter() - begin


def main(argv: list[str] | None = None) -> int:
    parser = command.Parser("scripts.compare.speed", __doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of every cell and size ({ROUNDS})")
    parser.add_argument("--threads", type=int, help=f"of torch (as many as it takes: {torch.get_num_threads()})")
    results.add_option(parser)
    args = parser.parse_args(argv)
    for name in ("rounds", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} must be 1 or more, got {value}")
    if args.threads:
        torch.set_num_threads(args.threads)
    speeds = measure(hidden=HIDDEN, batch=BATCH, steps=STEPS, rounds=args.rounds)
    print(
        f"One layer, {INPUTS} inputs, batch {BATCH}, {STEPS} steps, torch {torch.__version__}, {torch.get_num_threads()} threads:\n"
    )
    print(table(speeds))
    results.write(args.json, {"threads": torch.get_num_threads(), "speeds": [asdict(each) for each in speeds]})
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
