"""The OpenAPI document: what the framework makes of the routes, and what it cannot know.

Owns the changes by which generators of clients, in many languages, make types that fit the answers. The bodies are schemas.py's
and v2_schemas.py's.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from fastapi import FastAPI

from app.api import many_schemas, model_schemas, schemas, v2_schemas
from app.api.guard import needs_no_key

DESCRIPTION = """Batched sequence predictions from recurrent models. Sequences in one request may have any lengths.

A live signal goes through a WebSocket, which OpenAPI cannot describe: `WS /streams/{id}/ws` goes on with a stream, and
`WS /streams/ws` begins one. Each message is a chunk, the next time steps, and is answered in order and in its kind: a text is the
JSON of `POST /streams/{id}/predict`, and so is its answer; binary is float32, little-endian, row-major. Numbers, options and close
codes are in `docs/api.md`, under *WebSockets*.
"""
# How a key may be sent: guard.py reads it.
SCHEMES = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "the secret of a key"},
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same, as a header of its own"},
}
# Bodies that the routes do not declare to the framework; and one whose example the framework would show without its nulls.
DESCRIBED = (*schemas.DESCRIBED, *many_schemas.DESCRIBED, *v2_schemas.DESCRIBED, model_schemas.Models)
FORMATS = {"integer": "int64", "number": "double"}  # else some generators take 32 bits, too few for nanoseconds
NULL = {"type": "null"}


def install(app: FastAPI, *, keyed: bool) -> None:
    """Have the document made at the first request for it: to make it takes longer than to make all the routes."""
    app.openapi = cache(partial(_completed, app.openapi, keyed=keyed))  # type: ignore[method-assign]  # FastAPI's way to extend it


def _completed(openapi: Callable[[], dict[str, Any]], *, keyed: bool) -> dict[str, Any]:
    """The document, with the bodies that routes do not declare to the framework; if there are keys, also which routes need one."""
    document = openapi()
    if keyed:
        document["components"]["securitySchemes"] = SCHEMES
        for path, operations in document["paths"].items():
            if not needs_no_key(path):
                for operation in operations.values():
                    operation["security"] = [{name: []} for name in SCHEMES]
    components = document["components"]["schemas"]
    for model in DESCRIBED:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(schema.pop("$defs", {}))
        components[model.__name__] = schema
    for schema in components.values():
        _typed(schema, bodies=True)
    _typed(document["paths"], bodies=False)
    return document


def _typed(node: Any, *, bodies: bool) -> None:
    """Add to schemas what generators of clients need: the size of numbers, and that exactly one of several alternatives applies.

    Removes the defaults of members: some generators take a member with a default as always present.
    """
    if isinstance(node, list):
        for each in node:
            _typed(each, bodies=bodies)
    if not isinstance(node, dict):
        return
    kind = node.get("type")
    if isinstance(kind, str) and kind in FORMATS:  # else it is the schema of a member named "type"
        node["format"] = FORMATS[kind]
    if NULL not in node.get("anyOf", [NULL]):
        node["oneOf"] = node.pop("anyOf")
    if bodies and isinstance(node.get("properties"), dict):
        for schema in node["properties"].values():
            schema.pop("default", None)
    for name, each in node.items():
        if name != "examples":
            _typed(each, bodies=bodies)
