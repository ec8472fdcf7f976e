"""The certificate that connections are encrypted with: what may be wrong with its files, and that they are read again when
they change.

Knows nothing of connections.
"""

import logging
import ssl
from pathlib import Path
from time import monotonic

log = logging.getLogger(__name__)

BEGIN = b"-----BEGIN"
LOOK = 1.0  # seconds at least between two looks at the files

Marks = tuple[tuple[int, int, int] | None, ...]  # what tells the files from others: None where there is none


class Certificate:
    """A chain and its key, in PEM, as their files had them last when they were good; ValueError says what is wrong at first."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = (cert, key)
        self._marks = self._marked()
        self._doubtful: Marks = ()
        self._looked = monotonic()
        self._context = context_of(cert, key)

    def context(self) -> ssl.SSLContext:
        """For the next handshake. Files that have become no pair are told in the log, and change nothing."""
        if monotonic() - self._looked >= LOOK:
            self._looked = monotonic()
            self._look()
        return self._context

    def _look(self) -> None:
        marks = self._marked()
        if marks == self._marks:
            return
        cert, key = self._files
        try:
            self._context = context_of(cert, key)
        except ValueError as error:
            if marks != self._doubtful:  # one of the two may have been exchanged, and the other not yet
                self._doubtful = marks
                return
            log.error("The certificate that was read before is served on: %s.", error)
        else:
            log.info("The certificate in %s has changed, and is served.", cert)
        self._marks = marks

    def _marked(self) -> Marks:
        return tuple(map(_mark, self._files))


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


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
