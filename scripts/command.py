"""The command line of every script: its parser, its errors, its exit statuses, and how the next command is printed for the user.

Knows nothing of what a command does.
"""

import os
import select
import shlex
import shutil
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

_FILES = ("--csv", "--file", "--input", "--parquet", "--train")  # flags that users try first to name their data
STOPPED, UNREAD = 130, 141  # exit statuses for SIGINT and SIGPIPE, as shells report them


class Parser(ArgumentParser):
    """The parser of `python -m MODULE`; the module's docstring is the help. An error is one line, without argparse's usage."""

    def __init__(self, module: str, description: str | None, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"python -m {module}", description=description, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; --help lists what it takes\n")

    def parse_args(  # type: ignore[override]  # the overloads are for custom namespaces, which no command uses
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        known, others = self.parse_known_args(args, namespace)
        if others:
            self.error(self._unknown(others))
        return known

    def _unknown(self, words: Sequence[str]) -> str:
        """The error for words that no argument takes; for a flag, it names the known flag with the most similar spelling."""
        flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if flag is None:
            return f"nothing takes {shlex.join(words)}"
        if flag in _FILES and "--data" in self._option_string_actions:
            return f"there is no {flag}, but --data"
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        alike = get_close_matches(flag, known, n=1)
        return f"there is no {flag}" + (f", but {alike[0]}" if alike else "")


def run(main: Callable[[], int]) -> int:
    """Run a command and return its exit status: its own, or STOPPED if Ctrl-C ends it and it does not handle that itself.

    UNREAD: the reader of its output has closed the pipe, as `| head` does. Then nothing is reported.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # app sets it while modules are loaded
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        state = select.poll()
        state.register(sys.stdout, 0)
        if not state.poll(0):  # another pipe broke
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's flush at exit would fail
        return UNREAD
    return code


def count(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"a whole number from 1 up, got {text!r}")
    return int(text)


def python() -> str:
    """The Python that runs this process, as the user can call it from the current folder."""
    own = Path(sys.executable)
    if shutil.which("python") == sys.executable:
        return "python"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def line(module: str, *words: object) -> str:
    """The line that runs a command, for a shell."""
    return shlex.join([python(), "-m", module, *map(str, words)])
