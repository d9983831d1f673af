"""Batches for the rows of losses on a GPU, as the simulator runs them, and their twins."""

import numpy as np

from fastbp.kernels import layout
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.layout import PYTORCH, SCIKIT_LEARN, padded

DTYPES = (np.float32, np.float64)
CONVENTIONS = (PYTORCH, SCIKIT_LEARN)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
SENTINEL = 12345.0
M, N_SAMPLES = 4, 7


class Case:
    """M rows of outputs or logits, and targets of more rows than that, which ``index`` names out of order."""

    def __init__(self, dtype, n, seed=0, size=2.0):
        rng = np.random.default_rng(seed)
        self.rng, self.dtype, self.n, self.ld = rng, dtype, n, padded(n)
        self.Z = (size * rng.normal(size=(M, n))).astype(dtype)
        self.index = rng.permutation(N_SAMPLES)[:M].astype(np.intp)
        self.weights = rng.uniform(0.5, 2, N_SAMPLES).astype(dtype)
        self.scale = dtype(1 / self.weights[self.index].sum(dtype=float))
        self.labels, self.values = np.zeros(0, np.intp), rng.normal(size=(N_SAMPLES, n)).astype(dtype)
        self.blocks, self.coefficients = np.zeros(0, np.intp), np.zeros(0, dtype)

    def with_labels(self, blocks=None):
        widths = [self.n] if blocks is None else blocks
        self.labels = self.rng.integers(0, widths, (N_SAMPLES, len(widths))).astype(np.intp).reshape(-1)
        self.values = np.zeros(0, self.dtype)
        return self.in_blocks(blocks)

    def in_blocks(self, blocks):
        if blocks is not None:
            self.blocks = np.cumsum([0, *blocks]).astype(np.intp)
        return self

    def with_chances(self, smoothing=0.2):
        """Targets that add up to 1, and smoothing with class weights."""
        self.values = self.rng.dirichlet(np.ones(self.n), N_SAMPLES).astype(self.dtype)
        return self.smoothed(smoothing)

    def smoothed(self, smoothing=0.2):
        self.coefficients = np.concatenate([[smoothing], self.rng.uniform(0.5, 2, 2 * self.n)]).astype(self.dtype)
        return self

    def with_counts(self):
        self.values = self.rng.poisson(1.5, (N_SAMPLES, self.n)).astype(self.dtype)
        return self

    def with_outputs(self, low, high):
        self.Z = self.rng.uniform(low, high, self.Z.shape).astype(self.dtype)
        return self

    def buffers(self):
        """Gradient and logits as rows of the workspace, with a sentinel where nothing belongs."""
        D, Z = (np.full((M, self.ld), SENTINEL, self.dtype) for _ in range(2))
        Z[:, : self.n] = self.Z
        return D.reshape(-1), Z.reshape(-1)


def by_rows(case, row_function):
    """Losses times weights, and D, of row_function(lane, D, d, Z, z, r, at, factor): lanes agree, the rest stays."""
    (D, Z), row_loss, ld = case.buffers(), np.full((M, WIDTH), SENTINEL, case.dtype), case.ld

    @kernel
    def launch(D, Z, row_loss):
        i, lane = cuda.blockIdx.x, cuda.threadIdx.x
        r = case.index[i]
        factor = case.weights[r] * case.scale
        row_loss[i, lane] = row_function(lane, D, i * ld, Z, i * ld, r, r * case.n, factor)

    launch[M, WIDTH](D, Z, row_loss)
    np.testing.assert_array_equal(row_loss, row_loss[:, :1] * np.ones(WIDTH, case.dtype))
    D, Z = D.reshape(M, ld), Z.reshape(M, ld)
    assert (D[:, case.n :] == SENTINEL).all()
    np.testing.assert_array_equal(Z[:, : case.n], case.Z)
    assert (Z[:, case.n :] == SENTINEL).all()
    return case.weights[case.index] * row_loss[:, 0], D[:, : case.n]


def by_twin(case, twin, *targets, rest=()):
    """The same from the twin."""
    (D, Z), row_loss = case.buffers(), np.empty(M)
    twin(row_loss, D, Z, case.ld, *targets, case.index, case.weights, case.scale, *rest)
    return row_loss, D.reshape(M, case.ld)[:, : case.n]


def assert_same(case, got, want, size=1.0):
    for have, expected in zip(got, want, strict=True):
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=size)
        np.testing.assert_allclose(have, expected, rtol=0, atol=TOLERANCE[case.dtype] * largest)


ROBUST = {
    "absolute_error": layout.MEAN_ABSOLUTE_ERROR,
    "huber": layout.HUBER,
    "quantile": layout.QUANTILE,
    "log_cosh": layout.LOG_COSH,
}
OUTPUT = {
    **ROBUST,
    "output_cross_entropy": layout.OUTPUT_CROSS_ENTROPY,
    "output_poisson": layout.OUTPUT_POISSON,
    "squared_error": layout.MEAN_SQUARED_ERROR,
    "half_squared_error": layout.HALF_SQUARED_ERROR,
}
NUMBERED = ("huber", "quantile", "output_cross_entropy")


def case_of(name, dtype, n, **more):
    """Outputs and targets that suit a loss."""
    case = Case(dtype, n, **more)
    if name == "huber":
        case.coefficients = np.array([0.7], dtype)
    elif name == "quantile":
        case.coefficients = case.rng.uniform(0.05, 0.95, n).astype(dtype)
    elif name == "output_cross_entropy":
        case.smoothed().with_outputs(0.01, 0.99)
        case.values = case.rng.uniform(size=case.values.shape).astype(dtype)
    elif name == "output_poisson":
        case.with_counts().with_outputs(0.1, 5)
    return case
