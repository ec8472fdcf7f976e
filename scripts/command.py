"""A command of this project as people type it: how its line is read, how a wrong one is answered, how the next is written out.

Owns that for every command. Knows nothing of what a command does.
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

_FILES = ("--csv", "--file", "--input", "--parquet", "--train")  # what people try first to name their data
STOPPED, UNREAD = 130, 141  # exit statuses of what Ctrl-C has ended, or SIGPIPE would have, as shells have them


class Parser(ArgumentParser):
    """Of `python -m MODULE`, whose docstring is the help. What is wrong is said in one line, not behind every flag there is."""

    def __init__(self, module: str, description: str | None, *, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"python -m {module}", description=description, epilog=epilog, formatter_class=RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; --help lists what it takes\n")

    def parse_args(  # type: ignore[override]  # the overloads are for namespaces of one's own, which no command has
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        known, others = self.parse_known_args(args, namespace)
        if others:
            self.error(self._unknown(others))
        return known

    def _unknown(self, words: Sequence[str]) -> str:
        """What is said of words that nothing takes: of a flag, the one that is spelled most alike."""
        flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if flag is None:
            return f"nothing takes {shlex.join(words)}"
        if flag in _FILES and "--data" in self._option_string_actions:
            return f"there is no {flag}, but --data"
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        alike = get_close_matches(flag, known, n=1)
        return f"there is no {flag}" + (f", but {alike[0]}" if alike else "")


def run(main: Callable[[], int]) -> int:
    """The exit status of a command, whatever ends it; of one that Ctrl-C ends, and that has said nothing of it, STOPPED.

    UNREAD: who read what it prints has left, as `| head` does; there is nobody to tell.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was while modules were loaded
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
        if not state.poll(0):  # it was another pipe
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter would complain at its end
        return UNREAD
    return code


def count(text: str) -> int:
    """A number of things, for argparse."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"a whole number from 1 up, got {text!r}")
    return int(text)


def python() -> str:
    """What runs this process, as it is called from the folder that the user is in."""
    own = Path(sys.executable)
    if shutil.which("python") == sys.executable:
        return "python"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def line(module: str, *words: object) -> str:
    """The line that runs a command, for a shell."""
    return shlex.join([python(), "-m", module, *map(str, words)])
