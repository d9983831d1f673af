"""gradient_check on well-trained networks, whose gradients are as small as the errors of plain central differences."""

import numpy as np
import pytest

import fastbp
from fastbp._gradient_check import TOLERANCE
from fastbp._noise import EPSILON, N_VALUES, extrapolated, noise_of


def trained(loss, hidden="tanh", n_rows=5, noise=0.0, backend="cpu", layers=(), scale=1.0, epochs=4000):
    """A network at a minimum of its loss, as far as Adam's shorter and shorter steps get there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 3))
    y = scale * (X @ rng.normal(size=(3, 2)) + noise * rng.normal(size=(n_rows, 2)))
    if loss == "softmax_cross_entropy":
        y = rng.integers(0, 2, n_rows)
    model = fastbp.Sequential(
        [fastbp.Dense(6, hidden), *layers, fastbp.Dense(2)], n_features=3, random_state=0, dtype="float64"
    )
    for rate in (3e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        trainer = fastbp.Trainer(
            model, loss=loss, optimizer=fastbp.Adam(rate), backend=backend, random_state=0, n_threads=1
        )
        trainer.fit(X, y, epochs=epochs, batch_size=n_rows)
    return model, loss, X, y


def plain_error(model, loss, X, y, backend="reference"):
    """max |g - numeric| / max |numeric| of plain central differences with h = 1e-6, the worst array's."""
    trainer, weights, worst = fastbp.Trainer(model, loss=loss, backend=backend), model.get_weights(), 0.0
    _, gradients = trainer.loss_and_gradients(X, y)
    for w, g in zip(weights, gradients, strict=True):
        numeric = np.zeros_like(w)
        for index in np.ndindex(w.shape):
            before, found = w[index], []
            for w[index] in (before - 1e-6, before + 1e-6):
                model.set_weights(weights)
                found.append(trainer.loss_and_gradients(X, y)[0])
            w[index], numeric[index] = before, (found[1] - found[0]) / 2e-6
        worst = max(worst, np.abs(g - numeric).max() / np.abs(numeric).max())
    model.set_weights(weights)
    return worst


CASES = {
    "no residual": ("half_squared_error", "tanh"),
    "large residuals": ("half_squared_error", "tanh", 30, 0.3, "cpu", (), 1e4),
    "sure of all classes": ("softmax_cross_entropy", "tanh"),
    "kinks": ("softmax_cross_entropy", "relu"),
    "kinks, no residual": ("huber", "relu"),
}


@pytest.mark.parametrize("case", CASES)
def test_right_gradients_of_a_trained_network_pass(case):
    """Where plain differences raise a false alarm."""
    given = trained(*CASES[case])
    assert plain_error(*given) > 1.5 * TOLERANCE
    check = fastbp.gradient_check(*given, backend="reference")
    assert check.causes == {} and check.max_relative_error <= TOLERANCE, str(check)
    assert any(noise > 0 for noise in check.noise.values()) and list(check.noise) == list(check.relative_errors)


MUTANTS = {
    "factor": lambda g: 1.01 * g,
    "sign": lambda g: -g,
    "zero": lambda g: 0 * g,
    "entry": lambda g: g + 0.05 * np.abs(g).max() * (np.arange(g.size) == g.size - 1).reshape(g.shape),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize(("case", "epochs"), [("large residuals", 4000), ("sure of all classes", 1500), ("kinks", 700)])
def test_wrong_gradients_of_a_trained_network_are_found(case, epochs, mutant):
    given = trained(*CASES[case], epochs=epochs)
    assert plain_error(*given) > 1.5 * TOLERANCE
    right = fastbp.gradient_check(*given, backend="reference").gradients
    check = fastbp.gradient_check(*given, backend="reference", gradients=[MUTANTS[mutant](g) for g in right.values()])
    told = [name for name, g in right.items() if check.noise[name] < 5e-3 and g.any()]
    assert len(told) >= 2
    for name in told:
        assert name in check.causes, (name, str(check))
        size = {"factor": 0.01, "sign": 2.0, "zero": 1.0, "entry": 0.05}[mutant]
        assert check.relative_errors[name] == pytest.approx(size, abs=1.1 * check.noise[name] + 1e-4)
    texts = [check.causes[name] for name in told if name[0] == "W"]  # of two numbers much can be said
    if mutant == "factor":
        assert all("1.01" in text and "too large" in text for text in texts), texts
    elif mutant == "sign":
        assert all("the sign is wrong" in text for text in texts), texts


def test_the_compiled_kernels_pass():
    given = trained("softmax_cross_entropy")
    check = fastbp.gradient_check(*given)
    assert check.causes == {} and check.max_relative_error <= TOLERANCE, str(check)


def test_what_cannot_be_told_is_said():
    """A bias that a batch norm subtracts again has the gradient 0: whatever is below the noise agrees with that."""
    given = trained("half_squared_error", "identity", 30, 0.3, layers=(fastbp.BatchNorm("tanh"),))
    check = fastbp.gradient_check(*given, backend="reference")
    assert check.causes == {} and "b1" in check.undecided and check.noise["b1"] >= 1
    assert "W2" not in check.undecided and "mean1" not in check.undecided
    text = str(check)
    assert text.count("undecided: the differences are noise") == len(check.undecided)
    gradients = list(check.gradients.values())
    gradients[1] = np.full_like(gradients[1], 1e-8)
    wrong = fastbp.gradient_check(*given, backend="reference", gradients=gradients)
    assert list(wrong.causes) == ["b1"] and wrong.relative_errors["b1"] > 0.9


def test_errors_that_cannot_be_told_are_said():
    check = fastbp.gradient_check(*trained("softmax_cross_entropy"), backend="reference")
    name, noise = max(check.noise.items(), key=lambda item: item[1])
    assert TOLERANCE < noise < 1
    assert f"errors below {noise:.1e} cannot be told from the noise of the differences" in str(check)
    assert check.undecided == () and name in check.relative_errors and list(check.noise) == ["W1", "b1", "W2", "b2"]


def test_an_untrained_network_is_checked_by_plain_differences():
    rng = np.random.default_rng(0)
    model = fastbp.Sequential([fastbp.Dense(6, "tanh"), fastbp.Dense(2)], n_features=3, random_state=0)
    check = fastbp.gradient_check(model, "half_squared_error", rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))
    assert set(check.noise.values()) == {0.0} and check.undecided == () and "noise" not in str(check)
    assert model.get_weights()[0].dtype == np.float32


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-14])
def test_noise_of_a_smooth_function_with_noise(size):
    t = np.linspace(-4e-4, 4e-4, N_VALUES)
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        found.append(noise_of(np.sin(3 + t) + size * rng.normal(size=N_VALUES)))
    assert 0.6 < np.median(found) / size < 1.1
    assert np.quantile(found, 0.02) > size / 7


def test_noise_is_never_less_than_the_rounding_of_values():
    assert noise_of(np.full(N_VALUES, 3.0)) == 3 * EPSILON
    assert noise_of(np.zeros(N_VALUES)) == 0


def test_extrapolated_differences():
    h = 1e-2
    value, spread = extrapolated((1 + np.arange(-4, 5) * h) ** 5, h)  # its fifth derivative is 120
    assert abs(value - 5) == pytest.approx(4 * h**4, rel=1e-6) and spread == pytest.approx(15 * 4 * h**4, rel=1e-6)


def test_a_gradient_of_what_the_loss_does_not_depend_on():
    """However small it is: all differences are exactly 0."""
    model = fastbp.Sequential([fastbp.Dense(4, "relu"), fastbp.Dense(2)], n_features=3, random_state=0, dtype="float64")
    W1, _, W2, b2 = model.get_weights()
    model.set_weights([W1, np.full(4, -100.0), W2, b2])  # all units are dead
    X, y = np.random.default_rng(0).normal(size=(5, 3)), np.full((5, 2), 1e-3)
    right = fastbp.gradient_check(model, "half_squared_error", X, y, backend="reference")
    assert right.max_relative_error < 1e-6 and right.undecided == ()
    wrong = [g + 1e-6 * (name == "W1") for name, g in right.gradients.items()]
    check = fastbp.gradient_check(model, "half_squared_error", X, y, backend="reference", gradients=wrong)
    assert list(check.causes) == ["W1"] and check.relative_errors["W1"] > 0.99
