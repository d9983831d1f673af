"""Errors of targets and weights of the estimators."""

from ._entry import Also, Entry, Exempt, Section

SEVERAL = "several = fastbp.MLPClassifier((4,), max_iter=2).fit(X, np.stack([labels, labels], axis=1))\n"
SPARSE = "from scipy import sparse\n"
PASSES = "passes on what has failed within"
OBJECTS = 'np.array([0, "a"] * 6, dtype=object)'

SECTION = Section(
    "Targets and weights of the estimators",
    "y_val and sample_weight_val go through the same checks as y and sample_weight, and the message names the one.",
    (
        Entry(
            "Classes of several types",
            f"fastbp.MLPClassifier().fit(X, {OBJECTS})",
            TypeError,
            "y has words beside numbers, or None beside words: there is no order among them.",
            "Make one type of them: `y.astype(str)`. A missing class is a class by a name of its own, or its row is "
            "left out.",
            hide=(r"(?<=types: ).*",),
            also=(
                Also('fastbp.MLPClassifier().fit(X, np.array(["a", 0] * 6, dtype=object))', hide=(r"(?<=usable: ).*",)),
            ),
        ),
        Entry(
            "Validation classes of several types",
            SEVERAL + f"y_val = np.stack([{OBJECTS}] * 2, axis=1)\n"
            "several.fit(X, np.stack([labels, labels], axis=1), X_val=X, y_val=y_val)",
            ValueError,
            "A column of y_val has words beside numbers.",
            "Make y_val of the rows of the same table as y, by the same conversion.",
            hide=(r"(?<=usable: ).*",),
        ),
        Entry(
            "Numbers of several targets for a classifier",
            "fastbp.MLPClassifier().fit(X, X[:, :2])",
            ValueError,
            "y is a matrix with decimals, and a classifier needs classes in each column.",
            "Use `fastbp.MLPRegressor` for numbers. Probabilities of classes are soft targets of a Trainer.",
        ),
        Entry(
            "Targets of validation rows that are no classes",
            "fastbp.MLPClassifier().fit(X, labels, X_val=X, y_val=np.stack([labels % 2] * 2, axis=1))",
            ValueError,
            "y holds a class for each row, and y_val a label in each of several columns, or the other way round.",
            "Give y_val the form of y: `y_val.argmax(axis=1)` makes classes of one-hot labels.",
            also=(
                Also(
                    "y = np.eye(3, dtype=int)[labels]\nfastbp.MLPClassifier().fit(X, y, X_val=X, y_val=y[:, :2])",
                ),
            ),
        ),
        Entry(
            "Validation targets of three dimensions",
            "fastbp.MLPRegressor().fit(X, values, X_val=X, y_val=np.zeros((12, 2, 2)))",
            ValueError,
            "y_val has more dimensions than rows and targets.",
            "Lay the targets of each sample out in a row: `y_val.reshape(len(y_val), -1)`.",
        ),
        Entry(
            "Validation targets of other columns",
            "fastbp.MLPRegressor().fit(X, values, X_val=X, y_val=X[:, :2])",
            ValueError,
            "y has another number of targets than y_val.",
            "Select the same columns of y and y_val.",
        ),
        Entry(
            "Validation targets that are no numbers",
            'fastbp.MLPRegressor().fit(X, values, X_val=X, y_val=np.array(["a"] * 12, dtype=object))',
            ValueError,
            "y_val holds words or other objects.",
            "Convert it, `y_val.astype(float)`: the error of that call shows the place.",
            hide=(r"(?<=usable: ).*(?=; pass)",),
        ),
        Entry(
            "Targets too large for float32",
            "fastbp.MLPRegressor().fit(X.astype(np.float32), 1e300 * values)",
            ValueError,
            "X is of float32, and with it the network; y holds numbers beyond 3.4e38.",
            "Divide y by its size, or pass X as float64.",
        ),
        Entry(
            "A sparse y of one column",
            SPARSE + "fastbp.MLPClassifier().fit(X, sparse.csr_array(labels.reshape(-1, 1)))",
            TypeError,
            "Classes of one target are an array of one dimension; only labels of 0 and 1 in several columns may be "
            "sparse.",
            "Fill it up: pass `y.toarray().ravel()`.",
        ),
        Entry(
            "A sparse y of several targets",
            SPARSE + "fastbp.MLPClassifier().fit(X, sparse.csr_array(np.stack([labels, labels], axis=1)))",
            TypeError,
            "The columns hold other numbers than 0 and 1, so that each is a target of several classes.",
            "Fill it up: pass `y.toarray()`.",
            also=(
                Also(
                    SPARSE
                    + "y = np.stack([labels, labels], axis=1)\n"
                    + "fastbp.MLPClassifier().fit(X, y, X_val=X, y_val=sparse.csr_array(y))"
                ),
            ),
        ),
        Entry(
            "Other classes in a later call of partial_fit",
            "y, three = np.stack([labels, labels], axis=1), [0, 1, 2]\n"
            "several = fastbp.MLPClassifier((4,)).partial_fit(X, y, classes=[three, three])\n"
            "several.partial_fit(X, y, classes=[three, [0, 1, 2, 3]])",
            ValueError,
            "The first call of partial_fit has fixed the classes of each target, and with them the outputs.",
            "Announce all classes in the first call, and leave them out of the others.",
        ),
        Entry(
            "A score of another number of targets",
            SEVERAL + "several.score(X, labels)",
            ValueError,
            "The classifier predicts several targets, and y has another number of columns.",
            "Pass a y with a column for each target, in the order of the training.",
        ),
        Entry(
            "Class weights that are no dict",
            'fastbp.MLPClassifier((4,), class_weight=["even"]).fit(X, labels)',
            TypeError,
            "class_weight is a dict, a name, or a list with one of them for each target.",
            'Write `{class: weight}` with the classes of y, or "balanced".',
        ),
        Entry(
            "Balanced classes with negative sample weights",
            'fastbp.MLPClassifier((4,), class_weight="balanced").fit(X, labels, sample_weight=np.arange(12) - 1.0)',
            ValueError,
            "The size of a class is the sum of the weights of its rows, which a negative weight makes meaningless.",
            "Pass weights of at least 0, or the weight of each class as a dict.",
        ),
        Entry(
            "Class weights too large for the dtype",
            "fastbp.MLPClassifier((4,), class_weight={0: 1e300}).fit(X.astype(np.float32), labels)",
            ValueError,
            "The weight of a class times that of a sample is beyond the numbers of the network.",
            "Divide all weights by the largest: the loss is a mean, which only their ratios count in.",
        ),
        Entry(
            "Weights of validation rows that cannot be used",
            "fastbp.MLPClassifier((4,)).fit(X, labels, X_val=X, y_val=labels, sample_weight_val=np.full(12, np.nan))",
            ValueError,
            "sample_weight_val has a NaN or an infinity, or another length than X_val.",
            "Leave the rows out, or give them the weight 0.",
        ),
        Entry(
            "A batch normalisation with one row that counts",
            'fastbp.MLPClassifier((4,), normalization="batch").fit(X, labels, sample_weight=[1] + [0] * 11)',
            ValueError,
            "A row of weight 0 counts for nothing, also in the variance of a batch.",
            'Give weights above 0 to more rows, or take normalization="layer".',
        ),
        Entry(
            "A number that no float holds",
            "classifier.predict([[10**400, 0, 0]])",
            ValueError,
            "X, y or weights have an integer of Python beyond the largest float.",
            "Take the logarithm of the column, or scale it in Python's own integers.",
            also=(Also("fastbp.MLPRegressor().fit(X, values, X_val=X, y_val=[10**400] * 12)"),),
        ),
        Entry(
            "An object in the place of a number",
            "classifier.predict(np.array([[{}, 0, 0]]))",
            TypeError,
            "A row of X, or an entry of y, holds a dict, a list or another object.",
            "Find the column by `pandas.DataFrame(X).map(type).nunique()`, and make numbers of it or leave it out.",
            hide=(r"(?<=usable: )[^;]*",),
            also=(Also("classifier.predict([[{}, 0, 0]])"),),
        ),
        Entry(
            "Hidden layers without an order",
            "fastbp.MLPClassifier({4, 5}).fit(X, labels)",
            ValueError,
            "A set or a dict has no order, and layers have one.",
            "Write a tuple: `(4, 5)`.",
        ),
        Entry(
            "Outputs that overflow",
            'regressor.set_params(solver="sgd", max_iter=1, learning_rate_init=1e60).fit(X, 1e100 * values)',
            ValueError,
            "The last step has made the weights so large that predictions are infinite, though the loss before it was "
            "not.",
            "Scale y to about 1 with a `TransformedTargetRegressor`, or lower learning_rate_init.",
            hide=(r"(?<=largest is )[\d.e+]+(?=\.)",),
        ),
    ),
    (
        Exempt("fastbp/estimators/_inputs.py", "named", "raise", PASSES),
        Exempt("fastbp/estimators/_rows.py", "checked_weights", "raise", PASSES),
        Exempt(
            "fastbp/estimators/_class_targets.py",
            "ClassTargets._encode",
            "is not usable",
            "for what has no order among its classes, which target_kind refuses before by scikit-learn of today",
        ),
        Exempt("fastbp/estimators/_targets.py", "checked_targets", "raise", PASSES),
        Exempt("fastbp/estimators/_validation.py", "scored_by.score", "raise", PASSES),
    ),
)
