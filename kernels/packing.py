"""Dense parameters into the flat buffers of a session, and out of them."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.layout import (
    BIAS,
    FAN_IN,
    FAN_OUT,
    PANEL_ROWS,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    Array,
    panel_columns,
)


def weight_panels(parameters: Array, row: Array, lanes: int) -> list[Array]:
    """Views of the panels of one layer's W, each (fan_in, width)."""
    fan_in, start, rows = int(row[FAN_IN]), int(row[WEIGHTS]), int(row[PANEL_ROWS])
    return [
        parameters[start + column * rows :][: fan_in * width].reshape(fan_in, width)
        for column, width in panel_columns(int(row[FAN_OUT]), lanes)
    ]


def bias_view(parameters: Array, row: Array) -> Array:
    """View of one layer's bias, (fan_out,)."""
    return parameters[int(row[BIAS]) :][: int(row[FAN_OUT])]


def unpack(parameters: Array, table: Array, lanes: int) -> list[Array]:
    """Copies of W1, b1, W2, b2, ... from a flat buffer."""
    arrays = []
    for row in table:
        W = np.concatenate(weight_panels(parameters, row, lanes), axis=1)[:, : row[FAN_OUT]]
        arrays += [np.ascontiguousarray(W), bias_view(parameters, row).copy()]
    return arrays


def pack(arrays: list[Array], parameters: Array, table: Array, lanes: int) -> None:
    """Write W1, b1, W2, b2, ... into a flat buffer; padding is left as it is."""
    for row, W, b in zip(table, arrays[::2], arrays[1::2], strict=True):
        fan_out = int(row[FAN_OUT])
        for (column, width), panel in zip(
            panel_columns(fan_out, lanes), weight_panels(parameters, row, lanes), strict=True
        ):
            used = min(width, fan_out - column)
            panel[:, :used] = W[:, column : column + used]
        bias_view(parameters, row)[:] = b


def pack_transposed(parameters: Array, work: Array, table: Array, lanes: int) -> None:
    """Write the transposed copies of W2, W3, ..., which the deltas read."""
    for row in table[1:]:
        fan_in, fan_out = int(row[FAN_IN]), int(row[FAN_OUT])
        W = np.concatenate(weight_panels(parameters, row, lanes), axis=1)[:, :fan_out]
        for column, width in panel_columns(fan_in, lanes):
            start = int(row[TRANSPOSED]) + column * int(row[TRANSPOSED_ROWS])
            used = min(width, fan_in - column)
            panel = work[start : start + fan_out * width].reshape(fan_out, width)
            panel[:, :used] = W[column : column + used].T
