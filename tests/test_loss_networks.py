"""Losses as networks have them: against PyTorch, what trainings on them lead to, and what is refused."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from _torch_losses import GOLDEN, N_FEATURES, N, by_torch, cases

import fastbp
from fastbp.losses import Loss

CASES = cases()
WRITTEN = json.loads(GOLDEN.read_text(encoding="utf-8"))["results"]
each_backend = pytest.mark.parametrize("backend", ["cpu", "reference"])


# ---------------------------------------------------------------------------------------------------------------------
# Against PyTorch


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("title", CASES)
def test_losses_and_gradients_are_those_of_pytorch(title, backend):
    case, want = CASES[title], WRITTEN[title]
    model = fastbp.Sequential([fastbp.Dense(N, case.activation)], n_features=N_FEATURES, dtype="float64")
    model.set_weights([case.W, case.b])
    trainer = fastbp.Trainer(model, loss=Loss(case.name, **case.options), backend=backend)
    loss, gradients = trainer.loss_and_gradients(case.X, case.y, case.sample_weight)
    np.testing.assert_allclose(loss, want["loss"], rtol=1e-12)
    for gradient, key in zip(gradients, "Wb", strict=True):
        np.testing.assert_allclose(gradient, want[key], rtol=0, atol=1e-12 * np.abs(want[key]).max())
    rows = trainer._checked(case.X, case.y, case.sample_weight)
    validation_loss = trainer._open(*rows, batch_size=4).evaluation(*rows)
    np.testing.assert_allclose(validation_loss(), want["loss"], rtol=1e-12)


def test_golden_values_are_those_of_the_pytorch_that_is_installed():
    pytest.importorskip("torch")
    assert WRITTEN.keys() == CASES.keys()
    for title, case in CASES.items():
        found = by_torch(case)
        for key, value in WRITTEN[title].items():
            np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-15, err_msg=title)


# ---------------------------------------------------------------------------------------------------------------------
# Gradients, backends, weights


def network(last="identity", n_outputs=4, dtype="float64"):
    layers = [fastbp.Dense(7, "tanh"), fastbp.Dense(n_outputs, last)]
    return fastbp.Sequential(layers, n_features=5, random_state=0, dtype=dtype)


def data(kind, n_rows=9):
    """X, targets of a kind, and sample weights."""
    rng = np.random.default_rng(0)
    X, weights, share = rng.normal(size=(n_rows, 5)), rng.uniform(0.5, 2, n_rows), rng.uniform(size=(n_rows, 2))
    y = {
        "reals": rng.normal(size=(n_rows, 4)),
        "labels": rng.integers(0, 4, n_rows),
        "shares": rng.dirichlet(np.ones(4), n_rows),
        "units": rng.uniform(size=(n_rows, 4)),
        "counts": rng.poisson(2.0, (n_rows, 4)),
        "labels of blocks": rng.integers(0, 2, (n_rows, 2)),
        "shares of blocks": np.stack([share[:, 0], 1 - share[:, 0], share[:, 1], 1 - share[:, 1]], axis=1),
    }[kind]
    return X, y, weights


SMOOTH, HEAVY = {"label_smoothing": 0.1}, {"label_smoothing": 0.1, "class_weight": (1, 2, 0, 4)}
LOSSES = [
    (Loss("softmax_cross_entropy", **options), last, kind)
    for options, last in ((SMOOTH, "softmax"), (HEAVY, "identity"))
    for kind in ("labels", "shares")
]
BLOCKS = Loss("softmax_cross_entropy", blocks=(2, 2), **SMOOTH)
LOSSES += [(BLOCKS, "identity", "labels of blocks"), (BLOCKS, "identity", "shares of blocks")]
LOSSES += [(Loss("softmax_cross_entropy", class_weight=(1, 2, 0, 4)), "softmax", "labels")]
LOSSES += [
    (Loss("sigmoid_cross_entropy", class_weight=(1, 3), **SMOOTH), last, "units")
    for last in ("logistic", "identity", "softmax")
]
LOSSES += [(Loss("poisson"), last, "counts") for last in ("relu", "softplus", "logistic", "softmax")]
ROBUST = [Loss("huber", delta=0.7), Loss("quantile", level=(0.1, 0.4, 0.5, 0.95)), Loss("log_cosh"), Loss("mae")]
LOSSES += [(loss, last, "reals") for loss in ROBUST for last in ("identity", "logistic", "softmax", "exp")]


@each_backend
@pytest.mark.parametrize(("loss", "last", "kind"), LOSSES)
def test_gradient_is_the_derivative_of_the_loss(loss, last, kind, backend):
    X, y, weights = data(kind)
    for convention, w in (("exact", None), ("scikit-learn", weights)):
        given = replace(loss, convention=convention)
        check = fastbp.gradient_check(network(last), given, X, y, sample_weight=w, backend=backend)
        assert check.max_relative_error <= 1e-6, str(check)


@pytest.mark.parametrize(("loss", "last", "kind"), LOSSES)
def test_backends_agree(loss, last, kind):
    X, y, weights = data(kind, 40)
    for convention in ("exact", "scikit-learn"):
        found = fastbp.compare_backends(
            network(last), replace(loss, convention=convention), X, y, sample_weight=weights
        )
        assert found.max_relative_difference <= 1e-12, str(found)


@pytest.mark.parametrize(("loss", "last", "kind"), LOSSES)
def test_weights_of_samples_are_repetitions(loss, last, kind):
    X, y, _ = data(kind)
    times = np.array([1, 3, 2, 1, 1, 2, 1, 1, 2])
    (one, gradients), (other, want) = (
        fastbp.Trainer(network(last), loss=loss, backend="reference").loss_and_gradients(*rows)
        for rows in ((X, y, times), (X.repeat(times, axis=0), y.repeat(times, axis=0)))
    )
    np.testing.assert_allclose(one, other, rtol=1e-13)
    for a, b in zip(gradients, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


@pytest.mark.parametrize("loss", [Loss("softmax_cross_entropy", **HEAVY), Loss("sigmoid_cross_entropy", **SMOOTH)])
def test_a_step_on_a_batch_that_has_no_weight_does_nothing(loss):
    X, y, _ = data("labels" if loss.class_weight else "units", 4)
    if loss.class_weight:
        y, weights = np.array([2, 2, 0, 1]), np.ones(4)
    else:
        weights = np.array([0.0, 0, 1, 1])
    for backend in ("cpu", "reference", "cuda"):
        model = network()
        before = model.get_weights()
        trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.SGD(0.1), backend=backend)
        session = trainer._open(*trainer._checked(X, y, weights), batch_size=2)
        losses = session.train(np.arange(2), np.array([0.1]))
        assert losses[0] == 0
        for a, b in zip(before, session.get_parameters(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_check_in_blocks_of_rows_has_the_weighted_mean():
    """More than 1024 rows go by blocks, in which the labels' weights differ."""
    X, y, weights = data("labels", 1100)
    y.sort()
    model = fastbp.Sequential([fastbp.Dense(4)], n_features=5, random_state=0, dtype="float64")
    loss = Loss("softmax_cross_entropy", **HEAVY)
    check = fastbp.gradient_check(model, loss, X, y, sample_weight=weights, backend="reference")
    assert check.max_relative_error <= 1e-6, str(check)
    want, _ = fastbp.Trainer(model, loss=loss, backend="reference").loss_and_gradients(X, y, weights)
    assert fastbp.gradient_flow(model, loss, X, y, sample_weight=weights, backend="reference").loss == pytest.approx(
        want
    )


def test_kinks_are_stepped_around():
    X, y, _ = data("reals")
    for loss in (Loss("mae"), Loss("quantile", level=0.9), Loss("huber", delta=0.7)):
        model = network()
        near = model.predict(X)
        near[0, 0] += 3e-8 + (0.7 if loss.name == "huber" else 0)
        near[1:] += y[1:]
        assert fastbp.gradient_check(model, loss, X, near, backend="reference").max_relative_error <= 1e-6


def test_smoothing_is_that_of_soft_targets_made_by_hand():
    X, y, weights = data("labels")
    by_hand = 0.9 * np.eye(4)[y] + 0.1 / 4
    results = [
        fastbp.Trainer(network(), loss=loss, backend="reference").loss_and_gradients(X, t, weights)
        for loss, t in ((Loss("softmax_cross_entropy", **SMOOTH), y), ("softmax_cross_entropy", by_hand))
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-13)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


def test_validation_labels_beside_soft_targets():
    """Rows are soft in the training and labels in the validation: each has its kernels."""
    X, y, weights = data("shares")
    labels = y.argmax(axis=1)
    for backend in ("cpu", "reference", "cuda"):
        trainer = fastbp.Trainer(network(), loss="softmax_cross_entropy", backend=backend, verify=True)
        history = trainer.fit(X, y, validation_data=(X, labels, weights))
        want = -np.log(trainer.model.predict(X)[np.arange(9), labels])
        np.testing.assert_allclose(history["val_loss"], [np.average(want, weights=weights)], rtol=1e-12)


def test_class_weights_of_labels_are_weights_of_samples():
    X, y, weights = data("labels")
    by_class = np.array([1, 2, 0.5, 4])
    plain, weighted = network(), network()
    fastbp.Trainer(plain, loss="softmax_cross_entropy", random_state=0).fit(
        X, y, sample_weight=weights * by_class[y], epochs=3, batch_size=4
    )
    loss = Loss("softmax_cross_entropy", class_weight=by_class)
    fastbp.Trainer(weighted, loss=loss, random_state=0).fit(X, y, sample_weight=weights, epochs=3, batch_size=4)
    for a, b in zip(plain.get_weights(), weighted.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------------------------------------------
# Trainings


def trained(X, y, loss, layers, epochs=100, **options):
    model = fastbp.Sequential(layers, n_features=X.shape[1], random_state=0, dtype="float64")
    trainer = fastbp.Trainer(model, loss=loss, optimizer=fastbp.Adam(0.01), random_state=0)
    history = trainer.fit(X, y, epochs=epochs, **options)
    assert history["loss"][-1] < history["loss"][0]
    return model


def test_quantiles_have_their_share_of_samples_below():
    """Noise whose spread follows x; a column of y is the target of three outputs."""
    rng, levels = np.random.default_rng(0), (0.1, 0.5, 0.9)
    X = rng.uniform(-1, 1, (2000, 1))
    y = X[:, 0] + (1.2 + X[:, 0]) * rng.normal(size=2000)
    layers = [fastbp.Dense(16, "tanh"), fastbp.Dense(3)]
    model = trained(X, y, Loss("quantile", level=levels), layers, epochs=60, batch_size=200)
    for half in (X[:, 0] < 0, X[:, 0] > 0):
        below = (y[half, None] < model.predict(X[half])).mean(axis=0)
        np.testing.assert_allclose(below, levels, atol=0.05)


def test_huber_and_absolute_error_resist_outliers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    truth = X @ [2.0, -1.0] + 0.5
    y = truth + 0.1 * rng.normal(size=400)
    y[::10] += 50
    errors = {
        name: np.abs(trained(X, y, name, [fastbp.Dense(1)]).predict(X)[:, 0] - truth).mean()
        for name in ("mean_squared_error", "huber", "mean_absolute_error", "log_cosh")
    }
    assert errors["mean_squared_error"] > 2
    assert max(errors[name] for name in ("huber", "mean_absolute_error", "log_cosh")) < 0.3, errors


def test_label_smoothing_lowers_confidence_and_class_weights_move_the_border():
    rng = np.random.default_rng(0)
    y = (rng.uniform(size=600) < 0.2).astype(int)
    X = rng.normal(size=(600, 2)) + y[:, None]
    layers = [fastbp.Dense(8, "tanh"), fastbp.Dense(2)]
    plain, smooth, heavy = (
        trained(X, y, Loss("softmax_cross_entropy", **options), layers, epochs=40).predict(X)
        for options in ({}, {"label_smoothing": 0.3}, {"class_weight": (1, 5)})
    )
    assert smooth.max(axis=1).mean() < plain.max(axis=1).mean() - 0.05
    assert heavy[:, 1].mean() > 1.5 * plain[:, 1].mean()
    labels = np.stack([y, 1 - y], axis=1)
    plain, smooth, heavy = (
        trained(X, labels, Loss("sigmoid_cross_entropy", **options), layers, epochs=40).predict(X)
        for options in ({}, {"label_smoothing": 0.3}, {"class_weight": ((1, 5), (1, 1))})
    )
    assert smooth.max(axis=1).mean() < plain.max(axis=1).mean() - 0.05
    assert heavy[:, 0].mean() > 1.5 * plain[:, 0].mean()


# ---------------------------------------------------------------------------------------------------------------------
# Descriptions, and what is refused


def test_a_loss_is_a_frozen_description():
    assert Loss("mse") == Loss("mean_squared_error") and Loss("mae").name == "mean_absolute_error"
    assert Loss("huber").delta == 1.0 and Loss("quantile").level == 0.5 and Loss("poisson").delta is None
    loss = Loss("softmax_cross_entropy", class_weight=np.array([1, 2]), label_smoothing=0.1)
    assert loss.class_weight == (1.0, 2.0) and hash(loss) and pickle.loads(pickle.dumps(loss)) == loss
    assert Loss("sigmoid_cross_entropy", class_weight=[[1, 2], [3, 4]]).class_weight == ((1.0, 2.0), (3.0, 4.0))
    assert Loss("quantile", level=np.array([0.1, 0.9])).level == (0.1, 0.9)
    assert replace(Loss("huber", delta=2), convention="scikit-learn").delta == 2.0
    with pytest.raises(TypeError, match="positional"):
        Loss("huber", "exact", (), 0.1)


BAD = [
    (("hinge", {}), ValueError, "loss must be one of 'softmax_cross_entropy', .* 'log_cosh', got 'hinge'"),
    (("mse", {"delta": 1.0}), ValueError, "delta is for the loss 'huber', got 1.0 for 'mean_squared_error'"),
    (("huber", {"level": 0.5}), ValueError, "level is for the loss 'quantile', got 0.5 for 'huber'"),
    (
        ("poisson", {"label_smoothing": 0.1}),
        ValueError,
        "label_smoothing is for the losses 'softmax_cross_entropy' and 'sigmoid_cross_entropy', got 0.1 for 'poisson'",
    ),
    (("huber", {"class_weight": (1, 2)}), ValueError, r"class_weight is for the losses .*, got \(1, 2\) for 'huber'"),
    (("huber", {"delta": 0}), ValueError, "delta must be a number above 0, got 0"),
    (("huber", {"delta": "1"}), TypeError, "delta must be a number above 0, got '1'"),
    (("quantile", {"level": 1}), ValueError, "level must be a number above 0 and below 1, got 1"),
    (("quantile", {"level": "0.5"}), TypeError, "level must be a number above 0 and below 1, got '0.5'"),
    (("quantile", {"level": (0.5, 0)}), ValueError, r"level\[1\] must be a number above 0 and below 1, got 0"),
    (("quantile", {"level": ()}), ValueError, "level must be a number, or one for each output, got none"),
    (("softmax_cross_entropy", {"label_smoothing": 1}), ValueError, "label_smoothing must be a number of at least 0"),
    (("softmax_cross_entropy", {"label_smoothing": None}), TypeError, "label_smoothing must be a number .* got None"),
    (
        ("softmax_cross_entropy", {"class_weight": {0: 1, 1: 2}}),
        TypeError,
        r"class_weight must be a sequence, a number for each class, got \{0: 1, 1: 2\}",
    ),
    (("softmax_cross_entropy", {"class_weight": "balanced"}), TypeError, "must be a sequence, .*'balanced'"),
    (("softmax_cross_entropy", {"class_weight": (1, -2)}), ValueError, "class_weight must be at least 0 and not al"),
    (("softmax_cross_entropy", {"class_weight": (0, 0)}), ValueError, "class_weight must be at least 0 and not al"),
    (("softmax_cross_entropy", {"class_weight": (1, np.nan)}), ValueError, "class_weight is not usable: Input"),
    (
        ("softmax_cross_entropy", {"class_weight": [(1, 2), (3, 4)]}),
        ValueError,
        r"class_weight must hold a number for each class, got an array of shape \(2, 2\)",
    ),
    (
        ("sigmoid_cross_entropy", {"class_weight": (1, 2, 3)}),
        ValueError,
        r"must hold a pair, for targets of 0 and of 1, or one for each output, got an array of shape \(3,\)",
    ),
    (
        ("softmax_cross_entropy", {"class_weight": (1, 2, 3), "blocks": (3,)}),
        ValueError,
        "class_weight is not for a loss with blocks, .*: weigh the samples instead, by sample_weight",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "error", "message"), BAD)
def test_bad_fields_are_named(loss, error, message):
    name, options = loss
    with pytest.raises(error, match=message):
        Loss(name, **options)


@pytest.mark.parametrize(
    ("loss", "last", "message"),
    [
        (
            Loss("quantile", level=(0.1, 0.9)),
            "identity",
            "level has 2 levels, one for each output: .*, got 4",
        ),
        (
            Loss("softmax_cross_entropy", class_weight=(1, 2)),
            "identity",
            "class_weight has 2 weights, one for each class: .* got 4",
        ),
        (
            Loss("sigmoid_cross_entropy", class_weight=((1, 2), (1, 2))),
            "identity",
            "class_weight has 2 pairs, one for each output: .* got 4; one pair alone is for all of them",
        ),
        (
            "poisson",
            "tanh",
            r"'poisson' brings the output activation 'exp': .* got 'tanh' \(it also takes .* 'relu', 'soft",
        ),
        (
            "sigmoid_cross_entropy",
            "relu",
            r"brings .* 'logistic': .* got 'relu' \(it also takes the outputs of 'softmax'\)",
        ),
        ("softmax_cross_entropy", "logistic", "brings the output activation 'softmax': .*'identity', got 'logistic'$"),
    ],
)
def test_an_output_that_does_not_fit_is_an_error(loss, last, message):
    with pytest.raises(ValueError, match=message):
        fastbp.Trainer(network(last), loss=loss)


def changed(y, place, value):
    y = y.copy()
    y[place] = value
    return y


SHARES = data("shares")[1]
BAD_TARGETS = [
    (
        {},
        changed(SHARES, (3, 1), -0.1),
        ValueError,
        "y must be at least 0 for soft targets, .* got values down to -0.1",
    ),
    ({}, changed(SHARES, (3, 1), np.nan), ValueError, "y is not usable: Input y contains NaN"),
    ({}, changed(SHARES, 3, 0.5), ValueError, r"soft targets must sum to 1 over the classes, but y\[3\] has the sum 2"),
    ({}, SHARES[:, :3], ValueError, r"y must have the shape \(9, 4\), a row for each .* got \(9, 3\)"),
    ({}, SHARES[:8], ValueError, r"y must have the shape \(9, 4\), a row for each .* got \(8, 4\)"),
    ({}, SHARES[:, 0], TypeError, "y must hold integer labels from 0 to 3, got an array of float64"),
    (
        {},
        np.eye(4, dtype=int)[np.arange(9) % 4],
        ValueError,
        r"got \(9, 4\); soft targets are floats, with a column for each class",
    ),
    (
        {"blocks": (2, 2)},
        SHARES,
        ValueError,
        r"sum to 1 over the classes, but y\[\d, [02]:[24]\] \(block [01]\) has the sum",
    ),
    (
        {"class_weight": (0, 0, 1, 1)},
        np.arange(9) % 2,
        ValueError,
        "y must hold a label whose class_weight is not 0, got",
    ),
]


@pytest.mark.parametrize(("options", "y", "error", "message"), BAD_TARGETS)
def test_bad_targets_are_named(options, y, error, message):
    with pytest.raises(error, match=message):
        fastbp.Trainer(network(), loss=Loss("softmax_cross_entropy", **options)).fit(data("shares")[0], y)


def test_a_column_for_several_levels_is_checked_like_others():
    trainer = fastbp.Trainer(network(n_outputs=2), loss=Loss("quantile", level=(0.1, 0.9)))
    X = data("reals")[0]
    for y, message in (
        (np.ones((9, 3)), r"y must have the shape \(9, 2\), .* got \(9, 3\)"),
        (np.ones(8), r"y must have the shape \(9, 2\), .* got \(8,\)"),
        (np.full(9, np.inf), "y is not usable: Input y contains infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.fit(X, y)
