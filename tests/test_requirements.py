"""The requirements: each imported package is named, pinned to one version, and compatible with the others."""

import ast
import sys
from collections import defaultdict
from importlib.metadata import packages_distributions, requires
from inspect import getsource
from pathlib import Path
from textwrap import dedent

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.http.calls import Calls, Cycle
from app.http.server import Server
from app.http.transport import Flow
from app.http.websocket import WebSocket
from tests.test_architecture import APP, ROOT, SCRIPTS, imports

FOLDER = ROOT / "requirements"
SERVICE, TRAINER = {"base.in", "service.in"}, {"base.in", "service.in", "train.in", "torch-pins.in"}
APART = {"service-cuda.txt", "torch-pins.txt"}  # one for an image, one for training: their CUDA libraries may differ
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))


def required(name: str) -> list[Requirement]:
    """The requirements in a file, without those in the files that it includes."""
    lines = (line.partition(" #")[0].strip() for line in (FOLDER / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


@pytest.mark.parametrize(("modules", "files"), [(APP, SERVICE), (SCRIPTS, TRAINER)], ids=["app", "scripts"])
def test_what_is_imported_is_named(modules: dict[str, Path], files: set[str]) -> None:
    """A package that is installed only as another's dependency is gone when that one stops needing it."""
    named = {canonicalize_name(each.name) for file in files for each in required(file)}
    known = packages_distributions()
    for module, path in modules.items():
        for library in {target.split(".")[0] for target in imports(path, modules)} - sys.stdlib_module_names - {"app", "scripts"}:
            assert named & set(map(canonicalize_name, known[library])), f"{module} imports {library}, which {files} do not name"


@pytest.mark.parametrize("python", ["3.11.2", "3.11.9", "3.12.4", "3.13.0", "3.14.0"])
@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: "-".join(platform[1:]))
def test_a_package_is_pinned_to_one_version_in_all_files(platform: tuple[str, str, str], python: str) -> None:
    """Otherwise pip could not install two files together, as users do with the extras."""
    place = dict(zip(("sys_platform", "platform_system", "platform_machine"), platform, strict=True))
    python_version = python.rpartition(".")[0]
    environment = place | {"python_full_version": python, "python_version": python_version}
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    for path in FOLDER.glob("*.txt"):
        for each in required(path.name):
            if each.specifier and (each.marker is None or each.marker.evaluate(environment)):
                versions[each.name][path.name] = str(each.specifier)
    differing = {name: found for name, found in versions.items() if len(set(found.values())) > 1 and not set(found) <= APART}
    assert not differing
    assert all(pin.startswith("==") for found in versions.values() for pin in found.values())


def test_all_that_torch_needs_is_pinned() -> None:
    """So a training environment can be reproduced; which of these packages are needed depends on the build of torch."""
    pinned = {each.name for each in required("torch-pins.txt")}
    needed = [Requirement(text) for text in requires("torch") or ()]
    assert {canonicalize_name(each.name) for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})} <= pinned
    assert FOLDER.joinpath("torch.txt").read_text().splitlines()[1:] == ["-c torch-pins.txt", "torch"]


def of(name: str, kind: type) -> set[str]:
    """The attributes that a class uses of the variable `name`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(dedent(getsource(kind))))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name
    }


@pytest.mark.parametrize(
    ("ours", "name", "theirs", "new"),
    [
        (WebSocket, "self", WebSocketsSansIOProtocol, set()),
        (Calls, "cycle", RequestResponseCycle, {"end_unasked"}),
        (Cycle, "self", RequestResponseCycle, {"end_unasked"}),
        (Flow, "self", FlowControl, {"held", "hold", "let_go"}),
        (Server, "self", uvicorn.Server, set()),
    ],
    ids=["WebSocket", "a call", "a request", "flow", "server"],
)
def test_what_is_used_of_uvicorn_is_there(ours: type, name: str, theirs: type, new: set[str]) -> None:
    """uvicorn may rename it without notice: an override would then never be called, and a value that is set have no effect."""
    used = of(name, ours) | ({*vars(ours)} if issubclass(ours, theirs) else set())
    assert {each for each in used if not each.startswith("_")} - new <= of("self", theirs) | {*dir(theirs)}
