"""What an adoption prints: what was found, what each tensor was taken for and why, what was measured, how to ask the model.

Owns the words. Decides nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from app.manifest import ModelSpec, OutputSpec
from scripts.adoption.inspection import Graph
from scripts.adoption.proposal import Proposal
from scripts.adoption.roles import Roles
from scripts.training.exactness import Exactness

FEW = 48  # numbers that a line can hold


def inspected(graph: Graph) -> str:
    proto = graph.proto
    size = graph.path.stat().st_size / 1000
    external = f"; its weights in {', '.join(graph.external)}" if graph.external else ""
    lines = [
        f"{graph.path.name}: ONNX opset {graph.opset} (IR {proto.ir_version}), by {graph.producer}, {size:,.1f} kB{external}",
        *(f"  in   {tensor}" for tensor in graph.inputs),
        *(f"  out  {tensor}" for tensor in graph.outputs),
    ]
    return "\n".join(lines)


def proposed(spec: ModelSpec, proposal: Proposal, roles: Roles, placement: str) -> str:
    """Each role in a line, and the reason below it."""
    lines = ["", "Taken for:"]
    for part, what, why in _parts(spec, proposal, roles, placement):
        lines.append(f"  {part:<10}{what}")
        lines += [f"  {'':<10}  because {why}"] if why else []
    return "\n".join(lines)


def _parts(spec: ModelSpec, proposal: Proposal, roles: Roles, placement: str) -> Iterator[tuple[str, str, str]]:
    yield "sequence", f"{spec.input.name}: {_shown(spec)}", roles.reasons[spec.input.name]
    if not spec.stepwise:
        yield "axes", str(proposal.chosen.reading), proposal.axes
    if spec.lengths:
        yield "lengths", f"{spec.lengths.name}: {spec.lengths.type}", roles.reasons[spec.lengths.name]
    for constant in spec.constants:
        yield "constant", f"{constant.name} = {constant.value}", roles.reasons[constant.name]
    for state in spec.states:
        size = " x ".join(map(str, state.shape)) or "1"
        yield "state", f"{state.input} -> {state.output}: {size} numbers, its batch axis is {state.batch_axis}", proposal.pairs
    for output in spec.outputs:
        yield "output", f"{output.name}: {_answer(spec, output)}", ""
    for unsuited in proposal.chosen.left_out:
        yield "left out", unsuited.name, unsuited.reason
    batch = "one sequence a run" if spec.max_batch_size == 1 else "sequences run together"
    ragged = "" if spec.ragged or spec.max_batch_size == 1 else " if they are equally long"
    yield "batches", batch + ragged, proposal.batch
    yield "time", "causal: it can be streamed" if spec.causal else "whole sequences only, no streams", proposal.causal
    yield "runs on", placement, ""


def _shown(spec: ModelSpec) -> str:
    count = len(spec.features)
    names = ", ".join(signal.name for signal in spec.features[:6]) + (", ..." if count > 6 else "")
    steps = f", exactly {spec.time_steps} steps" if spec.time_steps else ""
    return f"{count} {'feature' if count == 1 else 'features'} a step ({names}){steps}"


def _answer(spec: ModelSpec, output: OutputSpec) -> str:
    size = " x ".join(map(str, output.width))
    return f"{size} {'number' if size == '1' else 'numbers'} {'a step' if spec.every_step(output) else 'a sequence'}"


def measured(spec: ModelSpec, exact: Exactness, source: str) -> str:
    """The measured size and tolerance of each tensor, and the tolerance for all."""
    names = [*(output.name for output in spec.outputs), *(state.output for state in spec.states)]
    lines = [
        f"  {name}: up to {size:.3g}; the last bit of the input, a float32, moves it by {apart:.2g}; {allowed:.2g} is allowed"
        for name, size, apart, allowed in zip(names, exact.largest, exact.moved, exact.allowed, strict=True)
    ]
    tolerance = f"Tolerance of the golden sample, one for all: {spec.tolerance.atol:g} + {spec.tolerance.rtol:g} |value|."
    return "\n".join(["", f"Checked on {source}, each tensor on its own scale.", *lines, tolerance])


def how_to_ask(spec: ModelSpec, model_dir: Path) -> str:
    """Two commands that work as printed: to serve the model, and to ask it."""
    steps = spec.time_steps or (1 if len(spec.features) > 8 else 3)
    numbers = steps * len(spec.features)
    elsewhere = "" if model_dir == Path("model") else f"--model-dir {model_dir} "
    serve = f"make serve ARGS={quote(f'{elsewhere}--default-model {spec.name}')}"  # of several, one must be the default
    if numbers <= FEW:
        step = f"[{','.join(['0.1'] * len(spec.features))}]"
        body = f'{{"model": "{spec.name}", "instances": [[{",".join([step] * steps)}]]}}'
        ask = f"curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{body}'"
    else:  # float32 zeros
        ask = (
            f"head -c {4 * numbers} /dev/zero | curl -s 'http://127.0.0.1:8000/predict?model={spec.name}' "
            "-H 'Content-Type: application/octet-stream' --data-binary @-"
        )
    return f"Serve it:  {serve}\nAsk it:    {ask}"
