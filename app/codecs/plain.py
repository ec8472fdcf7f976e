"""The exact decoder of the JSON body: says of every wrong value what it is and where.

Owns the validation of sequences, and what the format means where there is doubt. Written for exactness: json.py has
the fast decoder, which must agree with this one.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from app.codecs.request import MOST_VIOLATIONS, Limits, PredictRequest, escape, hint, kind, options_of
from app.errors import InvalidInstances, MalformedBody, TooLarge, Violation
from app.manifest import ModelSpec
from app.tensors import Instance

FLOAT32_MAX = float(np.finfo(np.float32).max)

Choose = Callable[[str | None, str | None], ModelSpec]


def decode(body: bytes, limits: Limits, choose: Choose) -> PredictRequest:
    """Raises MalformedBody, InvalidInstances, TooLarge, and what `choose` raises for a model and version it has not."""
    members = _parse(body)
    if not isinstance(members, dict):
        raise InvalidInstances([Violation("", f"expected an object with the member instances, got {kind(members)}")])
    options = options_of(members)
    spec = choose(options.model, options.version)
    instances = members["instances"]
    if not isinstance(instances, list):
        raise InvalidInstances([Violation("/instances", f"expected an array of sequences, got {kind(instances)}")])
    limits.check_instances(len(instances))
    violations: list[Violation] = []
    decoded = []
    for index, instance in enumerate(instances):
        pointer = f"/instances/{index}"
        if isinstance(instance, dict):
            unknown = sorted(set(instance) - {"input"})
            violations += [Violation(f"{pointer}/{escape(name)}", f"unknown member; {hint(name, ('input',))}") for name in unknown]
            if "input" not in instance:
                violations.append(Violation(pointer, "the member input is missing"))
                continue
            pointer, instance = f"{pointer}/input", instance["input"]
        found = _violations(instance, pointer, spec, limits)
        violations += found
        if len(violations) >= MOST_VIOLATIONS:
            break
        if not found:
            decoded.append(Instance(steps=np.array(instance, dtype=np.float64).astype(np.float32)))
    if violations:
        raise InvalidInstances(violations[:MOST_VIOLATIONS])
    return PredictRequest(decoded, options)


def _parse(body: bytes) -> Any:
    """JSON, and NaN and Infinity too, so that they can be pointed at."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise MalformedBody(f"The body is not valid JSON: {error.msg} at {where}.") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not UTF-8: {error.reason} at byte {error.start}.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None
    except ValueError as error:  # an integer of thousands of digits
        raise MalformedBody(f"The body is not valid JSON: {error}.") from None


def _violations(sequence: Any, pointer: str, spec: ModelSpec, limits: Limits) -> list[Violation]:
    """What is wrong with one sequence, MOST_VIOLATIONS things of it or a few more."""
    features = len(spec.features)
    if not isinstance(sequence, list):
        return [Violation(pointer, f"expected a sequence, an array of time steps, got {kind(sequence)}")]
    if not sequence:
        return [Violation(pointer, "expected one time step or more, got an empty sequence")]
    if len(sequence) > limits.max_steps:
        raise TooLarge(f"{pointer}: the sequence has {len(sequence)} time steps; at most {limits.max_steps} are taken in one.")
    found: list[Violation] = []
    for time, step in enumerate(sequence):
        if not isinstance(step, list):
            found.append(Violation(f"{pointer}/{time}", f"expected a time step, an array of {features} numbers, got {kind(step)}"))
        elif len(step) != features:
            found.append(Violation(f"{pointer}/{time}", f"expected {features} features, got {len(step)}"))
        else:
            problems = ((feature, _problem(value)) for feature, value in enumerate(step))
            found += [
                Violation(f"{pointer}/{time}/{feature}", f"{spec.features[feature].name}: {problem}")
                for feature, problem in problems
                if problem
            ]
        if len(found) >= MOST_VIOLATIONS:
            break
    return found


def _problem(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {kind(value)}"
    if value != value:
        return "expected a finite number, got NaN"
    if abs(value) > FLOAT32_MAX:
        return f"expected a number within float32, at most 3.4e38, got {str(value)[:24]}"
    return None
