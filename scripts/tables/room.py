"""Whether the parts have room for the windows of a forecast, and which window would fit where they have none.

Owns the refusal and the suggestion in it. Knows nothing of how windows are drawn.
"""

from collections.abc import Sequence

from scripts.tables.recording import DataError, Recording
from scripts.tables.splits import PARTS
from scripts.tables.wording import count

_ROUND = 12  # rows: a longer context is suggested in multiples of it, which segments divide


def check(parts: Sequence[Sequence[Recording]], *, context: int, horizon: int) -> None:
    """DataError where some part has rows, and none of its pieces is long enough for a window. Parts without a row are left."""
    for name, pieces in zip(PARTS, parts, strict=True):
        if not pieces or max(len(piece.features) for piece in pieces) >= context + horizon:
            continue
        rows = [len(piece.features) - piece.lead for piece in pieces]
        longest = f" in pieces of no more than {max(rows):,}" if len(rows) > 1 else ""
        raise DataError(
            f"The {name} part has {count(sum(rows), 'row')}{longest}, too few for a forecast of {count(horizon, 'row')} from"
            f" {context:,}.{_fitting(parts, context, horizon)} Choose another window or another --split, or give more data."
        )


def _fitting(parts: Sequence[Sequence[Recording]], context: int, horizon: int) -> str:
    """A window that leaves at least as many windows in each part as half of its rows, if there is one."""
    training, *later = (max((len(piece.features) - piece.lead for piece in pieces), default=0) for pieces in parts)
    if horizon > min(later) or horizon > training // 4:
        horizon = min(horizon, min(later) // 2, training // 4)
    context = min(context, (training - horizon) // 2)
    context -= context % _ROUND if context > 2 * _ROUND else 0
    return f" --context {context} --horizon {horizon} would fit." if horizon > 0 and context > 0 else ""
