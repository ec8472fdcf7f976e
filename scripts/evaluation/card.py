"""What an evaluation needs to know about a model, whether it is in a folder or answers over HTTP.

Owns the types, and the interface `Model` that both kinds implement. Knows nothing of data or of scores.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol, Self, cast

from app.manifest import ModelSpec, Signal
from app.tensors import Array
from scripts.evaluation.training import Training
from scripts.tables.recording import Task

Outputs = tuple[Array, ...]  # one array per output of the model: (time, *width) or (*width,)
Progress = Callable[[int], Any]  # called with the number of steps that were just done


class EvaluationError(RuntimeError):
    """Something cannot be done; the text says why, and what to do about it."""


class WrongUse(EvaluationError):
    """What was asked for is not there: another name, file or address has to be given."""


@dataclass(frozen=True, slots=True)
class Output:
    """One of the arrays that a prediction is made of."""

    name: str
    width: tuple[int, ...]  # of the answer to a step, or to the whole sequence
    every_step: bool
    signals: tuple[Signal, ...] = ()  # the numbers along the last axis, if they are known

    @property
    def numbers(self) -> int:
        return prod(self.width)


@dataclass(frozen=True, slots=True)
class Card:
    """A version of a model, and what it says about the truth for its answers: empty or None if it says nothing."""

    name: str
    version: str
    task: Task | None
    features: tuple[Signal, ...]
    outputs: tuple[Output, ...]
    time_steps: int | None  # that every sequence must have
    streamable: bool  # whether pieces are answered like the whole, if the states are carried on
    label: str = ""  # the column of labels that it was trained on
    label_per_recording: bool | None = None  # whether a recording has one label; then the answer to its last row counts
    deviations: tuple[float, ...] = ()  # the standard deviation of each target in training, in its unit
    training: Training = field(default_factory=Training)

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """The card of a manifest."""
        return cls(
            name=spec.name,
            version=spec.version,
            task=spec.task,
            features=spec.features,
            outputs=tuple(Output(each.name, each.width, spec.every_step(each), each.signals) for each in spec.outputs),
            time_steps=spec.time_steps,
            streamable=spec.causal,
            training=Training.of(spec.provenance),
            **_truth(spec.task, spec.provenance.get("truth")),
        )

    @classmethod
    def served(cls, told: dict[str, Any]) -> Self:
        """The card of a version as GET /models describes it; KeyError or TypeError if it has another form."""
        signals = [
            tuple(Signal(**each) for each in listed) for listed in (told["features"], *(o["signals"] for o in told["outputs"]))
        ]
        outputs = zip(told["outputs"], signals[1:], strict=True)
        return cls(
            name=told["name"],
            version=told["version"],
            task=cast("Task | None", told["task"]),
            features=signals[0],
            outputs=tuple(Output(o["name"], tuple(o["shape"]), bool(o["every_step"]), named) for o, named in outputs),
            time_steps=told["time_steps"],
            streamable=bool(told["streamable"]),
            training=Training.of({"config": told.get("reading")}),
            **_truth(told["task"], told.get("truth")),
        )

    @property
    def horizon(self) -> int:
        """Rows that a forecast looks ahead."""
        return self.outputs[0].width[0]

    @property
    def targets(self) -> int:
        """How many numbers a forecast has for each row; one if its answer has no other axis than the horizon's."""
        return prod(self.outputs[0].width[1:])

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def _truth(task: str | None, told: Any) -> dict[str, Any]:
    """The card's members on the truth, which a manifest and GET /models give in the same form; empty if the form is another."""
    try:
        return {
            "label": str(told["columns"][0]) if task == "classify" else "",
            "label_per_recording": bool(told["per_recording"]),
            "deviations": tuple(map(float, told["deviations"])),
        }
    except (IndexError, KeyError, TypeError, ValueError):
        return {}


class Model(Protocol):
    """A model that answers, wherever it runs."""

    @property
    def card(self) -> Card: ...

    @property
    def where(self) -> str:
        """In words: what computes the answers."""

    @property
    def limited(self) -> bool:
        """Whether a rate limit slowed the requests down."""

    def follow(self, recordings: Sequence[Array], progress: Progress) -> Iterator[Outputs]:
        """The answers to recordings (time, features), each from the zero state and in pieces, as a live stream would be; in order.

        If the model takes only pieces of `time_steps`, the rest at the end of a recording has no answer.
        """

    def answer(self, sequences: Iterable[Array], progress: Progress, *, count: int) -> Iterator[Outputs]:
        """The answers to whole sequences (time, features), of which there are `count`, in order."""

    def close(self) -> None:
        """Release what it holds."""


def pieces(length: int, size: int, time_steps: int | None) -> list[slice]:
    """The pieces in which a recording of this length is sent: of `size` steps, or of the only length that the model takes."""
    size = time_steps or size
    ends = range(size, length + 1, size) if time_steps else range(size, length + size, size)
    return [slice(end - size, min(end, length)) for end in ends]
