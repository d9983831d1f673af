"""Outputs and losses without an update, batch after batch through one workspace."""

import numpy as np

from fastbp.kernels.layout import BATCH, FAN_OUT, N_LAYERS, OUT_LD, RELU
from fastbp.kernels.reference._views import rows
from fastbp.kernels.reference.activations import output_forward
from fastbp.kernels.reference.operations import outputs
from fastbp.kernels.reference.rectifiers import last_forward
from fastbp.kernels.reference.step import first_layer, forward_rows, loss_backward


def copy_outputs(out, lo, hi, plan, buffers):
    """A_L = f_L(Z_L) for rows lo .. hi of the batch, to ``out`` without padding."""
    last = plan.header[N_LAYERS] - 1
    row = plan.table[last]
    ld, n, start = row[OUT_LD], row[FAN_OUT], outputs(last, 0, plan)
    A = buffers.work[start + lo * ld : start + hi * ld]
    last_forward(A, hi - lo, row, lo * ld, plan, buffers, None)
    rows(out[lo * n :], n, hi - lo, n)[:] = rows(A, ld, hi - lo, n)


def predict_rows(out, plan, buffers, X, order, *, n_threads=1):
    """Outputs of the network for the rows of X that ``order`` names; ``n_threads`` is ignored."""
    batch, n = plan.header[BATCH], plan.table[plan.header[N_LAYERS] - 1, FAN_OUT]
    for start in range(0, len(order), batch):
        here = order[start : start + batch]
        forward_rows(first_layer(plan), plan.header[N_LAYERS], 0, 0, len(here), plan, buffers, X, here, None)
        copy_outputs(out[start * n :], 0, len(here), plan, buffers)


def evaluate_rows(losses, plan, buffers, X, targets, order, *, n_threads=1):
    """Loss of each row of ``order``, times its weight; ``n_threads`` is ignored."""
    batch = plan.header[BATCH]
    for start in range(0, len(order), batch):
        here = order[start : start + batch]
        forward_rows(first_layer(plan), plan.header[N_LAYERS], 0, 0, len(here), plan, buffers, X, here, None)
        loss_backward(0, 0, len(here), 1.0, plan, buffers, targets, here)
        losses[start : start + len(here)] = buffers.row_loss[: len(here)]


def layer_rows(Z, ld, A, lda, W, b, m, n, K, code):
    """Z = f(A W + b) for a few rows; rectifiers but relu are left to the caller."""
    A, Z_rows = rows(A, lda, m, K), rows(Z, ld, m, n)
    with np.errstate(all="ignore"):
        Z_rows[:] = A @ W.reshape(K, n) + b
    if code == RELU:
        Z_rows[Z_rows < 0] = 0
    output_forward(Z, ld, m, n, code)
