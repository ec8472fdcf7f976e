"""Who may do what, and how often: every request's API key is checked before anything else.

Owns which routes need which role, where in a request the key is, and what counts against a key's rate. Knows nothing of how keys
and rates are stored.
"""

from base64 import urlsafe_b64decode
from binascii import Error
from collections.abc import Callable, Iterable
from math import ceil
from pathlib import Path
from time import monotonic

from starlette.types import Scope

from app.api.origins import HOST, SAFE, is_foreign
from app.errors import Forbidden, RateLimited, Unauthorized
from app.keys import MOST, Key, Keys, watched
from app.rates import Rates

# Routes that need no key: probes, metrics, and the documentation.
OPEN = ("/health", "/metrics", "/v2/health", "/docs", "/openapi.json", "/static-offline-docs")
# Also without a key: the live page and its files, since the page asks for the key, and the models, which it shows before that.
PUBLIC, PUBLIC_FILES = ("/", "/models"), "/assets/"
ADMIN = "/v2/repository/models/"
# A page cannot set the headers of its WebSocket. It names two subprotocols instead: PROTOCOL, and the key in base64url after
# PROTOCOL_KEY; the second is never sent back.
PROTOCOL, PROTOCOL_KEY = "recurve", "recurve.key."
NEXT = "set RECURVE_API_KEYS=name:admin:secret and send the secret as 'Authorization: Bearer ...'"


class Guard:
    """Lets a request through, or raises why not. The keys are those that `read` returns; it is called again when `file` changes.

    All processes that are forked later share the count of each key's requests.
    """

    def __init__(self, file: Path | None, read: Callable[[], Keys]) -> None:
        self.keys = watched(file, read)
        self._rates = Rates(MOST)

    def check(self, scope: Scope) -> None:
        """Raises Unauthorized without a known key, Forbidden if the key lacks the role, RateLimited if it is used too often.

        If no keys are set, everything is open, except what needs an administrator and, to pages of another origin, what changes
        anything. If there are keys, such a page has none unless its visitor gave it one.
        """
        path: str = scope["path"]
        admin = path.startswith(ADMIN)
        keys = self.keys.found
        if not len(keys):
            if admin:
                raise Forbidden(f"Models are loaded and unloaded by administrators only: {NEXT}.")
            if scope.get("method", "GET") not in SAFE and is_foreign(dict(scope["headers"])):
                raise Forbidden(f"The request comes from a page of another origin and has no key; {HOST}.")
            return
        if needs_no_key(path):
            return
        secret = _secret_in(dict(scope["headers"])) or _secret_among(scope.get("subprotocols", ()))
        if secret is None:
            raise Unauthorized("A key is needed: send its secret as 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        key = keys.find(secret)
        if key is None:
            raise Unauthorized("The key is not known.")
        scope["state"]["key"] = key
        self._take(key)
        if admin and key.role != "admin":
            raise Forbidden("Models are loaded and unloaded by administrators only, and this key has the role predict.")

    def allow(self, scope: Scope, messages: int) -> int:
        """How many of a WebSocket's `messages` may be worked on now; each counts against the rate of its key.

        Raises RateLimited if none may, Unauthorized if the key was removed after the connection began.
        """
        began_with: Key | None = scope["state"].get("key")
        if began_with is None:
            return messages
        key = self.keys.found.renewed(began_with)
        if key is None:
            raise Unauthorized("The key is not known any more.")
        self._take(key)
        allowed = 1 if key.rate else messages
        while allowed < messages and not self._rates.take(key.number, key.rate, monotonic()):
            allowed += 1
        return allowed

    def _take(self, key: Key) -> None:
        if wait := self._rates.take(key.number, key.rate, monotonic()):
            detail = f"The key {key.name} may ask {key.rate:g} times a second and has done so: try again in {wait:.3g} s."
            raise RateLimited(detail, retry_after=ceil(wait))


def needs_no_key(path: str) -> bool:
    """Whether this path is answered without a key even if keys are set."""
    return path in PUBLIC or path.startswith((PUBLIC_FILES, *OPEN))


def _secret_in(headers: dict[bytes, bytes]) -> str | None:
    scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    key = headers.get(b"x-api-key")
    return None if key is None else key.decode("latin-1")


def _secret_among(subprotocols: Iterable[str]) -> str | None:
    packed = next((name.removeprefix(PROTOCOL_KEY) for name in subprotocols if name.startswith(PROTOCOL_KEY)), None)
    if packed is None:
        return None
    try:
        return urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode("latin-1")
    except Error:
        return ""  # no key has this secret
