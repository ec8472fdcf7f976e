"""What a manifest says about how a model was trained on the user's own data. Knows nothing of the model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.training.checkpoint import Checkpoint
from scripts.training.packages import installed


def provenance(
    checkpoint: Checkpoint, *, per_recording: bool = False, deviations: Sequence[float] = (), **more: Any
) -> dict[str, Any]:
    """Data, truth, choices, metrics, scores and packages. Files are given by name only: their folders are private.

    The truth is what the answers are compared with. per_recording: whether a recording has one label; deviations: the standard
    deviation of each target in training, in its unit, if errors are given in units of it.
    """
    config, facts = checkpoint.config.to_dict(), checkpoint.facts
    config["data"] = [Path(file).name for file in config["data"]]
    columns = [name for name, _ in facts["targets"]]
    truth = {"columns": columns, "per_recording": per_recording, "deviations": list(deviations)}
    found = {"data": config["data"], "truth": truth, "config": config, "metrics": checkpoint.best, "packages": installed(), **more}
    return found | ({"scores": facts["scores"]} if "scores" in facts else {})
