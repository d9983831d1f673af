"""Losses on a GPU, in the simulator, against their twins: one group of threads a row."""

import numpy as np
import pytest
from _cuda_losses import (
    CONVENTIONS,
    DTYPES,
    NUMBERED,
    OUTPUT,
    ROBUST,
    TOLERANCE,
    Case,
    M,
    assert_same,
    by_rows,
    by_twin,
    case_of,
)

from fastbp.kernels.cuda import _simulator, losses, output_losses, robust_losses, soft_targets
from fastbp.kernels.layout import PYTORCH, SCIKIT_LEARN
from fastbp.kernels.reference import losses as twin_losses
from fastbp.kernels.reference import output_losses as twin_output_losses
from fastbp.kernels.reference import robust_losses as twin_robust_losses
from fastbp.kernels.reference import soft_targets as twin_soft_targets

SIZES = (1, 4, 10, 17)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_convention = pytest.mark.parametrize("convention", CONVENTIONS)


@pytest.fixture(autouse=True, params=[1, -1], ids=["forth", "back"])
def turns(request, monkeypatch):
    """Which thread of a block runs first."""
    monkeypatch.setattr(_simulator, "TURNS", [request.param])


# ---------------------------------------------------------------------------------------------------------------------
# Losses of logits


def softmax_both(case, convention):
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: losses.softmax_cross_entropy(
            lane, D, d, Z, z, case.n, case.labels[r], factor, convention
        ),
    )
    return got, by_twin(case, twin_losses.softmax_cross_entropy, case.labels, rest=(M, case.n, convention))


def blocks_both(case, convention):
    n_blocks = len(case.blocks) - 1
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: losses.block_softmax_cross_entropy(
            lane, D, d, Z, z, case.labels, r * n_blocks, case.blocks, factor, convention
        ),
    )
    twin = twin_losses.block_softmax_cross_entropy
    return got, by_twin(case, twin, case.labels, case.blocks, rest=(M, convention))


def sigmoid_both(case, convention):
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: losses.sigmoid_cross_entropy(
            lane, D, d, Z, z, case.values.reshape(-1), at, case.n, factor, convention
        ),
    )
    twin = twin_losses.sigmoid_cross_entropy
    return got, by_twin(case, twin, case.values.reshape(-1), rest=(M, case.n, convention))


def poisson_both(case):
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: losses.poisson(
            lane, D, d, Z, z, case.values.reshape(-1), at, case.n, factor
        ),
    )
    return got, by_twin(case, twin_losses.poisson, case.values.reshape(-1), rest=(M, case.n))


@each_dtype
@each_convention
@pytest.mark.parametrize("n", SIZES)
def test_softmax_cross_entropy(dtype, convention, n):
    case = Case(dtype, n, n).with_labels()
    assert_same(case, *softmax_both(case, convention))


@each_dtype
@each_convention
@pytest.mark.parametrize("blocks", [(2, 5, 1), (9,)])
def test_block_softmax_cross_entropy(dtype, convention, blocks):
    case = Case(dtype, sum(blocks)).with_labels(blocks)
    assert_same(case, *blocks_both(case, convention))


@each_dtype
@each_convention
@pytest.mark.parametrize("n", [1, 6, 17])
def test_sigmoid_cross_entropy(dtype, convention, n):
    case = Case(dtype, n, size=4.0)
    case.values = case.rng.uniform(size=case.values.shape).astype(dtype)
    assert_same(case, *sigmoid_both(case, convention))


@each_dtype
@pytest.mark.parametrize("n", [1, 6, 17])
def test_poisson(dtype, n):
    case = Case(dtype, n, size=1.0).with_counts()
    assert_same(case, *poisson_both(case))


@each_dtype
@each_convention
def test_logits_far_from_each_other(dtype, convention):
    case = Case(dtype, 9, size=300.0).with_labels()
    assert_same(case, *softmax_both(case, convention))
    case = Case(dtype, 9, size=300.0).with_labels((4, 5))
    assert_same(case, *blocks_both(case, convention))
    case = Case(dtype, 9, size=300.0)
    case.values = np.where(case.values > 0, dtype(1), dtype(0))
    assert_same(case, *sigmoid_both(case, convention))


@each_convention
def test_logits_that_are_not_finite(convention):
    case = Case(np.float32, 6).with_labels()
    case.Z[0, 4], case.Z[1, 2], case.Z[2, (case.labels[case.index[2]] + 1) % 6] = np.nan, np.inf, -np.inf
    case.Z[3] = -np.inf
    got, want = softmax_both(case, convention)
    assert_same(case, got, want)
    assert np.isnan(got[0]).tolist() == [True, True, False, True]
    assert got[1][2, (case.labels[case.index[2]] + 1) % 6] == 0
    case = Case(np.float32, 6)
    case.values = np.full_like(case.values, 0.5)
    case.Z[0, 4], case.Z[1, 2] = np.nan, np.inf
    assert_same(case, *sigmoid_both(case, convention))
    case.Z[2, 3] = -np.inf
    case.values[case.index[2], 3] = 0
    assert_same(case, *poisson_both(case))


# ---------------------------------------------------------------------------------------------------------------------
# Soft targets


def soft_both(case, convention):
    values = case.values.reshape(-1)
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: soft_targets.soft_cross_entropy(
            lane, D, d, Z, z, case.labels, values, case.coefficients, r, case.n, factor, convention
        ),
    )
    twin, rest = twin_soft_targets.soft_cross_entropy, (M, case.n, convention)
    return got, by_twin(case, twin, case.labels, values, case.coefficients, rest=rest)


def soft_blocks_both(case, convention):
    values = case.values.reshape(-1)
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: soft_targets.block_soft_cross_entropy(
            lane, D, d, Z, z, case.labels, values, case.blocks, case.coefficients, r, factor, convention
        ),
    )
    twin, targets = twin_soft_targets.block_soft_cross_entropy, (case.labels, values, case.blocks, case.coefficients)
    return got, by_twin(case, twin, *targets, rest=(M, convention))


def soft_sigmoid_both(case, convention):
    values = case.values.reshape(-1)
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: soft_targets.soft_sigmoid_cross_entropy(
            lane, D, d, Z, z, values, at, case.coefficients, case.n, factor, convention
        ),
    )
    twin, rest = twin_soft_targets.soft_sigmoid_cross_entropy, (M, case.n, convention)
    return got, by_twin(case, twin, values, case.coefficients, rest=rest)


@each_dtype
@each_convention
@pytest.mark.parametrize("n", [2, 4, 17])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_cross_entropy(dtype, convention, n, smoothing):
    case = Case(dtype, n).with_chances(smoothing)
    assert_same(case, *soft_both(case, convention))
    case = Case(dtype, n).with_labels().smoothed(smoothing)
    assert_same(case, *soft_both(case, convention))


@each_dtype
@each_convention
def test_block_soft_cross_entropy(dtype, convention):
    case = Case(dtype, 8).with_chances().in_blocks((2, 5, 1))
    assert_same(case, *soft_blocks_both(case, convention))
    case = Case(dtype, 8).with_labels((2, 5, 1)).smoothed()
    assert_same(case, *soft_blocks_both(case, convention))


@each_dtype
@each_convention
@pytest.mark.parametrize("n", [1, 6, 17])
def test_soft_sigmoid_cross_entropy(dtype, convention, n):
    case = Case(dtype, n, size=4.0).smoothed()
    case.values = case.rng.uniform(size=case.values.shape).astype(dtype)
    assert_same(case, *soft_sigmoid_both(case, convention))


@each_convention
def test_soft_targets_of_0_at_an_impossible_class(convention):
    case = Case(np.float64, 5).with_chances(0.0)
    case.Z[0, 3] = -np.inf
    case.values[case.index[0], 3] = 0
    case.Z[1, 2] = np.nan
    got, want = soft_both(case, convention)
    assert_same(case, got, want)
    assert np.isnan(got[0]).tolist() == [False, True, False, False]
    case = Case(np.float64, 5).with_labels().smoothed(0.0)
    case.labels[case.index[0]], case.Z[0, 3] = 1, -np.inf
    assert np.isfinite(soft_both(case, convention)[0][0]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Losses of outputs


def output_both(name, case, convention=PYTORCH):
    """By ``output_loss``; the twin by its own name, which is held against ``output_loss`` elsewhere."""
    values, code = case.values.reshape(-1), OUTPUT[name]
    got = by_rows(
        case,
        lambda lane, D, d, Z, z, r, at, factor: output_losses.output_loss(
            lane, D, d, Z, z, values, at, case.coefficients, case.n, factor, code, convention
        ),
    )
    targets, rest = [values], [M, case.n]
    if name in NUMBERED:
        targets.append(case.coefficients)
    if name.endswith("squared_error"):
        name, rest = "squared_error", [*rest, code, convention]
    modules = (twin_losses, twin_output_losses, twin_robust_losses)
    twin = next(getattr(module, name) for module in modules if name in module.__dict__)
    return got, by_twin(case, twin, *targets, rest=rest)


@each_dtype
@pytest.mark.parametrize("n", [1, 6, 17])
@pytest.mark.parametrize("name", OUTPUT)
def test_losses_of_outputs(dtype, n, name):
    case = case_of(name, dtype, n)
    assert_same(case, *output_both(name, case))


@each_dtype
@pytest.mark.parametrize("name", ["squared_error", "half_squared_error"])
def test_squared_error_as_scikit_learn_reports_it(dtype, name):
    case = case_of(name, dtype, 5)
    assert_same(case, *output_both(name, case, SCIKIT_LEARN))


@each_dtype
@pytest.mark.parametrize("name", ROBUST)
def test_kinks_and_what_is_not_finite(dtype, name):
    case = case_of(name, dtype, 6)
    case.Z[0, 1] = case.values[case.index[0], 1]
    case.Z[1, 2], case.Z[2, 5], case.Z[3, 0] = np.nan, np.inf, -np.inf
    got, want = output_both(name, case)
    assert_same(case, got, want)
    assert got[1][0, 1] == 0
    assert np.isnan(got[0][1])
    assert np.isinf(got[0][2:]).all()


@each_dtype
@pytest.mark.parametrize("size", [1e-6, 1e-2, 1.0, 30.0])
def test_ln_cosh_of_small_and_of_large_differences(dtype, size):
    case = case_of("log_cosh", dtype, 8)
    case.values[:] = 0
    case.Z = (case.Z * size).astype(dtype)
    got, want = output_both("log_cosh", case)
    np.testing.assert_allclose(got[0], want[0], rtol=4 * TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize("name", ["output_cross_entropy", "output_poisson"])
def test_outputs_at_the_edge_of_what_is_possible(dtype, name):
    case = case_of(name, dtype, 4)
    case.Z[0], case.Z[1] = [0, 1, np.finfo(dtype).tiny, 1 - np.finfo(dtype).eps / 2], [-0.1, 1e-12, 0.5, np.nan]
    got, want = output_both(name, case)
    assert_same(case, got, want)
    assert np.isfinite(got[1][0]).all()
    assert np.isnan(got[0]).tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ROBUST)
def test_robust_loss_names_the_loss(name):
    case = case_of(name, np.float64, 3)
    values, own = case.values.reshape(-1), getattr(robust_losses, name)
    numbers = [case.coefficients] if name in NUMBERED else []
    got = by_rows(
        case, lambda lane, D, d, Z, z, r, at, factor: own(lane, D, d, Z, z, values, at, *numbers, case.n, factor)
    )
    assert_same(case, got, output_both(name, case)[1])
