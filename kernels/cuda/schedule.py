"""The cost model of a GPU: which tiles, into how many parts a sum is cut, what goes by rows. All choices are here.

Parts depend on the network, the batch and the card; on nothing that differs from run to run, so neither do the bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastbp.kernels.cuda._target import SIMULATED, WIDTH
from fastbp.kernels.cuda.gemm import MEDIUM, SIMULATED_TILE, SMALL, WIDE, WIDE_TENSOR, Tile
from fastbp.kernels.cuda.layout import (
    BACKWARD,
    BACKWARD_PARTS,
    COLUMNS,
    COLUMNS_BACK,
    FORWARD,
    FORWARD_PARTS,
    PHASE_SIZE,
    ROWS,
    WIDE_TABLE_SIZE,
    Program,
)  # fmt: skip
from fastbp.kernels.layout import BATCH, FAN_IN, FAN_OUT, HEADER_SIZE, padded

# A product by rows reads every weight for every row; as a phase of its own it costs a meeting. Where the
# two are even is to be measured on a card, as it is for the next two.
ROWS_WEIGHTS = 16384 if not SIMULATED else 24
LEAST_DEPTH = 96 if not SIMULATED else 3  # k of one part of a sum: shorter ones are all overhead
CHUNK = 4096 if not SIMULATED else 32
# Of a prediction at a time: enough for a full card, and little memory. Sums are cut as for so many, however many there
# are, so that an output does not depend on the rows beside it.
PREDICTED_ROWS = 8192


def tile_for(shapes: Sequence[tuple[int, int]], batch: int, processors: int, itemsize: int, precision: str) -> Tile:
    """The largest tile of which the largest product still fills most of the card, its sum cut where that helps."""
    if SIMULATED:
        return SIMULATED_TILE
    if not shapes:
        return SMALL
    fan_in, fan_out = max(shapes, key=lambda shape: shape[0] * shape[1])
    wide = WIDE_TENSOR if precision == "tf32" else WIDE
    # in float64 the widest has too few registers
    for tile in (wide, MEDIUM) if itemsize == 4 else (MEDIUM,):
        tiles = -(-batch // tile.rows) * -(-fan_out // tile.columns)
        enough = tiles if tile is wide else tiles * max(1, fan_in // (2 * LEAST_DEPTH))
        if enough >= 0.7 * processors:
            return tile
    return SMALL


def parts_of(m: int, n: int, depth: int, tile: Tile, processors: int) -> int:
    """Into how many parts the sums of an m x n product over ``depth`` are cut."""
    tiles = -(-m // tile.rows) * -(-n // tile.columns)
    return max(1, min(processors // tiles, depth // LEAST_DEPTH))


def by_rows(fan_in: int, fan_out: int) -> bool:
    """Whether a dense layer is so narrow that each row goes through it on its own."""
    return fan_in * padded(fan_out) <= ROWS_WEIGHTS


def launched(tile: Tile) -> bool:
    """Whether each phase is a launch of its own.

    A launch takes the host some 7 us and 4 us more for each of 25 arrays, as was measured without a card; a phase of
    wide layers takes the card longer, and in a kernel with all phases the widest tile finds too few registers.
    """
    return tile in (WIDE, WIDE_TENSOR)


def short_tables(n_layers: int, n_phases: int, n_tasks: int) -> tuple[int, int, int] | None:
    """Rows of the tables that are copied to shared memory; None where they would take more than 8 kB of it.

    A launch has 48 kB unasked, and tiles of float64 take 32.
    """
    size = 8 * (HEADER_SIZE + n_layers * WIDE_TABLE_SIZE + n_phases * PHASE_SIZE + n_tasks * 2)
    return (n_layers, n_phases, n_tasks) if size <= 2**13 else None


def units_of(program: Program, tile: Tile) -> list[int]:
    """Units of each phase, for a full batch: more blocks than that would have nothing to do."""
    batch, counts = int(program.header[BATCH]), []
    for phase, layer, _, last in program.phases.tolist():
        row = program.table[layer]
        if phase in (FORWARD, BACKWARD):
            n = row[FAN_OUT] if phase == FORWARD else row[FAN_IN]
            parts = row[FORWARD_PARTS] if phase == FORWARD else row[BACKWARD_PARTS]
            units = -(-batch // tile.rows) * -(-int(n) // tile.columns) * int(parts)
        elif phase in (COLUMNS, COLUMNS_BACK):
            units = -(-int(row[FAN_OUT]) // WIDTH)
        elif phase == ROWS:  # where all blocks stay, each takes a row before one has two
            units = -(-batch * WIDTH // tile.threads) if launched(tile) else batch
        else:
            units = last
        counts.append(max(1, units))
    return counts
