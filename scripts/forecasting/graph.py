"""The ONNX graph of a forecast, built node by node: contexts in raw units in, forecasts in raw units out.

Owns the mapping of network.Network to ONNX operators. Knows nothing of files, manifests or verification. It takes whole contexts:
there are no lengths, and the recurrence starts from zeros.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.forecasting.network import Network
from scripts.forecasting.normal import EPSILON, Normal
from scripts.training.nodes import Graph, tensor
from scripts.training.recurrent import add_stack

Frame = tuple[str, str | None, str]  # the names of base, level (None: all zero) and spread of a normal.Frame


def build(network: Network, name: str) -> onnx.ModelProto:
    """Inputs: input (batch, context, features) float32. Outputs: output (batch, horizon, targets) and, where the network has
    them, quantiles (batch, horizon, targets, levels)."""
    framing = network.framing
    g = Graph()
    for axis, number in (("first", 0), ("second", 1), ("last_axis", -1)):
        g.constant(axis, np.array([number]))

    # -- before the stack ------------------------------------------------------------------------------------------
    seen, frame = _seen(g, network.normal)
    if framing.wide:
        rows = np.array([1, -1, framing.context * framing.features])
        own = g.add("Reshape", [seen, g.constant("shape_of_whole", rows)], "whole")  # (1, batch, context x features)
    else:
        picked = seen if framing.picked == [*range(framing.features)] else _pick(g, seen, network.normal)
        own = g.add("Transpose", [picked], "own", perm=[2, 0, 1])  # (targets, batch, context)
    width = framing.segment * (framing.features if network.joint else 1)
    shape = g.constant("shape_of_steps", np.array([-1, framing.steps, width]))
    steps = g.add("Reshape", [seen if network.joint else own, shape], "steps")
    time_major = g.add("Transpose", [steps], "time_major", perm=[1, 0, 2])
    states = add_stack(g, network.stack, time_major, state=False, lengths=False)
    end = g.add("Gather", [states, g.constant("last_step", np.array(framing.steps - 1))], "end", axis=0)  # (rows, hidden)

    # -- after the stack -------------------------------------------------------------------------------------------
    line = g.add("MatMul", [own, g.constant("line", _array(network.line))], "by_line")
    linear = g.add("Add", [line, g.constant("offset", _array(network.offset)[:, None])], "linear")
    trust = g.constant("trust", _array(network.trust))
    added = g.add("Mul", [_head(g, network, network.head, end, "head"), trust], "added")
    numbers = g.add("Add", [linear, added], "numbers")  # (targets, batch, horizon)
    outputs = [tensor("output", ["batch", framing.horizon, framing.targets])]
    _back(g, g.add("Transpose", [numbers], "laid", perm=[1, 2, 0]), frame, "output")
    if network.levels is not None:
        count = len(framing.quantiles)
        climb = g.add("CumSum", [_climb(g, network, end), g.constant("axis_of_levels", np.array(3))], "climb")
        levels = g.add("Add", [g.add("Unsqueeze", [numbers, "last_axis"], "numbers_of_levels"), climb], "levels")
        laid = g.add("Transpose", [levels], "laid_levels", perm=[1, 2, 0, 3])
        wide = [part and g.add("Unsqueeze", [part, "last_axis"], f"{part}_of_levels") for part in frame]
        _back(g, laid, (wide[0] or "", wide[1], wide[2] or ""), "quantiles")
        outputs.append(tensor("quantiles", ["batch", framing.horizon, framing.targets, count]))

    return g.model(name, inputs=[tensor("input", ["batch", framing.context, framing.features])], outputs=outputs)


def _seen(g: Graph, normal: Normal) -> tuple[str, Frame]:
    """The scaled features (batch, context, features) and the frame of the targets, as in Normal.forward."""
    for name in ("mean", "scale", "target_mean", "target_scale"):
        g.constant(name, _array(getattr(normal, name)))
    g.constant("relative", normal.relative.cpu().numpy())
    g.constant("target_relative", normal.target_relative.cpu().numpy())
    g.constant("zero", np.array(0, np.float32))
    g.constant("one", np.array(1, np.float32))
    bounds = [g.constant(name, np.array([value])) for name, value in (("from_last", -1), ("to_end", np.iinfo(np.int64).max))]
    last = g.add("Slice", ["input", *bounds, "second"], "last")  # (batch, 1, features)
    origin = g.add("Where", ["relative", last, "mean"], "origin")
    centred = g.add("Div", [g.add("Sub", ["input", origin], "from_origin"), "scale"], "centred")
    base = g.add("Where", ["target_relative", _pick(g, last, normal), "target_mean"], "base")
    if not normal.instance:
        return centred, (base, None, "target_scale")
    level = g.add("Where", ["relative", g.add("ReduceMean", [centred, "second"], "mean_of_window"), "zero"], "level")
    rest = g.add("Sub", [centred, level], "rest")
    variance = g.add("ReduceMean", [g.add("Mul", [rest, rest], "squares"), "second"], "variance")
    positive = g.add("Add", [variance, g.constant("epsilon", np.array(EPSILON, np.float32))], "positive")
    spread = g.add("Where", ["relative", g.add("Sqrt", [positive], "deviation"), "one"], "spread")
    levels, spreads = (
        g.add(
            "Mul", [g.add("Where", ["target_relative", _pick(g, part, normal), other], f"{part}_or_{other}"), "target_scale"], new
        )
        for part, other, new in ((level, "zero", "levels_of_targets"), (spread, "one", "spreads_of_targets"))
    )
    return g.add("Div", [rest, spread], "seen"), (base, levels, spreads)


def _pick(g: Graph, source: str, normal: Normal) -> str:
    """Pick the feature of each target, along the last axis."""
    if not any(constant.name == "picked" for constant in g.constants):
        g.constant("picked", normal.picked.cpu().numpy())
    return g.add("Gather", [source, "picked"], f"{source}_picked", axis=-1)


def _head(g: Graph, network: Network, layer: nn.Linear, end: str, name: str, *more: int) -> str:
    """What a head gives, as (targets, batch, horizon, ...), like Network._by_target."""
    framing = network.framing
    found = g.add("MatMul", [end, g.constant(f"W_{name}", _array(layer.weight).T)], f"{name}_product")
    if layer.bias is not None:
        found = g.add("Add", [found, g.constant(f"b_{name}", _array(layer.bias))], f"{name}_sum")
    dims = [-1, framing.targets, framing.horizon, *more] if network.joint else [framing.targets, -1, framing.horizon, *more]
    laid = g.add("Reshape", [found, g.constant(f"shape_of_{name}", np.array(dims))], f"{name}_by_row")
    if not network.joint:
        return laid
    return g.add("Transpose", [laid], f"{name}_by_target", perm=[1, 0, 2, 3][: len(dims)])


def _climb(g: Graph, network: Network, end: str) -> str:
    """The lowest quantile relative to the forecast, and the steps, all above 0, from each quantile to the next."""
    assert network.levels is not None
    raw = _head(g, network, network.levels, end, "levels_head", len(network.framing.quantiles))
    if len(network.framing.quantiles) == 1:
        return raw
    bounds = [g.constant(name, np.array([value])) for name, value in (("axis_3", 3), ("to_all", np.iinfo(np.int64).max))]
    lowest = g.add("Slice", [raw, "first", "second", bounds[0]], "lowest")
    others = g.add("Slice", [raw, "second", bounds[1], bounds[0]], "others")
    return g.add("Concat", [lowest, g.add("Softplus", [others], "gaps")], "steps_of_levels", axis=3)


def _back(g: Graph, numbers: str, frame: Frame, output: str) -> None:
    """Turn scaled numbers into raw values, as Frame.back does."""
    base, level, spread = frame
    small = g.add("Mul", [numbers, spread], f"scaled_{output}")
    if level is not None:
        small = g.add("Add", [small, level], f"levelled_{output}")
    g.add("Add", [small, base], output)


def _array(values: Tensor) -> NDArray[np.float32]:
    return values.detach().cpu().numpy()
