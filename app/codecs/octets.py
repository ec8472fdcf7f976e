"""The binary body of POST /predict: one sequence as float32, little-endian, row-major, in both directions.

Owns the format and its validation; the options stand in the query, the state it starts from in a header. Knows nothing
of HTTP beyond that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.codecs.plain import Choose, read_state
from app.codecs.request import MOST_VIOLATIONS, Limits, Options, PredictRequest, options_of
from app.errors import InvalidInstances, MalformedBody, Violation
from app.tensors import Instance, Prediction
from app.tokens import BadToken, Tokens

FLOAT32 = np.dtype("<f4")


def decode(
    body: bytes, query: Sequence[tuple[str, str]], limits: Limits, choose: Choose, *, token: str | None, tokens: Tokens
) -> PredictRequest:
    """Raises MalformedBody when the size is not a whole number of steps, InvalidInstances, TooLarge, and what `choose` raises."""
    members: dict[str, Any] = {name: _value(name, text) for name, text in query}
    if len(members) < len(query) or "instances" in members:
        raise InvalidInstances([Violation("", "each option stands in the query once, and the sequence in the body")])
    options = options_of(members | {"instances": [body]})
    spec = choose(options.model, options.version)
    features = len(spec.features)
    size = features * FLOAT32.itemsize
    if not body:
        raise InvalidInstances([Violation("", "expected one time step or more, got an empty sequence")])
    if len(body) % size:
        raise MalformedBody(f"The body has {len(body)} bytes, not a multiple of the {size} of a step: {features} float32.")
    limits.check_steps(len(body) // size, "")
    steps = np.frombuffer(body, dtype=FLOAT32).astype(np.float32, copy=False).reshape(-1, features)
    finite = np.isfinite(steps)
    if not finite.all():
        wrong = np.argwhere(~finite)[:MOST_VIOLATIONS]
        names = [feature.name for feature in spec.features]
        raise InvalidInstances(
            [Violation(f"/{t}/{f}", f"{names[f]}: expected a finite number, got {steps[t, f]}") for t, f in wrong]
        )
    try:
        state = read_state(token, spec, tokens)
    except BadToken as error:
        raise InvalidInstances([Violation("/state", str(error))]) from None
    return PredictRequest([Instance(steps, state)], options)


def encode(prediction: Prediction, options: Options) -> bytes:
    """The outputs of every step, or of the last one."""
    output = prediction.output if options.return_sequences else prediction.output[-1]
    return output.astype(FLOAT32, copy=False).tobytes()


def _value(name: str, text: str) -> Any:
    """What a query parameter stands for; what cannot be read is left for options_of to refuse."""
    if name in ("return_sequences", "return_state"):
        return {"true": True, "false": False}.get(text.lower(), text)
    if name == "timeout_ms":
        try:
            return float(text)
        except ValueError:
            return text
    return text
