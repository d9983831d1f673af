"""gradient_flow: what vanishes, explodes, is dead or saturated is named, and a healthy network is not."""

import numpy as np
import pytest
from scipy.special import expit

import fastbp

N_ROWS, N_FEATURES = 200, 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N_ROWS, N_FEATURES))
LABELS = X[:, :3].argmax(axis=1)
ONE_HOT = np.eye(3)[LABELS]


def network(activation, depth, *, initializer="glorot_uniform", scale=1.0, bias=0.0, last="identity", units=32):
    """``depth`` hidden layers of one kind, their weights scaled and their biases shifted."""
    layers = [fastbp.Dense(units, activation, initializer) for _ in range(depth)] + [fastbp.Dense(3, last)]
    model = fastbp.Sequential(layers, n_features=N_FEATURES, random_state=0, dtype="float64")
    weights = [w * scale if w.ndim == 2 else w for w in model.get_weights()]
    for b in weights[1:-1:2]:
        b += bias
    model.set_weights(weights)
    return model


def flow_of(model, loss="softmax_cross_entropy", y=LABELS):
    return fastbp.gradient_flow(model, loss, X, y, backend="reference")


def named(flow):
    """Layers of each thing found."""
    found = {}
    for finding in flow.findings:
        found.setdefault(finding.what, []).append(finding.layer)
    return found


@pytest.mark.parametrize(
    ("activation", "depth", "initializer"),
    [
        ("relu", 2, "glorot_uniform"),
        ("relu", 12, "he_normal"),
        ("tanh", 12, "glorot_uniform"),
        ("logistic", 2, "glorot_uniform"),
    ],
)
def test_a_healthy_network_has_no_findings(activation, depth, initializer):
    flow = flow_of(network(activation, depth, initializer=initializer))
    assert flow.findings == []
    assert "Nothing is wrong" in str(flow)


def test_a_deep_sigmoid_network_vanishes():
    flow = flow_of(network("logistic", 6))
    assert named(flow) == {"vanishing": ["1", "2", "3"]}
    assert "relu" in flow.findings[0].remedy and "he_normal" in flow.findings[0].remedy
    assert (
        "residual connections" in flow.findings[0].remedy and "batch or layer normalisation" in flow.findings[0].remedy
    )
    assert flow.delta_norm[0] < 1e-2 * flow.delta_norm[-1]
    assert (np.diff(flow.delta_norm) > 0).all()
    assert "vanishing: layers 1, 2, 3 (in 1: " in str(flow)


def test_relu_with_weights_too_small_vanishes_and_the_remedy_is_not_relu():
    flow = flow_of(network("relu", 6, scale=0.5))
    assert "1" in named(flow)["vanishing"]
    assert "use relu" not in flow.findings[0].remedy and "he_normal" in flow.findings[0].remedy


def test_an_exploding_network_explodes():
    flow = flow_of(network("relu", 8, initializer="he_normal", scale=4.0))
    assert set(named(flow)) == {"exploding"} and named(flow)["exploding"][0] == "1"
    assert "clip the gradient's norm" in flow.findings[0].remedy and "smaller learning rate" in flow.findings[0].remedy
    far = fastbp.gradient_flow(network("tanh", 1), "half_squared_error", X, 1e5 * ONE_HOT, backend="reference")
    assert "2" in named(far)["exploding"] and "times that of its weights" in far.findings[-1].detail
    endless = flow_of(network("exp", 3, scale=8.0))
    assert "exploding" in named(endless) and "not finite" in endless.findings[0].detail


def test_dead_relus_are_dead():
    flow = flow_of(network("relu", 2, initializer="he_normal", bias=-4.0))
    assert set(named(flow)) == {"dead"} and "2" in named(flow)["dead"]
    assert "leaky_relu" in flow.findings[-1].remedy
    assert flow.dead[1] == 1.0 and np.isnan(flow.dead[2])
    assert flow.gradient_mean[0] == 0  # and yet nothing is said to vanish: no gradient comes through the second layer


def test_saturated_tanh_is_saturated():
    flow = flow_of(network("tanh", 2, scale=20.0))
    assert named(flow)["saturated"] == ["1", "2"]
    assert "smaller initial weights" in flow.findings[0].remedy
    assert (flow.saturated[:2] > 0.5).all() and np.isnan(flow.saturated[2])


def test_saturated_outputs_count_where_they_are_wrong():
    model = network("tanh", 1, last="logistic", scale=1.0)
    weights = model.get_weights()
    weights[-1][:] = 8.0  # every output is nearly 1
    model.set_weights(weights)
    wrong = flow_of(model, "mean_squared_error", np.zeros_like(ONE_HOT))
    assert named(wrong)["saturated"] == ["2"] and wrong.saturated[1] > 0.9
    assert "cross-entropy" in wrong.findings[-1].remedy
    right = flow_of(model, "mean_squared_error", np.ones_like(ONE_HOT))
    assert right.findings == [] and right.saturated[1] == 0
    fused = flow_of(model, "sigmoid_cross_entropy", np.zeros_like(ONE_HOT))
    assert fused.findings == [] and np.isnan(fused.saturated[1])


def test_numbers_are_those_of_their_definitions():
    model = network("logistic", 1)
    flow = flow_of(model, "mean_squared_error", ONE_HOT)
    W1, b1, W2, b2 = model.get_weights()
    A = expit(X @ W1 + b1)
    delta2 = 2 * (A @ W2 + b2 - ONE_HOT) / 3  # of each row's own loss
    delta1 = (delta2 @ W2.T) * A * (1 - A)
    for k, (W, inputs, delta) in enumerate(((W1, X, delta1), (W2, A, delta2))):
        g = inputs.T @ delta / N_ROWS
        np.testing.assert_allclose(flow.gradient_mean[k], np.abs(g).mean(), rtol=1e-10)
        np.testing.assert_allclose(
            flow.gradient_percentiles[k], np.percentile(np.abs(g), [5, 25, 50, 75, 95]), rtol=1e-9
        )
        np.testing.assert_allclose(flow.ratio[k], np.linalg.norm(g) / np.linalg.norm(W), rtol=1e-10)
        np.testing.assert_allclose(flow.delta_norm[k], np.sqrt((delta**2).sum(axis=1).mean()), rtol=1e-10)
        np.testing.assert_allclose(
            flow.delta_percentiles[k], np.percentile(np.abs(delta), [5, 25, 50, 75, 95]), rtol=1e-9
        )
    assert flow.layers == ("1 Dense logistic", "2 Dense identity")
    np.testing.assert_allclose(flow.loss, np.mean((A @ W2 + b2 - ONE_HOT) ** 2), rtol=1e-12)


def test_more_rows_say_the_same():
    model = network("relu", 2, initializer="he_normal")
    once = flow_of(model)
    often = fastbp.gradient_flow(
        model, "softmax_cross_entropy", np.tile(X, (12, 1)), np.tile(LABELS, 12), backend="reference"
    )
    for name in ("gradient_mean", "ratio", "delta_norm", "delta_percentiles", "dead"):
        np.testing.assert_allclose(getattr(often, name), getattr(once, name), rtol=1e-9, err_msg=name)


def test_backends_agree_and_the_model_stays():
    model = network("relu", 2, initializer="he_normal")
    before, link = model.get_weights(), model.link
    ours = fastbp.gradient_flow(model, "softmax_cross_entropy", X, LABELS)
    theirs = flow_of(model)
    np.testing.assert_allclose(ours.gradient_mean, theirs.gradient_mean, rtol=1e-10)
    np.testing.assert_allclose(ours.delta_norm, theirs.delta_norm, rtol=1e-10)
    assert model.link == link
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_callback_records_every_few_epochs():
    model = network("tanh", 2)
    watcher = fastbp.GradientFlow(X, LABELS, every=2)
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", backend="reference", random_state=0)
    first = flow_of(model)
    trainer.fit(X, LABELS, epochs=5, callbacks=[watcher])
    assert watcher.epochs == [0, 2, 4] and len(watcher.flows) == 3
    np.testing.assert_array_equal(watcher.flows[0].gradient_mean, first.gradient_mean)
    assert watcher.flows[-1].loss < watcher.flows[0].loss
    trainer.fit(X, LABELS, epochs=1, callbacks=[watcher])
    assert watcher.epochs == [0, 2, 4, 6]
    np.testing.assert_array_equal(watcher.flows[-1].gradient_mean, flow_of(model).gradient_mean)
    with pytest.raises(ValueError, match="every must be an integer of at least 1"):
        fastbp.GradientFlow(X, LABELS, every=0)
    with pytest.raises(ValueError, match="X must have 20 columns"):
        trainer.fit(X, LABELS, callbacks=[fastbp.GradientFlow(X[:, :3], LABELS)])


def test_recording_changes_no_bit_of_the_training():
    weights = []
    for watched in (False, True):
        model = network("relu", 1)
        trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", backend="reference", random_state=0)
        trainer.fit(X, LABELS, epochs=3, callbacks=[fastbp.GradientFlow(X, LABELS)] if watched else ())
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def deep(block, *, depth=6):
    """A deep network of one kind of block."""
    layers = [layer for _ in range(depth) for layer in block()] + [fastbp.Dense(3)]
    return fastbp.Sequential(layers, n_features=N_FEATURES, random_state=0, dtype="float64")


def test_what_vanishes_is_cured_by_norms_and_by_skip_connections():
    blocks = {
        "plain": lambda: [fastbp.Dense(20, "logistic")],
        "batch norm": lambda: [fastbp.Dense(20), fastbp.BatchNorm("logistic")],
        "residual": lambda: [fastbp.Residual([fastbp.Dense(20, "logistic")])],
    }
    found = {name: flow_of(deep(block)) for name, block in blocks.items()}
    assert named(found["plain"])["vanishing"][0] == "1"
    assert found["batch norm"].findings == [] and found["residual"].findings == []
    assert found["residual"].layers[:2] == ("1.1 Dense logistic", "1 Residual")


def test_layers_without_weights_have_no_gradients_of_their_own():
    layers = [fastbp.Dropout(0.2), fastbp.Dense(8, "relu"), fastbp.Dropout(), fastbp.LayerNorm(), fastbp.Dense(3)]
    model = fastbp.Sequential(layers, n_features=N_FEATURES, random_state=0, dtype="float64")
    flow = flow_of(model)
    np.testing.assert_array_equal(np.isnan(flow.gradient_mean), [True, False, True, False, False])
    np.testing.assert_array_equal(np.isnan(flow.delta_norm), [True, False, False, False, False])
    np.testing.assert_array_equal(np.isnan(flow.dead), [True, False, True, True, True])
    assert flow.findings == [] and " - " in str(flow)
    np.testing.assert_array_equal(flow.delta_norm, flow_of(model).delta_norm)  # the same masks each time
