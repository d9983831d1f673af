"""gradient_check: each fault that a backward pass of one's own may have is planted, and must be named."""

import numpy as np
import pytest
from scipy.special import expit, softmax

import fastbp

N_ROWS = 7
DERIVATIVES = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "logistic": lambda z: expit(z) * expit(-z),
    "relu": lambda z: (z > 0) * 1.0,
}
FROM_OUTPUT = {"tanh": lambda a: 1 - a**2, "logistic": lambda a: a * (1 - a)}
FUNCTIONS = {"tanh": np.tanh, "logistic": expit, "relu": lambda z: np.maximum(z, 0)}


def problem(widths=(4, 5, 3), hidden="tanh", last="identity", loss="mean_squared_error"):
    """A network with data, all small and smooth."""
    rng = np.random.default_rng(0)
    layers = [fastbp.Dense(n, hidden, "scikit_learn") for n in widths[1:-1]]
    layers.append(fastbp.Dense(widths[-1], last, "scikit_learn"))
    model = fastbp.Sequential(layers, n_features=widths[0], random_state=0, dtype="float64")
    X, y = rng.normal(size=(N_ROWS, widths[0])), rng.uniform(size=(N_ROWS, widths[-1]))
    if loss == "softmax_cross_entropy":
        y = rng.integers(0, widths[-1], N_ROWS)
    return model, loss, X, y


def backward(model, loss, X, y, *, slope=None, top_slope=None, mean=True, faulty_layer=None):
    """A textbook backward pass; ``slope(name, Z, A)`` stands for f' of the hidden layers (or of one of them)."""
    weights, names = model.get_weights(), [layer.activation for layer in model.layers]
    A, inputs, Zs = X, [], []
    for W, b, name in zip(weights[::2], weights[1::2], names, strict=True):
        inputs.append(A)
        Zs.append(A @ W + b)
        A = FUNCTIONS.get(name, np.asarray)(Zs[-1])
    if loss == "softmax_cross_entropy":
        A = softmax(Zs[-1], axis=1)
        delta = (A - np.eye(A.shape[1])[y]) / N_ROWS
    else:
        delta = 2 * (A - y) / y.size
    if top_slope is not None:
        delta = delta * top_slope(Zs[-1], A)
    elif names[-1] != "identity":
        delta = delta * DERIVATIVES[names[-1]](Zs[-1])
    delta = delta if mean else delta * N_ROWS
    gradients = []
    for l in reversed(range(len(names))):
        gradients = [inputs[l].T @ delta, delta.sum(axis=0), *gradients]
        if l:
            right = DERIVATIVES[names[l - 1]](Zs[l - 1])
            wrong = slope is not None and faulty_layer in (None, l)
            delta = (delta @ weights[2 * l].T) * (slope(names[l - 1], Zs[l - 1], inputs[l]) if wrong else right)
    return gradients


def causes_of(model, loss, X, y, gradients):
    return fastbp.gradient_check(model, loss, X, y, gradients=gradients, backend="reference").causes


def test_a_right_backward_pass_of_ones_own_passes():
    for hidden, last in (("tanh", "identity"), ("relu", "logistic"), ("logistic", "tanh")):
        given = problem((4, 5, 6, 3), hidden, last)
        check = fastbp.gradient_check(*given, gradients=backward(*given), backend="reference")
        assert check.max_relative_error < 1e-6 and check.causes == {}, str(check)
    given = problem(loss="softmax_cross_entropy")
    check = fastbp.gradient_check(*given, gradients=backward(*given), backend="reference")
    assert check.max_relative_error < 1e-6, str(check)


def test_missing_mean():
    given = problem()
    causes = causes_of(*given, backward(*given, mean=False))
    assert list(causes) == ["W1", "b1", "W2", "b2"]
    assert all("7 times too large: the mean over the 7 rows (1/n) is missing" in text for text in causes.values())
    causes = causes_of(*given, [g / N_ROWS for g in backward(*given)])
    assert all("7 times too small: the mean over the 7 rows (1/n) is taken twice" in text for text in causes.values())
    causes = causes_of(*given, [g * 3 for g in backward(*given)])
    assert all("mean over the 3 outputs is missing" in text for text in causes.values())
    causes = causes_of(*given, [g / 2 for g in backward(*given)])
    assert all("factor 2 from the derivative of a square is missing" in text for text in causes.values())
    causes = causes_of(*given, [g * 1.7 for g in backward(*given)])
    assert all("1.7 times too large: a constant factor" in text for text in causes.values())


def test_mean_is_that_of_the_weights():
    model, loss, X, y = problem()
    weights = np.linspace(0.5, 2, N_ROWS)
    _, right = fastbp.Trainer(model, loss=loss, backend="reference").loss_and_gradients(X, y, weights)
    check = fastbp.gradient_check(
        model, loss, X, y, sample_weight=weights, gradients=[g * weights.sum() for g in right], backend="reference"
    )
    assert "mean over the sum of the weights, 8.75 (1/n) is missing" in check.causes["W2"]


def test_sign_error():
    given = problem()
    right = backward(*given)
    causes = causes_of(*given, [right[0], -right[1], -right[2], right[3]])
    assert list(causes) == ["b1", "W2"]
    assert all("the sign is wrong" in text for text in causes.values())
    both = causes_of(*given, [-N_ROWS * g for g in right])
    assert all("(1/n) is missing; and the sign is wrong" in text for text in both.values())


def test_transposed_shape():
    given = problem()
    right = backward(*given)
    check = fastbp.gradient_check(*given, gradients=[right[0].T, *right[1:]], backend="reference")
    assert "it is transposed (the shape must be (4, 5), got (5, 4))" in check.causes["W1"]
    assert check.relative_errors["W1"] == np.inf and check.worst["W1"] == ()
    assert "W1: shape (5, 4), expected (4, 5)" in str(check)
    assert list(check.causes) == ["W1"]
    causes = causes_of(*given, [right[0].T.reshape(4, 5), *right[1:]])
    assert "reshaped where it should be transposed" in causes["W1"]
    square = problem((4, 4, 4))
    right = backward(*square)
    causes = causes_of(*square, [right[0].T, right[1], right[2].T, right[3]])
    assert list(causes) == ["W1", "W2"]
    assert all("it is transposed" in text for text in causes.values())


def test_bias_that_is_not_summed():
    model, loss, X, y = problem()
    right = backward(model, loss, X, y)
    weights = model.get_weights()
    A = np.tanh(X @ weights[0] + weights[1])
    delta = 2 * (A @ weights[2] + weights[3] - y) / y.size
    causes = causes_of(model, loss, X, y, [*right[:3], delta])
    assert causes == {
        "b2": "the sum over the rows is missing (the shape must be (3,), got (7, 3)): db = delta.sum(axis=0)"
    }
    causes = causes_of(model, loss, X, y, [*right[:3], delta * N_ROWS])
    assert "the mean over the rows is missing" in causes["b2"]
    causes = causes_of(model, loss, X, y, [*right[:3], delta.sum(axis=0, keepdims=True)])
    assert "only the shape is another one" in causes["b2"]
    causes = causes_of(model, loss, X, y, [*right[:3], np.full(3, delta.sum())])
    assert "summed over units as well as rows" in causes["b2"]


@pytest.mark.parametrize("hidden", ["tanh", "logistic"])
@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (lambda name, Z, A: 1.0, "the derivative of {} is missing"),
        (lambda name, Z, A: DERIVATIVES[name](A), "the derivative of {} is taken at its output, f'(A)"),
        (lambda name, Z, A: FROM_OUTPUT[name](Z), "the derivative of {} is the formula for its output"),
    ],
)
def test_wrong_derivative_of_an_activation(slope, said, hidden):
    given = problem((4, 5, 6, 3), hidden)
    everywhere = causes_of(*given, backward(*given, slope=slope))
    assert list(everywhere) == ["W1", "b1", "W2", "b2"]  # the output layer has it from the loss alone
    assert all(said.format("the activation in every hidden layer") in text for text in everywhere.values())
    lower = causes_of(*given, backward(*given, slope=slope, faulty_layer=1))
    assert list(lower) == ["W1", "b1"]
    assert all(said.format(f"{hidden} in layer 1") in text for text in lower.values())
    upper = causes_of(*given, backward(*given, slope=slope, faulty_layer=2))
    assert list(upper) == ["W1", "b1", "W2", "b2"]
    assert all(said.format(f"{hidden} in layer 2") in text for text in upper.values())


def test_missing_derivative_of_relu():
    given = problem((4, 8, 3), "relu")
    causes = causes_of(*given, backward(*given, slope=lambda name, Z, A: 1.0))
    assert all("the derivative of relu in layer 1 is missing" in text for text in causes.values())
    assert list(causes) == ["W1", "b1"]


def test_wrong_derivative_of_the_output():
    given = problem(last="logistic")
    causes = causes_of(*given, backward(*given, top_slope=lambda Z, A: 1.0))
    assert len(causes) == 4
    assert all("derivative of logistic in layer 2, the output, is missing" in text for text in causes.values())
    causes = causes_of(*given, backward(*given, top_slope=lambda Z, A: DERIVATIVES["logistic"](A)))
    assert all("logistic in layer 2, the output, is taken at its output" in text for text in causes.values())


def test_derivative_of_the_link_applied_twice():
    given = problem(loss="softmax_cross_entropy")
    causes = causes_of(*given, backward(*given, top_slope=lambda Z, A: A * (1 - A)))
    assert len(causes) == 4
    assert all("applied although the loss has it in it" in text for text in causes.values())


def test_inputs_before_their_activation_and_a_matrix_not_transposed():
    model, loss, X, y = problem((4, 5, 5, 3))
    right, weights = backward(model, loss, X, y), model.get_weights()
    Z1 = X @ weights[0] + weights[1]
    A2 = np.tanh(np.tanh(Z1) @ weights[2] + weights[3])
    delta3 = 2 * (A2 @ weights[4] + weights[5] - y) / y.size
    delta2 = (delta3 @ weights[4].T) * (1 - A2**2)
    causes = causes_of(model, loss, X, y, [*right[:2], Z1.T @ delta2, *right[3:]])
    assert list(causes) == ["W2"] and "inputs of layer 2 are taken before their activation" in causes["W2"]
    delta1 = (delta2 @ weights[2]) * (1 - np.tanh(Z1) ** 2)
    causes = causes_of(model, loss, X, y, [X.T @ delta1, delta1.sum(axis=0), *right[2:]])
    assert list(causes) == ["W1", "b1"]
    assert all("deltas below layer 2 are delta W where they should be delta W^T" in text for text in causes.values())


def test_penalty_another_order_zeros_and_numbers_that_are_none():
    given = problem((4, 4, 4))
    right, weights = backward(*given), given[0].get_weights()
    causes = causes_of(*given, [right[0] + 0.01 * weights[0], *right[1:]])
    assert "0.01 times the parameters is in it: a penalty" in causes["W1"]
    causes = causes_of(*given, [right[2], right[1], right[0], right[3]])
    assert "it is the gradient of W2" in causes["W1"] and "it is the gradient of W1" in causes["W2"]
    causes = causes_of(*given, [right[0], np.zeros(4), right[2], right[3]])
    assert list(causes) == ["b1"] and "all zeros" in causes["b1"]
    check = fastbp.gradient_check(*given, gradients=[right[0] * np.nan, *right[1:]], backend="reference")
    assert "NaN or infinity" in check.causes["W1"] and np.isnan(check.max_relative_error)
    assert check.worst_entry.array == "W1"


def test_place_of_a_fault():
    given = problem()
    right = backward(*given)
    one, row, column = (right[0].copy() for _ in range(3))
    one[2, 3] *= 1.5
    row[1] += 0.1 * np.arange(1, 6)
    column[:, 4] *= np.arange(2, 6)
    assert "only the entry (2, 3) is wrong" in causes_of(*given, [one, *right[1:]])["W1"]
    assert "only row 1 (input 1) is wrong" in causes_of(*given, [row, *right[1:]])["W1"]
    assert "only column 4 (unit 4) is wrong" in causes_of(*given, [column, *right[1:]])["W1"]
    anything = np.random.default_rng(1).normal(size=(4, 5))
    assert "none that is recognised" in causes_of(*given, [anything, *right[1:]])["W1"]


def test_worst_entry_is_named_with_both_values():
    given = problem()
    right = backward(*given)
    wrong = right[0].copy()
    wrong[2, 3] += 0.25
    check = fastbp.gradient_check(*given, gradients=[wrong, *right[1:]], backend="reference")
    array, index, value, numeric = check.worst_entry
    assert (array, index) == ("W1", (2, 3)) == ("W1", check.worst["W1"])
    assert value == wrong[2, 3]
    np.testing.assert_allclose(numeric, right[0][2, 3], rtol=1e-6)
    assert f"W1: {check.relative_errors['W1']:.1e} at (2, 3): {value:.6g}, by differences {numeric:.6g}" in str(check)
    assert "likely cause: only the entry (2, 3)" in str(check)


def test_sample_of_entries():
    given = problem((4, 30, 3))
    right = backward(*given)
    check = fastbp.gradient_check(*given, max_entries=10, backend="reference")
    assert check.n_checked == 10 + 10 + 10 + 3
    assert [int(np.isfinite(check.numeric[name]).sum()) for name in ("W1", "b1", "W2", "b2")] == [10, 10, 10, 3]
    again = fastbp.gradient_check(*given, max_entries=10, backend="reference")
    other = fastbp.gradient_check(*given, max_entries=10, random_state=1, backend="reference")
    np.testing.assert_array_equal(np.isnan(check.numeric["W1"]), np.isnan(again.numeric["W1"]))
    assert (np.isnan(check.numeric["W1"]) != np.isnan(other.numeric["W1"])).any()
    wrong = fastbp.gradient_check(*given, max_entries=10, gradients=[7 * g for g in right], backend="reference")
    assert all("(1/n) is missing" in text for text in wrong.causes.values())
    assert len(wrong.causes) == 4


def test_rows_beyond_one_block():
    """More rows than a session keeps the outputs of: blocks of them, and their mean."""
    model, loss, X, y = problem((4, 3, 2))
    X, y = np.tile(X, (200, 1)), np.tile(y, (200, 1))
    weights = np.random.default_rng(0).uniform(size=len(X))
    check = fastbp.gradient_check(model, loss, X, y, sample_weight=weights, backend="reference")
    assert check.max_relative_error < 1e-6
    _, expected = fastbp.Trainer(model, loss=loss, backend="reference").loss_and_gradients(X, y, weights)
    for a, b in zip(check.gradients.values(), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_arguments():
    given = problem()
    right = backward(*given)
    with pytest.raises(ValueError, match=r"gradients must be a sequence of 4 arrays \(W1, b1, W2, b2\), as .* got 3"):
        fastbp.gradient_check(*given, backend="reference", gradients=right[:3])
    with pytest.raises(TypeError, match=r"gradients must be a sequence of 4 arrays .* got 5"):
        fastbp.gradient_check(*given, backend="reference", gradients=5)
    with pytest.raises(TypeError, match="gradients: that of b2 is not usable: a str is no array"):
        fastbp.gradient_check(*given, backend="reference", gradients=[*right[:3], "many"])
    with pytest.raises(ValueError, match="max_entries must be an integer of at least 1"):
        fastbp.gradient_check(*given, backend="reference", max_entries=0)


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
def test_inspection_holds_what_a_step_computes(backend):
    from fastbp._probe import Probe

    model, loss, X, y = problem((4, 5, 6, 3), "tanh", "logistic")
    found = Probe(model, loss, X, y, None, backend=backend).inspect()
    weights, A = model.get_weights(), X
    for k, (f, output) in enumerate(zip((np.tanh, np.tanh, expit), found.outputs, strict=True)):
        A = f(A @ weights[2 * k] + weights[2 * k + 1])
        np.testing.assert_allclose(output, A, rtol=1e-12)
    gradients = backward(model, loss, X, y)
    for k, delta in enumerate(found.deltas):
        np.testing.assert_allclose(delta.sum(axis=0), gradients[2 * k + 1], rtol=1e-10)
        np.testing.assert_allclose(found.gradients[2 * k], gradients[2 * k], rtol=1e-10)
    labels = X[:, :3].argmax(axis=1)
    fused = Probe(problem(loss="softmax_cross_entropy")[0], "softmax_cross_entropy", X, labels, None, backend=backend)
    np.testing.assert_allclose(fused.inspect().outputs[-1].sum(axis=1), 1, rtol=1e-12)


def test_a_session_with_shards_has_no_inspection():
    model, loss, _, _ = problem()
    trainer = fastbp.Trainer(model, loss=loss, backend="reference")
    X, y = np.zeros((2048, 4)), np.zeros((2048, 3))
    session = trainer._open(X, y, None, batch_size=2048)
    with pytest.raises(ValueError, match="open it with a smaller batch"):
        session.inspect(np.arange(2048))


def test_inspection_follows_the_rows_and_the_parameters():
    model = problem()[0]
    X = np.random.default_rng(0).normal(size=(40, 4))
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", backend="reference")
    session = trainer._open(X, np.arange(40) % 3, None, batch_size=20)
    model.link = "softmax"
    for rows in (np.arange(20), np.arange(20, 40), np.arange(5)):
        for scale in (1.0, 2.0):
            model.set_weights([scale * w for w in problem()[0].get_weights()])
            session.set_parameters(model.get_weights())
            np.testing.assert_allclose(session.inspect(rows).outputs[-1], model.predict(X[rows]), rtol=1e-10)


LAYERS = [
    fastbp.Dropout(0.2),
    fastbp.Dense(6),
    fastbp.BatchNorm("relu"),
    fastbp.Residual([fastbp.LayerNorm("tanh"), fastbp.Dense(6, "relu"), fastbp.Dropout(0.3), fastbp.Dense(5)]),
    fastbp.Dense(3, "logistic"),
]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_all_layers_are_checked_as_they_are_trained(backend):
    """With the masks and the batch's statistics; running statistics have no gradient."""
    model = fastbp.Sequential(LAYERS, n_features=4, random_state=0, dtype="float64")
    _, loss, X, y = problem()
    check = fastbp.gradient_check(model, loss, X, y, backend=backend)
    assert check.max_relative_error < 1e-6 and check.causes == {}, str(check)
    assert list(check.relative_errors)[:6] == ["W1", "b1", "gamma1", "beta1", "mean1", "variance1"]
    assert not check.gradients["mean1"].any() and not check.numeric["mean1"].any()
    wrong = [-g if name == "gamma1" else g for name, g in check.gradients.items()]
    causes = fastbp.gradient_check(model, loss, X, y, gradients=wrong, backend=backend).causes
    assert list(causes) == ["gamma1"] and "the sign is wrong" in causes["gamma1"]


@pytest.mark.parametrize("backend", ["reference", "cpu", "cuda"])
def test_inspection_of_all_layers(backend):
    from fastbp._describe import describe
    from fastbp._probe import Probe

    model = fastbp.Sequential(LAYERS, n_features=4, random_state=0, dtype="float64")
    _, loss, X, y = problem()
    found = Probe(model, loss, X, y, None, backend=backend).inspect()
    rows = sorted(describe(LAYERS, 4), key=lambda row: row.operation)
    assert len(rows) == len(found.outputs) == len(found.deltas)
    assert np.isnan(found.deltas[0]).all()  # nothing is trained below the first dropout
    for row, output, delta in zip(rows, found.outputs, found.deltas, strict=True):
        assert output.shape == delta.shape == (N_ROWS, row.fan_out)
        if row.arrays:  # what is added to each row, b or beta, has the sum of the deltas for its gradient
            gradient = found.gradients[row.arrays[1]]
            np.testing.assert_allclose(delta.sum(axis=0), gradient, rtol=1e-9, atol=1e-15, err_msg=row.title)
    by_name = {row.name: found.outputs[row.operation] for row in rows}
    np.testing.assert_allclose(by_name["4"], by_name["4.4"] + by_name["4.p"], rtol=1e-12)
    np.testing.assert_array_equal(np.unique(np.round(by_name["1"] / X, 10)), [0, 1.25])  # dropped, or over 1 - rate
