"""Worker processes that run trials, one thread each.

Owns the processes and the progress bar. Knows nothing of what is tried or of its outcome.
"""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

from tqdm import tqdm

from scripts.compare import trial
from scripts.compare.task import Task
from scripts.compare.trial import Job, Outcome


@contextmanager
def workers(count: int) -> Iterator[Executor]:
    """`count` processes, started by the first trial; trials that still wait at the end are dropped."""
    executor = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def run(executor: Executor, jobs: Sequence[Job], tasks: Mapping[str, Task], *, label: str) -> Iterator[Outcome]:
    """The outcomes as they come, roughly in the order of the jobs."""
    work = {job: job.updates * tasks[job.task].steps * tasks[job.task].layers for job in jobs}
    with tqdm(total=sum(work.values()), desc=label, unit="step", unit_scale=True, smoothing=0, disable=not jobs) as bar:
        waiting = {executor.submit(trial.run, job, tasks[job.task]): job for job in jobs}
        for done, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            yield future.result()
            bar.set_postfix_str(f"{done} of {len(jobs)} trials, last {job}", refresh=False)
            bar.update(work[job])


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once; the parent tells the user
    Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End when the parent ends, in whatever way: nobody would read the outcome of the trial."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
