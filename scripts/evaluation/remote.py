"""A model of a running service, used over HTTP as clients use it.

Owns which requests are made: a stream for every recording, its chunks numbered, and a prediction for every whole sequence. Uses
several connections at once, so that the service has something to batch. Knows nothing of files of data or of scores.
"""

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import numpy as np
from tqdm import tqdm

from app.tensors import Array
from scripts.evaluation.card import Card, EvaluationError, Outputs, Progress, WrongUse, pieces
from scripts.evaluation.connection import Connection, Refused
from scripts.evaluation.local import joined
from scripts.tables.wording import listed, meant, seconds

CONNECTIONS = 4
WAITING = 8  # requests for each connection that wait for their turn

_RATE = re.compile(r" may ask ([\d.e+-]+) times a second")  # in the answer to a key that exceeds its rate limit

T = TypeVar("T")


class Remote:
    """A card.Model at `url`: this `version` of `name`, by default the default model's newest. EvaluationError if there is none.

    chunk: steps of a recording in one request.
    """

    def __init__(self, url: str, name: str = "", version: str = "", *, key: str = "", chunk: int = 128) -> None:
        self._url = url
        self._chunk = chunk
        self._requests = 0
        self._lock = Lock()
        self.limited = False
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._connections = [Connection(url, key, limited=self._slowed) for _ in range(CONNECTIONS)]
        for connection in self._connections:
            self._idle.put(connection)
        try:
            told = self._told(self._connections[0], name, version)
            self.card = Card.served(told)
            self.where = f"at {url}, on {told['provider']}, {CONNECTIONS} connections"
        except (KeyError, TypeError) as error:
            self.close()
            raise EvaluationError(f"What {url}/models tells cannot be understood ({error!r}): is it this service?") from error
        except EvaluationError:
            self.close()
            raise

    def follow(self, recordings: Sequence[Array], progress: Progress) -> Iterator[Outputs]:
        cuts = (pieces(len(each), self._chunk, self.card.time_steps) for each in recordings)
        self._requests = sum(len(cut) + 2 for cut in cuts)  # each stream is begun, and ended
        return self._spread(lambda connection, steps: self._streamed(connection, steps, progress), recordings)

    def answer(self, sequences: Iterable[Array], progress: Progress, *, count: int) -> Iterator[Outputs]:
        self._requests = count
        query = urlencode({"model": self.card.name, "version": self.card.version})

        def asked(connection: Connection, steps: Array) -> Outputs:
            answer = self._outputs(connection.octets(f"/predict?{query}", _octets(steps)), len(steps))
            progress(len(steps))
            return answer

        return self._spread(asked, sequences)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _slowed(self, detail: str) -> None:
        """Print once what limits the requests, and how long they will take."""
        with self._lock:
            known, self.limited = self.limited, True
        if known:
            return
        rate, so = _RATE.search(detail), ""
        if rate and self._requests:
            so = f" {self._requests:,} requests take about {seconds(float(f'{self._requests / float(rate[1]):.2g}'))} so:"
            so += " a larger --chunk, or of a forecast a larger --every, makes fewer of them."
        tqdm.write(f"The service answers 429: {detail}{so}", file=sys.stderr)

    def _told(self, connection: Connection, name: str, version: str) -> dict[str, Any]:
        """What the service says of the model."""
        try:
            told = connection.json("GET", "/models")
            default, models = told["default"], told["models"]
            found = [each for each in models if each["name"] == (name or default)]
            named = [each for each in found if version in ("", each["version"])]
        except (KeyError, TypeError, ValueError, Refused) as error:
            detail = str(error) if isinstance(error, Refused) else "it is something else"
            raise EvaluationError(f"{self._url} does not tell which models it has, under /models: {detail}.") from error
        if not found:
            has = listed(dict.fromkeys(each["name"] for each in models)) if models else "none"
            wanted = f"model {name or default}" if name or default else "default model now, so name one with --model"
            raise WrongUse(f"{self._url} serves no {wanted}; it has {has}.{meant(name, [each['name'] for each in models])}")
        if not named:
            has = ", ".join(each["version"] for each in found)
            raise WrongUse(f"{self._url} serves no version {version} of {name or default}; it has {has}.")
        newest: dict[str, Any] = max(named, key=lambda each: int(each["version"]))
        return newest

    def _streamed(self, connection: Connection, steps: Array, progress: Progress) -> Outputs:
        """Send a recording through a new stream, from the zero state, and delete the stream."""
        begun = connection.json("POST", "/streams", {"model": self.card.name, "version": self.card.version})
        path = f"/streams/{quote(begun['id'], safe='')}"
        try:
            answers = []
            for seq, cut in enumerate(pieces(len(steps), self._chunk, self.card.time_steps)):
                piece = steps[cut]
                answers.append(self._outputs(connection.octets(f"{path}/predict?seq={seq}", _octets(piece)), len(piece)))
                progress(len(piece))
        finally:
            with suppress(EvaluationError):  # a stream that cannot be deleted expires
                connection.json("DELETE", path)
        return joined(self.card, answers)

    def _outputs(self, body: bytes, steps: int) -> Outputs:
        """The arrays in an answer, one after the other."""
        numbers = np.frombuffer(body, "<f4").astype(np.float32)
        shapes = [(steps, *each.width) if each.every_step else each.width for each in self.card.outputs]
        ends = np.cumsum([np.prod(shape, dtype=np.int64) for shape in shapes])
        if len(numbers) != ends[-1]:
            raise EvaluationError(f"The service answers {len(numbers)} numbers to {steps} steps, where {ends[-1]} were expected.")
        return tuple(part.reshape(shape) for part, shape in zip(np.split(numbers, ends[:-1]), shapes, strict=True))

    def _spread(self, ask: Callable[[Connection, Array], Outputs], sequences: Iterable[Array]) -> Iterator[Outputs]:
        """The answers in order, with a request on each connection at a time; no more than a few answers wait in memory."""

        def asked(steps: Array) -> Outputs:
            connection = self._idle.get()
            try:
                return ask(connection, steps)
            finally:
                self._idle.put(connection)

        with ThreadPoolExecutor(CONNECTIONS) as pool:
            under_way: deque[Future[Outputs]] = deque()
            try:
                for steps in sequences:
                    under_way.append(pool.submit(asked, steps))
                    if len(under_way) >= CONNECTIONS * WAITING:
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)


def _octets(steps: Array) -> bytes:
    return steps.astype("<f4", copy=False).tobytes()
