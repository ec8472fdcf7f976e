"""Visits of one or a few requests: good ones in every format, and broken ones.

Owns these visits, their right answers, and the client that makes them. Knows nothing of streams, nor of how often each is made.
A visit returns if all was right; it raises Refused if the service had no room and said so, and Wrong or NoAnswer otherwise.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import orjson

from scripts.bench.peer import Peer, Reply
from scripts.bench.truth import SIGNALS, STEPS, Part, Truth

MOST = 16  # instances of an ordinary request
JSON = {"content_type": "application/json"}
OCTETS = {"content_type": "application/octet-stream", "accept": "application/octet-stream"}
DEEP = 10**5


class Refused(Exception):
    """The service answered 503 with Retry-After."""


class Wrong(Exception):
    """An answer that is not the right one for its request; the text says how."""


@dataclass(slots=True)
class Client:
    """A simulated client, with its own connection and random choices."""

    port: int
    truth: Truth
    random: Random
    peer: Peer = field(init=False)

    def __post_init__(self) -> None:
        self.peer = Peer(self.port)

    def part(self, begin: int = 0, signal: int | None = None) -> Part:
        """Steps of a signal from `begin` on, most often few of them."""
        length = round(float(STEPS - begin) ** self.random.random())
        return Part(self.random.randrange(SIGNALS) if signal is None else signal, begin, begin + max(1, length))

    def parts(self) -> list[Part]:
        return [self.part() for _ in range(round(MOST ** self.random.random()))]


def deserved(reply: Reply, status: int = 200) -> Reply:
    """The answer, if it has this status; raises Refused or Wrong otherwise."""
    if reply.status == 503:
        raise Refused if reply.headers.get("retry-after", "").isdigit() else Wrong("503 without Retry-After")
    if reply.status != status:
        raise Wrong(f"{reply.status} instead of {status}")
    return reply


def check(right: bool) -> None:
    if not right:
        raise Wrong("other numbers than the engine's")


def predict_body(truth: Truth, parts: list[Part], **options: Any) -> bytes:
    texts = b",".join(map(truth.text, parts))
    more = orjson.dumps(options)[1:-1]
    return b'{"instances": [' + texts + b"]" + (b", " + more if more else b"") + b"}"


def check_predictions(truth: Truth, parts: list[Part], reply: Reply) -> None:
    told = deserved(reply).json()["predictions"]
    check(len(told) == len(parts) and all(map(truth.is_right, parts, told)))


# -- good ones ---------------------------------------------------------------------------------------------------------


async def json(client: Client) -> None:
    parts = client.parts()
    check_predictions(client.truth, parts, await client.peer.ask("POST", "/predict", predict_body(client.truth, parts), **JSON))


async def octets(client: Client) -> None:
    part = client.part()
    reply = await client.peer.ask("POST", "/predict", client.truth.octets(part), **OCTETS)
    check(client.truth.are_right_octets(part, deserved(reply).body))


async def packed(client: Client) -> None:
    parts = client.parts()
    body = gzip.compress(predict_body(client.truth, parts), 1)
    reply = await client.peer.ask("POST", "/predict", body, **JSON, content_encoding="gzip", accept_encoding="gzip")
    if reply.headers.get("content-encoding") == "gzip":
        reply = Reply(reply.status, reply.headers, gzip.decompress(reply.body))
    check_predictions(client.truth, parts, reply)


async def token(client: Client) -> None:
    """Send a sequence in two requests, with the state kept by the client; then send a forged state."""
    truth, first = client.truth, Part(client.random.randrange(SIGNALS), 0, client.random.randrange(1, STEPS))
    rest = client.part(first.end, first.signal)
    reply = await client.peer.ask("POST", "/predict", predict_body(truth, [first], return_state=True), **JSON)
    check_predictions(truth, [first], reply)
    (state,) = reply.json()["states"]
    text = b'{"instances": [{"input": %b, "state": "%b"}]}'
    reply = await client.peer.ask("POST", "/predict", text % (truth.text(rest), state.encode()), **JSON)
    check_predictions(truth, [rest], reply)
    place = client.random.randrange(len(state) - 1)
    forged = state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :]
    deserved(await client.peer.ask("POST", "/predict", text % (truth.text(rest), forged.encode()), **JSON), 422)


async def v2(client: Client) -> None:
    """Send rows of one length by the Open Inference Protocol, in JSON or binary; the answer is in either."""
    spec, random = client.truth.spec, client.random
    parts = [client.part()]
    parts += [Part(random.randrange(SIGNALS), 0, len(parts[0])) for _ in range(random.randrange(4))]
    rows = np.stack([client.truth.signals[part.signal][: part.end] for part in parts])
    if spec.input.time_axis is None:
        parts, rows = [Part(each.signal, 0, 1) for each in parts], rows[:, 0]
    elif spec.input.batch_axis:
        rows = rows.swapaxes(0, 1)
    tensor: dict[str, Any] = {"name": spec.input.name, "shape": rows.shape, "datatype": "FP32"}
    binary = random.random() < 0.5
    bytes_too = rows.astype("<f4").tobytes() if binary else b""
    tensor |= {"parameters": {"binary_data_size": len(bytes_too)}} if binary else {"data": rows.ravel().tolist()}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": random.random() < 0.5}})
    more = {"inference_header_content_length": str(len(head))} if binary else {}
    path = f"/v2/models/{spec.name}/infer"
    reply = deserved(await client.peer.ask("POST", path, head + bytes_too, content_type="application/octet-stream", **more))
    length = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    at, outputs = length, []
    for output, told in zip(spec.outputs, orjson.loads(reply.body[:length])["outputs"], strict=True):
        size = told.get("parameters", {}).get("binary_data_size", 0)
        data = np.frombuffer(reply.body[at : at + size], "<f4") if size else np.array(told["data"])
        at += size
        axes = (output.batch_axis,) if output.time_axis is None else (output.batch_axis, output.time_axis)
        outputs.append(np.moveaxis(data.reshape(told["shape"]), axes, range(len(axes))).reshape(*rows_of(parts), *output.width))
    for row, part in enumerate(parts):
        check(client.truth.is_right(part, {each.name: array[row] for each, array in zip(spec.outputs, outputs, strict=True)}))


def rows_of(parts: list[Part]) -> tuple[int, int]:
    return len(parts), len(parts[0])


# -- broken ones -------------------------------------------------------------------------------------------------------


async def broken(client: Client) -> None:
    """Send one of many kinds of broken requests; each must be answered with the right status."""
    truth, parts = client.truth, client.parts()
    whole, alone = predict_body(truth, parts), truth.octets(parts[0])
    begun = whole[:-2]
    cases: list[Callable[[], tuple[str, bytes, dict[str, str], int]]] = [
        lambda: ("/predict", begun, JSON, 400),
        lambda: ("/predict", alone[:-1], OCTETS, 400),
        lambda: ("/predict", begun + b", [[]]]}", JSON, 422),
        lambda: ("/predict", begun + b'], "what": 1}', JSON, 422),
        lambda: ("/predict", begun + b", [[" + b", ".join([b"NaN"] * len(truth.spec.features)) + b"]]]}", JSON, 422),
        lambda: ("/predict", alone + np.full(len(truth.spec.features), np.inf, "<f4").tobytes(), OCTETS, 422),
        lambda: ("/predict", b"[" * DEEP, JSON, 400),
        lambda: ("/predict", whole, {"content_type": "text/plain"}, 415),
        lambda: ("/predict", whole, {**JSON, "content_encoding": "gzip"}, 400),
        lambda: ("/predict", begun + b'], "model": "nobody"}', JSON, 404),
        lambda: ("/streams/nobody/predict", b'{"input": ' + truth.text(parts[0]) + b"}", JSON, 404),
        lambda: (f"/v2/models/{truth.spec.name}/infer", b'{"inputs": [{"name": "\xff"}]}', JSON, 400),
        lambda: ("/nowhere", whole, JSON, 404),
    ]
    path, body, headers, status = client.random.choice(cases)()
    deserved(await client.peer.ask("POST", path, body, **headers), status)
