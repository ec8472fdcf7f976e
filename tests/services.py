"""The service without HTTP, over a repository, on the CPU with one lane."""

from pathlib import Path
from typing import Any

from app.catalog import Catalog
from app.engine import Device
from app.lifecycle import Loader
from app.metrics import Metrics
from app.operations import Operations
from app.orders import OrderBook, VersionPolicy
from app.processes.fleet import Fleet
from app.queue import BatchLimits
from app.repository import Refusals, Repository
from app.runtime import Runtime
from app.service import Service

LIMITS = BatchLimits(max_batch_size=8, max_batch_steps=400, max_padding_waste=0.25, max_queue_size=64)
LATEST = VersionPolicy()


def catalog_of(
    model_dir: Path,
    *,
    device: Device = "cpu",
    policy: VersionPolicy = LATEST,
    book: OrderBook | None = None,
    runtime: Runtime | None = None,
    metrics: Metrics | None = None,
) -> Catalog:
    """A catalog of which nothing is loaded yet."""
    metrics = metrics or Metrics()
    loader = Loader(device=device, limits=LIMITS, lanes=1, metrics=metrics, runtime=runtime)
    return Catalog(Repository(model_dir), loader, policy, book or OrderBook(), Refusals(metrics.versions_refused))


async def service_over(model_dir: Path, **options: Any) -> Service:
    """A loaded and ready service, with the options of `catalog_of`."""
    service = Service(catalog_of(model_dir, **options), default_model="gyro-denoiser")
    await Operations(service, Fleet()).start()
    return service
