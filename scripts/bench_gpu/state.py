"""What a running service reports about itself: where its models run, and which provider ran how many batches.

Owns the reading of GET /health and GET /metrics, and of the provider in an answer. Knows nothing of load.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

PATIENCE = 60.0  # seconds
EXECUTIONS = re.compile(r'^recurve_provider_executions_total\{.*provider="(\w+)".*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    in_use: str  # the provider of the first model
    reason: str | None  # why it is not the one that was asked for


def health(port: int) -> Health:
    answer = json.loads(_get(port, "/health"))
    model = answer["models"][0]
    return Health(answer["status"], model["provider"], model["fallback_reason"])


def executions(port: int) -> Counter[str]:
    """Batches by the provider that ran them, of all models and workers."""
    counts: Counter[str] = Counter()
    for provider, value in EXECUTIONS.findall(_get(port, "/metrics")):
        counts[provider] += int(float(value))
    return counts


def predicted(port: int, body: bytes) -> dict[str, Any]:
    """The answer to a prediction; RuntimeError if the status is not 200."""
    return dict(json.loads(_ask(port, "POST", "/predict", body)))


def _get(port: int, path: str) -> str:
    return _ask(port, "GET", path)


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {text[:300]}")
    return text
