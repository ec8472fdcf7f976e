"""The exact decoder of JSON bodies: reports what is wrong with each value, and where it is.

Owns the validation of sequences, and the meaning of the format in doubtful cases. Written for exactness: json.py has the fast
decoder, which must agree with this one.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from json import JSONDecodeError
from typing import Any

import numpy as np

from app.codecs import pieces
from app.codecs.pieces import AT_ONCE, LONG_INTEGER, Elements, Hook
from app.codecs.request import (
    CHUNK_MEMBERS,
    INSTANCE_MEMBERS,
    MOST_VIOLATIONS,
    Limits,
    PredictRequest,
    check_state_options,
    chunk_options_of,
    escape,
    kind,
    options_of,
    unknown_members,
    wrong_length,
)
from app.errors import MOST_SHOWN, InvalidRequest, MalformedBody, Violation
from app.manifest import ModelSpec
from app.streaming.streams import Chunk
from app.streaming.tokens import BadToken, Tokens
from app.tensors import FLOAT32_MAX, Array, Instance, State

ARRAY = (list, Elements)

SINGLE = "put a single sequence into an array: [[[...], ...]]"

TOGETHER = 2**12  # steps that are checked together

Choose = Callable[[str | None, str | None], ModelSpec]


def decode(body: bytes, limits: Limits, choose: Choose, tokens: Tokens, *, at_once: int = AT_ONCE) -> PredictRequest:
    """The decoded request. `at_once`: characters that are parsed in one call.

    Raises MalformedBody, InvalidRequest, TooLarge, and what `choose` raises for a model or version that it does not have.
    """
    members = parse(body, at_once)
    if not isinstance(members, dict):
        raise InvalidRequest.at("", f"expected an object with the member instances, got {kind(members)}")
    options = options_of(members)
    spec = choose(options.model, options.version)
    check_state_options(spec, given=options.return_state)
    instances = members["instances"]
    if not isinstance(instances, ARRAY):
        raise InvalidRequest.at("/instances", f"expected an array of sequences, got {kind(instances)}")
    limits.check_instances(len(instances))
    violations: list[Violation] = []
    decoded = []
    for index, instance in enumerate(instances):
        pointer = f"/instances/{index}"
        state = None
        if isinstance(instance, dict):
            violations += unknown_members(instance, pointer, INSTANCE_MEMBERS)
            try:
                state = read_state(instance.get("state"), spec, tokens)
            except BadToken as error:
                violations.append(Violation(f"{pointer}/state", str(error)))
            if "input" not in instance:
                violations.append(Violation(pointer, "the member input is missing"))
                continue
            pointer, instance = f"{pointer}/input", instance["input"]
        steps, found = _sequence(instance, pointer, spec, limits)
        violations += found
        if len(violations) >= MOST_VIOLATIONS:
            break
        if steps is not None:
            decoded.append(Instance(steps, state))
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return PredictRequest(decoded, options)


def decode_chunk(
    body: bytes, limits: Limits, spec: ModelSpec, known: Sequence[str] = CHUNK_MEMBERS, *, at_once: int = AT_ONCE
) -> Chunk:
    """The chunk in the body of a stream's request, with these members; raises MalformedBody, InvalidRequest, TooLarge."""
    members = parse(body, at_once)
    if not isinstance(members, dict):
        raise InvalidRequest.at("", f"expected an object with the member input, got {kind(members)}")
    options = chunk_options_of(members, known)
    steps, violations = _sequence(members["input"], "/input", spec, limits)
    if steps is None:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return Chunk(steps, **options)


def read_state(token: Any, spec: ModelSpec, tokens: Tokens) -> State | None:
    """The state in the token of a member `state`; None when that is absent or null. Raises BadToken and InvalidRequest."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise BadToken(f"expected a state token, a string, got {kind(token)}")
    check_state_options(spec, given=True)
    return tokens.decode(token, spec)


def parse(body: bytes, at_once: int = AT_ONCE, hook: Hook | None = None) -> Any:
    """The JSON value of a body. NaN and Infinity are read too, so that an error can name their place.

    `hook` makes the value of an object; without one, a repeated member is refused. Raises MalformedBody, InvalidRequest.
    """
    if not body.strip():
        raise MalformedBody("The body is empty.")
    try:
        return pieces.read(body.decode("utf-8-sig"), hook or _members, at_once=at_once)
    except JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise MalformedBody(f"The body is not valid JSON: {error.msg} at {where}.") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these members. Raises InvalidRequest for a repeated one: parsers differ in which of two they take."""
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # None is falsy
        raise InvalidRequest.at("", f"the member {escape(twice)} is there twice")
    return members


def _sequence(sequence: Any, pointer: str, spec: ModelSpec, limits: Limits) -> tuple[Array | None, list[Violation]]:
    """One sequence, (time, features), or what is wrong with it: about MOST_VIOLATIONS violations at most."""
    features = len(spec.features)
    if not isinstance(sequence, ARRAY):
        return None, [Violation(pointer, f"expected a sequence, an array of time steps, got {kind(sequence)}")]
    flat = isinstance(next(iter(sequence), None), int | float)
    if flat and spec.stepwise:
        found = _wrong_values(sequence, pointer, spec)
        return (None, found) if found else (np.array([[*sequence]], dtype=np.float64).astype(np.float32), [])
    limits.check_steps(len(sequence), pointer)
    if wrong := None if flat else wrong_length(len(sequence), spec):
        return None, [Violation(pointer, wrong)]
    if flat:
        example = "put a single step into an array" if pointer.endswith("/input") else SINGLE
        return None, [Violation(pointer, f"expected a sequence, an array of time steps, got an array of numbers; {example}")]
    parts: list[Array] = []
    found, time = [], 0
    for steps in _blocks(sequence):
        part = _numbers(steps, features)
        if part is None:
            found += _wrong_steps(steps, time, pointer, spec)
            part = None if found else np.array([[*step] for step in steps], dtype=np.float64)
        if len(found) >= MOST_VIOLATIONS:
            break
        if part is not None:
            parts.append(part.astype(np.float32))
        time += len(steps)
    return (None, found) if found else (np.concatenate(parts), [])


def _blocks(sequence: list[Any] | Elements) -> Iterator[list[Any]]:
    if isinstance(sequence, Elements):
        return sequence.blocks()
    return (sequence[at : at + TOGETHER] for at in range(0, len(sequence), TOGETHER))


def _numbers(steps: list[Any], features: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The steps, (time, features), if a fast check finds nothing wrong with them; else None: then check one after the other."""
    if not set(map(type, steps)) <= set(ARRAY) or set(map(len, steps)) != {features}:
        return None
    flat = list(chain.from_iterable(steps))
    if not set(map(type, flat)) <= {int, float}:
        return None
    try:
        values = np.array(flat, dtype=np.float64)
    except OverflowError:
        return None
    return values.reshape(len(steps), features) if np.abs(values).max() < FLOAT32_MAX else None  # NaN compares false


def _wrong_steps(steps: list[Any], begin: int, pointer: str, spec: ModelSpec) -> list[Violation]:
    """What is wrong with these steps, which begin at step `begin` of their sequence."""
    found: list[Violation] = []
    for time, step in enumerate(steps, begin):
        if not isinstance(step, ARRAY):
            expected = f"expected a time step, an array of {len(spec.features)} numbers"
            found.append(Violation(f"{pointer}/{time}", f"{expected}, got {kind(step)}"))
        else:
            found += _wrong_values(step, f"{pointer}/{time}", spec)
        if len(found) >= MOST_VIOLATIONS:
            break
    return found


def _wrong_values(step: list[Any] | Elements, pointer: str, spec: ModelSpec) -> list[Violation]:
    """What is wrong with the numbers of one step."""
    if len(step) != len(spec.features):
        return [Violation(pointer, f"expected {len(spec.features)} features, got {len(step)}")]
    problems = zip(spec.features, map(_problem, step), strict=True)
    return [
        Violation(f"{pointer}/{index}", f"{feature.name}: {problem}")
        for index, (feature, problem) in enumerate(problems)
        if problem
    ]


def _problem(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {kind(value)}"
    if value != value:
        return "expected a finite number, got NaN"
    if abs(value) > FLOAT32_MAX:
        return f"expected a number within float32, at most 3.4e38, got {_told(value)}"
    return None


def _told(value: float) -> str:
    digits = str(value)
    return digits[:MOST_SHOWN] if len(digits) < LONG_INTEGER else str(float("-inf" if value < 0 else "inf"))
