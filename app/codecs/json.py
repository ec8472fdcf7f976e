"""The JSON body of POST /predict: bytes -> instances, predictions -> bytes.

Owns the fast way through both. It reads numbers straight into a buffer, without a Python object for each, and gives
up at the first thing out of the ordinary: plain.py takes over then and says what is wrong. Knows nothing of HTTP.
"""

from collections.abc import Sequence

import numpy as np
import orjson
import simdjson

from app.codecs import plain
from app.codecs.plain import FLOAT32_MAX, Choose
from app.codecs.request import MEMBERS, Limits, Options, PredictRequest, options_of
from app.errors import RecurveError
from app.manifest import ModelSpec
from app.tensors import Array, Instance, Prediction


class _Unusual(Exception):
    """The fast decoder cannot vouch for this body: the plain one must look."""


class Decoder:
    """Decodes bodies, one at a time. `choose` gives the spec of a model and version, either of them None, or raises."""

    def __init__(self, limits: Limits, choose: Choose) -> None:
        self._limits = limits
        self._choose = choose
        self._parser = simdjson.Parser()

    def decode(self, body: bytes) -> PredictRequest:
        """Raises MalformedBody, InvalidInstances, TooLarge, and what `choose` raises. All instances are good, or none."""
        refusal: RecurveError | None = None
        try:
            return self._decode(body)
        except _Unusual:
            pass
        except RecurveError as error:
            refusal = error.with_traceback(None)
        # raised here, so that no traceback keeps the parser's document alive: a parser has one at a time
        if refusal is not None:
            raise refusal
        return plain.decode(body, self._limits, self._choose)

    def _decode(self, body: bytes) -> PredictRequest:
        try:
            document = self._parser.parse(body)
        except (ValueError, RuntimeError):  # not JSON, or NaN, or a number out of range
            raise _Unusual from None
        if not isinstance(document, simdjson.Object):
            raise _Unusual
        names = [*document.keys()] if len(document) <= len(MEMBERS) else []
        if not names or len(set(names)) < len(names) or not set(names) <= set(MEMBERS):
            raise _Unusual
        members = {name: document[name] for name in names}  # items() would make Python lists of it all
        options = options_of(members)
        spec = self._choose(options.model, options.version)
        instances = members["instances"]
        if not isinstance(instances, simdjson.Array):
            raise _Unusual
        self._limits.check_instances(len(instances))
        decoded = []
        brackets = 1
        for instance in instances:
            if isinstance(instance, simdjson.Object):
                if list(instance.keys()) != ["input"]:
                    raise _Unusual
                instance = instance["input"]
            steps = self._steps(instance, len(spec.features))
            brackets += 1 + len(steps)
            decoded.append(Instance(steps=steps))
        # as_buffer flattens whatever is nested: with no bracket more than these, no number hides in an array of its own
        if body.count(b"[") != brackets:
            raise _Unusual
        return PredictRequest(decoded, options)

    def _steps(self, sequence: object, features: int) -> Array:
        if not isinstance(sequence, simdjson.Array):
            raise _Unusual
        length = len(sequence)
        if not 0 < length <= self._limits.max_steps:
            raise _Unusual
        try:
            if set(map(len, sequence)) != {features}:  # type: ignore[arg-type]  # a step without a length: TypeError
                raise _Unusual
            values = np.frombuffer(sequence.as_buffer(of_type="d"), dtype=np.float64)
        except TypeError:  # something else than a number where a number belongs
            raise _Unusual from None
        if values.size != length * features or values @ values > FLOAT32_MAX**2:  # then some value may be too large
            raise _Unusual
        return values.astype(np.float32).reshape(length, features)


def encode(predictions: Sequence[Prediction], options: Options, spec: ModelSpec, provider: str) -> bytes:
    """The body of the answer. Every float32 is written in the fewest digits that give it back."""
    if options.return_sequences:
        outputs = [prediction.output for prediction in predictions]
    else:
        outputs = [prediction.output[-1] for prediction in predictions]
    answer = {"predictions": outputs, "model": spec.name, "version": spec.version, "provider": provider}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
