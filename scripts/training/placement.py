"""Which nodes of a graph ONNX Runtime's CUDA provider would not run, and why.

Such nodes run on the CPU without a warning, with copies both ways. Owns what is known of the provider's kernels. Knows nothing of
tensor types: a kernel is assumed to take those of recurrent graphs. Sources: docs/OperatorKernels.md of ONNX Runtime,
section CUDAExecutionProvider, as of mid-2026, for the operators; `RNNNeedFallbackToCPU` in onnxruntime/core/providers/cuda/
cuda_execution_provider.cc for the attributes of recurrent ones, and CudnnRnnBase in rnn/cudnn_rnn_base.h for `layout`; and
`KernelRegistry::VerifyKernelDef` for versions: a kernel without a last version is for one definition of its operator only, so
an operator that ONNX has redefined has no kernel until another is added.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

# Operators with a kernel, by the opset of the newest definition that has one.
KERNELS = {
    operator: version
    for version, operators in {
        1: "Not",
        6: "Elu InstanceNormalization Selu",
        7: "And Or Xor",
        10: "MatMulInteger ReverseSequence",
        11: "Compress OneHot",
        12: "Einsum MaxPool",
        13: "Abs ArgMax ArgMin Ceil Clip Concat Dropout Erf Exp Expand Floor Gather GatherElements GatherND Gemm Greater Less Log "
        "LogSoftmax MatMul Max Min Mod Neg NonZero Reciprocal ReduceSum Sigmoid Sign Slice Softmax Sqrt Sum Tanh Tile",
        14: "Add CumSum Div Mul Relu Sub Trilu",
        15: "BatchNormalization Pow",
        16: "GreaterOrEqual LeakyRelu LessOrEqual PRelu Where",
        17: "LayerNormalization",
        18: "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean ReduceProd ReduceSumSquare ScatterElements ScatterND Split",
        19: "Equal Resize",
        20: "Gelu IsInf IsNaN ReduceMax ReduceMin",
        22: "AveragePool Conv ConvTranspose Cos GRU GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish LSTM LpNormalization RNN "
        "Round Sin Softplus Softsign",
        23: "RMSNormalization",
        24: "TopK",
        25: "Cast ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear Reshape Scan Shape Size Squeeze "
        "Transpose Unsqueeze",
        27: "Range",
    }.items()
    for operator in operators.split()
}
CONTROL_FLOW = {"If", "Loop", "Scan"}
ACTIVATIONS = {"GRU": ("sigmoid", "tanh"), "LSTM": ("sigmoid", "tanh", "tanh"), "RNN": ("tanh",)}  # of one direction
PEEPHOLES = 7  # their index among an LSTM's inputs
MOST_JOINED = 32  # tensors: with more, its Concat was seen to fail while a CUDA graph is recorded

_ONNX = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Misfit:
    """A node that does not run on CUDA; with `runs`, one that runs there but cannot be recorded into a CUDA graph."""

    node: str
    why: str
    runs: bool = False

    def __str__(self) -> str:
        return f"{self.node} {self.why}"


def misfits(proto: onnx.ModelProto) -> list[Misfit]:
    """Every node that does not run on CUDA or cannot be recorded there, also in subgraphs and functions."""
    functions = {(function.domain, function.name) for function in proto.functions}
    found = _of(proto.graph.node, proto.opset_import, functions)
    for function in proto.functions:
        found += _of(function.node, function.opset_import, functions)
    return found


def _of(
    nodes: Iterable[onnx.NodeProto], imports: Iterable[onnx.OperatorSetIdProto], functions: set[tuple[str, str]]
) -> list[Misfit]:
    opset = next((each.version for each in imports if each.domain in _ONNX), 1)
    found = []
    for node in with_subgraphs(nodes):
        if (node.domain, node.op_type) in functions:
            continue
        name = f"{node.op_type} {node.name or next(iter(node.output), '')}".rstrip()
        if why := _without_kernel(node, opset) or _refused(node):
            found.append(Misfit(name, why))
        elif node.op_type in CONTROL_FLOW:
            found.append(Misfit(name, "is control flow: CUDA runs it, and cannot record it", runs=True))
        elif node.op_type == "Concat" and len(node.input) > MOST_JOINED:
            why = f"joins {len(node.input)} tensors: CUDA runs it, and records {MOST_JOINED} at most"
            found.append(Misfit(name, why, runs=True))
    return found


def with_subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes, each with those of its subgraphs behind it."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):  # an attribute of another kind has an empty graph
                yield from with_subgraphs(graph.node)


def _without_kernel(node: onnx.NodeProto, opset: int) -> str | None:
    if node.domain not in _ONNX:
        return f"is an operator of {node.domain}, and not known to have a CUDA kernel"
    if node.op_type == "Constant":  # a weight by the time the graph runs
        return None
    newest = KERNELS.get(node.op_type)
    if newest is None:
        return "is not known to have a CUDA kernel"
    defined = int(onnx.defs.get_schema(node.op_type, opset, "").since_version)
    return None if defined <= newest else f"is opset {defined}'s; the newest CUDA kernel known is opset {newest}'s"


def _refused(node: onnx.NodeProto) -> str | None:
    """Why CUDA's kernel does not take this recurrent node; None if it does, or if the node is not recurrent."""
    if node.op_type not in ACTIVATIONS:
        return None
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    wanted = ACTIVATIONS[node.op_type]
    activations = tuple(each.decode().lower() for each in given.get("activations", []))
    if node.op_type == "GRU" and given.get("linear_before_reset", 0) != 1:
        return "resets before the product (linear_before_reset=0); its CUDA kernel resets after it"
    if activations != (wanted * 2)[: len(activations)]:
        return f"has other activations ({', '.join(activations)}); its CUDA kernel has {', '.join(wanted)}"
    if parameters := {"activation_alpha", "activation_beta"} & set(given):
        return f"has parameters for its activations ({', '.join(sorted(parameters))}); its CUDA kernel takes none"
    if "clip" in given:
        return "clips; its CUDA kernel does not"
    if given.get("layout", 0) != 0:
        return "has the batch first (layout=1); its CUDA kernel has time first"
    if given.get("input_forget", 0) != 0:
        return "couples the input and forget gates (input_forget=1); its CUDA kernel does not"
    if node.op_type == "LSTM" and len(node.input) > PEEPHOLES and node.input[PEEPHOLES]:
        return "has peepholes; its CUDA kernel does not"
    return None
