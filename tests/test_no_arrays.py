"""What is no array is refused at once, before anything reads it, and the message says what would do."""

import array
import collections
import io
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp._arrays import limited, readable
from fastbp.losses import Loss

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
READ_AT_MOST = 50  # items of a sequence that has 40


class Batches:
    """A sequence of batches as Keras has them: each index gives a batch, whatever the length is."""

    def __init__(self, item=(X, Y), size=4):
        self.item, self.size, self.read = item, size, 0

    def __len__(self):
        return self.size

    def __getitem__(self, k):
        self.read += 1
        assert self.read <= READ_AT_MOST, "it reads on and on"
        return self.item


class Endless(Batches):
    """The same as an iterable, without a length that NumPy would see."""

    __len__ = None

    def __iter__(self):
        return self

    def __next__(self):
        return self[0]


class Dataset:
    """A data set as PyTorch has them, of rows with their targets, which ends."""

    def __len__(self):
        return 40

    def __getitem__(self, k):
        if k >= 40:
            raise IndexError(k)
        return X[k], Y[k]


class Loader:
    """Batches that have a length and come in turn, without an index."""

    def __len__(self):
        return 4

    def __iter__(self):
        return iter([(X, Y)] * 4)


# no array for anybody
NO_ARRAYS = {
    "a generator": lambda: (row for row in X),
    "an iterator": lambda: iter(X.tolist()),
    "a map": lambda: map(float, X[:, 0]),
    "a zip": lambda: zip(X, Y, strict=True),
    "an endless iterator": lambda: itertools.repeat(X[0]),
    "endless batches": Batches,
    "endless rows": lambda: Batches(X[0], 40),
    "endless numbers": lambda: Batches(0.5, 40),
    "endless items": Endless,
    "a data set": Dataset,
    "a loader": Loader,
    "a list of endless batches": lambda: [Batches(), Batches()],
    "a list of iterators": lambda: [iter([1.0]), iter([2.0])],
    "a set": lambda: {1.0, 2.0},
    "a view of a dict": lambda: {0: 1.0}.values(),
    "a module": lambda: math,
    "a function": lambda: len,
    "a class": lambda: np.ndarray,
    "a file": lambda: io.StringIO("1,2"),
    "an object": object,
}
# scikit-learn has words of its own for these
THEIR_WORDS = {
    "None": lambda: None,
    "a dict": lambda: {"a": X},
    "a word": lambda: "data.csv",
    "bytes": lambda: b"data.csv",
}


def network(n_outputs=2):
    return fastbp.Sequential([fastbp.Dense(4, "relu"), fastbp.Dense(n_outputs)], n_features=3, random_state=0)


def trainer(loss="softmax_cross_entropy", n_outputs=2):
    return fastbp.Trainer(network(n_outputs), loss=loss, random_state=0)


def fitted(kind):
    return kind(hidden_layer_sizes=(4,), max_iter=1, n_iter_no_change=1, random_state=0).partial_fit(
        X, Y, **({"classes": [0, 1]} if kind is MLPClassifier else {})
    )


LOSS = "softmax_cross_entropy"
OURS = {
    "X of fit": ("X", lambda v: trainer().fit(v, Y)),
    "y of fit": ("y", lambda v: trainer().fit(X, v)),
    "values of fit": ("y", lambda v: trainer("mse").fit(X, v)),
    "y with blocks": ("y", lambda v: trainer(Loss(LOSS, blocks=(2, 2)), 4).fit(X, v)),
    "y of levels": ("y", lambda v: trainer(Loss("quantile", level=(0.25, 0.5))).fit(X, v)),
    "weights of fit": ("sample_weight", lambda v: trainer().fit(X, Y, sample_weight=v)),
    "X of validation_data": ("validation_data: X", lambda v: trainer().fit(X, Y, validation_data=(v, Y))),
    "y of validation_data": ("validation_data: y", lambda v: trainer().fit(X, Y, validation_data=(X, v))),
    "loss_and_gradients": ("X", lambda v: trainer().loss_and_gradients(v, Y)),
    "predict": ("X", lambda v: network().predict(v)),
    "gradient_check": ("X", lambda v: fastbp.gradient_check(network(), LOSS, v, Y)),
    "gradient_flow": ("y", lambda v: fastbp.gradient_flow(network(), LOSS, X, v)),
    "compare_backends": ("X", lambda v: fastbp.compare_backends(network(), LOSS, v, Y)),
    "set_weights": (r"weights\[0\] \(W1\)", lambda v: network().set_weights([v, *network().get_weights()[1:]])),
    "gradients": (
        "gradients: that of W1",
        lambda v: fastbp.gradient_check(network(), LOSS, X, Y, gradients=[v, *network().get_weights()[1:]]),
    ),
}
THEIRS = {
    f"{call} of {kind.__name__}": (name, lambda v, kind=kind, act=act: act(kind, v))
    for kind in (MLPClassifier, MLPRegressor)
    for call, name, act in (
        ("X of fit", "X", lambda kind, v: kind(hidden_layer_sizes=(4,)).fit(v, Y)),
        ("y of fit", "y", lambda kind, v: kind(hidden_layer_sizes=(4,)).fit(X, v)),
        ("weights of fit", "sample_weight", lambda kind, v: kind(hidden_layer_sizes=(4,)).fit(X, Y, sample_weight=v)),
        ("X of partial_fit", "X", lambda kind, v: fitted(kind).partial_fit(v, Y)),
        ("y of partial_fit", "y", lambda kind, v: fitted(kind).partial_fit(X, v)),
        ("X_val", "X_val", lambda kind, v: fitted(kind).fit(X, Y, X_val=v, y_val=Y)),
        ("y_val", "y_val", lambda kind, v: fitted(kind).fit(X, Y, X_val=X, y_val=v)),
        ("X of predict", "X", lambda kind, v: fitted(kind).predict(v)),
        ("X of score", "X", lambda kind, v: fitted(kind).score(v, Y)),
        ("y of score", "y", lambda kind, v: fitted(kind).score(X, v)),
    )
} | {"classes": ("classes", lambda v: MLPClassifier((4,)).partial_fit(X, Y, classes=v))}


@pytest.mark.parametrize("what", NO_ARRAYS)
@pytest.mark.parametrize("door", [*OURS, *THEIRS])
def test_they_are_refused_at_every_door(door, what):
    name, call = (OURS | THEIRS)[door]
    with pytest.raises(TypeError, match=f"^{name} is not usable: .*; pass an array") as caught:
        call(NO_ARRAYS[what]())
    assert door in ("set_weights", "gradients") or "call partial_fit or Trainer.fit for each of them" in str(
        caught.value
    )


@pytest.mark.parametrize("what", THEIR_WORDS)
@pytest.mark.parametrize("door", [*OURS, *THEIRS])
def test_so_are_those_that_scikit_learn_knows(door, what):
    name, call = (OURS | THEIRS)[door]
    if what == "None" and name in ("sample_weight", "X_val", "classes"):
        return
    with pytest.raises((TypeError, ValueError), match=f"^{name} is not usable: .*; pass an" if door in OURS else "."):
        call(THEIR_WORDS[what]())


SEQUENCES = {
    "callbacks": lambda v: trainer().fit(X, Y, callbacks=v),
    "callbacks of an estimator": lambda v: MLPClassifier((4,), callbacks=v).fit(X, Y),
    "weights": lambda v: network().set_weights(v),
    "gradients": lambda v: fastbp.gradient_check(network(), LOSS, X, Y, gradients=v),
    "layers": lambda v: fastbp.Sequential(v, n_features=3),
    "layers of a Residual": lambda v: fastbp.Residual(v),
    "level": lambda v: Loss("quantile", level=v),
    "blocks": lambda v: Loss(LOSS, blocks=v),
    "class_weight": lambda v: Loss(LOSS, class_weight=v),
    "backends": lambda v: fastbp.compare_backends(network(), LOSS, X, Y, backends=v),
    "hidden_layer_sizes": lambda v: MLPClassifier(v).fit(X, Y),
    "dropout": lambda v: MLPClassifier((4,), dropout=v).fit(X, Y),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("endless", [lambda: itertools.repeat(2), lambda: itertools.repeat(fastbp.Callback()), Batches])
def test_sequences_of_parameters_end(name, endless):
    with pytest.raises((TypeError, ValueError)):
        SEQUENCES[name](endless())


def test_finite_generators_of_things_stay_allowed():
    layers = (fastbp.Dense(n) for n in (4, 2))
    model = fastbp.Sequential(layers, n_features=3, random_state=0)
    model.set_weights(w for w in network().get_weights())
    fastbp.Trainer(model, loss=LOSS).fit(X, Y, callbacks=(fastbp.Callback() for _ in range(2)))
    assert Loss("quantile", level=(k / 4 for k in (1, 2))).level == (0.25, 0.5)
    with pytest.raises(TypeError, match="names, got a repeat that goes on after 3 of them"):
        limited(itertools.repeat("a"), "names", most=3)


def test_layers_in_no_order_are_refused():
    for sizes in ({5, 6}, frozenset([5]), {5: 1}):
        with pytest.raises(ValueError, match=r"hidden_layer_sizes must be > 0, .* in the order of the layers, which a"):
            MLPClassifier(sizes).fit(X, Y)


# ---------------------------------------------------------------------------------------------------------------------
# What NumPy would pass over in silence


def test_masked_elements_are_refused():
    masked = np.ma.masked_greater(X, 1.0)
    assert masked.mask.any()
    labels = np.ma.array(Y, mask=Y == 1)
    for name, call in (
        ("X", lambda: network().predict(masked)),
        ("X", lambda: trainer().fit(masked, Y)),
        ("y", lambda: trainer().fit(X, labels)),
        ("sample_weight", lambda: trainer().fit(X, Y, sample_weight=np.ma.array(np.ones(40), mask=Y == 0))),
        ("X", lambda: MLPClassifier((4,)).fit(masked, Y)),
        ("y", lambda: MLPClassifier((4,)).fit(X, labels)),
        ("y", lambda: MLPRegressor(hidden_layer_sizes=(4,)).fit(X, labels)),
        ("X", lambda: fitted(MLPClassifier).predict(masked)),
    ):
        with pytest.raises(ValueError, match=rf"^{name} is not usable: \d+ of its elements are masked"):
            call()
    whole = np.ma.array(X)
    np.testing.assert_array_equal(network().predict(whole), network().predict(X))
    np.testing.assert_array_equal(fitted(MLPClassifier).predict(whole), fitted(MLPClassifier).predict(X))


def test_lists_of_different_lengths_are_named():
    for ragged in ([[1.0, 2.0, 3.0], [1.0]], [np.ones(3), np.ones(1)], ([1.0, 2.0], np.ones(3))):
        with pytest.raises(ValueError, match=r"^X is not usable: its rows have different lengths, from [12] to 3"):
            network().predict(ragged)
    nested = []
    nested.append(nested)
    with pytest.raises(ValueError, match=r"^X is not usable: it has lists in lists, 4 deep"):
        network().predict(nested)


@pytest.mark.parametrize(
    "X", [np.zeros((2, 3, 1)), [[[1.0]] * 3] * 2, 3.0, np.float32(1), np.zeros(3), [], [[]]], ids=str
)
def test_other_dimensions_are_refused(X):
    for call in (lambda: network().predict(X), lambda: fitted(MLPClassifier).predict(X)):
        with pytest.raises(ValueError, match=r"Found array with|Expected 2D array"):
            call()


def matrix(values):
    return sparse.csr_matrix(np.atleast_2d(values)).todense()


def test_series_matrices_and_records_are_refused_as_rows():
    records = np.zeros(40, [("a", "f8"), ("b", "f8")])
    for bad, message in (
        (pd.Series(X[:, 0]), "Expected a 2-dimensional container but got .*Series|Expected 2D array"),
        (matrix(X), "np.matrix is not supported"),
        (records, "it must hold real numbers|Expected 2D array|is not usable: Cannot cast array data"),
        (records[:, None], "it must hold real numbers|is not usable: Cannot cast array data|compatible with .*strings"),
    ):
        for call in (
            network().predict, lambda v: trainer().fit(v, Y), lambda v: MLPClassifier((4,)).fit(v, Y),
            fitted(MLPRegressor).predict,
        ):  # fmt: skip
            with pytest.raises((TypeError, ValueError), match=message):
                call(bad)
    for call in (lambda: trainer().fit(X, matrix(Y)), lambda: trainer("mse", 1).fit(X, matrix(Y).T)):
        with pytest.raises(TypeError, match=r"^y is not usable: np.matrix is not supported"):
            call()


def test_numbers_that_no_float_holds():
    huge = np.full((40, 3), 10**400, object)
    column = [10**400] * 40
    weights = network().get_weights()
    for name, call in (
        ("X", lambda: network().predict(huge)),
        ("y", lambda: trainer("mse", 3).fit(X, huge)),
        ("sample_weight", lambda: trainer().fit(X, Y, sample_weight=column)),
        ("X or y", lambda: MLPClassifier((4,)).fit(huge, Y)),
        ("X or y", lambda: MLPRegressor(hidden_layer_sizes=(4,)).fit(huge.tolist(), Y)),
        ("X or y", lambda: MLPRegressor(hidden_layer_sizes=(4,)).fit(X, column)),
        ("X or y", lambda: MLPRegressor(hidden_layer_sizes=(4,)).fit(X, huge)),
        ("sample_weight", lambda: MLPClassifier((4,)).fit(X, Y, sample_weight=column)),
        ("sample_weight", lambda: MLPRegressor(hidden_layer_sizes=(4,)).partial_fit(X, Y, sample_weight=column)),
        ("X_val", lambda: fitted(MLPRegressor).fit(X, Y, X_val=huge, y_val=Y)),
        ("y_val", lambda: fitted(MLPRegressor).fit(X, Y, X_val=X, y_val=column)),
        ("sample_weight_val", lambda: fitted(MLPClassifier).fit(X, Y, X_val=X, y_val=Y, sample_weight_val=column)),
        ("X", lambda: fitted(MLPClassifier).predict(huge)),
        ("X", lambda: fitted(MLPRegressor).predict(huge.tolist())),
        ("y or sample_weight", lambda: fitted(MLPRegressor).score(X, column)),
        ("class_weight", lambda: Loss(LOSS, class_weight=[10**400, 1])),
    ):
        with pytest.raises(ValueError, match=f"^{name} is not usable: it holds a number too large for float"):
            call()
    for call in (
        lambda: network().set_weights([np.full((3, 4), 10**400, object), *weights[1:]]),
        lambda: fastbp.gradient_check(network(), LOSS, X, Y, gradients=[huge[:3], *weights[1:]]),
        lambda: fastbp.Sequential(
            [fastbp.Dense(2, initializer=lambda *_: ([[10**400] * 2] * 3, [0, 0]))], n_features=3
        ),
        lambda: MLPClassifier((4,)).fit(X, column),
        lambda: fitted(MLPClassifier).fit(X, Y, X_val=X, y_val=column),
        lambda: MLPClassifier((4,), class_weight={0: 10**400}).fit(X, Y),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()


# ---------------------------------------------------------------------------------------------------------------------
# What is read


class Rows(collections.UserList):
    """A sequence of a class of its own."""


class Indexed:
    """No more than a length and items, which end."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        return self.items[k]


class Interface:
    def __init__(self, data):
        self.data, self.__array_interface__ = data, data.__array_interface__


class Array:
    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype)


class Exchanged:
    """DLPack alone, on the host."""

    def __init__(self, data):
        self.data = data

    def __dlpack__(self, **options):
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.data.__dlpack_device__()


MATRICES = {
    "list": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "list of arrays": list,
    "tuple of lists": lambda X: (*X.tolist(),),
    "deque": lambda X: collections.deque(X.tolist()),
    "UserList": lambda X: Rows(map(Rows, X.tolist())),
    "items": lambda X: Indexed([Indexed(row) for row in X.tolist()]),
    "items of arrays": Indexed,
    "memoryview": memoryview,
    "interface": Interface,
    "__array__": Array,
    "dlpack": Exchanged,
    "frame": pd.DataFrame,
    "fortran": np.asfortranarray,
    "objects": lambda X: X.astype(object),
    "masked, none": np.ma.array,
    "subclass": lambda X: X.view(np.recarray),
    "list of series": lambda X: [pd.Series(row) for row in X],
}
COLUMNS = {
    "list": list,
    "tuple": tuple,
    "array.array": lambda y: array.array("l", y.tolist()),
    "series": pd.Series,
    "deque": collections.deque,
    "items": lambda y: Indexed(y.tolist()),
    "memoryview": memoryview,
    "__array__": Array,
    "dlpack": Exchanged,
    "list of numpy's": lambda y: [np.int64(k) for k in y],
}


@pytest.mark.parametrize("form", MATRICES)
def test_matrices_of_every_form_are_read(form):
    given = MATRICES[form](X)
    np.testing.assert_array_equal(network().predict(given), network().predict(X))
    np.testing.assert_array_equal(
        trainer().loss_and_gradients(given, Y)[1][0], trainer().loss_and_gradients(X, Y)[1][0]
    )
    for kind in (MLPClassifier, MLPRegressor):
        np.testing.assert_array_equal(
            fitted(kind).partial_fit(given, Y).coefs_[0], fitted(kind).partial_fit(X, Y).coefs_[0]
        )
        assert fitted(kind).score(given, Y) == fitted(kind).score(X, Y)


@pytest.mark.parametrize("form", COLUMNS)
def test_columns_of_every_form_are_read(form):
    given, want = COLUMNS[form](Y), trainer().loss_and_gradients(X, Y, Y + 1)[1][0]
    np.testing.assert_array_equal(trainer().loss_and_gradients(X, given, COLUMNS[form](Y + 1))[1][0], want)
    for kind in (MLPClassifier, MLPRegressor):
        want = fitted(kind).partial_fit(X, Y, sample_weight=Y + 1).coefs_[0]
        got = fitted(kind).partial_fit(X, given, sample_weight=COLUMNS[form](Y + 1)).coefs_[0]
        np.testing.assert_array_equal(got, want)
        assert fitted(kind).score(X, given) == fitted(kind).score(X, Y)


def test_a_range_and_words_are_labels():
    assert readable(range(3), "y") == [0, 1, 2]
    words = np.array(["no", "yes"])[Y].tolist()
    model = MLPClassifier((4,), random_state=0).partial_fit(X, words, classes=["no", "yes"])
    assert set(model.predict(X)) <= {"no", "yes"}


def test_sequences_are_read_as_far_as_they_are_long():
    rows = Batches([0.5, 1.5, 2.5], 40)
    with pytest.raises(
        TypeError, match=r"^X is not usable: a Batches has items beyond its length of 40; pass an array"
    ):
        network().predict(rows)
    assert rows.read <= 2
    batches = Batches()
    with pytest.raises(
        TypeError, match=r"^X is not usable: a Batches is a sequence of batches, not of rows; pass an arr"
    ):
        network().predict(batches)
    assert batches.read == 1


def test_sparse_matrices_go_through_the_same_door():
    matrix = sparse.csr_array(X)
    assert readable(matrix, "X") is matrix


# ---------------------------------------------------------------------------------------------------------------------
# Displays


@pytest.mark.parametrize("endless", [Batches, lambda: itertools.repeat(np.ones((4, 2)))])
def test_displays_read_to_an_end(endless):
    from fastbp import plotting

    flow = fastbp.gradient_flow(network(), LOSS, X, Y)
    for make in (
        lambda: plotting.WeightsDisplay(endless()),
        lambda: plotting.WeightsDisplay([endless()]),
        lambda: plotting.WeightsDisplay([np.ones((4, 2))], epochs=endless()),
        lambda: plotting.WeightsDisplay.from_snapshots(endless()),
        lambda: plotting.ActivationsDisplay({"one": endless()}),
        lambda: plotting.ActivationsDisplay(endless()),
        lambda: plotting.GradientFlowDisplay(endless()),
        lambda: plotting.GradientFlowDisplay([flow], epochs=endless()),
        lambda: plotting.LearningCurveDisplay({"loss": endless()}),
        lambda: plotting.LearningCurveDisplay(endless()),
        lambda: plotting.GradientFlowDisplay.from_estimator(fitted(MLPClassifier), X, endless()),
        lambda: plotting.ActivationsDisplay.from_model(network(), endless()),
    ):
        with pytest.raises((TypeError, ValueError), match=r"must be|is not usable"):
            make()
