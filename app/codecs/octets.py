"""The binary bodies of predictions: one sequence as float32, little-endian, row-major, in both directions.

Owns the format and its validation. The options are in the query, the state token in a header. Knows nothing of HTTP beyond
that.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from app.codecs.plain import Choose, read_state
from app.codecs.request import (
    CHUNK_MEMBERS,
    MEMBERS,
    MOST_VIOLATIONS,
    Limits,
    Options,
    PredictRequest,
    check_state_options,
    chunk_options_of,
    options_of,
    shown,
    unknown_members,
    wrong_length,
)
from app.errors import InvalidRequest, MalformedBody, Violation
from app.manifest import ModelSpec
from app.streaming.streams import Chunk
from app.streaming.tokens import BadToken, Tokens
from app.tensors import FLOAT32, Array, Instance, pack_arrays


def decode(
    body: bytes, query: Sequence[tuple[str, str]], limits: Limits, choose: Choose, *, token: str | None, tokens: Tokens
) -> PredictRequest:
    """The request: one instance, and the options from the query.

    Raises MalformedBody when the size is not a whole number of steps, InvalidRequest, TooLarge, and what `choose` raises.
    """
    options = options_of({**_options_in(query, MEMBERS), "instances": [body]})
    spec = choose(options.model, options.version)
    check_state_options(spec, given=options.return_state)
    steps = _steps(body, spec, limits)
    try:
        state = read_state(token, spec, tokens)
    except BadToken as error:
        raise InvalidRequest.at("/state", str(error)) from None
    return PredictRequest([Instance(steps, state)], options)


def decode_chunk(body: bytes, query: Sequence[tuple[str, str]], limits: Limits, spec: ModelSpec) -> Chunk:
    """The chunk in the body of a stream's request; raises MalformedBody, InvalidRequest, TooLarge."""
    if not query:
        return Chunk(_steps(body, spec, limits))
    options = chunk_options_of({**_options_in(query, CHUNK_MEMBERS), "input": body})
    return Chunk(_steps(body, spec, limits), **options)


def encode(outputs: Sequence[Array], options: Options | Chunk, spec: ModelSpec) -> bytes:
    """The outputs, one after the other, as float32: of every step, or of the last step only, as the options say."""
    return pack_arrays(shown(outputs, spec, return_sequences=options.return_sequences))


def _steps(body: bytes, spec: ModelSpec, limits: Limits) -> Array:
    """The steps in the body: (time, features)"""
    features = len(spec.features)
    size = features * FLOAT32.itemsize
    if len(body) % size:
        raise MalformedBody(f"The body has {len(body)} bytes, not a multiple of the {size} of a step: {features} float32.")
    limits.check_steps(len(body) // size, "")
    if problem := wrong_length(len(body) // size, spec):
        raise InvalidRequest.at("", problem)
    numbers = np.frombuffer(body, FLOAT32).astype(np.float32, copy=False)
    steps = numbers.reshape(-1, features)
    if not isfinite(np.vdot(numbers, numbers)):  # fast: a finite sum of squares proves all finite; `dot` would warn of overflow
        wrong = np.argwhere(~np.isfinite(steps))[:MOST_VIOLATIONS]
        names = [feature.name for feature in spec.features]
        violations = [Violation(f"/{t}/{f}", f"{names[f]}: expected a finite number, got {steps[t, f]}") for t, f in wrong]
        if violations:
            raise InvalidRequest(violations)
    return steps


def _options_in(query: Sequence[tuple[str, str]], members: Sequence[str]) -> dict[str, Any]:
    """The values of the query's parameters, which may be `members` but the first: that is the body. Raises InvalidRequest."""
    if not query:
        return {}
    if unknown := unknown_members((name for name, _ in query), "", members[1:]):
        raise InvalidRequest(unknown)
    options = {name: _value(name, text) for name, text in query}
    if len(options) < len(query):
        raise InvalidRequest.at("", "expected each option once in the query")
    return options


def _value(name: str, text: str) -> Any:
    """The value of a query parameter; one that cannot be read stays text, which the check of the options refuses."""
    if name in ("return_sequences", "return_state"):
        return {"true": True, "false": False}.get(text.lower(), text)
    if name == "seq" and text.isdecimal() and text.isascii() and len(text) < 20:
        return int(text)
    if name == "timeout_ms":
        try:
            return float(text)
        except ValueError:
            return text
    return text
