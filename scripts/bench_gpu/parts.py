"""The parts of the measurement in their order: how long each may take, and what each cannot show without a GPU.

Owns the list. Knows nothing of what is in an answer.
"""

from dataclasses import dataclass

NO_GPU = (
    "No GPU was used: all of this was computed by this machine's CPU, the graphs for a GPU too. It shows that the measurement "
    "runs, and nothing of what a GPU does."
)


@dataclass(frozen=True, slots=True)
class Part:
    """`hidden`: what is not shown without a GPU; None: nothing is lost. `needed`: whether it is left out without a GPU."""

    name: str  # of its module
    patience: float  # seconds
    hidden: str | None = None
    needed: bool = False

    @property
    def note(self) -> str:
        """The note above its tables if there was no GPU."""
        return f"No GPU was used. Not shown: {self.hidden}." if self.hidden else "No GPU was used."


PARTS = {
    part.name: part
    for part in (
        Part("machine", 60),
        Part("models", 90),
        Part("placement", 60, hidden="which nodes run on a GPU"),
        Part("parity", 120, hidden="how far a GPU's answers are from the CPU's, and what TF32 costs and gains"),
        Part("torch_gru", 180, hidden="what torch and the GPU can do: these figures are of one thread of the CPU"),
        Part("batches", 300, hidden="how fast a GPU is: the graphs for it ran on one thread of the CPU"),
        Part("service", 300, hidden="the service on a GPU"),
        Part("memory", 150, hidden="that the service goes on when the GPU's memory is gone, says so, and comes back", needed=True),
    )
}
