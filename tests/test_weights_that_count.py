"""Weights of rows and classes: those that leave nothing to train on, or that are none, are refused by name."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils.class_weight import compute_class_weight

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.losses import Loss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X = np.random.default_rng(0).normal(size=(40, 3))
REAL = X.sum(axis=1)
TWO, THREE = (REAL > 0).astype(int), np.digitize(REAL, [-1, 1])
LABELS, SEVERAL = (X[:, :2] > 0).astype(int), np.column_stack([THREE, TWO])
OPTIONS = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
SOLVERS = ("adam", "sgd", "lbfgs")
each = pytest.mark.parametrize(("estimator", "y"), [(MLPClassifier, TWO), (MLPRegressor, REAL)])
# Weights that leave nothing: in float32 sums beyond its range as well
NOTHING = {
    "sum to 0": (np.tile([1.0, -1.0], 20), "float64"),
    "overflow": (np.full(40, 3e37), "float32"),
    "sum that overflows": (np.full(40, 1e308), "float64"),
    "underflow": (np.full(40, 1e-45), "float32"),
}


def refused(call, name, *arguments, **named):
    with pytest.raises(ValueError, match=name) as caught:
        call(*arguments, **named)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@each
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("case", NOTHING)
def test_sums_of_no_use(estimator, y, solver, case):
    weights, dtype = NOTHING[case]
    model = estimator(solver=solver, dtype=dtype, **OPTIONS)
    for way in ("fit", "partial_fit") if solver == "adam" else ("fit",):
        call = getattr(model, way)
        first = {"classes": [0, 1]} if (estimator, way) == (MLPClassifier, "partial_fit") else {}
        refused(call, "^sample_weight must leave something to train on", X, y, weights, **first)
        refused(call, "^sample_weight_val must leave", X, y, X_val=X, y_val=y, sample_weight_val=weights, **first)
        assert not hasattr(model, "coefs_")


@each
@pytest.mark.parametrize("solver", SOLVERS)
def test_validation_weights_that_cannot_be_used_are_named(estimator, y, solver):
    model = estimator(solver=solver, **OPTIONS)
    for weights in (np.zeros(40), 0.0, np.ones(39), np.ones((40, 1)), np.where(TWO, np.nan, 1), np.inf, "a", ["a"] * 40,
                    np.full(40, 1j), np.array([1e39] * 40)):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match="sample_weight_val"):
            model.set_params(dtype="float32").fit(X, y, X_val=X, y_val=y, sample_weight_val=weights)
    for weights in (np.full(40, 1e39), np.inf, np.nan):
        with pytest.raises(ValueError, match="sample_weight"):
            model.fit(X, y, weights)


@each
@pytest.mark.parametrize("scoring", [None, "loss"])
def test_early_stopping_that_leaves_nothing_on_one_side(estimator, y, scoring):
    """Rows are held out by chance: each row with a weight in turn."""
    options = OPTIONS | {"early_stopping": True, "scoring": scoring, "validation_fraction": 0.25}
    sides = set()
    for row in range(0, 40, 4):
        weights = np.zeros(40)
        weights[row] = 1
        message = refused(estimator(**options).fit, "^sample_weight of the rows", X, y, weights)
        sides |= {side for side in ("trained on", "held out by early_stopping=True") if f"rows {side} must" in message}
    assert len(sides) == 2
    named = OPTIONS | {"early_stopping": True}
    with pytest.raises(ValueError, match="sample_weight_val"):
        estimator(**named).fit(X, y, X_val=X, y_val=y, sample_weight_val=np.tile([1.0, -1], 20))


@pytest.mark.parametrize("solver", SOLVERS)
def test_class_weights_of_0(solver):
    model = MLPClassifier(solver=solver, **OPTIONS)
    refused(model.set_params(class_weight={0: 0, 1: 0}).fit, "^class_weight gives 0 to every class", X, TWO)
    alone = np.zeros(40, int)
    refused(model.set_params(class_weight={0: 0}).fit, "^class_weight gives 0 to every class", X, alone)
    model.set_params(class_weight={0: 0})
    weights = 1.0 - TWO  # all on the class that weighs nothing
    refused(model.fit, "^sample_weight times class_weight must leave something", X, TWO, weights)
    rows = {"X_val": X[TWO == 0], "y_val": TWO[TWO == 0]}
    refused(model.fit, "^class_weight must leave something", X, TWO, **rows)
    refused(model.fit, "^sample_weight_val times class_weight", X, TWO, X_val=X, y_val=TWO, sample_weight_val=weights)
    model.fit(X, TWO, X_val=X, y_val=TWO)
    np.testing.assert_array_equal(
        model.coefs_[0], MLPClassifier(solver=solver, **OPTIONS).fit(X, TWO, TWO.astype(float)).coefs_[0]
    )
    if solver != "lbfgs":
        refused(model.partial_fit, "^class_weight must leave something", X[TWO == 0], TWO[TWO == 0])


def test_weights_too_small_to_divide_by_are_0():
    """A batch of these alone was divided by a number without a reciprocal in float32."""
    weights = np.full(40, 1e-42)
    weights[:10] = 1
    options = OPTIONS | {"batch_size": 5, "shuffle": False, "dtype": "float32"}
    for estimator, y in ((MLPClassifier, TWO), (MLPRegressor, REAL)):
        model = estimator(**options).fit(X, y, weights)
        np.testing.assert_array_equal(
            model.coefs_[0], estimator(**options).fit(X, y, np.where(weights == 1, 1.0, 0)).coefs_[0]
        )
    layers = [fastbp.Dense(1)]
    losses = []
    for given in (weights, np.where(weights == 1, 1.0, 0)):
        trainer = fastbp.Trainer(fastbp.Sequential(layers, n_features=3, random_state=0), loss="mse", random_state=0)
        losses.append(trainer.fit(X, REAL, sample_weight=given, batch_size=5, epochs=3)["loss"])
    assert losses[0] == losses[1]


def test_large_class_weights_are_refused_where_the_network_cannot_hold_them():
    model = MLPClassifier(class_weight={0: 1e39, 1: 1}, dtype="float32", **OPTIONS)
    refused(model.fit, "^class_weight, times sample_weight where there is one, is too large for float32", X, TWO)
    assert MLPClassifier(class_weight={0: 1e39, 1: 1e39}, **OPTIONS).fit(X, TWO).loss_ < 10


# ---------------------------------------------------------------------------------------------------------------------
# class_weight


BAD = {
    "NaN": ({0: np.nan}, r"class_weight\[0\] must be a number of at least 0, got nan"),
    "infinite": ({0: np.inf}, r"class_weight\[0\] must be a number of at least 0, got inf"),
    "negative": ({1: -1}, r"class_weight\[1\] must be a number of at least 0, got -1"),
    "None": ({1: None}, r"class_weight\[1\] must be a number of at least 0, got None"),
    "a word": ({1: "2"}, r"class_weight\[1\] must be a number of at least 0, got '2'"),
    "no class": ({0: 1, 1: 1, 7: 1}, r"class_weight has the keys \[7\], which are no classes of y: .* \[0 1\]"),
    "a word for a class": ({"0": 1}, r"class_weight has the keys \['0'\]"),
    "NaN for a class": ({np.nan: 1}, r"class_weight has the keys \[nan\]"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("y", [TWO, LABELS, sparse.csr_array(LABELS), SEVERAL[:, [1, 1]], np.array([4, 5])[LABELS]])
def test_class_weights_that_are_none(case, y):
    class_weight, message = BAD[case]
    if y[0].max() > 3:
        class_weight = {key + 4 if key in (0, 1) else key: value for key, value in class_weight.items()}
        message = (
            message.replace("0\\]", "4\\]").replace("1\\]", "5\\]").replace("[0 1", "[4 5").replace("0 5\\]", "4 5\\]")
        )
    model = MLPClassifier(class_weight=class_weight, **OPTIONS)
    with pytest.raises((ValueError, TypeError), match=message.split(": .*")[0]):
        model.fit(X, y)
    if y.ndim == 2:
        of_one = message.replace("class_weight", "class_weight\\[1\\]", 1)
        with pytest.raises((ValueError, TypeError), match=of_one.split(": .*")[0]):
            model.set_params(class_weight=[None, class_weight]).fit(X, y)
    else:
        with pytest.raises((ValueError, TypeError), match=message.split(": .*")[0]):
            model.partial_fit(X, y, classes=[0, 1])
        model = MLPClassifier(**OPTIONS).fit(X, y).set_params(class_weight=class_weight)
        with pytest.raises((ValueError, TypeError), match=message.split(": .*")[0]):
            model.partial_fit(X, y)


def test_entries_of_a_list():
    for entry in ("heavy", 3, [1, 2]):
        with pytest.raises(
            TypeError, match=r"class_weight\[1\] must be a dict \{class: weight\}, 'balanced' or None, got"
        ):
            MLPClassifier(class_weight=[None, entry], **OPTIONS).fit(X, SEVERAL)
    MLPClassifier(class_weight=[{2: 3.0}, "balanced"], **OPTIONS).fit(X, SEVERAL)


@pytest.mark.parametrize(
    ("names", "keys"),
    [(("1", "2"), ("1", "2")), ((False, True), (False, True)), ((1.0, 2.0), (1, 2)), ((-3, 5), (np.int64(-3), 5.0))],
)
def test_keys_are_the_classes_themselves(names, keys):
    """scikit-learn looks for the integer 1 where the class is "1"."""
    y = np.array(names)[TWO]
    model = MLPClassifier(class_weight={keys[0]: 2.0, keys[1]: 5}, **OPTIONS).fit(X, y)
    by_hand = MLPClassifier(**OPTIONS).fit(X, y, np.array([2.0, 5.0])[TWO])
    np.testing.assert_array_equal(model.coefs_[0], by_hand.coefs_[0])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_balanced_counts_rows_by_their_weights(solver):
    options = OPTIONS | {"solver": solver, "batch_size": 40, "shuffle": False}
    weights = np.random.default_rng(1).integers(1, 4, 40).astype(float)
    of_classes = compute_class_weight("balanced", classes=np.arange(3), y=THREE, sample_weight=weights)
    model = MLPClassifier(class_weight="balanced", **options).fit(X, THREE, weights)
    by_hand = MLPClassifier(**options).fit(X, THREE, weights * of_classes[THREE])
    np.testing.assert_allclose(model.coefs_[0], by_hand.coefs_[0], rtol=1e-10)
    weights[::3] = 0  # a row that weighs nothing is none
    kept = weights > 0
    of_classes = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(THREE, weights.astype(int)))
    model.fit(X, THREE, weights)
    by_hand.fit(X, THREE, weights * of_classes[THREE])
    np.testing.assert_allclose(model.coefs_[0], by_hand.coefs_[0], rtol=1e-10)
    weights[THREE == 2] = 0  # so that only two classes count
    model.fit(X, THREE, weights)
    of_classes = compute_class_weight("balanced", classes=np.arange(2), y=np.repeat(THREE, weights.astype(int)))
    by_hand.fit(X, THREE, weights * np.append(of_classes, 1)[THREE])
    np.testing.assert_allclose(model.coefs_[0], by_hand.coefs_[0], rtol=1e-10)
    assert kept.sum() < 40
    with pytest.raises(
        ValueError, match="class_weight='balanced' counts rows by their sample_weight, which must be at"
    ):
        model.fit(X, THREE, np.where(TWO, -1.0, 1.0))


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.5, 1: 3.0}])
def test_balanced_labels(class_weight):
    weights = np.linspace(0.5, 2, 40)
    model = MLPClassifier(class_weight=class_weight, **OPTIONS).fit(X, LABELS, weights)
    factors = [np.array([0.5, 3.0])] * 2
    if class_weight == "balanced":
        factors = [compute_class_weight("balanced", classes=np.arange(2), y=y, sample_weight=weights) for y in LABELS.T]
    by_hand = weights * factors[0][LABELS[:, 0]] * factors[1][LABELS[:, 1]]
    np.testing.assert_allclose(model.coefs_[0], MLPClassifier(**OPTIONS).fit(X, LABELS, by_hand).coefs_[0], rtol=1e-10)


def test_validation_rows_weigh_what_those_of_the_training_do():
    rare = np.r_[np.zeros(30, int), np.ones(10, int)]
    model = MLPClassifier(class_weight="balanced", **OPTIONS).fit(X, rare, X_val=X[20:], y_val=rare[20:])
    logarithms, factors = model.predict_log_proba(X[20:]), np.array([40 / 60, 2.0])[rare[20:]]
    want = -np.average(logarithms[np.arange(20), rare[20:]], weights=factors)
    assert model.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_a_class_weight_weighs_samples_here_and_terms_in_a_loss(label_smoothing):
    """The two formulas of the docstrings."""
    weights, by_class = np.linspace(0.5, 2, 40), np.array([1.0, 2.0, 5.0])
    options = OPTIONS | {"alpha": 0.0, "label_smoothing": label_smoothing}
    model = MLPClassifier(class_weight=dict(enumerate(by_class)), **options)
    model.fit(X, THREE, X_val=X, y_val=THREE, sample_weight_val=weights)
    shares = (1 - label_smoothing) * np.eye(3)[THREE] + label_smoothing / 3
    terms, total = -shares * model.predict_log_proba(X), (weights * by_class[THREE]).sum()
    of_samples = (weights * by_class[THREE] * terms.sum(axis=1)).sum() / total
    of_terms = (weights * (by_class * terms).sum(axis=1)).sum() / total
    assert model.validation_loss_curve_[-1] == pytest.approx(of_samples, rel=1e-9)
    network = fastbp.Sequential([fastbp.Dense(8, "relu"), fastbp.Dense(3)], n_features=3, dtype="float64")
    network.set_weights([a for pair in zip(model.coefs_, model.intercepts_, strict=True) for a in pair])
    loss = Loss("softmax_cross_entropy", class_weight=by_class, label_smoothing=label_smoothing)
    found, _ = fastbp.Trainer(network, loss=loss).loss_and_gradients(X, THREE, weights)
    assert found == pytest.approx(of_terms, rel=1e-9)
    assert (of_terms == pytest.approx(of_samples, rel=1e-9)) == (label_smoothing == 0)


# ---------------------------------------------------------------------------------------------------------------------
# Trainer


def trainer(loss, n_outputs, dtype="float64"):
    layers = [fastbp.Dense(n_outputs)]
    return fastbp.Trainer(
        fastbp.Sequential(layers, n_features=3, random_state=0, dtype=dtype), loss=loss, random_state=0
    )


SOFT = np.eye(3)[THREE]
TRAINED = {
    "labels": (Loss("softmax_cross_entropy", class_weight=(0, 1, 1)), 3, THREE, THREE == 0),
    "soft": (Loss("softmax_cross_entropy", class_weight=(0, 1, 1)), 3, SOFT, THREE == 0),
    "sigmoid": (Loss("sigmoid_cross_entropy", class_weight=(0, 2)), 1, TWO.astype(float), TWO == 0),
    "sigmoids": (
        Loss("sigmoid_cross_entropy", class_weight=((0, 1), (0, 1))), 2, LABELS.astype(float),
        (LABELS == 0).all(axis=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TRAINED)
def test_sample_weights_times_those_of_the_loss(case):
    loss, n_outputs, y, of_nothing = TRAINED[case]
    model = trainer(loss, n_outputs)
    weights = of_nothing.astype(float)
    before = model.model.get_weights()
    for call in (model.fit, model.loss_and_gradients):
        refused(call, "^sample_weight and the loss's class_weight must leave", X, y, sample_weight=weights)
    rows = (X, y, weights)
    refused(model.fit, "^validation_data: sample_weight and the loss's class_weight", X, y, validation_data=rows)
    if case != "labels":  # which are looked at before
        refused(model.fit, "^sample_weight and the loss's class_weight must leave", X[of_nothing], y[of_nothing])
    for a, b in zip(model.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    history = model.fit(X, y, sample_weight=np.ones(40), validation_data=(X, y))
    assert np.isfinite(history["val_loss"]).all()


def test_smoothed_targets_always_leave_terms():
    for name, n_outputs, y, by_class in (
        ("softmax_cross_entropy", 3, np.eye(3)[np.zeros(40, int)], (0, 1, 1)),
        ("sigmoid_cross_entropy", 1, np.zeros(40), (0, 1)),
    ):
        loss = Loss(name, class_weight=by_class, label_smoothing=0.1)
        assert trainer(loss, n_outputs).fit(X, y)["loss"][0] > 0


@pytest.mark.parametrize(("weights", "dtype"), [(np.full(40, 3e37), "float32"), (np.full(40, 1e-45), "float32")])
def test_sums_that_a_trainer_cannot_divide_by(weights, dtype):
    model = trainer("mse", 1, dtype=dtype)
    refused(model.fit, "^sample_weight must leave", X, REAL, sample_weight=weights)
    refused(model.fit, "^validation_data: sample_weight must", X, REAL, validation_data=(X, REAL, weights))


def test_each_kind_of_weight_with_each_kind_of_target():
    """What is fitted is finite, or a ValueError says why not."""
    kinds = [None, np.ones(40), np.zeros(40), np.r_[1.0, np.zeros(39)], np.full(40, 1e-300), np.full(40, 1e300),
             -np.ones(40), np.tile([1.0, -1.0], 20), np.full(40, np.nan), 2.0, 0.0]  # fmt: skip
    for weights, weights_val, early_stopping, solver in itertools.product(kinds, kinds, (False, True), SOLVERS):
        for estimator, y in ((MLPClassifier, THREE), (MLPClassifier, LABELS), (MLPRegressor, REAL)):
            model = estimator(
                solver=solver, early_stopping=early_stopping, dtype="float32", **OPTIONS | {"max_iter": 1}
            )
            try:
                model.fit(X, y, weights, X_val=X, y_val=y, sample_weight_val=weights_val)
            except ValueError as error:
                assert "eight" in str(error), error
                continue
            assert all(np.isfinite(W).all() for W in model.coefs_)
            assert np.isfinite(model.validation_loss_curve_).all()
