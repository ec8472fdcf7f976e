"""The tables of the service over HTTP, and of its behaviour when the GPU's memory is taken.

Owns their wording. Knows nothing of how anything was measured.
"""

from collections.abc import Mapping

from scripts.bench_gpu.child import Result
from scripts.bench_gpu.table import Table, milliseconds, rate

SHORT = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "CPU"}


def service(answer: Result) -> list[Table]:
    says = [
        "Sequences have 128 steps unless it says one step; each caller sends when it has its answer.",
        "The load comes from the same machine, of several generators the worst p50 and p99; * marks a rate at which a generator "
        "had no processor time left, so that the service may do more.",
        "MPS: with NVIDIA's Multi-Process Service, by which workers use the GPU at once; without it they do so in turns.",
        "Batches run by: from /metrics, by the provider that ran them; the service sends to the CPU what is done there sooner.",
    ]
    rows = []
    for point in answer["points"]:
        done = rate(point["sequences_per_second"]) + "*" * point["generator_busy"]
        times = [milliseconds(point[each]) for each in ("p50", "p99")]
        ran = _shares(point["batches"])
        rows.append([point["model"], point["setup"], point["name"], str(point["callers"]), done, *times, ran, point["status"]])
    head = ["Model", "Service", "Request", "Callers", "Sequences/s", "p50 ms", "p99 ms", "Batches run by", "/health"]
    found = [Table("The service over HTTP", head, rows, says)]
    if answer["starts"]:
        says = [
            "Seconds from the start of the process to the first answered prediction: libraries, golden sample, warm-up.",
            "Memory of all processes together (proportional set size) then, and of the GPU after the requests above.",
        ]
        rows = [[each["model"], each["setup"], f"{each['cold_start']:.1f}", *_memory_of(each)] for each in answer["starts"]]
        found.append(Table("The service's start", ["Model", "Service", "Seconds", "MB", "MiB of the GPU"], rows, says))
    return found


def _memory_of(start: Result) -> list[str]:
    pss, before, after = start["pss"], start["gpu_before"], start.get("gpu_after")
    return [
        "-" if pss is None else f"{pss / 1e6:,.0f}",
        "-" if before is None or after is None else f"{after - before:,}",
    ]


def _shares(batches: Mapping[str, int]) -> str:
    total = sum(batches.values())
    ordered = sorted(batches.items(), key=lambda item: -item[1])
    return ", ".join(f"{SHORT.get(provider, provider)} {100 * count / total:.3g} %" for provider, count in ordered) or "-"


def memory(answer: Result) -> Table:
    held, back = answer["memory"], answer["recovered_seconds"]
    says = [
        f"Another process took {held['taken']:,} MiB of the GPU's memory and left {held['left']} MiB, while the service ran "
        "with `--device cuda`; each answer is compared to what the CPU answers, the committed model's to its own before, in "
        "units of the tolerance.",
        f"When the memory was free again, /health said ok after {back:.1f} s."
        if back is not None
        else "When the memory was free again, /health did not come to say ok.",
    ]
    rows = []
    for event in answer["events"]:
        provider = ", ".join(SHORT.get(name, name) for name in event["provider"].split(", "))
        reason = event["reason"] or "-"
        shown = reason if len(reason) <= 160 else f"{reason[:157]}..."
        rows.append([event["when"], event["what"], provider, f"{event['tolerances']:.2g}", event["status"], shown])
    head = ["When", "Request", "Answered by", "Difference", "/health", "Reason it gives"]
    return Table("When the GPU's memory is gone", head, rows, says)
