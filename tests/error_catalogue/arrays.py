"""Errors of what no array can be made of."""

import warnings

import numpy as np

from ._entry import Also, Entry, Exempt, Section


def _matrix(stage):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's own, that np.matrix is to go
        stage.names["matrix"] = np.matrix(np.ones((12, 3)))


SEQUENCE = "class {}:\n    def __len__(self):\n        return 12\n    def __getitem__(self, k):\n        {}\n{}"

SECTION = Section(
    "Arrays",
    "X, y, weights and gradients may be arrays, lists, data frames, and whatever else NumPy reads whole: all else is "
    "refused before anything reads it. The message begins with the name of the argument.",
    (
        Entry(
            "An iterator in the place of an array",
            "model.predict(row for row in X)",
            TypeError,
            "An iterator, a class, a file or None has no length and no rows that could be looked up.",
            "Make an array of it: `np.array(list(rows))`. For batches of a loader write a loop that calls "
            "`partial_fit`, or `Trainer.fit` with epochs=1, for each of them.",
            also=(
                Also("trainer.fit(X, None)"),
                Also("model.predict([iter([0.1, 0.2, 0.3])])"),
            ),
        ),
        Entry(
            "A sequence of batches",
            SEQUENCE.format("Batches", "return X, labels", "trainer.fit(Batches(), labels)"),
            TypeError,
            "Each item is a batch, as in a Sequence of Keras, and not a row.",
            "Loop over the batches: `for X, y in batches: trainer.fit(X, y, batch_size=len(X))`.",
        ),
        Entry(
            "A sequence without an end",
            SEQUENCE.format("Rows", "return X[k % 12]", "trainer.fit(Rows(), labels)"),
            TypeError,
            "An item behind the length of the sequence raises no IndexError, so that nobody knows where it ends.",
            "Raise an IndexError in `__getitem__` where `k >= len(self)`, or pass a list of the rows.",
        ),
        Entry(
            "A sequence whose items fail",
            SEQUENCE.format("Rows", 'raise OSError("no such file")', "trainer.fit(Rows(), labels)"),
            TypeError,
            "`__getitem__` of the sequence has raised an error, which is named in brackets.",
            "Try `rows[0]` by itself: the error comes with its traceback there.",
        ),
        Entry(
            "A list that never ends",
            "import itertools\nmodel.set_weights(itertools.repeat(X))",
            TypeError,
            "A sequence of arrays, layers, callbacks or names has more items than could be wanted, or no end.",
            "Pass a list with as many items as the message says.",
        ),
        Entry(
            "A matrix of the old kind",
            "model.predict(matrix)",
            TypeError,
            "An np.matrix stays two-dimensional in all that is done to it.",
            "Convert it once: `X = np.asarray(X)`.",
            given=_matrix,
            shown="model.predict(np.matrix(X))",
        ),
        Entry(
            "An array with a mask",
            "model.predict(np.ma.masked_array(X, mask=X > 1))",
            ValueError,
            "Masked elements are missing values, and a network computes with each element.",
            "Fill them up before, with the mean of the column for example: `X.filled(X.mean(axis=0))`.",
        ),
        Entry(
            "Sparse labels",
            "from scipy import sparse\ntrainer.fit(X, sparse.csr_array(np.eye(3)[labels]))",
            TypeError,
            "Labels of the softmax cross-entropy are an integer for each row, or a share of each class.",
            "Take the column of the 1 in each row: `y.argmax(axis=1)`.",
        ),
    ),
    (Exempt("fastbp/_arrays.py", "_items", "raise", "passes on what has failed within"),),
)
