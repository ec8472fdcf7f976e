"""Which execution provider computes, what is reported of it, and that nothing is lost when one fails.

No GPU is needed: the graphs for CUDA run on the CPU, and fail when a test says so.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copy
from threading import Barrier, Event, current_thread
from typing import Any
from weakref import ref

import numpy as np
import pytest

from app import gpu, manifest
from app.chunked import REPLAYS, Chunked, size_for
from app.cost import ANY
from app.engine import TIMES, Device, Engine, runner_of
from app.errors import BadArtifact, NotFinite, ProviderUnavailable
from app.golden import difference
from app.lifecycle import Loader
from app.manifest import LengthsSpec, ModelSpec, OutputSpec, StateSpec
from app.metrics import Executed, Metrics
from app.runtime import CPU, CUDA, Runtime, Session
from app.tensors import Batch, Instance, Prediction
from tests import artifacts
from tests.fake_cuda import Driver, FakeCuda, Management
from tests.graphs import FLOAT, INT64, Builder
from tests.services import LIMITS, service_over

MEMORY = RuntimeError("Failed to allocate memory for requested\nbuffer of size 25165824")


class Clock:
    """A clock that a test sets."""

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


def test_the_event_loop_computes_what_stays_on_the_only_cpu(folder: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the CPU computes, the loop could only wait; while the GPU does, it can do other work."""
    threads: list[str] = []
    answer = Engine.answer

    def told(engine: Engine, instances: Sequence[Instance]) -> Sequence[Prediction | NotFinite]:
        threads.append(current_thread().name)
        return answer(engine, instances)

    monkeypatch.setattr(Engine, "answer", told)
    batch = some(spec, *[500] * 8)

    async def scenario() -> None:
        limits = replace(LIMITS, max_batch_steps=4000)
        loader = Loader(device="auto", limits=limits, lanes=1, metrics=Metrics(), runtime=FakeCuda())
        model = await loader.load(folder)
        cpu, other = model.engine.runners
        for slow, used in ((other, CPU), (cpu, CUDA)):
            other.learn(8, 500, 0.0)
            slow.learn(8, 500, 1e3)  # in seconds
            assert {each.provider for each in await model.batcher.predict(batch, timeout=60)} == {used}
        await model.let_go()

    asyncio.run(scenario())
    assert threads[0] == "MainThread"
    assert threads[1].startswith("lane")


@pytest.fixture
def engine(folder: Path, spec: ModelSpec, cuda: FakeCuda, clock: Clock) -> Engine:
    return Engine(spec, folder, runtime=cuda, clock=clock)


def some(spec: ModelSpec, *lengths: int, seed: int = 0) -> list[Instance]:
    """One instance of each length; the second starts from zeros, the others from a random state."""
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
    """Outputs and final states, ragged, from random states: it must not matter which provider computes."""
    cpu, other = engine.runners
    batch = some(spec, *lengths)
    assert difference(engine.predict_on(other, batch), engine.predict_on(cpu, batch), spec.tolerance) <= 1


def test_a_graph_of_fixed_steps_is_used_by_several_threads_at_once(engine: Engine, spec: ModelSpec) -> None:
    """Only one batch at a time may use its buffers."""
    cpu, other = engine.runners
    batches = [some(spec, 40, 3, 70, seed=seed) for seed in range(24)]
    expected = [engine.predict_on(cpu, batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda batch: engine.predict_on(other, batch), batches))
    for answer, wanted in zip(answers, expected, strict=True):
        assert difference(answer, wanted, spec.tolerance) <= 1


def test_a_batch_goes_where_it_is_done_sooner(engine: Engine, spec: ModelSpec) -> None:
    """One step takes a GPU as long as thirty-two steps."""
    cpu, other = engine.runners
    other.prepare(4)
    cpu.learn(1, 1, 1e-9)  # in seconds
    cpu.learn(4, 64, 100.0)
    assert providers(engine, some(spec, 1)) == {CPU}
    assert providers(engine, some(spec, 64, 64, 64, 64)) == {CUDA}
    assert engine.provider.in_use == CUDA


def test_a_gpu_that_others_use_too_is_left_to_them(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """Measured with four workers on one H100: batches of 64 took four times as long as at the start, and longer than on a CPU."""
    cpu, other = engine.runners
    batch = some(spec, *[64] * 8)
    other.prepare(8)
    other.learn(8, 64, 0.002)  # in seconds
    cpu.learn(8, 64, 0.006)
    assert providers(engine, batch) == {CUDA}
    cuda.delay = 0.02
    used = [providers(engine, batch) for _ in range(20)]
    assert used[0] == {CUDA}
    assert {CPU} in used


def test_what_surrounds_a_graph_of_fixed_steps_counts_too(engine: Engine) -> None:
    """Seen on an H100: 256 sequences of one step went to CUDA, where collating and splitting took as long as the CPU in all."""
    _, other = engine.runners
    other.prepare(4)
    one = other.seconds(4, 32)
    assert other.seconds(4, 33) == pytest.approx(2 * one)
    other.learn(4, 1, one + 0.5)
    assert other.seconds(4, 32) == pytest.approx(one + 0.5)
    assert other.seconds(4, 64) == pytest.approx(2 * one + 0.5)


def test_what_cuda_takes_is_found_out_while_no_other_worker_uses_it(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """Seen on an H100: sixteen workers that started together all measured it as slow, and from then on gave it no work."""
    _, other = engine.runners
    engine.predict_on(other, some(spec, 32))  # as the golden sample does, while other workers run
    runs = [cuda.runs]

    @contextmanager
    def alone() -> Iterator[None]:
        runs.append(cuda.runs)
        yield
        runs.append(cuda.runs)

    engine.warm_up([some(spec, 32)], alone=alone)
    before, entered, left = runs
    assert (entered, left) == (before, cuda.runs)
    assert left - entered == REPLAYS + 1 + TIMES  # for the graph, then for the batch


def test_a_size_that_is_slow_is_passed_over() -> None:
    """Seen on an H100: batches of 8 and 16 take 2.6 times as long as one of 32."""
    seconds = {1: 0.66, 2: 0.88, 4: 0.92, 8: 2.6, 16: 2.6, 32: 1.02, 64: 1.01, 128: 1.03, 256: 1.1, 512: 1.3}
    assert [size_for(count, seconds) for count in (1, 2, 3, 5, 16, 33, 257)] == [1, 2, 4, 32, 32, 64, 512]
    assert size_for(600, seconds) == 1024
    assert size_for(3, {}) == 4


def test_what_cuda_cannot_compute_the_cpu_does(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """The client must not notice; the operator must."""
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
    """A failing attempt delays everyone in the batch; giving up for good would make a restart necessary."""
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


def test_lanes_that_fail_side_by_side_count_as_one_failure(tmp_path: Path) -> None:
    """They fail for the same reason: failures in four lanes must not count as four, and make the wait 8 s."""
    every = Barrier(4)

    class Together(FakeCuda):
        def step(self) -> None:
            every.wait(timeout=60)
            super().step()

    cuda = Together()
    folder = artifacts.build(tmp_path, cell="reset_after")  # several threads may run this cell's graph at once
    spec = manifest.read(folder)
    engine = Engine(spec, folder, runtime=cuda, clock=Clock())
    changes = []
    engine.on_change = changes.append
    cuda.trouble = MEMORY
    with ThreadPoolExecutor(4) as threads:
        answers = [*threads.map(lambda seed: providers(engine, some(spec, 3, seed=seed)), range(4))]
    assert answers == [{CPU}] * 4
    assert "after 1 s" in str(engine.provider.fallback_reason)
    assert changes == [engine.provider]


def test_what_began_before_a_failure_and_succeeds_is_no_recovery(tmp_path: Path) -> None:
    """It says nothing about CUDA now, and health would wrongly report that all is well."""
    begun, go_on = Event(), Event()

    class Slow(FakeCuda):
        def step(self) -> None:
            super().step()
            if current_thread().name.startswith("slow"):
                begun.set()
                assert go_on.wait(timeout=60)

    cuda = Slow()
    folder = artifacts.build(tmp_path, cell="reset_after")
    spec = manifest.read(folder)
    engine = Engine(spec, folder, runtime=cuda, clock=Clock())
    with ThreadPoolExecutor(1, thread_name_prefix="slow") as threads:
        slow = threads.submit(providers, engine, some(spec, 3))
        assert begun.wait(timeout=60)
        cuda.trouble = MEMORY
        assert providers(engine, some(spec, 3)) == {CPU}
        cuda.trouble = None
        go_on.set()
        assert slow.result() == {CUDA}
    assert engine.provider.in_use == CPU


def test_a_device_that_is_lost_for_good_harms_nobody(engine: Engine, spec: ModelSpec, cuda: FakeCuda, clock: Clock) -> None:
    """After a day of failures, the wait must still be a finite number of seconds."""
    cuda.trouble = MEMORY
    batch = some(spec, 1)
    for _ in range(1100):
        assert providers(engine, batch) == {CPU}
        clock.now += 60
    assert cuda.runs == 1100
    assert "after 60 s" in str(engine.provider.fallback_reason)


def test_a_stream_goes_on_over_a_failure_of_cuda(engine: Engine, spec: ModelSpec, cuda: FakeCuda) -> None:
    """The state that one provider returned is a valid start for the other."""
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
    """What no provider can compute is an error of the batch."""
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
    """ONNX Runtime would silently run its nodes on the CPU, and copy data there and back."""
    alone = spec.model_copy(update={"graphs": {CPU: spec.graphs[CPU]}})
    assert "no graph for CUDA" in str(Engine(alone, folder, runtime=FakeCuda()).provider.fallback_reason)


def edited(spec: ModelSpec, other: Path, folder: Path) -> Path:
    """The version in `folder`, with its graph for CUDA replaced by the one in `other`."""
    copy(other / spec.graphs[CUDA], folder / spec.graphs[CUDA])
    path = folder / manifest.FILE_NAME
    content = json.loads(path.read_text())
    content["files"][spec.graphs[CUDA]] = json.loads((other / manifest.FILE_NAME).read_text())["files"][spec.graphs[CUDA]]
    path.write_text(json.dumps(content))
    return folder


def test_a_provider_must_reproduce_the_golden_sample(tmp_path: Path, spec: ModelSpec) -> None:
    """A driver, library or graph that computes something else is not used, and health and the reason say so."""
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


class Short(FakeCuda):
    """A device with enough memory for the golden sample, but not for what follows."""

    def step(self) -> None:
        super().step()
        if self.runs > 20:
            raise MEMORY


def test_memory_that_is_short_at_the_start_does_not_stop_the_service(folder: Path) -> None:
    async def scenario() -> str:
        service = await service_over(folder.parent.parent, device="auto", runtime=Short())
        reason = service.model().engine.provider.fallback_reason
        await service.close()
        return str(reason)

    assert "could not be made ready: Failed to allocate memory" in asyncio.run(scenario())


def test_a_model_that_lost_cuda_while_it_was_made_ready_has_the_limits_of_the_cpu(folder: Path, spec: ModelSpec) -> None:
    """On the CPU, batches as large as a GPU needs would delay everyone else."""
    metrics = Metrics()
    loader = Loader(
        device="auto", limits=replace(LIMITS, max_batch_size=2), cuda_limits=LIMITS, lanes=1, metrics=metrics, runtime=Short()
    )

    async def scenario() -> None:
        model = await loader.load(folder)
        assert model.engine.provider.in_use == CPU
        await model.batcher.predict(some(spec, *[40] * 8), timeout=60)
        await model.let_go()

    asyncio.run(scenario())
    assert metrics.model_counts()[spec.name, spec.version].by_size.keys() == {2}


def test_beside_cuda_the_budget_alone_bounds_the_padding(folder: Path, cuda: FakeCuda) -> None:
    """Small batches cost what the CPU takes and large ones what CUDA takes, so they do not tell what one more row costs."""
    loader = Loader(device="auto", limits=LIMITS, lanes=1, metrics=Metrics(), runtime=cuda)
    proved = loader._prove(folder)
    assert (proved.engine.provider.in_use, proved.limits.padding) == (CUDA, ANY)
    proved.engine.close()


def test_the_largest_batch_is_made_ready_though_it_is_no_power_of_two(folder: Path, cuda: FakeCuda) -> None:
    """A size that was never timed would always go to the CPU."""
    loader = Loader(device="auto", limits=replace(LIMITS, max_batch_size=12), lanes=1, metrics=Metrics(), runtime=cuda)

    async def scenario() -> None:
        model = await loader.load(folder)
        _, other = model.engine.runners
        assert other.seconds(12, 32) < float("inf")
        await model.let_go()

    asyncio.run(scenario())


def on_device(cuda: FakeCuda) -> list[bool]:
    """For each session that was opened, whether it still exists."""
    return [session.raw is not None for session in cuda.sessions]


def test_what_is_not_used_on_the_device_is_freed_there(tmp_path: Path, spec: ModelSpec, folder: Path) -> None:
    """Its memory is scarce; and freeing it on another thread, while one records a CUDA graph, makes the recording fail."""
    cuda = FakeCuda()
    engine = Engine(spec, folder, runtime=cuda)
    assert on_device(cuda) == [False, True]  # the first one was opened only to inspect the graph
    engine.close()
    assert on_device(cuda) == [False, False]

    other = edited(spec, artifacts.build(tmp_path / "other", seed=1), artifacts.build(tmp_path / "models"))
    cuda = FakeCuda()

    async def load(device: Device) -> None:
        model = await Loader(device=device, limits=LIMITS, lanes=1, metrics=Metrics(), runtime=cuda).load(other)
        assert model.engine.provider.in_use == CPU
        await model.batcher.close()

    asyncio.run(load("auto"))
    assert on_device(cuda) == [False] * 2
    with pytest.raises(ProviderUnavailable, match="golden sample"):
        asyncio.run(load("cuda"))
    assert on_device(cuda) == [False] * 4


def test_a_session_that_is_closed_is_gone(folder: Path, spec: ModelSpec) -> None:
    """ONNX Runtime's descriptions of its inputs would keep it alive, with all its memory."""
    session = Runtime().cpu(folder / spec.graphs[CPU], threads=1)
    inside = ref(session.raw._sess)  # holds the memory; `raw` is only a wrapper
    session.close()
    assert inside() is None


def test_what_an_error_holds_of_the_device_is_freed_on_its_thread(folder: Path, spec: ModelSpec) -> None:
    """Another thread handles the error, whose traceback holds frames with buffers."""
    where = []

    class Buffer:
        def __del__(self) -> None:
            where.append(current_thread().name)

    def work() -> None:
        buffer = Buffer()
        raise RuntimeError(f"no memory for more than {type(buffer).__name__}")

    session = Session(Runtime().cpu(folder / spec.graphs[CPU], threads=1).raw, "cuda")
    with pytest.raises(RuntimeError, match="no memory"):
        session.perform(work)
    assert [name.split("_")[0] for name in where] == ["cuda"]


def test_a_session_does_not_change_its_provider_by_itself(folder: Path, spec: ModelSpec) -> None:
    """Otherwise ONNX Runtime would switch to the CPU for good, and the reported provider would be wrong."""
    session = Runtime().cpu(folder / spec.graphs[CPU], threads=1)
    assert session.raw._enable_fallback is False  # to provoke such a failure would need a GPU


def shown_of(metrics: Metrics, name: str) -> dict[str, float]:
    """The values of this metric, by provider."""
    lines = (line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if line.startswith(f"{name}{{"))
    return {labels.split('provider="')[1].split('"')[0]: float(value) for labels, value in lines}


def test_files_that_are_loaded_anew_leave_one_provider_in_use() -> None:
    """The same version ran on another provider before, and nothing tells the metrics that it was unloaded."""
    metrics = Metrics()
    metrics.model("m", "1", lanes=1).runs_on(CUDA, fallback=False)
    metrics.model("m", "1", lanes=1).runs_on(CPU, fallback=True)
    assert shown_of(metrics, "recurve_model_provider") == {CUDA: 0, CPU: 1}


def test_a_batch_whose_every_answer_overflows_is_of_no_provider() -> None:
    """Such a batch has no provider's name, and a metric must not have an empty one."""
    metrics = Metrics()
    counts = metrics.model("m", "1", lanes=1)
    batch = Executed(size=1, steps=1, padded=1, seconds=0.1, waited=0.0, provider="")
    counts.ran([batch, batch._replace(provider=CPU)], waiting=0)
    assert shown_of(metrics, "recurve_provider_executions_total") == {CPU: 1}


def test_health_and_metrics_follow_the_provider(folder: Path, spec: ModelSpec, cuda: FakeCuda) -> None:
    """Alerts are built on these."""
    metrics = Metrics()

    def shown(name: str, provider: str) -> list[float]:
        lines = metrics.render().decode().splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{") and provider in line]

    async def counted(provider: str) -> None:
        """Assert that one batch is counted, which happens a little after its answer."""
        for _ in range(10):  # turns of the loop: the batch may have run in a thread
            await asyncio.sleep(0)
        assert shown("recurve_provider_executions_total", provider) == [1]

    async def scenario() -> None:
        service = await service_over(folder.parent.parent, device="auto", runtime=cuda, metrics=metrics)
        model = service.model()
        model.engine.runners[0].learn(1, 40, 100.0)  # in seconds, so that CUDA is faster
        await model.batcher.predict(some(spec, 40), timeout=10)
        await counted(CUDA)
        assert service.status == "ok"
        assert (shown("recurve_model_provider", CPU), shown("recurve_model_provider", CUDA)) == ([], [1])
        cuda.trouble = MEMORY
        await model.batcher.predict(some(spec, 40), timeout=10)
        await counted(CPU)
        assert service.status == "degraded"
        assert (shown("recurve_model_provider", CPU), shown("recurve_model_provider", CUDA)) == ([1], [0])
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
    """Each of these problems has another remedy."""
    found = gpu.obstacle(13, driver)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        pytest.param(Management(80 << 30, None, 24 << 30), 24 << 30, id="the-smallest"),
        pytest.param(Management(None), None, id="unsaid"),
        pytest.param(Management(), None, id="none"),
        pytest.param(Management(code=9), None, id="no-driver"),
        pytest.param(object(), None, id="another-library"),
    ],
)
def test_the_memory_of_a_gpu_is_asked_of_its_driver(library: Any, expected: int | None) -> None:
    assert gpu.smallest_memory(library) == expected
    assert getattr(library, "open", 0) == 0


@pytest.mark.skipif(gpu.has_driver(), reason="this machine has an NVIDIA driver, and may have its libraries")
def test_a_library_that_is_missing_is_named(folder: Path, spec: ModelSpec) -> None:
    """ONNX Runtime would only log it and create a session on the CPU."""
    with pytest.raises(
        ProviderUnavailable, match=r"(lib\w+\.so\S*: cannot open.*onnxruntime-gpu\[cuda,cudnn\])|built without CUDA"
    ):
        Runtime(driver=Driver(version=99000)).cuda(folder / spec.graphs[CUDA])


def test_a_graph_of_fixed_steps_has_batch_and_time_first(folder: Path, spec: ModelSpec) -> None:
    """The runner's buffers have their axes in this order."""
    session = Runtime().cpu(folder / spec.graphs[CUDA], threads=1)
    assert isinstance(runner_of(spec, session, CPU), Chunked)
    turned = spec.outputs[0].model_copy(update={"batch_axis": 1, "time_axis": 0})
    for wrong in ({"outputs": (turned,)}, {"causal": False}):  # a model that is not causal cannot compute a chunk without the next
        with pytest.raises(BadArtifact, match="takes 32 steps a call: for that it needs lengths, batch and time"):
            runner_of(spec.model_copy(update=wrong), session, CPU)


def running_sums(path: Path) -> Path:
    """A graph of four steps a call. Outputs: the running sum; the sum and its double. Both states grow by the sum of the steps."""
    b = Builder()
    steps, lengths = b.input("input", ["batch", 4, 1]), b.input("lengths", ["batch"], INT64)
    table, total = b.input("table", [2, 3, "batch"]), b.input("total", ["batch"])
    column, last = b.constant([1]), b.constant([2])
    live = b.add("Cast", [b.add("Less", [b.constant([0, 1, 2, 3]), b.add("Unsqueeze", [lengths, column])])], to=FLOAT)
    x = b.add("Mul", [b.add("Squeeze", [steps, last]), live])
    part = b.add("ReduceSum", [x, column], keepdims=0)
    end = b.add("Add", [total, part])
    rest = b.add("Sub", [b.add("CumSum", [x, b.constant(1)]), b.add("Unsqueeze", [part, column])])
    every = b.add("Unsqueeze", [b.add("Add", [b.add("Unsqueeze", [end, column]), rest]), last])
    b.output("every", ["batch", 4], b.add("Squeeze", [every, last]))
    b.output("pair", ["batch", 4, 2], b.add("Concat", [every, b.add("Add", [every, every])], axis=2))
    b.output("table_end", [2, 3, "batch"], b.add("Add", [table, part]))
    b.output("total_end", ["batch"], end)
    return b.save(path)


@pytest.mark.parametrize("lengths", [(1,), (4, 5), (1, 11, 3, 8, 4)], ids=str)
def test_a_graph_of_fixed_steps_may_have_any_layout(tmp_path: Path, spec: ModelSpec, lengths: Sequence[int]) -> None:
    """Several states with their batch axes anywhere; several outputs, also of single numbers; lengths as int64."""
    session = Runtime().cpu(running_sums(tmp_path / "sums.onnx"), threads=1)
    table = StateSpec(input="table", output="table_end", shape=(2, 3), batch_axis=2)
    changes = {
        "features": spec.features[:1],
        "lengths": LengthsSpec(type="int64"),
        "states": (table, StateSpec(input="total", output="total_end", shape=(), batch_axis=0)),
        "outputs": (OutputSpec(name="every", shape=()), OutputSpec(name="pair", shape=(2,))),
    }
    other = spec.model_copy(update=changes)
    runner = runner_of(other, session, CPU)
    assert isinstance(runner, Chunked)
    instances = some(other, *lengths)
    batch = Batch.collate(instances, other.states)
    runner.predict(Batch.collate(some(other, *[9] * 8, seed=1), other.states))  # what it leaves in the buffers must not be used
    for row, (instance, (answer, state)) in enumerate(
        zip(instances, ((each.outputs, each.state) for each in runner.predict(batch)[0]), strict=True)
    ):
        table_start, total_start = batch.states[0][..., row], batch.states[1][row]
        sums = np.cumsum(instance.steps[:, 0]) + total_start
        np.testing.assert_allclose(answer[0], sums[:, None], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(answer[1], np.stack([sums, 2 * sums], axis=1), rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(state[0], table_start + instance.steps.sum(), rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(state[1], sums[-1], rtol=1e-5, atol=1e-3)
