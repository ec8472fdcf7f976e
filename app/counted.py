"""The counts of one version of a model, read back from the metrics, for the statistics of the Open Inference Protocol.

Owns which sample of a metric is which number. Knows nothing of where the samples are stored.
"""

from dataclasses import dataclass
from typing import Self

Samples = dict[tuple[str, str], float]  # by the sample's name, and its label `size` or `outcome`, if it has one


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelCounts:
    """What all processes together have counted of one version of a model, since the service began."""

    inferences: int
    executions: Tally
    waited: Tally  # of instances, for a lane
    succeeded: Tally  # requests
    failed: Tally
    by_size: dict[int, Tally]  # executions, by the instances in them
    last: float  # when the last batch was done, in seconds since the epoch; 0: none was

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """The counts from the samples of one version; missing samples are 0."""

        def tally(name: str, by: str = "") -> Tally:
            return Tally(int(samples.get((f"{name}_count", by), 0)), samples.get((f"{name}_sum", by), 0.0))

        inferences = int(samples.get(("recurve_inferences_total", ""), 0))
        sizes = sorted(int(by) for name, by in samples if name == "recurve_batch_seconds_count")
        return cls(
            inferences=inferences,
            executions=tally("recurve_execution_seconds"),
            waited=Tally(inferences, samples.get(("recurve_queue_seconds_total", ""), 0.0)),
            succeeded=tally("recurve_model_request_seconds", "success"),
            failed=tally("recurve_model_request_seconds", "fail"),
            by_size={size: tally("recurve_batch_seconds", str(size)) for size in sizes},
            last=samples.get(("recurve_last_execution_timestamp_seconds", ""), 0.0),
        )
