"""What kernels on a GPU read beside the table of a network: its phases, and what these consist of.

A dense layer's product is cut into tiles, each computed by one block. Where there are fewer tiles than a card has
multiprocessors, the sum of each is cut too, and what follows adds up the parts in their order. What goes by rows
(losses, normalisation by rows, dropout, skip connections, narrow layers) is done by one group of threads a row, task
after task without a meeting; a batch norm goes by columns. Last comes the update: tiles of each W with the optimizer
behind the product, and columns of all other vectors. Between two phases all blocks meet.
"""

from __future__ import annotations

from typing import NamedTuple

from fastbp.kernels.cuda.gemm import Tile
from fastbp.kernels.layout import GRADIENT, TABLE_SIZE, Array

# Columns of ``phases``, and what a phase does
PHASE, LAYER, FIRST, LAST, PHASE_SIZE = range(5)
FORWARD, ROWS, COLUMNS, COLUMNS_BACK, BACKWARD, UPDATE, SQUARES, ELEMENTS = range(8)

# Columns of ``tasks``: what is done to each row of a batch in a phase by rows
TASK, OPERATION = range(2)
GATHER, ROW_FORWARD, ROW_COMBINE, ROW_LOSS, ROW_BACKWARD, ROW_COMBINE_BACK, ROW_FINISH, ROW_OUTPUT = range(8)

# Columns of ``items``: what the update consists of. LO is the first row of a tile of W; of a vector 0 for a bias or
# beta and 1 for gamma.
ITEM, OF_LAYER, LO, COLUMN, SPLIT, ITEM_SIZE = range(6)
TILE_ITEM, VECTOR_ITEM, LOSS_ITEM = range(3)

# Columns of ``chunks``: neighbouring parameters whose gradient, in PARTS parts STRIDE apart, lies at PARTS_AT
START, SIZE, PENALISED, PARTS, PARTS_AT, STRIDE, CHUNK_SIZE = range(7)

# Columns that the table of operations has more than that of ``layout``: into how many parts each product's sum is cut
# (0 for the rows' own product) and where they lie in ``partials``; bits of what is complete after an operation has
# handed on its delta; a dropout's threshold.
(
    FORWARD_PARTS, FORWARD_AT, BACKWARD_PARTS, BACKWARD_AT, GRADIENT_PARTS, GRADIENT_AT, VECTORS_AT, FINISHES,
    THRESHOLD, WIDE_TABLE_SIZE,
) = range(TABLE_SIZE, TABLE_SIZE + 10)  # fmt: skip
FINISHES_INPUT, FINISHES_SOURCE = 1, 2


class Spec(NamedTuple):
    """What a kernel is compiled for: the codes of ``layout`` that a network needs.

    ``mode`` is "train", "predict" or "evaluate"; ``reports`` says that scikit-learn's penalty is in the loss. Only what
    is among ``phases`` and ``tasks`` is compiled. A network that is ``launched`` has a kernel for each kind of phase,
    with as many blocks as that has units; others have one kernel, whose blocks stay on the card and meet. That has
    copies of tables of so many rows, ``rows_of_tables``, where they are short: of operations, phases and tasks.
    """

    mode: str
    real: str
    precision: str
    tile: Tile
    kinds: frozenset[int]
    codes: frozenset[int]
    link: int
    loss: int = 0
    loss_convention: int = 0
    soft_targets: bool = False
    n_blocks: bool = False
    optimizer: int = GRADIENT
    convention: int = 0
    nesterov: bool = False
    adjusts: bool = False
    averages: bool = False
    n_moments: int = 1
    clipping: bool = False
    reports: bool = False
    phases: frozenset[int] = frozenset()
    tasks: frozenset[int] = frozenset()
    launched: bool = False
    rows_of_tables: tuple[int, int, int] | None = None


class Program(NamedTuple):
    """What kernels read of a network: on the host first, then the same on the card."""

    header: Array
    table: Array
    phases: Array
    tasks: Array
    items: Array
    chunks: Array
    constants: Array


class Sizes(NamedTuple):
    """Elements of what a session needs on the card."""

    parameters: int
    moments: int
    work: int
    rows: int
    partials: int
    squares: int
    norms: int

    def bytes(self, itemsize: int) -> int:
        """All of it; the rows' losses, squares and norms are float64."""
        return (self.parameters + self.moments + self.work + self.partials) * itemsize + 8 * (
            self.rows + self.squares + self.norms
        )
