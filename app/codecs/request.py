"""A decoded prediction request and its options, which are everything in the request but the sequences.

Owns the names of a request's members and their allowed values. Knows nothing of the sequences' format.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from app.errors import MOST_SHOWN, InvalidRequest, TooLarge, Violation
from app.manifest import ModelSpec
from app.tensors import Array, Instance

MEMBERS = ("instances", "model", "version", "return_sequences", "return_state", "timeout_ms")
INSTANCE_MEMBERS = ("input", "state")
CHUNK_MEMBERS = ("input", "seq", "return_sequences")
ENTRY_MEMBERS = ("id", *CHUNK_MEMBERS)  # of a chunk among the chunks of many streams
MOST_VIOLATIONS = 10  # in one answer
TAKEN = "ws"  # not allowed as a stream's id: /streams/ws is the WebSocket that begins a stream
LARGEST_SEQ = 2**53  # integers up to here are exact in every JSON parser, also in those that use doubles
SHORTEST_TIMEOUT = 1e-300  # ms; a smaller one could become 0 when it is converted to seconds
LONGEST_TIMEOUT = 86_400_000  # ms, a day


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request."""

    max_instances: int  # or chunks
    max_steps: int  # of one instance

    def check_instances(self, count: int) -> None:
        """Raises InvalidRequest for a request without instances, TooLarge for one with too many."""
        if count == 0:
            raise InvalidRequest.at("/instances", "expected one instance or more, got none")
        if count > self.max_instances:
            raise TooLarge(f"The request holds {count} instances; at most {self.max_instances} are accepted in one.")

    def check_chunks(self, count: int) -> None:
        """Raises InvalidRequest for a request without chunks, TooLarge for one with too many."""
        if count == 0:
            raise InvalidRequest.at("/chunks", "expected one chunk or more, got none")
        if count > self.max_instances:
            raise TooLarge(f"The request holds {count} chunks; at most {self.max_instances} are accepted in one.")

    def check_steps(self, count: int, pointer: str) -> None:
        """Raises TooLarge for an instance with more steps than any model accepts."""
        if count > self.max_steps:
            where = f"{pointer}: " if pointer else ""
            raise TooLarge(f"{where}the sequence has {count} time steps; at most {self.max_steps} are accepted in one.")


@dataclass(frozen=True, slots=True)
class Options:
    """Everything in a request but its instances; None: the service decides."""

    model: str | None = None
    version: str | None = None
    return_sequences: bool = True
    return_state: bool = False
    timeout: float | None = None  # seconds


_TYPES = {
    "model": (str, "a string"),
    "version": (str, "a string"),
    "return_sequences": (bool, "true or false"),
    "return_state": (bool, "true or false"),
}
_KNOWN = set(MEMBERS)
_PLAIN, _GOING_ON = {"instances"}, {"instances", "return_state"}
_DEFAULTS, _WITH_STATE = Options(), Options(return_state=True)


@dataclass(slots=True)  # not frozen, which would take three times as long: one is made for every request
class PredictRequest:
    """One decoded request: its instances, which fit the model that it names, and its options."""

    instances: list[Instance]
    options: Options


def wrong_length(steps: int, spec: ModelSpec) -> str | None:
    """What is wrong with a sequence of so many steps for this model; None: nothing."""
    if steps == 0:
        return "expected one time step or more, got an empty sequence"
    if spec.time_steps not in (None, steps):
        return f"expected exactly {spec.time_steps} time steps, as many as {spec} takes, got {steps}"
    return None


def check_state_options(spec: ModelSpec, *, given: bool) -> None:
    """Raises InvalidRequest if a state is given or asked for and the model cannot go on from a state."""
    if given and not spec.causal:
        detail = f"{spec} has no state to go on from: it answers whole sequences only, so return_state and state are not for it"
        raise InvalidRequest.at("", detail)


def shown(outputs: Sequence[Array], spec: ModelSpec, *, return_sequences: bool) -> Sequence[Array]:
    """The outputs to return; without `return_sequences`, of an output that answers every step only the last step."""
    if return_sequences:
        return outputs
    return [array[-1] if spec.every_step(output) else array for output, array in zip(spec.outputs, outputs, strict=True)]


def options_of(members: dict[str, Any]) -> Options:
    """The options among a request's members; null is the same as absent. Raises InvalidRequest, which lists what is wrong."""
    if members.keys() == _PLAIN:  # most requests are one of these two
        return _DEFAULTS
    if members.keys() == _GOING_ON and members["return_state"] is True:
        return _WITH_STATE
    violations = [] if members.keys() <= _KNOWN else unknown_members(members, "", MEMBERS)
    given = {name: value for name, value in members.items() if value is not None}
    if "instances" not in given:
        violations.append(Violation("", "the member instances is missing"))
    for name, (type, expected) in _TYPES.items():
        if name in given and not isinstance(given[name], type):
            violations.append(Violation(f"/{name}", f"expected {expected}, got {kind(given[name])}"))
    timeout = given.get("timeout_ms", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not SHORTEST_TIMEOUT <= timeout <= LONGEST_TIMEOUT:
        violations.append(Violation("/timeout_ms", f"expected a number of milliseconds above 0, at most {LONGEST_TIMEOUT}"))
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return Options(
        model=given.get("model"),
        version=given.get("version"),
        return_sequences=given.get("return_sequences", True),
        return_state=given.get("return_state", False),
        timeout=timeout / 1000 if "timeout_ms" in given else None,
    )


def chunk_options_of(members: dict[str, Any], known: Sequence[str] = CHUNK_MEMBERS) -> dict[str, Any]:
    """The members of a chunk beside its input and id, as arguments of Chunk. Raises InvalidRequest, which lists what is wrong."""
    violations = unknown_members(members, "", known)
    given = {name: value for name, value in members.items() if value is not None}
    if "input" not in given:
        violations.append(Violation("", "the member input is missing"))
    seq = given.get("seq", 0)
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq <= LARGEST_SEQ:
        violations.append(Violation("/seq", "expected the number of the chunk, an integer from 0 up"))
    if not isinstance(given.get("return_sequences", True), bool):
        violations.append(Violation("/return_sequences", f"expected true or false, got {kind(given['return_sequences'])}"))
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    given.pop("input")
    given.pop("id", None)
    return given


def unknown_members(members: Iterable[str], pointer: str, known: Sequence[str]) -> list[Violation]:
    """A violation for each of the first MOST_VIOLATIONS unknown members, with what the client may have meant."""
    unknown = islice((name for name in members if name not in known), MOST_VIOLATIONS)
    return [Violation(f"{pointer}/{escape(name)}", f"unknown member; {_hint(name, known)}") for name in unknown]


def _hint(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name[:MOST_SHOWN], known, n=1)
    listed = ", ".join(known)  # also beside a name that is close: what was meant may be something that is not here
    return f"did you mean {close[0]}? Known are: {listed}" if close else f"known are: {listed}"


def kind(value: object) -> str:
    """The type of a JSON value, in words."""
    for types, name in ((bool, "a boolean"), (str, "a string"), (int | float, "a number"), (dict, "an object")):
        if isinstance(value, types):
            return name
    return "null" if value is None else "an array"


def escape(name: str) -> str:
    """A member's name as a part of an RFC 6901 pointer, cut to a length that fits into an error."""
    shown = name[:MOST_SHOWN].encode("utf-8", "backslashreplace").decode()  # a JSON string may hold half of a surrogate pair
    return shown.replace("~", "~0").replace("/", "~1")
