"""Errors of single parameters of the estimators: one for each, from the tables of constraints."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

import fastbp

from ._entry import Entry, Section
from ._page import cell, code_span
from ._stage import readable

# Of each parameter a value that people pass by mistake, and what to do
MISTAKES: dict[str, tuple[Any, str]] = {
    "activation": ("sigmoid", 'The sigmoid is called "logistic". For several activations pass a list or a tuple.'),
    "alpha": (-0.01, "The penalty is added: drop the sign. 0 is none."),
    "batch_size": (0, "For all rows in one step pass a number of at least n_samples."),
    "beta_1": (1.0, "0.9 is usual. At 1 no new gradient would count."),
    "beta_2": (1.0, "0.999 is usual. At 1 no new gradient would count."),
    "callbacks": (print, "Put the callbacks into a list, each an object of `fastbp.Callback`."),
    "class_weight": ("auto", 'Write "balanced", or a dict {class: weight}.'),
    "clip_norm": (0, "Pass None for no limit; 1.0 is usual."),
    "device": ("gpu", 'Write "cuda", or "auto" for a GPU where there is one.'),
    "dropout": (50, "Pass a share of the units, 0.5 for one half, or a list with one for each hidden layer."),
    "dtype": ("float16", "The kernels compute in two types. None is that of X: float64 in most cases."),
    "early_stopping": ("yes", "Pass True or False, without quotes."),
    "epsilon": (0, "It keeps a division by 0 away: 1e-8 is usual."),
    "hidden_layer_sizes": (0, "Pass an empty tuple for no hidden layer: the model is a linear one."),
    "label_smoothing": (1.0, "Pass the share that goes to all classes alike, 0.1 for example."),
    "learning_rate": (0.01, "This is the way the rate changes. The number itself is `learning_rate_init`."),
    "learning_rate_init": (0, "Begin with 0.001. A schedule goes into `learning_rate`."),
    "loss": ("mse", 'Write "squared_error": the estimators have scikit-learn\'s names.'),
    "max_fun": (0.5, "It is the number of evaluations that L-BFGS may take: a whole number, such as 15000."),
    "max_iter": ("200", "A number that was read from a file or the command line is a string: `int(...)`."),
    "momentum": (90, "Pass a share, 0.9, and not percents."),
    "n_iter_no_change": (0, "Pass 1 to stop after one epoch without progress, and `np.inf` to stop never."),
    "n_jobs": (0, "Pass None or -1 for all usable threads. Results do not depend on their number."),
    "nesterovs_momentum": (None, "Pass False for the plain momentum."),
    "normalization": ("batchnorm", 'Write "batch" or "layer".'),
    "power_t": (-0.5, "The rate is divided by a power of the samples seen: drop the sign."),
    "precision": ("float16", 'TF32 is the only other one, for float32 on a GPU. For float64 pass `dtype="float64"`.'),
    "random_state": (
        "7",
        "Pass an int, without quotes. NumPy's newer generators do not fit: pass an int drawn from one.",
    ),
    "residual": ("add", "Pass True for a skip connection around each hidden layer but the first."),
    "scoring": ("acc", 'Write "accuracy", or another name of `sklearn.metrics.get_scorer_names()`.'),
    "shuffle": (None, "Pass False to keep the order of rows."),
    "solver": ("AdamW", "The names are in lower case. For options of its own pass an optimizer: `fastbp.AdamW(...)`."),
    "tol": (None, "Pass 0 to count any fall of the loss as progress, and `n_iter_no_change=np.inf` to stop never."),
    "validation_fraction": (20, "Pass a share of the rows, 0.2, and not percents."),
    "verbose": ("yes", 'Pass True for a line an epoch, and "progress" for a bar.'),
    "warm_start": ("yes", "Pass True or False, without quotes."),
}
MOST_NAMES = 14


def parameters() -> dict[str, type[Any]]:
    """Each parameter, with the first estimator that has it."""
    kinds = (fastbp.MLPRegressor, fastbp.MLPClassifier)  # the later one counts
    found = {name: kind for kind in kinds for name in kind._parameter_constraints}
    return dict(sorted(found.items()))


def message_of(kind: type[Any], name: str, value: Any) -> str:
    """What ``fit`` says of the value, with long lists of names cut off."""
    try:
        kind(**{name: value}).fit(np.zeros((4, 2)), np.arange(4) % 2)
    except ValueError as error:  # scikit-learn's InvalidParameterError, or of our own
        text = readable(str(error), "/nowhere")
    else:
        raise AssertionError(f"{name}={value!r} is taken")

    def short(match: re.Match[str]) -> str:
        names = match[1].split(", ")
        return "{" + ", ".join(names if len(names) <= MOST_NAMES else [*names[:3], "..."]) + "}"

    return re.sub(r"\{([^{}:]*)\}", short, text)


def table() -> list[str]:
    """A row for each parameter."""
    lines = ["### Each parameter", "", "For each of them a value that people pass by mistake, and its remedy.", ""]
    lines += ["| passed | message | remedy |", "| --- | --- | --- |"]
    for name, kind in parameters().items():
        value, remedy = MISTAKES[name]
        passed = code_span(f"{name}={'print' if value is print else repr(value)}")
        lines.append(f"| {passed} | {cell(code_span(message_of(kind, name, value)))} | {cell(remedy)} |")
    return lines


SECTION = Section(
    "Parameters of the estimators",
    "`fit` looks at each parameter by itself, before it looks at the data. The message is scikit-learn's and names all "
    "that the parameter may be; all parameters follow in a table, after the cases that need more words.",
    (
        Entry(
            "A parameter out of its range",
            "fastbp.MLPClassifier(alpha=-1).fit(X, labels)",
            InvalidParameterError,
            "The value of a parameter is of another type, or out of its range. A constructor only stores, so that the "
            "error comes in `fit`, and in a search in the middle of it.",
            'Correct the value. In a search look at the grid: a string such as "0.1" is no number, and a tuple within '
            "a list is one candidate.",
            foreign=True,
        ),
        Entry(
            "Layers in the place of the loss",
            "fastbp.MLPRegressor((100, 50)).fit(X, values)",
            InvalidParameterError,
            "The first parameter of a regressor is the loss, as in scikit-learn; that of a classifier is "
            "hidden_layer_sizes.",
            "Give the layers by name: `fastbp.MLPRegressor(hidden_layer_sizes=(100, 50))`.",
            foreign=True,
        ),
        Entry(
            "A parameter that does not exist",
            "fastbp.MLPClassifier(learning_rate_initial=0.01)",
            TypeError,
            "The name is misspelled, or is that of a parameter of another library.",
            "Print `fastbp.MLPClassifier().get_params()`. In a grid for a pipeline the name of the step and two "
            "underscores come first: `mlpclassifier__alpha`.",
            foreign=True,
            hide=(r"(?<=learning_rate_initial').*",),  # newer Pythons guess what was meant
        ),
        Entry(
            "A parameter that cannot be set",
            "classifier.set_params(learning_rate_initial=0.01)",
            ValueError,
            "set_params knows the parameters of the constructor alone; so do GridSearchCV and its kin.",
            "Take one of the names that the message lists.",
            foreign=True,
            hide=(r"(?<=are: )[\s\S]*",),
        ),
    ),
    table=table,
)
