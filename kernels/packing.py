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


class Views:
    """W1, b1, W2, b2, ... where they lie in a flat buffer, to be read and written again and again.

    To look for them anew takes longer than to copy them: 18 us instead of 4.5 for three small layers, every epoch.
    """

    def __init__(self, parameters: Array, table: Array, lanes: int) -> None:
        self._layers = []
        for row in table:
            fan_out, panels = int(row[FAN_OUT]), weight_panels(parameters, row, lanes)
            used = [
                (panel[:, : fan_out - column], slice(column, min(column + width, fan_out)))
                for (column, width), panel in zip(panel_columns(fan_out, lanes), panels, strict=True)
            ]
            self._layers.append(((int(row[FAN_IN]), fan_out), used, bias_view(parameters, row)))

    def read(self) -> list[Array]:
        """Copies."""
        arrays = []
        for shape, panels, bias in self._layers:
            W = np.empty(shape, bias.dtype)
            for panel, columns in panels:
                W[:, columns] = panel
            arrays += [W, bias.copy()]
        return arrays

    def write(self, arrays: list[Array]) -> None:
        """Overwrite them; padding is left as it is."""
        for (_, panels, bias), W, b in zip(self._layers, arrays[::2], arrays[1::2], strict=True):
            for panel, columns in panels:
                panel[:] = W[:, columns]
            bias[:] = b


def unpack(parameters: Array, table: Array, lanes: int) -> list[Array]:
    """Copies of W1, b1, W2, b2, ... from a flat buffer."""
    return Views(parameters, table, lanes).read()


def pack(arrays: list[Array], parameters: Array, table: Array, lanes: int) -> None:
    """Write W1, b1, W2, b2, ... into a flat buffer; padding is left as it is."""
    Views(parameters, table, lanes).write(arrays)


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
