"""The loss of a network on a GPU, in the simulator, against the twin's: any loss behind any link."""

import numpy as np
import pytest
from _cuda_losses import CONVENTIONS, DTYPES, N_SAMPLES, OUTPUT, SENTINEL, TOLERANCE, Case, M, assert_same, case_of

from fastbp.kernels import layout
from fastbp.kernels.cuda import _simulator, loss_rows
from fastbp.kernels.cuda._target import WIDTH, cuda, kernel
from fastbp.kernels.layout import PYTORCH
from fastbp.kernels.reference import rectifiers as twin_rectifiers
from fastbp.kernels.reference import step as twin_step

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)


@pytest.fixture(autouse=True, params=[1, -1], ids=["forth", "back"])
def turns(request, monkeypatch):
    """Which thread of a block runs first."""
    monkeypatch.setattr(_simulator, "TURNS", [request.param])


class Last:
    """The last operation of a network: what ``loss_backward`` of the twins reads, and one array for it and for ours."""

    def __init__(self, case, loss, link, convention=PYTORCH, soft=False):
        size = M * case.ld
        self.case, self.spec = case, (loss, convention, soft, len(case.blocks) > 0, link)
        header, table = np.zeros(layout.HEADER_SIZE, np.int64), np.zeros((1, layout.TABLE_SIZE), np.int64)
        header[layout.N_LAYERS], header[layout.DELTAS] = 1, size
        header[[layout.LOSS, layout.LOSS_CONVENTION, layout.SOFT_TARGETS, layout.N_BLOCKS]] = self.spec[:4]
        row = table[0]
        row[[layout.FAN_OUT, layout.OUT, layout.OUT_LD]] = case.n, 16, case.ld
        row[[layout.ACTIVATION, layout.SLOPE]] = link, 16 + 2 * size
        self.z, self.d, self.slope = 16, 16 + size, 16 + 2 * size
        self.plan = layout.Plan(header, table, *[np.zeros(0, np.int64)] * 4)
        given = case.labels, case.values.reshape(-1), case.weights, case.blocks, case.coefficients
        self.targets = layout.Targets(*given)

    def work(self):
        """With zeros as padding, as in a session."""
        work = np.zeros(16 + 3 * M * self.case.ld, self.case.dtype)
        self.rows(work, self.z)[:] = self.case.Z
        self.rows(work, self.d)[:] = SENTINEL
        return work

    def rows(self, work, start):
        case = self.case
        return work[start : start + M * case.ld].reshape(M, case.ld)[:, : case.n]

    def ours(self):
        case, work, row_loss = self.case, self.work(), np.empty((M, WIDTH))
        loss_backward = loss_rows.loss_of(*self.spec, frozenset({self.spec[-1]}), case.dtype)

        @kernel
        def launch(work, row_loss):
            i, lane = cuda.blockIdx.x, cuda.threadIdx.x
            z, d, slope = self.z + i * case.ld, self.d + i * case.ld, self.slope + i * case.ld
            row_loss[i, lane] = loss_backward(lane, work, z, d, slope, case.n, self.targets, case.index[i], case.scale)

        launch[M, WIDTH](work, row_loss)
        assert (row_loss == row_loss[:, :1]).all()
        return row_loss[:, 0], work

    def twin(self):
        work, row_loss = self.work(), np.empty(M)
        buffers = layout.Buffers(np.zeros(0), np.zeros(0), work, row_loss)
        twin_step.loss_backward(0, 0, M, self.case.scale, self.plan, buffers, self.targets, self.case.index)
        return row_loss, work

    def check(self):
        (loss, work), (twin_loss, twin_work) = self.ours(), self.twin()
        got, want = (loss, self.rows(work, self.d)), (twin_loss, self.rows(twin_work, self.d))
        assert_same(self.case, got, want, 1e-3)
        for start in (self.z, self.d, self.slope):
            padding = work[start : start + M * self.case.ld].reshape(M, -1)[:, self.case.n :]
            assert (padding == 0).all()
        return work, twin_work


@each_dtype
@each_convention
def test_softmax_loss_of_all_kinds_of_targets(dtype, convention):
    loss, blocks = layout.SOFTMAX_CROSS_ENTROPY, (3, 4, 2)
    Last(Case(dtype, 9).with_labels(), loss, layout.SOFTMAX, convention).check()
    Last(Case(dtype, 9).with_labels(blocks), loss, layout.SOFTMAX, convention).check()
    Last(Case(dtype, 9).with_chances(), loss, layout.SOFTMAX, convention, True).check()
    Last(Case(dtype, 9).with_chances().in_blocks(blocks), loss, layout.SOFTMAX, convention, True).check()
    for case in (Case(dtype, 9).with_labels().smoothed(), Case(dtype, 9).with_labels(blocks).smoothed()):
        Last(case, loss, layout.SOFTMAX, convention, True).check()
        # without blocks these are the loss's weights, which are not the mean's; with them nobody reads them
        case.values = case.rng.uniform(0.5, 2, N_SAMPLES).astype(dtype)
        Last(case, loss, layout.SOFTMAX, convention, True).check()


@each_dtype
@each_convention
def test_sigmoid_and_poisson_losses(dtype, convention):
    case = Case(dtype, 6)
    case.values = case.rng.uniform(size=case.values.shape).astype(dtype)
    Last(case, layout.SIGMOID_CROSS_ENTROPY, layout.LOGISTIC, convention).check()
    Last(case.smoothed(), layout.SIGMOID_CROSS_ENTROPY, layout.LOGISTIC, convention, True).check()
    Last(Case(dtype, 6, size=1.0).with_counts(), layout.POISSON, layout.EXP, convention).check()


@each_dtype
@pytest.mark.parametrize("n", [1, 6, 17])
def test_without_weights(dtype, n):
    for case, loss, link in (
        (Case(dtype, n).with_labels(), layout.SOFTMAX_CROSS_ENTROPY, layout.SOFTMAX),
        (Case(dtype, n), layout.MEAN_SQUARED_ERROR, layout.IDENTITY),
    ):
        case.weights, case.scale = np.zeros(0, dtype), dtype(1 / M)
        Last(case, loss, link).check()


@each_dtype
@pytest.mark.parametrize("link", layout.ACTIVATIONS)
def test_losses_of_outputs_behind_every_link(dtype, link):
    code = layout.ACTIVATIONS[link]
    last = Last(case_of("squared_error", dtype, 6), layout.HALF_SQUARED_ERROR, code)
    if link == "relu":  # which the twin's product has applied
        last.case.Z = np.maximum(last.case.Z, 0)
    work, twin_work = last.check()
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(last.rows(work, last.z), last.rows(twin_work, last.z), rtol=bound, atol=bound)
    np.testing.assert_allclose(last.rows(work, last.slope), last.rows(twin_work, last.slope), rtol=bound, atol=bound)
    assert (last.rows(work, last.slope) != 0).any() == (code in layout.BY_SLOPE.values())


@each_dtype
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("absolute_error", "tanh"),
        ("huber", "identity"),
        ("quantile", "softplus"),
        ("log_cosh", "silu"),
        ("output_cross_entropy", "softmax"),
        ("output_poisson", "exp"),
    ],
)
def test_losses_of_outputs_in_a_network(dtype, name, link):
    case = case_of(name, dtype, 6)
    Last(case, OUTPUT[name], layout.ACTIVATIONS[link]).check()


def test_a_relu_of_negative_outputs_is_applied_by_the_loss():
    last = Last(case_of("squared_error", np.float64, 6), layout.MEAN_SQUARED_ERROR, layout.RELU)
    _, work = last.ours()
    np.testing.assert_array_equal(last.rows(work, last.z), np.maximum(last.case.Z, 0))
    assert (last.rows(work, last.d)[last.case.Z < 0] == 0).all()


@each_dtype
@pytest.mark.parametrize("link", layout.ACTIVATIONS)
def test_the_link_of_predictions(dtype, link):
    case, code = Case(dtype, 6), layout.ACTIVATIONS[link]
    last = Last(case, layout.HALF_SQUARED_ERROR, code)
    last_forward, work, want = loss_rows.link_of(code, frozenset({code}), dtype), last.work(), last.work()
    before = work.copy()

    @kernel
    def launch(work):
        last_forward(cuda.threadIdx.x, work, last.z + cuda.blockIdx.x * case.ld, case.n)

    launch[M, WIDTH](work)
    Z = last.rows(want, last.z)
    if link == "relu":
        Z[:] = np.maximum(Z, 0)
    A = want[last.z : last.z + M * case.ld]
    buffers = layout.Buffers(np.zeros(0), np.zeros(0), want, np.zeros(0))
    twin_rectifiers.last_forward(A, M, last.plan.table[0], 0, last.plan, buffers, None)
    np.testing.assert_allclose(last.rows(work, last.z), Z, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    last.rows(before, last.z)[:] = last.rows(work, last.z)
    np.testing.assert_array_equal(work, before)  # nothing else is written, not even slopes
