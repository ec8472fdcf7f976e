"""The scenarios: how many clients send which requests to which server.

Owns the names of the scenarios and the requests. Knows nothing of how they are sent or what the answers cost.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from scripts.bench.servers import JSON

STEPS = 128  # of a sequence, by default
LONGEST = 512
DEADLINE = 0.25  # seconds
STATE = b"the state token"  # a placeholder: the token is known once a server runs

OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}

PLAIN = "plain service: one sequence, 64 callers"
ONE = "one sequence, 1 caller"
CAPACITY = "one sequence, 64 callers"
MANY = "32 sequences a request, 4 callers"
MIXED = f"one sequence of 1 to {LONGEST} steps, 64 callers"
STEP_1, STEP_64 = "one step with its state, 1 caller", "one step with its state, 64 callers"
EMBEDDED, MEMORY = "streams: 200 sockets, embedded store, 1 process", "streams: 200 sockets, memory store, 1 process"
BARE_1, BARE_64 = "bare route: the same, 1 caller", "bare route: the same, 64 callers"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A closed loop: each of the clients (`callers`) sends the next body as soon as it is answered."""

    name: str
    callers: int
    bodies: Sequence[bytes]
    sequences: float | None = 1.0  # in a request, in units of STEPS steps; None: the model is not what is measured
    instances: int = 1  # in a request
    server: Literal["plain", "service", "bare"] = "service"
    headers: Mapping[str, str] = field(default_factory=JSON.copy)

    @property
    def bounded(self) -> bool:
        """Whether the bare route is measured with the same bodies, to report the cost of HTTP alone."""
        return self.server == "service" and self.sequences is not None

    @property
    def stateful(self) -> bool:
        return any(STATE in body for body in self.bodies)

    def carrying(self, token: str) -> "Scenario":
        """The scenario with a server's state token in place of the placeholder."""
        return replace(self, bodies=[body.replace(STATE, token.encode()) for body in self.bodies])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """An open loop: requests are sent at a share of the rate that a closed loop reached, whatever becomes of them."""

    name: str
    capacity: str  # the name of the closed loop
    share: float
    body: bytes
    deadline: float = DEADLINE


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams with one client each, which sends `steps` steps per message, over a WebSocket or over HTTP."""

    name: str
    callers: int
    body: bytes
    steps: int = 1
    loop: Literal["search", "closed"] = "closed"  # search: find the highest rate of an open loop that is held
    over: Literal["sockets", "http"] = "sockets"
    flags: Sequence[str] = ()  # for the service


@dataclass(frozen=True, slots=True)
class Expiry:
    """Abandoned streams, which expire all at once."""

    name: str
    store: Literal["embedded", "memory"]
    streams: int = 100_000


def closed_loops(features: int) -> list[Scenario]:
    one = [body(features, STEPS)]
    rng = np.random.default_rng(6)
    lengths = np.exp(rng.uniform(0, np.log(LONGEST), 256)).astype(int).tolist()
    mixed = [body(features, length) for length in lengths]
    octets = [np.zeros((STEPS, features), dtype="<f4").tobytes()]
    step = [json.dumps({"instances": [_instance(features, STATE.decode())], "return_state": True}).encode()]
    return [
        Scenario(PLAIN, 64, one, server="plain"),
        Scenario(ONE, 1, one),
        Scenario("one sequence, 16 callers", 16, one),
        Scenario(CAPACITY, 64, one),
        Scenario(MANY, 4, [body(features, *[STEPS] * 32)], sequences=32.0, instances=32),
        Scenario("one sequence as octets, 64 callers", 64, octets, headers=OCTETS),
        Scenario("one sequence, last step only, 64 callers", 64, [body(features, STEPS, return_sequences=False)]),
        Scenario(MIXED, 64, mixed, sequences=float(np.mean(lengths)) / STEPS),
        Scenario(STEP_1, 1, step, sequences=None),
        Scenario(STEP_64, 64, step, sequences=None),
        Scenario(BARE_1, 1, step, sequences=None, server="bare"),
        Scenario(BARE_64, 64, step, sequences=None, server="bare"),
    ]


def open_loops(features: int) -> list[Arrivals]:
    options = {"timeout_ms": round(1e3 * DEADLINE)}
    return [
        Arrivals(f"{what}, arrivals at {share:g} of capacity", capacity, share, body(features, *[STEPS] * size, **options))
        for what, capacity, size in (("one sequence", CAPACITY, 1), ("32 sequences", MANY, 32))
        for share in (0.5, 0.9, 3.0)
    ]


def streams(features: int) -> list[Streams]:
    one, ten = (np.zeros((steps, features), dtype="<f4").tobytes() for steps in (1, 10))
    alone = ("--workers", "1", "--lanes", "1", "--stream-store")  # as each of several workers has it
    return [
        Streams("streams: 200 sockets by a schedule, 1 step a message", 200, one, loop="search"),
        Streams("streams: 200 sockets by a schedule, 10 steps a message", 200, ten, steps=10, loop="search"),
        Streams("streams: 64 callers over HTTP", 64, one, over="http"),
        Streams(EMBEDDED, 200, one, flags=(*alone, "embedded")),
        Streams(MEMORY, 200, one, flags=(*alone, "memory")),
    ]


def expiries() -> list[Expiry]:
    return [Expiry("streams: all expire, embedded store", "embedded"), Expiry("streams: all expire, memory store", "memory")]


def body(features: int, *lengths: int, **options: Any) -> bytes:
    """A JSON request with instances of these lengths."""
    rng = np.random.default_rng(len(lengths))
    instances = [(50 * rng.standard_normal((length, features))).round(3).tolist() for length in lengths]
    return json.dumps({"instances": instances, **options}).encode()


def _instance(features: int, token: str) -> dict[str, Any]:
    step = (50 * np.random.default_rng(5).standard_normal((1, features))).round(3).tolist()
    return {"input": step, "state": token}
