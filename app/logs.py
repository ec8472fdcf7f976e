"""How the service writes its log: plain lines for people, JSON for machines, one event a line, to stderr.

Owns the format. Knows nothing of what is logged.
"""

import logging
import sys
from typing import Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "plain", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure(*, format: LogFormat, level: LogLevel, processes: int) -> None:
    """Send every logger of this process, and of those that it forks, to stderr. `auto` is plain on a terminal and JSON elsewhere.

    `processes`: how many serve; where there are several, a plain line says which of them it is from, as one in JSON always does.
    """
    handler = logging.StreamHandler(sys.stderr)
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
    logging.getLogger("uvicorn").setLevel("WARNING")  # the rest of what it says is said better here
