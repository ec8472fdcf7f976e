"""The load generator's job and its report, which pass between two processes as JSON.

Owns both formats, and how single answers become figures: which count, which are good, which are refusals. Knows nothing of
how the answers were received.
"""

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import NamedTuple
from urllib.parse import urlsplit

Figure = dict[str, float | None]  # figures of one measurement, by name; None: not available on this machine

REFUSALS = (429, 503)  # the statuses that ask to come back later


@dataclass(frozen=True, slots=True)
class Job:
    """What to send, and how. Times in seconds."""

    url: str
    bodies: Sequence[bytes]  # sent in turn
    connections: int
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    paths: Sequence[str] = ()  # one for each connection, which requests only that; empty: all request the url's path
    rate: float | None = None  # requests per second of an open loop; None: a closed loop, which sends on each answer
    deadline: float = 30.0  # a later answer does not count as good
    warm: float = 0.0  # before `seconds`: requests that are due then are sent and do not count
    patience: float = 5.0  # after them, for the last answers

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"bodies": [b64encode(body).decode() for body in self.bodies]})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        members = json.loads(text)
        return cls(**members | {"bodies": [b64decode(body) for body in members["bodies"]]})

    def requests(self) -> list[bytes]:
        """The whole requests, as they are sent."""
        return [self._request(urlsplit(self.url).path or "/", body) for body in self.bodies]

    def own_requests(self) -> Sequence[bytes | None]:
        """For each connection its own request: the first body to its own path; None if connections share the requests."""
        return [self._request(path, self.bodies[0]) for path in self.paths] or [None] * self.connections

    def _request(self, path: str, body: bytes) -> bytes:
        fields = [f"Host: {urlsplit(self.url).netloc}", *(f"{name}: {value}" for name, value in self.headers.items())]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *fields])
        return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Answer(NamedTuple):
    """One answer; when its request was due, when it was written, and when the answer was complete."""

    # Not a dataclass, for speed: one is made per request, and the generator must not be the bottleneck.
    status: int
    retry_after: bool
    due: float
    written: float
    arrived: float


@dataclass(frozen=True, slots=True)
class Own:
    """What a generator measured of itself: of the requests that were due from `counts_from` on, how many it sent, how late
    each was, and how many found no free connection; and the CPUs that it used."""

    counts_from: float
    sent: int
    late: Sequence[float]
    waited: int
    cpus: float


@dataclass(frozen=True, slots=True)
class Report:
    """The results of the requests that were due in the measured time. Seconds; None: no value to take a percentile of."""

    sent: int
    answers: dict[str, int]  # by status
    unanswered: int
    requests_per_second: float  # answers in the measured time, whatever their status
    served: float  # 200 in the measured time, within the deadline from when the request was written, per second
    goodput: float  # 200 within the deadline from when the request was due, per second
    p50: float | None  # of 200, from when the request was due
    p99: float | None
    refusals: int
    refusals_without_retry_after: int
    refusal_p50: float | None  # from when the request was written
    refusal_p99: float | None
    refusal_from_due_p50: float | None
    refusal_from_due_p99: float | None
    late_p50: float | None  # how far the generator itself was behind its schedule
    late_p99: float | None
    waited: int  # requests for which no connection was free when they were due
    cpus: float  # that the generator itself used

    @property
    def failed(self) -> int:
        """Answers other than 200, and requests without an answer."""
        return self.sent - self.answers.get("200", 0)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Report":
        return cls(**json.loads(text))

    @classmethod
    def of(cls, job: Job, answers: Sequence[Answer], own: Own) -> "Report":
        """The report from all answers, and from what the generator measured of itself."""
        counts_from, late = own.counts_from, own.late
        came = [answer for answer in answers if counts_from <= answer.arrived < counts_from + job.seconds]
        served = [answer for answer in came if answer.status == 200 and answer.arrived - answer.written <= job.deadline]
        counted = [answer for answer in answers if answer.due >= counts_from]
        accepted = [answer.arrived - answer.due for answer in counted if answer.status == 200]
        refused = [answer for answer in counted if answer.status in REFUSALS]
        from_written = [answer.arrived - answer.written for answer in refused]
        from_due = [answer.arrived - answer.due for answer in refused]
        return cls(
            sent=own.sent,
            answers=dict(Counter(str(answer.status) for answer in counted)),
            unanswered=own.sent - len(counted),
            requests_per_second=len(came) / job.seconds,
            served=len(served) / job.seconds,
            goodput=sum(latency <= job.deadline for latency in accepted) / job.seconds,
            p50=percentile(accepted, 50),
            p99=percentile(accepted, 99),
            refusals=len(refused),
            refusals_without_retry_after=sum(not answer.retry_after for answer in refused),
            refusal_p50=percentile(from_written, 50),
            refusal_p99=percentile(from_written, 99),
            refusal_from_due_p50=percentile(from_due, 50),
            refusal_from_due_p99=percentile(from_due, 99),
            late_p50=percentile(late, 50),
            late_p99=percentile(late, 99),
            waited=own.waited,
            cpus=own.cpus,
        )


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` of the values do not exceed; None if there are no values."""
    return sorted(values)[ceil(percent / 100 * len(values)) - 1] if values else None
