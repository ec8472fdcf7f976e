"""Packages that most do without: imported when they are needed, and not before.

Owns what is said where one is missing. Knows nothing of what they do.
"""

from importlib import import_module
from typing import Any

from scripts.command import line


class NotInstalled(RuntimeError):
    """A package that is not there; the text says how to get it."""


def needed(module: str, purpose: str) -> Any:
    """The module; NotInstalled where its package is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0] if error.name is None else error.name.partition(".")[0]
        install = line("pip", "install", "-r", "requirements/extras.txt")
        raise NotInstalled(f"{purpose} needs the package {package}, which is not installed: {install}") from error
