"""Initial weights: their spread, orthogonality, and what a function of the user's own may return."""

import numpy as np
import pytest

import fastbp
from fastbp.initializers import INITIALIZERS, Constant

FAN_IN, FAN_OUT = 300, 200
VARIANCE = {"he": 2 / FAN_IN, "lecun": 1 / FAN_IN, "glorot": 2 / (FAN_IN + FAN_OUT), "scikit": 2 / (FAN_IN + FAN_OUT)}
RANDOM = [name for name in INITIALIZERS if name not in ("orthogonal", "zeros")]


def drawn(initializer, bias_initializer=None, *, fan_in=FAN_IN, fan_out=FAN_OUT, activation="relu", dtype="float64"):
    """W and b of a layer."""
    layer = fastbp.Dense(fan_out, activation, initializer, bias_initializer)
    return fastbp.Sequential([layer], n_features=fan_in, random_state=0, dtype=dtype).get_weights()


@pytest.mark.parametrize("name", RANDOM)
def test_initial_weights_have_the_spread_of_their_formula(name):
    W, b = drawn(name)
    wanted = VARIANCE[name.split("_")[0]]
    assert abs(W.mean()) < 4 * np.sqrt(wanted / W.size)
    np.testing.assert_allclose(W.var(), wanted, rtol=0.03)
    if name.endswith("normal"):
        assert np.abs(W).max() > 3.5 * np.sqrt(wanted)
    else:
        assert 0.99 < np.abs(W).max() / np.sqrt(3 * wanted) <= 1
    assert (np.abs(b).max() > 0) == (name == "scikit_learn")


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("fan_in", "fan_out"), [(5, 3), (3, 5), (4, 4), (1, 7), (7, 1)])
def test_shapes_and_dtypes(fan_in, fan_out, dtype, name):
    W, b = drawn(name, fan_in=fan_in, fan_out=fan_out, dtype=dtype)
    assert (W.shape, b.shape) == ((fan_in, fan_out), (fan_out,))
    assert W.dtype == b.dtype == np.dtype(dtype) and W.flags.c_contiguous


def test_logistic_units_start_smaller_as_in_scikit_learn():
    wide, narrow = (drawn("scikit_learn", activation=f)[0] for f in ("tanh", "logistic"))
    np.testing.assert_allclose(wide, narrow * np.sqrt(3), rtol=1e-6)


@pytest.mark.parametrize("name", RANDOM)
def test_each_draws_as_before(name):
    """The formulas, written out: a network keeps its weights from one version to the next."""
    rng = np.random.RandomState(0)
    spread = np.sqrt(VARIANCE[name.split("_")[0]])
    if name.endswith("normal"):
        W = rng.normal(0, spread, (FAN_IN, FAN_OUT))
    else:
        W = rng.uniform(-np.sqrt(3) * spread, np.sqrt(3) * spread, (FAN_IN, FAN_OUT))
    b = rng.uniform(-np.sqrt(3) * spread, np.sqrt(3) * spread, FAN_OUT) if name == "scikit_learn" else np.zeros(FAN_OUT)
    for got, want in zip(drawn(name), (W, b), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-16)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(50, 20), (20, 50), (30, 30), (1, 9), (9, 1)])
def test_orthogonal(fan_in, fan_out):
    W, b = drawn("orthogonal", fan_in=fan_in, fan_out=fan_out)
    square = W.T @ W if fan_in >= fan_out else W @ W.T
    np.testing.assert_allclose(square, np.eye(min(fan_in, fan_out)), atol=1e-14)
    assert (b == 0).all()


def test_orthogonal_matrices_are_drawn_without_preference():
    """By the signs of LAPACK alone, an element of the diagonal would be negative far more often than not."""
    rng = np.random.RandomState(0)
    diagonals = np.array([np.diag(INITIALIZERS["orthogonal"](rng, 3, 3, "relu")[0]) for _ in range(2000)])
    np.testing.assert_allclose(diagonals.mean(axis=0), 0, atol=4 * np.sqrt(1 / 3 / 2000))
    np.testing.assert_allclose((diagonals**2).mean(axis=0), 1 / 3, atol=0.03)


def test_zeros_and_constants():
    for W, b in (drawn("zeros"), drawn(Constant(0)), drawn("zeros", "zeros")):
        assert (W == 0).all() and (b == 0).all()
    W, b = drawn(Constant(0.25), Constant(-2))
    assert (W == 0.25).all() and (b == -2).all()
    W, b = drawn("scikit_learn", Constant(1.5))
    np.testing.assert_array_equal(W, drawn("scikit_learn")[0])
    assert (b == 1.5).all()
    assert (drawn("scikit_learn", "zeros")[1] == 0).all()
    assert Constant(1) == Constant(1.0) and hash(Constant(1)) == hash(Constant(1.0))


def test_a_bias_of_its_own_changes_no_draw():
    layers = [fastbp.Dense(4, bias_initializer=Constant(3)), fastbp.Dense(2)]
    plain = [fastbp.Dense(4), fastbp.Dense(2)]
    ours, theirs = (fastbp.Sequential(each, n_features=3, random_state=1).get_weights() for each in (layers, plain))
    for k in (0, 2, 3):
        np.testing.assert_array_equal(ours[k], theirs[k])
    assert (ours[1] == 3).all() and (theirs[1] == 0).all()


def test_a_function_of_the_user():
    def ramp(rng, fan_in, fan_out, activation):
        assert isinstance(rng, np.random.RandomState) and activation == "tanh"
        return np.arange(fan_in * fan_out).reshape(fan_in, fan_out).tolist(), np.ones(fan_out)

    W, b = drawn(ramp, fan_in=3, fan_out=2, activation="tanh", dtype="float32")
    np.testing.assert_array_equal(W, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(b, [1, 1])
    assert W.dtype == b.dtype == np.float32


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (None, TypeError, "must return W and b, got None"),
        ((np.ones((3, 2)),), TypeError, "must return W and b, got"),
        ((np.ones((2, 3)), np.ones(2)), ValueError, r"W must have the shape \(3, 2\), got \(2, 3\)"),
        ((np.ones((3, 2)), np.ones((1, 2))), ValueError, r"b must have the shape \(2,\), got \(1, 2\)"),
        ((np.full((3, 2), np.nan), np.ones(2)), ValueError, "W must be finite in float32, got NaN or infinity"),
        ((np.full((3, 2), 1e300), np.ones(2)), ValueError, "W must be finite in float32, got NaN or infinity"),
        ((np.full((3, 2), "a"), np.ones(2)), TypeError, "W must be an array of numbers: it must hold real numbers"),
        ((np.ones((3, 2)), [[1], [2, 3]]), ValueError, "b is not usable: its rows have different lengths, from 1 to 2"),
    ],
)
def test_what_a_function_may_not_return(result, error, message):
    with pytest.raises(error, match=f"initializer <function .*: .*{message}|initializer .* {message}"):
        drawn(lambda *arguments: result, fan_in=3, fan_out=2, dtype="float32")


@pytest.mark.parametrize(
    ("value", "error"), [("1", TypeError), (None, TypeError), (np.inf, ValueError), (-np.inf, ValueError),
                         (np.nan, ValueError), (True, TypeError)],
)  # fmt: skip
def test_a_constant_is_a_finite_number(value, error):
    with pytest.raises(error, match="value must be a number"):
        Constant(value)
