"""Bytes and legality of every weight under every scheme, found once for all weights that are alike.

A model has thousands of weights and few kinds of them: what `legality.py` and `storage.py` say depends on a weight's
shape, dtype, readers and the length of its name, which most weights have in common with others, and for some schemes on
a few numbers about its values (`legality.value_facts`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from talaria_nb import storage, stored_tensors
from talaria_nb.legality import refused_by_shape, refused_by_values
from talaria_nb.subjects import Subject, depends_on_values, subject, uses, value_facts

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from talaria_nb.contents import Contents
    from talaria_nb.program import Program, Weights
    from talaria_nb.schemes import Scheme

_SHARED_SLOTS = 4
"""Tensors of one weight that others could share: at most indices, a table of integers, its scales and zero points."""


@dataclass(frozen=True, slots=True)
class WeightBytes:
    """What every weight takes under every scheme; the attributes are those of `CostTable`, and `tables`.

    Attributes
    ----------
    tables
        Look-up tables of each weight. float64, shape (weights, schemes).
    """

    reason: NDArray[np.int16]
    refusals: tuple[str, ...]
    payload_bytes: NDArray[np.float64]
    file_bytes: NDArray[np.float64]
    shared: NDArray[np.int32]
    shared_file_bytes: NDArray[np.float64]
    last_weight: int
    tail_bytes: NDArray[np.float64]
    tail_shared: NDArray[np.int32]
    proto_bytes: NDArray[np.float64]
    tensors: NDArray[np.uint8]
    tables: NDArray[np.float64]


def weight_bytes(program: Program, menu: tuple[Scheme, ...]) -> WeightBytes:
    """Say what is legal, and count the bytes of what is.

    Parameters
    ----------
    program
        Whose weights.
    menu
        The schemes, one a column.
    """
    alike = _alike(program)
    reason, refusals, entries = _legality(alike, menu)
    entry_of = np.full(reason.shape, len(entries), dtype=np.int64)
    for number, entry in enumerate(entries):
        entry_of[entry.rows, entry.column] = number
    stored = [*(entry.stored for entry in entries), _NOTHING]  # what is illegal has the last

    def spread(amounts: Iterable[float]) -> NDArray[np.float64]:
        return np.array([*amounts], dtype=np.float64)[entry_of]

    slots = max(len(each.tensors) for each in stored)
    recorded = np.zeros((len(stored), slots))
    for number, each in enumerate(stored):
        recorded[number, : len(each.tensors)] = [stored_tensors.recorded(nbytes) for nbytes, _ in each.tensors]
    merged = _merged(alike, entries)
    merged_as = np.full((*reason.shape, slots), -1, dtype=np.int32)
    for number, cells in enumerate(merged):
        merged_as[tuple(np.transpose(cells))] = number
    last = next(iter(np.flatnonzero(program.weights.last_in_file).tolist()), -1)
    tail_bytes, tail_shared = np.zeros((len(menu), 2)), np.full(len(menu), -1, dtype=np.int32)
    if last >= 0:
        for column, number in enumerate(entry_of[last].tolist()):
            tail_bytes[column], tail_shared[column] = _tail(stored[number].tensors, merged_as[last, column])
    return WeightBytes(
        reason=reason,
        refusals=refusals,
        payload_bytes=spread(each.payload_bytes for each in stored),
        file_bytes=spread(each.read_bytes for each in stored)
        + np.where(merged_as < 0, recorded[entry_of], 0.0).sum(axis=2),
        shared=_numbers_first(merged_as),
        shared_file_bytes=np.array([recorded[entry_of[cells[0][:2]], cells[0][2]] for cells in merged]),
        last_weight=last,
        tail_bytes=tail_bytes,
        tail_shared=tail_shared,
        proto_bytes=spread(each.proto_bytes for each in stored),
        tensors=spread(len(each.tensors) for each in stored).astype(np.uint8),
        tables=spread(each.tables for each in stored),
    )


_NOTHING = stored_tensors.Stored((), 0, 0, 0, 0)


def stored_weight(program: Program, scheme: Scheme, row: int) -> stored_tensors.Stored:
    """Count the bytes of the weight in one row of `program.weights` under a scheme; counted once and kept."""
    return _alike(program).stored(scheme, row)


def weight_file_bytes(program: Program, schemes: Iterable[Scheme]) -> int:
    """Predict `weight.bin` under one scheme a weight, in file order; no device needed. Exact for legal schemes."""
    alike = _alike(program)
    return storage.file_bytes(
        [(alike.stored(scheme, row), alike.contents(row)) for row, scheme in enumerate(schemes)],
        fixed=program.fixed_file_bytes,
        ends_with_weight=bool(program.weights.last_in_file.any()),
    )


class _Kind(NamedTuple):
    """What weights that are alike have in common: all that decides their bytes but `value_facts`."""

    subject: Subject
    dtype: str
    parameters: tuple[str, ...]
    name_bytes: int

    @property
    def but_name(self) -> tuple[Subject, str, tuple[str, ...]]:
        """What it has in common with kinds of longer and shorter names."""
        return self.subject, self.dtype, self.parameters


@dataclass(frozen=True, eq=False)
class _Alike:
    """A program's weights by kind, and what was counted of each kind."""

    weights: Weights
    kinds: tuple[_Kind, ...]
    kind_of: NDArray[np.int64]
    counted: dict[tuple[int, Scheme, tuple[Hashable, ...]], stored_tensors.Stored] = field(default_factory=dict)

    def contents(self, row: int) -> Contents | None:
        """Return the values of a weight; None where they are unknown."""
        known = self.weights.contents and row not in self.weights.packed
        return self.weights.contents[row] if known else None

    def facts(self, scheme: Scheme, row: int) -> tuple[Hashable, ...]:
        """Return what the scheme's legality and bytes depend on among the values of a weight."""
        if self.contents(row) is None or not depends_on_values(scheme):
            return ()
        return value_facts(scheme, self.subject(row))

    def subject(self, row: int) -> Subject:
        """Return a weight with its values."""
        alike, contents = self.kinds[int(self.kind_of[row])].subject, self.contents(row)
        return alike if contents is None else replace(alike, contents=contents)

    def stored(self, scheme: Scheme, row: int) -> stored_tensors.Stored:
        """Count the bytes of one weight."""
        return self.stored_as(scheme, row, self.facts(scheme, row))

    def stored_as(self, scheme: Scheme, row: int, facts: tuple[Hashable, ...]) -> stored_tensors.Stored:
        """Count the bytes of a weight whose facts are known."""
        packed = self.weights.packed.get(row)
        if packed is not None:  # no other scheme is legal, and these bytes were read, not predicted
            return stored_tensors.Stored(
                (), packed.data_bytes, packed.overhead_bytes, 0, packed.tables, packed.file_bytes
            )
        kind = int(self.kind_of[row])
        if (kind, scheme, facts) not in self.counted:
            _, dtype, parameters = look = self.kinds[kind].but_name
            kinds = self.named_otherwise[look]
            lengths = [self.kinds[other].name_bytes for other in kinds]
            found = storage.stored_with_names(scheme, self.subject(row), dtype, lengths, parameters)
            self.counted.update(zip(((other, scheme, facts) for other in kinds), found, strict=True))
        return self.counted[kind, scheme, facts]

    @cached_property
    def named_otherwise(self) -> dict[tuple[Subject, str, tuple[str, ...]], list[int]]:
        """The kinds that differ in nothing but the length of the name."""
        found: dict[tuple[Subject, str, tuple[str, ...]], list[int]] = {}
        for number, kind in enumerate(self.kinds):
            found.setdefault(kind.but_name, []).append(number)
        return found


_ALIKE: WeakKeyDictionary[Program, _Alike] = WeakKeyDictionary()


def _alike(program: Program) -> _Alike:
    """Sort a program's weights by kind, once."""
    if program not in _ALIKE:
        weights = program.weights
        looks = zip(
            program.values.kind[weights.value].tolist(),
            weights.channel_axes,
            uses(program),
            (len(name.encode()) for name in weights.name),
            (row if row in weights.packed else None for row in range(len(weights))),  # one like no other
            strict=True,
        )
        number: dict[tuple[object, ...], int] = {}
        kind_of = [number.setdefault(look, len(number)) for look in looks]
        first = dict(zip(reversed(kind_of), reversed(range(len(weights))), strict=True))
        kinds = tuple(
            _Kind(
                replace(subject(program, first[kind]), contents=None),
                weights.dtype[first[kind]],
                tuple(use.parameter for use in uses(program)[first[kind]]),
                len(weights.name[first[kind]].encode()),
            )
            for kind in range(len(number))
        )
        _ALIKE[program] = _Alike(weights, kinds, np.array(kind_of, dtype=np.int64))
    return _ALIKE[program]


class _Entry(NamedTuple):
    """Weights of one kind under one scheme that are stored in as many bytes."""

    rows: NDArray[np.int64]
    column: int
    stored: stored_tensors.Stored


def _legality(alike: _Alike, menu: tuple[Scheme, ...]) -> tuple[NDArray[np.int16], tuple[str, ...], list[_Entry]]:
    """Ask the rules once for all weights that they see alike; what is legal is counted."""
    sentences: dict[str, int] = {}
    reason = np.full((len(alike.kind_of), len(menu)), -1, dtype=np.int16)
    entries = []
    for found, kinds in _by_subject(alike).items():
        every = np.sort(np.concatenate(kinds))
        for column, scheme in enumerate(menu):
            said = refused_by_shape(scheme, found)
            if said is not None:
                reason[every, column] = sentences.setdefault(said, len(sentences))
                continue
            grouped = _by_facts(alike, scheme, every)
            for facts, rows in grouped.items():
                said = refused_by_values(scheme, alike.subject(int(rows[0])))
                if said is not None:
                    reason[rows, column] = sentences.setdefault(said, len(sentences))
                    continue
                for own in kinds:
                    here = own if len(grouped) == 1 else np.intersect1d(own, rows)
                    if len(here):
                        entries.append(_Entry(here, column, alike.stored_as(scheme, int(here[0]), facts)))
    return reason, tuple(sentences), entries


def _by_subject(alike: _Alike) -> dict[Subject, list[NDArray[np.int64]]]:
    """Return the rows of each kind, by what the rules about shapes see."""
    order = np.argsort(alike.kind_of, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(alike.kind_of, minlength=len(alike.kinds))))[:-1]
    found: dict[Subject, list[NDArray[np.int64]]] = {}
    for kind, rows in zip(alike.kinds, rows_of, strict=True):
        found.setdefault(kind.subject, []).append(rows)
    return found


def _by_facts(alike: _Alike, scheme: Scheme, rows: NDArray[np.int64]) -> dict[tuple[Hashable, ...], NDArray[np.int64]]:
    """Group weights by what the scheme depends on among their values."""
    if not (alike.weights.contents and depends_on_values(scheme)):
        return {(): rows}
    grouped: dict[tuple[Hashable, ...], list[int]] = {}
    for row in rows.tolist():
        grouped.setdefault(alike.facts(scheme, row), []).append(row)
    return {facts: np.array(found) for facts, found in grouped.items()}


def _merged(alike: _Alike, entries: Sequence[_Entry]) -> list[list[tuple[int, int, int]]]:
    """List the tensors that two weights or more may need, each as its (row, column, place in the file) everywhere.

    Values are compared only where tensors of several weights could be equal by their dtypes and shapes.
    """
    places: dict[Hashable, list[tuple[_Entry, int, stored_tensors.Shareable]]] = {}
    for entry in entries:
        for slot, (_, shareable) in enumerate(entry.stored.tensors):
            if shareable is not None and (not shareable.questions or alike.weights.contents):
                places.setdefault(shareable.likeness, []).append((entry, slot, shareable))
    merged = []
    for alternatives in places.values():
        if len(np.unique(np.concatenate([entry.rows for entry, *_ in alternatives]))) == 1:
            continue
        cells: dict[Hashable, list[tuple[int, int, int]]] = {}
        for entry, slot, shareable in alternatives:
            for row in entry.rows.tolist():
                cells.setdefault(shareable.answered(alike.contents(row)), []).append((row, entry.column, slot))
        merged += [sorted(found) for found in cells.values() if len({row for row, *_ in found}) > 1]
    return sorted(merged)


def _numbers_first(merged_as: NDArray[np.int32]) -> NDArray[np.int32]:
    """Move the numbers of shared tensors before the -1 of others, and keep as many places as can be shared."""
    shared = np.full((*merged_as.shape[:2], _SHARED_SLOTS), -1, dtype=np.int32)
    if (merged_as >= 0).any():
        order = np.argsort(merged_as < 0, axis=2, kind="stable")[:, :, :_SHARED_SLOTS]
        shared[:, :, : order.shape[2]] = np.take_along_axis(merged_as, order, axis=2)
    return shared


def _tail(
    tensors: Sequence[tuple[int, stored_tensors.Shareable | None]], merged_as: NDArray[np.int32]
) -> tuple[tuple[float, float], int]:
    """Count the padding that the file is spared after the last weight, and say what its last tensor is merged as."""
    if not tensors:
        return (0, 0), -1
    nbytes = [nbytes for nbytes, _ in tensors]
    own = [each for slot, each in enumerate(nbytes) if merged_as[slot] < 0]
    ends = (nbytes[-1], own[-1] if own else nbytes[-1])
    return (stored_tensors.padded(ends[0]) - ends[0], stored_tensors.padded(ends[1]) - ends[1]), int(
        merged_as[len(tensors) - 1]
    )
