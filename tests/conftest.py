"""Settings for all tests, and the fixtures that many of them share."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("WEBSOCKETS_BACKOFF_INITIAL_DELAY", "0.1")  # seconds, not five; read when websockets is imported
os.environ |= {"SSL_CERT_FILE": "", "SSL_CERT_DIR": os.devnull}  # else httpx loads CA certificates for every client, in 25 ms
os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # or hundreds of processes would each compile the service anew
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads spin while they wait, and other processes need the cores

from app import manifest
from tests.artifacts import build

settings.register_profile("others", deadline=None)  # examples in each run: pytest --hypothesis-profile=others
settings.register_profile("same", settings.get_profile("others"), derandomize=True)
settings.load_profile("same")
gc.disable()  # until the tests are collected: searching objects that stay, again and again, would take a third of the time


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()  # the collected tests are not searched while the tests run either
    gc.enable()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one version of one model; shared by all tests, so none may write into it."""
    model_dir = tmp_path_factory.mktemp("model")
    build(model_dir)
    return model_dir


@pytest.fixture(scope="session")
def spec(repository: Path) -> manifest.ModelSpec:
    """The spec of the only version in `repository`."""
    return manifest.read(repository / "gyro-denoiser" / "1")
