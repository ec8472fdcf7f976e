"""Who may do what: every request's key is looked at before anything else of it.

Owns which routes need which role. Knows nothing of how keys are kept.
"""

from starlette.types import Scope

from app.errors import Forbidden, Unauthorized
from app.keys import Keys

# What answers without a key: probes, metrics, and the documentation.
OPEN = ("/health", "/metrics", "/v2/health", "/docs", "/openapi.json", "/static-offline-docs")
ADMIN = "/v2/repository/models/"
NEXT = "set RECURVE_API_KEYS=name:admin:secret and send the secret as 'Authorization: Bearer ...'"


class Guard:
    """Lets a request through, or says why not."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def check(self, scope: Scope) -> None:
        """Unauthorized without a key that is known, Forbidden without the right one.

        Without any keys all is open but what needs an administrator, which nobody is.
        """
        path: str = scope["path"]
        admin = path.startswith(ADMIN)
        if not len(self._keys):
            if admin:
                raise Forbidden(f"Models are loaded and unloaded by administrators only: {NEXT}.")
            return
        if path == "/" or path.startswith(OPEN):
            return
        secret = _secret_in(dict(scope["headers"]))
        if secret is None:
            raise Unauthorized("A key is needed: send its secret as 'Authorization: Bearer ...' or 'X-API-Key: ...'.")
        role = self._keys.role_of(secret)
        if role is None:
            raise Unauthorized("The key is not known.")
        if admin and role != "admin":
            raise Forbidden("Models are loaded and unloaded by administrators only, and this key has the role predict.")


def _secret_in(headers: dict[bytes, bytes]) -> str | None:
    scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    key = headers.get(b"x-api-key")
    return None if key is None else key.decode("latin-1")
