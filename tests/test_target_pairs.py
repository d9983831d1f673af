"""Targets of the training and of validation rows in every pair of shapes and kinds: a right loss, or a named error."""

import warnings

import numpy as np
import pandas
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score, r2_score

import fastbp
from fastbp import SGD, MLPClassifier, MLPRegressor
from fastbp._network import network_of
from fastbp.backends import get_backend
from fastbp.losses import Loss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
REAL = X.sum(axis=1)
TWO, THREE = (REAL > 0).astype(int), np.digitize(REAL, [-1, 1])
LABELS2, LABELS3 = (X[:, :2] > 0).astype(int), (X > 0).astype(int)
SEVERAL, SEVERAL3 = np.column_stack([THREE, TWO]), np.column_stack([THREE, TWO, THREE])
SOLVERS = ("adam", "sgd", "lbfgs")


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


# Kinds of targets: what they are once they are checked (kind, then values), None for what is no target at all
CLASSES = {
    "two": (TWO, ("classes", TWO)),
    "column": (TWO[:, None], ("classes", TWO)),
    "list": (TWO.tolist(), ("classes", TWO)),
    "floats": (TWO.astype(float), ("classes", TWO)),
    "booleans": (TWO.astype(bool), ("classes", TWO)),
    "series": (pandas.Series(TWO), ("classes", TWO)),
    "frame of one": (pandas.DataFrame({"a": TWO}), ("classes", TWO)),
    "zeros": (np.zeros(40, int), ("classes", np.zeros(40, int))),
    "three": (THREE, ("classes", THREE)),
    "words": (np.array(["no", "yes"])[TWO], ("classes", np.array(["no", "yes"])[TWO])),
    "digits as words": (TWO.astype(str), ("classes", TWO.astype(str))),
    "objects": (objects(TWO.astype(str)), ("classes", TWO.astype(str))),
    "labels2": (LABELS2, ("labels", LABELS2)),
    "labels3": (LABELS3, ("labels", LABELS3)),
    "list of labels": (LABELS2.tolist(), ("labels", LABELS2)),
    "frame of labels": (pandas.DataFrame(LABELS2), ("labels", LABELS2)),
    "sparse labels": (sparse.csr_array(LABELS2), ("labels", LABELS2)),
    "sparse labels by columns": (sparse.csc_matrix(LABELS3), ("labels", LABELS3)),
    "several": (SEVERAL, ("several", SEVERAL)),
    "list of several": (SEVERAL.tolist(), ("several", SEVERAL)),
    "frame of several": (pandas.DataFrame(SEVERAL), ("several", SEVERAL)),
    "several3": (SEVERAL3, ("several", SEVERAL3)),
}
NO_CLASSES = {
    "continuous": REAL,
    "continuous matrix": X,
    "sparse column": sparse.csr_array(TWO[:, None]),
    "sparse several": sparse.csr_array(SEVERAL),
    "three dimensions": np.zeros((40, 1, 1)),
    "no columns": np.zeros((40, 0)),
    "a number": 3,
    "a word": "a",
    "a dict": {"a": 1},
    "integers as objects": objects(TWO.tolist()),
    "mixed": objects([1, "a"] * 20),
    "None": objects([0, None] * 20),
    "NaN": np.where(TWO, np.nan, 0.0),
    "infinite": np.where(TWO, np.inf, 0.0),
    "bytes": TWO.astype("S1"),
    "complex": TWO + 1j,
    "short": TWO[:-1],
    "empty": [],
    "ragged": [[1, 2], [3]],
}
NUMBERS = {
    "one": (REAL, REAL),
    "column": (REAL[:, None], REAL),
    "list": (REAL.tolist(), REAL),
    "integers": (TWO, TWO),
    "booleans": (TWO.astype(bool), TWO),
    "float32": (REAL.astype("f4"), REAL.astype("f4")),
    "objects": (objects(REAL.tolist()), REAL),
    "series": (pandas.Series(REAL), REAL),
    "sparse column": (sparse.csr_array(REAL[:, None]), REAL),
    "two": (X[:, :2], X[:, :2]),
    "list of two": (X[:, :2].tolist(), X[:, :2]),
    "frame of two": (pandas.DataFrame(X[:, :2]), X[:, :2]),
    "sparse two": (sparse.csr_array(X[:, :2]), X[:, :2]),
    "three": (X, X),
    "by columns": (np.asfortranarray(X[:, 1:]), X[:, 1:]),
}
NUMBERS_OF_CLASSES = ("continuous", "continuous matrix", "sparse column", "sparse several", "integers as objects")
NO_NUMBERS = {name: y for name, y in NO_CLASSES.items() if name not in NUMBERS_OF_CLASSES} | {
    "words": np.full(40, "a"),
    "dates": np.arange(40).astype("M8[D]"),
    "too large": objects([10**400] * 40),
}


def quietly(call, *arguments, **named):
    """The warning of a column is looked at by a test of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataConversionWarning)
        return call(*arguments, **named)


def fit(estimator, solver, way, y, y_val, classes=None):
    options = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "solver": solver}
    model = estimator(**options)
    if way == "partial_fit":
        return quietly(
            model.partial_fit, X, y, **({} if classes is None else {"classes": classes}), X_val=X, y_val=y_val
        )
    if way == "warm start":
        quietly(model.set_params(warm_start=True).fit, X, y)
    if way == "early stopping":
        model.set_params(early_stopping=True)
    return quietly(model.fit, X, y, X_val=X, y_val=y_val)


def ways(solver):
    return ("fit", "warm start", "partial_fit", "early stopping") if solver == "adam" else ("fit",)


def refused(call, *arguments, name="y_val", **named):
    """The error of a call, which names the argument and does not write all of it."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call(*arguments, **named)
    message = str(caught.value)
    assert name in message and len(message) < 400, message
    return message


def fits_class_targets(kind, values, kind_val, values_val, is_sparse):
    if kind == "several":  # labels are two classes of each target
        return values_val.ndim == 2 and not is_sparse and values.shape[1] == values_val.shape[1] and all(
            set(a.tolist()) <= set(b.tolist()) for a, b in zip(values_val.T, values.T, strict=True)
        )  # fmt: skip
    if kind != kind_val:
        return False
    return values.shape[1:] == values_val.shape[1:] if kind == "labels" else not (
        set(values_val.tolist()) - set(values.tolist())
    )  # fmt: skip


def all_classes(kind, values):
    if kind == "several":
        return [np.unique(column) for column in values.T]
    return np.arange(values.shape[1]) if kind == "labels" else np.unique(values)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", CLASSES)
def test_class_targets(name, solver):
    y, (kind, values) = CLASSES[name]
    classes = all_classes(kind, values)
    for way in ways(solver):
        seen = {}
        for other, (y_val, (kind_val, values_val)) in CLASSES.items():
            if not fits_class_targets(kind, values, kind_val, values_val, sparse.issparse(y_val)):
                refused(fit, MLPClassifier, solver, way, y, y_val, classes)
                continue
            model = fit(MLPClassifier, solver, way, y, y_val, classes)
            plain = seen.setdefault(values_val.tobytes(), fit(MLPClassifier, solver, way, values, values_val, classes))
            assert model.validation_loss_curve_ == plain.validation_loss_curve_, (way, other)
            assert np.isfinite(model.validation_loss_curve_).all()
            want = log_loss(plain.predict_log_proba(X), values_val, plain, kind)
            assert plain.validation_loss_curve_[-1] == pytest.approx(want, rel=1e-9) or way == "early stopping"
        assert seen
        for y_val in NO_CLASSES.values():
            refused(fit, MLPClassifier, solver, way, y, y_val, classes)


def log_loss(logarithms, values, model, kind):
    """Mean over rows of the cross-entropy, by the log-probabilities of the model."""
    if kind == "classes":
        codes = np.searchsorted(model.classes_, values)
        return -logarithms[np.arange(len(X)), codes].mean()
    if kind == "several":
        codes = [np.searchsorted(names, column) for names, column in zip(model.classes_, values.T, strict=True)]
        return -sum(
            part[np.arange(len(X)), of_target] for part, of_target in zip(logarithms, codes, strict=True)
        ).mean()
    others = np.log(-np.expm1(logarithms))
    return -np.where(values, logarithms, others).sum(axis=1).mean()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", NUMBERS)
def test_real_targets(name, solver):
    y, values = NUMBERS[name]
    for way in ways(solver):
        n_right = 0
        for other, (y_val, values_val) in NUMBERS.items():
            if values.shape[1:] != values_val.shape[1:]:
                refused(fit, MLPRegressor, solver, way, y, y_val)
                continue
            model = fit(MLPRegressor, solver, way, y, y_val)
            n_right += 1
            assert way == "early stopping" or model.validation_loss_curve_[-1] == pytest.approx(
                ((model.predict(X) - values_val) ** 2).mean() / 2, rel=1e-9
            ), (way, other)
        assert n_right
        for y_val in NO_NUMBERS.values():
            refused(fit, MLPRegressor, solver, way, y, y_val)


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.1, 0.5, 0.9)])
def test_targets_of_several_quantiles_are_one_column(levels):
    model = MLPRegressor(Loss("quantile", level=levels), (4,), max_iter=2, random_state=0)
    many = np.repeat(REAL[:, None], len(levels), axis=1)
    message = refused(model.fit, X, REAL, X_val=X, y_val=many)
    assert "must have as many columns as the y of the training, which has 1" in message
    with pytest.raises(ValueError, match=f"loss has {len(levels)} levels, which are all for one target, but y has"):
        model.fit(X, many)
    quietly(model.fit, X, REAL[:, None], X_val=X, y_val=REAL[:, None])
    assert model.predict(X).shape == (40, len(levels))
    with pytest.raises(ValueError, match="levels, which are all for one target"):
        model.partial_fit(X, many)


@pytest.mark.parametrize(("estimator", "y"), [(MLPClassifier, TWO), (MLPRegressor, REAL)])
def test_a_column_warns_of_its_name_and_of_the_line_that_gave_it(estimator, y):
    model = estimator(hidden_layer_sizes=(4,), max_iter=2, random_state=0)
    for arguments, name in (((X, y[:, None]), "y"), ((X, y), "y_val")):
        with pytest.warns(DataConversionWarning, match=f"A column-vector {name} was passed when a 1d") as caught:
            model.fit(*arguments, **({"X_val": X, "y_val": y[:, None]} if name == "y_val" else {}))
        (warning,) = [one for one in caught if issubclass(one.category, DataConversionWarning)]
        assert warning.filename == __file__


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_too_large_for_the_network(dtype):
    model = MLPRegressor(hidden_layer_sizes=(4,), dtype=dtype, max_iter=2, random_state=0)
    large = np.where(TWO, 1e39, 0)
    if dtype == "float64":
        model.fit(X, REAL, X_val=X, y_val=large)
        assert model.validation_loss_curve_[-1] > 1e77
        return
    refused(model.fit, X, REAL, X_val=X, y_val=large)
    assert "too large for float32" in refused(model.fit, X, large, name="y holds")


def test_messages_do_not_list_a_thousand_classes():
    many = np.arange(3000)
    data = np.zeros((3000, 1))
    model = MLPClassifier((2,), max_iter=1, random_state=0, warm_start=True)
    model.fit(data[:1000], many[:1000])
    rows = {"X_val": data[:1000], "y_val": many[:1000] + 500}
    message = refused(model.fit, data[:1000], many[:1000], **rows)
    assert "[1000 1001 1002 1003 1004 ... 1495 1496 1497 1498 1499]" in message
    refused(model.fit, data, many, name="`y` has")
    refused(model.set_params(warm_start=False).partial_fit, data, many, name="'y' has")
    words = np.array([f"{'a' * 400}{k}" for k in range(3)])
    model = MLPClassifier((2,), max_iter=1, random_state=0).fit(data[:3], words)
    refused(model.partial_fit, data[:3], [0, 1, 2], name="y")


# ---------------------------------------------------------------------------------------------------------------------
# partial_fit and warm starts


KINDS = {"classes": TWO, "three classes": THREE, "labels2": LABELS2, "labels3": LABELS3, "several": SEVERAL,
         "several3": SEVERAL3}  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("then", KINDS)
def test_a_classifier_goes_on_with_targets_of_its_kind_alone(first, then, solver):
    options = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "solver": solver}
    model = MLPClassifier(warm_start=True, **options).fit(X, KINDS[first])
    before = model.predict(X)
    for way in ("fit",) if solver == "lbfgs" else ("fit", "partial_fit"):
        model.set_params(warm_start=way == "fit")
        call = getattr(model, way)
        fewer = (way, first, then) == ("partial_fit", "three classes", "classes")  # where one may be missing
        as_classes = (first, then) in (("several", "labels2"), ("several3", "labels3"))  # 0 and 1 are classes as well
        if first == then or fewer or as_classes:
            call(X, KINDS[then])
            continue
        with pytest.raises(ValueError):
            call(X, KINDS[then])
        np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_regressor_goes_on_with_as_many_targets_alone(solver):
    targets = (REAL, X[:, :2], X)
    for first in targets:
        for then in targets:
            model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, solver=solver, warm_start=True)
            model.fit(X, first)
            for way in ("fit",) if solver == "lbfgs" else ("fit", "partial_fit"):
                call = getattr(model, way)
                if first is then:
                    call(X, then, X_val=X, y_val=then)
                    continue
                with pytest.raises(ValueError, match=r"y has \d outputs?, but the fitted network has \d"):
                    call(X, then)
                with pytest.raises(ValueError, match=r"y has \d outputs?, but the fitted network has \d"):
                    call(X, then, X_val=X, y_val=then)


def test_first_classes_of_several_targets():
    """The first rows may hold 0 and 1 alone, as labels do, and may be a list."""
    classes = [[0, 1, 2], [0, 1]]
    model = MLPClassifier((4,), random_state=0)
    rows = [[0, 1], [1, 0], [1, 1]]
    model.partial_fit(X[:3], rows, classes=classes)
    assert [names.tolist() for names in model.classes_] == classes
    model.partial_fit(X, SEVERAL, classes=classes).partial_fit(X, SEVERAL.tolist())
    assert model.predict(X).shape == SEVERAL.shape
    with pytest.raises(ValueError, match="classes are not those of the first call of partial_fit"):
        model.partial_fit(X, SEVERAL, classes=[[0, 1, 2], [0, 1, 2]])
    labels = MLPClassifier((4,), random_state=0).partial_fit(X, LABELS2, classes=[0, 1])
    assert labels.out_activation_ == "logistic"
    with pytest.raises(ValueError, match=r"column 1 of y has classes \[2\] that are not among \[0 1\]"):
        MLPClassifier((4,)).partial_fit(X, np.column_stack([THREE, THREE]), classes=classes)


@pytest.mark.parametrize("names", [(1, 2), (-1, 1), (0, 2), ("no", "yes"), (0, 1)])
def test_two_classes_of_each_target_are_labels_only_as_0_and_1(names):
    """scikit-learn takes all that is not 0 for 1 there, and fits another network than it was asked for."""
    y = np.array(names)[LABELS2]
    model = MLPClassifier((16,), max_iter=300, learning_rate_init=0.05, random_state=0).fit(X, y)
    assert model.score(X, y) == 1
    np.testing.assert_array_equal(model.predict(X), y)
    assert model.out_activation_ == ("logistic" if names == (0, 1) else "softmax")
    if names == (0, 2):
        with pytest.raises(TypeError, match="y is sparse, which only labels of 0 and 1 may be"):
            model.fit(X, sparse.csr_array(y))
    if names != (0, 1):
        labels = MLPClassifier((4,), max_iter=2, random_state=0).fit(X, LABELS2)
        for call in (labels.partial_fit, lambda X, y: labels.fit(X, LABELS2, X_val=X, y_val=y)):
            with pytest.raises(ValueError, match="but the y of the training has 2 labels"):
                call(X, y)


# ---------------------------------------------------------------------------------------------------------------------
# Scores


@pytest.mark.parametrize("name", CLASSES)
def test_score_takes_what_fit_takes(name):
    y, (kind, values) = CLASSES[name]
    model = quietly(MLPClassifier((8,), max_iter=5, random_state=0).fit, X, y)
    weights = np.linspace(0, 1, 40)
    predicted = model.predict(X)
    predicted = predicted.toarray() if sparse.issparse(predicted) else predicted
    for sample_weight in (None, weights, weights.tolist()):
        if kind == "several":
            want = np.average((predicted == values).all(axis=1), weights=sample_weight)
        else:
            want = accuracy_score(values, predicted, sample_weight=sample_weight)
        for given in (y, values, values.tolist()):
            assert model.score(X, given, sample_weight) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", NUMBERS)
def test_score_of_a_regressor_takes_what_fit_takes(name):
    y, values = NUMBERS[name]
    model = quietly(MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0).fit, X, y)
    for given in (y, values, values.tolist()):
        assert model.score(X, given) == pytest.approx(r2_score(values, model.predict(X)), rel=1e-12)


def test_scores_of_several_targets_with_what_does_not_fit():
    model = MLPClassifier((4,), max_iter=2, random_state=0).fit(X, SEVERAL)
    never = np.column_stack([THREE, np.full(40, 9)])
    assert model.score(X, never) == 0
    zeros_and_ones = np.minimum(SEVERAL, 1)  # labels, by their looks
    assert model.score(X, zeros_and_ones) == (model.predict(X) == zeros_and_ones).all(axis=1).mean()
    for y in (TWO, SEVERAL3, sparse.csr_array(SEVERAL), SEVERAL[:-1]):
        with pytest.raises(ValueError):
            model.score(X, y)
    for weights in (np.zeros(40), np.ones(39), np.where(TWO, np.nan, 1), np.tile([1.0, -1.0], 20)):
        with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
            model.score(X, SEVERAL, weights)


# ---------------------------------------------------------------------------------------------------------------------
# The lower doors


LOSSES = {
    "mean_squared_error": (Loss("mse"), np.zeros((40, 2)), "identity"),
    "softmax labels": (Loss("softmax_cross_entropy"), np.zeros(40, np.intp), "softmax"),
    "soft targets": (Loss("softmax_cross_entropy"), np.full((40, 2), 0.5), "softmax"),
    "blocks": (Loss("softmax_cross_entropy", blocks=(2, 2)), np.zeros((40, 2), np.intp), "identity"),
    "sigmoid": (Loss("sigmoid_cross_entropy"), np.zeros((40, 2)), "logistic"),
    "quantile": (Loss("quantile", level=(0.1, 0.9)), np.zeros((40, 2)), "identity"),
}


@pytest.mark.parametrize("backend", ["cpu", "reference", "cuda"])
@pytest.mark.parametrize("case", LOSSES)
def test_sessions_do_not_read_beyond_targets(case, backend):
    loss, y, link = LOSSES[case]
    n_outputs = 4 if loss.blocks else 2
    network, _ = network_of([fastbp.Dense(n_outputs, link)], 3, np.dtype(np.float64))
    parameters = [np.zeros(shape) for shape in network.shapes]
    wrong = [y[:-1], y[:1], y.reshape(-1)[:20], np.repeat(y, 2, axis=0), np.tile(y, 2)]
    wrong += [y[:, :1], y[:, 0]] if y.ndim == 2 else [y[:, None, None].repeat(2, axis=1)]
    weights = np.ones(40)

    def opened(y=y, weights=weights):
        return get_backend(backend).open(
            network, loss, SGD(), X, y, parameters=parameters, batch_size=40, sample_weight=weights
        )

    session = opened()
    assert np.isfinite(session.evaluation(X, y, weights)())
    for call in (opened, lambda *given: session.evaluation(X, *given)):
        for other in wrong:
            with pytest.raises(ValueError, match=r"y must have the shape .* for X of 40 rows, a network of"):
                call(other, weights)
        for other in (weights[:-1], weights[:1], np.ones(41), np.ones((40, 2))):
            with pytest.raises(ValueError, match=r"sample_weight must have the shape \(40,\)"):
                call(y, other)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_validation_data_of_a_trainer(n_outputs):
    y = X[:, :n_outputs]
    layers = [fastbp.Dense(n_outputs)]
    trainer = fastbp.Trainer(fastbp.Sequential(layers, n_features=3, random_state=0), loss="mse", random_state=0)
    before = trainer.model.get_weights()
    for y_val in (X, X[:, : 3 - n_outputs], y[:-1], y[None], y[:, :, None], np.zeros((40, 0)), REAL[:1]):
        with pytest.raises(ValueError, match="validation_data: y"):
            trainer.fit(X, y, validation_data=(X, y_val))
        for a, b in zip(trainer.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)
    history = trainer.fit(X, y, validation_data=(X, y[:, 0] if n_outputs == 1 else y))
    assert history["val_loss"][-1] == pytest.approx(((trainer.model.predict(X) - y) ** 2).mean(), rel=1e-4)
