"""The least time in which a machine could run a network, limited by its arithmetic or by the memory that must be moved.

Owns the counting. Knows nothing of how a time or a machine's limits were measured. Counts the matrix products, which are
nearly all of the arithmetic, and the memory traffic that no implementation can avoid: the weights once, the inputs and the
outputs, in float32.
"""

from dataclasses import dataclass

FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class Network:
    """The sizes of a scripts.gyro Denoiser: `raw` numbers per step are scaled to `inputs` numbers for the GRU, and two rows of
    the head make each of the `outputs`.
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
        """How many weights there are, with the biases."""
        return self.products + 3 * self.hidden * self.layers + 2 * self.outputs

    def flops(self, size: int, steps: int) -> int:
        """Multiplications and additions for a batch of `size` sequences of `steps` steps."""
        return 2 * self.products * size * steps

    def bytes(self, size: int, steps: int) -> int:
        """Bytes that must be moved for such a batch: weights, inputs, outputs, lengths, and the states before and after."""
        states = 2 * size * self.layers * self.hidden
        return FLOAT * (self.weights + size * steps * (self.raw + self.outputs) + states + size)


@dataclass(frozen=True, slots=True)
class Roof:
    """What a machine was measured to do per second: multiplications and additions, and bytes moved."""

    flops: float
    bandwidth: float

    def seconds(self, network: Network, size: int, steps: int) -> float:
        """The least time that such a batch could take: the larger of the two limits."""
        return max(network.flops(size, steps) / self.flops, network.bytes(size, steps) / self.bandwidth)
