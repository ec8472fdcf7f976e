"""Random requests for all that the API descriptions promise: ours, of every route, and the Open Inference Protocol's public one.

Whatever is sent, the service does not fail, and answers only as described.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.main import create_app
from tests.servers import Server, serve
from tests.test_traces import settings_for

KEY = "tests-only-secret-of-an-administrator"
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
PUBLIC = Path(__file__).parent / "open_inference_rest.json"
REAL = {"model": "gyro-denoiser", "version": "1", "id": "asked-at-random"}  # what exists; other values lead to nothing
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
HEADER_LENGTH = "Inference-Header-Content-Length"
EXAMPLES = 12  # for each operation in each mode
PATIENCE = 60.0  # seconds; the clients' defaults of 5 and 10 are too short on a busy machine


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with serve(repository, "--workers", "1", RECURVE_API_KEYS=f"tests:admin:{KEY}") as running:
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


@cache
def ours(url: str) -> Any:
    return schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json", timeout=PATIENCE).json())


@cache
def public() -> Any:
    return schemathesis.openapi.from_dict(json.loads(PUBLIC.read_text()))


def ask(schema: Any, server: Server, session: requests.Session, mode: GenerationMode) -> int:
    """Send random requests to every operation. Returns how many operations allow this mode: some accept any request."""
    asked = 0
    for operation in (each.ok() for each in schema.get_all_operations()):

        @settings(
            database=None,
            max_examples=EXAMPLES,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode), st.booleans())
        def call(case: Any, real: bool) -> None:
            if real and not case.path.endswith(("/unload", "/streams/{id}")):  # these would remove what later requests need
                case.path_parameters = {name: REAL.get(name, value) for name, value in (case.path_parameters or {}).items()}
                case.headers.pop(HEADER_LENGTH, None)  # a random length never fits the body
            answer = case.call(base_url=server.url, headers=AUTHORIZATION, session=session, timeout=PATIENCE)
            case.validate_response(answer, checks=CHECKS)

        session.post(f"{server.url}/streams", json={"id": REAL["id"]}, headers=AUTHORIZATION, timeout=PATIENCE)
        try:
            call()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE
        else:
            asked += 1
    return asked


@pytest.mark.parametrize(
    ("mode", "least"),
    [(GenerationMode.POSITIVE, 25), (GenerationMode.NEGATIVE, 10)],
    ids=["as described", "not as described"],
)
def test_our_own_description_is_kept(server: Server, session: requests.Session, mode: GenerationMode, least: int) -> None:
    """For every route: no failure, and no status, type or member that is not described."""
    assert ask(ours(server.url), server, session, mode) >= least


def test_the_public_description_of_the_protocol_is_kept(server: Server, session: requests.Session) -> None:
    """A client that was written for the public description, and knows nothing of ours, gets what it says."""
    assert ask(public(), server, session, GenerationMode.POSITIVE) == 6
    assert ask(public(), server, session, GenerationMode.NEGATIVE) >= 1


def test_every_example_is_answered(server: Server) -> None:
    """A user who copies an example from the documentation must see it work."""
    answered = set()
    with httpx.Client(base_url=server.url, headers=AUTHORIZATION, timeout=PATIENCE) as http:
        description = http.get("/openapi.json").json()
        for id in http.get("/streams").json()["ids"]:  # the random requests may have left others
            http.delete(f"/streams/{id}")
        http.post("/streams", json={"id": REAL["id"]}).raise_for_status()
        for path, operations in description["paths"].items():
            content = operations.get("post", {}).get("requestBody", {}).get("content", {})
            name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            for example in description["components"]["schemas"].get(name, {}).get("examples", ()):
                answer = http.post(path.format(**REAL), json=example)
                assert answer.is_success, (path, answer.text)
                answered.add(path)
    assert {"/predict", "/streams", "/v2/models/{model}/infer", "/v2/repository/models/{model}/load"} <= answered


def test_the_description_is_made_when_it_is_first_asked_for_and_once(repository: Path) -> None:
    """Otherwise each worker would spend a twentieth of a second on it at each start."""
    app = create_app(settings_for(repository))
    assert app.openapi_schema is None
    assert app.openapi() is app.openapi()
