"""A network that reads a whole sequence and answers once, from the last state.

Knows nothing of what is read or asked.
"""

from torch import Tensor, nn

from scripts.compare import cells
from scripts.compare.cells import Cell
from scripts.training.stack import Stack


class Reader(nn.Module):
    """Sequences (batch, time, inputs) -> answers (batch, outputs)."""

    def __init__(self, inputs: int, outputs: int, *, cell: Cell, hidden: int) -> None:
        super().__init__()
        self.stack = Stack(inputs, hidden, cell.layers(1), memory=cells.MEMORY)
        self.head = nn.Linear(hidden, outputs)
        cells.begin(self, cell)

    def forward(self, input: Tensor) -> Tensor:
        states, _ = self.stack(input)
        answer: Tensor = self.head(states[:, -1])
        return answer


def size(inputs: int, outputs: int, *, cell: Cell, hidden: int) -> int:
    """How many parameters a Reader has."""
    return cells.parameters(Reader(inputs, outputs, cell=cell, hidden=hidden))
