"""Errors of initial weights."""

from ._entry import Entry, Section

SECTION = Section(
    "Initial weights",
    "An initializer is a name, a `fastbp.initializers.Constant`, or a function of (rng, fan_in, fan_out, activation) "
    "that returns W and b. What a function returns is checked when the model is made.",
    (
        Entry(
            "An initializer that does not exist",
            'fastbp.Dense(4, "relu", initializer="he")',
            ValueError,
            "The name is misspelled or incomplete, or a class stands in the place of an object.",
            "Choose one of the names in the message, with its distribution.",
        ),
        Entry(
            "A bias initializer that does not exist",
            'fastbp.Dense(4, bias_initializer="ones")',
            ValueError,
            "Biases begin at the initializer's own, at zero, or at one constant.",
            "For ones, pass `fastbp.initializers.Constant(1.0)`.",
        ),
        Entry(
            "A constant that is not finite",
            'fastbp.initializers.Constant(float("nan"))',
            ValueError,
            "Weights begin with finite numbers.",
            "Look where the number was computed: 0 / 0, or the logarithm of 0 or of a negative number.",
            hide=(r"-?1\.79769e\+308",),
        ),
        Entry(
            "A function that returns W alone",
            "def ones(rng, fan_in, fan_out, activation):\n"
            "    return np.ones((fan_in, fan_out))\n"
            "fastbp.Sequential([fastbp.Dense(2, initializer=ones)], n_features=2)",
            TypeError,
            "The function returns one array, and a layer needs its weights and its biases.",
            "Return both: `return W, np.zeros(fan_out)`.",
        ),
        Entry(
            "A function that returns no numbers",
            "def words(rng, fan_in, fan_out, activation):\n"
            '    return np.full((fan_in, fan_out), "a"), np.zeros(fan_out)\n'
            "fastbp.Sequential([fastbp.Dense(2, initializer=words)], n_features=2)",
            TypeError,
            "W or b holds something else than real numbers: strings, None, complex numbers, or lists of several "
            "lengths.",
            "Return arrays of floats. Their dtype does not matter: they are converted to that of the model.",
        ),
        Entry(
            "A function that returns another shape",
            "def turned(rng, fan_in, fan_out, activation):\n"
            "    return np.ones((fan_out, fan_in)), np.zeros(fan_out)\n"
            "fastbp.Sequential([fastbp.Dense(3, initializer=turned)], n_features=2)",
            ValueError,
            "W must have a row for each input and a column for each unit, and b an element for each unit.",
            "Exchange the two sizes, or return `W.T`.",
        ),
        Entry(
            "A function that returns infinite numbers",
            "def huge(rng, fan_in, fan_out, activation):\n"
            "    return np.full((fan_in, fan_out), 1e300), np.zeros(fan_out)\n"
            "fastbp.Sequential([fastbp.Dense(2, initializer=huge)], n_features=2)",
            ValueError,
            "A weight is NaN or infinite, or becomes infinite in the dtype of the model: 1e300 is no float32.",
            "Scale the weights by the root of fan_in, as the initializers of fastbp do.",
        ),
    ),
)
