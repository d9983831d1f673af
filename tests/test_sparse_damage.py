"""Sparse matrices whose parts do not fit together: an error that names them, at every door and in every format.

SciPy checks little when a matrix is made, and nothing when its arrays are changed afterwards. Followed blindly, such an
index reads or writes outside of an array.
"""

import warnings

import numpy as np
import pytest
from scipy import sparse

import fastbp
from fastbp import MLPClassifier, MLPRegressor
from fastbp._sparse import checked_sparse

RNG = np.random.default_rng(0)
DENSE = RNG.random((40, 3)) * (RNG.random((40, 3)) < 0.7)
LABELS = np.arange(40) % 2
BOTH = [("array", name) for name in ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")]
BOTH += [("matrix", name) for name in ("csr", "csc", "bsr", "coo", "dia", "lil", "dok")]


def made(kind, form):
    return getattr(sparse, f"{form}_{kind}")(DENSE)


def put(name, place, value):
    """Change one element of an array of the matrix."""

    def damage(X):
        array = getattr(X, name).copy()
        array[place] = value
        setattr(X, name, array)

    return damage


def become(name, change):
    return lambda X: setattr(X, name, change(getattr(X, name)))


def falling(X):
    X.indptr[1], X.indptr[2] = X.indptr[2] + 1, X.indptr[1]


COMPRESSED = {
    "index d": (lambda X: put("indices", 3, X.shape[X.format != "csc"])(X), "indices go from 0 to"),
    "index -1": (put("indices", 3, -1), "indices go from -1 to"),
    "index far away": (put("indices", -1, 2**30), "indices go from 0 to 1073741824"),
    "falling indptr": (falling, "indptr does not ascend from 0"),
    "indptr from 1": (put("indptr", 0, 1), "indptr does not ascend from 0"),
    "indptr from -5": (put("indptr", 0, -5), "indptr does not ascend from 0"),
    "indptr beyond the data": (put("indptr", -1, 10**6), "indptr ends at 1000000, but there are"),
    "indptr too short": (become("indptr", lambda a: a[:-1]), "indptr has"),
    "indptr too long": (become("indptr", lambda a: np.append(a, a[-1])), "indptr has"),
    "no indptr": (become("indptr", lambda a: a[:0]), "indptr has 0 elements"),
    "two-dimensional indptr": (become("indptr", lambda a: a[:, None]), "indptr are no integers in one dimension"),
    "fewer values": (become("data", lambda a: a[:-1]), "indptr ends at"),
    "fewer indices": (become("indices", lambda a: a[:-1]), "indptr ends at"),
    "indices of floats": (become("indices", lambda a: a.astype(float)), "are no integers in one dimension, but fl"),
    "indices of bools": (become("indices", lambda a: a.astype(bool)), "are no integers in one dimension, but bool"),
    "a list of indices": (become("indices", list), "are no integers in one dimension, but list"),
    "long indices": (
        lambda X: (become("indices", lambda a: a.astype(np.int64))(X), put("indices", 2, 2**32)(X)),
        "indices go from 0 to 4294967296",
    ),
    "unsigned indices": (
        lambda X: (become("indices", lambda a: a.astype(np.uint64))(X), put("indices", 2, 2**63)(X)),
        "indices go from 0 to 9223372036854775808",
    ),
    "another shape": (lambda X: setattr(X, "_shape", (44, 3) if X.format != "csc" else (40, 4)), "indptr has"),
    "values in rows": (become("data", lambda a: a.reshape(1, -1)), "data is no array in"),
    "no values": (become("data", lambda a: None), "data is no array in"),
}  # fmt: skip
DAMAGES = [(form, name, *damage) for form in ("csr", "csc", "bsr") for name, damage in COMPRESSED.items()]
DAMAGES += [
    ("bsr", "blocks that do not fit", lambda X: setattr(X, "data", np.ones((40, 3, 2))), "blocks of 3 x 2 do not fill"),
    ("bsr", "blocks of nothing", lambda X: setattr(X, "data", np.ones((40, 0, 2))), "blocks of 0 x 2 do not fill"),
    ("coo", "a row too far", lambda X: X.coords[0].__setitem__(4, 40), "rows go from 0 to 40, but it has 40 rows"),
    ("coo", "a negative column", lambda X: X.coords[1].__setitem__(4, -2), "columns go from -2 to 2, but it has 3"),
    ("coo", "fewer values", become("data", lambda a: a[:-3]), "values"),
    ("coo", "more rows", lambda X: setattr(X, "coords", (np.append(X.coords[0], 0), X.coords[1])), "rows are"),
    ("coo", "rows of floats", lambda X: setattr(X, "coords", (X.coords[0] * 1.0, X.coords[1])), "rows are no integers"),
    ("coo", "rows alone", lambda X: setattr(X, "coords", X.coords[:1]), "parts are no values with a row and a column"),
    ("dia", "an offset too far", put("offsets", 0, 3), "offsets go from"),
    ("dia", "an offset far away", lambda X: put("offsets", 0, -(2**31))(X), "offsets go from -2147483648"),
    ("dia", "offsets twice", lambda X: put("offsets", 0, X.offsets[1])(X), "offsets are not all different"),
    ("dia", "fewer diagonals", become("data", lambda a: a[:-1]), "data is no matrix with a row for each"),
    ("dia", "one diagonal", become("data", lambda a: a[0]), "data is no matrix with a row for each"),
    ("lil", "a column too far", lambda X: X.rows[5].__setitem__(0, 3), "columns go from"),
    ("lil", "a negative column", lambda X: X.rows[5].__setitem__(0, -1), "columns go from -1"),
    ("lil", "a column more", lambda X: X.rows[5].append(0), "lists of columns and of values do not have the same"),
    ("lil", "a value more", lambda X: X.data[5].append(0.5), "lists of columns and of values do not have the same"),
    ("lil", "fewer rows", become("rows", lambda a: a[:-1]), "lists are not one of columns and one of values"),
    ("lil", "tuples", lambda X: X.rows.__setitem__(5, tuple(X.rows[5])), "lists of columns and of values"),
    ("lil", "words", lambda X: X.rows[5].__setitem__(0, "a"), "columns are no integers"),
    ("dok", "a key too far", lambda X: X._dict.update({(40, 0): 1.0}), "that is damaged"),
    ("dok", "a negative key", lambda X: X._dict.update({(0, -1): 1.0}), "that is damaged"),
    ("dok", "a key of three", lambda X: X._dict.update({(0, 1, 2): 1.0}), "keys are not all pairs"),
    ("dok", "a word", lambda X: X._dict.update({("a", 0): 1.0}), "that is damaged"),
    ("dok", "a long key", lambda X: X._dict.update({(2**70, 0): 1.0}), "that is damaged"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize(("form", "name", "damage", "message"), DAMAGES, ids=[" ".join(d[:2]) for d in DAMAGES])
def test_every_damage_is_named(form, name, damage, message, kind):
    X = made(kind, form)
    damage(X)
    with pytest.raises(ValueError, match=f"^X is not usable: it is a {form}_{kind} .*{message}"):
        checked_sparse(X, "X")


@pytest.mark.parametrize(("kind", "form"), BOTH)
def test_whole_ones_are_read_in_every_format(kind, form):
    X = made(kind, form)
    np.testing.assert_array_equal(checked_sparse(X, "X").toarray(), DENSE)
    model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
    np.testing.assert_array_equal(model.predict(X), model.predict(DENSE))
    classifier = MLPClassifier((4,), max_iter=1, tol=1e9, random_state=0).partial_fit(X, LABELS, classes=[0, 1])
    np.testing.assert_array_equal(classifier.predict_proba(X), classifier.predict_proba(DENSE))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "u8", ">i4", ">i8", "<i8"])
@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "coo"])
@pytest.mark.parametrize("names", [("indices",), ("indptr",), ("indices", "indptr")], ids="-".join)
def test_integers_of_every_type_are_indices(form, dtype, names):
    X = made("array", form)
    if form == "coo":
        X.coords = tuple(axis.astype(dtype) for axis in X.coords)
    else:
        for name in names:
            setattr(X, name, getattr(X, name).astype(dtype))
    model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
    np.testing.assert_array_equal(model.predict(X), model.predict(DENSE))
    regressor = MLPRegressor(hidden_layer_sizes=(4,), random_state=0).partial_fit(DENSE, DENSE[:, 0])
    np.testing.assert_array_equal(regressor.predict(X), regressor.predict(DENSE))


def test_room_behind_the_entries_is_no_damage():
    X = made("array", "csr")
    X.indices, X.data = np.append(X.indices, [99, -7]), np.append(X.data, [1.0, 2.0])
    model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
    np.testing.assert_array_equal(model.predict(X), model.predict(DENSE))
    assert len(X.indices) == X.indptr[-1] + 2  # it stays as it was


def test_matrices_of_other_dimensions_are_refused():
    model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
    wide = sparse.csr_array((np.ones(1), [2**31], [0, 1]), shape=(1, 2**31 + 1))
    for X, message in (
        (sparse.coo_array(DENSE[0]), r"it has the shape \(3,\), where rows and columns are wanted"),
        (sparse.csr_array(DENSE[0]), r"it has the shape \(3,\), where rows and columns are wanted"),
        (sparse.coo_array(np.ones((2, 3, 4))), r"it has the shape \(2, 3, 4\), where rows and columns are wanted"),
        (wide, "where at most 2147483647 rows and columns are possible"),
    ):
        with pytest.raises(ValueError, match=f"X is not usable: .*{message}"):
            model.predict(X)
        with pytest.raises(ValueError, match=f"X is not usable: .*{message}"):
            MLPClassifier((4,)).fit(X, LABELS[: X.shape[0]])


def test_empty_ones_are_refused_or_read():
    model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
    for form in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr"):
        nothing = getattr(sparse, f"{form}_array")((5, 3))
        np.testing.assert_array_equal(model.predict(nothing), model.predict(np.zeros((5, 3))))
        with pytest.raises(ValueError, match="X is not usable: Found array with 0 sample"):
            model.predict(getattr(sparse, f"{form}_array")((0, 3)))


# ---------------------------------------------------------------------------------------------------------------------
# Every door

BAD = made("array", "csr")
BAD.indices[3] = 3
BAD_COLUMNS = made("matrix", "csc")
BAD_COLUMNS.indices[3] = 10**6
GOOD = made("array", "csr")


def network(n_outputs=2):
    return fastbp.Sequential([fastbp.Dense(4, "relu"), fastbp.Dense(n_outputs)], n_features=3, random_state=0)


def trainer(backend="cpu"):
    return fastbp.Trainer(network(), loss="softmax_cross_entropy", backend=backend, random_state=0)


def fitted(kind, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, **options}
        return kind(**options).fit(GOOD, LABELS)


LOSS = "softmax_cross_entropy"
DOORS = {
    "Trainer.fit": lambda X: trainer().fit(X, LABELS),
    "Trainer.fit, reference": lambda X: trainer("reference").fit(X, LABELS),
    "validation_data": lambda X: trainer().fit(GOOD, LABELS, validation_data=(X, LABELS)),
    "loss_and_gradients": lambda X: trainer().loss_and_gradients(X, LABELS),
    "Sequential.predict": lambda X: network().predict(X),
    "Sequential.predict, reference": lambda X: network().predict(X, backend="reference"),
    "gradient_check": lambda X: fastbp.gradient_check(network(), LOSS, X, LABELS),
    "gradient_flow": lambda X: fastbp.gradient_flow(network(), LOSS, X, LABELS),
    "compare_backends": lambda X: fastbp.compare_backends(network(), LOSS, X, LABELS),
    "GradientFlow": lambda X: trainer().fit(GOOD, LABELS, callbacks=[fastbp.GradientFlow(X, LABELS)]),
    "classes.partial_fit": lambda X: MLPClassifier((4,)).partial_fit(X, LABELS, classes=[0, 1]),
    "values.partial_fit": lambda X: MLPRegressor(hidden_layer_sizes=(4,)).partial_fit(X, LABELS),
    "classes.predict_proba": lambda X: fitted(MLPClassifier).predict_proba(X),
    "classes.predict_log_proba": lambda X: fitted(MLPClassifier).predict_log_proba(X),
}
for what, kind in (("classes", MLPClassifier), ("values", MLPRegressor)):
    DOORS |= {
        f"{what}.fit": lambda X, kind=kind: kind(hidden_layer_sizes=(4,)).fit(X, LABELS),
        f"{what}.fit, early stopping": lambda X, k=kind: k(hidden_layer_sizes=(4,), early_stopping=True).fit(X, LABELS),
        f"{what}.fit, lbfgs": lambda X, kind=kind: kind(hidden_layer_sizes=(4,), solver="lbfgs").fit(X, LABELS),
        f"{what}.fit, warm start": lambda X, kind=kind: fitted(kind, warm_start=True).fit(X, LABELS),
        f"{what}.fit, X_val": lambda X, kind=kind: fitted(kind).fit(GOOD, LABELS, X_val=X, y_val=LABELS),
        f"{what}.predict": lambda X, kind=kind: fitted(kind).predict(X),
        f"{what}.score": lambda X, kind=kind: fitted(kind).score(X, LABELS),
    }


@pytest.mark.parametrize("bad", [BAD, BAD_COLUMNS], ids=["csr_array", "csc_matrix"])
@pytest.mark.parametrize("door", DOORS)
def test_no_door_lets_one_in(door, bad):
    with pytest.raises(
        ValueError, match=r"X(_val)? is not usable: it is a csr_array|X(_val)? is not usable: it is a csc"
    ):
        DOORS[door](bad)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil"])
def test_sparse_targets_are_checked_too(form):
    y = getattr(sparse, f"{form}_array")((RNG.random((40, 3)) < 0.5).astype(int))
    model = MLPClassifier((4,), max_iter=1, tol=1e9, n_iter_no_change=1, random_state=0)
    model.partial_fit(DENSE, y, classes=[0, 1, 2])
    bad = y.copy()
    if form == "lil":
        bad.rows[3] = [7] * len(bad.rows[3]) or [7]
        bad.data[3] = [1] * len(bad.rows[3])
    elif form == "coo":
        bad.coords[1][3] = 7
    else:
        bad.indices[3] = 10**6
    for call in (
        lambda: model.fit(DENSE, bad),
        lambda: model.partial_fit(DENSE, bad),
        lambda: model.fit(DENSE, y, X_val=DENSE, y_val=bad),
        lambda: model.score(DENSE, bad),
        lambda: MLPClassifier((4,)).partial_fit(DENSE, bad, classes=[0, 1, 2]),
        lambda: trainer().fit(DENSE, bad),
        lambda: fastbp.Trainer(network(3), loss="sigmoid_cross_entropy").fit(DENSE, bad),
    ):
        with pytest.raises(ValueError, match=r"y(_val)? is not usable: it is a"):
            call()


def test_sparse_labels_and_weights_are_named():
    y, weights = sparse.csr_array(LABELS[:, None]), sparse.csr_array(np.ones((40, 1)))
    with pytest.raises(TypeError, match=r"y is sparse, and labels or shares of classes are wanted: pass y.toarray\(\)"):
        trainer().fit(DENSE, y)
    for call in (
        lambda: trainer().fit(DENSE, LABELS, sample_weight=weights),
        lambda: MLPClassifier((4,)).fit(DENSE, LABELS, sample_weight=weights),
    ):
        with pytest.raises(TypeError, match="Sparse data was passed for sample_weight, but dense data is required"):
            call()
    weights.indices[0] = 9
    for call in (
        lambda: trainer().fit(DENSE, LABELS, sample_weight=weights),
        lambda: MLPClassifier((4,)).fit(DENSE, LABELS, sample_weight=weights),
    ):
        with pytest.raises(ValueError, match="sample_weight is not usable: it is a csr_array"):
            call()
