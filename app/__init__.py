"""Recurve's service: batched predictions from recurrent models over HTTP. Never imports torch."""

import signal
import sys

__version__ = "0.1.0"

# Ctrl-C while `python -m` loads a command's modules ends it at once, without a word: an exception in the midst of what is loaded
# there comes out as another error or as a crash. What is run sees to it from then on. argv is "-m" until the module is found.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
