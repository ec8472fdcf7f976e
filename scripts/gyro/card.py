"""The model card: what a model is, how it was made, how good it is beside its rivals, and what it must not be used for.

Owns the words. Every number comes from the results, the config or the part, and the words follow the numbers: no winner
is written down here. Knows nothing of how anything was measured or drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from textwrap import fill

from app.manifest import Cell, ModelSpec, Signal
from scripts.flags import arguments_of
from scripts.gyro.baselines import CALIBRATED, EXPERT, RAW, SMOOTHED
from scripts.gyro.comparison import COLUMNS, Result, best, filters, named, table
from scripts.gyro.config import Config
from scripts.gyro.evaluate import EVEN_SECONDS, SETTLE_SECONDS
from scripts.gyro.filters import BANK
from scripts.gyro.sensor import PARTS
from scripts.training.packages import installed


@dataclass(frozen=True, slots=True)
class Figures:
    """File names of the pictures, relative to the card."""

    allan: str
    motion: str


def markdown(
    spec: ModelSpec, config: Config, results: Sequence[Result], figures: Figures, *, turns: Mapping[float, float], parameters: int
) -> str:
    """The whole card; turns: see evaluate.even_turns."""
    part = PARTS[config.part]
    gyro = part.gyro
    assert spec.cell is not None, "a model of ours"
    cell = _layers(spec.cell)
    states = ", ".join(f"`{state.input}` {state.shape}" for state in spec.states)
    sampling = f"with {config.jitter * 1e3:g} ms of jitter" if config.jitter else "evenly sampled"
    extent = f", in each to an extent from {config.least_motion:g} to 1" if config.least_motion < 1 else ""
    made = _paragraph(
        f"Trained on simulated recordings of {config.recording_seconds:g} s, {config.recordings} new ones in each of at most "
        f"{config.epochs} epochs: sections of rest, slow sway and fast rotation of a rigid body{extent}, as **one simulated "
        f"specimen** of the {part.name} would report them. Its gyroscope: noise N = {gyro.white:.3g} deg/s/√Hz, bias "
        f"instability {0.664 * gyro.flicker * 3600:.3g} deg/h, rate random walk K = {gyro.drift:.3g} deg/s·√Hz, a new bias in "
        f"every recording ({gyro.turn_on:g} deg/s, 1 sigma), scale factors and misalignments of its own ({gyro.scale:.1%} and "
        f"{gyro.misalignment:g} degrees, 1 sigma), {gyro.resolution:.3g} deg/s per count, clipped at ±{gyro.limit:g} deg/s. "
        f"Where the figures come from: {part.source}."
    )
    rivals = _paragraph(
        "All filters are causal and tuned for the smallest RMSE on training recordings. *Calibrated* means corrected by the "
        f"scale factors and misalignments fitted on training recordings. A *Kalman bank* weighs {len(BANK)} Kalman filters, "
        f"from slow to fast, by how well each foretells the signal. *{EXPERT}* is what an expert would build by hand: it "
        "detects stillness by moving variance, learns the bias then, and answers zero as long as it lasts."
    )
    measured = _paragraph(
        f"Measured with {', '.join(' '.join(package) for package in installed().items())}. What it was trained with stands in its "
        "manifest. Written by `python -m scripts.card`."
    )
    return f"""# {spec.name}

{_paragraph(spec.description or "A causal network that cleans the signal of a MEMS gyroscope.")}

| | |
| --- | --- |
| version | {spec.version} |
| takes | {_signals(spec.features)}, raw, at {config.sample_rate:g} Hz |
| gives | {_signals(spec.outputs[0].signals)}, one output for every step, from that step and those before it |
| carries | {states} from one call to the next |
| is | {cell}, {parameters:,} trained parameters, ONNX opset {spec.opset} |

## How it was made

    {command(config)}

{made}

## How good it is

On test recordings that neither training nor tuning has seen, the model as it is served. In bold, the best of a column.

{table(results)}

{chr(10).join(f"* **{column.heading}**: {column.meaning}." for column in COLUMNS)}

{rivals}

![Allan deviation of a still device]({figures.allan})
![Errors from rest to fast motion]({figures.motion})

## An honest reading

{reading(results)}

## Limits

* **Simulated data only.** It has not been verified on any real device. Vibration, temperature, g-sensitivity and
  non-linearity are not simulated.
* **One specimen.** Scale factors and misalignments are those of the one specimen it was trained on. Another device has
  others: train again, or calibrate first and expect less.
* **It has to learn the bias** of each recording from rest or slow motion. In the first {SETTLE_SECONDS:g} s, and for as long as
  there is nothing but fast motion, bias and rotation can hardly be told apart.
* **A slow turn that is even passes for bias,** for nothing but its size tells it apart. When one has lasted for
  {EVEN_SECONDS:g} s, the model answers {", ".join(f"{found:.2f} deg/s for {rate:g}" for rate, found in turns.items())}.
* Trained at {config.sample_rate:g} Hz, {sampling}. Another rate needs another model.
* Not compared with an attitude filter that learns the bias from gravity while moving.

{measured}
"""


def command(config: Config) -> str:
    """The command line that trains with this config: what differs from the defaults."""
    return " ".join(["python -m scripts.train", *arguments_of(config)])


def reading(results: Sequence[Result]) -> str:
    """What the table says, in sentences."""
    model, expert = results[-1].scores, named(results, EXPERT).scores
    raw, calibrated, smoothed = (named(results, name).scores for name in (RAW, CALIBRATED, SMOOTHED))
    first, second, *_ = sorted(filters(results), key=lambda result: result.scores.rmse)
    paragraphs = (
        f"**What calibration alone gives:** an RMSE of {calibrated.rmse:.3f} deg/s instead of {raw.rmse:.3f}, in fast motion "
        f"{calibrated.fast:.3f} instead of {raw.fast:.3f}. Of the {calibrated.rest:.3f} deg/s that stay at rest, noise is "
        f"{calibrated.noise:.3f}; the rest is bias, which every low-pass filter lets through.",
        f"**What filters add:** the best, *{first.method.name}*, reaches {first.scores.rmse:.3f} deg/s, the next, "
        f"*{second.method.name}*, {second.scores.rmse:.3f}. Fast motion punishes lag: where one bandwidth must suit all "
        "motion, tuning leaves hardly any filtering.",
        "**Less noise at rest is not the point.** A moving average of 1 s changes the noise of a still device by "
        f"{_change(smoothed.noise, calibrated.noise)} and ruins motion: an RMSE of {smoothed.fast:.1f} deg/s in fast motion "
        f"where calibration alone has {calibrated.fast:.3f}, {_lag(smoothed.lag)}, at {smoothed.gain:.0%} of the amplitude. "
        f"The model changes that noise by {_change(model.noise, calibrated.noise)}, with an RMSE of {model.fast:.3f} deg/s in "
        f"fast motion, {_lag(model.lag)}, at {model.gain:.1%} of the amplitude.",
        f"**Against what an expert would build by hand** (*{EXPERT}*): settled RMSE {model.settled:.3f} to "
        f"{expert.settled:.3f} deg/s ({_times(model.settled, expert.settled)}); attitude error {model.orientation_median:.2f} "
        f"to {expert.orientation_median:.2f} degrees in the median "
        f"({_times(model.orientation_median, expert.orientation_median)}) and {model.orientation_rms:.2f} to "
        f"{expert.orientation_rms:.2f} root mean square ({_times(model.orientation_rms, expert.orientation_rms)}). Below 1 "
        "the model is ahead.",
        "A method that knows stillness when it sees it answers near zero then: its noise and Allan deviation show that it "
        "does, and say nothing of what it does in motion.",
    )
    return "\n\n".join([verdict(results), *map(_paragraph, paragraphs)])


def verdict(results: Sequence[Result]) -> str:
    """In which columns the model is the best, and which method leads in the others."""
    model = results[-1]
    won = [column.heading for column in COLUMNS if model in best(column, results)]
    lines = [f"**In {len(won)} of the {len(COLUMNS)} columns** the model is the best, or level with the best{_listed(won)}."]
    for rival in results[:-1]:
        ahead = [
            f"{column.heading} ({column.text(rival.scores)} to {column.text(model.scores)})"
            for column in COLUMNS
            if column.heading not in won and rival is best(column, results)[0]
        ]
        if ahead:
            lines.append(f"*{rival.method.name}* leads{_listed(ahead)}.")
    return "\n\n".join(map(_paragraph, lines))


def _listed(words: Sequence[str]) -> str:
    return f": {', '.join(words)}" if words else ""


def _paragraph(text: str) -> str:
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _change(value: float, reference: float) -> str:
    return f"{value / reference - 1:+.0%}"


def _times(value: float, reference: float) -> str:
    return f"{value / reference:.2f} times"


def _lag(samples: float) -> str:
    return f"{abs(samples):.2f} samples {'late' if samples >= 0 else 'early'}"


def _layers(cell: Cell) -> str:
    """2 x 64 GRU, `reset_before`, or the cell of each layer from the input up."""
    if isinstance(cell.variant, str):
        family = {"lstm": "LSTM", "rnn": "RNN"}.get(cell.variant, "GRU")
        return f"{cell.num_layers} x {cell.hidden_size} {family}, `{cell.variant}`"
    return f"{', '.join(f'`{variant}`' for variant in cell.variant)} from the input up, {cell.hidden_size} units each"


def _signals(signals: Sequence[Signal]) -> str:
    """`gyro_x`, `gyro_y` in deg/s, `accel_x` in m/s^2"""
    groups = groupby(signals, key=lambda signal: signal.unit)
    return ", ".join(f"{', '.join(f'`{signal.name}`' for signal in group)} in {unit or 'no unit'}" for unit, group in groups)
