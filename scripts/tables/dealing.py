"""Deals whole recordings out to training, validation and test.

Owns the proportions within each class. Knows nothing of rows.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from scripts.tables.recording import DataError
from scripts.tables.splits import PARTS
from scripts.tables.wording import count


def deal(labels: Sequence[int], fractions: Sequence[float], classes: Sequence[str]) -> list[int]:
    """The part (0, 1, 2) of each recording; -1 for those that are left over where the fractions add up to less than 1.

    labels: the class of each recording, in order. fractions: where the parts end, cumulative. Each class is dealt by itself, in
    order: the first of its recordings to training, the last to test. DataError where a class has too few to be in all parts.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    for label, name in enumerate(classes):
        if len(members[label]) < len(PARTS):
            raise DataError(
                f"The class {name!r} has {count(len(members[label]), 'recording')}, and needs {len(PARTS)} to be in training,"
                " validation and test: record more of it, leave it out, or split by dates."
            )
    dealt = [-1] * len(labels)
    for indices in members.values():
        sizes = _sizes(len(indices), fractions)
        for part, (start, size) in enumerate(zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True)):
            for index in indices[int(start) : int(start) + size]:
                dealt[index] = part
    return dealt


def _sizes(total: int, fractions: Sequence[float]) -> list[int]:
    """How many recordings go to each part: as close to the fractions as possible, and at least one."""
    shares = np.diff([0.0, *fractions]) * total
    sizes = np.maximum(np.floor(shares + 1e-9).astype(int), 1)
    whole = max(round(float(shares.sum())), len(sizes))
    while sizes.sum() != whole:
        step = 1 if sizes.sum() < whole else -1
        lack = np.where((sizes > 1) | (step > 0), step * (shares - sizes), -np.inf)
        sizes[int(lack.argmax())] += step
    return [int(size) for size in sizes]
