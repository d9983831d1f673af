"""Sequential and Dense: shapes, initial weights, weights in and out, predictions."""

import numpy as np
import pytest
from scipy import special

import fastbp
from fastbp.initializers import Constant
from fastbp.layers import ACTIVATIONS


def small(last="identity", dtype="float32", random_state=0):
    layers = [fastbp.Dense(7, "tanh"), fastbp.Dense(5, "relu"), fastbp.Dense(3, last)]
    return fastbp.Sequential(layers, n_features=4, random_state=random_state, dtype=dtype)


def forward(weights, X, activations):
    """Outputs by NumPy."""
    functions = {
        "identity": lambda Z: Z,
        "relu": lambda Z: np.maximum(Z, 0),
        "tanh": np.tanh,
        "logistic": lambda Z: 1 / (1 + np.exp(-Z)),
        "exp": np.exp,
        "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
        "elu": lambda Z: np.where(Z > 0, Z, np.expm1(Z)),
        "selu": lambda Z: 1.0507009873554805 * np.where(Z > 0, Z, 1.6732632423543772 * np.expm1(Z)),
        "gelu": lambda Z: Z * special.ndtr(Z),
        "gelu_tanh": lambda Z: Z / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (Z + 0.044715 * Z**3))),
        "silu": lambda Z: Z * special.expit(Z),
        "mish": lambda Z: Z * np.tanh(np.log1p(np.exp(Z))),
        "softplus": lambda Z: np.log1p(np.exp(Z)),
        "softmax": lambda Z: np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True),
    }
    for W, b, activation in zip(weights[::2], weights[1::2], activations, strict=True):
        X = functions[activation](X @ W + b)
    return X


def test_shapes_and_dtype():
    for dtype in ("float32", np.float64):
        model = small(dtype=dtype)
        weights = model.get_weights()
        assert [w.shape for w in weights] == [(4, 7), (7,), (7, 5), (5,), (5, 3), (3,)]
        assert all(w.dtype == np.dtype(dtype) for w in weights)
        assert (model.n_features, model.n_outputs, model.dtype) == (4, 3, np.dtype(dtype))
        assert model.predict(np.zeros((2, 4))).dtype == np.dtype(dtype)


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("last", ACTIVATIONS)
def test_predictions_are_those_of_the_formulas(last, backend):
    model, X = small(last, "float64"), np.random.default_rng(0).normal(size=(19, 4))
    weights = model.get_weights()
    got = model.predict(X, backend=backend)
    np.testing.assert_allclose(got, forward(weights, X, ["tanh", "relu", last]), rtol=1e-12, atol=1e-14)
    raw = model.predict(X, raw=True, backend=backend)
    np.testing.assert_allclose(raw, forward(weights, X, ["tanh", "relu", "identity"]), rtol=1e-12, atol=1e-14)


def test_predictions_do_not_depend_on_threads_or_on_the_rows_beside():
    model, X = small(dtype="float32"), np.random.default_rng(0).normal(size=(1500, 4)).astype(np.float32)
    whole = model.predict(X)
    np.testing.assert_array_equal(model.predict(X, n_threads=1), whole)
    np.testing.assert_array_equal(np.concatenate([model.predict(X[i : i + 7]) for i in range(0, 1500, 7)]), whole)


@pytest.mark.parametrize("shape", [(1, 4), (257, 4)])
def test_any_layout_of_X_will_do(shape):
    model, X = small(), np.random.default_rng(0).normal(size=shape).astype(np.float32)
    want = model.predict(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    odd = np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(shape)  # not aligned
    for other in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], frozen, X.tolist(), odd):
        np.testing.assert_array_equal(model.predict(other), want)


def test_sigmoid_and_logistic_are_one():
    assert fastbp.Dense(3, "sigmoid") == fastbp.Dense(3, "logistic")
    assert fastbp.Dense(3, None) == fastbp.Dense(3, "linear") == fastbp.Dense(3)


def test_layers_are_frozen():
    with pytest.raises(AttributeError):
        fastbp.Dense(3).units = 4


def test_random_state_decides_the_weights():
    first, again, other = (small(random_state=seed).get_weights() for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or (a != c).any()
    rng = np.random.RandomState(0)
    one, two = small(random_state=rng).get_weights(), small(random_state=rng).get_weights()
    np.testing.assert_array_equal(one[0], first[0])
    assert (one[0] != two[0]).any()


def test_weights_go_in_and_out_as_copies():
    model = small()
    weights = model.get_weights()
    weights[0][:] = 7
    assert (model.get_weights()[0] != 7).all()
    model.set_weights(weights)
    weights[0][:] = 8
    assert (model.get_weights()[0] == 7).all()
    model.set_weights([w.tolist() for w in weights])
    assert (model.get_weights()[0] == 8).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:-1], r"weights must be 6 arrays .* got 5"),
        (lambda w: [w[0].T, *w[1:]], r"weights\[0\] \(W1\) must have the shape \(4, 7\), got \(7, 4\)"),
        (lambda w: [*w[:5], w[5][:2]], r"weights\[5\] \(b3\) must have the shape \(3,\), got \(2,\)"),
        (lambda w: [w[0] * np.nan, *w[1:]], r"weights\[0\] \(W1\) must be finite"),
        (lambda w: [w[0].astype(float) + 1e300, *w[1:]], r"W1\) must be finite in float32"),
        (lambda w: [["a"], *w[1:]], r"weights\[0\] \(W1\) must be an array of numbers"),
        (
            lambda w: [w[0].astype(complex), *w[1:]],
            r"weights\[0\] \(W1\) must be an array .* got an array of complex128",
        ),
        (lambda w: [w[0].astype(np.complex64).astype(object), *w[1:]], r"W1\) must be an array of numbers of shape"),
        (lambda w: [w[0].astype("M8[s]"), *w[1:]], r"W1\) must be an array of numbers .* got an array of datetime64"),
        (lambda w: [[[10**400] * 7] * 4, *w[1:]], r"W1\) must be an array of numbers of shape \(4, 7\): int too large"),
        (lambda w: None, r"weights must be a sequence of 6 arrays \(W1, b1, W2, b2, ...\), got None"),
        (lambda w: 5, "weights must be a sequence of 6 arrays .* got 5"),
    ],
)
def test_wrong_weights_are_named_and_change_nothing(change, message):
    model = small()
    before = model.get_weights()
    with pytest.raises((TypeError, ValueError), match=message):
        model.set_weights(change(model.get_weights()))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": []}, ValueError, "layers must hold at least one"),
        ({"layers": None}, TypeError, "layers must be a sequence"),
        ({"layers": [10]}, TypeError, "layers: number 0 must be a fastbp.Dense, .* got 10"),
        ({"layers": [fastbp.Dense(3, "softmax"), fastbp.Dense(2)]}, ValueError, "'softmax' is for the last"),
        ({"n_features": 0}, ValueError, "n_features must be an integer of at least 1, got 0"),
        ({"n_features": 2.5}, TypeError, "n_features must be an integer"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64', got 'float16'"),
        ({"dtype": None}, ValueError, "dtype must be"),
        ({"dtype": "x"}, ValueError, "dtype must be"),
        ({"dtype": "f4,("}, ValueError, r"dtype must be 'float32' or 'float64', got 'f4,\('"),
        (
            {"random_state": "x"},
            ValueError,
            r"random_state must be None, an integer from 0 to 2\*\*32 - 1 or .* got 'x'",
        ),
        ({"random_state": 10**400}, ValueError, "random_state must be None, .* got 1000"),
        ({"n_features": 10**20}, ValueError, "n_features must be an integer of at most 9223372036854775807, got 1000"),
        (
            {"n_features": 10**16},
            ValueError,
            r"n_features and the units of layers \(1.*0-2\) make 2e\+16 parameters, .* Gi",
        ),
        ({"layers": [fastbp.Dense(10**18), fastbp.Dense(10**18)]}, ValueError, r"make 1e\+36 parameters, which take"),
    ],
)
def test_wrong_descriptions_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fastbp.Sequential(**{"layers": [fastbp.Dense(2)], "n_features": 3, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "units must be an integer of at least 1, got 0"),
        ((10**20,), ValueError, "units must be an integer of at most 9223372036854775807, got 1000"),
        ((True,), TypeError, "units must be an integer"),
        ((3, "relu6"), ValueError, "activation must be one of 'identity', 'relu', .* got 'relu6'"),
        ((3, max), ValueError, "activation must be one of"),
        ((3, "relu", "zeros?"), ValueError, "initializer must be one of 'glorot_uniform', .* got 'zeros\\?'"),
        ((3, "relu", Constant), ValueError, "initializer must be one of .* a fastbp.initializers.Constant or a func"),
        ((3, "relu", 1.0), ValueError, "initializer must be one of .* got 1.0; a fastbp.initializers.Constant or"),
        ((3, "relu", "zeros", 1.0), ValueError, "bias_initializer must be None, 'zeros' or a .*Constant, got 1.0"),
        ((3, "relu", "zeros", "ones"), ValueError, "bias_initializer must be None, 'zeros' or a .* got 'ones'"),
    ],
)
def test_wrong_layers_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        fastbp.Dense(*arguments)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((3, 5)), ValueError, r"X must have 4 columns, one for each feature, got an array of shape \(3, 5\)"),
        (np.zeros(4), ValueError, "X is not usable: Expected 2D array, got 1D"),
        (np.zeros((0, 4)), ValueError, r"X is not usable: Found array with 0 sample"),
        (np.full((2, 4), np.nan), ValueError, "X is not usable: Input X contains NaN"),
        (np.full((2, 4), 1e300), ValueError, "X is not usable: Input X contains infinity"),
        ([["1", "2", "3", "4"]], TypeError, "X is not usable: it must hold real numbers, got an array of <U1"),
        (
            np.zeros((2, 4), "M8[s]"),
            TypeError,
            "X is not usable: it must hold real numbers, got an array of datetime64",
        ),
        (np.zeros((2, 4), "f4,f4"), TypeError, "X is not usable: it must hold real numbers, got an array of"),
        (np.zeros((2, 4), complex), TypeError, "X is not usable: it must hold real numbers, got an array of complex"),
        ([[1.0, 2.0, 3.0, 10**400]], ValueError, "X is not usable: it holds a number too large for float32"),
        (None, TypeError, "X is not usable: None is no array; pass an array of shape"),
    ],
)
def test_wrong_X_is_named(X, error, message):
    with pytest.raises(error, match=message):
        small().predict(X)


def test_wrong_backend_and_threads_are_named():
    with pytest.raises(ValueError, match="backend must be one of 'cpu', 'cuda', 'reference', got 'gpu'"):
        small().predict(np.zeros((1, 4)), backend="gpu")
    with pytest.raises(ValueError, match=r"backend must be one of 'cpu', 'cuda', 'reference', got \[\]"):
        small().predict(np.zeros((1, 4)), backend=[])
    with pytest.raises(ValueError, match="n_threads must be an integer of at least 1, got 0"):
        small().predict(np.zeros((1, 4)), n_threads=0)
    with pytest.raises(TypeError, match="raw must be True or False, got 1"):
        small().predict(np.zeros((1, 4)), raw=1)


def test_repr_tells_the_shape():
    assert repr(small()) == "<Sequential 4-7-5-3, 93 parameters, float32>"
