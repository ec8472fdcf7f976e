"""State tokens: the state of a sequence as text for the client to hold, signed so that a changed token is refused.

Owns the format: URL-safe Base64 of the state's float32 numbers, little-endian, followed by their HMAC-SHA256. The HMAC key is
derived from a secret, the model, its version, its weights and the layout of its states, so a token fits nothing else. Every
replica with the same secret accepts the token. With several secrets all are accepted, so that a secret can be replaced.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import pybase64

from app.manifest import ModelSpec
from app.tensors import FLOAT32, State, pack_arrays, state_in, unpack

DIGEST = "sha256"
TAG = 32  # bytes
MOST_SEALS = 256  # kept in memory; making one again takes microseconds
URL_SAFE = b"-_"  # in place of + and /


class BadToken(Exception):
    """Not a valid token for this model and version; the text says what may be the reason."""


@dataclass(frozen=True, slots=True)
class _Seal:
    """The keys for one version's tokens, the first of which signs, and how long the tokens are."""

    spec: ModelSpec
    keys: tuple[bytes, ...]
    length: int  # characters of a token
    padding: str  # the "=" characters that Base64 needs at the end


class Tokens:
    """Signs tokens with the first secret, and accepts those that any of the secrets signed."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._seals: dict[tuple[str, str], _Seal] = {}

    def encode(self, state: State, spec: ModelSpec) -> str:
        numbers = pack_arrays(state)
        tag = hmac.digest(self._seal(spec).keys[0], numbers, DIGEST)
        return _text(numbers + tag)

    def decode(self, token: str, spec: ModelSpec) -> State:
        """The state in a token that `encode` wrote for this version; raises BadToken for anything else."""
        seal = self._seal(spec)
        try:
            if len(token) != seal.length or "+" in token or "/" in token:  # a cheap check before any decoding
                raise BadToken
            signed = pybase64.b64decode(token + seal.padding, URL_SAFE, validate=True)
            if _text(signed) != token:  # Base64 ignores some bits of the last character: only one spelling is accepted
                raise BadToken
            numbers, tag = signed[:-TAG], signed[-TAG:]
            if not any(hmac.compare_digest(hmac.digest(key, numbers, DIGEST), tag) for key in seal.keys):
                raise BadToken
        except (BadToken, ValueError):
            raise BadToken(
                f"not a state of {spec}: it was changed or cut off, or it belongs to another model, version or signing key, "
                "or to other files of this version"
            ) from None
        return state_in(unpack(signed, spec.state_size), spec)

    def _seal(self, spec: ModelSpec) -> _Seal:
        seal = self._seals.get((spec.name, spec.version))
        if seal is None or seal.spec is not spec:
            layout = ";".join(f"{state.input}:{','.join(map(str, state.shape))}" for state in spec.states)
            purpose = f"recurve state 2|{spec.name}|{spec.version}|{spec.weights}|{layout}".encode()
            length = ceil((spec.state_size * FLOAT32.itemsize + TAG) * 4 / 3)
            keys = tuple(hmac.digest(secret, purpose, DIGEST) for secret in self._secrets)
            if len(self._seals) >= MOST_SEALS:
                del self._seals[next(iter(self._seals))]  # the oldest: most likely of a version that is not served any more
            seal = self._seals[spec.name, spec.version] = _Seal(spec, keys, length, "=" * (-length % 4))
        return seal


def _text(signed: bytes) -> str:
    return pybase64.b64encode_as_string(signed, URL_SAFE).rstrip("=")
