"""Work of an op: FLOPs and bytes, counted from shapes, and exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from talaria_nb.activation_legality import activation_ops
from talaria_nb.op_types import CHOOSING, Kind
from talaria_nb.products import count_products
from talaria_nb.program import NO_OP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from talaria_nb.program import Pairs, Program


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What each op of a program has to do, counted from shapes. One row an op.

    Attributes
    ----------
    flops
        Floating point operations, 2 per multiply-accumulate; 1 an element for element-wise ops. int64.
    activation_bytes
        Bytes of the activations read and written, each tensor once. int64.
    constant_bytes
        Bytes of the dense constants read (weights, biases). int64.
    traffic_bytes
        The part of `activation_bytes` that moves when element-wise ops ride with their producers. int64.
    stream_bytes
        Dense bytes of the compressible weights that the op brings in; of a look-up table only the rows read. int64.
    state_bytes
        Bytes of states that the op reads: key-value caches, which lie in memory as weights do. No part of
        `traffic_bytes`. int64.
    kind
        Member of `Kind`. int8.
    reduction
        Elements summed for one output: input channels of a group × kernel taps, or the inner dimension. int64.
    channels_in, channels_out
        Channels of one group; rows and columns of the right-hand matrix of a product. 1 for other ops. int64.
    positions
        Places where the same weights are used: batch × output pixels, or rows of the left-hand matrix. int64.
    width
        Columns of a convolution's output; 1 for other ops. int64.
    unknown
        True where the op type is priced as data movement because nothing better is known. bool.
    int8
        True where the op reads a weight and coremltools can quantize its activations: what int8 activations can make
        faster once the weight is int8, too. bool.
    """

    flops: NDArray[np.int64]
    activation_bytes: NDArray[np.int64]
    constant_bytes: NDArray[np.int64]
    traffic_bytes: NDArray[np.int64]
    stream_bytes: NDArray[np.int64]
    state_bytes: NDArray[np.int64]
    kind: NDArray[np.int8]
    reduction: NDArray[np.int64]
    channels_in: NDArray[np.int64]
    channels_out: NDArray[np.int64]
    positions: NDArray[np.int64]
    width: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    int8: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.flops)


def count_work(program: Program) -> Work:
    """Count the work of every op.

    Parameters
    ----------
    program
        Of any size; the cost is one pass over the ops, the first time.

    Returns
    -------
    Work
        One row an op. Op types that nothing is known about are counted as data movement and flagged `unknown`.
    """
    if program not in _COUNTED:
        _COUNTED[program] = _count_work(program)
    return _COUNTED[program]


_COUNTED: WeakKeyDictionary[Program, Work] = WeakKeyDictionary()


def _count_work(program: Program) -> Work:
    ops, values = program.ops, program.values
    nbytes = values.nbytes
    producer = values.producer.astype(np.int64)
    activation = producer != NO_OP
    activation[list(program.inputs)] = True
    moved = ops.reads.where(activation[ops.reads.value])
    constant = ops.reads.where(~activation[ops.reads.value])
    brought = ops.reads.where(values.weight[ops.reads.value] >= 0)
    written = ops.sums(ops.writes, nbytes[ops.writes.value])
    moved_bytes = ops.sums(moved, nbytes[moved.value])
    constant_bytes = ops.sums(constant, nbytes[constant.value])
    streamed = nbytes[brought.value]
    looked_up = np.zeros(len(ops), dtype=np.bool_)
    looked_up[ops.rows_of([op_type for op_type in ops.rows_of_type if op_type.startswith("gather")])] = True
    streamed = np.where(looked_up[brought.op], np.minimum(streamed, written[brought.op]), streamed)
    constant_bytes[ops.rows_of(["gather"])] = 0

    products = count_products(program, activation)
    kind = products[:, 0]
    states = _state_bytes(program, moved)
    in_part = kind >= Kind.FUSED
    in_part[ops.rows_of([*CHOOSING, "slice_update"])] = True
    states[in_part] = 0
    traffic = moved_bytes + written - states
    for row in ops.rows_of(CHOOSING):
        indices = sum(int(nbytes[value]) for name, value in ops.inputs[row] if name in _INDICES)
        traffic[row] = 2 * written[row] + indices
    for row in ops.rows_of(["slice_update"]):
        updates = [int(nbytes[value]) for name, value in ops.inputs[row] if name == "update"]
        if updates:
            traffic[row] = 2 * sum(updates)  # in place
    _ride(program, moved, written, kind, traffic)
    traffic[kind == Kind.FREE] = 0
    int8 = np.zeros(len(ops), dtype=np.bool_)
    int8[activation_ops(program)] = True
    int8[np.diff(program.op_weights[0]) == 0] = False
    return Work(
        flops=products[:, 1],
        activation_bytes=moved_bytes + written,
        constant_bytes=constant_bytes,
        traffic_bytes=traffic,
        stream_bytes=ops.sums(brought, streamed),
        state_bytes=states,
        kind=kind.astype(np.int8),
        reduction=products[:, 2],
        channels_in=products[:, 3],
        channels_out=products[:, 4],
        positions=products[:, 5],
        width=products[:, 6],
        unknown=products[:, 7].astype(np.bool_),
        int8=int8,
    )


def _ride(
    program: Program,
    moved: Pairs,
    written: NDArray[np.int64],
    kind: NDArray[np.int64],
    traffic: NDArray[np.int64],
) -> None:
    """Let element-wise ops run with the producer that ends last, for only then all their operands exist.

    Where that is the smaller, broadcast operand (a squeeze-excite gate, a mean), the larger one has to be read again.
    """
    nbytes, producer = program.values.nbytes, program.values.producer
    fused = kind == Kind.FUSED
    computed = moved.where(fused[moved.op] & (producer[moved.value] != NO_OP))
    ridden = np.zeros(len(kind), dtype=np.int64)
    order = np.lexsort((nbytes[computed.value], producer[computed.value]))
    ridden[computed.op[order]] = nbytes[computed.value[order]]  # the last assignment holds
    rides = np.zeros(len(kind), dtype=np.bool_)
    rides[computed.op] = True
    broadcast = rides & (2 * ridden < written)
    reads = np.zeros(len(kind), dtype=np.bool_)
    reads[moved.op] = True
    traffic[rides] -= ridden[rides] + np.where(broadcast, 0, written)[rides]
    kind[broadcast | (fused & ~rides & reads)] = Kind.PASS
    kind[fused & ~reads] = Kind.FREE


def _state_bytes(program: Program, moved: Pairs) -> NDArray[np.int64]:
    """Count the bytes of the states among what each op reads: as read, as filled in part, and as written."""
    ops, held = program.ops, np.zeros(len(program.values.name), dtype=np.bool_)
    for row in ops.rows_of([*_STATE_OPS, "slice_update"]):
        if ops.op_type[row] in _STATE_OPS or held[ops.inputs[row][0][1]]:
            held[list(ops.outputs[row])] = True
    return ops.sums(moved, np.where(held[moved.value], program.values.nbytes[moved.value], 0))


_INDICES = frozenset(["indices"])
_STATE_OPS = frozenset(["read_state", "coreml_update_state"])
