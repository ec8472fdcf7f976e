"""The bytes of a text file: its compression and encoding, and the refusal of files that are not text.

Owns how bytes become characters. Knows nothing of separators or columns.
"""

import codecs
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from scripts.tables.recording import DataError

SAMPLE_BYTES = 1 << 21
_GZIP = b"\x1f\x8b"
# How files begin that are often mistaken for text, and what to do about them.
_OTHERS = (
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive: save the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save the sheet as CSV"),
    (b"\x93NUMPY", "a NumPy array: write it with numpy.savetxt(file, array, delimiter=',')"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"\x89HDF", "an HDF5 file: write the table as CSV or Parquet"),
    (b"MATLAB", "a MATLAB file: write the table with writetable(..., 'data.csv')"),
    (b"<!DOCTYPE", "a web page: the download may have failed, or asked for a login"),
    (b"<html", "a web page: the download may have failed, or asked for a login"),
    (b"<?xml", "XML: export the table as CSV"),
    (b'{"', "JSON: write the table as CSV or Parquet"),
    (b"[{", "JSON: write the table as CSV or Parquet"),
    (b"SQLite", "an SQLite database: export the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it, or use gzip"),
    (b"BZh", "compressed with bzip2: unpack it, or use gzip"),
    (b"\xfd7zXZ", "compressed with xz: unpack it, or use gzip"),
)


@dataclass(frozen=True, slots=True)
class Text:
    """A text file: how it is encoded, and how it begins."""

    path: Path
    encoding: str
    compressed: bool
    sample: str
    whole: bool  # whether the sample is the whole file

    def source(self) -> Path | bytes:
        """The input for a reader of UTF-8: the file's path if it is plain UTF-8, otherwise its content in UTF-8."""
        old_mac = "\r" in self.sample and "\n" not in self.sample
        if self.encoding == "utf-8" and not self.compressed and not old_mac:
            return self.path
        raw = _unpacked(self.path) if self.compressed else self.path.read_bytes()
        if self.encoding != "utf-8":
            try:
                raw = raw.decode(self.encoding).encode()
            except UnicodeDecodeError as error:
                raise DataError(f"{self.path.name} is not {self.encoding} at byte {error.start:,}: save it as UTF-8.") from error
        return raw.replace(b"\r", b"\n") if old_mac else raw


def open_text(path: Path) -> Text:
    """Find out how to read a file as text; DataError if it is empty or not text, OSError if it cannot be read."""
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES + 1)
    compressed = head.startswith(_GZIP)
    if compressed:
        head = _unpacked(path, size=SAMPLE_BYTES + 1)
    for beginning, what in _OTHERS:
        if head.startswith(beginning):
            raise DataError(f"{path.name} is {what}.")
    whole = len(head) <= SAMPLE_BYTES
    head = head[:SAMPLE_BYTES]
    if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise DataError(f"{path.name} is empty.")
    encoding = _encoding(head, path)
    sample = codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff")
    return Text(path, encoding, compressed, sample, whole)


def as_western(text: Text) -> Text:
    """The same file, to be read as Latin-1: after the sample it turned out not to be UTF-8."""
    return Text(text.path, "latin-1", text.compressed, text.sample, text.whole)


def _encoding(head: bytes, path: Path) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\x00" in head:  # text in UTF-16 without a mark has zeros in every second byte
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) < 0.3 * len(head) / 2 or min(even, odd) > 0.05 * len(head):
            raise DataError(f"{path.name} is not text: it holds zero bytes. Export it as CSV or Parquet.")
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _unpacked(path: Path, *, size: int = -1) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(size)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} is damaged: its gzip stream cannot be unpacked ({error}).") from error
