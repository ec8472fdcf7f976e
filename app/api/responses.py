"""What may come back from a route beside the body that it is asked for, as OpenAPI describes it: errors and headers."""

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

    A body, which may be malformed (400), may come too slowly, or from a page of another origin; a key, which may be unknown (401),
    may be used too often.
    """
    found = sorted({*statuses, *((403, 408) if 400 in statuses else ()), *((429,) if 401 in statuses else ())})
    body = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "", "headers": headers(**BESIDE.get(status, {})), "content": body} for status in found}


def headers(**described: str) -> dict[str, Any]:
    """The headers of an answer, for its OpenAPI description: what each says. Those that count are whole numbers."""
    return {
        name.replace("_", "-"): {"description": text, "schema": {"type": "integer" if name in COUNTS else "string"}}
        for name, text in described.items()
    }
