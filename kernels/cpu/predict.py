"""Outputs and losses without an update, for any number of rows: batch after batch through one workspace."""

from numba import prange

from fastbp.kernels.cpu._jit import kernel, parallel
from fastbp.kernels.cpu.activations import output_forward
from fastbp.kernels.cpu.operations import outputs
from fastbp.kernels.cpu.rectifiers import last_forward
from fastbp.kernels.cpu.simd import fma, window
from fastbp.kernels.cpu.step import first_layer, forward_rows, loss_backward, row_share
from fastbp.kernels.layout import BATCH, FAN_OUT, N_LAYERS, OUT_LD, RELU


@kernel
def copy_outputs(out, lo, hi, plan, buffers):
    """Write the last layer's rows lo .. hi, after its activation, to ``out`` without padding."""
    last = plan.header[N_LAYERS] - 1
    row = plan.table[last]
    ld, n = row[OUT_LD], row[FAN_OUT]
    Z = window(buffers.work, outputs(last, 0, plan) + lo * ld, (hi - lo) * ld)
    last_forward(Z, hi - lo, row, lo * ld, plan, buffers, None)
    for i in range(hi - lo):
        source, target = window(Z, i * ld, n), window(out, (lo + i) * n, n)
        for q in range(n):
            target[q] = source[q]


@parallel
def predict_rows(out, plan, buffers, X, order):
    """Outputs of the network for rows of X.

    Parameters
    ----------
    out : ndarray of real, shape (n_rows * n_outputs,)
        Overwritten.
    plan : Plan
        Without owners.
    buffers : Buffers
        ``work`` is overwritten.
    X : ndarray of real, shape (n_samples * n_features,), or Csr
    order : ndarray of intp, shape (n_rows,)
        Rows of X.
    """
    n_threads, batch = plan.shares.shape[1] - 1, plan.header[BATCH]
    first, last = first_layer(plan), plan.header[N_LAYERS]
    n_outputs = plan.table[plan.header[N_LAYERS] - 1, FAN_OUT]
    for start in range(0, order.shape[0], batch):
        n_rows = min(batch, order.shape[0] - start)
        share = row_share(n_rows, n_threads)
        rows, here = window(order, start, n_rows), window(out, start * n_outputs, n_rows * n_outputs)
        for t in prange(n_threads):
            lo, hi = min(n_rows, t * share), min(n_rows, (t + 1) * share)
            if lo < hi:
                forward_rows(first, last, 0, lo, hi, plan, buffers, X, window(rows, lo, hi - lo), None)
                copy_outputs(here, lo, hi, plan, buffers)


@parallel
def evaluate_rows(losses, plan, buffers, X, targets, order):
    """Loss of each row of ``order``, times its weight.

    Parameters
    ----------
    losses : ndarray of float64, shape (n_rows,)
        Overwritten.
    plan, buffers, X, targets, order
        As in :func:`fastbp.kernels.cpu.training.train_steps`; the plan has no owners.
    """
    n_threads, batch = plan.shares.shape[1] - 1, plan.header[BATCH]
    first, last = first_layer(plan), plan.header[N_LAYERS]
    for start in range(0, order.shape[0], batch):
        n_rows = min(batch, order.shape[0] - start)
        share = row_share(n_rows, n_threads)
        rows = window(order, start, n_rows)
        for t in prange(n_threads):
            lo, hi = min(n_rows, t * share), min(n_rows, (t + 1) * share)
            if lo < hi:
                forward_rows(first, last, 0, lo, hi, plan, buffers, X, window(rows, lo, hi - lo), None)
                loss_backward(0, lo, hi, 1.0, plan, buffers, targets, window(rows, lo, hi - lo))
        for i in range(n_rows):
            losses[start + i] = buffers.row_loss[i]


@kernel
def layer_rows(Z, ld, A, lda, W, b, m, n, K, code):
    """Z = f(A W + b) for a few rows, on a W that is not laid out in panels: row by row of W, as it lies.

    Laying out W takes longer than a row's product does (512-1024-1024-100: 3.2 ms and 0.2 ms). The sums have the order
    that they have in panels, so the bits are the same.

    Parameters
    ----------
    Z : 1-D array of real
        Row i at Z + i ld, ld at least n rounded up to 16; overwritten, padding too.
    A : 1-D array of real
        Row i at A + i lda.
    W : 1-D array of real, shape (K * n,)
    b : 1-D array of real, shape (n,)
    m, n, K : int
        Rows, columns, fan-in.
    code : int
        Of the activation; those of ``fastbp.kernels.layout.RECTIFIERS`` are left to the caller.
    """
    zero = Z.dtype.type(0)
    for i in range(m):
        z, a, k = window(Z, i * ld, n), window(A, i * lda, K), 0
        for j in range(n):
            z[j] = b[j]
        while k + 4 <= K:  # four rows of W at a time: a quarter of the loads and stores of z
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            w0, w1 = window(W, k * n, n), window(W, (k + 1) * n, n)
            w2, w3 = window(W, (k + 2) * n, n), window(W, (k + 3) * n, n)
            for j in range(n):
                z[j] = fma(a3, w3[j], fma(a2, w2[j], fma(a1, w1[j], fma(a0, w0[j], z[j]))))
            k += 4
        while k < K:
            a0, w0 = a[k], window(W, k * n, n)
            for j in range(n):
                z[j] = fma(a0, w0[j], z[j])
            k += 1
        if code == RELU:
            for j in range(n):
                z[j] = zero if z[j] < zero else z[j]
    output_forward(Z, ld, m, n, code)
