"""API keys: who may ask for predictions, and who may say which models are served.

Owns their format, `name:role:secret`, and how one is known again: secrets are kept as digests and compared in constant time.
Knows nothing of HTTP.
"""

import hmac
import re
from hashlib import sha256
from typing import Literal, Self, get_args

Role = Literal["predict", "admin"]

SHORTEST = 16  # characters of a secret

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Keys:
    """The keys of one service."""

    def __init__(self, roles: dict[bytes, Role]) -> None:
        self._roles = roles  # by the digest of the secret

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `name:role:secret`, with commas or line ends between them; ValueError says which is wrong and shows no secret."""
        roles: dict[bytes, Role] = {}
        names = set()
        for number, given in enumerate(filter(None, map(str.strip, re.split(r"[,\n]", text))), start=1):
            name, role, secret = [*given.split(":", 2), "", ""][:3]
            which = f"key {number} of RECURVE_API_KEYS"
            if not _NAME.fullmatch(name) or name in names:
                raise ValueError(f"{which} has no name of its own: expected name:role:secret")
            if role not in get_args(Role):
                raise ValueError(f"{which} has no role that is known: expected name:role:secret with {' or '.join(get_args(Role))}")
            if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable():
                raise ValueError(f"{which} has a secret that is too weak: expected {SHORTEST} characters of ASCII or more")
            if _digest(secret) in roles:
                raise ValueError(f"{which} has the secret of another")
            names.add(name)
            roles[_digest(secret)] = role  # type: ignore[assignment]  # one of them, as was seen above
        if text and not roles:
            raise ValueError("RECURVE_API_KEYS holds no key: expected name:role:secret")
        return cls(roles)

    def __len__(self) -> int:
        return len(self._roles)

    def role_of(self, secret: str) -> Role | None:
        """What its holder may do; None: nobody has this secret."""
        digest, found = _digest(secret), None
        for known, role in self._roles.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, digest):
                found = role
        return found


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()
