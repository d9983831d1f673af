"""The reference backend: the same sessions on the NumPy twins, one panel a layer so that W is a plain matrix."""

from __future__ import annotations

from fastbp.backends._planned import Kernels, PlannedBackend
from fastbp.backends.base import Network
from fastbp.kernels.layout import padded
from fastbp.kernels.reference.predict import evaluate_rows, layer_rows, predict_rows
from fastbp.kernels.reference.rectifiers import rectifier_forward
from fastbp.kernels.reference.training import apply_gradients, train_steps


def _lanes(network: Network) -> int:
    return padded(max(network.widths))


BACKEND = PlannedBackend(
    "reference",
    Kernels(
        train_steps, predict_rows, layer_rows, rectifier_forward, evaluate_rows, apply_gradients, _lanes,
        lambda n_threads: 1,
    ),
)  # fmt: skip
