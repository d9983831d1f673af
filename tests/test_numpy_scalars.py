"""Numbers, flags and names of NumPy's types, for every parameter of every public class and function.

They stand for Python's own. A description keeps these, so that equal ones are equal and files hold them; an estimator
keeps what it was given, as scikit-learn's do. Arrays without dimensions are numbers too, but for estimators, whose
parameters are scikit-learn's to check.
"""

import dataclasses
import inspect
import io
import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

import fastbp
from fastbp import callbacks, diagnostics, initializers, layers, losses, optimizers, plotting, schedules
from fastbp._descriptions import describe

X, Y = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
# every one of them has an exact place in float32
VALUES = {
    "Dense": dict(units=4, activation="relu", initializer="he_normal", bias_initializer="zeros"),
    "Dropout": dict(rate=0.25),
    "BatchNorm": dict(activation="tanh", momentum=0.5, epsilon=0.125),
    "LayerNorm": dict(activation="tanh", epsilon=0.125),
    "Residual": dict(layers=(fastbp.Dense(3),), activation="sigmoid", initializer="zeros"),
    "Constant": {"value": 0.5},
    "schedules.Constant": {"rate": 0.5},
    "Step": dict(rate=0.5, every=2, factor=0.25, per="step"),
    "Exponential": dict(rate=0.5, factor=0.25, per="step"),
    "InverseScaling": dict(rate=0.5, power=0.25, per="epoch"),
    "Cosine": [
        dict(max_rate=0.5, total=8, min_rate=0.25, warmup=2, warmup_start=0.5, per="epoch"),
        dict(max_rate=0.5, total=8, warmup=0.25),
        dict(max_rate=0.5, cycle=4, cycle_factor=2),
    ],
    "OneCycle": dict(
        max_rate=0.5, total=8, pct_start=0.25, anneal="linear", div_factor=2.0, final_div_factor=4.0, three_phase=True
    ),
    "ReduceOnPlateau": dict(
        rate=0.5, monitor="loss", mode="max", factor=0.5, patience=2, threshold=0.25, threshold_mode="abs", cooldown=1,
        min_rate=0.125,
    ),
    "Loss": [
        dict(name="mae", convention="scikit-learn"),
        dict(name="softmax_cross_entropy", label_smoothing=0.25, blocks=(2, 3)),
        dict(name="softmax_cross_entropy", class_weight=(0.5, 0.25)),
        dict(name="huber", delta=0.5),
        dict(name="quantile", level=0.25),
        dict(name="quantile", level=(0.25, 0.5)),
    ],
    **{
        name: dict(
            learning_rate=0.5, l2=0.5, convention="pytorch", weight_decay=0.25, l1=0.25, clip_value=0.5, clip_norm=2.0,
            ema_decay=0.5, **extra,
        )
        for name, extra in {
            "SGD": dict(momentum=0.5, nesterov=True),
            "Adam": dict(beta_1=0.5, beta_2=0.25, epsilon=0.125, amsgrad=True),
            "AdamW": dict(beta_1=0.5, beta_2=0.25, epsilon=0.125, amsgrad=True),
            "NAdam": dict(beta_1=0.5, beta_2=0.25, epsilon=0.125, momentum_decay=0.25),
            "RMSprop": dict(alpha=0.5, epsilon=0.125, momentum=0.25, centered=True),
            "Adagrad": dict(learning_rate_decay=0.25, initial_accumulator_value=0.5, epsilon=0.125),
            "Lion": dict(beta_1=0.5, beta_2=0.25),
        }.items()
    },
}  # fmt: skip


def forms(value):
    """What stands for a number, flag or name of Python: NumPy's scalars, and arrays without dimensions."""
    kinds = {
        bool: (np.bool_,),
        int: (np.int8, np.int32, np.int64, np.uint16),
        float: (np.float16, np.float32, np.float64, np.longdouble),
        str: (np.str_,),
    }.get(type(value), ())
    return [*(kind(value) for kind in kinds), *([np.array(value)] if kinds else [])]


def wrong(value):
    """What does not stand for it: flags for numbers, numbers for flags, floats for counts."""
    return {
        bool: [1, np.int64(1), np.array(1.0)],
        int: [True, np.True_, 2.5, np.float64(3.0), np.array(True), np.array([3, 3])],
        float: [True, np.True_, np.array(False), np.str_("0.5")],
        str: [np.bytes_(b"relu"), np.array(["relu"]), np.int64(1)],
    }.get(type(value), [])


def descriptions():
    """Every public frozen description, with values for all of its fields."""
    modules = (layers, losses, optimizers, schedules, initializers)
    for module in modules:
        for name, kind in vars(module).items():
            public = isinstance(kind, type) and dataclasses.is_dataclass(kind) and not name.startswith("_")
            if not public or kind is optimizers.Optimizer or not kind.__module__.startswith(module.__name__):
                continue
            given = VALUES["schedules.Constant" if kind is schedules.Constant else name]
            given = given if isinstance(given, list) else [given]
            assert {key for one in given for key in one} == set(inspect.signature(kind).parameters), name
            yield from ((kind, one) for one in given)


DESCRIPTIONS = list(descriptions())
FIELDS = [(kind, values, name) for kind, values in DESCRIPTIONS for name in values]


@pytest.mark.parametrize(("kind", "values", "name"), FIELDS, ids=[f"{k.__name__}-{n}" for k, _, n in FIELDS])
def test_descriptions_keep_pythons_own_types(kind, values, name):
    want, given = kind(**values), values[name]
    alike = forms(given)
    if isinstance(given, tuple) and kind is losses.Loss:
        alike = [np.array(given), [*np.array(given)], tuple(map(np.array, given)), tuple(map(np.float32, given))]
        alike = alike[:3] if name == "blocks" else alike
    for value in alike:
        got = kind(**{**values, name: value})
        assert (got, hash(got), repr(got)) == (want, hash(want), repr(want)), repr(value)
        assert json.dumps(describe(got)) == json.dumps(describe(want))
        assert type(getattr(got, name)) is type(getattr(want, name))
    expected = "loss" if (kind, name) == (losses.Loss, "name") else name
    for value in [] if name == "warmup" else wrong(given):
        with pytest.raises((TypeError, ValueError), match=f"^{expected} must be"):
            kind(**{**values, name: value})


def test_a_warm_up_is_a_count_or_a_share():
    for value in (np.float32(0.25), np.float64(0.25), np.array(0.25), np.float16(0.25)):
        assert schedules.Cosine(0.5, total=8, warmup=value).warmup == 0.25
    for value in (True, np.True_, 2.0, np.float32(1.0), np.array(True), "2"):
        with pytest.raises((TypeError, ValueError), match=r"^warmup must be a whole number of steps, or a float"):
            schedules.Cosine(0.5, total=8, warmup=value)


# ---------------------------------------------------------------------------------------------------------------------
# Models, trainers, diagnostics, callbacks and displays


def network(**given):
    options = {"n_features": 3, "random_state": 0, "dtype": "float32", **given}
    return fastbp.Sequential([fastbp.Dense(4, "relu"), fastbp.Dense(2)], **options)


def trainer(**given):
    options = {"loss": "softmax_cross_entropy", "random_state": 0, **given}
    return fastbp.Trainer(network(), **options)


def trained(rate=None, **given):
    one = trainer()
    if rate is not None:
        one.learning_rate = rate
    one.fit(X, Y, **given)
    return one.model.get_weights()


def written(callback, **given):
    def fit(**options):
        listener = callback(**{**given, **options})
        one = trainer()
        history = one.fit(X, Y, epochs=3, validation_data=(X, Y), callbacks=[listener])
        return [history["loss"], one.model.get_weights(), getattr(listener, "epochs", None)]

    return fit


def saved(folder):
    def fit(**given):
        path = folder / "run.safetensors"
        written(lambda **options: fastbp.Checkpoint(path, **options))(**given)
        return path.read_bytes()[:8]

    return fit


def logged(folder):
    def fit(**given):
        path = folder / "run.csv"
        written(lambda **options: fastbp.CSVLogger(path, **options))(**given)
        return path.read_text().splitlines()[0]

    return fit


def drawn(display, method="plot"):
    from matplotlib import pyplot

    def plot(**given):
        shown = getattr(display(), method)(**given)
        shown.figure_.canvas.draw()
        picture = np.asarray(shown.figure_.canvas.buffer_rgba()).tobytes()
        pyplot.close(shown.figure_)
        return picture

    return plot


def flow():
    return fastbp.gradient_flow(network(), "softmax_cross_entropy", X, Y)


def calls(folder):
    """What is called, as which function its parameters are, and values for all that is a number, a flag or a name."""
    loss = "softmax_cross_entropy"
    W = np.random.default_rng(1).normal(size=(4, 5))
    return {
        "Sequential": (
            fastbp.Sequential,
            lambda **o: network(**o).get_weights(),
            dict(n_features=3, random_state=1, dtype="float64"),
        ),
        "predict": (
            fastbp.Sequential.predict,
            lambda **o: network().predict(X, **o),
            dict(raw=True, backend="reference", n_threads=1, precision="float32"),
        ),
        "Trainer": (
            fastbp.Trainer,
            lambda **o: trainer(**o).fit(X, Y)["loss"],
            dict(
                loss=loss,
                backend="reference",
                n_threads=1,
                random_state=1,
                verify=True,
                on_divergence="ignore",
                precision="float32",
            ),
        ),
        "fit": (fastbp.Trainer.fit, trained, dict(epochs=2, batch_size=7, shuffle=False, verbose=0)),
        "gradient_check": (
            fastbp.gradient_check,
            lambda **o: str(fastbp.gradient_check(network(), **{"loss": loss, "X": X[:4], "y": Y[:4], **o})),
            dict(loss=loss, backend="reference", max_entries=2, random_state=1),
        ),
        "gradient_flow": (
            fastbp.gradient_flow,
            lambda **o: str(fastbp.gradient_flow(network(), **{"loss": loss, "X": X, "y": Y, **o})),
            dict(loss=loss, backend="reference"),
        ),
        "compare_backends": (
            fastbp.compare_backends,
            lambda **o: str(fastbp.compare_backends(network(), **{"loss": loss, "X": X, "y": Y, **o})),
            dict(loss=loss),
        ),
        "preview": (
            schedules.preview,
            lambda **o: schedules.preview(**{"learning_rate": 0.5, "epochs": 2, "steps": 2, **o}),
            dict(learning_rate=0.5, epochs=3, steps=2),
        ),
        "EarlyStopping": (
            fastbp.EarlyStopping,
            written(fastbp.EarlyStopping),
            dict(monitor="loss", mode="min", patience=1, min_delta=0.5, restore_best=False, baseline=0.5),
        ),
        "Checkpoint": (fastbp.Checkpoint, saved(folder), dict(every=2, best=True, monitor="loss", mode="min")),
        "CSVLogger": (fastbp.CSVLogger, logged(folder), dict(append=False, separator=";")),
        "LearningRateLogger": (fastbp.LearningRateLogger, written(fastbp.LearningRateLogger), dict(per="step")),
        "GradientFlow": (fastbp.GradientFlow, written(fastbp.GradientFlow, X=X, y=Y), dict(every=2)),
        "ActivationsDisplay.plot": (
            plotting.ActivationsDisplay.plot,
            drawn(lambda: plotting.ActivationsDisplay({"one": np.arange(9.0)})),
            dict(bins=3),
        ),
        "GradientFlowDisplay.plot": (
            plotting.GradientFlowDisplay.plot,
            drawn(lambda: plotting.GradientFlowDisplay([flow(), flow()])),
            dict(kind="lines", quantity="ratio"),
        ),
        "WeightsDisplay": (
            plotting.WeightsDisplay,
            lambda **o: plotting.WeightsDisplay([W], **o).units_,
            dict(units=3),
        ),
        "WeightsDisplay.from_model": (
            plotting.WeightsDisplay.from_model,
            lambda **o: drawn(lambda: plotting.WeightsDisplay, "from_model")(model=network(), **o),
            dict(units=2),
        ),
        "WeightsDisplay.from_estimator": (
            plotting.WeightsDisplay.from_estimator,
            lambda **o: drawn(lambda: plotting.WeightsDisplay, "from_estimator")(estimator=FITTED, **o),
            dict(units=2),
        ),
        "WeightsDisplay.from_snapshots": (
            plotting.WeightsDisplay.from_snapshots,
            lambda **o: drawn(lambda: plotting.WeightsDisplay, "from_snapshots")(snapshots=[W, W + 1], **o),
            dict(units=2),
        ),
        "NetworkDisplay": (
            plotting.NetworkDisplay,
            lambda **o: plotting.NetworkDisplay(network().summary().layers, **o).n_features,
            dict(n_features=3),
        ),
        "LearningCurveDisplay.plot": (
            plotting.LearningCurveDisplay.plot,
            drawn(lambda: plotting.LearningCurveDisplay({"loss": [2.0, 1.0]})),
            dict(log=True),
        ),
    }


FITTED = fastbp.MLPClassifier((4,), max_iter=2, tol=1e9, n_iter_no_change=1, random_state=0).partial_fit(
    X, Y, classes=[0, 1]
)


def scalar_parameters(function):
    """Names of parameters that are numbers, flags or names, by their annotation or default."""
    found = set()
    for name, parameter in inspect.signature(function).parameters.items():
        words = set(str(parameter.annotation).replace("|", " ").split())
        by_default = isinstance(parameter.default, bool | int | float | str)
        if parameter.kind is parameter.VAR_KEYWORD or name in ("self", "path", "cmap"):
            continue
        if by_default or words & {"int", "float", "bool", "str"} or name in ("random_state", "dtype"):
            found.add(name)
    return found


def public_functions():
    """Classes and functions with parameters of these kinds, and their methods, but for descriptions and estimators."""
    for module in (fastbp, callbacks, diagnostics, plotting, schedules, losses, initializers):
        for name in getattr(module, "__all__", []):
            thing = getattr(module, name)
            if not callable(thing) or dataclasses.is_dataclass(thing) or thing in ESTIMATORS:
                continue
            yield name, thing
            for method, value in vars(thing).items() if isinstance(thing, type) else []:
                value = getattr(value, "__func__", value)
                if callable(value) and not method.startswith(("_", "on_")) and method not in ("get_state", "set_state"):
                    yield f"{name}.{method}", value


ESTIMATORS = (fastbp.MLPClassifier, fastbp.MLPRegressor)


def test_every_public_parameter_is_in_the_tables(tmp_path):
    given = {}
    for function, _, values in calls(tmp_path).values():
        given.setdefault(getattr(function, "__func__", function), set()).update(values)
    missing = {}
    for name, function in public_functions():
        wanted = scalar_parameters(function)
        left = wanted - given.get(function, set()) - {"resume_from", "callbacks"}
        if left and name not in INTERNAL and not name.endswith(".check_state"):
            missing[name] = left
    assert not missing


# Called by fastbp itself, or on values that it has made
INTERNAL = {"Schedule.check_total", "BackendComparison", "History.append"}


@pytest.mark.parametrize("name", [
    "Sequential", "predict", "Trainer", "fit", "gradient_check", "gradient_flow", "compare_backends", "preview",
    "EarlyStopping", "Checkpoint", "CSVLogger", "LearningRateLogger", "GradientFlow", "ActivationsDisplay.plot",
    "GradientFlowDisplay.plot", "WeightsDisplay", "WeightsDisplay.from_model", "WeightsDisplay.from_estimator",
    "WeightsDisplay.from_snapshots", "LearningCurveDisplay.plot", "NetworkDisplay",
])  # fmt: skip
def test_functions_take_them_as_pythons_own(name, tmp_path):
    _, call, values = calls(tmp_path)[name]
    for parameter, value in values.items():
        want = call(**{parameter: value})
        for form in forms(value):
            got = call(**{parameter: form})
            np.testing.assert_equal(got, want, err_msg=f"{parameter}={form!r}")


# ---------------------------------------------------------------------------------------------------------------------
# Estimators

OF_ESTIMATORS = dict(
    hidden_layer_sizes=4, batch_size=8, max_iter=3, random_state=1, verbose=False, n_iter_no_change=2, n_jobs=1,
    dtype="float32", clip_norm=0.5, dropout=0.25, normalization="layer", scoring="loss", early_stopping=True, max_fun=9,
    class_weight="balanced", label_smoothing=0.25, tol=0.125, epsilon=0.125, alpha=0.1, power_t=0.3,
    learning_rate_init=0.01, validation_fraction=0.1,
)  # fmt: skip
SGD = {"solver": "sgd", "learning_rate": "invscaling"}
OTHERS = {  # where a parameter is read
    "power_t": SGD, "learning_rate_init": SGD, "momentum": SGD, "nesterovs_momentum": SGD,
    "alpha": {"solver": "lbfgs"}, "max_fun": {"solver": "lbfgs"},
    "validation_fraction": {"early_stopping": True}, "n_iter_no_change": {"tol": 9.0},
}  # fmt: skip
PARAMETERS = [  # clipping is compiled for these two alone
    pytest.param(kind, name, marks=[pytest.mark.slow] * (name == "clip_norm"))
    for kind in ESTIMATORS
    for name, one in inspect.signature(kind).parameters.items()
    if forms(OF_ESTIMATORS.get(name, one.default))
]


def outcome(kind, name, value):
    """Fits of all kinds with this parameter; what comes out of them."""
    options = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0, "tol": 1e-9, **OTHERS.get(name, {})}
    model = kind(**{**options, name: value})
    assert model.get_params()[name] is value
    assert type(clone(model).get_params()[name]) is type(value)
    validated = {"X_val": X, "y_val": Y} if model.early_stopping else {}
    with io.StringIO() as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", out)
        model.fit(X, Y)
        results = [*model.coefs_, model.predict(X), model.score(X, Y)]
        if name != "class_weight" and model.solver != "lbfgs":
            model.partial_fit(X, Y, **validated)
        model.set_params(warm_start=True).fit(X, Y, X_val=X, y_val=Y)
        return [*results, *model.coefs_, model.loss_, out.getvalue()]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed to converge")
@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_estimators_take_them_and_keep_what_they_were_given(kind, name):
    value = OF_ESTIMATORS.get(name, inspect.signature(kind).parameters[name].default)
    for form in forms(value):
        if isinstance(form, np.ndarray) and name not in ("hidden_layer_sizes", "dropout"):
            with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of {kind.__name__} must be"):
                kind(**{name: form}).fit(X, Y)
            continue
        np.testing.assert_equal(outcome(kind, name, form), outcome(kind, name, form.item()), err_msg=repr(form))
