"""The validation errors of pydantic, in the service's own words.

Owns the words. Knows nothing of what the values mean. The codecs do not use pydantic and have their own words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.codecs.request import MOST_VIOLATIONS, escape, kind, unknown_members
from app.errors import MOST_SHOWN, Violation

EXPECTED = {  # by pydantic's name for the error; its context fills in the limit
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number above {gt:.15g}",
    "greater_than_equal": "a number from {ge:.15g} up",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "less_than_equal": "a number up to {le:.15g}",
    "model_type": "an object",
    "string_pattern_mismatch": "1 to 128 letters, digits, dots, dashes and underscores, the first a letter or digit",
    "string_too_long": "{max_length} characters at most",
    "string_type": "a string",
}
OURS = "Value error, "  # pydantic puts this before the message of a validator of ours


def of(errors: Sequence[Mapping[str, Any]], known: tuple[str, ...] = ()) -> list[Violation]:
    """The violations for these errors of pydantic, MOST_VIOLATIONS at most; `known`: the names of all possible members."""
    return [_violation(each, known) for each in errors[:MOST_VIOLATIONS]]


def _violation(error: Mapping[str, Any], known: tuple[str, ...]) -> Violation:
    type, given = error["type"], error["input"]
    path = [str(part) for part in error["loc"]]
    if type == "extra_forbidden" and known:
        return unknown_members(path[-1:], "", known)[0]
    pointer = "".join(f"/{escape(part)}" for part in path)
    if type == "extra_forbidden":
        return Violation(pointer, "unknown parameter; those of each route are listed at /docs")
    if type not in EXPECTED:
        return Violation(pointer, error["msg"].removeprefix(OURS))
    return Violation(pointer, f"expected {EXPECTED[type].format(**error.get('ctx', {}))}, got {_shown(given)}")


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(value[:MOST_SHOWN])
    return str(value)[:MOST_SHOWN] if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)
