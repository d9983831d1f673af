"""What scikit-learn's users have asked for: class weights, validation rows, scoring, activations by layer, dtype."""

import itertools
import pickle

import numpy as np
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_multilabel_classification
from sklearn.metrics import f1_score, log_loss, make_scorer, mean_absolute_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp.kernels.layout import RECTIFIERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = make_classification(300, 8, n_informative=6, n_classes=3, weights=[0.6, 0.3, 0.1], random_state=0)
X_TRAIN, X_VAL, Y_TRAIN, Y_VAL = train_test_split(X, Y, random_state=0)
OPTIONS = {"hidden_layer_sizes": (12,), "max_iter": 15, "random_state": 0, "learning_rate_init": 0.01}


def assert_same_weights(one, other):
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# class_weight


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 2.0, 2: 7.0}, {2: 3.0}])
def test_class_weight_is_a_sample_weight(class_weight, solver):
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    for sample_weight in (None, weights):
        full = {**{0: 1.0, 1: 1.0, 2: 1.0}, **class_weight} if isinstance(class_weight, dict) else class_weight
        if class_weight == "balanced":  # rows count by their sample weights
            of_classes = compute_class_weight("balanced", classes=np.arange(3), y=Y, sample_weight=sample_weight)
            full_by_hand = dict(enumerate(of_classes))
        else:
            full_by_hand = full
        by_hand = compute_sample_weight(full_by_hand, Y) * (1 if sample_weight is None else sample_weight)
        options = {**OPTIONS, "solver": solver}
        model = MLPClassifier(class_weight=full, **options).fit(X, Y, sample_weight)
        assert_same_weights(model, MLPClassifier(**options).fit(X, Y, by_hand))


def test_class_weight_of_two_classes_names_and_labels():
    names = np.array(["no", "yes"])[(Y > 0).astype(int)]
    model = MLPClassifier(class_weight={"no": 1, "yes": 4}, **OPTIONS).fit(X, names)
    assert_same_weights(model, MLPClassifier(**OPTIONS).fit(X, names, np.where(names == "yes", 4.0, 1.0)))
    labels = make_multilabel_classification(300, 8, n_classes=2, random_state=0)[1]
    model = MLPClassifier(class_weight=[{0: 1, 1: 2}, {0: 3, 1: 5}], **OPTIONS).fit(X, labels)
    by_hand = np.array([1, 2])[labels[:, 0]] * np.array([3.0, 5])[labels[:, 1]]
    assert_same_weights(model, MLPClassifier(**OPTIONS).fit(X, labels, by_hand))


def test_balanced_weights_lift_a_rare_class():
    plain, balanced = (MLPClassifier(class_weight=w, **OPTIONS).fit(X, Y) for w in (None, "balanced"))
    recall = [(model.predict(X)[Y == 2] == 2).mean() for model in (plain, balanced)]
    assert recall[1] > recall[0]


def test_wrong_class_weights_are_named():
    with pytest.raises(ValueError, match="class_weight 'balanced' is not for partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"class_weight has the keys \[7\], which are no classes of y: .* \[0 1 2\]"):
        MLPClassifier(class_weight={7: 1.0}).fit(X, Y)
    with pytest.raises(ValueError, match="class_weight has 3 weights, but y has 1 target: give"):
        MLPClassifier(class_weight=[{}, {}, {}]).fit(X, Y)
    with pytest.raises(ValueError, match="The 'class_weight' parameter of MLPClassifier must be"):
        MLPClassifier(class_weight="heavy").fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# Validation rows


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_validation_loss_curve(solver):
    weights = np.random.RandomState(1).uniform(0.5, 2, len(X_VAL))
    model = MLPClassifier(**{**OPTIONS, "solver": solver})
    model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=weights)
    assert len(model.validation_loss_curve_) == model.n_iter_ and model.n_iter_ > 5
    last = log_loss(Y_VAL, model.predict_proba(X_VAL), sample_weight=weights)
    assert model.validation_loss_curve_[-1] == pytest.approx(last, rel=1e-9)
    assert model.history_["val_loss"] == model.validation_loss_curve_
    plain = MLPClassifier(**{**OPTIONS, "solver": solver}).fit(X_TRAIN, Y_TRAIN)
    assert_same_weights(model, plain)  # validation changes nothing
    assert plain.validation_loss_curve_ is None


def test_early_stopping_by_given_rows():
    model = MLPClassifier(early_stopping=True, n_iter_no_change=3, **{**OPTIONS, "max_iter": 200})
    model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)
    assert model.stopped_early_ and len(model.validation_scores_) == model.n_iter_ < 200
    assert model.score(X_VAL, Y_VAL) == max(model.validation_scores_) == model.best_validation_score_
    assert model.t_ == model.n_iter_ * len(X_TRAIN)  # no row is held out
    assert len(model.history_["val_score"]) == len(model.validation_loss_curve_) == model.n_iter_


def test_early_stopping_by_rows_that_are_split_off_has_a_loss_curve_too():
    model = MLPRegressor(early_stopping=True, **OPTIONS).fit(X, Y)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_


@pytest.mark.parametrize(
    ("scoring", "metric"),
    [
        ("loss", lambda model: -log_loss(Y_VAL, model.predict_proba(X_VAL))),
        ("neg_log_loss", lambda model: -log_loss(Y_VAL, model.predict_proba(X_VAL))),
        ("f1_macro", lambda model: f1_score(Y_VAL, model.predict(X_VAL), average="macro")),
        (make_scorer(f1_score, average="micro"), lambda model: f1_score(Y_VAL, model.predict(X_VAL), average="micro")),
        (lambda model, X, y: float((model.predict(X) == y).mean() / 2), lambda model: model.score(X_VAL, Y_VAL) / 2),
    ],
)
def test_scoring(scoring, metric):
    model = MLPClassifier(early_stopping=True, scoring=scoring, n_iter_no_change=4, **{**OPTIONS, "max_iter": 300})
    model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert metric(model) == pytest.approx(model.best_validation_score_, rel=1e-9)
    assert model.n_iter_ < 300
    assert isinstance(model.validation_scores_[0], float)


def test_scoring_of_a_regressor_on_rows_split_off_and_named_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"column {k}" for k in range(8)])
    model = MLPRegressor(early_stopping=True, scoring="neg_mean_absolute_error", **OPTIONS).fit(frame, Y)
    assert -mean_absolute_error(Y, model.predict(frame)) == pytest.approx(model.best_validation_score_, abs=0.3)
    model.fit(frame[:200], Y[:200], X_val=frame[200:], y_val=Y[200:])
    best = -mean_absolute_error(Y[200:], model.predict(frame[200:]))
    assert best == pytest.approx(model.best_validation_score_, rel=1e-12)


def test_a_scorer_gets_weights_where_there_are_some():
    seen = []

    def scorer(model, X, y, sample_weight=None):
        seen.append(sample_weight)
        return model.score(X, y)

    model = MLPClassifier(early_stopping=True, scoring=scorer, **{**OPTIONS, "max_iter": 1})
    model.fit(X, Y)
    model.fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL, sample_weight_val=np.full(len(X_VAL), 2.0))
    assert seen[0] is None and (seen[1] == 2).all()


def test_validation_rows_that_do_not_fit_are_named():
    model = MLPClassifier(**OPTIONS)
    for arguments, message in (
        ({"X_val": X_VAL}, "y_val must have a target for each row of X_val, got None: pass y_val"),
        ({"y_val": Y_VAL}, "go with X_val, which is None"),
        ({"X_val": X_VAL[:, :5], "y_val": Y_VAL}, "X has 5 features"),
        ({"X_val": X_VAL, "y_val": Y_VAL[:-1]}, "y_val must have a target for each of the 75 rows of X_val, got 74"),
        ({"X_val": X_VAL, "y_val": Y_VAL + 1}, r"y_val has classes \[3\] that are not among \[0 1 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X_TRAIN, Y_TRAIN, **arguments)
    with pytest.raises(ValueError, match="loss='poisson' needs targets of at least 0, got a smallest y_val of -1"):
        MLPRegressor("poisson", **OPTIONS).fit(X, Y, X_val=X_VAL, y_val=Y_VAL - 1)
    with pytest.raises(ValueError, match="loss='poisson' needs targets of at least 0, got a smallest y of -2"):
        MLPRegressor("poisson", **OPTIONS).fit(X, Y - 2)
    with pytest.raises(ValueError, match="The 'scoring' parameter of MLPClassifier must be"):
        MLPClassifier(scoring="elegance").fit(X, Y)


def test_early_stopping_in_partial_fit():
    model = MLPClassifier(early_stopping=True, n_iter_no_change=4, **OPTIONS)
    calls = 0
    while not getattr(model, "stopped_early_", False):
        model.partial_fit(X_TRAIN, Y_TRAIN, classes=[0, 1, 2], X_val=X_VAL, y_val=Y_VAL)
        calls += 1
        assert calls < 300
    assert len(model.validation_scores_) == len(model.history_["val_loss"]) == calls > 5
    assert model.score(X_VAL, Y_VAL) == model.best_validation_score_ == max(model.validation_scores_)
    best = [W.copy() for W in model.coefs_]
    model.partial_fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)  # does nothing more
    assert len(model.validation_scores_) == calls
    for a, b in zip(best, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="without validation rows: give X_val and y_val"):
        clone(model).partial_fit(X, Y, classes=[0, 1, 2])
    assert not model.fit(X, Y).stopped_early_
    with pytest.raises(ValueError, match="without validation rows: give X_val and y_val"):
        model.partial_fit(X, Y)
    model.partial_fit(X_TRAIN, Y_TRAIN, X_val=X_VAL, y_val=Y_VAL)  # goes on, and compares with nothing from before
    assert model.best_validation_score_ == model.validation_scores_[-1] == model.score(X_VAL, Y_VAL)


# ---------------------------------------------------------------------------------------------------------------------
# Activations by layer, dtype, history


def test_one_activation_for_each_hidden_layer():
    options = {**OPTIONS, "hidden_layer_sizes": (7, 6)}
    mixed = MLPClassifier(activation=("tanh", "logistic"), **options).fit(X, Y)
    layers = [fastbp.Dense(7, "tanh"), fastbp.Dense(6, "sigmoid"), fastbp.Dense(3, "softmax")]
    model = fastbp.Sequential(layers, n_features=8, dtype="float64")
    model.set_weights([array for pair in zip(mixed.coefs_, mixed.intercepts_, strict=True) for array in pair])
    np.testing.assert_allclose(model.predict(X), mixed.predict_proba(X), rtol=1e-12)
    assert_same_weights(
        MLPClassifier(activation=["tanh"] * 2, **options).fit(X, Y),
        MLPClassifier(activation="tanh", **options).fit(X, Y),
    )
    with pytest.raises(ValueError, match="activation has 1 name for 2 hidden layers: give one"):
        MLPClassifier(activation=["relu"], **options).fit(X, Y)
    with pytest.raises(ValueError, match=r"activation must hold names among .* got 'relu6'"):
        MLPClassifier(activation=["relu", "relu6"], **options).fit(X, Y)
    MLPClassifier(activation=[], **{**OPTIONS, "hidden_layer_sizes": ()}).fit(X, Y)


def test_activations_that_scikit_learn_has_not():
    options = {**OPTIONS, "hidden_layer_sizes": (9, 8, 7, 6, 5, 4, 9, 8)}
    mixed = MLPClassifier(activation=list(RECTIFIERS), **options).fit(X, Y)
    layers = [fastbp.Dense(n, f) for n, f in zip(options["hidden_layer_sizes"], RECTIFIERS, strict=True)]
    model = fastbp.Sequential([*layers, fastbp.Dense(3, "softmax")], n_features=8, dtype="float64")
    model.set_weights([array for pair in zip(mixed.coefs_, mixed.intercepts_, strict=True) for array in pair])
    np.testing.assert_allclose(model.predict(X), mixed.predict_proba(X), rtol=1e-12)
    with pytest.raises(ValueError, match=r"The 'activation' parameter of MLPClassifier must be a str among .*'mish'"):
        MLPClassifier(activation="gelu_exact", **options).fit(X, Y)


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_dtype(estimator, given):
    data = X.astype(given)
    for dtype in (None, "float32", "float64", np.float32):
        model = estimator(dtype=dtype, **OPTIONS).fit(data, Y)
        want = given if dtype is None else np.dtype(dtype)
        assert all(array.dtype == want for array in model.coefs_ + model.intercepts_)
        outputs = model.predict_proba(data) if hasattr(model, "predict_proba") else model.predict(data)
        assert outputs.dtype == want
    assert_same_weights(estimator(dtype="float32", **OPTIONS).fit(X, Y), estimator(**OPTIONS).fit(X.astype("f4"), Y))
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', got"):
        estimator(dtype="float16").fit(X, Y)


def test_history():
    model = MLPClassifier(solver="sgd", learning_rate="invscaling", **OPTIONS).fit(X, Y)
    assert list(model.history_) == ["loss", "learning_rate", "epoch_seconds"]
    assert model.history_["loss"] == model.loss_curve_ and len(model.history_.epochs) == 15
    rates = model.history_["learning_rate"]
    assert rates[0] == 0.01 and all(a > b for a, b in itertools.pairwise(rates))
    assert min(model.history_["epoch_seconds"]) > 0
    model.partial_fit(X, Y)
    assert model.history_["loss"] == model.loss_curve_ and len(model.loss_curve_) == 16
    assert pickle.loads(pickle.dumps(model)).history_["loss"] == model.loss_curve_
    model.fit(X, Y)
    assert len(model.history_["loss"]) == 15


def test_predictions_are_of_the_type_of_data_and_weights_together():
    narrow, wide = MLPClassifier(**OPTIONS).fit(X.astype("f4"), Y), MLPClassifier(**OPTIONS).fit(X, Y)
    for model, data, dtype in (
        (narrow, X.astype("f4"), "f4"), (narrow, X, "f8"), (wide, X.astype("f4"), "f8"), (narrow, X.astype(int), "f8"),
        (narrow, sparse.csr_array(X), "f8"), (wide, X.astype("f2"), "f8"), (narrow, X.astype("f2"), "f4"),
    ):  # fmt: skip
        assert model.predict_proba(data).dtype == np.dtype(dtype)
    chosen = MLPClassifier(dtype="float32", **OPTIONS).fit(X, Y)
    assert chosen.predict_proba(X).dtype == np.float32
    with pytest.raises(ValueError, match="Input X contains infinity or a value too large"):
        chosen.predict(X * 1e39)
    narrow.set_params(warm_start=True).fit(X, Y)
    assert all(array.dtype == np.float32 for array in narrow.coefs_)


def test_coefs_that_cannot_be_used_are_named():
    model = MLPClassifier(**OPTIONS).fit(X, Y)
    model.coefs_[0] = model.coefs_[0].astype(np.float16)
    with pytest.raises(ValueError, match="coefs_ and intercepts_ must be arrays of float32 or float64"):
        model.predict(X)
    model.coefs_ = [[[1, 2]], 3]
    with pytest.raises(ValueError, match="coefs_ and intercepts_ must be arrays"):
        model.predict(X)


def test_parameters_are_looked_at_in_every_partial_fit():
    model = MLPClassifier(**OPTIONS).partial_fit(X, Y, classes=[0, 1, 2])
    for name, value in {"batch_size": 0, "activation": None, "alpha": -1, "n_jobs": 1.5}.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            clone(model).set_params(**{name: value}).partial_fit(X, Y, classes=[0, 1, 2])
        before = model.get_params()[name]
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLPClassifier must be"):
            model.set_params(**{name: value}).partial_fit(X, Y)
        model.set_params(**{name: before})


def test_validation_rows_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(**OPTIONS).set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), model).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
        assert len(pipeline[-1].validation_loss_curve_) == 15
        requests = model.set_partial_fit_request(X_val=True).get_metadata_routing()
        assert requests.partial_fit.requests["X_val"] is True and "sample_weight_val" in requests.fit.requests


# ---------------------------------------------------------------------------------------------------------------------
# Several targets of several classes

TWO = np.column_stack([Y, (X[:, 0] > 0) + 2 * (X[:, 1] > 0)])  # three and four classes


def test_two_targets_of_several_classes():
    model = MLPClassifier(**{**OPTIONS, "max_iter": 150}).fit(X, TWO)
    assert [list(names) for names in model.classes_] == [[0, 1, 2], [0, 1, 2, 3]]
    assert model.n_outputs_ == 7 and model.out_activation_ == "softmax"
    predicted, probabilities = model.predict(X), model.predict_proba(X)
    assert predicted.shape == TWO.shape and predicted.dtype == TWO.dtype
    assert model.score(X, TWO) == pytest.approx((predicted == TWO).all(axis=1).mean())
    assert (predicted == TWO).mean() > 0.9
    for k, (part, names) in enumerate(zip(probabilities, model.classes_, strict=True)):
        np.testing.assert_allclose(part.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(names[part.argmax(axis=1)], predicted[:, k])
        np.testing.assert_allclose(np.exp(model.predict_log_proba(X)[k]), part, rtol=1e-13)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), predicted)
    with pytest.raises(ValueError, match="no place for several targets"):
        model.to_sklearn()


def test_the_loss_of_two_targets_is_the_sum_of_theirs():
    model = MLPClassifier(**{**OPTIONS, "max_iter": 1, "alpha": 0}).fit(X, TWO, X_val=X_VAL, y_val=TWO[: len(X_VAL)])
    losses = [log_loss(TWO[: len(X_VAL), k], p, labels=names) for k, (p, names) in enumerate(
        zip(model.predict_proba(X_VAL), model.classes_, strict=True)
    )]  # fmt: skip
    assert model.validation_loss_curve_[-1] == pytest.approx(sum(losses), rel=1e-9)


@pytest.mark.slow
def test_two_targets_with_everything_else():
    weights = [{0: 1, 1: 2, 2: 5}, "balanced"]
    model = MLPClassifier(early_stopping=True, class_weight=weights, **OPTIONS).fit(sparse.csr_array(X), TWO)
    assert len(model.validation_scores_) == model.n_iter_
    model = MLPClassifier(solver="lbfgs", **OPTIONS).fit(X, TWO)
    assert model.score(X, TWO) > 0.5
    part = MLPClassifier(**OPTIONS)
    for rows in (slice(0, 20), slice(20, 300)):
        part.partial_fit(X[rows], TWO[rows], classes=[[0, 1, 2], [0, 1, 2, 3]])
    assert part.predict(X).shape == TWO.shape
    with pytest.raises(ValueError, match=r"column 1 of y has classes \[9\] that are not among \[0 1 2 3\]"):
        part.partial_fit(X[:3], [[0, 9], [1, 0], [2, 0]])
    names = np.array(["a", "b", "c", "d"], object)[TWO]
    named = MLPClassifier(**OPTIONS).fit(X, names)
    assert set(named.predict(X)[:, 1]) <= set("abcd")
    assert_same_weights(named, MLPClassifier(**OPTIONS).fit(X, TWO))


def test_iris_still_stands():
    """A quick check on real data with everything at once."""
    data, y = load_iris(return_X_y=True)
    model = MLPClassifier(
        (20, 10), activation=("relu", "tanh"), class_weight="balanced", scoring="loss", early_stopping=True,
        max_iter=400, learning_rate_init=0.01, dtype="float32", random_state=0, validation_fraction=0.2,
    )  # fmt: skip
    assert model.fit(data, y).score(data, y) > 0.9
