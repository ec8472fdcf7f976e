"""What many tests start from."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("WEBSOCKETS_BACKOFF_INITIAL_DELAY", "0.1")  # seconds, not five; read when websockets is imported
os.environ |= {"SSL_CERT_FILE": "", "SSL_CERT_DIR": os.devnull}  # httpx reads the authorities of the web for every client, in 25 ms
os.environ["PYTHONDONTWRITEBYTECODE"] = ""  # of the hundreds of processes that the tests start, each would compile the service anew
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads wait for each other by spinning, and others have the cores

from app import manifest
from tests.artifacts import build

settings.register_profile("others", deadline=None)  # examples in each run: pytest --hypothesis-profile=others
settings.register_profile("same", settings.get_profile("others"), derandomize=True)
settings.load_profile("same")
gc.disable()  # until the tests are collected: a third of the time would go into looking through what stays, again and again


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()  # they are not looked at while the tests run either
    gc.enable()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one version of one model; shared by all tests, so none may write into it."""
    model_dir = tmp_path_factory.mktemp("model")
    build(model_dir)
    return model_dir


@pytest.fixture(scope="session")
def spec(repository: Path) -> manifest.ModelSpec:
    """Of the version in it."""
    return manifest.read(repository / "gyro-denoiser" / "1")
