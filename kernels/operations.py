"""What a network is made of besides dense layers in a chain: operations, each fed by one or two others.

An operation's output is what a later one reads; its delta is dL / d(output before the activation). Backward goes
through the operations from the last to the first: each hands its delta on to its inputs. Where a second one hands a
delta to the same input, as behind a skip connection, it adds to what is there.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastbp.kernels.layout import (
    ADD,
    ADDS_TO_INPUT,
    ADDS_TO_SOURCE,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    GRADIENTS,
    INPUT_ASKS,
    LAYER_NORM,
    ROWS,
    SOURCE_ASKS,
    UPDATE,
    Array,
)

# What the compiler is told of each kind: see ``Plan.uses``
FEATURE_OF = {BATCH_NORM: "batch_norm", LAYER_NORM: "layer_norm", DROPOUT: "dropout", ADD: "residual"}


class Operation(NamedTuple):
    """One operation of a network.

    Attributes
    ----------
    kind : int
        ``DENSE``, ``BATCH_NORM``, ``LAYER_NORM``, ``DROPOUT`` or ``ADD``.
    input : int
        Number of the operation whose output it takes; -1 for X.
    source : int
        The other summand of ``ADD``.
    constant : float
        A dropout's rate, a normalisation's epsilon.
    momentum : float
        Of a batch norm's running statistics: the share of the new ones.
    """

    kind: int
    input: int
    source: int = -1
    constant: float = 0.0
    momentum: float = 0.0


def chain(n_layers: int) -> tuple[Operation, ...]:
    """Dense layers, each fed by the one before."""
    return tuple(Operation(DENSE, layer - 1) for layer in range(n_layers))


def inputs_of(operation: Operation) -> tuple[int, ...]:
    """Operations whose outputs one reads."""
    return (operation.input, operation.source) if operation.kind == ADD else (operation.input,)


def dense_shapes(widths: Sequence[int], operations: Sequence[Operation]) -> list[tuple[int, int]]:
    """Fan-in and fan-out of each dense layer; ``operations`` may be empty for a chain of them.

    >>> dense_shapes((4, 3, 3, 2), [Operation(DENSE, -1), Operation(LAYER_NORM, 0), Operation(DENSE, 1)])
    [(4, 3), (3, 2)]
    """
    if not operations:
        return list(itertools.pairwise(widths))
    pairs = enumerate(operations)
    return [(widths[one.input + 1], widths[l + 1]) for l, one in pairs if one.kind == DENSE]


def reads_rows(operations: Sequence[Operation]) -> bool:
    """Whether something else than a dense layer reads X: then a batch's rows of X are copied to where it can."""
    return any(-1 in inputs_of(one) for one in operations if one.kind != DENSE)


def needs_delta(operations: Sequence[Operation]) -> list[bool]:
    """Whether there are parameters at or before each operation: only then its delta is of use."""
    needs: list[bool] = []
    for one in operations:
        above = any(needs[k] for k in inputs_of(one) if k >= 0)
        needs.append(above or one.kind in (DENSE, BATCH_NORM, LAYER_NORM))
    return needs


def handed_on(operations: Sequence[Operation]) -> list[int]:
    """Column ADDS of the table."""
    needs, reached, column = needs_delta(operations), set(), []
    for one in reversed(operations):
        bits = 0
        for k, asks, adds in zip(
            inputs_of(one), (INPUT_ASKS, SOURCE_ASKS), (ADDS_TO_INPUT, ADDS_TO_SOURCE), strict=False
        ):
            if k >= 0 and needs[k]:
                bits |= asks | (adds if k in reached else 0)
                reached.add(k)
        column.append(bits)
    return column[::-1]


def regions(operations: Sequence[Operation], *, first: int, clipping: bool) -> Array:
    """What threads do between two meetings, in the order of a step.

    Region 0 is the update of the step before, with the first layer's forward where that has owners. Then rows: forward
    of operations FIRST .. LAST, the loss where WITH_LOSS, deltas of operations TOP .. BOTTOM handed on. A batch norm
    needs all rows of its input for its statistics, and all deltas for their sums: there the rows' region is cut in
    two. A region up to a batch norm (LAST or BOTTOM) leaves what its rows add to these, and one that begins with it
    (FIRST or TOP) starts from what all rows have left. Last, where the gradient's norm is to be known before the
    update, the gradients. ``first`` is where rows start: 1 with owners, -1 where the rows of X are copied, otherwise 0.
    """
    norms, n = [l for l, one in enumerate(operations) if one.kind == BATCH_NORM], len(operations)
    table = [(UPDATE, 0, 0, 0, 0, 0)]
    for norm in norms:
        if first < norm:  # otherwise the owners of the first layer leave the statistics of the second
            table.append((ROWS, first, norm, 0, 0, 0))
        first = norm
    turns = [n - 1, *reversed(norms), 0]
    for k, (top, bottom) in enumerate(itertools.pairwise(turns)):
        if k == 0 or top > bottom:
            table.append((ROWS, *((first, n, 1) if k == 0 else (0, 0, 0)), top, bottom))
    if clipping:
        table.append((GRADIENTS, 0, 0, 0, 0, 0))
    return np.array(table, np.int64)


def parameter_shapes(widths: Sequence[int], operations: Sequence[Operation]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each array of parameters, in the order of the operations.

    W1, b1 of the first dense layer, gamma1, beta1 (mean1, variance1) of the first normalisation, ...
    """
    dense = norms = 0
    for l, one in enumerate(operations):
        fan_in, fan_out = widths[one.input + 1], widths[l + 1]
        if one.kind == DENSE:
            dense += 1
            yield f"W{dense}", (fan_in, fan_out)
            yield f"b{dense}", (fan_out,)
        elif one.kind in (BATCH_NORM, LAYER_NORM):
            norms += 1
            names = ("gamma", "beta", "mean", "variance")[: 4 if one.kind == BATCH_NORM else 2]
            for name in names:
                yield f"{name}{norms}", (fan_out,)
