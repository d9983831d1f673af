"""Parameters into the flat buffers of a session, and out of them."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.layout import (
    BATCH_NORM,
    BIAS,
    DENSE,
    FAN_IN,
    FAN_OUT,
    INPUT,
    KIND,
    LAYER_NORM,
    PANEL_ROWS,
    RUNNING,
    TRANSPOSED,
    TRANSPOSED_ROWS,
    WEIGHTS,
    Array,
    padded,
    panel_columns,
)


def weight_panels(parameters: Array, row: Array, lanes: int) -> list[Array]:
    """Views of the panels of one layer's W, each (fan_in, width)."""
    fan_in, start, rows = int(row[FAN_IN]), int(row[WEIGHTS]), int(row[PANEL_ROWS])
    return [
        parameters[start + column * rows :][: fan_in * width].reshape(fan_in, width)
        for column, width in panel_columns(int(row[FAN_OUT]), lanes)
    ]


def vector_views(parameters: Array, row: Array) -> list[Array]:
    """Views, (fan_out,) each: a dense layer's bias; a normalisation's gamma, beta and running mean and variance."""
    n = int(row[FAN_OUT])
    starts = {
        DENSE: [row[BIAS]],
        LAYER_NORM: [row[WEIGHTS], row[BIAS]],
        BATCH_NORM: [row[WEIGHTS], row[BIAS], row[RUNNING], row[RUNNING] + padded(n)],
    }.get(int(row[KIND]), [])
    return [parameters[int(start) :][:n] for start in starts]


class Views:
    """W1, b1, W2, b2, ... where they lie in a flat buffer, to be read and written again and again.

    Layer by layer, in the order of :func:`fastbp.kernels.operations.parameter_shapes`.

    To look for them anew takes longer than to copy them: 18 us instead of 4.5 for three small layers, every epoch.
    """

    def __init__(self, parameters: Array, table: Array, lanes: int) -> None:
        self._layers = []
        for row in table:
            fan_out, used = int(row[FAN_OUT]), []
            if row[KIND] == DENSE:
                panels = weight_panels(parameters, row, lanes)
                used = [
                    (panel[:, : fan_out - column], slice(column, min(column + width, fan_out)))
                    for (column, width), panel in zip(panel_columns(fan_out, lanes), panels, strict=True)
                ]
            self._layers.append(((int(row[FAN_IN]), fan_out), used, vector_views(parameters, row)))

    def read(self) -> list[Array]:
        """Copies."""
        arrays = []
        for shape, panels, vectors in self._layers:
            if panels:
                W = np.empty(shape, panels[0][0].dtype)
                for panel, columns in panels:
                    W[:, columns] = panel
                arrays.append(W)
            arrays += [vector.copy() for vector in vectors]
        return arrays

    def write(self, arrays: list[Array]) -> None:
        """Overwrite them; padding is left as it is."""
        rest = iter(arrays)
        for _, panels, vectors in self._layers:
            if panels:
                W = next(rest)
                for panel, columns in panels:
                    panel[:] = W[:, columns]
            for vector in vectors:
                vector[:] = next(rest)


def unpack(parameters: Array, table: Array, lanes: int) -> list[Array]:
    """Copies of W1, b1, W2, b2, ... from a flat buffer."""
    return Views(parameters, table, lanes).read()


def pack(arrays: list[Array], parameters: Array, table: Array, lanes: int) -> None:
    """Write W1, b1, W2, b2, ... into a flat buffer; padding is left as it is."""
    Views(parameters, table, lanes).write(arrays)


def pack_transposed(parameters: Array, work: Array, table: Array, lanes: int) -> None:
    """Write the transposed copies of W2, W3, ..., which the deltas read."""
    for row in table[(table[:, KIND] == DENSE) & (table[:, INPUT] >= 0)]:
        fan_in, fan_out = int(row[FAN_IN]), int(row[FAN_OUT])
        W = np.concatenate(weight_panels(parameters, row, lanes), axis=1)[:, :fan_out]
        for column, width in panel_columns(fan_in, lanes):
            start = int(row[TRANSPOSED]) + column * int(row[TRANSPOSED_ROWS])
            used = min(width, fan_in - column)
            panel = work[start : start + fan_out * width].reshape(fan_out, width)
            panel[:, :used] = W[column : column + used].T
