"""`python -m tests.hanging`: the service, whose engine never comes back from a sequence of HANGING steps, which it soon knows."""

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
    from app import engine, lifecycle, main  # not before the environment is set, as app.__main__ has it

    engine.Whole = Hanging  # type: ignore[misc]  # imported there by name
    lifecycle.HOP = 0.0  # everything runs in lanes
    batcher.HUNG = (0.5, 10.0)
    main.ENDING = 0.1
    sys.exit(__main__.main())
