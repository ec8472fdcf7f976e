"""What a trial needs to know about a task.

Owns the interface between the tasks (adding, digits, gyro) and the loop that times them. Knows neither.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from scripts.compare.cells import Cell


class Lesson(Protocol):
    """One network that learns a task; the network and its data depend on the seed alone."""

    def network(self) -> nn.Module:
        """A new network; its random weights are drawn from torch's generator."""

    def prepare(self, epoch: int) -> Any:
        """What the updates of an epoch read; not timed."""

    def losses(self, network: nn.Module, prepared: Any) -> Iterator[Tensor]:
        """The loss of each update in turn; timed."""

    def error(self, network: nn.Module, losses: Sequence[float]) -> float:
        """The error after an epoch with these losses, on sequences that the network had not learned from; not timed."""

    def test(self, network: nn.Module) -> dict[str, float]:
        """The errors at the end, by name, on sequences that are used for nothing else; the first is the one that counts."""


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
        """Updates in all epochs."""

    @property
    def steps(self) -> int:
        """Steps of a sequence in one update."""

    @property
    def solved(self) -> float:
        """The error below which it is solved."""

    @property
    def ends_when_solved(self) -> bool:
        """Whether training ends once it is solved, with a constant rate; else it uses up the budget, and the rate decays."""

    @property
    def error_name(self) -> str: ...

    @property
    def describes(self) -> str:
        """A sentence for readers."""

    def size(self, cell: Cell, hidden: int) -> int:
        """The parameters of its network."""

    def lesson(self, cell: Cell, hidden: int, seed: int) -> Lesson: ...
