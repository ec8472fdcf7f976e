"""A decoded prediction request, and its options: everything in it but the sequences.

Owns the names of a request's members and what they may hold. Knows nothing of the sequences' format.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from app.errors import InvalidInstances, TooLarge, Violation
from app.tensors import Instance

MEMBERS = ("instances", "model", "version", "return_sequences", "timeout_ms")
MOST_VIOLATIONS = 10  # in one answer


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    max_instances: int
    max_steps: int  # of one instance

    def check_instances(self, count: int) -> None:
        """Refuse a request with no instances (InvalidInstances) or with too many (TooLarge)."""
        if count == 0:
            raise InvalidInstances([Violation("/instances", "expected one instance or more, got none")])
        if count > self.max_instances:
            raise TooLarge(f"The request holds {count} instances; at most {self.max_instances} are taken in one.")


@dataclass(frozen=True, slots=True)
class Options:
    """Everything in a request but its instances; None where the service decides."""

    model: str | None = None
    version: str | None = None
    return_sequences: bool = True
    timeout: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """One decoded request: instances that fit the model it names."""

    instances: list[Instance]
    options: Options


def options_of(members: dict[str, Any]) -> Options:
    """The options among a request's members; null is the same as absent. InvalidInstances lists what is wrong."""
    violations = [
        Violation(f"/{escape(name)}", f"unknown member; {hint(name, MEMBERS)}") for name in members if name not in MEMBERS
    ]
    given = {name: value for name, value in members.items() if value is not None}
    if "instances" not in given:
        violations.append(Violation("", "the member instances is missing"))
    violations += [
        Violation(f"/{name}", f"expected a string, got {kind(given[name])}")
        for name in ("model", "version")
        if not isinstance(given.get(name, ""), str)
    ]
    if not isinstance(given.get("return_sequences", True), bool):
        violations.append(Violation("/return_sequences", f"expected true or false, got {kind(given['return_sequences'])}"))
    timeout = given.get("timeout_ms", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        violations.append(Violation("/timeout_ms", "expected a number of milliseconds above 0"))
    if violations:
        raise InvalidInstances(violations[:MOST_VIOLATIONS])
    return Options(
        model=given.get("model"),
        version=given.get("version"),
        return_sequences=given.get("return_sequences", True),
        timeout=timeout / 1000 if "timeout_ms" in given else None,
    )


def hint(name: str, known: tuple[str, ...]) -> str:
    """What the caller may have meant by an unknown member."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are: {', '.join(known)}"


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    for types, name in ((bool, "a boolean"), (str, "a string"), (int | float, "a number"), (dict, "an object")):
        if isinstance(value, types):
            return name
    return "null" if value is None else "an array"


def escape(name: str) -> str:
    """A member's name as a part of an RFC 6901 pointer, cut to a length that fits an error."""
    return name[:64].replace("~", "~0").replace("/", "~1")
