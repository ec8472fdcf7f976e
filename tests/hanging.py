"""`python -m tests.hanging`: the service with an engine that hangs on sequences of HANGING steps, and notices a hung batch soon."""

import sys
from threading import Event

from app import __main__, batcher
from app.runner import Computed, Whole
from app.tensors import Batch

HANGING = 7


class Hanging(Whole):
    def predict(self, batch: Batch) -> Computed:
        if batch.input.shape[1] == HANGING:
            Event().wait()
        return super().predict(batch)


if __name__ == "__main__":
    from app import engine, lifecycle, main  # only after the environment is set, which app.__main__ does

    engine.Whole = Hanging  # type: ignore[misc]  # app.engine imported it by name
    lifecycle.HOP = 0.0  # everything runs in lanes
    batcher.HUNG = (0.5, 10.0)
    main.ENDING = 0.1
    sys.exit(__main__.main())
