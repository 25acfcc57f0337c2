"""Memory that the activations of a program need, by liveness.

Exact for the order in which the program lists its ops and one buffer a tensor: a buffer lives from the op that writes
it until the last op that reads it. Core ML may reorder ops, fuse them or compute in place, and none of that is
documented, so a device can need less than this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from talaria_nb.op_types import FREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.program import Program

STATE_PARAMETERS = {"read_state": "input", "coreml_update_state": "state", "write_state": "input"}
"""Op types that touch a state, and as which parameter they take it (coremltools' iOS18 ops)."""


@dataclass(frozen=True, slots=True, eq=False)
class Liveness:
    """What is alive while each op runs.

    Attributes
    ----------
    live_bytes
        Bytes of the buffers alive while each op runs: its inputs and outputs, and what later ops still read. int64,
        shape (ops,).
    """

    live_bytes: NDArray[np.int64]

    @property
    def peak_bytes(self) -> int:
        """Bytes alive at the fullest moment; 0 for a program without ops."""
        return int(self.live_bytes.max(initial=0))


def liveness(program: Program) -> Liveness:
    """Follow every activation of a program from its writing to its last reading.

    Parameters
    ----------
    program
        Its inputs live until their last reader and its outputs until the end. Constants are not counted here: weights
        stay in memory all the time. States do too, and are counted. Ops that change only how a tensor is addressed
        (`work.FREE`) write no new buffer.

    Returns
    -------
    Liveness
        Linear in the number of ops.
    """
    ops, values = program.ops, program.values
    count = len(ops)
    buffer = _buffers(program)
    born = np.full(len(values.name), count, dtype=np.int64)
    dies = np.full(len(values.name), -1, dtype=np.int64)
    born[list(program.inputs)] = 0
    np.minimum.at(born, buffer[ops.writes.value], ops.writes.op)
    for pairs in (ops.writes, ops.reads):
        np.maximum.at(dies, buffer[pairs.value], pairs.op)
    dies[buffer[[*program.outputs, *_states(program)]]] = count - 1
    alive = (born <= dies) & (born < count)
    change = np.zeros(count + 1, dtype=np.int64)
    np.add.at(change, born[alive], values.nbytes[alive])
    np.subtract.at(change, dies[alive] + 1, values.nbytes[alive])
    return Liveness(np.cumsum(change[:-1]))


def _states(program: Program) -> set[int]:
    ops = program.ops
    return {
        value
        for row in ops.rows_of(STATE_PARAMETERS)
        for parameter, value in ops.inputs[row]
        if parameter == STATE_PARAMETERS[ops.op_type[row]]
    }


def _buffers(program: Program) -> NDArray[np.int64]:
    """Return for every value the one whose buffer it uses: its own, or that of what a layout-only op was given."""
    ops, nbytes = program.ops, program.values.nbytes.tolist()
    buffer = list(range(len(nbytes)))
    for row in ops.rows_of(FREE):
        for _, source in ops.inputs[row][:1]:
            for value in ops.outputs[row]:
                if nbytes[value] == nbytes[source]:
                    buffer[value] = buffer[source]
    return np.array(buffer, dtype=np.int64)
