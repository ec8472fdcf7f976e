"""GET / and the files it needs: the live page, which shows what the service does.

Owns how they are served: under an address that changes with any of the files, so that browsers may cache them for ever; and what
the page may do. The page's own files are in app/page. uPlot draws the plots: it comes with a package, and its files are served only
as its authors published them. Knows nothing of what the page shows.
"""

import gzip
import logging
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256, sha384
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent.parent / "page"
PAGE = "index.html"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
# uPlot 1.6.31. The package is located but never imported: nothing else in it is needed here.
LIBRARY = "youplot"
LIBRARY_FILES = {"uplot.js": "vendor/uplot.iife.min.js", "uplot.css": "vendor/uplot.min.css"}
# The digests of the files as their authors published them; other files are not served. The browser checks them too (Subresource
# Integrity).
PUBLISHED = {
    "uplot.js": "sha384-XMP23k7YSCFr13Xrkxh4IO0v1W+8fB6AP+3Vycxphp2Z0V2vocAZHyuGaFCysrtM",
    "uplot.css": "sha384-IfV0B7MIOYuO95kO9G5ySKPz/85zqFNOAs8iy4tkK5zd9izhJAB8b7lHrwYqqmYE",
}

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
ALWAYS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Vary": "Accept-Encoding"}
FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}
FOR_THE_PAGE = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file to be served, as it is and compressed."""

    body: bytes
    packed: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> "File":
        return cls(body, gzip.compress(body, mtime=0), media_type, f'"{sha256(body).hexdigest()[:16]}"')


class Site:
    """The page and its files, read at the first request for one: many services never get one."""

    def __init__(self, library: Mapping[str, Path]) -> None:
        self._library = library  # the paths of uPlot's files, by the names that the page uses

    @cached_property
    def _sources(self) -> Mapping[str, bytes]:
        """The contents of all files but the page, by name."""
        found = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
        return found | {name: body for name, path in self._library.items() if (body := _published(name, path)) is not None}

    @cached_property
    def edition(self) -> str:
        """Part of the files' addresses; changes when any of the files does."""
        digest = sha256()
        for name, body in sorted(self._sources.items()):
            digest.update(f"{name} {len(body)} ".encode() + body)
        return digest.hexdigest()[:16]

    @cached_property
    def page(self) -> File:
        digests = {name.upper(): PUBLISHED[name] if name in self._sources else "" for name in LIBRARY_FILES}
        marks = {"ASSETS": f"assets/{self.edition}", **digests}
        text = (FOLDER / PAGE).read_text(encoding="utf-8")
        for name, value in marks.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return File.of(text.encode(), "text/html; charset=utf-8")

    @cached_property
    def files(self) -> Mapping[str, File]:
        return {name: File.of(body, TYPES[Path(name).suffix]) for name, body in self._sources.items()}


def library() -> dict[str, Path]:
    """The paths of uPlot's files, by name; none if the package is missing: the page says so then, and the service does without."""
    spec = find_spec(LIBRARY)
    if spec is None or not spec.submodule_search_locations:
        log.warning(
            "The live page draws nothing: the package %s, which brings uPlot, is not installed. make install does it.", LIBRARY
        )
        return {}
    (folder,) = spec.submodule_search_locations
    return {name: Path(folder, path) for name, path in LIBRARY_FILES.items()}


def _published(name: str, path: Path) -> bytes | None:
    """The file if it is as it was published; else None: another one would run in the page with its user's key."""
    with suppress(OSError):
        body = path.read_bytes()
        if f"sha384-{b64encode(sha384(body).digest()).decode()}" == PUBLISHED[name]:
            return body
    log.error(
        "The live page does without %s: it is not the file of uPlot that was published. Install the package %s again, in the "
        "version that requirements/service.txt pins: pip install --force-reinstall.",
        path,
        LIBRARY,
    )
    return None


def router(site: Site) -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    def page(request: Request) -> Response:
        return _answer(request, site.page, FOR_THE_PAGE)

    @routes.get("/assets/{edition}/{name}")
    def file(edition: str, name: str, request: Request) -> Response:
        """A file of the current edition only: files of two editions would not fit each other."""
        if edition != site.edition or name not in site.files:
            raise HTTPException(404)
        return _answer(request, site.files[name], FOR_GOOD)

    return routes


def _answer(request: Request, file: File, headers: Mapping[str, str]) -> Response:
    told = {**ALWAYS, **headers, "ETag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=told)
    body = file.body
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, told["Content-Encoding"] = file.packed, "gzip"
    return Response(body, headers=told, media_type=file.media_type)
