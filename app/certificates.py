"""The certificate that connections are encrypted with: what may be wrong with its files.

Knows nothing of connections.
"""

import ssl
from pathlib import Path

from app.watched import Watched

BEGIN = b"-----BEGIN"


def watched(cert: Path, key: Path) -> Watched[ssl.SSLContext]:
    """`context_of` these files as they are now, or as they were when they were a pair last."""
    return Watched(
        [cert, key],
        lambda: context_of(cert, key),
        changed=f"The certificate in {cert} has changed, and is served",
        kept="The certificate that was read before is served on",
    )


def context_of(cert: Path, key: Path) -> ssl.SSLContext:
    """For a server with this certificate, a chain, and its key, in PEM; ValueError says what is wrong with them."""
    for file in (cert, key):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        if BEGIN not in content:
            raise ValueError(f"{file} is not PEM: expected a file with '{BEGIN.decode()} ...' in it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 or later
    context.set_alpn_protocols(["http/1.1"])

    def encrypted() -> str:
        raise ValueError(f"{key} needs a passphrase, and none can be given: expected a key that is not encrypted")

    try:
        context.load_cert_chain(cert, key, password=encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key} is not the key of the certificate in {cert}") from None
        raise ValueError(f"{cert} and {key} are not a certificate and its key in PEM: {error.reason or error}") from None
    return context
