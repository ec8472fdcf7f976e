"""README.md and docs/ say what the code does: their tables, commands and links are held against it."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from app import errors
from app.metrics import Metrics
from app.settings import Settings
from scripts import train
from tests.servers import ROOT, Server, serve

PAGES = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README, API, OPERATE = (PAGES[Path(name)] for name in ("README.md", "docs/api.md", "docs/operate.md"))


def rows(page: str, pattern: str) -> dict[str, list[str]]:
    """Rows of the page's tables whose first cell, without backticks, matches: first cell -> the others."""
    found = {}
    for line in page.splitlines():
        if line.startswith("|"):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            if re.fullmatch(pattern, first.replace("`", "")):
                found[first.replace("`", "")] = others
    return found


def test_every_setting_is_listed_with_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A default that is written down wrong is worse than one that is not."""
    monkeypatch.chdir(tmp_path)  # where no .env is
    monkeypatch.delenv("PORT", raising=False)
    values = Settings().model_dump(mode="json")
    listed = {name.removeprefix("RECURVE_").lower(): cells[0] for name, cells in rows(OPERATE, r"RECURVE_\w+").items()}
    shown = {float: lambda value: f"{value:g}", type(None): lambda _: "none"}
    assert listed == {name: shown.get(type(value), str)(value) for name, value in values.items()}


def test_what_the_examples_write_is_no_change_of_the_clone(tmp_path: Path) -> None:
    """Who has followed the README finds nothing of it in `git status`, but a new version of the committed model."""
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    written = ["load.csv", "body.json", "out.png", "runs/load/checkpoint.pt", "model/load-forecast/1/manifest.json"]
    line = ["git", "-C", tmp_path, "check-ignore", *written, "model/gyro-denoiser/2/manifest.json", "model/README.md"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.split() == written


def test_every_metric_is_listed() -> None:
    """A dashboard is built from this table."""
    families = [line.split()[2:4] for line in Metrics().render().decode().splitlines() if line.startswith("# TYPE")]
    found = {name for name, kind in families if not name.endswith("_created")}
    assert found == rows(OPERATE, r"recurve_\w+").keys()


def test_every_error_status_is_listed() -> None:
    statuses = {cell for first in rows(API, r"[45]\d\d(, [45]\d\d)*") for cell in first.split(", ")}
    found = {
        str(error.status)
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.RecurveError) and error.status != 500
    }
    assert found <= statuses


def test_every_route_is_listed() -> None:
    with serve(ROOT / "model") as server:
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if "/versions/" not in path}
        listed = rows(API, r"(GET|POST|DELETE) /\S*")
        assert routes | {"GET /", "GET /docs", "GET /openapi.json"} == listed.keys()
        stream = httpx.post(f"{server.url}/streams").json()["id"]
        for route in listed:
            if route.startswith("GET"):
                path = route.removeprefix("GET ").replace("{id}", stream).replace("{model}", "gyro-denoiser")
                assert httpx.get(server.url + path).status_code == 200


def test_the_curl_commands_work_as_printed() -> None:
    """The first thing that anyone tries."""
    plain, binary, *_ = re.findall(r"```sh\n([^`]*curl .*?)```", API, re.DOTALL)
    with serve(ROOT / "model") as server:
        answers = [
            json.loads(subprocess.check_output(["sh", "-c", command.replace("http://127.0.0.1:8000", server.url)]))
            for command in (plain, binary)
        ]
    assert [len(prediction) for prediction in answers[0]["predictions"]] == [1, 3]
    assert [len(prediction) for prediction in answers[1]["predictions"]] == [3]


def test_the_python_example_works_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """And shows what it says: the bias of a device at rest is found and taken off."""
    code, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with serve(ROOT / "model") as server:
        names: dict[str, list[list[float]]] = {}
        exec(code.replace("http://127.0.0.1:8000", server.url), names)
    assert "last" in capsys.readouterr().out
    first, last = names["rates"][0], names["rates"][-1]
    assert max(map(abs, last)) < max(map(abs, first)) / 4


def test_the_example_of_the_open_inference_protocol_works_as_printed() -> None:
    """The official client, as anyone would install it."""
    *_, code = re.findall(r"```python\n(.*?)```", API, re.DOTALL)
    with serve(ROOT / "model") as server:
        names: dict[str, Any] = {}
        exec(code.replace("127.0.0.1:8000", server.url.removeprefix("http://")), names)
    assert names["rates"].shape == (2, 500, 3)
    assert np.abs(names["rates"][:, -1]).max() < np.abs(names["rates"][:, 0]).max()


def test_the_sensor_example_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    """Killed in the middle, and started again: the answers are those of the whole signal in one call."""
    _, code, _ = re.findall(r"```python\n(.*?)```", API, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    steps = [[0.5, -0.3, 0.1, 0.0, 0.0, 9.8 + number] for number in range(60)]

    async def sensor() -> AsyncIterator[list[float]]:
        for step in steps:
            yield step

    async def follow(host: str) -> AsyncIterator[list[float]]:
        async for rates in names["follow"](host, sensor()):
            yield rates

    async def both() -> None:
        flags = ["--data-dir", str(tmp_path), "--workers", "1", "--port"]
        got = []
        with ExitStack() as servers:
            first = servers.enter_context(serve(ROOT / "model", *flags, "0"))
            host = first.url.removeprefix("http://")
            async for rates in follow(host):
                got.append(rates)
                if len(got) == 20:
                    first.stop(signal.SIGKILL)
                    again = servers.enter_context(serve(ROOT / "model", *flags, host.split(":")[1]))
            async with httpx.AsyncClient() as http:
                answer = await http.post(f"{again.url}/predict", json={"instances": [steps]})
        (whole,) = answer.json()["predictions"]
        np.testing.assert_allclose(got, whole, rtol=1e-4, atol=1e-4)

    asyncio.run(both())


def test_the_sensor_example_tells_why_a_stream_has_ended(tmp_path: Path) -> None:
    """Somebody deletes it: that does not pass, and is no reason to begin anew."""
    _, code, _ = re.findall(r"```python\n(.*?)```", API, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)

    async def run(server: Server) -> None:
        rates = names["follow"](server.url.removeprefix("http://"), names["sensor"]())
        await anext(rates)
        async with httpx.AsyncClient(base_url=server.url) as http:
            (stream,) = (await http.get("/streams")).json()["ids"]
            await http.delete(f"/streams/{stream}")
            with pytest.raises(ConnectionClosed) as ended:
                async for _ in rates:
                    pass
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 4404

    with serve(ROOT / "model", "--data-dir", str(tmp_path), "--workers", "1") as server:
        asyncio.run(run(server))


def test_the_commands_of_make_are_those_that_are_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([\w-]+)", "\n".join(PAGES.values())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def headings(page: str) -> set[str]:
    """The anchors that GitHub gives them."""
    return {re.sub(r"[^\w-]", "", line.lower().replace(" ", "-")) for line in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Within the repository: to a file, a folder or a heading."""
    for link in re.findall(r"\]\(([^):]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        target = (ROOT / page.parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target.read_text()), link


def test_the_training_flags_that_are_named_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    known = capsys.readouterr().out
    for flag in ("--part", "--resume", "--cell"):
        assert flag in PAGES[Path("docs/train.md")]
        assert flag in known
