"""Norms outside the optimizer whose squares leave the range of their dtype: gradient_flow's, and L-BFGS's penalty."""

import numpy as np
import pytest

import fastbp
from fastbp.estimators._lbfgs import _Objective

LOSS = "mean_absolute_error"


def network(dtype, factor=1.0):
    model = fastbp.Sequential([fastbp.Dense(7), fastbp.Dense(1)], n_features=5, random_state=0, dtype=dtype)
    model.set_weights([factor * w for w in model.get_weights()])
    return model


def rows(size=1.0):
    return size * np.random.default_rng(0).normal(size=(20, 5)), np.ones(20)


@pytest.mark.parametrize("size", [1e180, 1e-170])
def test_ratios_of_large_and_small_gradients(size):
    """Below all targets the deltas of the last layer are the same, and those of the first are as large as W2."""
    X, y = rows()[0], np.full(20, 1e305)
    model = network("float64")
    plain = fastbp.gradient_flow(model, LOSS, X, y, backend="reference")
    weights = model.get_weights()
    model.set_weights([*weights[:2], size * weights[2], weights[3]])
    scaled = fastbp.gradient_flow(model, LOSS, X, y, backend="reference")
    np.testing.assert_allclose(scaled.ratio, plain.ratio * [size, 1 / size], rtol=1e-10)
    np.testing.assert_allclose(scaled.delta_norm, plain.delta_norm * [size, 1], rtol=1e-10)
    assert [finding.what for finding in scaled.findings if finding.layer == "1"]


def test_ratio_of_weights_that_are_zero_and_of_gradients_that_are():
    model = network("float64", 0.0)
    flow = fastbp.gradient_flow(model, LOSS, *rows(), backend="reference")
    assert np.isnan(flow.ratio[0]) and np.isnan(flow.ratio[1]) and flow.delta_norm[0] == 0
    model.set_weights([np.zeros((5, 7)), np.ones(7), np.zeros((7, 1)), np.zeros(1)])
    assert np.isposinf(fastbp.gradient_flow(model, LOSS, *rows(), backend="reference").ratio[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_penalty_of_large_weights_is_a_number(dtype):
    model, (X, y) = network(dtype), rows()
    trainer = fastbp.Trainer(model, loss="half_squared_error", optimizer=fastbp.SGD(), backend="reference")
    checked = trainer._checked(X * 0, y, None)
    objective = _Objective(trainer, checked, 1e-3)
    # rows of zeros: the loss is that of the biases alone, whatever W is
    loss, gradient = objective(np.concatenate([np.full(35, 1e20), np.zeros(7), np.zeros(7), np.zeros(1)]))
    np.testing.assert_allclose(loss, 0.5 + 0.5 * 1e-3 / 20 * 35e40, rtol=1e-6)
    np.testing.assert_allclose(gradient[:35], 1e-3 / 20 * 1e20, rtol=1e-6)
