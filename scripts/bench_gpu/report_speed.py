"""The tables of what a batch costs, by model and size; of the rate of all CPUs together; and of torch.

Owns their wording and the shares of the roofline. Knows nothing of how anything was measured.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from scripts.bench_gpu import grid
from scripts.bench_gpu.child import Result
from scripts.bench_gpu.roofline import Network, Roof
from scripts.bench_gpu.table import Table, milliseconds, percent, rate

WHY_SMALL = (
    "It is small because a recurrent network is a chain: a step cannot begin before the one before it has ended, and each is a "
    "few products too small to fill the machine, so that most of the time goes into starting kernels and waiting for them, "
    "and only larger batches or wider layers fill them."
)
SLOWER = 1.2  # a provider that takes more times as long than this is the wrong one
SAYS = {
    grid.REFERENCE: "The committed model, 2 layers of 64: on CUDA chunks of ordinary operators, recorded once and replayed.",
    grid.AFTER: "The same size with the cell of `torch.nn.GRU`: on CUDA the GRU operator, which is cuDNN's.",
    grid.LARGE: "A network four times as wide, which has 16 times the arithmetic: GPUs are bought for such.",
}


def tables(answer: Result, torch: Result, *, on_gpu: bool) -> list[Table]:
    """All tables of batches; `torch`: the answer of the torch_gru part, empty if it failed."""
    found = [_how(torch.get("roof"), _ours(on_gpu))]
    found += [_model(title, model, torch, on_gpu) for title, model in answer["models"].items()]
    found.append(_all_cpus(answer, on_gpu))
    return found


def _ours(on_gpu: bool) -> str:
    return "CUDA" if on_gpu else "graph for CUDA"


def _how(roof: dict[str, float] | None, ours: str) -> Table:
    says = [
        f"Medians. {ours} and CPU: ONNX Runtime through the engine, as the service runs it, with the copies to the graph's memory "
        "and back; torch: its own GRU, which is the `reset_after` cell whatever the model, on data that is there already.",
        f"Goes to: the provider that the service picks, by what it learned when it started; its batches hold {grid.MOST} at most, "
        "and larger ones show what a higher limit would do.",
    ]
    if roof:
        says += [
            f"Of roofline: the least time that the arithmetic or the memory traffic of the batch would take at the measured "
            f"float32 peak of {roof['flops'] / 1e12:.3g} TFLOP/s and {roof['bandwidth'] / 1e9:,.0f} GB/s, over the time of {ours}.",
            WHY_SMALL,
        ]
    return Table("How fast a batch is", says=says)


def _model(title: str, model: Result, torch: Result, on_gpu: bool) -> Table:
    ours, cells = _ours(on_gpu), model["cells"]
    network, roof = Network(**model["network"]), torch.get("roof")
    eager = _eager(title, torch)
    says = [SAYS.get(title, ""), _picks(cells, ours)]
    rows = []
    for cell in cells:
        size, steps = cell["size"], cell["steps"]
        share = Roof(roof["flops"], roof["bandwidth"]).seconds(network, size, steps) / cell["gpu"] if roof else None
        sent = {True: ours, False: "CPU", None: "-"}[cell["sent_to_gpu"]]
        own = eager.get((size, steps))
        timed = [shown for each in (cell["gpu"], cell["cpu"], own) for shown in (milliseconds(each), rate(each and size / each))]
        rows.append([str(size), str(steps), *timed, sent, percent(share)])
    head = ["Batch", "Steps", f"{ours} ms", "sequences/s", "1 CPU thread ms", "sequences/s", "torch GRU ms", "sequences/s"]
    return Table(f"A batch: {title}", [*head, "Goes to", "Of roofline"], rows, says)


def _picks(cells: Sequence[Result], ours: str) -> str:
    """How well the service picks the provider."""
    sent = [cell for cell in cells if cell["sent_to_gpu"] is not None]
    slower = []
    for cell in sent:
        picked, other = (cell["gpu"], cell["cpu"]) if cell["sent_to_gpu"] else (cell["cpu"], cell["gpu"])
        if picked > SLOWER * other:
            what = ours if cell["sent_to_gpu"] else "the CPU"
            slower.append(f"{cell['size']} x {cell['steps']} steps ({what} takes {picked / other:.2g} times as long)")
    return f"Of {len(sent)} batches {len(slower)} go to a provider that takes over {SLOWER} times as long as the other" + (
        f": {', '.join(slower)}." if slower else "."
    )


def _eager(title: str, torch: Result) -> dict[tuple[int, int], float]:
    eager: dict[str, Any] = torch.get("eager", {})
    cells = eager.get(title, eager.get(grid.AFTER, []))
    return {(cell["size"], cell["steps"]): cell["seconds"] for cell in cells}


def _all_cpus(answer: Result, on_gpu: bool) -> Table:
    ours = _ours(on_gpu)
    says = [
        f"Sequences a second: all {answer['cpus']} CPUs at once, a thread each with batches of {answer['lane_batch']}, against the "
        f"batch size that does most on {ours} with one thread beside it."
    ]
    rows = list(_best(answer))
    return Table("All CPUs", ["Model", "Steps", "All CPUs", ours, "its batch", f"{ours} / CPUs"], rows, says)


def _best(answer: Result) -> Iterator[list[str]]:
    for title, model in answer["models"].items():
        for lanes in model["lanes"]:
            rates = {c["size"]: c["size"] / c["gpu"] for c in model["cells"] if c["steps"] == lanes["steps"]}
            size = max(rates, key=rates.__getitem__)
            cpus = lanes["sequences_per_second"]
            yield [title, str(lanes["steps"]), rate(cpus), rate(rates[size]), str(size), f"{rates[size] / cpus:.2g}"]


def torch_table(torch: Result, *, on_gpu: bool) -> Table:
    roof, versions, where = torch["roof"], torch["versions"], "on the GPU" if on_gpu else "on one CPU thread"
    rows = [
        ["torch", f"{versions['torch']}, CUDA {versions['cuda'] or '-'}, cuDNN {versions['cudnn'] or '-'}"],
        ["the GPU that it finds", f"{versions['gpu']}, {versions['memory'] / 2**20:,.0f} MiB" if "gpu" in versions else "-"],
        [f"float32 matrix product, {roof['side']} squared, TF32 off", f"{roof['flops'] / 1e12:.3g} TFLOP/s"],
        [f"copy of {roof['copied'] / 2**20:,.0f} MiB, bytes read and written", f"{roof['bandwidth'] / 1e9:,.0f} GB/s"],
    ]
    if compiled := torch.get("compiled"):
        cell = f"{compiled['size']} sequences of {compiled['steps']} steps"
        rows.append([f"our network with torch.nn.GRU, {cell}", f"{milliseconds(compiled['eager_seconds'])} ms"])
        rows.append(["the same through torch.compile, which leaves the GRU as it is", f"{milliseconds(compiled['seconds'])} ms"])
        rows.append(["what compiling it took, once", f"{compiled['compile_seconds']:.1f} s"])
    says = [f"What torch does {where}, in a process of its own: the peak and the bandwidth below are from here."]
    return Table("torch", ["What", "Measured"], rows, says)
