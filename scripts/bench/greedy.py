"""Visits by slow, greedy and impatient clients: requests in pieces, at the limits, a little above them, or abandoned.

Owns these visits and their right answers; they end as those of visits.py do.
"""

import gzip
from collections.abc import Callable
from itertools import pairwise

from scripts.bench.peer import PAUSE, request
from scripts.bench.truth import LONGEST, SIGNALS, Part
from scripts.bench.visits import JSON, OCTETS, Client, check, check_predictions, deserved, predict_body

MOST_INSTANCES, MOST_BYTES = 1024, 32 * 2**20  # the service's default limits


async def trickle(client: Client) -> None:
    """Send a good request in pieces, its end byte by byte; it is answered like any other."""
    parts = client.parts()
    whole = request("POST", "/predict", predict_body(client.truth, parts), **JSON)
    ends = [0, *sorted(client.random.randrange(len(whole) - 8) for _ in range(20)), *range(len(whole) - 8, len(whole) + 1)]
    pieces = [whole[begin:end] for begin, end in pairwise(ends)]
    check_predictions(client.truth, parts, await client.peer.send(pieces, pause=PAUSE))


async def read_slowly(client: Client) -> None:
    part = Part(SIGNALS, 0, LONGEST)
    reply = await client.peer.send([request("POST", "/predict", client.truth.octets(part), **OCTETS)], slow_reader=True)
    check(client.truth.are_right_octets(part, deserved(reply).body))


async def huge(client: Client) -> None:
    """Send a request at one of the limits: steps, instances, or bytes."""
    one = Part(client.random.randrange(SIGNALS), 0, 1)
    text = predict_body(client.truth, [one])
    kind = client.random.randrange(3)
    parts = (
        [Part(SIGNALS, 0, LONGEST)],
        [client.part() for _ in range(MOST_INSTANCES // 8)] + [one] * (MOST_INSTANCES * 7 // 8),
        [one],
    )
    body = text + b" " * (MOST_BYTES - len(text)) if kind == 2 else predict_body(client.truth, parts[kind])
    check_predictions(client.truth, parts[kind], await client.peer.ask("POST", "/predict", body, **JSON))


async def too_large(client: Client) -> None:
    """Send a request a little above one of the limits."""
    one = client.truth.text(Part(0, 0, 1))
    cases: list[Callable[[], tuple[bytes, dict[str, str]]]] = [
        lambda: (b'{"instances": [' + b",".join([one] * (MOST_INSTANCES + 1)) + b"]}", JSON),
        lambda: (client.truth.octets(Part(SIGNALS, 0, LONGEST)) + client.truth.octets(Part(0, 0, 1)), OCTETS),
        lambda: (b" " * (MOST_BYTES + 1), JSON),
        lambda: (gzip.compress(bytes(MOST_BYTES + 1), 1), {**JSON, "content_encoding": "gzip"}),
    ]
    body, headers = client.random.choice(cases)()
    deserved(await client.peer.ask("POST", "/predict", body, **headers), 413)


async def leave(client: Client) -> None:
    """Hang up in the middle of the request, or before the answer."""
    whole = request("POST", "/predict", predict_body(client.truth, client.parts()), **JSON)
    await client.peer.drop(whole[: client.random.choice((len(whole), client.random.randrange(1, len(whole))))])
