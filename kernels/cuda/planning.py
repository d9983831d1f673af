"""The program of a network: its table with what a GPU needs more, and the phases of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastbp.kernels import planning
from fastbp.kernels.cuda._target import WIDTH
from fastbp.kernels.cuda.gemm import Tile
from fastbp.kernels.cuda.layout import (
    BACKWARD,
    BACKWARD_AT,
    BACKWARD_PARTS,
    CHUNK_SIZE,
    COLUMNS,
    COLUMNS_BACK,
    ELEMENTS,
    FINISHES,
    FINISHES_INPUT,
    FINISHES_SOURCE,
    FORWARD,
    FORWARD_AT,
    FORWARD_PARTS,
    GATHER,
    GRADIENT_AT,
    GRADIENT_PARTS,
    ITEM_SIZE,
    LOSS_ITEM,
    PHASE_SIZE,
    ROW_BACKWARD,
    ROW_COMBINE,
    ROW_COMBINE_BACK,
    ROW_FINISH,
    ROW_FORWARD,
    ROW_LOSS,
    ROW_OUTPUT,
    ROWS,
    SQUARES,
    THRESHOLD,
    TILE_ITEM,
    UPDATE,
    VECTOR_ITEM,
    VECTORS_AT,
    WIDE_TABLE_SIZE,
    Program,
    Sizes,
    Spec,
)  # fmt: skip
from fastbp.kernels.cuda.schedule import CHUNK, PREDICTED_ROWS, by_rows, launched, parts_of, short_tables, tile_for
from fastbp.kernels.layout import (
    ACTIVATION,
    ADDS,
    BATCH,
    BATCH_NORM,
    BIAS,
    DENSE,
    DROPOUT,
    FAN_IN,
    FAN_OUT,
    GATHERED,
    GRADIENT,
    INPUT,
    INPUT_ASKS,
    KIND,
    LAYER_NORM,
    LOSS,
    LOSS_CONVENTION,
    N_BLOCKS,
    N_PARAMETERS,
    OUT_LD,
    SOFT_TARGETS,
    SOURCE_ASKS,
    TABLE_SIZE,
    WEIGHTS,
    Array,
    padded,
)  # fmt: skip
from fastbp.kernels.operations import Operation, chain, inputs_of


def program(
    widths: tuple[int, ...],
    activations: tuple[str, ...],
    *,
    mode: str,
    dtype: Any,
    batch: int,
    processors: int,
    precision: str = "float32",
    operations: Sequence[Operation] = (),
    clipping: bool = False,
    reports: bool = False,
    given: bool = False,
    **codes: int,
) -> tuple[Program, Spec, Sizes]:
    """Lay out a network on a card with so many multiprocessors.

    Parameters
    ----------
    mode : {"train", "predict", "evaluate"}
    given : bool
        For an update with given gradients, laid out as the parameters at the start of ``partials``.
    reports : bool
        Whether scikit-learn's penalty is to be reported with the loss.
    widths, activations, dtype, batch, operations, clipping, codes
        As in :func:`fastbp.kernels.planning.plan`.
    """
    header_codes: dict[str, Any] = dict(codes)
    plan, work = planning.plan(
        widths, activations, dtype=dtype, lanes=padded(max(widths)), batch=batch, update=False,
        operations=operations, **header_codes,
    )  # fmt: skip
    operations = tuple(operations) or chain(len(widths) - 1)
    shapes = [(int(row[FAN_IN]), int(row[FAN_OUT])) for row in plan.table if row[KIND] == DENSE]
    tile = tile_for(
        shapes, batch if mode == "train" else PREDICTED_ROWS, processors, np.dtype(dtype).itemsize, precision
    )
    table = np.zeros((len(plan.table), WIDE_TABLE_SIZE), np.int64)
    table[:, :TABLE_SIZE] = plan.table
    header = plan.header
    partials = _cut(table, operations, batch, tile, processors, mode, clipping)
    constants = np.zeros(2 * len(table), dtype)
    for l, one in enumerate(operations):
        if one.kind == DROPOUT:
            table[l, THRESHOLD], constants[2 * l] = int(one.constant * 2.0**32), 1 / (1 - one.constant)
        else:
            constants[2 * l : 2 * l + 2] = one.constant, one.momentum
    out, items, chunks = _Phases(), [], []
    if given:
        chunks = _chunks(table, True, given=True)
    else:
        _forward(table, header, mode, out)
        if mode == "train":
            _backward(table, out)
            items, chunks = _items(table, tile), _chunks(table, clipping)
            out.phase(UPDATE, 0, len(items))
        out.close()
    if clipping and chunks:
        out.phase(SQUARES, 0, len(chunks))
    if chunks:
        out.phase(ELEMENTS, 0, len(chunks))
    spec = Spec(
        mode, np.dtype(dtype).name, precision, tile, frozenset(int(k) for k in table[:, KIND]),
        frozenset(int(code) for code in table[:, ACTIVATION]), int(table[-1, ACTIVATION]),
        int(header[LOSS]), int(header[LOSS_CONVENTION]), bool(header[SOFT_TARGETS]), bool(header[N_BLOCKS]),
        codes.get("optimizer", GRADIENT), codes.get("convention", 0), bool(codes.get("nesterov", 0)),
        bool(codes.get("adjusts", 0)), bool(codes.get("averages", 0)), codes.get("n_moments", 1), clipping, reports,
        frozenset(phase for phase, *_ in out.phases), frozenset(task for task, _ in out.tasks), launched(tile),
        None if launched(tile) else short_tables(len(table), len(out.phases), len(out.tasks)),
    )  # fmt: skip
    size = int(header[N_PARAMETERS])
    sizes = Sizes(
        size, spec.n_moments * size if mode == "train" else 0, work, int(header[BATCH]),
        max(partials, size if given else 0), len(chunks), 2 * (len(items) + len(chunks)),
    )  # fmt: skip

    def array(rows: list[Any], width: int) -> Array:
        return np.array(rows, np.int64).reshape(-1, width)

    return (
        Program(
            header, table, array(out.phases, PHASE_SIZE), array(out.tasks, 2), array(items, ITEM_SIZE),
            array(chunks, CHUNK_SIZE), constants,
        ),
        spec,
        sizes,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Sums in parts


def _cut(
    table: Array, operations: Sequence[Operation], batch: int, tile: Tile, processors: int, mode: str, stored: bool
) -> int:
    """Into how many parts each product's sum is cut, and where they lie; the elements of ``partials``.

    ``stored``: every gradient has a place of its own.
    """
    last_to_hand_on(table, operations)
    position = 0

    def take(row: Array, column: int, size: int) -> None:
        nonlocal position
        row[column], position = position, position + size

    for row in table:
        fan_in, fan_out, width = int(row[FAN_IN]), int(row[FAN_OUT]), padded(int(row[FAN_OUT]))
        if row[KIND] == DENSE:
            narrow = by_rows(fan_in, fan_out)
            rows = batch if mode == "train" else PREDICTED_ROWS
            row[FORWARD_PARTS] = 0 if narrow else parts_of(rows, fan_out, fan_in, tile, processors)
            if row[FORWARD_PARTS] > 1:
                take(row, FORWARD_AT, int(row[FORWARD_PARTS]) * batch * int(row[OUT_LD]))
            if mode != "train":
                continue
            if row[ADDS] & INPUT_ASKS:
                row[BACKWARD_PARTS] = 0 if narrow else parts_of(batch, fan_in, fan_out, tile, processors)
                if row[BACKWARD_PARTS] > 1:
                    below = int(table[row[INPUT], OUT_LD])
                    take(row, BACKWARD_AT, int(row[BACKWARD_PARTS]) * batch * below)
            # half as many: adding these up is a phase of its own
            row[GRADIENT_PARTS] = parts_of(fan_in, fan_out, batch // 2, tile, processors)
            if row[GRADIENT_PARTS] > 1 or stored:
                take(row, GRADIENT_AT, int(row[GRADIENT_PARTS]) * fan_in * width)
        if mode == "train" and stored and row[KIND] in (DENSE, LAYER_NORM, BATCH_NORM):
            take(row, VECTORS_AT, 2 * width)
    return position


def last_to_hand_on(table: Array, operations: Sequence[Operation]) -> None:
    """Column FINISHES: an operation's delta is complete, but for f', when the first that reads it has handed on."""
    finished: set[int] = set()
    for row, one in zip(table, operations, strict=True):
        pairs = ((one.input, INPUT_ASKS, FINISHES_INPUT), (one.source, SOURCE_ASKS, FINISHES_SOURCE))
        for k, asks, bit in pairs[: len(inputs_of(one))]:
            if row[ADDS] & asks and k not in finished:
                row[FINISHES] |= bit
                finished.add(k)


# ---------------------------------------------------------------------------------------------------------------------
# Phases


class _Phases:
    """Phases in their order; tasks by rows that follow each other become one."""

    def __init__(self) -> None:
        self.phases: list[tuple[int, int, int, int]] = []
        self.tasks: list[tuple[int, int]] = []
        self._first = 0

    def task(self, what: int, layer: int) -> None:
        self.tasks.append((what, layer))

    def phase(self, what: int, layer: int, last: int = 0) -> None:
        self.close()
        self.phases.append((what, layer, 0, last))

    def close(self) -> None:
        if len(self.tasks) > self._first:
            self.phases.append((ROWS, 0, self._first, len(self.tasks)))
            self._first = len(self.tasks)


def _forward(table: Array, header: Array, mode: str, out: _Phases) -> None:
    """From X to the outputs or the loss."""
    if header[GATHERED]:
        out.task(GATHER, 0)
    for l, row in enumerate(table):
        if row[KIND] == DENSE and row[FORWARD_PARTS]:
            out.phase(FORWARD, l)
            if row[FORWARD_PARTS] > 1:
                out.task(ROW_COMBINE, l)
        elif row[KIND] == BATCH_NORM and mode == "train":
            out.phase(COLUMNS, l)
        else:
            out.task(ROW_FORWARD, l)
    out.task(ROW_OUTPUT if mode == "predict" else ROW_LOSS, len(table) - 1)


def _backward(table: Array, out: _Phases) -> None:
    """Deltas from the last operation to the first that has one."""
    for l in range(len(table) - 1, -1, -1):
        row = table[l]
        if row[KIND] == BATCH_NORM:
            out.phase(COLUMNS_BACK, l)
            if row[FINISHES] & FINISHES_INPUT:
                out.task(ROW_FINISH, int(row[INPUT]))
        elif not row[ADDS] & (INPUT_ASKS | SOURCE_ASKS):
            continue
        elif row[KIND] == DENSE and row[BACKWARD_PARTS]:
            out.phase(BACKWARD, l)
            if row[BACKWARD_PARTS] > 1:
                out.task(ROW_COMBINE_BACK, l)
        else:
            out.task(ROW_BACKWARD, l)
    out.close()


def _items(table: Array, tile: Tile) -> list[tuple[int, int, int, int, int]]:
    """The update: tiles of every W, then what is shorter."""
    items = []
    for l, row in enumerate(table):
        if row[KIND] == DENSE:
            for split in range(row[GRADIENT_PARTS]):
                for lo in range(0, row[FAN_IN], tile.rows):
                    for column in range(0, row[FAN_OUT], tile.columns):
                        items.append((TILE_ITEM, l, lo, column, split))
    for l, row in enumerate(table):
        if row[KIND] in (DENSE, BATCH_NORM, LAYER_NORM):
            for which in range(1 if row[KIND] == DENSE else 2):
                for column in range(0, row[FAN_OUT], WIDTH):
                    items.append((VECTOR_ITEM, l, which, column, 0))
    return [*items, (LOSS_ITEM, 0, 0, 0, 0)]


def _chunks(table: Array, every: bool, given: bool = False) -> list[tuple[int, ...]]:
    """Parameters that are updated from a stored gradient: ``every`` one, or those whose sums are cut."""
    chunks: list[tuple[int, ...]] = []

    def add(start: int, size: int, penalised: int, parts: int, at: int) -> None:
        for lo in range(0, size, CHUNK):
            here = min(CHUNK, size - lo)
            chunks.append((start + lo, here, penalised, parts, (start if given else at) + lo, size))

    for row in table:
        width = padded(int(row[FAN_OUT]))
        if row[KIND] == DENSE and (every or row[GRADIENT_PARTS] > 1):
            parts = 1 if given else int(row[GRADIENT_PARTS])
            add(int(row[WEIGHTS]), int(row[FAN_IN]) * width, 1, parts, int(row[GRADIENT_AT]))
        if every and row[KIND] in (DENSE, BATCH_NORM, LAYER_NORM):
            add(int(row[BIAS]), width, 0, 1, int(row[VECTORS_AT]))
            if row[KIND] != DENSE:
                add(int(row[WEIGHTS]), width, 0, 1, int(row[VECTORS_AT]) + width)
    return chunks
