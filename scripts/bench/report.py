"""The result of the rounds: medians with their extremes, and the tables that people read.

Owns the ratios and the wording. Knows nothing of how anything was measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from scripts.bench import scenarios, search, streaming
from scripts.bench.job import Figure
from scripts.bench.rounds import Figures, Plan


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    median: float
    min: float
    max: float


Summary = dict[str, dict[str, Spread | None]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as people read it: `text` is its heading in a table, or a sentence with {} in its place."""

    text: str
    figure: str
    form: str
    scale: float = 1.0

    def of(self, figures: Mapping[str, Spread | None]) -> str:
        spread = figures.get(self.figure)
        return "-" if spread is None else format(spread.median * self.scale, self.form)


CLOSED = (
    Shown("requests/s", "requests_per_second", ",.0f"),
    Shown("p50 ms", "p50", ".2f", 1e3),
    Shown("p99 ms", "p99", ".2f", 1e3),
    Shown("of ceiling", "of_ceiling", ".2f"),
    Shown("bound", "bound", ".2f"),
    Shown("spent us", "spent", ",.0f", 1e6),
    Shown("model us", "model", ",.0f", 1e6),
    Shown("HTTP us", "http", ",.0f", 1e6),
)
CLOSED_LEGEND = """\
of ceiling: sequences over those of ONNX Runtime alone; bound: what that would be if nothing but HTTP (the bare route, with bodies
and answers of the same sizes), the generator and the model took any time, on the same processors one after the other;
spent: time of all processors for each sequence; model: of that in the engine, HTTP: what the bare route and the generator spend
"""
OPEN = (
    Shown("offered/s", "offered", ",.0f"),
    Shown("good/s", "goodput", ",.0f"),
    Shown("served/s", "served", ",.0f"),
    Shown("p50 ms", "p50", ".2f", 1e3),
    Shown("p99 ms", "p99", ".2f", 1e3),
    Shown("refused", "refusals", ",.0f"),
    Shown("in p99 ms", "refusal_p99", ".2f", 1e3),
    Shown("no hint", "refusals_without_retry_after", ",.0f"),
    Shown("expired", "expired", ",.0f"),
    Shown("failed", "failed", ",.0f"),
    Shown("unanswered", "unanswered", ",.0f"),
    Shown("waited", "waited", ",.0f"),
    Shown("late ms", "late_p99", ".2f", 1e3),
    Shown("CPUs", "cpus", ".2f"),
)
LEGEND = """\
good: answered within {:g} ms of when they were due, from where p50 and p99 count too; served: within as long of when they were
written; in p99: of refusals, from when they were written; no hint: refusals without Retry-After; expired: 504;
failed: any other status; waited: found no connection free; late, CPUs: p99 of the generator behind its schedule, what it used
"""
STREAMS = (
    Shown("messages/s", "messages_per_second", ",.0f"),
    Shown("steps/s", "steps_per_second", ",.0f"),
    Shown("p50 ms", "p50", ".2f", 1e3),
    Shown("p99 ms", "p99", ".2f", 1e3),
    Shown("batch", "batch", ".1f"),
    Shown("work us", "work", ".0f", 1e6),
    Shown("late ms", "late_p99", ".2f", 1e3),
    Shown("CPUs", "cpus", ".2f"),
)
STREAMS_LEGEND = f"""\
by a schedule: the highest rate, in steps of {search.STEP - 1:.0%}, at which all are answered and the p99, counted from when
they were due, is below {1e3 * streaming.WITHIN:g} ms; else a message goes out when the one before is answered;
batch: instances in one, on average; work: processor time of the service for each, the opening of sockets included;
late, CPUs: p99 of the generator behind its schedule, what it used
"""
EXPIRIES = (
    Shown("longest pause ms", "longest_pause", ".1f", 1e3),
    Shown("of CPU ms", "longest_work", ".1f", 1e3),
    Shown("seconds", "seconds", ".2f"),
)
EXPIRIES_LEGEND = """\
longest pause: of the event loop while they are dropped; of CPU: the same in processor time, without what other processes took
"""
CEILING = (
    Shown("ceiling {} sequences/s", "sequences_per_second", ",.0f"),
    Shown("a raw run {} us", "raw_seconds", ".0f", 1e6),
    Shown("after a pause {} us", "raw_paused_seconds", ".0f", 1e6),
)
RATIOS = (
    Shown("64 callers: requests over those of the plain service: {} times", "over_plain", ".1f"),
    Shown("One caller: p50 over a raw run: {} times", "one_caller_over_raw", ".2f"),
    Shown("One caller: p50 over a raw run after a pause: {} times", "one_caller_over_paused", ".2f"),
    Shown("One caller: p50 over that of the bare route and a raw run together: {} times", "one_caller_over_both", ".2f"),
    Shown("One step with its state, 1 caller: p50 above the bare route: {} ms", "step_above_bare", ".3f", 1e3),
    Shown("One step with its state, 64 callers: requests over those of the bare route: {} times", "step_over_bare", ".2f"),
    Shown("Streams of 1 process: messages with the embedded store over those with memory: {} times", "embedded_messages", ".2f"),
    Shown("Streams of 1 process: work with memory over that with the embedded store: {} times", "memory_work", ".2f"),
)
SERVICE = (
    Shown(f"{scenarios.MIXED}: {{}} % of what is computed is padding", "padding_waste", ".1f", 100),
    Shown("From the start to the first answered prediction: {} s", "cold_start", ".2f"),
    Shown("Idle: {} % of a CPU", "idle_cpu", ".2f", 100),
    Shown("Memory (proportional set size): {} MB when started", "fresh_pss", ".0f", 1e-6),
    Shown("Memory (proportional set size): {} MB after all this", "pss", ".0f", 1e-6),
)


def ratios(figures: Figures) -> Figure:
    """The ratios of one round's figures; None where one of the two was not measured."""

    def get(name: str, figure: str) -> float | None:
        return figures.get(name, {}).get(figure)

    def over(one: float | None, other: float | None) -> float | None:
        return None if one is None or not other else one / other

    rate, messages = "requests_per_second", "messages_per_second"
    raw, http = get("ceiling", "raw_seconds"), get(scenarios.ONE, "bare_p50")
    step, bare = get(scenarios.STEP_1, "p50"), get(scenarios.BARE_1, "p50")
    return {
        "over_plain": over(get(scenarios.CAPACITY, rate), get(scenarios.PLAIN, rate)),
        "one_caller_over_raw": over(get(scenarios.ONE, "p50"), raw),
        "one_caller_over_both": over(get(scenarios.ONE, "p50"), None if raw is None or http is None else raw + http),
        "one_caller_over_paused": over(get(scenarios.ONE, "p50"), get("ceiling", "raw_paused_seconds")),
        "step_above_bare": None if step is None or bare is None else step - bare,
        "step_over_bare": over(get(scenarios.STEP_64, rate), get(scenarios.BARE_64, rate)),
        "embedded_messages": over(get(scenarios.EMBEDDED, messages), get(scenarios.MEMORY, messages)),
        "memory_work": over(get(scenarios.MEMORY, "work"), get(scenarios.EMBEDDED, "work")),
    }


def summary(rounds: Sequence[Figures]) -> Summary:
    """The spread over the rounds of each figure, and of the ratios within each round."""
    whole = [figures | {"ratios": ratios(figures)} for figures in rounds]
    return {name: {figure: _spread([each[name][figure] for each in whole]) for figure in found} for name, found in whole[0].items()}


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(median=median(known), min=min(known), max=max(known)) if known else None


def lines(plan: Plan, found: Summary) -> Iterator[str]:
    """The report for people, with medians."""
    if plan.closed:
        raw = ", ".join(shown.text.format(shown.of(found["ceiling"])) for shown in CEILING)
        yield f"{plan.spec}, sequences of {scenarios.STEPS} steps: {raw}\n"
        yield from _table("callers that wait for their answer", CLOSED, [each.name for each in plan.closed], found)
        if any("bound" in found[each.name] for each in plan.bounded):
            yield CLOSED_LEGEND
    if plan.open:
        yield from _table("arrivals that do not wait", OPEN, [each.name for each in plan.open], found)
        yield LEGEND.format(1e3 * scenarios.DEADLINE)
    if plan.streams:
        yield from _table("streams", STREAMS, [each.name for each in plan.streams], found)
        yield STREAMS_LEGEND
    if plan.expiries:
        yield from _table(
            f"{plan.expiries[0].streams:,} streams that are over", EXPIRIES, [each.name for each in plan.expiries], found
        )
        yield EXPIRIES_LEGEND
    for name, sentences in (("ratios", RATIOS), ("service", SERVICE)):
        figures = found.get(name, {})
        yield from (shown.text.format(shown.of(figures)) for shown in sentences if figures.get(shown.figure))


def _table(title: str, columns: Sequence[Shown], rows: Sequence[str], found: Summary) -> Iterator[str]:
    wide = max(map(len, (title, *rows)))
    widths = [max(11, 2 + len(column.text)) for column in columns]
    yield f"{title:<{wide}}" + "".join(f"{column.text:>{width}}" for column, width in zip(columns, widths, strict=True))
    for row in rows:
        yield f"{row:<{wide}}" + "".join(f"{column.of(found[row]):>{width}}" for column, width in zip(columns, widths, strict=True))
    yield ""
