"""What was measured, for people: the tables of each part, and the whole as Markdown.

Owns the wording of the machine, the placement and the parity. Knows nothing of how anything was measured. For a part that
failed, the reason takes the place of its tables.
"""

from collections.abc import Iterator

from scripts.bench_gpu import report_service, report_speed
from scripts.bench_gpu.child import FAILED, Result
from scripts.bench_gpu.parts import PARTS
from scripts.bench_gpu.table import Table, milliseconds

TITLES = {
    "machine": "The machine",
    "models": "The models",
    "placement": "Where the nodes run",
    "parity": "How exactly",
    "torch_gru": "torch",
    "batches": "How fast a batch is",
    "service": "The service over HTTP",
    "memory": "When the GPU's memory is gone",
}
LEFT_OUT = "left_out"


def lines(result: Result) -> Iterator[str]:
    """The report of all parts that have run so far, in Markdown."""
    yield from ("# Measured on a GPU" if result["device"] == "cuda" else "# Measured without a GPU", "")
    if result["no_gpu"]:
        yield from (result["no_gpu"], "")
    yield from (f"`{result['command']}` took {result['seconds']:.0f} s.", "")
    for part in result["parts"]:
        yield from part_lines(result, part)


def part_lines(result: Result, part: str) -> Iterator[str]:
    note = PARTS[part].note if result["no_gpu"] else ""
    for table in tables(result, part):
        yield from table.lines(note)


def tables(result: Result, part: str) -> list[Table]:
    """The tables of one part."""
    answer, title = result["parts"][part], TITLES[part]
    if LEFT_OUT in answer:
        return [Table(title, says=[f"Left out: {answer[LEFT_OUT]}."])]
    if FAILED in answer:
        return [Table(title, says=[f"**Failed:** {answer[FAILED]}."])]
    on_gpu = result["device"] == "cuda"
    match part:
        case "machine":
            found = [_machine(answer)]
        case "torch_gru":
            found = [report_speed.torch_table(answer, on_gpu=on_gpu)]
        case "placement":
            found = [_placement(answer)]
        case "parity":
            found = [_parity(answer, on_gpu)]
        case "batches":
            found = report_speed.tables(answer, _whole(result, "torch_gru"), on_gpu=on_gpu)
        case "service":
            found = report_service.service(answer)
        case "memory":
            found = [report_service.memory(answer)]
        case _:
            found = []
    if faults := answer.get("faults"):
        found.append(Table(f"{title}: not as it must be", ["Fault"], [[fault] for fault in faults]))
    return found


def _whole(result: Result, part: str) -> Result:
    """The answer of another part; empty if it failed or has not run."""
    answer: Result = result["parts"].get(part, {})
    return {} if FAILED in answer else answer


def _machine(machine: Result) -> Table:
    gpu, packages = machine["gpu"] or {}, machine["packages"]
    rows = [
        ("GPU", gpu.get("name", "-")),
        ("its memory", gpu.get("memory", "-")),
        ("driver", gpu.get("driver", "-")),
        ("CPU", f"{machine['cpu'] or 'unknown'}, {machine['cpus']} CPUs"),
        ("ONNX Runtime", f"{_onnxruntime(packages)}, built for CUDA {machine['onnxruntime_cuda'] or '-'}"),
        ("Python, NumPy", f"{packages['python']}, {packages.get('numpy', '-')}"),
        ("system", machine["platform"]),
        ("commit", machine["commit"] or "unknown"),
    ]
    return Table(TITLES["machine"], ["What", "Which"], rows)


def _onnxruntime(packages: dict[str, str]) -> str:
    names = ("onnxruntime-gpu", "onnxruntime")
    return next((f"{name} {packages[name]}" for name in names if name in packages), "unknown")


def _placement(answer: Result) -> Table:
    says = [
        "Nodes by the execution provider that ran them, from ONNX Runtime's own profile of a run; copies are those between the "
        "two memories that ONNX Runtime puts in.",
        "CUDA has a kernel for the GRU operator of `reset_after` only; of the other it leaves the GRU nodes to the CPU in "
        "silence, which is why the committed model has a second graph, of ordinary operators.",
    ]
    rows = []
    for graph in answer["graphs"]:
        counts = graph["providers"]
        elsewhere = graph["elsewhere"]
        shown = ", ".join(elsewhere[:4]) + (f" and {len(elsewhere) - 4} more" if len(elsewhere) > 4 else "")
        cuda, cpu = (str(counts.get(f"{name}ExecutionProvider", 0)) for name in ("CUDA", "CPU"))
        rows.append([graph["title"], cuda, cpu, str(graph["copies"]), shown or "none", "yes" if graph["served"] else "no"])
    return Table(TITLES["placement"], ["Graph", "On CUDA", "On CPU", "Copies", "Not on CUDA", "Served on CUDA"], rows, says)


def _parity(answer: Result, on_gpu: bool) -> Table:
    what = "CUDA against the CPU" if on_gpu else "The graphs for CUDA against those for the CPU, both on the CPU"
    says = [
        f"{what}: ragged batches of up to 256 steps from random states, the differences of outputs (deg/s) and final states, the "
        "median of the sequences and the worst, and how many are beyond the tolerance of the manifest.",
        "Last bit: what the CPU's own answers differ by when every input changes in its last bit. A network amplifies rounding "
        "in rare places, and there no two ways to compute it agree.",
    ]
    if on_gpu:
        says.append("TF32 is off in the service: what it would cost and gain stands beside it.")
    rows = []
    for each in answer["compared"]:
        for kind, apart in ((("TF32" if each["tf32"] else "float32"), each["apart"]), ("last bit", each["last_bit"])):
            if kind == "last bit" and each["tf32"]:
                continue  # the CPU's differences are the same with and without TF32
            numbers = [f"{apart[name]:.2g}" for name in ("outputs_median", "outputs", "states_median", "states")]
            took = "-" if kind == "last bit" else milliseconds(each["seconds"])
            rows.append([each["title"], kind, *numbers, f"{apart['beyond']} of {apart['sequences']}", took])
    head = ["Model", "What", "Outputs", "worst", "States", "worst", "Beyond", f"ms of {answer['size']} x {answer['steps']} steps"]
    return Table(TITLES["parity"], head, rows, says)
