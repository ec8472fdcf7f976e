"""The least time in which a machine could run a network: its arithmetic, or the memory that must be moved.

Owns the counting. Knows nothing of how a time or a machine's limits were measured. Counted are the matrix products, which
are nearly all of the arithmetic, and of the memory what no way to compute it can do without: the weights once, what goes in
and what comes out. float32.
"""

from dataclasses import dataclass

FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Network:
    """`raw` numbers a step, scaled to `inputs` for the GRU, behind which two rows of a head make each of the `outputs`; as
    model.Denoiser has it.
    """

    raw: int
    inputs: int
    hidden: int
    layers: int
    outputs: int

    @property
    def products(self) -> int:
        """The weights that are multiplied in each step: three gates of each layer, the head, the calibration."""
        first = 3 * self.hidden * (self.inputs + self.hidden)
        others = (self.layers - 1) * 3 * self.hidden * 2 * self.hidden
        return first + others + 2 * self.outputs * self.hidden + self.outputs * self.raw

    @property
    def weights(self) -> int:
        """With the biases."""
        return self.products + 3 * self.hidden * self.layers + 2 * self.outputs

    def flops(self, size: int, steps: int) -> int:
        """Of a batch of `size` sequences of `steps` steps."""
        return 2 * self.products * size * steps

    def bytes(self, size: int, steps: int) -> int:
        """That must be moved: weights, inputs, outputs, lengths, and the states before and after."""
        states = 2 * size * self.layers * self.hidden
        return FLOAT * (self.weights + size * steps * (self.raw + self.outputs) + states + size)


@dataclass(frozen=True, slots=True)
class Roof:
    """What a machine can do, as measured: multiplications and additions, and bytes moved, each a second."""

    flops: float
    bandwidth: float

    def seconds(self, network: Network, size: int, steps: int) -> float:
        """The least that such a batch could take: the higher of the two floors."""
        return max(network.flops(size, steps) / self.flops, network.bytes(size, steps) / self.bandwidth)
