"""Every error that a client can get, and its HTTP status.

    RecurveError                    500  a defect: the client gets a generic text, the traceback goes to the log
    ├── MalformedRequest            400  the bytes are not HTTP
    ├── MalformedBody               400  the body is not the format it claims to be
    ├── BadModel                    400  the model to load must not be served
    ├── Unauthorized                401  no key, or an unknown one
    ├── Forbidden                   403  the key, or the web page that sends the request, lacks the right
    ├── ModelNotFound               404
    ├── StreamNotFound              404
    ├── TooSlow                     408  the whole request did not arrive in time
    ├── StreamConflict              409  the stream is not in the state that the client expects
    ├── StreamExpired               410
    ├── TooLarge                    413  over the limit of bytes, instances, chunks or steps
    ├── UnsupportedMediaType        415
    ├── InvalidRequest              422  well-formed but wrong; says where
    ├── NotFinite                   422  the model's answer overflows float32
    ├── UpgradeRequired             426  the path is a WebSocket's, and the request is no handshake, or of another version
    ├── RateLimited                 429  a key's requests come too fast; says when to retry
    ├── HeadTooLarge                431  over the limit of a request's head
    ├── UnsupportedTransfer         501  the body has an unknown transfer coding
    ├── Unavailable                 503  says when to retry
    │   ├── QueueFull
    │   ├── Overloaded                   the deadline could not be met
    │   ├── Draining
    │   ├── NotReady
    │   ├── Hanging                      a batch does not end: the process must be replaced
    │   ├── TooManyBytes                 of all bodies at once
    │   ├── TooManyConnections
    │   ├── TooManyStreams
    │   └── StoreUnavailable             the store of the streams cannot be reached, or is full
    └── DeadlineExceeded            504
    BadArtifact                     never reaches a client: a model version that must not be served
    └── Damaged                         its files are not those that were published
    ProviderUnavailable             never reaches a client: the execution provider that was asked for cannot be used
    NoRoom                          never reaches a client: no disk or memory is left for what the service's processes share

A message is a sentence with the value and the limit in it. Knows nothing of HTTP beyond the numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

MOST_SHOWN = 64  # characters of the client's text that a message repeats


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong value: where it is, as an RFC 6901 pointer into the request, and what is wrong with it."""

    pointer: str
    detail: str


class RecurveError(Exception):
    """The root of the tree. `code` is stable and machine-readable; `detail` is for people."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class MalformedRequest(RecurveError):
    status, code, title = 400, "malformed-request", "Malformed request"


class MalformedBody(RecurveError):
    status, code, title = 400, "malformed-body", "Malformed body"


class BadModel(RecurveError):
    status, code, title = 400, "bad-model", "Model cannot be served"


class Unauthorized(RecurveError):
    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(RecurveError):
    status, code, title = 403, "forbidden", "Forbidden"


class ModelNotFound(RecurveError):
    status, code, title = 404, "model-not-found", "Model not found"


class StreamNotFound(RecurveError):
    status, code, title = 404, "stream-not-found", "Stream not found"


class TooSlow(RecurveError):
    status, code, title = 408, "too-slow", "Request too slow"


class StreamConflict(RecurveError):
    """The stream is not in the state that the client expects. `expected`: the number of its next chunk, if known."""

    status, code, title = 409, "stream-conflict", "Stream conflict"

    def __init__(self, detail: str, *, expected: int | None = None) -> None:
        super().__init__(detail)
        self.expected = expected


class StreamExpired(RecurveError):
    status, code, title = 410, "stream-expired", "Stream expired"


class TooLarge(RecurveError):
    status, code, title = 413, "too-large", "Request too large"


class UnsupportedMediaType(RecurveError):
    status, code, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidRequest(RecurveError):
    """The request is well-formed but wrong; no part of it has run."""

    status, code, title = 422, "invalid-request", "Invalid request"

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        super().__init__(f"{first.pointer}: {first.detail}" if first.pointer else f"The request: {first.detail}")
        self.violations = tuple(violations)

    @classmethod
    def at(cls, pointer: str, detail: str) -> Self:
        """The error for one wrong value."""
        return cls([Violation(pointer, detail)])


class NotFinite(RecurveError):
    status, code, title = 422, "not-finite", "Prediction is not finite"


class UpgradeRequired(RecurveError):
    status, code, title = 426, "upgrade-required", "Upgrade required"


class RateLimited(RecurveError):
    """The client should retry after `retry_after` seconds."""

    status, code, title = 429, "rate-limited", "Too many requests"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class HeadTooLarge(RecurveError):
    status, code, title = 431, "head-too-large", "Request head too large"


class UnsupportedTransfer(RecurveError):
    status, code, title = 501, "unsupported-transfer", "Unsupported transfer coding"


class Unavailable(RecurveError):
    """The client should retry after `retry_after` seconds."""

    status, code, title = 503, "unavailable", "Unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    code, title = "queue-full", "Queue full"


class Overloaded(Unavailable):
    code, title = "overloaded", "Overloaded"


class Draining(Unavailable):
    code, title = "draining", "Shutting down"


class NotReady(Unavailable):
    code, title = "not-ready", "Not ready"


class Hanging(Unavailable):
    code, title = "hanging", "Hanging"


class TooManyBytes(Unavailable):
    code, title = "too-many-bytes", "Too many bytes at once"


class TooManyConnections(Unavailable):
    code, title = "too-many-connections", "Too many connections"


class TooManyStreams(Unavailable):
    code, title = "too-many-streams", "Too many streams"


class StoreUnavailable(Unavailable):
    code, title = "store-unavailable", "Store unavailable"


class DeadlineExceeded(RecurveError):
    status, code, title = 504, "deadline-exceeded", "Deadline exceeded"


class BadArtifact(Exception):
    """A model version that must not be served; the text says which check failed and by how much."""


class Damaged(BadArtifact):
    """A file of the version cannot be read, or is not the one that was published."""

    def __str__(self) -> str:
        return (
            f"{super().__str__()} Publish it again, or restore its folder from where it came: the committed one with git checkout."
        )


class ProviderUnavailable(Exception):
    """The execution provider that was asked for cannot be used; the text says why."""


class NoRoom(Exception):
    """No disk or memory is left for the files that the service's processes share; the text says where, and how much is needed."""
