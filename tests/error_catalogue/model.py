"""Errors of Sequential: its making, its weights, its predictions."""

from ._entry import Entry, Section

SECTION = Section(
    "Models",
    "Errors of `fastbp.Sequential`. Those about the data that it predicts from are under Data, those about files under "
    "Files.",
    (
        Entry(
            "Another dtype",
            'fastbp.Sequential([fastbp.Dense(3)], n_features=3, dtype="float16")',
            ValueError,
            "The kernels compute in float32 and float64 alone.",
            'Choose "float32", which is twice as fast, or "float64", which rounds less.',
        ),
        Entry(
            "A seed that is none",
            'fastbp.Sequential([fastbp.Dense(3)], n_features=3, random_state="7")',
            ValueError,
            "The seed is a string, negative, too large, or one of NumPy's newer generators.",
            "Pass an int. With a `numpy.random.Generator` named `rng`, pass `int(rng.integers(2**32))`.",
        ),
        Entry(
            "More parameters than the machine can hold",
            "fastbp.Sequential([fastbp.Dense(10**7), fastbp.Dense(10**7)], n_features=3)",
            ValueError,
            "A layer has fan_in times fan_out weights, and together they are larger than the memory of the machine. "
            "Nothing has been allocated.",
            "Look for a number of units that stands for something else, such as the number of samples; otherwise make "
            "the layers narrower.",
            hide=(r"(?<=machine has )[\d.e+]+",),
        ),
        Entry(
            "A model that is none",
            'fastbp.Trainer(classifier, loss="mean_squared_error")',
            TypeError,
            "A Trainer, and the checks of gradients, work on a `fastbp.Sequential`; this is an estimator, a list of "
            "layers, or a model of another library.",
            "Put the layers into a `fastbp.Sequential`. An estimator has a method `fit` of its own.",
        ),
        Entry(
            "Weights that are no sequence",
            "model.set_weights(1.0)",
            TypeError,
            "A model takes its weights as a sequence of arrays, W1, b1, W2, b2 and so on, and a single "
            "number cannot be gone through.",
            "Begin with `model.get_weights()`, and change the arrays in that list.",
        ),
        Entry(
            "Another number of arrays",
            "model.set_weights(model.get_weights()[:2])",
            ValueError,
            "The weights are those of a model with more or with fewer layers, or some of them were left out.",
            "Compare with `[w.shape for w in model.get_weights()]`: a Dense has two arrays, a BatchNorm four, a "
            "LayerNorm two.",
        ),
        Entry(
            "Weights that are no numbers",
            'model.set_weights([[["a"] * 4] * 3, *model.get_weights()[1:]])',
            ValueError,
            "An array holds strings, complex numbers or rows of different lengths.",
            "Convert it first, with `numpy.asarray(w, dtype=float)`: the error of that call shows the place.",
        ),
        Entry(
            "Weights of another shape",
            "model.set_weights([w.T for w in model.get_weights()])",
            ValueError,
            "W has the shape (fan_in, fan_out), as in scikit-learn and Keras; PyTorch has the transposed matrix.",
            "Transpose the matrices that come from PyTorch; otherwise give the layers as many units as the "
            "weights have.",
        ),
        Entry(
            "Weights that are not finite",
            "model.set_weights([w * np.nan for w in model.get_weights()])",
            ValueError,
            "An array has a NaN or an infinity, or a number that becomes infinite in float32. The training that they "
            "come from has probably diverged.",
            "Go back to weights from before, and train with a smaller learning rate.",
        ),
        Entry(
            "A negative variance",
            "normed = fastbp.Sequential([fastbp.Dense(2), fastbp.BatchNorm()], n_features=3)\n"
            "normed.set_weights([w - 2 for w in normed.get_weights()])",
            ValueError,
            "The last array of a BatchNorm is a running variance, of which a prediction takes the square root.",
            "Leave running means and variances out of what is done to all weights, such as adding noise.",
        ),
        Entry(
            "Another number of threads than a count",
            "model.predict(X, n_threads=0)",
            ValueError,
            "n_threads is the largest number of threads, so it is at least 1.",
            "Give None for all usable threads. The results are the same with any number.",
        ),
        Entry(
            "A switch that is neither True nor False",
            'model.predict(X, raw="no")',
            TypeError,
            "A string would count as True, whatever it says, so it is refused.",
            "Pass True or False, without quotes.",
        ),
    ),
)
