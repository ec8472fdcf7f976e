"""Results side by side: the columns of the table, and which methods are the best in each.

Owns what "better" means for each number. The best is determined from the results as they are printed, never assumed.
Knows nothing of how a number was measured or of the words around the table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts import markdown
from scripts.gyro.baselines import CALIBRATED, EXPERT, RAW, Method
from scripts.gyro.evaluate import SETTLE_SECONDS, WINDOW_SECONDS, Scores


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: arrays have no truth value
class Result:
    """A method and how good it is."""

    method: Method
    scores: Scores


@dataclass(frozen=True, slots=True)
class Column:
    """One number of every method; the one nearest to `ideal`, as printed, is the best."""

    heading: str
    meaning: str
    value: Callable[[Scores], float]
    digits: int
    ideal: float = 0.0

    def printed(self, scores: Scores) -> float:
        return round(self.value(scores), self.digits) + 0.0  # no minus zero

    def text(self, scores: Scores) -> str:
        return f"{self.printed(scores):.{self.digits}f}"

    def distance(self, scores: Scores) -> float:
        return abs(self.printed(scores) - self.ideal)


COLUMNS = (
    Column("RMSE", "deg/s, against the true rate, whole recordings", lambda s: s.rmse, 3),
    Column("settled", f"the same from {SETTLE_SECONDS:g} s on: before, no one can know the bias", lambda s: s.settled, 3),
    Column("rest", "RMSE while at rest", lambda s: s.rest, 3),
    Column("sway", "RMSE while swaying slowly", lambda s: s.sway, 3),
    Column("fast", "RMSE while rotating fast", lambda s: s.fast, 3),
    Column(
        "angle",
        f"degrees of attitude error after integrating for {WINDOW_SECONDS:g} s, median",
        lambda s: s.orientation_median,
        2,
    ),
    Column("angle RMS", "the same, root mean square", lambda s: s.orientation_rms, 2),
    Column("lag", "samples that the output is late, in motion", lambda s: s.lag, 2),
    Column("gain", "amplitude of the output over the true one, in motion; 1 is right", lambda s: s.gain, 3, ideal=1.0),
    Column("noise", f"deg/s, standard deviation within {WINDOW_SECONDS:g} s, device lying still for an hour", lambda s: s.noise, 4),
    Column("ADEV 1 s", "deg/s, Allan deviation over 1 s in the same hour", lambda s: s.allan.at(1.0), 4),
    Column("ADEV 100 s", "the same over 100 s: what drift is left", lambda s: s.allan.at(100.0), 4),
)


def table(results: Sequence[Result]) -> str:
    """All scores as a Markdown table, the best value of every column in bold. The last result is the model."""
    winners = [best(column, results) for column in COLUMNS]
    lines = [["method", "tuned", *(column.heading for column in COLUMNS)]]
    for result in results:
        name = f"**{result.method.name}**" if result is results[-1] else result.method.name
        cells = []
        for column, ahead in zip(COLUMNS, winners, strict=True):
            text = column.text(result.scores)
            cells.append(f"**{text}**" if result in ahead else text)
        lines.append([name, result.method.detail, *cells])
    return markdown.table(lines, left=2)


def best(column: Column, results: Sequence[Result]) -> list[Result]:
    """The results that no other beats in this column."""
    least = min(column.distance(result.scores) for result in results)
    return [result for result in results if column.distance(result.scores) == least]


def named(results: Sequence[Result], name: str) -> Result:
    return next(result for result in results if result.method.name == name)


def filters(results: Sequence[Result]) -> list[Result]:
    """The calibrated filters, and calibration alone, which is the filter that lets everything through."""
    return [result for result in results if result.method.name.startswith(CALIBRATED) and result.method.name != EXPERT]


def shown(results: Sequence[Result]) -> list[Result]:
    """The four that are worth drawing: the raw signal, the best calibrated filter, the expert's method, the model."""
    smoothest = min(filters(results), key=lambda result: result.scores.rmse)
    return [named(results, RAW), smoothest, named(results, EXPERT), results[-1]]
