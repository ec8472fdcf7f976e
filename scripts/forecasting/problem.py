"""Forecasting the user's series, as the training loop sees it: windows drawn anew in every epoch, and how good a forecast is.

Owns which windows an epoch trains on, and which methods are compared. Knows nothing of files or of the loop.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.forecasting import baselines, evaluate, lines, pictures, trust
from scripts.forecasting.baselines import Method
from scripts.forecasting.errors import pinball
from scripts.forecasting.framing import Framing, framing_of, season_of
from scripts.forecasting.linear import Linear
from scripts.forecasting.network import Network
from scripts.forecasting.normal import Normal
from scripts.forecasting.trust import Answered
from scripts.forecasting.windows import Places, Windows
from scripts.series.config import Config
from scripts.tables.recording import Dataset
from scripts.tables.wording import count
from scripts.training.scores import Scores

UPDATES = 200  # in an epoch, at most: if there are more windows than these take, each epoch draws some of them
ROWS = 2048  # of the recurrence in an update, at most: series with hundreds of channels train on fewer windows at a time
JUDGED = 2000  # windows of the validation part that an epoch is judged by, at most
CHOSEN = 600  # windows of the training part that quantiles and the golden sample are taken from, at most
DRAWN = 1000  # windows of the test part that the error by rows ahead is drawn from, at most
SAMPLES, LIVELY = 6, 3  # contexts kept for the golden sample: spread over the test part, and those of training that vary most


class Forecasting:
    """A problem.Problem. Raises DataError if a part of the data has no window."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        self._config, self._dataset = config, dataset
        self._framing, note = framing_of(config, dataset)
        if note:
            print(note)
        self._season = season_of(config, dataset.period)
        sizes = {"context": config.context, "horizon": config.horizon}
        self._training = Windows(dataset.training, part="training", **sizes)
        self._validation = Windows(dataset.validation, part="validation", **sizes)
        self._test = Windows(dataset.test, part="test", **sizes)
        if note := _untrue({"training": self._training, "validation": self._validation, "test": self._test}):
            print(note)
        rows = 1 if self._framing.channels == "joint" else self._framing.targets
        self._batch = min(config.batch, max(1, ROWS // rows), len(self._training))

    @property
    def config(self) -> Config:
        return self._config

    @property
    def updates_per_epoch(self) -> int:
        return min(UPDATES, -(-len(self._training) // self._batch))

    @property
    def facts(self) -> dict[str, Any]:
        contexts = [windows.take(places)[0] for windows, places in ((self._test, self._test.evenly(SAMPLES)), self._liveliest())]
        return {
            "framing": self._framing.to_dict(),
            "features": [(column.name, column.unit) for column in self._dataset.features],
            "targets": [(column.name, column.unit) for column in self._dataset.targets],
            "period": self._dataset.period,
            "digest": self._dataset.digest(),
            "sample": torch.cat(contexts),
        }

    def _liveliest(self) -> tuple[Windows, Places]:
        """The training windows that vary most: a constant test part would show nothing of what the recurrence does."""
        places = self._training.evenly(CHOSEN)
        spreads = torch.cat([self._training.take(some)[0].std(dim=1) for some in self._training.batches(places)])
        most = (spreads / spreads.amax(dim=0).clamp(min=float(np.finfo(np.float32).tiny))).sum(dim=1)
        return self._training, places[np.sort(most.topk(min(LIVELY, len(places))).indices.numpy())]

    def network(self) -> Network:
        """A new network; its line and the start of its quantiles are fitted to the training part."""
        network = Network(self._config, self._framing)
        network.normal.fit(self._dataset.training)
        if self._framing.wide or any(self._framing.known):
            network.start_from(self._line_of(network.normal, self._framing))
        if self._framing.quantiles:
            network.start_quantiles(self._errors(network))
        return network

    def prepare(self, epoch: int) -> Places:
        return self._training.shuffled(np.random.default_rng([self._config.seed, epoch]))[: self.updates_per_epoch * self._batch]

    def losses(self, network: nn.Module, prepared: Places, device: str) -> Iterator[Tensor]:
        assert isinstance(network, Network)
        for begin in range(0, len(prepared), self._batch):
            context, _, truth = self._training.take(prepared[begin : begin + self._batch])
            yield sum(self._losses(network, context.to(device), truth.to(device)), start=torch.zeros((), device=device))

    def _losses(self, network: Network, context: Tensor, truth: Tensor) -> list[Tensor]:
        """The losses of the forecast and, if there are any, of the quantiles."""
        answer = network.answer(context)
        wanted = answer.frame.numbers(truth)
        weight = answer.frame.spread / network.normal.target_scale  # errors count in units of training, not of the window
        found = [((answer.numbers - wanted) * weight).square().mean()]
        if answer.levels is not None:
            found.append(pinball((wanted[..., None] - answer.levels) * weight[..., None], self._framing.quantiles))
        return found

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """The loss and the metrics. First sets how far the network trusts its recurrence, which is kept with its weights."""
        assert isinstance(network, Network)
        places = self._validation.evenly(JUDGED)
        with evaluate.answering(network):
            trust.settle(network, self._answered(network, self._validation, places, device))
        errors, coverage = evaluate.measure(network, (), self._validation, places, device=device)
        found = {"mse": errors[evaluate.MODEL].mse, "mae": errors[evaluate.MODEL].mae}
        if coverage is not None:
            found |= {"pinball": coverage.pinball, "coverage": coverage.share}
        return {"loss": found["mse"] + found.get("pinball", 0.0), **found}

    def scores(self, network: nn.Module, device: str) -> Scores:
        assert isinstance(network, Network)
        test, every = self._test, np.arange(len(self._test))
        errors, coverage = evaluate.measure(network, self._methods, test, every, device=device, bar="testing")
        found = evaluate.table(
            errors,
            coverage,
            data=f"the test part, {count(len(test), 'window')}",
            targets=self._dataset.targets,
            levels=self._framing.quantiles,
        )
        return replace(found, judged=len(test))

    def pictures(self, network: nn.Module, device: str, folder: Path) -> list[Path]:
        assert isinstance(network, Network)
        shown = [each for each in self._methods if each.name.startswith((baselines.LINEAR, baselines.SEASONAL))]
        errors, _ = evaluate.measure(network, shown, self._test, self._test.evenly(DRAWN), device=device)
        return [
            pictures.draw_forecasts(network, shown, self._test, self._dataset.targets, folder / "forecasts.png", device=device),
            pictures.draw_errors({name: each.by_step for name, each in errors.items()}, folder / "errors.png"),
        ]

    @cached_property
    def _methods(self) -> list[Method]:
        """What the network is compared with: methods on the targets' own past and, if there is one, a line from all features."""
        horizon = self._config.horizon
        normal = self._fitted(replace(self._framing, normalise="last"))
        found = [baselines.mean(horizon, normal.target_mean), baselines.repeat(horizon)]
        if self._season is not None:
            found.append(baselines.seasonal(horizon, self._season))
        scale, joint = normal.target_scale, self._framing.channels == "joint"
        line = lines.of_pasts(scale, self._framing.targets, self._training, self._validation)
        found.append(baselines.linear(line, scale, baselines.OWN if joint else baselines.LINEAR))
        return [*found, baselines.of_all(self._best_line, normal)] if self._framing.wide else found

    @cached_property
    def _best_line(self) -> Linear:
        """The line from all features, relative to the last values."""
        framing = replace(self._framing, normalise="last")
        return lines.of_network(self._fitted(framing), framing, self._training, self._validation)

    def _line_of(self, normal: Normal, framing: Framing) -> Linear:
        if framing.wide and framing.normalise == "last":  # the same as the baseline's
            return self._best_line
        return lines.of_network(normal, framing, self._training, self._validation)

    def _fitted(self, framing: Framing) -> Normal:
        normal = Normal(framing)
        normal.fit(self._dataset.training)
        return normal

    def _errors(self, network: Network) -> Tensor:
        """The errors of the network's forecasts of some training windows, in units of their frames."""
        places = self._training.evenly(CHOSEN)
        with evaluate.answering(network):
            answered = self._answered(network, self._training, places, "cpu")
            return torch.cat([wanted - answer.numbers for answer, wanted in answered])

    @staticmethod
    def _answered(network: Network, windows: Windows, places: Places, device: str) -> Iterator[Answered]:
        for some in windows.batches(places):
            context, _, truth = windows.take(some)
            answer = network.answer(context.to(device))
            yield answer, answer.frame.numbers(truth.to(device))


def _untrue(parts: dict[str, Windows]) -> str:
    """A note on the windows that cannot be trained on or scored, empty if there are none."""
    told = [f"{each.untrue:,} of {each.untrue + len(each):,} of the {name} part" for name, each in parts.items() if each.untrue]
    why = "since their horizon holds a target that was filled in, or from which their context was"
    return f"Windows left out, {why}: {', '.join(told)}." if told else ""
