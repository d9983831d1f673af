"""Errors of the checks of gradients and of the comparison of backends."""

from ._entry import Entry, Section

SECTION = Section(
    "Checks of gradients",
    "Errors of `fastbp.gradient_check`, `fastbp.compare_backends` and `fastbp.gradient_flow`. That gradients "
    "are wrong is no error: it stands in what these functions return.",
    (
        Entry(
            "One backend alone",
            'fastbp.compare_backends(model, "softmax_cross_entropy", X, labels, backends="cpu")',
            ValueError,
            "A comparison takes two, and the first one is what the others are held against.",
            'Write `backends=("reference", "cpu")`.',
        ),
        Entry(
            "Backends that are no sequence",
            'fastbp.compare_backends(model, "softmax_cross_entropy", X, labels, backends=2)',
            TypeError,
            "The backends are given by their names.",
            "Pass a tuple of names: those in the message.",
        ),
        Entry(
            "A limit of entries of 0",
            'fastbp.gradient_check(model, "softmax_cross_entropy", X, labels, max_entries=0)',
            ValueError,
            "max_entries is the number of elements of each array that are checked.",
            "Give None for all of them, or 20 for a quick look at a large network.",
        ),
        Entry(
            "Gradients that are no sequence",
            'fastbp.gradient_check(model, "softmax_cross_entropy", X, labels, gradients=0.5)',
            TypeError,
            "Your own gradients are to be checked, and they are one number.",
            "Pass a list of arrays, W1, b1, W2, b2 and so on, as `model.get_weights()` has them.",
        ),
        Entry(
            "Gradients for other arrays",
            'fastbp.gradient_check(model, "softmax_cross_entropy", X, labels, gradients=model.get_weights()[:1])',
            ValueError,
            "There is a gradient for each array of the model, the biases included.",
            "Add those that are missing. A running mean or variance has a gradient of zeros.",
        ),
        Entry(
            "Gradients that are no numbers",
            'fastbp.gradient_check(model, "softmax_cross_entropy", X, labels, gradients=[["a"], ["b"], ["c"], ["d"]])',
            ValueError,
            "One of your gradients holds words, None or complex numbers.",
            "Convert it by `numpy.asarray(gradient, dtype=float)`; of a tensor of PyTorch take `.detach().numpy()`.",
            hide=(r"(?<=numbers: ).*",),
        ),
    ),
)
