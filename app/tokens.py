"""State tokens: the state of a sequence as opaque text, which its holder can neither read nor change unnoticed.

Owns the format: the state's float32 little-endian, then HMAC-SHA256, both in URL-safe Base64. The key of the signature is
made from the secret, the model, its version and the layout of its states: a token fits nothing else. Whoever has the
same secret accepts it, so any replica can go on where another stopped.
"""

import hashlib
import hmac
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, prod

import numpy as np
from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import base64_decode, base64_encode

from app.manifest import ModelSpec
from app.tensors import State

FLOAT32 = np.dtype("<f4")
SIGNATURE = ceil(hashlib.sha256().digest_size * 4 / 3) + 1  # characters, with the dot before it


class BadToken(Exception):
    """Not a token of this model's, or not one any more; the text says what may have happened."""


@dataclass(frozen=True, slots=True)
class _Seal:
    """What signs the states of one version, and their layout."""

    spec: ModelSpec
    signer: Signer
    length: int  # characters of a token
    ends: tuple[int, ...]  # where each state ends, in numbers


class Tokens:
    """Writes and reads the tokens of one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seals: dict[tuple[str, str], _Seal] = {}

    def encode(self, state: State, spec: ModelSpec) -> str:
        numbers = b"".join(array.astype(FLOAT32, copy=False).tobytes() for array in state)
        return self._seal(spec).signer.sign(base64_encode(numbers)).decode()

    def decode(self, token: str, spec: ModelSpec) -> State:
        """The state in a token that `encode` wrote for this version; BadToken for anything else."""
        seal = self._seal(spec)
        try:
            if len(token) != seal.length:  # before anything is computed over it
                raise BadSignature("length")
            numbers = np.frombuffer(base64_decode(seal.signer.unsign(token)), FLOAT32).astype(np.float32, copy=False)
        except (BadSignature, UnicodeEncodeError):
            raise BadToken(
                f"not a state of {spec}: it was changed or cut off, or it belongs to another model, version or signing key"
            ) from None
        parts = np.split(numbers, seal.ends[:-1])
        return tuple(part.reshape(state.shape) for part, state in zip(parts, spec.states, strict=True))

    def _seal(self, spec: ModelSpec) -> _Seal:
        seal = self._seals.get((spec.name, spec.version))
        if seal is None or seal.spec is not spec:
            layout = ";".join(f"{state.input}:{','.join(map(str, state.shape))}" for state in spec.states)
            purpose = f"recurve state 1|{spec.name}|{spec.version}|{layout}".encode()
            key = hmac.digest(self._secret, purpose, "sha256")
            ends = tuple(accumulate(prod(state.shape) for state in spec.states))
            length = ceil(ends[-1] * FLOAT32.itemsize * 4 / 3) + SIGNATURE if ends else SIGNATURE
            signer = Signer(key, key_derivation="none", digest_method=hashlib.sha256)
            seal = self._seals[spec.name, spec.version] = _Seal(spec, signer, length, ends)
        return seal
