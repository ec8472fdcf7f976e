"""The query parameters of routes. Unknown ones are refused, so that a misspelt option is not ignored.

Knows nothing of what the options do. Probes, metrics, pages and the Open Inference Protocol ignore unknown ones.
"""

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

LARGEST_PAGE = 1000  # ids


class Nothing(BaseModel):
    """No options."""

    model_config = ConfigDict(extra="forbid")


class Page(Nothing):
    """Which streams are listed."""

    cursor: Annotated[str, Field(max_length=512, description="`next` of the page before")] = ""
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="ids, about")] = 100


class Show(Nothing):
    """What is told of a stream."""

    state: Annotated[bool, Field(description="true: with a token of its state")] = False


class Which(Nothing):
    """Which version of a model is meant."""

    version: Annotated[str | None, Field(description="the newest that is served when absent")] = None


NoQuery = Annotated[Nothing, Query()]
PageQuery = Annotated[Page, Query()]
ShowQuery = Annotated[Show, Query()]
WhichQuery = Annotated[Which, Query()]
