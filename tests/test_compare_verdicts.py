"""The verdicts on made-up numbers: which claims hold, which do not and which are undecided; and the page that shows them."""

from dataclasses import replace
from math import inf

import pytest

from scripts.compare import cells, plan, report, report_tasks, verdicts
from scripts.compare.adding import Adding
from scripts.compare.budget import Budget
from scripts.compare.plan import EQUAL_HIDDEN, EQUAL_PARAMETERS, MODES, Entry
from scripts.compare.summary import Results, Spread
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome, Point
from scripts.compare.verdicts import Finding, Verdict
from scripts.markdown import table

SEEDS = 5
SHORT, LONG = (Adding(steps=steps, epochs=4, batch=8, tunes=steps == 10) for steps in (10, 20))


class Made:
    """Made-up results: the outcomes of the seeds for each task, size and cell."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.tuning: list[Job] = []
        self.outcomes: dict[Job, Outcome] = {}

    def add(
        self,
        task: Task,
        cell: str,
        *,
        modes: tuple[str, ...] = MODES,
        updates: tuple[float, ...] = (50,) * SEEDS,
        error: float = 0.001,
        parameters: int = 100,
        seconds: float = 0.01,
    ) -> "Made":
        """`updates`: updates until each seed was solved, infinite for never; `seconds`: seconds for one update."""
        for mode in modes:
            jobs = tuple(Job(task.name, cell, 8 + MODES.index(mode), 0.01, seed, task.updates) for seed in range(len(updates)))
            self.entries.append(Entry(task, mode, cells.named(cell), jobs))
            for job, solved in zip(jobs, updates, strict=True):
                self.outcomes[job] = made_one(job, solved, error=error, parameters=parameters, seconds=seconds)
        return self

    def tuned(self, task: Task, cell: str, solved: tuple[bool, ...]) -> "Made":
        for seed, each in enumerate(solved, start=1000):
            job = Job(task.name, cell, 8, 0.01, seed, task.updates)
            self.tuning.append(job)
            self.outcomes[job] = made_one(job, 25 if each else inf, error=0.1, parameters=1, seconds=0.1)
        return self

    def results(self) -> Results:
        return Results(self.entries, self.tuning, self.outcomes)

    def verdict(self, claim: str) -> Verdict:
        found = verdicts.all_of(self.results(), [("reset_before", "lstm")], plain="rnn")
        return next(verdict for verdict in found if claim in verdict.claim)


def made_one(job: Job, solved: float, *, error: float, parameters: int, seconds: float) -> Outcome:
    end = min(solved, job.updates)
    last = Point(int(end), end * seconds, error)
    return Outcome(job, parameters, False, last if solved < inf else None, (last,), {"error": error}, seconds, 1.0)


# -- rules --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "less", "not_worse"),
    [
        ([0.5, 0.6, 0.7, 0.9, 1.2], "held", "held"),
        ([0.5, 0.6, 0.7, 1.1, 1.2], "not decided", "held"),
        ([0.99, 0.98, 0.97, 0.96, 0.96], "not decided", "held"),
        ([1.04, 1.05, 1.0, 1.2, 1.0], "not decided", "held"),
        ([0.8, 0.9, 1.1, 1.2, 1.3], "not decided", "not decided"),
        ([0.9, 1.1, 1.2, 1.3, 1.4], "did not hold", "did not hold"),
        ([1.0] * 5, "not decided", "held"),
        ([0.0, 0.0, 0.0, 0.0, 0.9], "held", "held"),
        ([inf, inf, inf, inf, 0.9], "did not hold", "did not hold"),
    ],
    ids=["less", "seeds-disagree", "too-little", "a-little-more", "more-in-three", "more", "equal", "never-the-rival", "never-it"],
)
def test_a_difference_counts_when_it_is_large_enough_and_the_seeds_agree(
    ratios: list[float], less: Finding, not_worse: Finding
) -> None:
    """Five seeds scatter, so a median alone would decide by chance."""
    assert verdicts.less(ratios) == less
    assert verdicts.not_worse(ratios) == not_worse


def test_ratios_know_what_never_happened() -> None:
    """A ratio must not divide by zero or by infinity."""
    assert verdicts.ratios([1, 2, inf, 3, inf, 0, 1], [2, 2, inf, inf, 3, 0, 0]) == [0.5, 1, 1, 0, inf, 1, inf]


@pytest.mark.parametrize(
    ("findings", "whole"),
    [
        (["held", "held", "not decided"], "held"),
        (["held", "held", "did not hold"], "not decided"),
        (["held", "not decided"], "not decided"),
        (["did not hold", "did not hold", "not decided"], "did not hold"),
        (["held", "did not hold", "did not hold"], "not decided"),
        ([], "not decided"),
    ],
    ids=["most-for", "one-against", "half", "most-against", "mixed", "nothing-compared"],
)
def test_a_claim_holds_in_most_comparisons_and_fails_in_none(findings: list[Finding], whole: Finding) -> None:
    """A claim that fails somewhere does not hold."""
    assert verdicts.together(findings) == whole


# -- claims -------------------------------------------------------------------------------------------------------------


def test_competence_is_judged_where_somebody_solves_the_task() -> None:
    """Two cells that both learn nothing are not equally competent; errors below the mark all count as the mark."""
    never = (inf,) * SEEDS
    both = Made().add(SHORT, "reset_before", error=0.009).add(SHORT, "lstm", error=0.0001)
    both.add(LONG, "reset_before", updates=never, error=0.1).add(LONG, "lstm", updates=never, error=0.2)
    verdict = both.verdict("competent")
    assert (verdict.finding, verdict.evidence) == ("held", "2 for, 0 against, of 2")
    assert [each.ratio for each in verdict.comparisons] == [1.0, 1.0]
    worse = Made().add(SHORT, "reset_before", updates=never, error=0.1).add(SHORT, "lstm")
    assert worse.verdict("competent").finding == "did not hold"
    neither = Made().add(LONG, "reset_before", updates=never).add(LONG, "lstm", updates=never)
    assert neither.verdict("competent").finding == "not decided"


def test_gates_are_counted_and_timed_at_equal_hidden_size() -> None:
    """At equal parameters the counts are equal by choice, and the time of a cell depends on its size."""
    cheap = Made().add(SHORT, "reset_before", modes=(EQUAL_HIDDEN,), parameters=75, seconds=0.007)
    cheap.add(SHORT, "reset_before", modes=(EQUAL_PARAMETERS,), parameters=100, seconds=0.02)
    cheap.add(SHORT, "lstm", parameters=100, seconds=0.01)
    assert cheap.verdict("fewer parameters").finding == "held"
    assert cheap.verdict("less time an update").finding == "held"
    assert cheap.verdict("less time an update").comparisons[0].ratio == pytest.approx(0.7)
    dear = Made().add(SHORT, "reset_before", parameters=90, seconds=0.02).add(SHORT, "lstm")
    assert dear.verdict("fewer parameters").finding == "did not hold"
    assert dear.verdict("less time an update").finding == "did not hold"


def test_updates_and_seconds_until_solved_are_judged_apart() -> None:
    """Fewer updates that each take longer may be no gain."""
    made = Made().add(SHORT, "reset_before", updates=(25,) * 5, seconds=0.03).add(SHORT, "lstm", updates=(50,) * 5, seconds=0.01)
    assert made.verdict("updates until solved").finding == "held"
    assert made.verdict("seconds until solved").finding == "did not hold"


def test_shares_are_compared_over_all_trials() -> None:
    """Shares that differ by five points differ, and the grid of rates is judged by the trials that chose from it."""
    made = Made().add(SHORT, "reset_before").add(SHORT, "lstm", updates=(50, 50, 50, 50, inf))
    assert made.verdict("share of seeds").finding == "held"
    assert made.verdict("share of seeds").evidence == "10 of 10, the rival 8 of 10"
    assert made.verdict("any learning rate").finding == "not decided"
    made.tuned(SHORT, "reset_before", (True, False, False)).tuned(SHORT, "lstm", (True, True, False))
    assert made.verdict("any learning rate").finding == "did not hold"
    assert Made().add(SHORT, "reset_before").add(SHORT, "lstm").verdict("share of seeds").finding == "not decided"


def test_memory_is_the_longest_problem_that_half_of_the_seeds_solve() -> None:
    """One lucky seed is not memory; a problem that was not tried because a shorter one failed counts as unsolved."""
    made = Made().add(SHORT, "reset_before").add(LONG, "reset_before", updates=(50, 50, 50, inf, inf))
    made.add(SHORT, "rnn").add(LONG, "rnn", updates=(50, 50, inf, inf, inf))
    verdict = made.verdict("longer memory")
    assert verdict.finding == "held"
    assert verdict.evidence == "T = 20 to 10, at both sizes"
    untried = Made().add(SHORT, "reset_before").add(LONG, "reset_before").add(SHORT, "rnn", updates=(inf,) * SEEDS)
    assert untried.verdict("longer memory").evidence.startswith("T = 20 to none")
    both = Made().add(SHORT, "reset_before").add(SHORT, "rnn")
    assert both.verdict("longer memory").finding == "not decided", "both solve the longest there is"
    one = Made().add(SHORT, "reset_before").add(SHORT, "rnn", modes=(EQUAL_HIDDEN,))
    one.add(SHORT, "rnn", modes=(EQUAL_PARAMETERS,), updates=(inf,) * SEEDS)
    told = "T = 10 to 10 at equal hidden size; T = 10 to none at equal number of parameters"
    assert (one.verdict("longer memory").finding, one.verdict("longer memory").evidence) == ("not decided", told)
    behind = Made().add(SHORT, "reset_before").add(LONG, "reset_before", updates=(inf,) * SEEDS).add(SHORT, "rnn")
    assert behind.add(LONG, "rnn").verdict("longer memory").finding == "did not hold"


def test_a_cell_that_fails_at_every_rate_is_not_tried_on_longer_problems() -> None:
    """Such a cell would spend its whole budget on longer problems only to fail again."""
    made = Made().tuned(SHORT, "rnn", (False, False)).tuned(SHORT, "lstm", (False, True))
    assert plan.too_long([SHORT, LONG], made.outcomes.values()) == {("adding-20", "rnn")}
    budget = Budget("mini", 4, 2, (1000,), (0.01,), (SHORT, LONG))
    chosen = [cells.named(name) for name in ("lstm", "rnn")]
    rates = {("adding", "lstm"): 0.01, ("adding", "rnn"): 0.01}
    entries = plan.reported(budget, [SHORT, LONG], chosen, rates, seeds=2, left_out={("adding-20", "rnn")})
    assert {(entry.task.name, entry.cell.name) for entry in entries} == {
        ("adding-10", "lstm"),
        ("adding-10", "rnn"),
        ("adding-20", "lstm"),
    }


# -- the page -----------------------------------------------------------------------------------------------------------


def test_the_page_shows_medians_ranges_and_what_never_happened() -> None:
    """A reader must be able to tell a dash from a number, and an unsolved seed from a solved one."""
    assert Spread.of([3, 1, 2]).text(1) == "2.0 (1.0 to 3.0)"
    assert Spread.of([3, inf, 2]).text(0) == "3 (2 to -)"
    assert Spread.of([inf, inf]).text(0) == "-"
    made = Made().add(SHORT, "reset_before", updates=(25, 50, 75, 50, inf), parameters=1234)
    told = " ".join("\n".join(report_tasks.sections(made.results(), SHORT, "page-adding-10.png")).split())
    assert "| GRU, reset before | 8 | 1,234 | 0.01 | 4 of 5 | 50 (25 to -) |" in told
    assert "![mean squared error over updates and over seconds](page-adding-10.png)" in told


def test_last_errors_are_told_seed_by_seed_where_they_count() -> None:
    """This includes tasks that no cell solves, which the verdicts leave out."""
    counting = Adding(steps=10, epochs=4, batch=8, tunes=True, ends_when_solved=False)
    never = (inf,) * SEEDS
    made = Made().add(counting, "reset_before", updates=never, error=0.3).add(counting, "lstm", updates=never, error=0.4)
    told = " ".join("\n".join(report_tasks.sections(made.results(), counting, None)).split())
    assert "*GRU, reset before* errs 0.75 times as much as *LSTM* (less in 5 of 5 seeds)." in told
    assert "errs" not in "".join(report_tasks.sections(Made().add(SHORT, "lstm").results(), SHORT, None))


def test_the_page_tells_every_rule_and_every_verdict() -> None:
    """Readers must be able to check every verdict."""
    made = Made().add(SHORT, "reset_before", updates=(25,) * 5).add(SHORT, "lstm").add(SHORT, "rnn", updates=(inf,) * SEEDS)
    made.tuned(SHORT, "reset_before", (True,)).tuned(SHORT, "lstm", (False,)).tuned(SHORT, "rnn", (False,))
    results = made.results()
    found = verdicts.all_of(results, [("reset_before", "lstm")], plain="rnn")
    about = report.About(
        budget=Budget("mini", 8, SEEDS, (1000,), (0.01,), (SHORT,)),
        seeds=SEEDS,
        rates={("adding", name): 0.01 for name in ("reset_before", "lstm", "rnn")},
        jobs=[1, 2],
        machine={"cpu": "a processor", "cpus": 2, "packages": {"python": "3.11", "torch": "2"}},
        command="python -m scripts.compare --budget mini",
        pictures={},
    )
    page = report.markdown(results, found, about)
    for claim in verdicts.RULES:
        assert f"* **{claim}**: " in page
        assert f"| {claim} " in page
    assert "| easier to train: updates until solved  | **held**: 2 for, 0 against, of 2" in page
    assert "0.50 (for)" in page
    assert "1 or 2 trials at" in " ".join(page.split())
    assert "| 1 of 1, 0.01 |" in page
    assert all(len(line) <= 132 or line.startswith("|") for line in page.splitlines())


@pytest.mark.parametrize(("others", "busy"), [(1.0, False), (2.0, True), (None, False)], ids=["idle", "busy", "all diverged"])
def test_trials_that_diverged_do_not_make_the_machine_look_busy(others: float | None, busy: bool) -> None:
    """Their curves end before their last updates do, so that their processor seconds are not known."""
    made = Made().add(SHORT, "lstm", seconds=0.02 / (others or 1.0)).add(SHORT, "rnn")
    for job, outcome in made.outcomes.items():
        if job.cell == "rnn" or others is None:
            made.outcomes[job] = replace(outcome, diverged=True, solved=None, curve=(), wall_seconds=100.0)
    about = report.About(
        budget=Budget("mini", 8, SEEDS, (1,), (0.01,), (SHORT,)),
        seeds=SEEDS,
        rates={},
        jobs=[2],
        machine={"cpu": "a processor", "cpus": 2, "packages": {}},
        command="python -m scripts.compare",
        pictures={},
    )
    assert ("The machine had other work" in report.markdown(made.results(), [], about)) == busy


def test_rates_that_hang_on_one_seed_are_named() -> None:
    """If another seed would have chosen another rate, the results of that cell are less certain."""
    made = Made().add(SHORT, "lstm").add(SHORT, "rnn")
    for seed, rate, updates in ((1, 0.01, 25), (1, 0.1, 75), (2, 0.01, 50), (2, 0.1, 25)):
        for cell, solved in (("lstm", updates), ("rnn", 25)):
            job = Job(SHORT.name, cell, 8, rate, seed, SHORT.updates)
            made.tuning.append(job)
            made.outcomes[job] = made_one(job, solved, error=0.1, parameters=1, seconds=0.1)
    about = report.About(
        budget=Budget("mini", 8, SEEDS, (1, 2), (0.01, 0.1), (SHORT,)),
        seeds=SEEDS,
        rates={("adding", "lstm"): 0.01, ("adding", "rnn"): 0.01},
        jobs=[2],
        machine={"cpu": "a processor", "cpus": 2, "packages": {}},
        command="python -m scripts.compare",
        pictures={},
    )
    page = " ".join(report.markdown(made.results(), [], about).split())
    assert "other rates would have been chosen, and verdicts may hang on it: LSTM (adding) 0.1 by seed 2." in page


def test_columns_stand_under_each_other() -> None:
    """Tables are read in terminals too."""
    assert table([["a", "number"], ["long name", "1"]], left=1).splitlines() == [
        "| a         | number |",
        "| --------- | -----: |",
        "| long name |      1 |",
    ]
