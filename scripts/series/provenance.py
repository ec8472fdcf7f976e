"""What a manifest says of how a model came from the user's own data. Knows nothing of the model."""

from pathlib import Path
from typing import Any

from scripts.training.checkpoint import Checkpoint
from scripts.training.packages import installed


def provenance(checkpoint: Checkpoint, **more: Any) -> dict[str, Any]:
    """Data, choices, metrics, scores and packages. Of the files the names only: where they lay is nobody else's business."""
    config = checkpoint.config.to_dict()
    config["data"] = [Path(file).name for file in config["data"]]
    found = {"data": config["data"], "config": config, "metrics": checkpoint.best, "packages": installed(), **more}
    return found | ({"scores": checkpoint.facts["scores"]} if "scores" in checkpoint.facts else {})
