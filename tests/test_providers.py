"""Which execution provider computes, what is said of it, and that nothing is lost when one fails.

A GPU is not needed: CUDA's graphs run on the CPU, and fail when the test says so.
"""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from app import gpu, manifest
from app.chunked import Chunked, size_for
from app.engine import Engine, runner_of
from app.errors import BadArtifact, ProviderUnavailable
from app.golden import difference
from app.manifest import ModelSpec
from app.metrics import Metrics
from app.runtime import CPU, CUDA, Runtime
from app.tensors import Instance
from tests import artifacts
from tests.fake_cuda import Driver, FakeCuda
from tests.services import service_over

MEMORY = RuntimeError("Failed to allocate memory for requested\nbuffer of size 25165824")


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.build(tmp_path_factory.mktemp("model"))


@pytest.fixture
def spec(folder: Path) -> ModelSpec:
    return manifest.read(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def engine(folder: Path, spec: ModelSpec, cuda: FakeCuda, clock: Clock) -> Engine:
    return Engine(spec, folder, runtime=cuda, clock=clock)


def some(spec: ModelSpec, *lengths: int, seed: int = 0) -> list[Instance]:
    """One of each length; the second from zeros, the others from a random state."""
    rng = np.random.default_rng(seed)
    shapes = [state.shape for state in spec.states]
    return [
        Instance(
            steps=(rng.standard_normal((length, len(spec.features))) * 50).astype(np.float32),
            state=None if index == 1 else tuple(rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes),
        )
        for index, length in enumerate(lengths)
    ]


def providers(engine: Engine, instances: list[Instance]) -> set[str]:
    return {prediction.provider for prediction in engine.predict(instances)}


@pytest.mark.parametrize(
    "lengths", [(1,), (1, 1, 1), (31, 32, 33), (128, 1, 64, 65), (7,) * 5, (200,)], ids=lambda each: "-".join(map(str, each))
)
def test_both_providers_answer_alike(engine: Engine, spec: ModelSpec, lengths: tuple[int, ...]) -> None:
    """Outputs and final states, ragged, from random states: who computes must not show."""
    cpu, other = engine.runners
    batch = some(spec, *lengths)
    assert difference(engine.predict_on(other, batch), engine.predict_on(cpu, batch), spec.tolerance) <= 1


def test_a_graph_of_fixed_steps_is_used_by_several_threads_at_once(engine: Engine, spec: ModelSpec) -> None:
    """Its buffers are one batch's at a time."""
    cpu, other = engine.runners
    batches = [some(spec, 40, 3, 70, seed=seed) for seed in range(24)]
    expected = [engine.predict_on(cpu, batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda batch: engine.predict_on(other, batch), batches))
    for answer, wanted in zip(answers, expected, strict=True):
        assert difference(answer, wanted, spec.tolerance) <= 1


def test_a_batch_goes_where_it_is_done_sooner(engine: Engine, spec: ModelSpec) -> None:
    """One step takes a GPU as long as thirty-two."""
    cpu, other = engine.runners
    other.prepare(4)
    cpu.learn(1, 1, 1e-9)  # seconds
    cpu.learn(4, 64, 100.0)
    assert providers(engine, some(spec, 1)) == {CPU}
    assert providers(engine, some(spec, 64, 64, 64, 64)) == {CUDA}
    assert engine.provider.in_use == CUDA


def test_what_surrounds_a_graph_of_fixed_steps_counts_too(engine: Engine) -> None:
    """Seen on an H100: 256 sequences of one step went to CUDA, where collecting and parting them took as long as the CPU in all."""
    _, other = engine.runners
    other.prepare(4)
    one = other.seconds(4, 32)
    assert other.seconds(4, 33) == pytest.approx(2 * one)
    other.learn(4, 1, one + 0.5)
    assert other.seconds(4, 32) == pytest.approx(one + 0.5)
    assert other.seconds(4, 64) == pytest.approx(2 * one + 0.5)


def test_a_size_that_is_slow_is_passed_over() -> None:
    """Seen on an H100: batches of 8 and 16 take 2.6 times as long as one of 32."""
    seconds = {1: 0.66, 2: 0.88, 4: 0.92, 8: 2.6, 16: 2.6, 32: 1.02, 64: 1.01, 128: 1.03, 256: 1.1, 512: 1.3}
    assert [size_for(count, seconds) for count in (1, 2, 3, 5, 16, 33, 257)] == [1, 2, 4, 32, 32, 64, 512]
    assert size_for(600, seconds) == 1024
    assert size_for(3, {}) == 4


def test_what_cuda_cannot_compute_the_cpu_does(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """A caller must not notice; an operator must."""
    batch = some(spec, 5, 40)
    expected = engine.predict(batch)
    changes = []
    engine.on_change = changes.append
    cuda.trouble = MEMORY
    answer = engine.predict(batch)
    assert difference(answer, expected, spec.tolerance) <= 1
    assert {each.provider for each in answer} == {CPU}
    assert engine.provider.in_use == CPU
    assert engine.provider.fallback_reason == (
        "CUDA failed, and is tried again after 1 s: Failed to allocate memory for requested buffer of size 25165824"
    )
    assert changes == [engine.provider]


def test_cuda_is_tried_again_ever_more_rarely_until_it_works(engine: Engine, spec: ModelSpec, cuda: FakeCuda, clock: Clock) -> None:
    """A failing attempt costs everyone in the batch time; giving up for good would cost a restart."""
    batch = some(spec, 3)
    cuda.trouble = MEMORY
    engine.predict(batch)
    waits = []
    for _ in range(8):
        runs, begin = cuda.runs, clock.now
        while cuda.runs == runs:
            clock.now += 0.5
            engine.predict(batch)
        waits.append(clock.now - begin)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    cuda.trouble = None
    clock.now += 60
    assert providers(engine, batch) == {CUDA}
    assert (engine.provider.in_use, engine.provider.fallback_reason) == (CUDA, None)
    cuda.trouble = MEMORY
    engine.predict(batch)
    assert "after 1 s" in str(engine.provider.fallback_reason)


def test_a_stream_goes_on_over_a_failure_of_cuda(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """The state that one provider left is the other's to start from."""
    (whole,) = some(spec, 90)
    (expected,) = engine.predict([whole])
    outputs, state, used = [], whole.state, set()
    for number, piece in enumerate(np.array_split(whole.steps, 6)):
        cuda.trouble = MEMORY if number == 3 else None
        (answer,) = engine.predict([Instance(piece, state)])
        state = answer.state
        outputs.append(answer.output)
        used.add(answer.provider)
    assert used == {CPU, CUDA}
    np.testing.assert_allclose(np.concatenate(outputs), expected.output, rtol=spec.tolerance.rtol, atol=spec.tolerance.atol)


def test_a_bad_batch_is_not_blamed_on_cuda(engine: Engine) -> None:
    """What no provider computes is an error of the batch."""
    with pytest.raises(Exception, match="input"):
        engine.predict([Instance(np.zeros((3, 5), np.float32))])
    assert (engine.provider.in_use, engine.provider.fallback_reason) == (CUDA, None)


def test_without_cuda_auto_says_why_and_an_order_is_an_order(folder: Path, spec: ModelSpec) -> None:
    runtime = FakeCuda(refuses="the driver is too old")
    provider = Engine(spec, folder, runtime=runtime).provider
    assert (provider.in_use, provider.fallback_reason) == (CPU, "the driver is too old")
    with pytest.raises(ProviderUnavailable, match="asked for is cuda, but the driver is too old"):
        Engine(spec, folder, device="cuda", runtime=runtime)
    assert Engine(spec, folder, device="cpu", runtime=runtime).provider.fallback_reason is None


def test_a_model_without_a_graph_for_cuda_is_not_given_to_it(folder: Path, spec: ModelSpec) -> None:
    """ONNX Runtime would run its nodes on the CPU, and copy there and back, without saying so."""
    alone = spec.model_copy(update={"graphs": {CPU: spec.graphs[CPU]}})
    assert "no graph for CUDA" in str(Engine(alone, folder, runtime=FakeCuda()).provider.fallback_reason)


def edited(spec: ModelSpec, other: Path, folder: Path) -> Path:
    """The version in `folder` with the other's graph for CUDA."""
    copy(other / spec.graphs[CUDA], folder / spec.graphs[CUDA])
    path = folder / manifest.FILE_NAME
    content = json.loads(path.read_text())
    content["files"][spec.graphs[CUDA]] = json.loads((other / manifest.FILE_NAME).read_text())["files"][spec.graphs[CUDA]]
    path.write_text(json.dumps(content))
    return folder


def test_a_provider_must_reproduce_the_golden_sample(tmp_path: Path, spec: ModelSpec) -> None:
    """A driver, a library or a graph that computes something else is not used, and that is not silent."""
    other = artifacts.build(tmp_path / "other", seed=1)
    edited(spec, other, artifacts.build(tmp_path / "models"))

    async def scenario() -> str:
        service = await service_over(tmp_path / "models", device="auto", runtime=FakeCuda())
        assert service.status == "degraded"
        provider = service.model().engine.provider
        await service.close()
        assert provider.in_use == CPU
        return str(provider.fallback_reason)

    assert "does not reproduce its golden sample on CUDAExecutionProvider" in asyncio.run(scenario())
    with pytest.raises(BadArtifact, match=r"asked for is cuda, but .*golden sample"):
        asyncio.run(service_over(tmp_path / "models", device="cuda", runtime=FakeCuda()))


def test_memory_that_is_short_at_the_start_does_not_stop_the_service(folder: Path) -> None:
    class Short(FakeCuda):
        def step(self) -> None:
            super().step()
            if self.runs > 20:
                raise MEMORY

    async def scenario() -> str:
        service = await service_over(folder.parent.parent, device="auto", runtime=Short())
        reason = service.model().engine.provider.fallback_reason
        await service.close()
        return str(reason)

    assert "could not be made ready: Failed to allocate memory" in asyncio.run(scenario())


def test_health_and_metrics_follow_the_provider(folder: Path, spec: ModelSpec, cuda: FakeCuda) -> None:
    """What an alert is made of."""
    metrics = Metrics()

    def shown(name: str, provider: str) -> list[float]:
        lines = metrics.render().decode().splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{") and provider in line]

    async def scenario() -> None:
        service = await service_over(folder.parent.parent, device="auto", runtime=cuda, metrics=metrics)
        model = service.model()
        model.engine.runners[0].learn(1, 40, 100.0)  # seconds: CUDA is quicker
        await service.predict(model, some(spec, 40), timeout=10)
        assert service.status == "ok"
        assert (shown("recurve_model_provider", CPU), shown("recurve_model_provider", CUDA)) == ([], [1])
        assert shown("recurve_provider_executions_total", CUDA) == [1]
        cuda.trouble = MEMORY
        await service.predict(model, some(spec, 40), timeout=10)
        assert service.status == "degraded"
        assert (shown("recurve_model_provider", CPU), shown("recurve_model_provider", CUDA)) == ([1], [0])
        assert shown("recurve_provider_executions_total", CPU) == [1]
        await service.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        pytest.param(Driver(code=100), "finds no GPU (CUDA error 100", id="hidden"),
        pytest.param(Driver(code=999), "cannot be started (CUDA error 999", id="broken"),
        pytest.param(Driver(gpus=0), "finds no GPU", id="none"),
        pytest.param(Driver(version=12080), "for CUDA 12.8 at most, and ONNX Runtime is built for CUDA 13", id="old"),
        pytest.param(Driver(), None, id="good"),
    ],
)
def test_the_driver_says_what_is_wrong(driver: Driver, reason: str | None) -> None:
    """Each of these has another remedy."""
    found = gpu.obstacle(13, driver)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.skipif(gpu.has_driver(), reason="this machine has an NVIDIA driver, and may have its libraries")
def test_a_library_that_is_missing_is_named(folder: Path, spec: ModelSpec) -> None:
    """What ONNX Runtime says of it is a line in a log and a session on the CPU."""
    with pytest.raises(
        ProviderUnavailable, match=r"(lib\w+\.so\S*: cannot open.*onnxruntime-gpu\[cuda,cudnn\])|built without CUDA"
    ):
        Runtime(driver=Driver(version=99000)).cuda(folder / spec.graphs[CUDA])


def test_a_graph_of_fixed_steps_has_batch_and_time_first(folder: Path, spec: ModelSpec) -> None:
    """The axes of its tensors are where its buffers have them."""
    session = Runtime().cpu(folder / spec.graphs[CUDA], threads=1)
    assert isinstance(runner_of(spec, session, CPU), Chunked)
    turned = spec.outputs[0].model_copy(update={"batch_axis": 1, "time_axis": 0})
    with pytest.raises(BadArtifact, match="takes 32 steps a call: for that it needs lengths, batch and time"):
        runner_of(spec.model_copy(update={"outputs": (turned,)}), session, CPU)
