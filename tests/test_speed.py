"""How the cells' speeds are reported: each relative to torch.nn.GRU in the same rounds. How fast they are is not tested."""

import json
from pathlib import Path

import pytest

from scripts.compare import speed


def test_every_cell_is_measured_beside_torch_nn_gru() -> None:
    """torch.nn.GRU is the measure in every size, so its own ratio is exactly 1 whatever else the machine did."""
    found = speed.measure(hidden=(3, 4), batch=2, steps=3, rounds=3)
    assert [(each.kind, each.hidden) for each in found] == [(kind, size) for size in (3, 4) for kind in speed.KINDS]
    assert all(each.seconds > 0 and each.ratio > 0 for each in found)
    assert [each.ratio for each in found if each.kind == speed.BASE] == [1.0, 1.0]
    assert {each.backend for each in found if each.kind == "reset_before"} == {"hand-written autograd function"}


def test_the_table_has_a_line_for_each() -> None:
    """A line has the time in milliseconds and the backend that computes the cell."""
    lines = speed.table([speed.Speed("lstm", 64, speed.backend("lstm"), 0.01234, 0.5)]).splitlines()
    assert len(lines) == 3
    assert lines[2] == "| lstm | 64 | torch's fused kernel | 12.3 | 0.50 |"


@pytest.mark.parametrize("flag", ["--rounds", "--threads"])
def test_wrong_use_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the wrong value."""
    with pytest.raises(SystemExit) as ended:
        speed.main([flag, "0"])
    assert ended.value.code == 2
    assert f"{flag} must be 1 or more, got 0" in capsys.readouterr().err


def test_the_command_tells_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file lets users compare versions."""
    for name, value in {"BATCH": 2, "STEPS": 3, "HIDDEN": (3,)}.items():
        monkeypatch.setattr(speed, name, value)
    result = tmp_path / "speed.json"
    assert speed.main(["--rounds", "1", "--json", str(result)]) == 0
    told = json.loads(result.read_bytes())
    assert [each["kind"] for each in told["speeds"]] == list(speed.KINDS)
    assert "times torch.nn.GRU" in capsys.readouterr().out
