"""Errors of X, y and sample weights, as Trainer and Sequential take them."""

from ._entry import Also, Entry, Section

SECTION = Section(
    "Data of a trainer or a model",
    "The data of `Trainer.fit`, `Trainer.loss_and_gradients`, `Sequential.predict`, `gradient_check` and "
    "`gradient_flow`. The name at the beginning of a message is that of the argument: `X`, `y`, `sample_weight`, or "
    "`validation_data: X`. Estimators have sections of their own.",
    (
        Entry(
            "Another number of features",
            "model.predict(X[:, :2])",
            ValueError,
            "X has more or fewer columns than the model has features.",
            "Select the same columns as for the training, or make the model with `n_features=X.shape[1]`.",
        ),
        Entry(
            "An X of one dimension",
            "model.predict(X[0])",
            ValueError,
            "One sample is a row, and X is a matrix of rows.",
            "Make a matrix of it: `X[:1]`, or `x.reshape(1, -1)`.",
        ),
        Entry(
            "An X of words",
            'model.predict([["red", "round", "small"]])',
            TypeError,
            "A network computes with numbers, and X has strings, dates or complex numbers.",
            "Encode categories as numbers, with `sklearn.preprocessing.OneHotEncoder` for example.",
        ),
        Entry(
            "A missing value in X",
            "model.predict([[0.0, 1.0, np.nan]])",
            ValueError,
            "X has a NaN or an infinity, and so would every prediction for that row.",
            "Fill missing values up before, with `sklearn.impute.SimpleImputer` for example, or leave the rows out.",
        ),
        Entry(
            "A number too large for the dtype",
            "model.predict([[0, 1, 10**400]])",
            ValueError,
            "X has an integer of Python that no float can hold.",
            "Scale the column, or take the logarithm of its values.",
        ),
        Entry(
            "A sparse X that begins at a normalisation",
            "from scipy import sparse\n"
            "normed = fastbp.Sequential([fastbp.BatchNorm(), fastbp.Dense(3)], n_features=3)\n"
            "normed.predict(sparse.csr_array(X))",
            ValueError,
            "The product of a sparse X with weights is computed without the zeros; no other layer can do without them.",
            "Put a Dense first. Where X fits into memory, `X.toarray()` will do.",
        ),
        Entry(
            "Labels of another type",
            "trainer.fit(X, labels.astype(str))",
            TypeError,
            "The softmax cross-entropy counts classes 0, 1, 2 and so on, and y has strings or floats.",
            "Encode names of classes: `names, y = np.unique(y, return_inverse=True)`. Floats that are whole become "
            "labels by `y.astype(int)`.",
        ),
        Entry(
            "Labels that are ragged",
            "trainer.fit(X, [[0], [1, 2]])",
            ValueError,
            "NumPy can make no array of y: its rows have different lengths.",
            "Give one label for each sample. For several labels a sample, use the loss `sigmoid_cross_entropy` with a "
            "column of 0 and 1 for each label.",
            also=(
                Also("trainer.fit(X, [np.zeros((2, 2)), np.zeros((2, 3))])", hide=(r"(?<=row of X: ).*",)),
                Also("trainer.fit(X, [[[[[0]]]]])"),
            ),
        ),
        Entry(
            "Labels in the shape of another task",
            "trainer.fit(X, labels[:5])",
            ValueError,
            "y has more or fewer labels than X has rows, or is a matrix of integers.",
            "Take the same rows of X and y. One-hot labels become labels by `y.argmax(axis=1)`.",
        ),
        Entry(
            "Labels without an output",
            "trainer.fit(X, labels + 1)",
            ValueError,
            "Labels count from 0, and each is the number of an output. Here one is negative or too large.",
            "Subtract the smallest label, or give the last layer a unit for each class.",
        ),
        Entry(
            "Block labels of another type",
            'loss = fastbp.losses.Loss("softmax_cross_entropy", blocks=(2, 2))\n'
            "two = fastbp.Sequential([fastbp.Dense(4)], n_features=3)\n"
            "fastbp.Trainer(two, loss=loss).fit(X, np.zeros((12, 2)))",
            TypeError,
            "A loss with blocks takes an integer label for each block, and y has floats in as many columns as there "
            "are blocks.",
            "Convert the labels by `y.astype(int)`. Soft targets have a column for each output instead.",
        ),
        Entry(
            "Block labels of another shape",
            'loss = fastbp.losses.Loss("softmax_cross_entropy", blocks=(2, 2))\n'
            "two = fastbp.Sequential([fastbp.Dense(4)], n_features=3)\n"
            "fastbp.Trainer(two, loss=loss).fit(X, labels)",
            ValueError,
            "A loss with blocks needs a label for each block of each sample.",
            "Put the labels of the tasks side by side: `np.stack([first, second], axis=1)`.",
        ),
        Entry(
            "Block labels without an output",
            'loss = fastbp.losses.Loss("softmax_cross_entropy", blocks=(2, 2))\n'
            "two = fastbp.Sequential([fastbp.Dense(4)], n_features=3)\n"
            "fastbp.Trainer(two, loss=loss).fit(X, np.stack([labels, labels], axis=1))",
            ValueError,
            "Labels of each block count from 0 within the block; one of them is negative or too large for its block.",
            "Give the block a unit for each class, or correct the labels of the column that the message names.",
        ),
        Entry(
            "Soft targets below 0",
            "trainer.fit(X, np.tile([1.5, -0.5, 0.0], (12, 1)))",
            ValueError,
            "A matrix of floats is taken for soft targets, shares of the classes, and one is negative.",
            "Give probabilities: apply a softmax to logits first.",
        ),
        Entry(
            "Soft targets that do not sum to 1",
            "trainer.fit(X, np.full((12, 3), 0.5))",
            ValueError,
            "A matrix of floats is taken for soft targets, and the shares of a sample must sum to 1.",
            "Divide each row by its sum. For labels that do not exclude each other, use the loss "
            "`sigmoid_cross_entropy`.",
        ),
        Entry(
            "Targets of another shape",
            'fastbp.Trainer(model, loss="mean_squared_error").fit(X, values)',
            ValueError,
            "The model has more outputs than y has columns, or y has another number of rows than X.",
            "Give the last layer a unit for each column of y: one for a y of one dimension.",
        ),
        Entry(
            "Targets beyond 0 and 1",
            'fastbp.Trainer(model, loss="sigmoid_cross_entropy").fit(X, X)',
            ValueError,
            "Targets of the sigmoid cross-entropy are probabilities.",
            "Encode two classes as 0 and 1, not as -1 and 1. For other numbers take `mean_squared_error`.",
        ),
        Entry(
            "Negative counts",
            "one = fastbp.Sequential([fastbp.Dense(1)], n_features=3)\n"
            'fastbp.Trainer(one, loss="poisson").fit(X, np.full(12, -1.0))',
            ValueError,
            "The Poisson loss is for counts and rates, which are not negative.",
            "Take another loss, or look where the negative targets come from.",
        ),
        Entry(
            "No label that counts",
            'loss = fastbp.losses.Loss("softmax_cross_entropy", class_weight=(0, 1, 1))\n'
            "fastbp.Trainer(model, loss=loss).fit(X, np.zeros(12, int))",
            ValueError,
            "Every label of y has the class weight 0, so nothing would be learned.",
            "Give at least one class of y a weight above 0.",
        ),
        Entry(
            "Sample weights of another length",
            "trainer.fit(X, labels, sample_weight=np.ones(5))",
            ValueError,
            "There must be one weight for each row of X.",
            "Select the same rows of the weights as of X. Weights of classes go into the loss: `Loss(..., "
            "class_weight=...)`.",
        ),
        Entry(
            "Sample weights below 0, or all 0",
            "trainer.fit(X, labels, sample_weight=np.zeros(12))",
            ValueError,
            "The loss is a weighted mean, which divides by the sum of the weights.",
            "Leave out the rows that are not to count, in place of weighing all of them by 0.",
        ),
        Entry(
            "Validation data that is no pair",
            "trainer.fit(X, labels, validation_data=X)",
            ValueError,
            "validation_data holds data and targets, and perhaps weights, as one tuple.",
            "Pass `validation_data=(X_val, y_val)`.",
        ),
        Entry(
            "Validation data of another form",
            "trainer.fit(X, labels, validation_data=(X[:, :2], labels))",
            ValueError,
            "Validation data goes through the same checks as the data of the training.",
            "Apply to it what was done to X: the same columns, the same scaling, the same encoding of labels.",
        ),
        Entry(
            "Sample weights that are too small to divide by",
            "trainer.fit(X, labels, sample_weight=np.full(12, 1e-42))",
            ValueError,
            "The loss is divided by the sum of the weights, and one over such a sum is no number of the dtype.",
            "Divide the weights by their mean: only their ratios count.",
        ),
        Entry(
            "Weights of samples and of classes that leave nothing",
            'loss = fastbp.losses.Loss("softmax_cross_entropy", class_weight=(1, 0, 1))\n'
            "weighted = fastbp.Trainer(model, loss=loss)\n"
            "weighted.fit(X, labels, sample_weight=1.0 * (labels == 1))",
            ValueError,
            "A row counts by its own weight times that of its class, and each product is 0.",
            "Print both weights of some rows, and raise one of them.",
        ),
    ),
)
