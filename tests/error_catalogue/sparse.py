"""Errors of sparse matrices whose parts do not fit together."""

import numpy as np
from scipy import sparse

from ._entry import Also, Entry, Section

PREDICT = "model.predict(X)"


def _made(form, damage):
    """X is a sparse matrix of this form, with something done to it."""

    def given(stage):
        X = getattr(sparse, f"{form}_array")(np.arange(36.0).reshape(12, 3) % 3)
        damage(X)
        stage.names["X"] = X

    return given


def _put(name, place, value):
    return lambda X: getattr(X, name).__setitem__(place, value)


def _become(name, change):
    return lambda X: setattr(X, name, change(getattr(X, name)))


def _case(form, damage, shown):
    return Also(given=_made(form, damage), shown=f"X = sparse.{form}_array(X)\n{shown}\n{PREDICT}")


class Odd(sparse.csr_array):
    """A class of its own, of a form that SciPy does not have."""

    format = "odd"


SECTION = Section(
    "Sparse matrices",
    "The parts of a sparse matrix are looked at before anything follows an index. SciPy does so only when it makes a "
    "matrix, and not when its arrays are changed afterwards. In the examples `sparse` is `scipy.sparse`.",
    (
        Entry(
            "A sparse matrix with an index outside of it",
            PREDICT,
            ValueError,
            "An index was changed after the matrix was made, or the matrix was put together from arrays of another "
            "shape.",
            "Make the matrix anew: `sparse.csr_array((values, (rows, columns)), shape=shape)` checks all of them.",
            given=_made("csr", _put("indices", 0, 3)),
            shown=f"X = sparse.csr_array(X)\nX.indices[0] = 3\n{PREDICT}",
            also=(
                _case("coo", lambda X: X.coords[0].__setitem__(0, 12), "X.coords[0][0] = 12"),
                _case("dia", _put("offsets", 0, 3), "X.offsets[0] = 3"),
                _case("dok", lambda X: X._dict.update({(12, 0): 1.0}), "X._dict[12, 0] = 1.0"),
            ),
        ),
        Entry(
            "A sparse matrix whose arrays have other lengths than each other",
            PREDICT,
            ValueError,
            "indptr, indices and data, or rows, columns and values, belong to each other: each value has its place.",
            "Change values alone, in place, as in `X.data *= 2`; make the matrix anew where entries come or go.",
            given=_made("csr", _become("indptr", lambda a: a[:-1])),
            shown=f"X = sparse.csr_array(X)\nX.indptr = X.indptr[:-1]\n{PREDICT}",
            also=(
                _case("csr", _put("indptr", 0, 1), "X.indptr[0] = 1"),
                _case("csr", _put("indptr", -1, 1000), "X.indptr[-1] = 1000"),
                _case("bsr", lambda X: setattr(X, "data", np.ones((12, 5, 2))), "X.data = np.ones((12, 5, 2))"),
                _case("coo", lambda X: setattr(X, "coords", X.coords[:1]), "X.coords = X.coords[:1]"),
                _case("coo", _become("data", lambda a: a[:-3]), "X.data = X.data[:-3]"),
                _case("dia", _become("data", lambda a: a[:-1]), "X.data = X.data[:-1]"),
                _case("dia", lambda X: _put("offsets", 0, X.offsets[1])(X), "X.offsets[0] = X.offsets[1]"),
                _case("lil", _become("rows", lambda a: a[:-1]), "X.rows = X.rows[:-1]"),
                _case("lil", lambda X: X.rows[5].append(0), "X.rows[5].append(0)"),
                _case("dok", lambda X: X._dict.update({(0, 1, 2): 1.0}), "X._dict[0, 1, 2] = 1.0"),
            ),
        ),
        Entry(
            "A sparse matrix whose arrays are of another kind",
            PREDICT,
            ValueError,
            "Indices are integers in one dimension, and values a NumPy array of as many dimensions as the form has.",
            "Convert the array, `X.indices.astype(np.int32)` for example, before the matrix is made.",
            given=_made("csr", _become("indices", lambda a: a.astype(float))),
            shown=f"X = sparse.csr_array(X)\nX.indices = X.indices.astype(float)\n{PREDICT}",
            also=(_case("csr", _become("data", lambda a: a.reshape(1, -1)), "X.data = X.data.reshape(1, -1)"),),
        ),
        Entry(
            "A sparse array that is no matrix",
            "model.predict(sparse.coo_array(X[0]))",
            ValueError,
            "SciPy has sparse arrays of one and of three dimensions, and X is a matrix; a kernel counts its rows and "
            "columns in 32 bits.",
            "Make a matrix of rows: `sparse.csr_array(X.reshape(1, -1))`. With too many rows, predict in parts.",
            given=lambda stage: stage.names.update(sparse=sparse),
            also=(
                Also(
                    "model.predict(wide)",
                    lambda stage: stage.names.update(
                        wide=sparse.csr_array((np.ones(1), [2**31], [0, 1]), shape=(1, 2**31 + 1))
                    ),
                    shown="model.predict(sparse.csr_array(([1.0], [2**31], [0, 1]), shape=(1, 2**31 + 1)))",
                ),
            ),
        ),
        Entry(
            "A sparse matrix of an unknown form",
            PREDICT,
            TypeError,
            "The matrix is of a class of its own, whose form is none of those that SciPy has.",
            "Convert it first: `X.tocsr()`.",
            given=lambda stage: stage.names.update(X=Odd(np.eye(3))),
            shown="model.predict(X)  # X of a class that is not in SciPy",
        ),
    ),
)
