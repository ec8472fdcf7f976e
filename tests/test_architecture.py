"""The floors of the architecture, as data: which module may import which, and how long a file may be."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Imports go strictly down; modules on one floor do not import each other. A package in this list stands for all of its modules;
# http, processes and streaming are listed module by module.
FLOORS = [
    {"watched"},
    {"errors", "logs", "traces", "cost", "counted", "observed", "loop_time", "cpus", "gpu", "disk", "probe", "orders"}
    | {"keys", "rates", "certificates", "http.heads", "http.frames", "http.ahead", "http.extensions"}
    | {"processes.sockets", "processes.starts", "processes.fleet"},
    {"manifest", "runtime", "settings", "metrics", "stores", "http.arrivals", "streaming.turns"}
    | {"processes.worker", "processes.folders", "processes.metric_files"},
    {"tensors", "configuration", "http.transport"},
    {"runner"},
    {"chunked"},
    {"engine", "golden", "queue", "repository", "streaming.streams", "streaming.tokens"},
    {"experience", "streaming.data_folder"},
    {"batcher", "codecs", "streaming.bookmark", "streaming.keeper"},
    {"lifecycle"},
    {"catalog"},
    {"service", "streaming.pins"},
    {"operations", "streaming.service"},
    {"api"},
    {"http.terms"},
    {"main", "processes.supervisor", "http.websocket", "http.wire"},
    {"http.calls"},
    {"http.parsing"},
    {"http.connection"},
    {"http.server"},
    {"__main__"},
]
# Modules of the service that scripts may import: those that define the artifact and run it, none that serve.
FOR_SCRIPTS = {"cpus", "errors", "manifest", "tensors", "runtime", "runner", "engine", "golden"}
# Servers that the service is measured beside.
RIVALS = {"scripts.bench.afternoon", "scripts.bench.bare"}
# Scripts that measure a part of the service from within, in a separate process.
WITHIN = {"scripts.bench.expiry"}
# In a package that stands in FLOORS as a whole, the modules that their siblings may import.
SHARED_IN_PACKAGE = {
    "app.stores",
    "app.stores.files",
    "app.stores.lua",
    "app.stores.pipeline",
    "app.api.answered",
    "app.api.schemas",
    "app.api.responses",
    "app.api.bodies",
    "app.api.caller",
    "app.api.chunks",
    "app.api.many_chunks",
    "app.api.streams",
    "app.api.request_id",
    "app.api.direct",
    "app.api.guard",
    "app.api.origins",
    "app.api.problems",
    "app.api.queries",
    "app.api.violations",
    "app.api.model_schemas",
    "app.api.many_schemas",
    "app.api.v2_schemas",
    "app.codecs.entries",
    "app.codecs.request",
    "app.codecs.pieces",
    "app.codecs.plain",
    "app.codecs.members",
    "app.codecs.tensor_data",
    "app.codecs.tensor_rows",
}
ONLY_IN = {
    "fastapi": {"api", "main"},
    "starlette": {"api", "main", "http.server", "http.terms"},
    "fastapi_offline": {"main", "__main__"},
    "uvicorn": {"http.server", "http.connection", "http.calls", "http.transport", "http.websocket", "http.wire"},
    "lmdb": {"stores"},
    "redis": {"stores"},
    "onnxruntime": {"runtime"},
    "prometheus_client": {"metrics", "observed", "processes.metric_files", "__main__"},
    "opentelemetry": {"traces"},
    "torch": set(),
}
CAPS = {"app": 250, "scripts": 200}


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


APP, SCRIPTS = modules("app"), modules("scripts")


def imports(path: Path, known: dict[str, Path], *, at_once: bool = False) -> Iterator[str]:
    """Every module that a file imports, as exactly as possible: `from app import x` yields app.x if that is a module.

    `at_once`: without the imports inside functions.
    """
    tree = ast.parse(path.read_text())
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else str(node.module)


def place(module: str) -> str:
    """The name under which a module stands in FLOORS: its own, or that of its package."""
    parts = module.split(".")[1:]
    return ".".join(parts) if any(".".join(parts) in names for names in FLOORS) else parts[0]


def floor(module: str) -> int:
    return next(level for level, names in enumerate(FLOORS) if place(module) in names)


@pytest.mark.parametrize("module", [name for name in APP if name != "app"])
def test_imports_in_the_service_go_strictly_down(module: str) -> None:
    """A module that imports upwards or sideways couples two things that should be separate."""
    for target in imports(APP[module], APP):
        if target.split(".")[0] != "app" or target == "app":
            continue
        if target in SHARED_IN_PACKAGE and place(target) == place(module):
            continue
        assert floor(target) < floor(module), f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)})"


@pytest.mark.parametrize("module", list(APP))
def test_each_library_is_known_in_its_own_place_only(module: str) -> None:
    """The service must not need torch, and its core must not know about HTTP."""
    for target in imports(APP[module], APP):
        library = target.split(".")[0]
        if library in ONLY_IN:
            assert place(module) in ONLY_IN[library], f"{module} imports {library}"
        assert library != "scripts", f"{module} imports {target}"


@pytest.mark.parametrize("module", list(SCRIPTS))
def test_scripts_use_the_artifact_and_the_engine_only(module: str) -> None:
    """The trainer runs where FastAPI is not installed."""
    for target in imports(SCRIPTS[module], APP | SCRIPTS):
        library = target.split(".")[0]
        assert module in RIVALS or library not in {"fastapi", "starlette", "uvicorn"}, f"{module} imports {library}"
        if library == "app" and target != "app" and module not in WITHIN:
            assert place(target) in FOR_SCRIPTS, f"{module} imports {target}"


def test_scripts_have_no_import_cycle() -> None:
    """Without cycles, the files of training can be read in one order."""
    edges = {name: {t for t in imports(path, SCRIPTS) if t in SCRIPTS} for name, path in SCRIPTS.items()}
    while leaves := {name for name, targets in edges.items() if not targets & (edges.keys() - {"scripts", "scripts.training"})}:
        edges = {name: targets for name, targets in edges.items() if name not in leaves}
    assert not edges, f"in a cycle or above one: {sorted(edges)}"


@pytest.mark.parametrize("command", ["train", "export", "runs", "tune", "evaluate", "verify", "adopt"])
def test_a_command_for_data_of_ones_own_does_not_wait_for_scipy(command: str) -> None:
    """SciPy takes a second to import, and only the simulated gyroscope needs it."""
    met, ahead = set(), {f"scripts.{command}"}
    while ahead:
        module = ahead.pop()
        met.add(module)
        if module in SCRIPTS:
            ahead |= {*imports(SCRIPTS[module], SCRIPTS, at_once=True)} - met
    assert not [module for module in met if module.split(".")[0] in {"scipy", "allantools"}]


@pytest.mark.parametrize("path", [*APP.values(), *SCRIPTS.values()], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_outgrows_its_cap(path: Path) -> None:
    """A file that is too long holds two concepts, and should be split."""
    cap = CAPS[path.relative_to(ROOT).parts[0]]
    assert len(path.read_text().splitlines()) <= cap


@pytest.mark.parametrize("path", [*APP.values(), *SCRIPTS.values()], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_owns(path: Path) -> None:
    """A reader of a file wants to know this first."""
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_every_suppression_gives_its_reason() -> None:
    """A check that is switched off without a reason stays off."""
    bare = re.compile(r"# (type: ignore(\[[^]]*\])?|noqa(: ?[A-Z0-9, ]+)?)\s*$")
    for path in [*APP.values(), *SCRIPTS.values(), *sorted((ROOT / "tests").glob("*.py"))]:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not bare.search(line), f"{path}:{number} suppresses a check without a reason"
