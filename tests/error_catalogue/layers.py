"""Errors of layers: what a network is built of."""

from ._entry import Entry, Exempt, Section

SECTION = Section(
    "Layers",
    "Layers check their numbers and names when they are made, and a model checks how its layers go together.",
    (
        Entry(
            "An activation that does not exist",
            'fastbp.Dense(4, "swish2")',
            ValueError,
            "The name of the activation is misspelled, or fastbp has no such function.",
            'Choose one of the names in the message. "sigmoid" and "logistic" are the same function.',
        ),
        Entry(
            "A number of units that is no integer",
            "fastbp.Dense(4.0)",
            TypeError,
            "A layer has a whole number of units, and 4.0 is a float; so is the result of a division.",
            "Pass an int: `int(...)`, or `//` in place of `/`.",
        ),
        Entry(
            "A layer without units",
            "fastbp.Dense(0)",
            ValueError,
            "Every layer needs at least one unit.",
            "Give 1 or more, or leave the layer out.",
        ),
        Entry(
            "A number of units beyond all memory",
            "fastbp.Dense(10**30)",
            ValueError,
            "No array has so many elements, on any machine.",
            "Look for a mistake in the computation of this number.",
            hide=(r"\d{15,20}(?=,)",),
        ),
        Entry(
            "A rate that drops everything",
            "fastbp.Dropout(1.0)",
            ValueError,
            "The rate is the share of outputs that dropout sets to 0, and some must be left.",
            "Give a rate from 0 to below 1; 0.2 to 0.5 are usual. A rate of percents is divided by 100.",
        ),
        Entry(
            "The momentum of a BatchNorm above 1",
            "fastbp.BatchNorm(momentum=99)",
            ValueError,
            "momentum is the share of a batch in the running statistics, so it lies from 0 to 1.",
            "Give 0.1, which is the default, or a smaller number for a longer memory. Keras counts the other "
            "way round: its 0.99 is 0.01 here.",
        ),
        Entry(
            "Layers that are no sequence",
            "fastbp.Sequential(fastbp.Dense(3), n_features=3)",
            TypeError,
            "One layer stands where a list of layers is expected.",
            "Put the layer into a list: `[fastbp.Dense(3)]`.",
        ),
        Entry(
            "A sequence of no layers",
            "fastbp.Residual([])",
            ValueError,
            "A model and a Residual consist of at least one layer, and the list is empty.",
            "Put the layers into the list before you pass it on.",
        ),
        Entry(
            "A layer that is none",
            'fastbp.Sequential([fastbp.Dense(4), "relu", fastbp.Dense(3)], n_features=3)',
            TypeError,
            "Something else than a layer of fastbp stands in the list: a string, a class, or a layer of "
            "another library.",
            'Make a layer of it. An activation belongs to the layer before it: `fastbp.Dense(4, "relu")`.',
        ),
        Entry(
            "A network without a Dense layer",
            "fastbp.Sequential([fastbp.BatchNorm()], n_features=3)",
            ValueError,
            "The output of a network comes from a Dense layer, and there is none.",
            "End the list with a `fastbp.Dense` that has a unit for each output.",
        ),
        Entry(
            "A softmax in a hidden layer",
            'fastbp.Sequential([fastbp.Dense(4, "softmax"), fastbp.Dense(3)], n_features=3)',
            ValueError,
            "Only the output may be a softmax.",
            'Give the hidden layer another activation, such as "relu".',
        ),
        Entry(
            "A subclass of a layer",
            "class Wide(fastbp.Dense):\n    pass\nfastbp.Sequential([Wide(3)], n_features=3)",
            TypeError,
            "Files, summaries and pictures know the layers of fastbp by their classes, and would lose what a subclass "
            "adds.",
            'Write a function in place of a subclass: `def wide(units): return fastbp.Dense(units, "relu")`.',
        ),
    ),
    (
        Exempt(
            "fastbp/_describe.py",
            "_Walk.layer",
            "must be one of",
            "for a new class of layers: Sequential and Residual take none that is not known",
        ),
    ),
)
