"""The exact decoder of the JSON body: says of every wrong value what it is and where.

Owns the validation of sequences, and what the format means where there is doubt. Written for exactness: json.py has
the fast decoder, which must agree with this one.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from app.codecs.request import (
    INSTANCE_MEMBERS,
    MOST_SHOWN,
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
from app.errors import InvalidRequest, MalformedBody, Violation
from app.manifest import ModelSpec
from app.streams import Chunk
from app.tensors import Array, Instance, State
from app.tokens import BadToken, Tokens

FLOAT32_MAX = float(np.finfo(np.float32).max)

SINGLE = "a single sequence stands in an array of its own: [[[...], ...]]"

Choose = Callable[[str | None, str | None], ModelSpec]


def decode(body: bytes, limits: Limits, choose: Choose, tokens: Tokens) -> PredictRequest:
    """Raises MalformedBody, InvalidRequest, TooLarge, and what `choose` raises for a model and version it has not."""
    members = _parse(body)
    if not isinstance(members, dict):
        raise InvalidRequest([Violation("", f"expected an object with the member instances, got {kind(members)}")])
    options = options_of(members)
    spec = choose(options.model, options.version)
    check_state_options(spec, given=options.return_state)
    instances = members["instances"]
    if not isinstance(instances, list):
        raise InvalidRequest([Violation("/instances", f"expected an array of sequences, got {kind(instances)}")])
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
        found = _violations(instance, pointer, spec, limits)
        violations += found
        if len(violations) >= MOST_VIOLATIONS:
            break
        if not found:
            decoded.append(Instance(_steps(instance), state))
    if violations:
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return PredictRequest(decoded, options)


def decode_chunk(body: bytes, limits: Limits, spec: ModelSpec) -> Chunk:
    """The body of a stream's chunk; raises MalformedBody, InvalidRequest, TooLarge."""
    members = _parse(body)
    if not isinstance(members, dict):
        raise InvalidRequest([Violation("", f"expected an object with the member input, got {kind(members)}")])
    options = chunk_options_of(members)
    if violations := _violations(members["input"], "/input", spec, limits):
        raise InvalidRequest(violations[:MOST_VIOLATIONS])
    return Chunk(_steps(members["input"]), **options)


def read_state(token: Any, spec: ModelSpec, tokens: Tokens) -> State | None:
    """The state that a member `state` holds, None where it is absent or null; BadToken."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise BadToken(f"expected a state token, a string, got {kind(token)}")
    check_state_options(spec, given=True)
    return tokens.decode(token, spec)


def _parse(body: bytes) -> Any:
    """JSON, and NaN and Infinity too, so that they can be pointed at."""
    if not body.strip():
        raise MalformedBody("The body is empty.")
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_members, parse_int=_integer)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise MalformedBody(f"The body is not valid JSON: {error.msg} at {where}.") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two members of one name each reader takes another, so there must not be two."""
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # None is falsy
        raise InvalidRequest([Violation("", f"the member {escape(twice)} stands there twice")])
    return members


def _integer(digits: str) -> int | float:
    """Python refuses to read an integer of thousands of digits; as a float it is infinite, and said to be too large."""
    return int(digits) if len(digits) < 1000 else float(digits)


def _violations(sequence: Any, pointer: str, spec: ModelSpec, limits: Limits) -> list[Violation]:
    """What is wrong with one sequence, MOST_VIOLATIONS things of it or a few more."""
    features = len(spec.features)
    if not isinstance(sequence, list):
        return [Violation(pointer, f"expected a sequence, an array of time steps, got {kind(sequence)}")]
    flat = bool(sequence) and isinstance(sequence[0], int | float)
    if flat and spec.stepwise:
        return _wrong_values(sequence, pointer, spec)
    limits.check_steps(len(sequence), pointer)
    if wrong := None if flat else wrong_length(len(sequence), spec):
        return [Violation(pointer, wrong)]
    if flat:
        example = "a single step stands in an array of its own" if pointer.endswith("/input") else SINGLE
        return [Violation(pointer, f"expected a sequence, an array of time steps, got an array of numbers; {example}")]
    found: list[Violation] = []
    for time, step in enumerate(sequence):
        if not isinstance(step, list):
            found.append(Violation(f"{pointer}/{time}", f"expected a time step, an array of {features} numbers, got {kind(step)}"))
        else:
            found += _wrong_values(step, f"{pointer}/{time}", spec)
        if len(found) >= MOST_VIOLATIONS:
            break
    return found


def _wrong_values(step: list[Any], pointer: str, spec: ModelSpec) -> list[Violation]:
    """What is wrong with the numbers of one step."""
    if len(step) != len(spec.features):
        return [Violation(pointer, f"expected {len(spec.features)} features, got {len(step)}")]
    problems = zip(spec.features, map(_problem, step), strict=True)
    return [
        Violation(f"{pointer}/{index}", f"{feature.name}: {problem}")
        for index, (feature, problem) in enumerate(problems)
        if problem
    ]


def _steps(sequence: list[Any]) -> Array:
    """(time, features) of a sequence in which nothing is wrong; a single step may stand there flat."""
    return np.atleast_2d(np.array(sequence, dtype=np.float64)).astype(np.float32)


def _problem(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {kind(value)}"
    if value != value:
        return "expected a finite number, got NaN"
    if abs(value) > FLOAT32_MAX:
        return f"expected a number within float32, at most 3.4e38, got {str(value)[:MOST_SHOWN]}"
    return None
