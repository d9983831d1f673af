"""Batch norm on a GPU, in the simulator, against its twins: a block of one or several groups for its columns."""

import numpy as np
import pytest

from fastbp.kernels import layout
from fastbp.kernels.cuda import _simulator, batch_norm
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.layout import padded
from fastbp.kernels.reference import normalization as twin
from fastbp.kernels.reference.rectifiers import rectifier_forward_slope
from fastbp.kernels.reference.row_weights import (
    weight_of_rows,
    weighted_batch_norm_backward,
    weighted_batch_statistics,
    weighted_block_statistics,
)
from fastbp.kernels.reference.step import batch_weight

DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}
SENTINEL = 12345.0
EPSILON = 1e-3
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_size = pytest.mark.parametrize("n", [1, 4, 10, 17])
each_block = pytest.mark.parametrize("n_groups", [1, 3])


@pytest.fixture(autouse=True, params=[1, -1], ids=["forth", "back"])
def turns(request, monkeypatch):
    """Which thread of a block runs first."""
    monkeypatch.setattr(_simulator, "TURNS", [request.param])


class Network:
    """Operations of one width, of which number 1 is a batch norm behind another one or the rows of X, and a batch."""

    def __init__(
        self,
        dtype,
        n,
        n_rows,
        *,
        activation="relu",
        last=False,
        adds=0,
        reads_X=False,
        shift=0.0,
        momentum=0.1,
        n_groups=1,
    ):
        self.n_groups = n_groups
        rng, ld, width = np.random.default_rng(n), padded(n) + 16, padded(n)
        self.dtype, self.n, self.n_rows, self.ld, self.width, size = dtype, n, n_rows, ld, width, n_rows * ld
        self.X, self.Y, self.gathered, self.slope, self.deltas = range(16, 16 + 5 * size, size)
        self.stats = self.deltas + 2 * size
        self.code, self.momentum, self.reads_X, self.adds = layout.ACTIVATIONS[activation], momentum, reads_X, adds
        header = np.zeros(layout.HEADER_SIZE, np.int64)
        table = np.zeros((2 if last else 3, layout.TABLE_SIZE), np.int64)
        header[[layout.N_LAYERS, layout.DELTAS]] = len(table), self.deltas - self.X
        header[[layout.GATHERED, layout.GATHERED_LD]] = self.gathered, ld
        table[:, layout.FAN_OUT], table[:, layout.OUT_LD] = n, ld
        table[0, layout.OUT] = self.X
        row = table[1]
        row[[layout.KIND, layout.OUT, layout.INPUT]] = layout.BATCH_NORM, self.Y, -1 if reads_X else 0
        row[[layout.WEIGHTS, layout.BIAS, layout.RUNNING]] = 0, width, 2 * width
        row[[layout.STATS, layout.ADDS, layout.ACTIVATION]] = self.stats, adds, self.code
        row[layout.SLOPE] = self.slope if self.code in layout.BY_SLOPE.values() else 0
        self.plan = layout.Plan(header, table, *[np.zeros(0, np.int64)] * 4)
        work = np.full(self.stats + 4 * width, SENTINEL, dtype)
        self.parameters, self.work = rng.uniform(0.5, 2, 4 * width).astype(dtype), work
        self.buffers = layout.Buffers(self.parameters, np.zeros(0), work, np.zeros(0))
        self.constants = np.array([0, 0, EPSILON, momentum, 0, 0], dtype)
        self.weights, self.order, self.at = np.zeros(0, dtype), np.arange(n_rows), 0
        self.input = self.gathered if reads_X else self.X
        self.rows(self.input)[:] = rng.normal(size=(n_rows, n)) + shift
        for start in (self.deltas, self.deltas + size):  # of X and of Y
            self.rows(start)[:] = rng.normal(size=(n_rows, n))

    def rows(self, start):
        return self.work[start : start + self.n_rows * self.ld].reshape(self.n_rows, self.ld)[:, : self.n]

    def statistic(self, which):
        return self.work[self.stats + which * self.width :][: self.n]

    def launch(self, which, moves_running=True):
        """normalize_columns (0) or hand_on_columns (1) for all units, one block each."""
        function = batch_norm.batch_norm_of(self.n_groups, moves_running, frozenset({self.code}), self.dtype)[which]

        targets = layout.Targets(*[np.zeros(0, self.dtype)] * 2, self.weights, *[np.zeros(0, self.dtype)] * 2)
        scale = self.dtype(1 / batch_weight(self.weights, self.order[self.at :]))

        @kernel
        def run(work, parameters):
            buffers = layout.Buffers(parameters, self.buffers.moments, work, self.buffers.row_loss)
            function(
                cuda.blockIdx.x, 1, self.n_rows, self.plan, buffers, self.constants, targets, self.order, self.at, scale
            )  # fmt: skip

        run[-(-self.n // WIDTH), self.n_groups * WIDTH](self.work, self.parameters)

    def twin_statistics(self):
        """Mean, inverse deviation and running statistics, in blocks of rows as the CPU has them."""
        n, width, m = self.n, self.width, self.n_rows
        count = layout.block_count(m)
        starts, offsets, squares = (np.empty(count * width, self.dtype) for _ in range(3))
        sizes, order = np.zeros(count * layout.GROUP if self.weights.size else 0, self.dtype), self.order[self.at :]
        X = self.rows(self.input)
        for k in range(count):
            lo, hi = twin.block_start(k, m), twin.block_start(k + 1, m)
            parts = (array[k * width :] for array in (starts, offsets, squares))
            here = np.ascontiguousarray(X[lo:hi]).reshape(-1)
            if sizes.size:
                weighted_block_statistics(*parts, here, n, self.weights, order[lo:], hi - lo, n)
                sizes[k * layout.GROUP :][:2] = weight_of_rows(self.weights, order[lo:], hi - lo)[:2]
            else:
                twin.block_statistics(*parts, here, n, hi - lo, n)
        mean, inverse = np.empty(n, self.dtype), np.empty(n, self.dtype)
        running = self.parameters[2 * width : 3 * width].copy(), self.parameters[3 * width :].copy()
        given, momentum = (mean, inverse, *running, starts, offsets, squares, width), self.dtype(self.momentum)
        if sizes.size:
            weighted_batch_statistics(*given, sizes, count, n, EPSILON, momentum)
        else:
            twin.batch_statistics(*given, m, n, EPSILON, momentum)
        return mean, inverse, *running

    def twin_outputs(self, mean, inverse):
        """Y and the slopes."""
        n, m, width = self.n, self.n_rows, self.width
        X, Y = np.ascontiguousarray(self.rows(self.input)).reshape(-1), np.empty(m * n, self.dtype)
        last, gamma, beta = len(self.plan.table) == 2, self.parameters[:width], self.parameters[width:]
        floor = 0.0 if self.code == layout.RELU and not last else -np.inf
        twin.batch_norm_forward(Y, n, X, n, mean, inverse, gamma, beta, floor, m, n)
        S = np.full(m * n, SENTINEL, self.dtype)
        if not last:
            rectifier_forward_slope(Y, S, self.code)
        return Y.reshape(m, n), S.reshape(m, n)

    def close(self, got, want):
        size = np.abs(np.where(np.isfinite(want), want, 0)).max(initial=1)
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[self.dtype] * size)


def check_forward(net, moves_running=True):
    """Outputs, statistics and running statistics; everything else stays."""
    mean, inverse, running_mean, running_variance = net.twin_statistics()
    (Y, S), width, n = net.twin_outputs(mean, inverse), net.width, net.n
    work, parameters = net.work.copy(), net.parameters.copy()
    net.launch(0, moves_running)
    net.close(net.rows(net.Y), Y)
    net.close(net.rows(net.slope), S)
    net.close(net.statistic(0), mean)
    np.testing.assert_allclose(net.statistic(1), inverse, rtol=20 * TOLERANCE[net.dtype])
    if moves_running:
        net.close(net.parameters[2 * width :][:n], running_mean[:n])
        net.close(net.parameters[3 * width :][:n], running_variance[:n])
        parameters[2 * width :][:n] = net.parameters[2 * width :][:n]
        parameters[3 * width :][:n] = net.parameters[3 * width :][:n]
    np.testing.assert_array_equal(net.parameters, parameters)
    after, net.work = net.work, work
    for start in (net.Y, net.slope):
        net.rows(start)[:] = after[start : start + net.n_rows * net.ld].reshape(net.n_rows, -1)[:, :n]
    for which in (0, 1):
        net.statistic(which)[:] = after[net.stats + which * width :][:n]
    np.testing.assert_array_equal(after, work)


@each_dtype
@each_size
@each_block
@pytest.mark.parametrize("n_rows", [1, 2, 13])
def test_batch_norm_forward(dtype, n, n_groups, n_rows):
    check_forward(Network(dtype, n, n_rows, n_groups=n_groups))


@each_dtype
@pytest.mark.parametrize("activation", ["identity", "relu", "gelu", "mish"])
@pytest.mark.parametrize("last", [False, True])
def test_batch_norm_applies_its_activation_unless_it_is_the_last_operation(dtype, activation, last):
    check_forward(Network(dtype, 6, 7, activation=activation, last=last))


@each_dtype
def test_batch_norm_of_the_rows_of_x(dtype):
    check_forward(Network(dtype, 6, 7, reads_X=True))


def test_running_statistics_stay_for_a_gradient_and_without_momentum():
    check_forward(Network(np.float64, 6, 7), moves_running=False)
    net = Network(np.float64, 6, 7, momentum=0.0)
    before = net.parameters.copy()
    check_forward(net)
    np.testing.assert_array_equal(net.parameters, before)


def test_a_large_mean_costs_no_digits():
    net = Network(np.float32, 6, 13, activation="identity", shift=1e5)
    check_forward(net)
    deviation = net.rows(net.X).astype(float).std(axis=0)
    np.testing.assert_allclose(net.statistic(1), 1 / np.sqrt(deviation**2 + EPSILON), rtol=1e-4)


def test_columns_that_are_not_finite_keep_to_themselves():
    net = Network(np.float32, 6, 7, activation="identity")
    net.rows(net.X)[3, 1], net.rows(net.X)[0, 4] = np.nan, np.inf
    check_forward(net)
    assert np.isnan(net.rows(net.Y)).any(axis=0).tolist() == [False, True, False, False, True, False]


def check_backward(net):
    """Sums of deltas and what is handed on; everything else stays."""
    net.launch(0)
    m, n, dtype, adds = net.n_rows, net.n, net.dtype, net.adds
    mean, inverse, before = net.statistic(0).copy(), net.statistic(1).copy(), net.work.copy()
    X, D, dX = (
        np.ascontiguousarray(net.rows(start)).reshape(-1) for start in (net.X, net.deltas + m * net.ld, net.deltas)
    )
    d_beta, d_gamma = np.empty(n, dtype), np.empty(n, dtype)
    twin.block_sums(d_beta, d_gamma, D, n, X, n, mean, inverse, m, n)
    if adds:
        order = net.order[net.at :]
        scale, more = dtype(1 / batch_weight(net.weights, order)), bool(adds & layout.ADDS_TO_INPUT)
        means = d_beta * scale, d_gamma * scale
        given = dX, n, D, n, X, n, mean, inverse, net.parameters, *means
        if net.weights.size:
            weighted_batch_norm_backward(*given, net.weights, order, m, n, more)
        else:
            twin.batch_norm_backward(*given, m, n, more)
    net.launch(1)
    net.close(net.statistic(2), d_beta)
    net.close(net.statistic(3), d_gamma)
    net.close(net.rows(net.deltas), dX.reshape(m, n))
    after, net.work = net.work, before
    net.rows(net.deltas)[:] = after[net.deltas : net.deltas + m * net.ld].reshape(m, -1)[:, :n]
    for which in (2, 3):
        net.statistic(which)[:] = after[net.stats + which * net.width :][:n]
    np.testing.assert_array_equal(after, before)


@each_dtype
@each_size
@each_block
@pytest.mark.parametrize("n_rows", [1, 13])
@pytest.mark.parametrize("adds", [0, layout.INPUT_ASKS, layout.INPUT_ASKS | layout.ADDS_TO_INPUT])
def test_batch_norm_backward(dtype, n, n_groups, n_rows, adds):
    check_backward(Network(dtype, n, n_rows, adds=adds, n_groups=n_groups))


def test_sums_are_left_though_nobody_asks_for_the_input():
    net = Network(np.float64, 6, 7, reads_X=True)
    net.launch(0)
    net.launch(1)
    D = net.rows(net.deltas + 7 * net.ld)
    net.close(net.statistic(2), D.sum(axis=0))
    assert (net.statistic(3) != SENTINEL).all()
