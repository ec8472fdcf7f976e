"""How the service writes its log: plain lines for people, JSON for machines, one event a line, to stderr.

Owns the format, and that logging never blocks for long: if the reader of a pipe stops, the pipe fills up. Knows nothing of what is
logged.
"""

import logging
import os
import sys
from select import PIPE_BUF, select
from typing import Literal, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "plain", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

PATIENCE = 0.1  # seconds that the process blocks for a reader, until lines are dropped


class Lines(logging.StreamHandler[TextIO]):
    """Drops lines while nobody reads them, as else the whole service would block; afterwards it logs how many are missing."""

    _lost = 0
    _torn = False  # whether the first lost line was written in part

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}{self.terminator}".encode(errors="backslashreplace")
            if self._lost and self._has_room():
                told = {"msg": "Nobody has read the log: %d lines are missing here.", "args": (self._lost,), "levelname": "WARNING"}
                if self._torn:
                    os.write(self.stream.fileno(), self.terminator.encode())
                self._lost, self._torn = 0, False
                self.handle(logging.makeLogRecord({"name": __name__, **told}))
            for start in range(0, len(line), PIPE_BUF):  # a pipe that is ready takes this much in one write
                if not self._has_room():
                    self._lost, self._torn = self._lost + 1, self._torn or start > 0
                    break
                os.write(self.stream.fileno(), line[start : start + PIPE_BUF])
        except Exception:
            self.handleError(record)

    def _has_room(self) -> bool:
        return bool(select((), (self.stream,), (), 0 if self._lost else PATIENCE)[1])


def configure(*, format: LogFormat, level: LogLevel, processes: int) -> None:
    """Send every logger of this process, and of those that it forks, to stderr. `auto` is plain on a terminal and JSON elsewhere.

    `processes`: how many serve. If there are several, a plain line names its process, as a JSON line always does.
    """
    handler = Lines(sys.stderr)
    if format == "plain" or (format == "auto" and sys.stderr.isatty()):
        which = "%(process)d " if processes > 1 else ""
        handler.setFormatter(logging.Formatter(f"%(asctime)s {which}%(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    else:
        handler.setFormatter(
            JsonFormatter(
                "%(levelname)s %(process)d %(name)s %(message)s",
                rename_fields={"levelname": "level", "name": "logger", "timestamp": "time"},
                timestamp=True,
                reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's copy of the message for terminals
            )
        )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("uvicorn").setLevel("WARNING")  # this service logs the rest itself, better
