"""The lives of the workers when the system has no room, or they have no luck. A clock that is set, so nothing here waits."""

import json
import subprocess
import sys
from typing import Any

from tests.servers import ROOT


def scenario(name: str) -> tuple[dict[str, Any], str]:
    """What came of one of tests/supervised.py, and its log."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.supervised", name], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_a_worker_that_dies_as_soon_as_it_is_ready_is_replaced_after_a_pause() -> None:
    """Else the service would do nothing but start workers; one that has lived for long is replaced at once."""
    found, _ = scenario("dying")
    assert found == {"code": 0, "deaths": [0, 1, 2, 103, 103]}
