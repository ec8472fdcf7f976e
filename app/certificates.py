"""The certificate that connections are encrypted with, and what may be wrong with its files.

Knows nothing of connections.
"""

import ssl
from pathlib import Path


def context_of(cert: Path, key: Path) -> ssl.SSLContext:
    """For a server with this certificate, a chain, and its key, in PEM; ValueError says what is wrong with them."""
    for file in (cert, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
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
