"""What a trial needs to know of what is learned.

Owns the seam between the tasks (adding, digits, gyro) and the loop that times them. Knows neither.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from scripts.compare.cells import Cell


class Lesson(Protocol):
    """One network's way through a task: what it is and what it reads hang on the seed alone."""

    def network(self) -> nn.Module:
        """A new network; its random weights are drawn from torch's generator."""

    def prepare(self, epoch: int) -> Any:
        """What the updates of an epoch read; not timed."""

    def losses(self, network: nn.Module, prepared: Any) -> Iterator[Tensor]:
        """The loss of each update in turn; timed."""

    def error(self, network: nn.Module, losses: Sequence[float]) -> float:
        """How far it is from right after an epoch with these losses, on sequences that it had not learned from; not timed."""

    def test(self, network: nn.Module) -> dict[str, float]:
        """Its errors at the end, by name, on sequences that nothing else has seen; the first is the one that counts."""


class Task(Protocol):
    """A task at a budget; a frozen value that can be sent to another process."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str:
        """Tasks of a family share the learning rates, which are chosen on the one of them that `tunes`."""

    @property
    def tunes(self) -> bool: ...

    @property
    def layers(self) -> int: ...

    @property
    def epochs(self) -> int: ...

    @property
    def updates(self) -> int:
        """In all epochs."""

    @property
    def steps(self) -> int:
        """Of a sequence in an update, through one layer."""

    @property
    def solved(self) -> float:
        """The error below which it is solved."""

    @property
    def ends_when_solved(self) -> bool:
        """Whether training ends once it is solved, its learning rate constant; else the budget is spent and the rate decays."""

    @property
    def error_name(self) -> str: ...

    @property
    def describes(self) -> str:
        """A sentence for readers."""

    def size(self, cell: Cell, hidden: int) -> int:
        """The parameters of its network."""

    def lesson(self, cell: Cell, hidden: int, seed: int) -> Lesson: ...
