"""The TLS certificate: reads and checks its files, and tells when it expires.

Knows nothing of connections.
"""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import time

from app.watched import Watched

BEGIN = b"-----BEGIN"
SOON = 14 * 86_400.0  # seconds before it expires; from then on that is logged
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, for which Python has no name


@dataclass(frozen=True, slots=True)
class Certificate:
    """What handshakes need. `expires` is in seconds since 1970; None: no client can use the certificate, because of `trouble`."""

    file: Path
    context: ssl.SSLContext
    expires: float | None
    trouble: str = ""

    def doubts(self, now: float) -> str | None:
        """Why clients refuse the certificate, or will soon; None if they do not. `now` is in seconds since 1970."""
        if self.expires is None:
            return f"No caller can use the certificate in {self.file}: {self.trouble}"
        left = self.expires - now
        if left > SOON:
            return None
        when = f"{datetime.fromtimestamp(self.expires, UTC):%Y-%m-%d %H:%M} UTC"
        renew = "renew it: it is read again when it changes"
        return f"The certificate in {self.file} {'expires' if left > 0 else 'expired'} on {when}; {renew}"


def watched(cert: Path, key: Path) -> Watched[Certificate]:
    """The certificate in these files, as they were last when they matched."""
    return Watched(
        [cert, key],
        lambda: read(cert, key),
        changed=f"The certificate in {cert} has changed, and is served",
        kept="The certificate that was read before is served on",
        doubts=lambda found: found.doubts(time()),
    )


def read(cert: Path, key: Path) -> Certificate:
    """The certificate and key in these files. Raises ValueError, which says what is wrong with them."""
    context = context_of(cert, key)
    try:
        return Certificate(cert, context, _expiry(context, cert))
    except ssl.SSLError as error:
        return Certificate(cert, context, None, getattr(error, "verify_message", None) or error.reason or str(error))


def _expiry(context: ssl.SSLContext, cert: Path) -> float:
    """When the certificate expires, in seconds since 1970, from a handshake in memory. Raises SSLError if no client can use it."""
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.check_hostname = False
    caller.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME)
    caller.load_verify_locations(cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller_side, side = caller.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for each in 2 * (caller_side, side):
        with suppress(ssl.SSLWantReadError):
            each.do_handshake()
    found = caller_side.getpeercert()
    assert found
    return ssl.cert_time_to_seconds(str(found["notAfter"]))


def context_of(cert: Path, key: Path) -> ssl.SSLContext:
    """A server's context with this certificate, or chain, and its key, in PEM. Raises ValueError, which says what is wrong."""
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
