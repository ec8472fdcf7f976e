"""Measures how long the event loop is blocked while abandoned streams expire all at once, with the service's store and sweeper.

Owns the streams, a clock by which they have expired, and a heartbeat. Runs as its own process, as a worker does:
python -m scripts.bench.expiry VERSION_DIR embedded|memory STREAMS
"""

import asyncio
import gc
import json
import sys
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time

import uvloop

from app import manifest
from app.manifest import ModelSpec
from app.metrics import Metrics
from app.stores import Store
from app.stores.embedded import Embedded
from app.stores.memory import Memory
from app.streaming import streams
from app.streaming.keeper import Keeper
from app.streaming.streams import Stream, StreamLimits
from scripts import command

TTL, TIMEOUT = 600.0, 30.0  # seconds
AT_ONCE = 1000  # streams that are written concurrently


async def fill(store: Store, spec: ModelSpec, count: int) -> None:
    """Store `count` streams that have done one chunk of one step and were last used at time 0."""
    answer = bytes(streams.PREFIX + 4 * sum(prod(output.width) for output in spec.outputs))
    for begin in range(0, count, AT_ONCE):
        ready = [
            Stream(
                id=f"abandoned-{number}",
                model=spec.name,
                version=spec.version,
                ttl=TTL,
                created=0.0,
                used=0.0,
                tag=streams.new_tag(),
                seq=1,
                steps=1,
                state=bytes(4 * spec.state_size),
                answers=answer,
                sizes=(len(answer),),
            )
            for number in range(begin, min(begin + AT_ONCE, count))
        ]
        await asyncio.gather(*(store.swap(each.id, each.pack(), expected=None, until=TTL + TIMEOUT) for each in ready))


async def expire(store: Store, spec: ModelSpec, count: int) -> dict[str, float]:
    """The longest turn of the event loop until all streams are gone, in wall-clock and in processor time (which other
    processes do not lengthen), and the total time. Seconds."""
    await fill(store, spec, count)
    limits = StreamLimits(ttl=TTL, max_streams=count, timeout=TIMEOUT)
    keeper = Keeper(store, limits, Metrics().streams, clock=lambda: TTL + TIMEOUT + 1)
    longest = most = 0.0
    begin = last = perf_counter()
    spent = thread_time()
    sweep = asyncio.get_running_loop().create_task(keeper.sweep())
    while not sweep.done():
        await asyncio.sleep(0)
        now, used = perf_counter(), thread_time()
        longest, most = max(longest, now - last), max(most, used - spent)
        last, spent = now, used
    if keeper.alive != 0:
        raise RuntimeError(f"{keeper.alive} of {count} streams are left: {keeper.trouble}")
    await keeper.close()
    return {"longest_pause": longest, "longest_work": most, "seconds": last - begin}


def main() -> int:
    folder, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    gc.set_threshold(50_000, 20, 20)  # as app.__main__ does
    with TemporaryDirectory() as place:
        store = Embedded(Path(place)) if kind == "embedded" else Memory()
        print(json.dumps(uvloop.run(expire(store, manifest.read(folder), count))))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
