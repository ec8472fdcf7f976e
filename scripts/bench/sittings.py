"""Visits by clients of streams: they begin, continue, repeat, fork, end or abandon them, one or many at a time, over HTTP and
WebSockets, or vanish.

Owns these visits and their right answers; they end as those of visits.py do.
"""

import asyncio
from contextlib import suppress

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from scripts.bench.peer import PATIENCE, NoAnswer
from scripts.bench.truth import SIGNALS, STEPS, Part
from scripts.bench.visits import JSON, OCTETS, Client, Refused, Wrong, check, deserved

CHUNKS, CHUNK = 8, 100  # chunks of a stream, and steps of a chunk, at most
FOLLOWED = 8  # streams with their chunks in one request, at most
AGAIN, FORKED, ENDED, VANISHED = 0.2, 0.2, 0.5, 0.3  # probabilities


def chunks(client: Client) -> list[Part]:
    """Consecutive chunks of one signal, from its beginning."""
    signal, end, parts = client.random.randrange(SIGNALS), 0, []
    for _ in range(client.random.randint(1, CHUNKS)):
        parts.append(Part(signal, end, end + client.random.randint(1, CHUNK)))
        end = parts[-1].end
    return parts


async def over_http(client: Client) -> None:
    created = deserved(await client.peer.ask("POST", "/streams"), 201).json()
    path, parts = f"/streams/{created['id']}", chunks(client)
    for seq, part in enumerate(parts):
        for _ in range(1 + (client.random.random() < AGAIN)):
            await _chunk(client, path, part, seq)
    if client.random.random() < FORKED:
        fork = deserved(await client.peer.ask("POST", f"{path}/fork"), 201).json()
        end = parts[-1].end
        for seq, part in enumerate((Part(parts[0].signal, end, end + 5), Part(parts[0].signal, end + 5, min(end + 50, STEPS)))):
            await _chunk(client, f"/streams/{fork['id']}", part, seq)
        stands = deserved(await client.peer.ask("GET", path)).json()
        check((stands["seq"], stands["steps"]) == (len(parts), end))
    if client.random.random() < ENDED:
        deserved(await client.peer.ask("DELETE", path), 204)
        deserved(await client.peer.ask("GET", path), 404)


async def many_at_once(client: Client) -> None:
    """Continue several streams with each request, which sometimes holds an invalid chunk too, or comes twice."""
    random = client.random
    followed = {}
    for _ in range(random.randint(2, FOLLOWED)):
        followed[deserved(await client.peer.ask("POST", "/streams"), 201).json()["id"]] = chunks(client)
    for seq in range(CHUNKS):
        due = [(id, parts[seq]) for id, parts in followed.items() if seq < len(parts)]
        if not due:
            break
        given = [b'{"id": "%b", "input": %b, "seq": %d}' % (id.encode(), client.truth.text(part), seq) for id, part in due]
        given += [b'{"id": "%b", "input": [[]]}' % due[0][0].encode()] if random.random() < AGAIN else []
        for _ in range(1 + (random.random() < AGAIN)):
            body = b'{"chunks": [%b]}' % b",".join(given)
            results = deserved(await client.peer.ask("POST", "/streams/predict", body, **JSON)).json()["results"]
            statuses = [told.get("error", {"status": 200})["status"] for told in results]
            if 503 in statuses:
                raise Refused
            if statuses != [200] * len(due) + [422] * (len(given) - len(due)):
                raise Wrong(f"{statuses} for {len(due)} chunks and {len(given) - len(due)} invalid ones")
            for (_, part), told in zip(due, results, strict=False):
                check(told["seq"] == seq + 1 and client.truth.is_right(part, told["predictions"]))
    for id in followed:
        if random.random() < ENDED:
            deserved(await client.peer.ask("DELETE", f"/streams/{id}"), 204)


async def _chunk(client: Client, path: str, part: Part, seq: int) -> None:
    truth = client.truth
    if client.random.random() < 0.5:
        reply = await client.peer.ask("POST", f"{path}/predict?seq={seq}", truth.octets(part), **OCTETS)
        check(truth.are_right_octets(part, deserved(reply).body))
    else:
        body = b'{"input": %b, "seq": %d}' % (truth.text(part), seq)
        told = deserved(await client.peer.ask("POST", f"{path}/predict", body, **JSON)).json()
        check(told["seq"] == seq + 1 and truth.is_right(part, told["predictions"]))


async def over_websocket(client: Client) -> None:
    """Send all chunks at once; some clients vanish before they read the answers, some send an invalid chunk at the end."""
    parts, random = chunks(client), client.random
    vanishes = random.random() < VANISHED
    try:
        async with asyncio.timeout(PATIENCE):
            address = f"ws://127.0.0.1:{client.port}/streams/ws"
            connection = await connect(address, compression=None, max_size=None, open_timeout=PATIENCE)
            try:
                await _converse(client, connection, parts, vanishes=vanishes)
                if not vanishes and random.random() < AGAIN:
                    await connection.send(random.choice(('{"input": [[', "[]", b"\0" * 5, '{"input": [], "seq": -1}')))
                    told = orjson.loads(await connection.recv())
                    if told.get("status") not in (400, 422):
                        raise Wrong(f"{told.get('status')} for what is no chunk")
            finally:
                with suppress(OSError):
                    connection.transport.abort() if random.random() < 0.5 else await connection.close()
    except (OSError, WebSocketException, TimeoutError) as error:
        raise NoAnswer(type(error).__name__) from None


async def _converse(client: Client, connection: ClientConnection, parts: list[Part], *, vanishes: bool) -> None:
    truth = client.truth
    kinds = [client.random.random() < 0.5 for _ in parts]
    for part, binary in zip(parts, kinds, strict=True):
        await connection.send(truth.octets(part) if binary else (b'{"input": %b}' % truth.text(part)).decode())
    if vanishes:
        connection.transport.abort()
        return
    for part, binary in zip(parts, kinds, strict=True):
        message = await connection.recv()
        if binary and isinstance(message, bytes):
            check(truth.are_right_octets(part, message))
            continue
        told = orjson.loads(message)
        if "predictions" not in told:
            raise Refused if told.get("status") == 503 else Wrong(f"{told.get('status')} instead of an answer")
        check(truth.is_right(part, told["predictions"]))
