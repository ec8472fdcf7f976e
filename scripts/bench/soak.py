"""A long run of mixed load, to see whether the service's memory grows: requests of random shapes, some of them wrong.

Owns these requests and the trend. Knows nothing of the benchmark's scenarios. Every answer is checked: the status that its
request deserves, and as many steps as were asked for.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import fmean
from threading import Event
from time import monotonic, sleep

import numpy as np
from tqdm import tqdm

from app.manifest import ModelSpec
from scripts import results
from scripts.bench import servers, tree
from scripts.bench.scenarios import JSON, OCTETS, body

CALLERS = 4
LONGEST, MOST = 2000, 16  # steps of an instance, instances of a request
OCTET_SHARE, WRONG_SHARE = 0.25, 0.1


@dataclass(frozen=True, slots=True)
class Request:
    """A body, and what it deserves: a status, and with 200 so many steps of each prediction."""

    body: bytes
    status: int
    lengths: Sequence[int] = ()
    octets: bool = False


def run(version: Path, spec: ModelSpec, *, minutes: float, target: Path | None) -> int:
    """Load the service and print its memory as time goes on; 1 when an answer was not what its request deserves."""
    seconds = 60 * minutes
    interval = min(60.0, seconds / 10)
    over = Event()
    sizes: list[float] = []
    with servers.service(version, spec, body(len(spec.features), 1)) as server, ThreadPoolExecutor(CALLERS) as threads:
        callers = [threads.submit(call, server.port, spec, seed, over) for seed in range(CALLERS)]
        begin = monotonic()
        try:
            tenths = range(1, 1 + round(seconds / interval))
            for tenth in tqdm(tenths, desc="soaking", unit="sample", file=sys.stderr, disable=None):
                sleep(max(0.0, begin + tenth * interval - monotonic()))
                sizes.append((tree.pss(server.pid) or 0) / 1e6)
                tqdm.write(f"{monotonic() - begin:6.0f} s {sizes[-1]:8.1f} MB")
        finally:
            over.set()
        answers = sum((caller.result() for caller in callers), Counter[str]())

    third = len(sizes) // 3
    first, last = fmean(sizes[:third]), fmean(sizes[-third:])
    wrong = {text: times for text, times in answers.items() if not text.startswith("right")}
    print(f"{answers.total():,} answers: {', '.join(f'{times:,} {text}' for text, times in sorted(answers.items()))}")
    print(f"Memory: {first:.1f} MB in the first third, {last:.1f} MB in the last: grew by {100 * (last / first - 1):.1f} %")
    results.write(target, {"megabytes": sizes, "first_third": first, "last_third": last, "answers": dict(answers)})
    return 1 if wrong else 0


def call(port: int, spec: ModelSpec, seed: int, over: Event) -> Counter[str]:
    """One caller, until it is over; how often it got which answer."""
    answers: Counter[str] = Counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=servers.PATIENCE)
    for request in requests(len(spec.features), seed):
        if over.is_set():
            break
        try:
            connection.request("POST", "/predict", request.body, OCTETS if request.octets else JSON)
            response = connection.getresponse()
            answers[judge(request, response.status, response.read(), outputs=len(spec.outputs))] += 1
        except (OSError, HTTPException) as error:
            answers[f"no answer: {type(error).__name__}"] += 1
            connection.close()
    connection.close()
    return answers


def judge(request: Request, status: int, answer: bytes, *, outputs: int) -> str:
    """What an answer is, in words that begin with right where it is what the request deserves."""
    if status != request.status:
        return f"{status} instead of {request.status}"
    if status != 200:
        return f"right {status}"
    if request.octets:
        whole = len(answer) == 4 * outputs * sum(request.lengths)
    else:
        whole = [len(prediction) for prediction in json.loads(answer)["predictions"]] == list(request.lengths)
    return "right 200" if whole else "200 with other steps than were asked for"


def requests(features: int, seed: int) -> Iterator[Request]:
    """Without end, random in number and length of instances, in format and in what is wrong; the same for the same seed."""
    rng = np.random.default_rng(seed)
    values = (50 * rng.standard_normal((LONGEST, features))).round(3)
    steps = [json.dumps(row) for row in values.tolist()]
    octets = values.astype("<f4")
    while True:
        lengths = rng.integers(1, LONGEST, size=rng.integers(1, MOST, endpoint=True), endpoint=True).tolist()
        text = ",".join(f"[{','.join(steps[:length])}]" for length in lengths)
        whole = f'{{"instances": [{text}]}}'.encode()
        alone = octets[: lengths[0]].tobytes()
        if rng.random() < WRONG_SHARE:
            yield (
                Request(whole[:-2], 400),
                Request(alone[:-1], 400, octets=True),
                Request(f'{{"instances": [{text}, [[]]]}}'.encode(), 422),
                Request(f'{{"instances": [{text}], "what": 1}}'.encode(), 422),
            )[rng.integers(4)]
        elif rng.random() < OCTET_SHARE:
            yield Request(alone, 200, lengths[:1], octets=True)
        else:
            yield Request(whole, 200, lengths)
