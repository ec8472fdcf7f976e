"""Measures torch on the same GPU: its own GRU, our network eager and compiled, and the most that the machine can do.

Runs in its own process, since torch brings another cuDNN than ONNX Runtime. Knows nothing of ONNX Runtime. TF32 is off. Without
a GPU one thread of the CPU does it all.
"""

import sys
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from scripts.bench_gpu import child, grid
from scripts.bench_gpu.child import Job, Result
from scripts.bench_gpu.grid import Cell
from scripts.bench_gpu.timing import median_seconds

BUDGET = 0.05  # seconds
SCALES = (300.0, 10.0, 1.0)  # as our model's
GPU_SIDE, CPU_SIDE, QUICK_SIDE = 8192, 2048, 256  # of the matrices that are multiplied
GPU_COPY, CPU_COPY, QUICK_COPY = 2**31, 2**28, 2**22  # bytes that are copied


def measure(job: Job) -> Result:
    """Seconds by model and batch, the roof, and the result of torch.compile."""
    if job.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch finds no GPU")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    with torch.no_grad():
        return {
            "versions": _versions(job),
            "roof": _roof(job),
            "eager": {title: _eager(job, title, hidden) for title, hidden in _hidden(job).items()},
            **_compiled(job),
        }


def _hidden(job: Job) -> dict[str, int]:
    return {model.title: model.hidden for model in grid.made(quick=job.quick)}  # torch's GRU is reset_after in any case


def _versions(job: Job) -> Result:
    found: Result = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": None}
    if job.device == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's own
        found |= {"cudnn": cudnn, "gpu": torch.cuda.get_device_name(), "memory": torch.cuda.mem_get_info()[1]}
    return found


def _roof(job: Job) -> Result:
    child.say("torch: the float32 matrix product, the copy")
    side = QUICK_SIDE if job.quick else GPU_SIDE if job.device == "cuda" else CPU_SIDE
    a, b = (torch.randn(side, side, device=job.device) for _ in range(2))
    out = torch.empty_like(a)
    flops = 2 * side**3 / median_seconds(_done(job, lambda: torch.mm(a, b, out=out)), budget=BUDGET)
    size = QUICK_COPY if job.quick else GPU_COPY if job.device == "cuda" else CPU_COPY
    source = torch.zeros(size, dtype=torch.uint8, device=job.device)
    target = torch.empty_like(source)
    bandwidth = 2 * size / median_seconds(_done(job, lambda: target.copy_(source)), budget=BUDGET)  # read and written
    return {"flops": flops, "bandwidth": bandwidth, "side": side, "copied": size}


def _eager(job: Job, title: str, hidden: int) -> list[Result]:
    gru = _gru(job, hidden)
    cells = grid.cells(title, quick=job.quick)
    child.say(f"torch.nn.GRU, hidden {hidden}: {len(cells)} batches")
    return [{"size": cell.size, "steps": cell.steps, "seconds": _seconds(job, gru, cell, hidden)} for cell in cells]


class Network(nn.Module):
    """Our model with torch's GRU in it: torch.compile leaves a GRU unchanged, and compiles the rest."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(grid.SCALED, hidden, num_layers=2), nn.Linear(hidden, 3)

    def forward(self, input: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        rate, force = input[..., :3], input[..., 3:]
        scaled = [torch.tanh(rate / scale) for scale in SCALES]
        states, hn = self.gru(torch.cat([*scaled, force / 10.0], dim=-1), h0)
        return rate + self.head(states), hn


def _compiled(job: Job) -> Result:
    """One shape, eager and compiled, with the time to compile it; a fault if it cannot be compiled here."""
    if job.quick:
        return {"compiled": None}
    cell, (hidden, *_) = grid.compiled(quick=job.quick), _hidden(job).values()
    child.say(f"torch.compile, {cell.size} sequences of {cell.steps} steps")
    network = Network(hidden).to(job.device).eval()
    input = torch.randn(cell.steps, cell.size, 6, device=job.device)
    h0 = torch.zeros(2, cell.size, hidden, device=job.device)
    try:
        eager = median_seconds(_done(job, lambda: network(input, h0)), budget=BUDGET)
        compiled = torch.compile(network)
        run = _done(job, lambda: compiled(input, h0))
        begin = perf_counter()
        run()
        took = perf_counter() - begin
        seconds = median_seconds(run, budget=BUDGET)
    except Exception as error:  # the compiler's own, of many kinds
        return {"compiled": None, "faults": [f"torch.compile: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]}
    found = {"size": cell.size, "steps": cell.steps, "eager_seconds": eager, "seconds": seconds, "compile_seconds": took}
    return {"compiled": found}


def _gru(job: Job, hidden: int) -> nn.GRU:
    return nn.GRU(grid.SCALED, hidden, num_layers=2).to(job.device).eval()


def _seconds(job: Job, gru: Callable[..., object], cell: Cell, hidden: int) -> float:
    return median_seconds(_run(job, gru, cell, hidden), budget=BUDGET)


def _run(job: Job, gru: Callable[..., object], cell: Cell, hidden: int) -> Callable[[], None]:
    input = torch.randn(cell.steps, cell.size, grid.SCALED, device=job.device)
    h0: Tensor = torch.zeros(2, cell.size, hidden, device=job.device)
    return _done(job, lambda: gru(input, h0))


def _done(job: Job, run: Callable[[], object]) -> Callable[[], None]:
    """`run`, but it returns only when the GPU has done its work."""

    def whole() -> None:
        run()
        if job.device == "cuda":
            torch.cuda.synchronize()

    return whole


if __name__ == "__main__":
    sys.exit(child.answer(measure))
