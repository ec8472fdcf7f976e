"""The artifact of a run on the user's own data. Owns which of the two kinds it is."""

from scripts.forecasting.artifact import Forecaster
from scripts.series.config import Config
from scripts.streaming.artifact import Follower
from scripts.training.checkpoint import Checkpoint
from scripts.training.problem import Artifact


def artifact_of(checkpoint: Checkpoint) -> Artifact:
    """The artifact with the best weights of the run."""
    config = checkpoint.config
    assert isinstance(config, Config)
    return Forecaster(config, checkpoint) if config.task == "forecast" else Follower(config, checkpoint)
