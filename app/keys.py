"""API keys: who may ask for predictions, and who may load and unload models.

Owns their format, `name:role:secret` or `name:role@rate:secret`, and how a secret is checked: secrets are kept as digests.
Knows nothing of HTTP.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self, get_args

from app.watched import Watched

Role = Literal["predict", "admin"]

MOST = 65_536  # keys of one service
SHORTEST = 16  # characters of a secret
HIGHEST = 1e6  # requests a second
IN_VARIABLE, IN_FILE = "RECURVE_API_KEYS", "RECURVE_API_KEYS_FILE"  # where they are given, in messages

_RATE = re.compile(r"\d{1,9}(\.\d{1,9})?")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Key:
    """The name that a secret belongs to, and what its holder may do."""

    number: int  # from 0
    name: str
    role: Role
    rate: float  # requests a second; 0: any
    digest: bytes = field(repr=False)  # of the secret


class Keys:
    """The keys of one service."""

    def __init__(self, keys: dict[bytes, Key]) -> None:
        self._keys = keys  # by the digest of the secret

    @classmethod
    def parse(cls, text: str, *, rate: float = 0.0, source: str = IN_VARIABLE) -> Self:
        """Keys from `name:role:secret`, separated by commas or line ends. Raises ValueError, which says which key of `source` is
        wrong, and shows no secret.

        `rate` is for all keys but those with a rate of their own, as in `role@50`; in requests a second, 0: any.
        """
        keys: dict[bytes, Key] = {}
        names, roles = set(), get_args(Role)
        for number, given in enumerate(parted(text), start=1):
            name, role, secret = [*given.split(":", 2), "", ""][:3]
            which = f"key {number} of {source}"
            if not _NAME.fullmatch(name) or name in names:
                raise ValueError(f"{which} has no name of its own: expected name:role:secret")
            role, at, own = role.partition("@")
            if role not in roles:
                raise ValueError(f"{which} has no role that is known: expected name:role:secret with {' or '.join(roles)}")
            if at and not (_RATE.fullmatch(own) and float(own) <= HIGHEST):
                raise ValueError(f"{which} has no rate that can be kept: expected {role}@50, requests a second, up to {HIGHEST:g}")
            if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable():
                raise ValueError(f"{which} has a secret that is too weak: expected {SHORTEST} characters of ASCII or more")
            if (digest := _digest(secret)) in keys:
                raise ValueError(f"{which} has the secret of another")
            names.add(name)
            keys[digest] = Key(len(keys), name, role, float(own) if at else rate, digest)  # type: ignore[arg-type]  # checked above
        if text and not keys:
            raise ValueError(f"{source} holds no key: expected name:role:secret")
        if len(keys) > MOST:
            raise ValueError(f"{source} holds {len(keys)} keys: expected {MOST} at most")
        return cls(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Key]:
        """In the order of their numbers."""
        return iter(self._keys.values())

    def find(self, secret: str) -> Key | None:
        """The key with this secret, or None."""
        # What the time of a look-up may tell is how a digest begins. Nobody can find a secret to a digest of SHA-256, nor choose
        # the next guess by it, since secrets that are alike have digests that are not.
        return self._keys.get(_digest(secret))

    def renewed(self, key: Key) -> Key | None:
        """The key that now has the secret of `key`, which was found in an earlier file; None: it was removed."""
        return self._keys.get(key.digest)


def watched(file: Path | None, read: Callable[[], Keys]) -> Watched[Keys]:
    """The keys that `read` finds, as the file was last when it was valid. `file` is None if the keys are not in a file."""
    return Watched(
        [] if file is None else [file],
        read,
        changed=f"The keys in {file} have changed, and are in use",
        kept="The keys that were read before stay in use",
    )


def parted(text: str) -> list[str]:
    """The parts of a text between commas or line ends, without blank ones."""
    return [part for part in map(str.strip, re.split(r"[,\n]", text)) if part]


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()
