"""The engine and the provider it really runs on, and what a model version must prove before it serves."""

import asyncio
import ctypes
import json
import math
from pathlib import Path

import numpy as np
import pytest

from app import lifecycle, manifest
from app.engine import Engine
from app.errors import BadArtifact, ProviderUnavailable
from app.golden import Golden, difference
from app.manifest import ModelSpec, Tolerance
from app.metrics import Metrics
from app.queue import BatchLimits
from app.repository import Repository
from app.runtime import CPU, CUDA
from app.service import Service
from app.tensors import Instance, Prediction
from tests import artifacts
from tests.services import service_over

LIMITS = BatchLimits(max_batch_size=4, max_batch_steps=1000, max_padding_waste=0.25, max_queue_size=100)


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return artifacts.build(tmp_path)


def edit(folder: Path, **changes: object) -> None:
    """Change members of the manifest in the folder."""
    path = folder / manifest.FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


async def load(folder: Path) -> ModelSpec:
    model = await lifecycle.Loader(device="cpu", limits=LIMITS, lanes=1, metrics=Metrics()).load(folder)
    await model.batcher.close()
    return model.spec


def refusal(folder: Path) -> str:
    with pytest.raises(BadArtifact) as caught:
        asyncio.run(load(folder))
    return str(caught.value)


def test_a_prediction_does_not_depend_on_its_batch(folder: Path) -> None:
    """The other instances that happen to share a batch must not change an instance's outputs or state."""
    spec = manifest.read(folder)
    engine = Engine(spec, folder)
    rng = np.random.default_rng(0)
    batch = [
        Instance(
            steps=rng.standard_normal((length, 6)).astype(np.float32) * 100,
            state=None if length == 7 else tuple(rng.uniform(-1, 1, s.shape).astype(np.float32) for s in spec.states),
        )
        for length in (1, 7, 128, 1, 64)
    ]
    alone = [engine.predict([instance])[0] for instance in batch]
    assert [len(prediction.output) for prediction in alone] == [1, 7, 128, 1, 64]
    assert difference(engine.predict(batch), alone, spec.tolerance) <= 1


def test_difference_is_measured_in_tolerances_and_never_hides_nan() -> None:
    """NaN compares as neither above nor below, so it must count as an infinite difference."""

    def prediction(value: float) -> list[Prediction]:
        return [Prediction(outputs=(np.array([[value]], dtype=np.float32),), state=(np.zeros(1, dtype=np.float32),))]

    tolerance = Tolerance(rtol=0.1, atol=1.0)
    assert difference(prediction(14), prediction(10), tolerance) == pytest.approx(2)
    assert difference(prediction(float("nan")), prediction(10), tolerance) == float("inf")
    exact = Tolerance(rtol=0, atol=0)
    assert difference(prediction(10), prediction(10), exact) == 0
    assert difference(prediction(10.5), prediction(10), exact) == float("inf")
    longer = [Prediction(outputs=(np.zeros((2, 1), dtype=np.float32),), state=(np.zeros(1, dtype=np.float32),))]
    assert difference(longer, prediction(0), tolerance) == float("inf")


def test_a_golden_sample_reads_back_as_written(folder: Path, tmp_path: Path) -> None:
    """The golden sample is the only proof that an artifact carries with it."""
    spec = manifest.read(folder)
    golden = Golden.load(folder, spec)
    golden.save(tmp_path, outputs=spec.outputs, states=spec.states)
    again = Golden.load(tmp_path, spec)
    exact = Tolerance(rtol=0, atol=1e-30)
    assert difference(again.predictions, golden.predictions, exact) == 0
    for one, other in zip(again.instances, golden.instances, strict=True):
        np.testing.assert_array_equal(one.steps, other.steps)
        assert one.state is not None
        assert other.state is not None
        np.testing.assert_array_equal(one.state[0], other.state[0])


def test_a_good_version_loads(folder: Path) -> None:
    """The checks below must not refuse what is good."""
    assert asyncio.run(load(folder)).version == "1"


def test_a_changed_file_is_refused(folder: Path) -> None:
    """Half a copy, a bad disk or a well-meant edit would give wrong numbers without an error."""
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    told = refusal(folder)
    assert "model.onnx is not the file that was published" in told
    assert "Publish it again, or restore its folder" in told


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    told = refusal(folder)
    assert "golden.npz cannot be read" in told
    assert "Publish it again, or restore its folder" in told


def test_a_manifest_that_is_not_one_is_refused_with_the_member(folder: Path) -> None:
    edit(folder, features=[])
    assert "features" in refusal(folder)


@pytest.mark.parametrize("change", [{"format": 3}, {"format": 1}, {"later": "on"}], ids=["later", "earlier", "member"])
def test_a_manifest_of_another_release_is_refused_with_what_to_do(folder: Path, change: dict[str, object]) -> None:
    """This happens if the service is rolled back to an older image and its models are not."""
    edit(folder, **change)
    assert "Another release may have written it" in refusal(folder)


@pytest.mark.parametrize("endless", ["rtol", "atol"])
def test_a_tolerance_that_any_answer_is_within_is_refused(folder: Path, endless: str) -> None:
    edit(folder, tolerance={"rtol": 0.0, "atol": 0.0} | {endless: math.inf})
    assert f"tolerance/{endless}" in refusal(folder)


def test_a_folder_and_its_manifest_must_agree(folder: Path) -> None:
    """A version that is copied under another number would answer in the name of that version."""
    assert "folder and manifest must agree" in refusal(folder.rename(folder.with_name("7")))


def test_a_manifest_cannot_name_a_file_outside_its_folder(folder: Path) -> None:
    edit(folder, graphs={CPU: "../../../etc/passwd"})
    assert "graphs" in refusal(folder)


def test_a_graph_that_is_not_what_the_manifest_says_is_refused(folder: Path) -> None:
    edit(folder, input={"name": "x"})
    assert "'input'" in refusal(folder)


def test_a_graph_that_does_not_reproduce_its_golden_sample_is_refused(folder: Path, tmp_path: Path) -> None:
    """The last line of defence: whole files, right names, wrong numbers."""
    other = artifacts.build(tmp_path / "other", seed=1)
    (folder / "model.onnx").write_bytes((other / "model.onnx").read_bytes())
    files = json.loads((folder / manifest.FILE_NAME).read_text())["files"]
    theirs = json.loads((other / manifest.FILE_NAME).read_text())["files"]
    edit(folder, files=files | {"model.onnx": theirs["model.onnx"]})
    assert "does not reproduce its golden sample on CPUExecutionProvider" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"features": [{"name": "a"}, {"name": "b"}]}, id="fewer-features"),
        pytest.param({"outputs": [{"name": "output", "shape": [2]}]}, id="fewer-outputs"),
        pytest.param({"states": [{"input": "h0", "output": "hn", "shape": [2, 3], "batch_axis": 1}]}, id="smaller-state"),
    ],
)
def test_a_manifest_that_does_not_fit_the_graph_is_refused(folder: Path, change: dict[str, object]) -> None:
    """A manifest with wrong shapes must be found when it is loaded, not by the first request."""
    edit(folder, **change)
    assert "golden sample" in refusal(folder)


def test_what_the_cpu_cannot_run_is_not_made_ready(folder: Path) -> None:
    """The CPU has no other provider to fall back to, so a version that fails at its own sizes must not serve."""
    engine = Engine(manifest.read(folder), folder, device="cpu")
    with pytest.raises(Exception, match="invalid dimensions"):
        engine.warm_up([[Instance(np.zeros((3, 1), np.float32))]])
    engine.close()


def test_a_repository_that_may_not_be_read_is_refused() -> None:
    with pytest.raises(BadArtifact, match="cannot be read"):
        Repository(Path("x" * 300)).names()


def test_a_file_that_is_no_graph_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph")
    spec = manifest.ModelSpec.model_validate_json((folder / manifest.FILE_NAME).read_bytes())
    with pytest.raises(BadArtifact, match=r"cannot open model\.onnx"):
        Engine(spec, folder)


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    """10 is newer than 9, and a folder that is still being written is not a version."""
    for name in ("9", "10", "1", ".staging-1", "x", "01"):
        (tmp_path / "m" / name).mkdir(parents=True)
    repository = Repository(tmp_path)
    assert repository.versions("m") == ["10", "9", "1"]
    assert repository.names() == ["m"]
    assert Repository(tmp_path / "none").names() == []


def served(model_dir: Path) -> Service:
    """The service after it loaded the repository; it is closed again, but can still be asked what it serves."""

    async def scenario() -> Service:
        service = await service_over(model_dir)
        await service.close()
        service.draining = False
        return service

    return asyncio.run(scenario())


def test_the_older_version_goes_on_where_the_newest_is_bad(tmp_path: Path) -> None:
    """A bad deployment must not take the service down, and must not pass unnoticed."""
    artifacts.build(tmp_path)
    newest = artifacts.build(tmp_path)
    (newest / "model.onnx").write_bytes(b"")
    service = served(tmp_path)
    assert service.model().spec.version == "1"
    assert service.status == "degraded"
    assert [(r.version, "model.onnx" in r.reason) for r in service.catalog.refused.values()] == [("2", True)]


def test_without_a_good_version_of_the_default_model_there_is_no_service(tmp_path: Path) -> None:
    """The reason and what to do stand in one message."""
    folder = artifacts.build(tmp_path)
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(BadArtifact, match=r"No version .* can be served\. version 1: .*model\.onnx"):
        served(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadArtifact, match=r"no models.*RECURVE_MODEL_DIR"):
        served(tmp_path / "empty")


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_without_a_gpu_auto_serves_on_the_cpu_and_cuda_refuses(folder: Path) -> None:
    """Without a GPU nothing is lost, so nothing is degraded; but an explicit request for CUDA must fail."""
    spec = manifest.read(folder)
    provider = Engine(spec, folder, device="auto").provider
    assert (provider.in_use, provider.fallback_reason) == (CPU, None)
    with pytest.raises(ProviderUnavailable, match="no NVIDIA driver"):
        Engine(spec, folder, device="cuda")


def test_only_graphs_that_cuda_runs_are_offered_to_it(tmp_path: Path) -> None:
    """ONNX Runtime's CUDA provider would run the paper's fused GRU on the CPU without saying so."""
    before = manifest.read(artifacts.build(tmp_path / "before", cell="reset_before"))
    after = manifest.read(artifacts.build(tmp_path / "after", cell="reset_after"))
    assert before.graphs == {CPU: "model.onnx", CUDA: "model.cuda.onnx"}
    assert after.graphs == {CPU: "model.onnx", CUDA: "model.onnx"}


def test_a_golden_sample_that_is_broken_or_empty_is_refused(folder: Path) -> None:
    """A golden sample without content proves nothing."""
    spec = manifest.read(folder)
    whole = (folder / "golden.npz").read_bytes()
    empty = {name: array[:0] for name, array in np.load(folder / "golden.npz").items()}
    for content in (b"", whole[:100], whole[: len(whole) // 2]):
        (folder / "golden.npz").write_bytes(content)
        with pytest.raises(BadArtifact, match="golden sample"):
            Golden.load(folder, spec)
    np.savez(folder / "golden.npz", **empty)
    with pytest.raises(BadArtifact, match="no instance"):
        Golden.load(folder, spec)
    np.savez(folder / "golden.npz", **empty | {"lengths": np.array([slice(9)])})
    with pytest.raises(BadArtifact, match="allow_pickle"):  # a pickle would run a stranger's code
        Golden.load(folder, spec)
