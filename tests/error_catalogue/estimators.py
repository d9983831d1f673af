"""Errors of the estimators that are fastbp's own: parameters that do not go together, data beyond scikit-learn's."""

from ._entry import Also, Entry, Exempt, Section


def _no_gradient(stage):
    """Weights become NaN in the fit: the loss of the network says so."""
    stage.names["X"] = stage.names["X"] * 1e160
    stage.names["values"] = stage.names["values"] * 1e160


SECTION = Section(
    "Estimators",
    "Errors of `fastbp.MLPClassifier` and `fastbp.MLPRegressor` about parameters that do not go together, and about "
    "what scikit-learn's estimators do not have. A failed `fit` leaves the estimator as it was, with the model of the "
    "fit before.",
    (
        Entry(
            "Hidden layers that are no whole numbers",
            "fastbp.MLPClassifier((10, 2.5)).fit(X, labels)",
            ValueError,
            "Each entry is the number of units of a layer: a whole number of at least 1.",
            "Write `(10, 2)`, and `(10,)` for one layer. `()` has no hidden layer.",
        ),
        Entry(
            "An activation that no hidden layer has",
            'fastbp.MLPClassifier((4, 4), activation=["relu", "softmax"]).fit(X, labels)',
            ValueError,
            "A list of activations has a name for each hidden layer, and one is misspelled, or is for outputs alone.",
            "Choose among the names in the message. The output has the activation that its loss needs.",
        ),
        Entry(
            "Another number of activations than of layers",
            'fastbp.MLPClassifier((4, 4, 4), activation=["relu", "tanh"]).fit(X, labels)',
            ValueError,
            "A list of activations has one for each hidden layer, without the output layer.",
            'Give three names for three layers, or one name for all: activation="relu".',
        ),
        Entry(
            "Another number of rates of dropout than of layers",
            "fastbp.MLPClassifier((4, 4, 4), dropout=[0.2, 0.2]).fit(X, labels)",
            ValueError,
            "A list of rates has one for each hidden layer, which follows that layer.",
            "Write 0 for a layer without dropout: `dropout=[0.2, 0.2, 0]`.",
        ),
        Entry(
            "Dropout with L-BFGS",
            'fastbp.MLPClassifier((4,), solver="lbfgs", dropout=0.2).fit(X, labels)',
            ValueError,
            "L-BFGS compares the loss at several points, and dropout makes it another function each time.",
            'Take solver="adam", or fight overfitting by a larger alpha.',
        ),
        Entry(
            "Batch normalisation with L-BFGS",
            'fastbp.MLPClassifier((4,), solver="lbfgs", normalization="batch").fit(X, labels)',
            ValueError,
            "The running mean and variance for predictions are gathered from batch to batch, and L-BFGS has "
            "no batches.",
            'Take normalization="layer", which needs no batches.',
        ),
        Entry(
            "Class weights of 0, with L-BFGS",
            'fastbp.MLPClassifier((4,), solver="lbfgs", class_weight={0: 0, 1: 0, 2: 0}).fit(X, labels)',
            ValueError,
            "Each sample is weighed by its class too, and nothing is left of any: the loss divides by the sum.",
            "Give a class that occurs a weight above 0.",
        ),
        Entry(
            "Batch normalisation on batches of one row",
            'fastbp.MLPClassifier((4,), normalization="batch", batch_size=1).fit(X, labels)',
            ValueError,
            "One row has no variance that it could be divided by.",
            'Raise batch_size, or take normalization="layer". `partial_fit` needs at least two rows a call then.',
        ),
        Entry(
            "Numbers that overflow",
            'regressor.set_params(max_iter=3, solver="sgd").fit(X, values)',
            ValueError,
            "Features or targets are so large that their products are no floats any more, or the learning rate is.",
            "Put a `StandardScaler` before the estimator in a pipeline, and wrap a regressor in a "
            "`TransformedTargetRegressor`.",
            given=_no_gradient,
            shown='regressor.set_params(max_iter=3, solver="sgd").fit(1e160 * X, 1e160 * values)',
        ),
        Entry(
            "Validation targets without rows",
            "fastbp.MLPClassifier((4,)).fit(X, labels, y_val=labels)",
            ValueError,
            "There are targets or weights for validation, but no X_val that they belong to.",
            "Pass X_val too, or leave out all three.",
        ),
        Entry(
            "Validation rows without targets",
            "fastbp.MLPClassifier((4,)).fit(X, labels, X_val=X)",
            ValueError,
            "X_val is there and y_val is not.",
            "Pass both: `fit(X, y, X_val=X_val, y_val=y_val)`.",
        ),
        Entry(
            "Another number of validation targets than of rows",
            "fastbp.MLPClassifier((4,)).fit(X, labels, X_val=X, y_val=labels[:5])",
            ValueError,
            "X_val and y_val are of different lengths.",
            "Split rows and targets in one call of `train_test_split`.",
        ),
        Entry(
            "Classes that are new in the validation rows",
            "fastbp.MLPClassifier((4,)).fit(X, labels, X_val=X, y_val=labels + 1)",
            ValueError,
            "y_val has a class that no sample of the training has.",
            "Split with `stratify=y`, so that each part has each class; otherwise leave those rows out.",
        ),
        Entry(
            "Early stopping by partial_fit without validation rows",
            "fastbp.MLPClassifier((4,), early_stopping=True).partial_fit(X, labels, classes=[0, 1, 2])",
            ValueError,
            "partial_fit sees a part of the rows, so that it cannot hold some out for itself.",
            "Pass the same X_val and y_val in each call.",
        ),
        Entry(
            "A validation set of one row",
            "regressor.set_params(early_stopping=True, validation_fraction=0.01).fit(X, values)",
            ValueError,
            "Early stopping holds out validation_fraction of the rows, which is less than two here.",
            "Raise validation_fraction to 0.2, pass X_val and y_val, or train without early stopping.",
        ),
        Entry(
            "A scorer that gives no number",
            "def both(estimator, X, y):\n"
            '    return {"rows": len(y)}\n'
            "regressor.set_params(early_stopping=True, validation_fraction=0.5, scoring=both).fit(X, values)",
            ValueError,
            "Early stopping compares scores, and the function returns a tuple, a dict or an array.",
            "Return one float, of which more is better.",
        ),
        Entry(
            "A plateau without validation rows",
            "regressor.set_params(learning_rate=fastbp.schedules.ReduceOnPlateau(0.1)).fit(X, values)",
            ValueError,
            "The schedule follows the validation loss, and neither X_val nor early stopping gives one.",
            'Pass X_val and y_val, or watch the training loss by monitor="loss".',
        ),
        Entry(
            "A schedule over the whole training in partial_fit",
            "regressor.set_params(learning_rate=fastbp.schedules.Cosine(0.1)).partial_fit(X, values)",
            ValueError,
            "Nobody knows how many calls of partial_fit are to come, so that the schedule has no end to go to.",
            "Give it the number of all steps: `Cosine(0.1, total=1000)`.",
        ),
        Entry(
            "Balanced classes in partial_fit",
            'fastbp.MLPClassifier((4,), class_weight="balanced").partial_fit(X, labels, classes=[0, 1, 2])',
            ValueError,
            "Weights that balance the classes need the number of samples of each, in all of the data.",
            "Compute them once over all targets, and pass them as a dict.",
        ),
        Entry(
            "Another number of class weights than of targets",
            "fastbp.MLPClassifier((4,), class_weight=[{0: 1, 1: 2, 2: 1}, {0: 1}]).fit(X, labels)",
            ValueError,
            "A list of class weights has a dict for each column of y.",
            "For one target pass one dict, without the list.",
        ),
        Entry(
            "Another number of targets than before",
            "several = fastbp.MLPClassifier((4,), max_iter=2).fit(X, np.stack([labels, labels], axis=1))\n"
            "several.partial_fit(X, np.stack([labels, labels, labels], axis=1))",
            ValueError,
            "The network has a softmax for each target that it was fitted with.",
            "Give y the same columns, in the same order.",
        ),
        Entry(
            "A class that is new in a column",
            "several = fastbp.MLPClassifier((4,), max_iter=2).fit(X, np.stack([labels, labels], axis=1))\n"
            "several.partial_fit(X, np.stack([labels, labels + 1], axis=1))",
            ValueError,
            "The network has an output for each class that it was fitted with.",
            "Pass all classes that there will be to the first call of partial_fit: `classes=[[0, 1, 2], [0, "
            "1, 2, 3]]`.",
        ),
        Entry(
            "A loss of classes for a regressor",
            'fastbp.MLPRegressor(loss=fastbp.losses.Loss("softmax_cross_entropy")).fit(X, values)',
            ValueError,
            "Cross-entropies compare probabilities of classes, and a regressor predicts numbers.",
            "Use `fastbp.MLPClassifier` for classes.",
        ),
        Entry(
            "Negative targets of the Poisson loss",
            'regressor.set_params(loss="poisson").fit(X, values)',
            ValueError,
            "The Poisson loss is for counts and rates, and a target is below 0.",
            'Leave the loss at "squared_error", or look where the negative targets come from.',
        ),
        Entry(
            "Levels beside several columns",
            'loss = fastbp.losses.Loss("quantile", level=(0.1, 0.5, 0.9))\n'
            "regressor.set_params(loss=loss).fit(X, X[:, :2])",
            ValueError,
            "One column of y can have several quantiles, or several columns one quantile each.",
            "Fit a regressor for each column, or give as many levels as there are columns.",
        ),
        Entry(
            "Targets that are no numbers",
            'fastbp.MLPRegressor(hidden_layer_sizes=(4,)).fit(X, np.array(["a", "b"] * 6, dtype="S1"))',
            ValueError,
            "A regressor predicts numbers, and y holds words, dates or objects.",
            "Use `fastbp.MLPClassifier` for names of classes. Dates become numbers by subtraction from a first day.",
        ),
        Entry(
            "Weights of several dtypes",
            "classifier.coefs_[0] = classifier.coefs_[0].astype(np.float32)\nclassifier.predict(X)",
            ValueError,
            "The fitted arrays were replaced by hand, one of them by an array of another type.",
            "Convert all of coefs_ and intercepts_ to one dtype.",
            hide=(r"(?<=got ).*",),
        ),
        Entry(
            "Weights that do not fit together",
            "classifier.coefs_[0] = np.ones((3, 7))\nclassifier.predict(X)",
            ValueError,
            "The fitted arrays were replaced by hand, and the columns of one are not the rows of the next.",
            "Replace coefs_ and intercepts_ of a layer together, and the rows of the next coefs_ too.",
            also=(Also("regressor.intercepts_[0] = np.zeros(7)\nregressor.partial_fit(X, values)"),),
        ),
        Entry(
            "Other parameters of the network in a warm start",
            'classifier.set_params(warm_start=True, normalization="layer").fit(X, labels)',
            ValueError,
            "A warm start and partial_fit go on with the network that is there. Its activation, normalization, "
            "residual, dtype or loss was changed after the fit.",
            "Set the parameter back, or fit again with warm_start=False.",
            also=(
                Also(
                    'several = fastbp.losses.Loss("quantile", level=(0.1, 0.5, 0.9))\n'
                    "regressor.set_params(warm_start=True, loss=several).fit(X, values)"
                ),
            ),
        ),
        Entry(
            "Another number of outputs in a warm start",
            "regressor.set_params(warm_start=True).fit(X, X[:, :2])",
            ValueError,
            "A warm start goes on with the network that is there, and y has more or fewer columns.",
            "Set warm_start=False to begin anew.",
        ),
        Entry(
            "Other layers in a warm start",
            "regressor.set_params(warm_start=True, hidden_layer_sizes=(5,)).fit(X, values)",
            ValueError,
            "A warm start goes on with the network that is there, and hidden_layer_sizes asks for another one.",
            "Set warm_start=False to begin anew.",
        ),
        Entry(
            "Several targets for scikit-learn",
            "fastbp.MLPClassifier((4,), max_iter=2).fit(X, np.stack([labels, labels], axis=1)).to_sklearn()",
            ValueError,
            "scikit-learn's classifier has several targets only where each is 0 or 1.",
            "Export a classifier for each target.",
        ),
        Entry(
            "Several activations for scikit-learn",
            'fastbp.MLPClassifier((4, 4), activation=["relu", "tanh"], max_iter=2).fit(X, labels).to_sklearn()',
            ValueError,
            "scikit-learn's network has the same activation in each hidden layer.",
            "Fit with one activation, or keep the model by `pickle` or `joblib`.",
        ),
        Entry(
            "An activation that scikit-learn does not have",
            'fastbp.MLPClassifier((4,), activation="gelu", max_iter=2).fit(X, labels).to_sklearn()',
            ValueError,
            "scikit-learn could not compute the predictions of this network.",
            'Fit with activation="relu" if the model is to be exported.',
        ),
        Entry(
            "A loss that scikit-learn does not have",
            'regressor.set_params(loss="absolute_error", max_iter=2).fit(X, values).to_sklearn()',
            ValueError,
            "scikit-learn's regressor knows the squared error and the Poisson loss, and could not go on with another.",
            "Fit with one of the two if the model is to be exported.",
        ),
        Entry(
            "Skip connections for scikit-learn",
            "fastbp.MLPClassifier((4, 4), residual=True, max_iter=2).fit(X, labels).to_sklearn()",
            ValueError,
            "scikit-learn's networks are layers one after the other, without normalisation or skip connections.",
            "Fit with residual=False and normalization=None if the model is to be exported.",
        ),
        Entry(
            "An estimator of another kind",
            "fastbp.MLPClassifier.from_sklearn(regressor)",
            TypeError,
            "A classifier is taken over from scikit-learn's MLPClassifier, a regressor from its MLPRegressor.",
            "Call from_sklearn of the class of the same name, with an estimator of `sklearn.neural_network`.",
        ),
    ),
    (
        Exempt(
            "fastbp/estimators/_base.py", "BaseMLP._whole_or_as_before", "raise", "passes on what has failed within"
        ),
        Exempt(
            "fastbp/estimators/_lbfgs.py",
            "minimize_lbfgs.iteration_end",
            "raise StopIteration",
            "tells SciPy to stop, which catches it",
        ),
    ),
)
