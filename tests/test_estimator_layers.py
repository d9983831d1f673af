"""Estimators with dropout, normalisation, skip connections and schedules: the contract holds for these too.

Most tests run on the reference, which needs no compilation. What is compiled has one set of features.
"""

import itertools
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import scale
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastbp
from fastbp import BatchNorm, Dense, Dropout, LayerNorm, MLPClassifier, MLPRegressor, Residual
from fastbp.backends import get_backend
from fastbp.estimators import _base
from fastbp.estimators._layers import described, drawn, fitted_arrays, fitted_parameters
from fastbp.model import Sequential
from fastbp.plotting._common import model_of

X, Y = load_iris(return_X_y=True)
X = scale(X)
SIZES = (6, 6, 5)
OPTIONS = {"hidden_layer_sizes": SIZES, "max_iter": 3, "random_state": 0, "tol": 0, "n_iter_no_change": 100}
ALL = {**OPTIONS, "dropout": 0.2, "normalization": "batch", "residual": True}
COMBINATIONS = list(itertools.product((None, "batch", "layer"), (False, True)))
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]


@pytest.fixture
def twins(monkeypatch):
    """Estimators on the NumPy reference."""
    monkeypatch.setattr(_base, "training_backend", lambda *given, **options: ("reference", "float32"))
    monkeypatch.setattr(_base, "get_backend", lambda name: get_backend("reference"))


def assert_same(one, other):
    for a, b in zip(fitted_parameters(one), fitted_parameters(other), strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------------------------------------------
# The network


def test_layers_that_parameters_stand_for():
    def layers(**parameters):
        return described(MLPClassifier(activation=["relu", "tanh"], **parameters), [7, 5], Dense(3))

    first, second, end = Dense(7, "relu"), Dense(5, "tanh"), Dense(3)
    assert layers() == [first, second, end]
    assert layers(dropout=0.3) == [first, Dropout(0.3), second, Dropout(0.3), end]
    assert layers(dropout=[0, 0.4]) == [first, second, Dropout(0.4), end]
    assert layers(residual=True, dropout=0.1) == [first, Dropout(0.1), Residual([second, Dropout(0.1)]), end]
    batch = layers(normalization="batch", dropout=(0.1, 0))
    assert batch == [Dense(7), BatchNorm("relu"), Dropout(0.1), Dense(5), BatchNorm("tanh"), end]
    layer = layers(normalization="layer", residual=True, dropout=0.1)
    block = Residual([LayerNorm("relu"), Dropout(0.1), Dense(5)])
    assert layer == [Dense(7), block, LayerNorm("tanh"), Dropout(0.1), end]


@pytest.mark.parametrize(("normalization", "residual"), COMBINATIONS)
@pytest.mark.parametrize("sizes", [(), (4,), (4, 4), (4, 6, 6, 3)])
def test_arrays_go_to_attributes_and_back(sizes, normalization, residual):
    estimator = MLPClassifier(sizes, normalization=normalization, residual=residual, dropout=0.5)
    rng = np.random.RandomState(0)
    plain = Sequential(described(estimator, sizes, Dense(2)), n_features=3, random_state=0, dtype="float64")
    weights = [rng.uniform(size=array.shape) for array in drawn(estimator, plain._described, rng)]
    plain.set_weights(weights)
    vars(estimator).update(fitted_arrays(plain), out_activation_="identity", _label_binarizer=None)
    assert [W.shape for W in estimator.coefs_] == list(itertools.pairwise((3, *sizes, 2)))
    assert [len(b) for b in estimator.intercepts_] == [*sizes, 2]
    names = {None: [], "batch": ["gamma", "beta", "mean", "variance"], "layer": ["gamma", "beta"]}[normalization]
    assert [list(norm) for norm in estimator.normalization_] == [names] * len(sizes) * bool(names)
    changes = [a != b for a, b in itertools.pairwise(sizes)]
    expected = [False, *changes] if residual and len(sizes) > 1 else []
    assert [pair is not None for pair in estimator.projections_] == expected
    for a, b in zip(fitted_parameters(estimator), weights, strict=True):
        np.testing.assert_array_equal(a, b)
    model = estimator._fitted_model()
    assert model.layers == plain.layers
    np.testing.assert_array_equal(
        model.predict(X[:, :3], backend="reference"), plain.predict(X[:, :3], backend="reference")
    )


def test_initial_weights_are_those_without():
    """A normalisation draws nothing; in skip connections weights are smaller by the square root of their number."""

    def initial(**parameters):
        estimator = MLPClassifier((5, 5, 5), activation="logistic", **parameters)
        layers = described(estimator, (5, 5, 5), Dense(2))
        model = Sequential(layers, n_features=3, dtype="float64")
        model._weights = drawn(estimator, model._described, np.random.RandomState(0))
        return fitted_arrays(model)

    plain, normalised, skipping = initial(), initial(normalization="batch"), initial(residual=True)
    for name in ("coefs_", "intercepts_"):
        for k, (a, b, c) in enumerate(zip(plain[name], normalised[name], skipping[name], strict=True)):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(c, a / np.sqrt(2) if k in (1, 2) else a, rtol=1e-15)
    for norm in normalised["normalization_"]:
        assert [array.tolist() for array in norm.values()] == [[1.0] * 5, [0.0] * 5, [0.0] * 5, [1.0] * 5]


@pytest.mark.parametrize(("normalization", "residual"), COMBINATIONS)
def test_fits_end_where_the_trainer_does(twins, normalization, residual):
    options = {**OPTIONS, "normalization": normalization, "residual": residual, "batch_size": 50, "shuffle": False}
    ours = MLPRegressor(**options).fit(X[:, :3], X[:, 3])
    start = MLPRegressor(**{**options, "max_iter": 1, "learning_rate_init": 1e-300}).fit(X[:, :3], X[:, 3])
    model = start._fitted_model()
    names = model._described.names
    fresh = {"mean": np.zeros, "variance": np.ones}  # running statistics have gone on
    model.set_weights([
        next((new(len(a)) for kind, new in fresh.items() if name.startswith(kind)), a)
        for name, a in zip(names, model.get_weights(), strict=True)
    ])  # fmt: skip
    loss, optimizer = ours._described_loss, _base.optimizer_of(ours)
    trainer = fastbp.Trainer(model, loss=loss, optimizer=optimizer, backend="reference")
    history = trainer.fit(X[:, :3], X[:, 3], epochs=3, batch_size=50, shuffle=False)
    for a, b in zip(fitted_parameters(ours), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.loss_curve_ == history["loss"]
    np.testing.assert_array_equal(ours.predict(X[:, :3]), model.predict(X[:, :3], backend="reference").ravel())


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_deep_networks_train_with_skip_connections(twins, normalization):
    options = {**OPTIONS, "hidden_layer_sizes": [10] * 20, "max_iter": 15, "normalization": normalization}
    plain, skipping = (
        MLPClassifier(learning_rate_init=0.005, batch_size=30, residual=residual, **options).fit(X, Y)
        for residual in (False, True)
    )
    assert skipping.loss_ < 0.6 * plain.loss_
    assert skipping.score(X, Y) > 0.9


def test_alpha_is_on_weights_alone(twins):
    options = {**OPTIONS, "normalization": "layer", "residual": True, "max_iter": 1, "batch_size": 150}
    with_penalty, without = (MLPClassifier(alpha=alpha, **options).fit(X, Y) for alpha in (30.0, 0.0))
    model = MLPClassifier(**{**options, "learning_rate_init": 1e-300}).fit(X, Y)
    arrays = [*model.coefs_, *(pair[0] for pair in model.projections_ if pair)]
    assert len(arrays) == 5
    penalty = 0.5 * 30 / 150 * sum(float((W**2).sum()) for W in arrays)
    assert with_penalty.loss_ - without.loss_ == pytest.approx(penalty, rel=1e-9)


# ---------------------------------------------------------------------------------------------------------------------
# Compiled, with all of them


@pytest.mark.slow
def test_digits_and_threads():
    """A good score on real data; the same bits on one and two threads; predictions are those of the model."""
    data, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(data / 16, y, random_state=0)
    options = {**ALL, "hidden_layer_sizes": (128, 64), "max_iter": 20, "batch_size": 50}
    options |= {"learning_rate": fastbp.schedules.OneCycle(0.01)}
    one, two = (MLPClassifier(n_jobs=n, **options).fit(train, y_train) for n in (1, 2))
    assert_same(one, two)
    assert one.score(test, y_test) >= 0.98
    probabilities = one.predict_proba(test)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(one.predict(test), probabilities.argmax(axis=1))
    expected = one._fitted_model().predict(test, backend="reference")
    np.testing.assert_allclose(probabilities, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.predict_proba(test[:1]), probabilities[:1], rtol=1e-12)
    assert len(one.history_["learning_rate"]) == 20


# ---------------------------------------------------------------------------------------------------------------------
# scikit-learn's contract


CHECKED = {"dropout": 0.05, "normalization": "batch", "residual": True, "learning_rate_init": 0.02, "max_iter": 30}
# a mask goes by the row: a weight of 2 is not a row that is there twice
WEIGHTS = "check_sample_weight_equivalence_on_{}_data"


@parametrize_with_checks(
    [estimator(hidden_layer_sizes=(16, 16), **CHECKED) for estimator in (MLPClassifier, MLPRegressor)],
    expected_failed_checks=lambda _: dict.fromkeys(
        map(WEIGHTS.format, ("dense", "sparse")), "a weight is no repetition"
    ),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:Can't check dok sparse matrix:UserWarning")
def test_scikit_learns_checks(twins, estimator, check):
    check(estimator)


@pytest.mark.parametrize("random_state", [0, "instance"])
def test_partial_fit_goes_on(twins, random_state):
    whole, parts = (
        MLPClassifier(shuffle=False, **ALL).set_params(
            random_state=np.random.RandomState(3) if random_state else 0, batch_size=40
        )
        for _ in range(2)
    )
    whole.fit(X, Y)
    for k in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
        if k == 1:
            parts = pickle.loads(pickle.dumps(parts))
    assert_same(whole, parts)
    assert whole.loss_curve_ == parts.loss_curve_


def test_the_same_seed_gives_the_same_masks_and_another_one_others(twins):
    one, same, other = (MLPClassifier(**{**ALL, "random_state": seed}).fit(X, Y) for seed in (0, 0, 1))
    assert_same(one, same)
    assert one.loss_ != other.loss_
    assert MLPClassifier(**{**ALL, "dropout": 0.0}).fit(X, Y).loss_ != one.loss_


def test_warm_start(twins):
    model = MLPClassifier(warm_start=True, **ALL).fit(X, Y)
    norms = [norm["mean"].copy() for norm in model.normalization_]
    before = model.loss_
    model.set_params(max_iter=1, dropout=0.0, learning_rate_init=1e-300).fit(X, Y)  # dropout may change
    assert model.loss_ < before
    for norm, old in zip(model.normalization_, norms, strict=True):
        assert (norm["mean"] != old).any() and np.abs(norm["mean"] - old).max() < 1
    with pytest.raises(
        ValueError, match="normalization is None, but the network was fitted with normalization='batch'"
    ):
        model.set_params(normalization=None).fit(X, Y)
    model.set_params(warm_start=False).fit(X, Y)
    assert model.normalization_ == []


@pytest.mark.parametrize("scoring", [None, "neg_log_loss", "loss"])
def test_early_stopping_takes_back_the_best_of_all_arrays(twins, scoring):
    train, test, y_train, y_test = train_test_split(X, Y, random_state=0)
    options = {**ALL, "max_iter": 12, "early_stopping": True, "learning_rate_init": 0.1, "scoring": scoring}
    model = MLPClassifier(**options).fit(train, y_train, X_val=test, y_val=y_test)
    scores = model.validation_scores_
    assert scores.index(max(scores)) < len(scores) - 1, "the last epoch is the best one: nothing to take back"
    score = model.score(test, y_test) if scoring is None else -log_loss(y_test, model.predict_proba(test))
    assert score == pytest.approx(model.best_validation_score_, rel=1e-12)


def test_pickles_clones_and_weights_of_classes(twins):
    weights = {0: 1.0, 1: 3.0, 2: 0.5}
    model = MLPClassifier(class_weight=weights, **ALL).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert_same(model, clone(model).fit(X, Y))
    assert_same(model, MLPClassifier(**ALL).fit(X, Y, np.array([1.0, 3.0, 0.5])[Y]))


def test_sparse_rows(twins):
    data = np.where(np.abs(X) < 0.8, 0, X)
    dense, thin = MLPClassifier(**ALL).fit(data, Y), MLPClassifier(**ALL).fit(sparse.csr_array(data), Y)
    for a, b in zip(fitted_parameters(dense), fitted_parameters(thin), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dense.predict_proba(data), dense.predict_proba(sparse.csr_array(data)), rtol=1e-9)


def test_grid_search(twins):
    grid = {"dropout": [0.1, (0.3, 0.0, 0.2)], "normalization": ["batch", "layer", None], "residual": [False, True]}
    search = GridSearchCV(MLPClassifier(**{**OPTIONS, "max_iter": 2}), grid, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 12 and np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_pictures_see_the_whole_network(twins):
    model = MLPClassifier(**ALL).fit(X, Y)
    seen = model_of(model)
    assert [type(layer) for layer in seen.layers] == [Dense, Residual, Residual, BatchNorm, Dropout, Dense]
    assert seen.layers[-1].activation == "softmax"
    np.testing.assert_array_equal(seen.predict(X, backend="reference"), model.predict_proba(X))


def test_lbfgs(twins):
    options = {**OPTIONS, "solver": "lbfgs", "max_iter": 60}
    model = MLPClassifier(normalization="layer", residual=True, alpha=0.01, **options).fit(X, Y)
    assert model.loss_ < 0.15
    assert (model.normalization_[0]["gamma"] != 1).any()
    model = MLPRegressor(dropout=[0.0, 0.0, 0.0], residual=True, **options).fit(X[:, :3], X[:, 3])
    assert model.score(X[:, :3], X[:, 3]) > 0.9
    with pytest.raises(ValueError, match="solver='lbfgs' minimises one function of the weights, and dropout"):
        MLPClassifier(dropout=0.1, **options).fit(X, Y)
    with pytest.raises(ValueError, match="running statistics of normalization='batch' come from steps on batches"):
        MLPClassifier(normalization="batch", **options).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# What does not fit


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be a float in the range"),
        ({"dropout": "a half"}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"normalization": "group"}, r"The 'normalization' parameter of MLPClassifier must be a str among .*'layer'"),
        ({"residual": "yes"}, "The 'residual' parameter of MLPClassifier must be an instance of 'bool'"),
        ({"learning_rate": 0.1}, "The 'learning_rate' parameter of MLPClassifier must be a str among"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        MLPClassifier(**parameters).fit(X, Y)


def test_wrong_rates_are_named():
    for dropout, error, message in (
        ([0.1, 0.2], ValueError, "dropout has 2 rates for 3 hidden layers: give one rate for all"),
        ([0.1, 1.0, 0.2], ValueError, r"dropout\[1\] must be a number of at least 0 and below 1, got 1.0"),
        ([0.1, 0.2, "x"], TypeError, r"dropout\[2\] must be a number of at least 0 and below 1, got 'x'"),
    ):
        with pytest.raises(error, match=message):
            MLPClassifier(dropout=dropout, **OPTIONS).fit(X, Y)
    with pytest.raises(TypeError, match=r"got the class OneCycle: OneCycle\(...\) makes one"):
        MLPClassifier(learning_rate=fastbp.schedules.OneCycle, **OPTIONS).fit(X, Y)


def test_a_batch_norm_needs_two_rows(twins):
    model = MLPClassifier(**ALL)
    message = "normalization='batch' needs batches of at least 2 rows, .* n_samples={} and batch_size={}"
    with pytest.raises(ValueError, match=message.format(150, 1)):
        clone(model).set_params(batch_size=1).fit(X, Y)
    with pytest.raises(ValueError, match=message.format(1, 1)):
        model.partial_fit(X[:1], Y[:1], classes=[0, 1, 2])
    assert not hasattr(model, "coefs_")
    model.set_params(normalization="layer").partial_fit(X[:1], Y[:1], classes=[0, 1, 2])
    MLPClassifier((), normalization="batch", batch_size=1, max_iter=1).fit(X, Y)  # there is nothing to normalise


def test_parameters_that_the_fitted_network_does_not_have(twins):
    model = MLPClassifier(**ALL).fit(X, Y)
    expected = model.predict_proba(X)
    np.testing.assert_array_equal(model.set_params(dropout=0.0).predict_proba(X), expected)
    for name, value, fitted in (("normalization", "layer", "'batch'"), ("residual", False, "True")):
        message = f"{name} is {value!r}, but the network was fitted with {name}={fitted}: set it back, or fit anew"
        before = model.get_params()[name]
        model.set_params(**{name: value})
        np.testing.assert_array_equal(model.predict_proba(X), expected)  # the network is what was fitted
        np.testing.assert_allclose(model._fitted_model().predict(X), expected, rtol=1e-12)
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, Y)
        model.set_params(**{name: before})
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    plain = MLPClassifier(**OPTIONS).fit(X, Y)
    expected = plain.predict_proba(X)
    np.testing.assert_array_equal(plain.set_params(residual=True).predict_proba(X), expected)
    model.normalization_[0]["gamma"] = np.ones(3)
    with pytest.raises(ValueError, match="coefs_ and intercepts_ do not fit together"):
        model.predict(X)


def test_to_and_from_scikit_learn(twins):
    for parameters, what in (({"normalization": "layer"}, "normalization"), ({"residual": True}, "skip connections")):
        with pytest.raises(ValueError, match=f"dense layers in a chain, with no place for {what}: fit without"):
            MLPClassifier(**parameters, **OPTIONS).fit(X, Y).to_sklearn()
    schedule = fastbp.schedules.Exponential(0.1, 0.9)
    for solver in ("sgd", "adam"):
        ours = MLPClassifier(dropout=0.3, learning_rate=schedule, solver=solver, **OPTIONS).fit(X, Y)
        theirs = ours.to_sklearn()
        np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-9)
        assert theirs.learning_rate == "constant"
        theirs.partial_fit(X, Y)
    back = MLPClassifier.from_sklearn(theirs, dropout=0.2)
    np.testing.assert_allclose(back.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    assert back.normalization_ == back.projections_ == [] and np.isfinite(back.partial_fit(X, Y).loss_)
    with pytest.raises(
        ValueError, match="normalization is 'batch', but the network was fitted with normalization=None"
    ):
        MLPClassifier.from_sklearn(theirs, normalization="batch")


# ---------------------------------------------------------------------------------------------------------------------
# Learning rates by schedules

DECAY = fastbp.schedules.Exponential(0.02, 0.5)


@pytest.mark.parametrize("solver", ["adam", fastbp.Adam(3.0, l2=0.0001, convention="scikit-learn")])
def test_a_schedule_takes_the_place_of_the_rate(twins, solver):
    model = MLPClassifier(solver=solver, learning_rate=DECAY, learning_rate_init=7.0, **OPTIONS).fit(X, Y)
    optimizer = fastbp.Adam(DECAY, l2=0.0001, convention="scikit-learn")
    assert_same(model, MLPClassifier(solver=optimizer, **OPTIONS).fit(X, Y))
    assert model.history_["learning_rate"] == [0.02, 0.01, 0.005]


def test_rates_in_the_history(twins):
    model = MLPRegressor(learning_rate=lambda step: 0.1 / (step + 1), batch_size=50, solver="sgd", **OPTIONS)
    assert model.fit(X, Y).history_["learning_rate"] == [0.1 / 3, 0.1 / 6, 0.1 / 9]  # of the last of three steps each
    plateau = fastbp.schedules.ReduceOnPlateau(1e-6, patience=0, factor=0.5, monitor="val_loss")
    model = MLPRegressor(learning_rate=plateau, early_stopping=True, **OPTIONS)
    rates = model.fit(X, Y).history_["learning_rate"]
    assert rates[0] == 1e-6 and rates[-1] == 5e-7
    with pytest.raises(ValueError, match="needs validation rows: give X_val and y_val, set early_stopping=True"):
        model.set_params(early_stopping=False).fit(X, Y)
    one_cycle = MLPRegressor(learning_rate=fastbp.schedules.OneCycle(0.01), **OPTIONS)
    rates = one_cycle.fit(X, Y).history_["learning_rate"]
    assert len(rates) == 3 and rates[-1] < rates[0]


def test_a_schedule_goes_on_in_partial_fit(twins):
    options = {**OPTIONS, "shuffle": False}
    whole, parts = (
        MLPClassifier(learning_rate=DECAY, **options).fit(X, Y),
        MLPClassifier(learning_rate=DECAY, **options),
    )
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert_same(whole, parts)
    assert parts.history_["learning_rate"] == whole.history_["learning_rate"] == [0.02, 0.01, 0.005]
    # another schedule goes on at the same epoch, what follows a plateau and a number begin as they are
    for rate, expected in (
        (fastbp.schedules.Exponential(0.8, 0.5), 0.1),
        (fastbp.schedules.ReduceOnPlateau(0.3, monitor="loss"), 0.3),
        (DECAY, 0.02 * 0.5**5),
        ("constant", 0.001),
        ("constant", 0.001),
        (DECAY, 0.02),
    ):
        parts.set_params(learning_rate=rate).partial_fit(X, Y)
        assert parts.history_["learning_rate"][-1] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(
        ValueError, match=r"OneCycle\(.*\) goes from the beginning of a training to its end, which partial_f"
    ):
        parts.set_params(learning_rate=fastbp.schedules.OneCycle(0.1)).partial_fit(X, Y)
