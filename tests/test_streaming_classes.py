"""scripts.streaming.classes and confusion: what a classifier is compared with, and how its mistakes are drawn."""

from pathlib import Path

import numpy as np
import pytest

from scripts.series.config import Config
from scripts.streaming.classes import Classes
from scripts.streaming.confusion import MOST_NAMED, MOST_NUMBERED, draw_confusion
from scripts.streaming.network import Network
from scripts.tables.recording import Column, Dataset, Recording


def labelled(features: int, *, rows: int = 40) -> Dataset:
    """A dataset with one recording of two classes for each part."""
    rng = np.random.default_rng(0)

    def part() -> tuple[Recording, ...]:
        labels = rng.permutation(np.arange(rows) % 2)
        values = (labels[:, None] + rng.normal(size=(rows, features))).astype(np.float32)
        return (Recording("r", values, np.empty((rows, 0), np.float32), labels),)

    return Dataset(
        task="classify",
        features=tuple(Column(f"f{index}") for index in range(features)),
        targets=(Column("state"),),
        classes=("low", "high"),
        label_per_recording=False,
        period=None,
        training=part(),
        validation=part(),
        test=part(),
    )


@pytest.mark.parametrize(("features", "rows"), [(1, 17), (513, None)])
def test_a_method_is_fitted_once_however_many_features_there_are(features: int, rows: int | None) -> None:
    """With so many features that there is no room for earlier rows, a second linear fit would repeat the first."""
    known = Classes(labelled(features))
    network = Network(Config(task="classify", hidden=2, layers=1), features=features, outputs=2)
    known.begin(network)
    names = [row.name for row in known.scores(network, "cpu").rows]
    expected = ["most frequent class", "nearest class mean", "linear fit of the row"]
    assert names == [*expected, *([f"linear fit of the last {rows} rows"] if rows else []), "the model"]


@pytest.mark.parametrize("classes", [2, MOST_NUMBERED, MOST_NUMBERED + 1])
def test_counts_are_drawn_while_there_is_room(classes: int, tmp_path: Path) -> None:
    """Doubling all counts changes only the numbers that are drawn in the picture."""
    counts = np.random.default_rng(0).integers(1, 9, (classes, classes))
    names = [f"class {index}" for index in range(classes)]
    one, other = (
        draw_confusion(counts * times, names, tmp_path / f"{times}.png", title="Some rows").read_bytes() for times in (1, 2)
    )
    assert (one != other) == (classes <= MOST_NUMBERED)


def test_a_picture_of_many_classes_is_no_larger(tmp_path: Path) -> None:
    """With hundreds of classes, no program could open the picture otherwise."""
    sizes = []
    for classes in (MOST_NAMED, 10 * MOST_NAMED):
        names = [f"{index}" for index in range(classes)]
        path = draw_confusion(np.eye(classes, dtype=np.int64), names, tmp_path / "picture.png", title="Some rows")
        sizes.append(path.read_bytes()[16:24])  # width and height of a PNG
    assert sizes[0] == sizes[1]
