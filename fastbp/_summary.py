"""``model.summary()``: a network as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastbp._describe import Described, describe

if TYPE_CHECKING:
    from fastbp.model import Sequential

HEAD = ("layer", "output", "parameters", "FLOP forward", "FLOP step")
NOTE = (
    "FLOP for one sample: multiplications and additions of the matrix products alone. A step is forward, deltas and\n"
    "gradients; biases, activations, normalisation, the loss and the optimizer are not counted."
)


@dataclass(frozen=True)
class Summary:
    """What a network is made of; as a string, a table.

    Attributes
    ----------
    layers : tuple of Described
        Every layer, those inside another right after it.
    n_features : int
    dtype : str
    n_parameters, n_trained : int
        All parameters, and those that gradients train.
    flop_forward, flop_step : int
        Of the matrix products, for one sample.
    n_bytes : int
        Of all parameters.
    """

    layers: tuple[Described, ...]
    n_features: int
    dtype: str
    n_parameters: int
    n_trained: int
    flop_forward: int
    flop_step: int
    n_bytes: int

    def __str__(self) -> str:
        rows = [
            ("  " * row.depth + row.title, str(row.fan_out), row.n_parameters, row.flop_forward, row.flop_step)
            for row in self.layers
        ]
        total = ("total", "", self.n_parameters, self.flop_forward, self.flop_step)
        cells = [HEAD, *(tuple(f"{c:,}" if isinstance(c, int) else c for c in row) for row in [*rows, total])]
        widths = [max(len(row[k]) for row in cells) for k in range(len(HEAD))]
        lines = [
            "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in cells
        ]
        rule = "-" * len(lines[0])
        fixed = self.n_parameters - self.n_trained
        return "\n".join(
            [
                f"Sequential: {self.n_features:,} features, {self.dtype}",
                lines[0],
                rule,
                *lines[1:-1],
                rule,
                lines[-1],
                f"{self.n_parameters:,} parameters take {size_of(self.n_bytes)}; "
                + (f"{fixed:,} of them are not trained by gradients." if fixed else "all are trained."),
                NOTE,
            ]
        )


def size_of(n_bytes: int) -> str:
    """A number of bytes to be read.

    >>> size_of(100), size_of(407_080), size_of(3 * 2**30)
    ('100 bytes', '397.5 KiB', '3.0 GiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes} bytes"
    value, k = float(n_bytes), -1
    while value >= 1024 and k < 3:
        value, k = value / 1024, k + 1
    return f"{value:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[k]}"


def summarize(model: Sequential) -> Summary:
    """The summary of a model."""
    rows = tuple(describe(model.layers, model.n_features))
    n_parameters = sum(row.n_parameters for row in rows)
    return Summary(
        rows,
        model.n_features,
        model.dtype.name,
        n_parameters,
        n_parameters - sum(row.n_fixed for row in rows),
        sum(row.flop_forward for row in rows),
        sum(row.flop_step for row in rows),
        n_parameters * model.dtype.itemsize,
    )
