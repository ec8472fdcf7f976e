"""Finds the files that paths and globs name, in natural order.

Owns the search. Knows nothing of what is in the files.
"""

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from scripts.tables.recording import DataError
from scripts.tables.wording import listed, meant, natural


def find(patterns: Sequence[str]) -> tuple[Path, ...]:
    """Every file that is named or matched, each once: in the order of the patterns, and naturally sorted within each.

    DataError if a pattern matches nothing; the text says what is in its folder.
    """
    if not patterns:
        raise DataError("No file was named: give CSV or Parquet files, or a pattern such as 'runs/*.csv', with --data.")
    found: dict[Path, Path] = {}
    for pattern in patterns:
        try:
            for path in _matches(pattern):
                found.setdefault(path.resolve(), path)
        except OSError as error:  # a name that is too long, or a folder that may not be entered
            raise DataError(f"{pattern} cannot be looked up: {error.strerror or error}.") from error
    return tuple(found.values())


def labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """What to call each file: its name, or its whole path where two have the same name."""
    names = [path.name for path in paths]
    return tuple(str(path) if names.count(path.name) > 1 else path.name for path in paths)


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted((each.name for each in path.iterdir() if each.is_file()), key=natural)
        there = f"It holds {listed(inside)}." if inside else "It holds no files."
        raise DataError(f"{pattern} is a folder. {there} Name the files, for example '{path}/*.csv'.")
    if has_magic(pattern):
        matches = [Path(each) for each in glob(str(path), recursive=True) if Path(each).is_file()]  # noqa: PTH207  # absolute patterns too
        if matches:
            return sorted(matches, key=lambda each: natural(str(each)))
    raise DataError(_nothing(pattern, path))


def _nothing(pattern: str, path: Path) -> str:
    verb = "matches no file" if has_magic(pattern) else "does not exist"
    folder = path.parent
    while has_magic(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
        return f"{pattern} {verb}: there is no folder {folder}."
    inside = sorted((each.name for each in folder.iterdir() if each.is_file()), key=natural)
    if not inside:
        return f"{pattern} {verb}: the folder {folder.resolve()} holds no files."
    return f"{pattern} {verb}.{meant(path.name, inside)} The folder {folder.resolve()} holds {listed(inside)}."
