"""What a route may return beside its usual body, as OpenAPI describes it: errors and headers."""

from typing import Any

from app.api.problems import MEDIA_TYPE

BESIDE = {
    401: {"WWW_Authenticate": "Bearer"},
    429: {"Retry_After": "seconds after which to come back"},
    503: {"Retry_After": "seconds after which to come back"},
}
COUNTS = ("Retry_After", "Recurve_Seq", "Recurve_Steps")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description.

    Some imply others: where a body may be malformed (400), it may also arrive too slowly (408) or from a page of another origin
    (403); where a key may be unknown (401), it may also be used too often (429).
    """
    found = sorted({*statuses, *((403, 408) if 400 in statuses else ()), *((429,) if 401 in statuses else ())})
    body = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "", "headers": headers(**BESIDE.get(status, {})), "content": body} for status in found}


def headers(**described: str) -> dict[str, Any]:
    """The headers of an answer, for its OpenAPI description, from a text for each; those in `COUNTS` are integers."""
    return {
        name.replace("_", "-"): {"description": text, "schema": {"type": "integer" if name in COUNTS else "string"}}
        for name, text in described.items()
    }
