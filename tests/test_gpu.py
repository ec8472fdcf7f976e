"""What needs a real GPU: CUDA computes the same from any thread, while models come and go, and when its memory runs out."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import numpy as np
import pytest

from app import manifest
from app.engine import Engine
from app.golden import difference
from app.gpu import has_driver
from app.manifest import ModelSpec
from app.runtime import CPU, CUDA
from app.tensors import Instance
from tests import artifacts
from tests.servers import serve

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_driver(), reason="this machine has no NVIDIA driver")]

HOLDER = """
import sys, torch
held = []
while torch.cuda.mem_get_info()[0] > 48 << 20:
    free = torch.cuda.mem_get_info()[0]
    try:
        held.append(torch.empty(max(free - (40 << 20), 1 << 20), dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        break
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["reset_before", "reset_after", "lstm"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return artifacts.build(tmp_path, hidden=32, cell=request.param)


@pytest.fixture
def spec(folder: Path) -> ModelSpec:
    return manifest.read(folder)


def some(spec: ModelSpec, *lengths: int, seed: int = 0) -> list[Instance]:
    rng = np.random.default_rng(seed)
    return [
        Instance(
            steps=(rng.standard_normal((length, len(spec.features))) * 30).astype(np.float32),
            state=None if index == 1 else tuple(rng.uniform(-1, 1, s.shape).astype(np.float32) for s in spec.states),
        )
        for index, length in enumerate(lengths)
    ]


def zeros(spec: ModelSpec, *sizes: int) -> list[list[Instance]]:
    return [[Instance(np.zeros((steps, len(spec.features)), np.float32))] * size for size in sizes for steps in (1, 32)]


@contextmanager
def without_memory() -> Iterator[None]:
    """Within the block, another process holds nearly all memory of the GPU."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()


def test_cuda_computes_what_the_cpu_does(folder: Path, spec: ModelSpec) -> None:
    """Ragged batches that start from states: outputs and final states, for batch sizes that were prepared and for others."""
    engine = Engine(spec, folder, device="cuda")
    engine.warm_up(zeros(spec, 1, 4, 16))
    cpu, cuda = engine.runners
    for lengths in ((1,), (31, 32, 33), (128, 1, 64, 65), (200,), tuple(range(1, 40))):
        batch = some(spec, *lengths)
        assert difference(engine.predict_on(cuda, batch), engine.predict_on(cpu, batch), spec.tolerance) <= 1, lengths


def test_any_thread_may_ask_while_another_version_is_loaded(folder: Path, spec: ModelSpec) -> None:
    """While ONNX Runtime records a graph for a thread, CUDA allows no other work: calls then gave wrong answers and errors."""
    engine = Engine(spec, folder, device="cuda")
    engine.warm_up(zeros(spec, 1, 8))
    cpu, cuda = engine.runners
    batch = some(spec, 40, 3, 70, 128, 5)
    expected = engine.predict_on(cpu, batch)
    loaded = Event()

    def ask(_: int) -> float:
        worst = 0.0
        while not loaded.is_set():
            worst = max(worst, difference(engine.predict_on(cuda, batch), expected, spec.tolerance))
        return worst

    with ThreadPoolExecutor(4) as threads:
        worst = threads.map(ask, range(4))
        try:
            for _ in range(3):
                other = Engine(spec, folder, device="cuda")
                other.warm_up(zeros(spec, 1, 8, 64))
                other.close()
        finally:
            loaded.set()
        assert max(worst) <= 1
    assert engine.provider.in_use == CUDA


def test_without_memory_the_cpu_answers_and_cuda_comes_back(folder: Path, spec: ModelSpec) -> None:
    """Another process on the same GPU takes all its memory."""
    now = [0.0]
    engine = Engine(spec, folder, device="cuda", clock=lambda: now[0])
    cpu, cuda = engine.runners
    engine.predict_on(cuda, some(spec, 1))
    batch = some(spec, *[300] * 8192)
    expected = engine.predict_on(cpu, batch)
    with without_memory():
        answer = engine.predict(batch)
        assert {each.provider for each in answer} == {CPU}
        assert difference(answer, expected, spec.tolerance) <= 1
        assert "llocate" in str(engine.provider.fallback_reason)
        now[0] += 0.5
        assert engine.predict(batch[:1])[0].provider == CPU
    now[0] += 60
    answer = engine.predict(batch)
    assert {each.provider for each in answer} == {CUDA}
    assert difference(answer, expected, spec.tolerance) <= 1
    assert (engine.provider.in_use, engine.provider.fallback_reason) == (CUDA, None)
    assert difference(engine.predict_on(cuda, batch[:3]), expected[:3], spec.tolerance) <= 1


def test_what_was_made_ready_takes_no_more_memory(tmp_path: Path) -> None:
    """A recorded CUDA graph holds all the memory that it needs."""
    folder = artifacts.build(tmp_path)
    spec = manifest.read(folder)
    engine = Engine(spec, folder, device="cuda")
    engine.warm_up(zeros(spec, 1, 64))
    engine.runners[0].learn(64, 300, 1e6)  # in seconds, so that CUDA is faster
    batch = some(spec, *[300] * 64)
    expected = engine.predict_on(engine.runners[0], batch)
    with without_memory():
        answer = engine.predict(batch)
    assert {each.provider for each in answer} == {CUDA}
    assert difference(answer, expected, spec.tolerance) <= 1


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_the_service_says_that_it_serves_from_the_gpu(folder: Path, spec: ModelSpec, device: str) -> None:
    batch = some(spec, *[128] * 256)  # so many that no CPU is faster
    expected = Engine(spec, folder, device="cpu").predict([Instance(each.steps) for each in batch])
    with serve(folder.parent.parent, "--device", device) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        health = client.get("/health").json()
        assert health["status"] == "ok"
        assert health["models"][0] | {"provider": CUDA, "fallback_reason": None} == health["models"][0]
        answer = client.post("/predict", json={"instances": [each.steps.tolist() for each in batch]}).raise_for_status().json()
    assert answer["provider"] == CUDA
    for row, wanted in zip(answer["predictions"], expected, strict=True):
        np.testing.assert_allclose(row, wanted.output, rtol=1e-5, atol=spec.tolerance.atol)
