"""Takes almost all of the GPU's memory, and keeps it until it is told to end: python -m scripts.bench_gpu.hog MIB_LEFT

Owns the taking. Knows nothing of who needs the memory. Prints what is taken and what is left, as JSON, and then waits for the
end of its stdin. `holding` runs it in its own process.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.bench.servers import ROOT

MIB = 2**20
STEP = 20 * MIB  # for a smaller tensor torch takes as much


@contextmanager
def holding(left: int) -> Iterator[dict[str, int]]:
    """Hold the memory while the block runs; gives the MiB taken and left. RuntimeError if it fails. `left`: MiB not to take."""
    command = [sys.executable, "-m", "scripts.bench_gpu.hog", str(left)]
    with subprocess.Popen(  # noqa: S603  # it runs itself
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if not (said := process.stdout.readline()):
                raise RuntimeError("torch could not take the GPU's memory")
            yield json.loads(said)
        finally:
            process.kill()


def main() -> None:
    import torch  # only here: a process that imports `holding` must not load torch

    device = torch.device("cuda")
    kept, taken, step = [], 0, 2**30
    least = int(sys.argv[1]) * MIB
    while step >= STEP:
        free, _ = torch.cuda.mem_get_info()
        size = min(step, (free - least) // STEP * STEP)
        if size < STEP:
            break
        try:
            kept.append(torch.empty(size, dtype=torch.uint8, device=device))
            taken += size
        except torch.OutOfMemoryError:  # the free memory is fragmented
            step //= 2
    free, _ = torch.cuda.mem_get_info()
    print(json.dumps({"taken": taken // MIB, "left": free // MIB}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
