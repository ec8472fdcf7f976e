"""A model as the Open Inference Protocol V2 describes it: its metadata, its configuration, its statistics.

Owns the members of these answers. Every member is present and has Triton's type: Triton's tools do not check. Knows nothing of
which models there are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.codecs.members import member_of, parameters_of
from app.codecs.request import escape
from app.codecs.tensor_rows import ANY, TensorSpec, inputs_of, outputs_of
from app.counted import ModelCounts, Tally
from app.errors import MOST_SHOWN, InvalidRequest
from app.manifest import ModelSpec
from app.orders import VersionPolicy
from app.tensors import batch_shape

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
NOT_MEASURED = Tally()
_CONFIG = "/parameters/config"


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served: what its configuration reports beside its spec."""

    versions: Sequence[str]
    max_instances: int  # in one request
    lanes: int
    gpu: bool
    graph: str  # file name
    idle_seconds: float  # after which a sequence expires


def metadata(spec: ModelSpec, versions: Sequence[str]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "versions": list(versions),
        "platform": PLATFORM,
        "inputs": [_tensor(each) for each in inputs_of(spec)],
        "outputs": [_tensor(each) for each in outputs_of(spec)],
    }


def config(spec: ModelSpec, serving: Serving) -> dict[str, Any]:
    """Triton's ModelConfig. States are listed under sequence_batching, and as optional inputs."""
    batched = _is_batched(spec)
    states = {name for state in spec.states for name in (state.input, state.output)}
    inputs = [_with_dims(each, batched=batched) for each in inputs_of(spec) if each.name not in states]
    for state in spec.states:
        dims = state.shape if batched else batch_shape(state.shape, state.batch_axis, spec.max_batch_size or ANY)
        inputs.append({"name": state.input, "data_type": "TYPE_FP32", "dims": list(dims)})
    for each in inputs[1:]:  # all but the sequences
        each["optional"] = True
    found: dict[str, Any] = {
        "name": spec.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": [int(version) for version in serving.versions]}},
        "max_batch_size": serving.max_instances if batched else 0,
        "input": inputs,
        "output": [_with_dims(each, batched=batched) for each in outputs_of(spec) if each.name not in states],
        "instance_group": [{"name": spec.name, "kind": "KIND_GPU" if serving.gpu else "KIND_CPU", "count": serving.lanes}],
        "default_model_filename": serving.graph,
        "parameters": {},
    }
    if spec.causal and spec.states:
        found["sequence_batching"] = {
            "max_sequence_idle_microseconds": round(serving.idle_seconds * 1e6),
            "state": [
                {
                    "input_name": state.input,
                    "output_name": state.output,
                    "data_type": "TYPE_FP32",
                    "dims": list(state.shape),  # of one sequence
                }
                for state in spec.states
            ],
        }
    return found


def statistics(name: str, version: str, counts: ModelCounts) -> dict[str, Any]:
    """Triton's statistics. `queue` counts instances, `compute_infer` batches; what is not measured has count 0 and 0 ns."""
    computed = counts.executions
    return {
        "name": name,
        "version": version,
        "last_inference": int(counts.last * 1000),
        "inference_count": counts.inferences,
        "execution_count": computed.count,
        "inference_stats": {
            "success": _duration(counts.succeeded),
            "fail": _duration(counts.failed),
            "queue": _duration(counts.waited),
            "compute_input": _duration(NOT_MEASURED),
            "compute_infer": _duration(computed),
            "compute_output": _duration(NOT_MEASURED),
            "cache_hit": _duration(NOT_MEASURED),
            "cache_miss": _duration(NOT_MEASURED),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(NOT_MEASURED),
                "compute_infer": _duration(tally),
                "compute_output": _duration(NOT_MEASURED),
            }
            for size, tally in counts.by_size.items()
        ],
        "memory_usage": [],
    }


def policy_in(request: dict[str, Any]) -> VersionPolicy | None:
    """The version policy in a request to load a model, or None; raises InvalidRequest for anything else that it asks for."""
    parameters = parameters_of(request, "")
    for name in parameters:
        if name.startswith("file:"):
            detail = "a model's files come from the repository: put a new version there, and load it"
            raise InvalidRequest.at(f"/parameters/{escape(name)}", detail)
    text = member_of(parameters, "config", str, "/parameters")
    if text is None:
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise InvalidRequest.at(_CONFIG, "expected an object as JSON text")
    if other := next((key for key in given if key != "version_policy"), None):
        detail = f"{other[:MOST_SHOWN]!r} cannot be set here: a model is as its manifest says; only version_policy is accepted"
        raise InvalidRequest.at(_CONFIG, detail)
    return _policy(given["version_policy"]) if "version_policy" in given else None


def _policy(given: Any) -> VersionPolicy:
    match given:
        case {"all": {}, **rest} if not rest and not given["all"]:
            return VersionPolicy(latest=None)
        case {"latest": {"num_versions": int(count), **more}, **rest} if not more and not rest and count > 0 and count is not True:
            return VersionPolicy(latest=count)
        case {"specific": {"versions": [*versions], **more}, **rest} if versions and not more and not rest:
            if all(type(each) in (int, str) and str(each).isdecimal() for each in versions):
                return VersionPolicy(latest=None, specific=tuple(str(each) for each in versions))
    expected = '{"latest": {"num_versions": 1}}, {"all": {}} or {"specific": {"versions": [1, 2]}}'
    raise InvalidRequest.at(_CONFIG, f"version_policy: expected {expected}")


def _tensor(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _is_batched(spec: ModelSpec) -> bool:
    """Whether sequences and outputs have the batch axis first, of any length: Triton's shapes then leave it out."""
    return inputs_of(spec)[0].shape[0] == ANY and not any((spec.input.batch_axis, *(each.batch_axis for each in spec.outputs)))


def _with_dims(tensor: TensorSpec, *, batched: bool) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "data_type": f"TYPE_{tensor.datatype}",
        "dims": list(tensor.shape[1:] if batched else tensor.shape),
    }


def _duration(tally: Tally) -> dict[str, int]:
    return {"count": tally.count, "ns": round(tally.seconds * 1e9)}
