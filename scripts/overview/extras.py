"""Optional packages, imported only when they are needed.

Owns the message about a missing one. Knows nothing of what they do.
"""

from importlib import import_module
from typing import Any

from scripts.command import line


class NotInstalled(RuntimeError):
    """A package is not installed; the message says how to install it."""


def needed(module: str, purpose: str) -> Any:
    """Import the module; raises NotInstalled if its package is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0] if error.name is None else error.name.partition(".")[0]
        install = line("pip", "install", "-r", "requirements/extras.txt")
        raise NotInstalled(f"{purpose} needs the package {package}, which is not installed: {install}") from error
