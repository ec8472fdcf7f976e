"""Typical rows for a golden sample. Owns which rows they are: those around the most extreme value of the part itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scripts.streaming.linear import Scaling
from scripts.streaming.network import NEAR
from scripts.streaming.rows import blocks
from scripts.tables.recording import Recording

MOST = 512  # rows


def sample_of(recordings: Sequence[Recording], scaling: Scaling) -> NDArray[np.float32]:
    """Up to MOST successive rows (rows, features) of one recording, around its most extreme value: digits are lost there first."""
    lengths = [len(recording.features) - recording.lead for recording in recordings]
    enough = [index for index, length in enumerate(lengths) if length >= min(max(lengths), MOST)]
    farthest, chosen, moment = -1.0, enough[0], 0
    for piece in blocks([recordings[index] for index in enough]):
        far = np.abs(scaling(recordings[enough[piece.recording]].features[piece.begin : piece.end])).max(axis=1)
        far[far > NEAR] = 0.0  # an outlier, which says nothing about lost digits
        if far.max() > farthest:
            farthest, chosen, moment = float(far.max()), enough[piece.recording], piece.begin + int(far.argmax())
    features, lead = recordings[chosen].features, recordings[chosen].lead
    begin = max(lead, min(moment - MOST // 2, len(features) - MOST))
    return np.array(features[begin : begin + MOST])
