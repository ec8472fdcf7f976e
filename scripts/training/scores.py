"""How good a model is beside simpler methods on the same data: a table, and warnings.

Owns how results are compared and shown. Knows nothing of how they were measured.
"""

from dataclasses import dataclass
from math import isclose, isfinite, nan
from typing import Any, Literal, Self

from scripts.markdown import table

MARGIN = 0.01  # of an error: smaller differences count as equal. A convention: the errors' uncertainty is not measured

Stand = Literal["ahead", "level", "behind"]

FEW = 20  # rows, recordings or windows: a result from fewer is mostly chance


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured; `higher`: whether a higher value is better."""

    name: str
    unit: str = ""
    higher: bool = False

    def __str__(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class Row:
    """One method: a value for each metric, NaN where it has none."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """The baselines' rows, then the model's. The first metric is the one that decides."""

    data: str  # on what: "the test part, 2,785 windows"
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    judged: int | None = None  # how many rows, recordings or windows that is, if it is known

    @property
    def model(self) -> Row:
        return self.rows[-1]

    def stand(self, baseline: Row) -> Stand:
        """How the model compares with a baseline. Shares of right answers are compared by their shares of wrong ones."""
        higher = self.metrics[0].higher
        own, other = (1 - row.values[0] if higher else row.values[0] for row in (self.model, baseline))
        if isclose(own, other, rel_tol=MARGIN):
            return "level"
        return "ahead" if own < other else "behind"

    def warnings(self) -> list[str]:
        """A sentence if there was too little data to judge the model, and one for every baseline that it does not beat."""
        metric, own = self.metrics[0], self.model.values[0]
        found = []
        if self.judged is not None and self.judged < FEW:
            found.append(
                f"All this was measured on {self.data}: so few tell hardly anything. Train on more data before you rely on it."
            )
        for row in self.rows[:-1]:
            value, stand = row.values[0], self.stand(row)
            if not isfinite(value) or stand == "ahead":
                continue
            level = stand == "level"
            digits = 4 if level or f"{own:.4g}" != f"{value:.4g}" else 7  # enough to show the difference
            verdict = f"is only as good as {row.name}, within {MARGIN:.0%}" if level else f"does not beat {row.name}"
            found.append(f"The model {verdict}: {metric} {own:.{digits}g} against {value:.{digits}g}, on {self.data}.")
        return found

    def __str__(self) -> str:
        """A table in text, for a terminal and for Markdown."""
        lines = [[row.name, *(f"{value:.4g}" if isfinite(value) else "-" for value in row.values)] for row in self.rows]
        return table([["", *map(str, self.metrics)], *lines], left=1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "judged": self.judged,
            "units": {metric.name: metric.unit for metric in self.metrics if metric.unit},
            "higher": [metric.name for metric in self.metrics if metric.higher],
            "scores": {
                row.name: {metric.name: value for metric, value in zip(self.metrics, row.values, strict=True)} for row in self.rows
            },
            "warnings": self.warnings(),
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Self:
        """The scores that `to_dict` wrote; raises ValueError if `told` is something else."""
        try:
            rows = tuple(
                Row(name, tuple(nan if value is None else float(value) for value in values.values()))
                for name, values in told["scores"].items()
            )
            units, higher = told.get("units", {}), told["higher"]
            names = next(iter(told["scores"].values()))
            metrics = tuple(Metric(name, str(units.get(name, "")), name in higher) for name in names)
            judged = told.get("judged")
            return cls(str(told["data"]), metrics, rows, None if judged is None else int(judged))
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise ValueError(f"its scores cannot be read: {type(error).__name__}: {error}") from error
