"""Sends requests to a running service, and returns the answer or raises the reason why there is none.

Owns the connection and the retries: if the service is busy, and if it closed the connection between two requests. Knows nothing
of what is asked. All requests here may be sent twice: predictions change nothing, chunks are numbered, and a stream that was
begun in vain expires in the service.
"""

import json
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import SSLCertVerificationError
from time import sleep
from typing import Any
from urllib.parse import urlsplit

from scripts import command
from scripts.evaluation.card import EvaluationError, WrongUse

TIMEOUT = 60.0  # seconds without a sign of life
LIMITED = 429
TRIES = {LIMITED: 64, 503: 8}  # of a refused request, by status; other requests under way may use up the rate limit before it
LONGEST_WAIT = 5.0  # seconds between two tries
OCTETS = "application/octet-stream"


class Refused(EvaluationError):
    """The service answered with an error status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"The service answers {status}: {detail}")
        self.status = status


class Connection:
    """A connection to the service at `url`, whose path prefixes those of all requests; for one thread at a time.

    limited: called with the service's text whenever a request exceeds the key's rate limit.
    """

    def __init__(self, url: str, key: str = "", *, limited: Callable[[str], None] = lambda _: None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUse(f"{url!r} is no URL of a service: such as http://127.0.0.1:8000")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        try:
            self._http = kind(parts.hostname, parts.port, timeout=TIMEOUT)
        except ValueError as error:
            raise WrongUse(f"{url!r} is no URL of a service: {error}.") from error
        self._url = url
        self._limited = limited
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def octets(self, path: str, body: bytes) -> bytes:
        """Send a body of float32 numbers; returns the answer, float32 too."""
        return self._ask("POST", path, body, {"Content-Type": OCTETS, "Accept": OCTETS})

    def json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request in JSON; returns the answer, None if it is empty."""
        sent = None if body is None else json.dumps(body).encode()
        answer = self._ask(method, path, sent, {"Content-Type": "application/json", "Accept": "application/json"})
        return json.loads(answer) if answer else None

    def close(self) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        tries: Counter[int] = Counter()  # by status
        while True:
            response, answer = self._sent(method, path, body, self._headers | headers)
            tries[response.status] += 1
            if tries[response.status] >= TRIES.get(response.status, 1):
                break
            if response.status == LIMITED:
                self._limited(_detail(answer, response.reason))
            sleep(min(_seconds(response.getheader("Retry-After")), LONGEST_WAIT))
        if not 200 <= response.status < 300:
            raise Refused(response.status, _detail(answer, response.reason))
        return answer

    def _sent(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
        fresh = self._http.sock is None
        try:
            return self._once(method, path, body, headers)
        except (ConnectionError, HTTPException) as error:
            self._http.close()
            if fresh:
                raise self._silent(error) from error
        except OSError as error:  # no such host, no answer in time
            self._http.close()
            raise self._silent(error) from error
        try:
            return self._once(method, path, body, headers)  # the service had closed a connection that was idle
        except (OSError, HTTPException) as error:
            self._http.close()
            raise self._silent(error) from error

    def _once(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
        self._http.request(method, self._prefix + path, body, headers)
        response = self._http.getresponse()
        return response, response.read()

    def _silent(self, error: Exception) -> EvaluationError:
        why = str(error) or type(error).__name__
        if isinstance(error, SSLCertVerificationError):
            return EvaluationError(f"The certificate of {self._url} is not trusted ({why}). Name it in SSL_CERT_FILE to trust it.")
        return EvaluationError(f"No service answers at {self._url} ({why}). Start one with: {command.line('app')}")


def _seconds(told: str | None) -> float:
    try:
        return max(0.0, float(told or 1))
    except ValueError:  # a date
        return 1.0


def _detail(answer: bytes, reason: str) -> str:
    """The `detail` of a problem (RFC 9457); for another kind of answer, its beginning."""
    try:
        told = json.loads(answer)
        return str(told["detail"])
    except (KeyError, TypeError, ValueError):
        return answer[:200].decode(errors="replace").strip() or reason
