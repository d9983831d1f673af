"""Batches for the kernels of losses, and what all of them are held to."""

import numpy as np
from _kernels import SENTINEL, ULPS, surrounded

from fastbp.kernels import layout
from fastbp.kernels.cpu import output_losses, robust_losses, soft_targets
from fastbp.kernels.layout import PYTORCH

MARGIN = 64
ROBUST = ("absolute_error", "huber", "quantile", "log_cosh")
OUTPUT = ("output_cross_entropy", "output_poisson")
SOFT = ("soft_cross_entropy", "soft_sigmoid_cross_entropy", "block_soft_cross_entropy")
MODULES = (
    dict.fromkeys(ROBUST, robust_losses) | dict.fromkeys(OUTPUT, output_losses) | dict.fromkeys(SOFT, soft_targets)
)
WITHOUT_COEFFICIENTS = ("absolute_error", "log_cosh", "output_poisson")


class Batch:
    """m rows of n outputs or logits, and targets of more rows than that, which ``index`` names out of order."""

    def __init__(
        self, name, dtype, m, n, *, seed=0, weighted=False, spare=0, size=2.0, smoothing=0.2, hard=False, blocks=None
    ):
        rng, n_samples = np.random.default_rng(seed), m + 4
        self.name, self.dtype, self.m, self.n = name, dtype, m, n
        self.ld = layout.padded(n) + 16 * spare
        self.Z = (size * rng.normal(size=(m, n))).astype(dtype)
        self.index = rng.permutation(n_samples)[:m].astype(np.intp)
        self.weights = (rng.uniform(0.5, 2, n_samples) if weighted else np.zeros(0)).astype(dtype)
        self.values, self.labels = rng.normal(size=(n_samples, n)).astype(dtype), np.zeros(0, np.intp)
        self.coefficients = np.zeros(0)
        self.blocks = np.array([0, n] if blocks is None else np.cumsum([0, *blocks]))
        if name == "huber":
            self.coefficients = np.array([0.7])
        elif name == "quantile":
            self.coefficients = rng.uniform(0.05, 0.95, n)
        elif name in SOFT or name == "output_cross_entropy":
            self.coefficients = np.concatenate([[smoothing], rng.uniform(0.5, 2, 2 * n)])
        if name in ("soft_sigmoid_cross_entropy", "output_cross_entropy"):
            self.values = rng.uniform(size=(n_samples, n)).astype(dtype)
        elif name in SOFT:
            self.values = rng.dirichlet(np.ones(n), n_samples).astype(dtype)
        elif name == "output_poisson":
            self.values = rng.poisson(2.0, (n_samples, n)).astype(dtype)
        if name == "output_cross_entropy":
            self.Z = rng.uniform(0.01, 0.99, (m, n)).astype(dtype)
        elif name == "output_poisson":
            self.Z = rng.uniform(0.1, 5, (m, n)).astype(dtype)
        if hard:
            widths = np.diff(self.blocks)
            self.labels = rng.integers(0, widths, (n_samples, len(widths))).astype(np.intp).reshape(-1)
            # multipliers of rows, or nothing
            self.values = (
                rng.uniform(0.5, 2, n_samples).astype(dtype) if weighted and blocks is None else np.zeros(0, dtype)
            )
        self.coefficients = self.coefficients.astype(dtype)
        self.scale = 1 / float(self.row_weights().sum())

    def row_weights(self):
        return self.weights[self.index] if self.weights.size else np.ones(self.m, self.dtype)

    def factors(self):
        """What each row's loss is multiplied by."""
        if self.labels.size and self.values.size:
            return self.values[self.index]
        return self.row_weights()

    def target(self):
        """Values of each row, (m, n); for labels one at the label and 0 elsewhere."""
        if not self.labels.size:
            return self.values[self.index].astype(float)
        t, labels = np.zeros((self.m, self.n)), self.labels.reshape(-1, len(self.blocks) - 1)[self.index]
        for start, column in zip(self.blocks[:-1], labels.T, strict=True):
            t[np.arange(self.m), start + column] = 1
        return t

    def call(self, module, convention=PYTORCH):
        """Losses, dZ and Z of one kernel or twin, each with its surroundings."""
        size, real = self.m * self.ld, self.dtype
        (whole_loss, row_loss), (whole_dZ, dZ), (whole_Z, Z) = (
            surrounded(count, kind, MARGIN) for count, kind in ((self.m, np.float64), (size, real), (size, real))
        )
        Z.reshape(self.m, self.ld)[:, : self.n] = self.Z
        given = [self.values.reshape(-1)]
        if self.name in ("soft_cross_entropy", "block_soft_cross_entropy"):
            given.insert(0, self.labels)
        if self.name == "block_soft_cross_entropy":
            given.append(self.blocks)
        if self.name not in WITHOUT_COEFFICIENTS:
            given.append(self.coefficients)
        given += [self.index, self.weights]
        before = [array.copy() for array in given]
        rest = [self.m] if self.name == "block_soft_cross_entropy" else [self.m, self.n]
        rest += [convention] if self.name in SOFT else []
        getattr(module, self.name)(row_loss, dZ, Z, self.ld, *given, real(self.scale), *rest)
        for array, old in zip(given, before, strict=True):
            np.testing.assert_array_equal(array, old)
        for whole in (whole_loss, whole_dZ, whole_Z):
            assert (whole[:MARGIN] == SENTINEL).all() and (whole[-MARGIN:] == SENTINEL).all()
        return whole_loss[MARGIN:-MARGIN], whole_dZ[MARGIN:-MARGIN].reshape(self.m, self.ld), whole_Z

    def results(self, module, convention=PYTORCH):
        """Losses and dZ without padding."""
        loss, dZ, _ = self.call(module, convention)
        return loss, dZ[:, : self.n]

    def differences(self, module, convention=PYTORCH, h=1e-6):
        """dZ by central differences of the losses."""
        Z, want = self.Z.copy(), np.empty((self.m, self.n))
        for j in range(self.n):
            sides = []
            for sign in (1, -1):
                self.Z = Z.copy()
                self.Z[:, j] += sign * h
                sides.append(self.results(module, convention)[0])
            want[:, j] = self.scale * (sides[0] - sides[1]) / (2 * h)
        self.Z = Z
        return want


def assert_like_twin(batch, module, twins, convention, loss_terms, size):
    """Losses to some roundings of their terms, dZ to some of ``size``; what is no output is the twin's to the bit."""
    (loss, dZ, Z), (twin_loss, twin_dZ, twin_Z) = (batch.call(one, convention) for one in (module, twins))
    bound = (batch.n + 16) * ULPS[batch.dtype]
    weight = np.maximum(batch.row_weights(), batch.factors()).max()
    np.testing.assert_allclose(loss, twin_loss, rtol=0, atol=bound * weight * loss_terms)
    np.testing.assert_allclose(
        dZ[:, : batch.n], twin_dZ[:, : batch.n], rtol=0, atol=bound * weight * batch.scale * size
    )
    np.testing.assert_array_equal(dZ[:, batch.n :], twin_dZ[:, batch.n :])
    assert (dZ[:, : batch.n] != SENTINEL).all() and (loss != SENTINEL).all()
    if "soft" not in batch.name or "sigmoid" in batch.name:
        np.testing.assert_array_equal(Z, twin_Z)
