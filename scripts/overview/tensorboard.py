"""The curves of a run for TensorBoard: `tensorboard --logdir runs` shows all runs side by side, also while they train.

Owns how a number of the history is named there. Its package is optional, imported only when a board is made. Knows nothing of
how a run is trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from scripts.overview.extras import needed


class Board:
    """Writes event files into `folder`; raises extras.NotInstalled without the package.

    after: the last epoch of the checkpoint. Later ones that an interrupted process has written are not shown any more.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        needed("tensorboard", "--tensorboard")
        module = needed("torch.utils.tensorboard", "--tensorboard")
        self._writer: Any = module.SummaryWriter(str(folder), purge_step=after + 1)

    def epoch(self, row: Mapping[str, float]) -> None:
        """Write one row of a run's history, and flush it."""
        for name, value in row.items():
            if name != "epoch":
                part, _, metric = name.partition("_")
                self._writer.add_scalar(f"{metric}/{part}", value, int(row["epoch"]))
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
