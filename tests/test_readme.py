"""README.md and docs/ say what the code does: their tables, commands, answers and links are compared with it."""

import asyncio
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from app import errors
from app.metrics import Metrics
from app.settings import Settings
from tests.servers import ROOT, Server, serve

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README, ADOPT, API, OPERATE, TRAIN = (
    PAGES[name] for name in ("README.md", "docs/adopt.md", "docs/api.md", "docs/operate.md", "docs/train.md")
)
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# The program whose flags a page names outside of commands; a section may name further programs.
OWN = {"README.md": "app", "docs/adopt.md": "scripts.adopt", "docs/compare.md": "scripts.compare", "docs/train.md": "scripts.train"}


def blocks(page: str, language: str) -> list[str]:
    """The page's code blocks in that language, in order."""
    return [text for name, text in FENCE.findall(page) if name == language]


def rows(page: str, pattern: str) -> dict[str, list[str]]:
    """The page's table rows whose first cell matches, without its backticks: {first cell: the other cells}."""
    found = {}
    for line in page.splitlines():
        if line.startswith("|"):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            if re.fullmatch(pattern, first.replace("`", "")):
                found[first.replace("`", "")] = others
    return found


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    """A repository with only the committed model: in a clone whose user has followed the README, there are others beside it."""
    shutil.copytree(ROOT / "model/gyro-denoiser/1", tmp_path / "model/gyro-denoiser/1")
    return tmp_path / "model"


def test_every_setting_is_listed_with_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong default in the documentation is worse than none."""
    monkeypatch.chdir(tmp_path)  # no .env is here
    monkeypatch.delenv("PORT", raising=False)
    values = Settings().model_dump(mode="json")
    shown = {float: lambda value: f"{value:g}", type(None): lambda _: "none"}
    defaults = {f"RECURVE_{name.upper()}": shown.get(type(value), str)(value) for name, value in values.items()}
    assert {name: cells[0] for name, cells in rows(OPERATE, r"RECURVE_\w+").items()} == defaults
    some = {name: cells[0] for name, cells in rows(README, r"RECURVE_\w+").items()}
    assert some
    assert some.items() <= defaults.items()


def test_every_setting_that_is_named_exists() -> None:
    """Also those in prose; Compose has variables of its own."""
    named = {name for page in PAGES.values() for name in re.findall(r"RECURVE_[A-Z_]*[A-Z]", page)}
    assert {name for name in named if not name.startswith("RECURVE_PUBLISH")} <= rows(OPERATE, r"RECURVE_\w+").keys()


def test_what_the_examples_write_is_no_change_of_the_clone(tmp_path: Path) -> None:
    """A user who follows them sees nothing of it in `git status`, except a new version of the committed model."""
    (tmp_path / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    written = ["load.csv", "body.json", "out.png", "net.py", "net.onnx"]
    written += ["runs/load/checkpoint.pt", "model/load-forecast/1/manifest.json", "model/net/1/manifest.json"]
    line = ["git", "-C", tmp_path, "check-ignore", *written, "model/gyro-denoiser/2/manifest.json", "model/README.md"]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.split() == written


def test_every_metric_is_listed() -> None:
    """A dashboard is built from this table."""
    families = [line.split()[2:4] for line in Metrics().render().decode().splitlines() if line.startswith("# TYPE")]
    found = {name for name, kind in families if not name.endswith("_created")}
    assert found == rows(OPERATE, r"recurve_\w+").keys()


def test_the_statuses_that_are_listed_are_those_that_errors_have() -> None:
    """Exactly these; and for 503, which has many, also the kinds of error."""
    listed = [status for first in rows(API, r"[45]\d\d(, [45]\d\d)*") for status in first.split(", ")]
    kinds = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.RecurveError)]
    assert sorted(listed) == sorted({*(str(kind.status) for kind in kinds), "405"})  # the framework answers 405 itself
    busy = {kind.code for kind in kinds if issubclass(kind, errors.Unavailable)} - {errors.Unavailable.code}
    assert set(re.findall(r"`([a-z-]+)`", "".join(rows(API, "503")["503"]))) == busy, "what tells them apart"


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
        assert httpx.put(f"{server.url}/predict").status_code == 405


def assert_as_printed(printed: Any, answer: Any) -> None:
    """The same members and lengths, and numbers to three digits; `...` stands for omitted members, items or characters."""
    match printed:
        case dict():
            assert printed.keys() - {"..."} <= answer.keys() if "..." in printed else printed.keys() == answer.keys()
            for name in printed.keys() - {"..."}:
                assert_as_printed(printed[name], answer[name])
        case list():
            assert len(printed) == len(answer)
            for shown, item in zip(printed, answer, strict=True):
                assert_as_printed(shown, item)
        case float():
            assert answer == pytest.approx(printed, rel=1e-3, abs=1e-5)
        case str() if printed.endswith("..."):
            assert isinstance(answer, str)
            assert len(answer) > len(printed)
        case _:
            assert printed == answer


@pytest.mark.parametrize(("page", "least"), [("README.md", 4), ("docs/api.md", 7)])
def test_the_curl_commands_give_the_answers_that_are_printed(page: str, least: int, committed: Path) -> None:
    """They are what a new user tries first."""
    asked = re.findall(r"^```sh\n((?:(?!^```).)+)^```\n\n```json\n(.+?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    assert len(asked) >= least
    assert len(asked) == PAGES[page].count("```json")
    with serve(committed, "--device", "cpu") as server:
        for command, printed in asked:
            line = command.replace("http://127.0.0.1:8000", server.url)
            answer = subprocess.check_output(["sh", "-c", line], text=True)
            assert_as_printed(json.loads(re.sub(r"\.\.\.(?=\s*})", '"...": 0', printed)), json.loads(answer))


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_the_python_examples_print_what_is_printed(page: str, committed: Path) -> None:
    """A stream is followed; the bias of a device at rest is found and removed."""
    code, printed = (blocks(PAGES[page], language)[0] for language in ("python", "text"))
    with serve(committed, "--device", "cpu") as server:
        line = [sys.executable, "-c", code.replace("127.0.0.1:8000", server.url.removeprefix("http://"))]
        shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    numbers = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
    assert numbers.sub("", shown) == numbers.sub("", printed)
    np.testing.assert_allclose([float(n) for n in numbers.findall(shown)], [float(n) for n in numbers.findall(printed)], atol=1e-3)


def test_the_example_of_the_open_inference_protocol_works_as_printed() -> None:
    """It uses the official client, as a user would install it."""
    *_, code = blocks(API, "python")
    with serve(ROOT / "model") as server:
        names: dict[str, Any] = {}
        exec(code.replace("127.0.0.1:8000", server.url.removeprefix("http://")), names)
    assert names["rates"].shape == (2, 500, 3)
    np.testing.assert_allclose(names["rates"][:, -1], names["steps"][:, -1, :3], atol=0.5)


def test_the_sensor_example_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    """The server is killed in the middle and started again: the answers equal those for the whole signal in one call."""
    _, code, _ = blocks(API, "python")
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
    """A deleted stream does not come back, and the example must not silently begin a new one."""
    _, code, _ = blocks(API, "python")
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


def test_the_model_that_is_brought_along_is_taken_for_what_is_printed(tmp_path: Path) -> None:
    """PyTorch's export, and what scripts.adopt reports of it, line by line."""
    (code,) = blocks(ADOPT, "python")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    line = [sys.executable, "-m", "scripts.adopt", "net.onnx", "--name", "net"]
    ran = subprocess.run(
        line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    for page in (ADOPT, README):
        *_, printed = blocks(page, "text")
        for shown in printed.splitlines():
            assert shown == "..." or shown.startswith("Serve it") or shown in ran.stdout.splitlines(), shown


def code_of(page: str) -> list[str]:
    """The page's shell lines, and its spans in backticks."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", page))]


def test_the_commands_of_make_are_those_that_are_named() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {target for page in PAGES.values() for code in code_of(page) for target in re.findall(r"\bmake ([\w-]+)", code)}
    assert {"serve", "train", "test", "check", "bench", "bench-gpu"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@cache
def flags_of(program: str) -> set[str]:
    """The flags that --help lists. Scripts run in this process, so that PyTorch is loaded only once."""
    shown = io.StringIO()
    if program == "app":
        shown.write(subprocess.check_output([sys.executable, "-m", "app", "--help"], cwd=ROOT, text=True))
    else:
        module = importlib.import_module(program)
        if not hasattr(module, "main"):
            module = importlib.import_module(f"{program}.__main__")
        with redirect_stdout(shown), pytest.raises(SystemExit):
            module.main(["--help"])
    return {flag for line in shown.getvalue().splitlines() if line.lstrip().startswith("-") for flag in FLAG.findall(line)}


def commands_of(code: str) -> list[tuple[str, str]]:
    """The program of each command, and its arguments, also those passed through make."""
    found = re.findall(r"\bpython -m (app|scripts\.[\w.]+\w)\b([^&|;#]*)", code)
    makefile = (ROOT / "Makefile").read_text()
    for target, passed in re.findall(r"\bmake ([\w-]+) ARGS=(\".*?\"|\S+)", code):
        if run := re.search(rf"^{target}:.*\n\t@.*python -m (scripts[\w.]+|app) \$\(ARGS\)", makefile, re.MULTILINE):
            found.append((run[1], passed))
    return found


def test_the_flags_that_are_named_exist() -> None:
    """In a command, they are flags of its program; alone, of the page's program or of one that its section names."""
    for page, text in PAGES.items():
        for section in re.split(r"^## ", text, flags=re.MULTILINE):
            code = code_of(section)
            programs = {OWN.get(page, "app"), *re.findall(r"\bscripts\.(?:tables\.)?\w+", " ".join(code))}
            for program, passed in (command for line in code for command in commands_of(line)):
                assert {*FLAG.findall(passed)} <= flags_of(program), (page, program, passed)
            for line in code:
                if line.startswith("--"):
                    assert {*FLAG.findall(line)} <= {flag for program in programs for flag in flags_of(program)}, (page, line)


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to its headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE):
        anchor = re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return set(found)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Within the repository: to a file, a folder or a heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", PAGES[page])):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page", [page for page in PAGES if "docs/" in page])
def test_every_page_is_linked(page: str) -> None:
    """The README links to it, because readers start there."""
    assert f"]({page})" in README


@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_too_long(page: str) -> None:
    """Except rows of tables, and the output of programs."""
    assert [line for line in FENCE.sub("", PAGES[page]).splitlines() if len(line) > 132 and not line.startswith("|")] == []
