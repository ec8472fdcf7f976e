"""Why a file is not adopted.

    Refused       the file, or what was said about it, does not make a model version: exit 1
    WrongUse      a flag names something that is not there: exit 2

A message is a sentence with what was found, what is wanted and the next step. Knows nothing of how it is shown.
"""


class Refused(Exception):
    """The file cannot be adopted as it is, or not without one more flag."""


class WrongUse(Exception):
    """A flag does not fit the file."""
