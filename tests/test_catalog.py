"""Which versions are served: they are swapped without a failed request, refused without harm, and ordered in all workers."""

import asyncio
import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import pytest

from app import manifest
from app.catalog import Catalog
from app.errors import BadArtifact, BadModel, Draining, ModelNotFound, NotReady
from app.metrics import Metrics
from app.operations import Operations
from app.orders import OrderBook, VersionPolicy
from app.processes.fleet import Fleet
from app.repository import Repository, mark_of
from app.service import Lease, Service
from app.streaming.pins import Pins
from app.tensors import Instance
from tests import artifacts
from tests.servers import Server, serve
from tests.services import catalog_of, service_over

KEY = {"X-API-Key": "operator-0123456789"}
KEYS = "ops:admin:operator-0123456789"
STEPS = np.random.default_rng(5).standard_normal((9, 6)).tolist()


def served(catalog: Catalog) -> dict[str, list[str]]:
    return {name: catalog.versions(name) for name in catalog.names()}


def spoil(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph")


def test_the_newest_good_versions_are_served_as_many_as_are_wanted(tmp_path: Path) -> None:
    for seed in range(4):
        folder = artifacts.build(tmp_path, seed=seed)
    artifacts.build(tmp_path, name="other")
    spoil(folder)

    async def main(policy: VersionPolicy) -> dict[str, list[str]]:
        catalog = catalog_of(tmp_path, policy=policy)
        await asyncio.gather(catalog.refresh(), catalog.refresh())
        await catalog.close()
        assert catalog.replaced == {}, "two who look at once load nothing twice"
        return served(catalog)

    assert asyncio.run(main(VersionPolicy())) == {"gyro-denoiser": ["3"], "other": ["1"]}
    assert asyncio.run(main(VersionPolicy(latest=2))) == {"gyro-denoiser": ["3", "2"], "other": ["1"]}
    assert asyncio.run(main(VersionPolicy(latest=None))) == {"gyro-denoiser": ["3", "2", "1"], "other": ["1"]}
    assert asyncio.run(main(VersionPolicy(specific=("1", "3")))) == {"gyro-denoiser": ["3", "1"], "other": ["1"]}


def test_a_bad_version_changes_nothing_and_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    """The folder is looked at every second, and a bad version's checksums must not be computed each time."""
    artifacts.build(tmp_path)

    async def main() -> None:
        metrics = Metrics()
        service = await service_over(tmp_path, metrics=metrics)
        catalog = service.catalog
        bad = artifacts.build(tmp_path, seed=1)
        whole = (bad / "model.onnx").read_bytes()
        spoil(bad)
        await catalog.refresh()
        assert served(catalog) == {"gyro-denoiser": ["1"]}
        assert (service.status, [*catalog.refused]) == ("degraded", [("gyro-denoiser", "2")])
        assert b'recurve_versions_refused{model="gyro-denoiser"} 1.0' in metrics.render()
        refused = catalog.refused["gyro-denoiser", "2"]
        await catalog.refresh()
        assert catalog.refused["gyro-denoiser", "2"] is refused
        (bad / "model.onnx").write_bytes(whole)
        await catalog.refresh()
        assert served(catalog) == {"gyro-denoiser": ["2"]}
        assert (service.status, catalog.refused) == ("ok", {})
        assert b'recurve_versions_refused{model="gyro-denoiser"} 0.0' in metrics.render()
        os.utime(bad / manifest.FILE_NAME, ns=(2, 2))
        await catalog.refresh()
        await asyncio.gather(*catalog._leaving)
        assert b'recurve_lanes{model="gyro-denoiser",version="2"} 1.0' in metrics.render()
        await service.close()

    asyncio.run(main())


def test_a_version_that_cannot_be_read_for_a_moment_is_well_again_afterwards(tmp_path: Path) -> None:
    """The loaded version stays good, and nobody has to touch its files."""
    folder = artifacts.build(tmp_path)

    async def main() -> None:
        service = await service_over(tmp_path)
        catalog = service.catalog
        loaded = catalog.served
        folder.rename(tmp_path / "aside")
        folder.mkdir()
        await catalog.refresh()
        assert (service.status, catalog.served) == ("degraded", loaded)
        folder.rmdir()
        (tmp_path / "aside").rename(folder)
        await catalog.refresh()
        assert (service.status, catalog.served, catalog.refused) == ("ok", loaded, {})
        await service.close()

    asyncio.run(main())


def test_only_what_a_version_holds_and_who_may_read_it_mark_it(tmp_path: Path) -> None:
    """A backup that links to the files, or a change of owner, must not make every replica load the version again."""
    folder = artifacts.build(tmp_path)
    graph = folder / "model.onnx"
    mark = mark_of(folder)
    os.link(graph, tmp_path / "backup")
    os.chown(graph, -1, -1)
    (folder / "link").symlink_to(tmp_path / "nowhere")
    assert mark is not None
    assert mark_of(folder) == mark
    graph.chmod(stat.S_IMODE(graph.stat().st_mode) ^ stat.S_IRGRP)
    assert mark_of(folder) != mark


def test_what_vanishes_from_disk_is_let_go_but_never_everything(tmp_path: Path) -> None:
    """A folder that is not mounted for a moment looks like one that was emptied."""
    artifacts.build(tmp_path)
    artifacts.build(tmp_path, name="other")

    async def main() -> None:
        catalog = catalog_of(tmp_path)
        await catalog.refresh()
        shutil.rmtree(tmp_path / "other")
        await catalog.refresh()
        assert served(catalog) == {"gyro-denoiser": ["1"]}
        (tmp_path / "gyro-denoiser").rename(tmp_path / ".not-mounted")
        await catalog.refresh()
        assert served(catalog) == {"gyro-denoiser": ["1"]}
        await catalog.close()

    asyncio.run(main())


def test_an_order_says_what_came_of_it(tmp_path: Path) -> None:
    artifacts.build(tmp_path)

    async def main() -> None:
        catalog = catalog_of(tmp_path)
        await catalog.refresh()
        with pytest.raises(ModelNotFound, match="no model 'unknown'"):
            await catalog.order("unknown", VersionPolicy())
        assert await catalog.order("gyro-denoiser", None) == 1
        assert served(catalog) == {}
        assert [(each.version, each.state) for each in catalog.index()] == [("1", "UNAVAILABLE")]
        assert await catalog.order("gyro-denoiser", VersionPolicy()) == 2
        assert served(catalog) == {"gyro-denoiser": ["1"]}
        await catalog.close()

    asyncio.run(main())


def test_an_order_that_is_refused_was_never_given(tmp_path: Path) -> None:
    """A refused order must change neither the served versions nor which later versions will be served."""
    for seed in range(3):
        folder = artifacts.build(tmp_path, seed=seed)
    spoil(folder.parent / "2")

    async def main() -> None:
        catalog = catalog_of(tmp_path)
        await catalog.refresh()
        with pytest.raises(BadModel, match=r"Version 2 of gyro-denoiser is refused: .*SHA-256.* Version 3 goes on"):
            await catalog.order("gyro-denoiser", VersionPolicy(specific=("1", "2")))
        with pytest.raises(BadModel, match=r"no version 7 of gyro-denoiser\. Version 3 goes on"):
            await catalog.order("gyro-denoiser", VersionPolicy(specific=("3", "7")))
        assert served(catalog) == {"gyro-denoiser": ["3"]}
        assert await catalog.refresh() == 0
        assert catalog.refused == {}  # no order asks for it any more
        artifacts.build(tmp_path, seed=3)
        await catalog.refresh()
        assert served(catalog) == {"gyro-denoiser": ["4"]}
        await asyncio.gather(*catalog._leaving)
        assert catalog.working == catalog.served
        await catalog.close()

    asyncio.run(main())


def test_a_version_that_comes_back_is_the_one_that_was_kept_for_its_streams(tmp_path: Path) -> None:
    """Orders may go back and forth between two versions with streams on both: neither is loaded twice or forgotten."""
    for seed in range(2):
        artifacts.build(tmp_path, seed=seed)

    async def main() -> None:
        catalog = catalog_of(tmp_path)
        await catalog.refresh()
        pins = Pins(catalog, drain=1000)
        newer = await pins.model("gyro-denoiser", "2")
        older, same = await asyncio.gather(*(pins.model("gyro-denoiser", "1") for _ in range(2)))
        assert older is same
        await catalog.order("gyro-denoiser", VersionPolicy(specific=("1",)))
        pins._started -= 2000  # what counts is when a version was replaced
        assert await pins.model("gyro-denoiser", "2") is newer  # its streams go on, though an older version is served
        for _ in range(3):
            await catalog.order("gyro-denoiser", VersionPolicy(specific=("2",)))
            assert catalog.find("gyro-denoiser") is newer
            assert await pins.model("gyro-denoiser", "1") is older
            await catalog.order("gyro-denoiser", VersionPolicy(specific=("1",)))
        assert catalog.working == [older, newer]
        await catalog.order("gyro-denoiser", None)
        await asyncio.gather(*catalog._leaving)
        assert catalog.working == [newer]
        await catalog.close()

    asyncio.run(main())


def test_two_who_give_orders_at_once_each_carry_out_both(tmp_path: Path) -> None:
    """The number that a worker reports stands for that order and all orders before it."""
    for name in ("gyro-denoiser", "a", "b"):
        artifacts.build(tmp_path / "models", name=name)

    async def main() -> None:
        book = tmp_path / "orders"
        book.mkdir()
        first, second = (catalog_of(tmp_path / "models", book=OrderBook(book)) for _ in range(2))
        for catalog in (first, second):
            await catalog.refresh()
        numbers = await asyncio.gather(first.order("a", None), second.order("b", None))
        assert max(numbers) == 2
        for catalog, number in zip((first, second), numbers, strict=True):
            assert len(catalog.names()) == 3 - number  # exactly the orders up to the number
            assert await catalog.refresh() == 2
            assert served(catalog) == {"gyro-denoiser": ["1"]}
            await catalog.close()

    asyncio.run(main())


class Blinking(Repository):
    """A repository on a network drive that is missing at the look with the number `gone_at`."""

    looks, gone_at = 0, 0

    def names(self) -> list[str]:
        self.looks += 1
        if self.looks == self.gone_at:
            raise BadArtifact("model cannot be read: Input/output error.")
        return super().names()


def test_an_order_that_is_given_reaches_all_workers_though_the_repository_is_gone_for_a_moment(tmp_path: Path) -> None:
    """Otherwise this worker alone would serve the version, and the client would be told that nothing was done."""
    artifacts.build(tmp_path / "models")

    async def main() -> None:
        service = await service_over(tmp_path / "models", book=OrderBook(tmp_path))
        operations = Operations(service, fleet := Fleet())
        repository = service.catalog.repository = Blinking(tmp_path / "models")
        fleet.report = lambda: fleet.level(fleet.done)  # as if the other workers carried it out at once
        repository.gone_at = 2
        await operations.unload("gyro-denoiser")
        assert (repository.looks, fleet.done, served(service.catalog)) == (3, 1, {})
        repository.gone_at = 4
        with pytest.raises(NotReady, match="Input/output error"):
            await operations.load("gyro-denoiser")
        assert (service.catalog.done, OrderBook(tmp_path).read()[0]) == (1, 1)  # nothing was ordered
        await service.close()

    asyncio.run(main())


class FullBook(OrderBook):
    """An order book on a full disk."""

    def give(self, *_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_was_loaded_for_an_order_that_cannot_be_written_down_is_let_go(tmp_path: Path) -> None:
    """Otherwise every attempt would leak its memory and its threads."""
    artifacts.build(tmp_path)

    async def main() -> None:
        catalog = catalog_of(tmp_path, book=FullBook())
        with pytest.raises(OSError, match="No space left"):
            await catalog.order("gyro-denoiser", VersionPolicy())
        assert served(catalog) == {}
        (model,) = catalog.working  # no work is left in it to finish
        await catalog.close()
        assert catalog.working == []
        with pytest.raises(Draining):
            model.batcher.admit(1.0)

    asyncio.run(main())


def test_an_order_is_reported_when_metrics_and_health_say_so_too(tmp_path: Path) -> None:
    """A client looks at them as soon as its order is answered, and may reach another worker."""
    artifacts.build(tmp_path)

    async def main() -> None:
        told: list[bool] = []
        service = Service(catalog_of(tmp_path), default_model="gyro-denoiser", tell_default=told.append)
        fleet = Fleet()
        operations = Operations(service, fleet)
        await operations.start()
        reported: list[tuple[bool, bool]] = []
        fleet.report = lambda: reported.append((told[-1], service.default_trouble is None))
        fleet.level(2)
        await operations.unload("gyro-denoiser")
        await operations.load("gyro-denoiser")
        assert reported == [(False, False), (True, True)]
        await operations.close()
        await service.catalog.close()

    asyncio.run(main())


def test_a_worker_waits_until_all_have_carried_out_its_order() -> None:
    async def main() -> None:
        reports: list[int] = []
        fleet = Fleet()
        fleet.report = lambda: reports.append(fleet.done)
        fleet.carried_out(1)
        fleet.carried_out(2)
        fleet.carried_out(1)
        assert reports == [1, 2]
        waiting = asyncio.create_task(fleet.wait_for(2, timeout=30))
        await asyncio.sleep(0)
        fleet.level(1)  # the report of an earlier order arrives late
        assert not await fleet.wait_for(2, timeout=0.01)
        fleet.level(2)
        assert await waiting
        assert await Fleet().wait_for(7, timeout=0)  # a worker without others does not wait

    asyncio.run(main())


def test_a_model_is_not_let_go_while_it_is_used(tmp_path: Path) -> None:
    """A request that chose a version is answered by that version, whatever happens meanwhile."""
    artifacts.build(tmp_path)

    async def main() -> None:
        service = await service_over(tmp_path)
        with Lease(service) as lease:
            spec = lease.choose()
            artifacts.build(tmp_path, seed=1)
            await service.catalog.refresh()
            assert service.model().spec.version == "2"
            for _ in range(20):
                await asyncio.sleep(0)
            golden = np.zeros((3, len(spec.features)), np.float32)
            (prediction,) = await lease.model.batcher.predict([Instance(golden)], timeout=5)
            assert prediction.output.shape == (3, 3)
            old = lease.model
        await service.close()
        with pytest.raises(Exception, match="shutting down"):
            old.batcher.predict([Instance(golden)], timeout=5)

    asyncio.run(main())


def test_what_is_there_and_not_loaded_is_told_so_with_what_loads_it(tmp_path: Path) -> None:
    """A version just exported, or older than the served ones, exists: "not found" would send its owner looking for it."""

    async def main() -> None:
        artifacts.build(tmp_path)
        artifacts.build(tmp_path, seed=1)
        service = await service_over(tmp_path)
        artifacts.build(tmp_path, name="late")
        for asked, says in (
            (("late",), "late is in the repository and not loaded yet: POST /v2/repository/models/late/load serves the newest"),
            (("gyro-denoiser", "1"), r"'1' of gyro-denoiser is not loaded; version '2' is\. It is in the repository: POST /v2/"),
            (("gyro-denoiser", "3"), r"'3' of gyro-denoiser is not loaded; version '2' is\.$"),
            (("later",), "There is no model 'later'"),
            (("../model", "1"), "There is no model"),
            (("",), "There is no model ''"),
        ):
            with pytest.raises(ModelNotFound, match=says):
                service.model(*asked)
        await Operations(service, Fleet()).load("late")
        with service.model("late"):
            pass
        await service.close()

    asyncio.run(main())


def test_whoever_starts_without_a_default_model_is_told_the_next_step(tmp_path: Path) -> None:
    """The folder may be missing, the name nearly right, or a broken file may lie beside a good model."""

    async def refused(root: Path, name: str) -> str:
        service = Service(catalog_of(root), default_model=name)
        with pytest.raises(BadArtifact) as caught:
            await Operations(service, Fleet()).start()
        await service.close()
        return str(caught.value)

    async def main() -> None:
        artifacts.build(tmp_path)
        folder = artifacts.build(tmp_path, name="load-forecast")
        assert "Did you mean load-forecast?" in await refused(tmp_path, "lode")
        assert "Did you mean" not in await refused(tmp_path, "wind")
        assert f"There is no folder {tmp_path}/nowhere: RECURVE_MODEL_DIR" in await refused(tmp_path / "nowhere", "load-forecast")
        (folder / "golden.npz").unlink()
        told = await refused(tmp_path, "load-forecast")
        assert "Publish it again, or restore its folder from where it came" in told
        assert told.endswith("With --default-model gyro-denoiser the service starts: that one is good.")

    asyncio.run(main())


def test_the_only_model_of_a_repository_needs_no_name(tmp_path: Path) -> None:
    """A user with one model should not need to learn a setting first; a setting that is given is obeyed."""
    artifacts.build(tmp_path, name="theirs")
    with serve(tmp_path, "--workers", "1") as server:
        assert httpx.post(f"{server.url}/predict", json={"instances": [STEPS]}).json()["model"] == "theirs"
    with pytest.raises(RuntimeError, match="no model 'gyro-denoiser'"), serve(tmp_path, "--default-model", "gyro-denoiser"):
        pass


def test_orders_are_seen_by_all_who_share_the_folder(tmp_path: Path) -> None:
    first, second = OrderBook(tmp_path), OrderBook(tmp_path)
    assert first.read() == (0, {})
    assert first.give("a", VersionPolicy(specific=("1",))) == 1
    assert second.give("b", None) == 2
    assert first.read() == second.read() == (2, {"a": VersionPolicy(specific=("1",)), "b": None})


def memory(server: Server) -> int:
    """The memory (PSS) of the service and its workers, in bytes."""
    pid = server.process.pid
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    lines = [line for each in pids for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()]
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def keep_asking(url: str, name: str, stop: threading.Event, answers: list[tuple[int, str]]) -> None:
    with httpx.Client(base_url=url, headers=KEY, timeout=30) as client:
        while not stop.is_set():
            answer = client.post("/predict", json={"model": name, "instances": [STEPS, STEPS[:2]]})
            answers.append((answer.status_code, answer.json().get("version", answer.text)))


def keep_following(url: str, name: str, stop: threading.Event, answers: list[tuple[int, str]]) -> None:
    with httpx.Client(base_url=url, headers=KEY, timeout=30) as client:
        begun = client.post("/streams", json={"model": name}).json()
        for seq in count():
            if stop.is_set():
                return
            answer = client.post(f"/streams/{begun['id']}/predict", json={"input": STEPS[:2], "seq": seq})
            answers.append((answer.status_code, begun["version"]))


def under_load(url: str, callers: list[Callable[..., None]], names: list[str], work: Callable[[], None]) -> list[tuple[int, str]]:
    """Do the work while clients send requests; returns the answers they got."""
    stop, answers = threading.Event(), list[tuple[int, str]]()
    threads = [threading.Thread(target=caller, args=(url, name, stop, answers)) for caller in callers for name in names]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return answers


def replace_by_next(model: Path) -> str:
    """Replace the only version of a model by a copy with the next number: a new network for each version would take too long."""
    (version,) = model.iterdir()
    newest = str(int(version.name) + 1)
    aside = shutil.copytree(version, model.with_name(f".{newest}"))
    text = json.loads((aside / manifest.FILE_NAME).read_text()) | {"version": newest}
    (aside / manifest.FILE_NAME).write_text(json.dumps(text))
    aside.rename(model / newest)
    shutil.rmtree(version)
    return newest


def test_no_request_fails_while_a_model_is_swapped_again_and_again(tmp_path: Path) -> None:
    """With two workers, two models and streams, no request fails, and the memory does not grow."""
    artifacts.build(tmp_path)
    artifacts.build(tmp_path, name="other")
    with (
        serve(tmp_path, "--workers", "2", RECURVE_API_KEYS=KEYS) as server,
        httpx.Client(base_url=server.url, headers=KEY, timeout=60) as client,
    ):

        def swap(times: int) -> None:
            for _ in range(times):
                newest = replace_by_next(tmp_path / "gyro-denoiser")
                assert client.post("/v2/repository/models/gyro-denoiser/load").status_code == 200
                for connection in range(4):  # new connections, to reach both workers
                    with httpx.Client(base_url=server.url, headers=KEY) as fresh:
                        found = fresh.post("/predict", json={"instances": [STEPS]}).json()
                        assert found["version"] == newest, connection

        names = ["gyro-denoiser", "other"]
        first = under_load(server.url, [keep_asking], names, lambda: swap(4))  # allocates what is allocated only once
        before = memory(server)
        answers = under_load(server.url, [keep_asking, keep_following], names, lambda: swap(20))
        assert {status for status, _ in first + answers} == {200}
        assert len({version for _, version in answers}) > 10
        gauges = [line for line in client.get("/metrics").text.splitlines() if line.startswith("recurve_lanes{")]
        assert len([line for line in gauges if not line.endswith(" 0.0")]) <= 4  # for served versions, and those that streams use
        assert memory(server) < before + 40 * 2**20


def test_the_folder_is_watched(tmp_path: Path) -> None:
    """A version that is published is served without a call; one that is bad shows in /health, and the old one goes on."""
    artifacts.build(tmp_path)
    with serve(tmp_path, "--workers", "1", "--model-poll-seconds", "0.05") as server, httpx.Client(base_url=server.url) as client:
        artifacts.build(tmp_path, seed=1)
        server.wait_for("Loaded gyro-denoiser version 2")
        server.wait_for("gyro-denoiser version 1 makes way for version 2")
        assert client.post("/predict", json={"instances": [STEPS]}).json()["version"] == "2"
        bad = artifacts.build(tmp_path / "aside", seed=2)
        spoil(bad)
        text = json.loads((bad / manifest.FILE_NAME).read_text()) | {"version": "3"}
        (bad / manifest.FILE_NAME).write_text(json.dumps(text))
        bad.rename(tmp_path / "gyro-denoiser" / "3")
        server.wait_for("Refused version 3 of gyro-denoiser")
        health = client.get("/health").json()
        assert health["status"] == "degraded"
        assert [(each["version"], each["ready"]) for each in health["models"]] == [("2", True), ("3", False)]
        assert client.post("/predict", json={"instances": [STEPS]}).json()["version"] == "2"
        assert sum("Refused version 3" in line for line in server.log) == 1
        spoil(artifacts.build(tmp_path / "aside", name="other"))
        (tmp_path / "aside" / "other").rename(tmp_path / "other")
        server.wait_for("Refused version 1 of other")
        answer = client.post("/predict", json={"instances": [STEPS], "model": "other"})
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith("No version of other can be served. version 1: ")


def test_orders_that_come_to_several_workers_at_once_reach_all(tmp_path: Path) -> None:
    """Each order is answered when all workers have carried it out, and afterwards all workers serve the same models."""
    names = [f"model-{number}" for number in range(4)]
    for name in ("gyro-denoiser", *names):
        artifacts.build(tmp_path, name=name)
    with serve(tmp_path, "--workers", "2", RECURVE_API_KEYS=KEYS) as server:
        wrong: list[str] = []

        def give(name: str) -> None:
            with httpx.Client(base_url=server.url, headers=KEY, timeout=60) as client:
                for what in ("unload", "load") * 4 + ("unload",):
                    answer = client.post(f"/v2/repository/models/{name}/{what}")
                    wrong.extend([answer.text] * (answer.status_code != 200))
                    client.post("/v2/repository/models/nobody/load")

        threads = [threading.Thread(target=give, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        for _ in range(6):  # new connections, to reach all workers
            with httpx.Client(base_url=server.url, headers=KEY) as fresh:
                assert [each["name"] for each in fresh.get("/health").json()["models"]] == ["gyro-denoiser"]


def test_a_worker_that_is_replaced_knows_what_was_ordered(tmp_path: Path) -> None:
    """Otherwise the workers would serve different models from then on."""
    artifacts.build(tmp_path)
    artifacts.build(tmp_path, name="other")
    with (
        serve(tmp_path, "--workers", "2", RECURVE_API_KEYS=KEYS) as server,
        httpx.Client(base_url=server.url, headers=KEY) as client,
    ):
        assert client.post("/v2/repository/models/other/unload").status_code == 200
        pid = server.process.pid
        victim = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(victim, 9)
        server.wait_for("is replaced")
        server.wait_for("Loaded gyro-denoiser version 1", times=3)
        for _ in range(8):
            with httpx.Client(base_url=server.url, headers=KEY) as fresh:
                assert fresh.post("/predict", json={"model": "other", "instances": [STEPS]}).status_code == 404
        assert client.post("/v2/repository/models/other/load").status_code == 200
        for _ in range(8):
            with httpx.Client(base_url=server.url, headers=KEY) as fresh:
                assert fresh.post("/predict", json={"model": "other", "instances": [STEPS]}).status_code == 200
