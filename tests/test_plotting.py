"""Displays: what is drawn, not how it looks."""

import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as TheirClassifier

import fastbp

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from matplotlib import pyplot as plt  # noqa: E402

from fastbp.plotting import (  # noqa: E402
    ActivationsDisplay,
    GradientFlowDisplay,
    LearningCurveDisplay,
    NetworkDisplay,
    WeightsDisplay,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 16))
LABELS = X[:, :3].argmax(axis=1)
ALL = (ActivationsDisplay, GradientFlowDisplay, LearningCurveDisplay, NetworkDisplay, WeightsDisplay)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No display changes a setting of matplotlib; figures are closed after each test."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def network(*units, activation="relu", last="identity"):
    layers = [fastbp.Dense(n, activation) for n in units] + [fastbp.Dense(3, last)]
    return fastbp.Sequential(layers, n_features=16, random_state=0, dtype="float64")


def trained(epochs=4, **options):
    model = network(8)
    trainer = fastbp.Trainer(model, loss="softmax_cross_entropy", backend="reference", random_state=0)
    return trainer, trainer.fit(X, LABELS, epochs=epochs, **options)


@pytest.fixture(scope="module")
def classifier():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is stopped early by the number of epochs
        return fastbp.MLPClassifier((8,), early_stopping=True, max_iter=5, random_state=0).fit(X, LABELS)


@pytest.fixture(scope="module")
def theirs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TheirClassifier((8,), max_iter=5, random_state=0).fit(X, LABELS)


# ---------------------------------------------------------------------------------------------------------------------
# Importing


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_fastbp_alone_imports_no_matplotlib():
    done = run("import sys, fastbp; print('matplotlib' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_without_matplotlib_the_error_names_the_extra():
    done = run("import sys; sys.modules['matplotlib'] = None; import fastbp; import fastbp.plotting")
    assert done.returncode == 1
    assert "ImportError: fastbp.plotting draws with matplotlib" in done.stderr
    assert 'which is not installed: pip install "matplotlib>=3.9"' in done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Learning curves


def test_learning_curve_of_a_history():
    _, history = trained(validation_data=(X[:20], LABELS[:20]))
    display = LearningCurveDisplay.from_history(history)
    ax = display.ax_
    assert ax.figure is display.figure_
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("epoch", "loss", "Learning curve")
    assert set(display.lines_) == {"loss", "val_loss", "best"}
    for name in ("loss", "val_loss"):
        np.testing.assert_array_equal(display.lines_[name].get_xdata(), [1, 2, 3, 4])
        np.testing.assert_array_equal(display.lines_[name].get_ydata(), history[name])
    best = int(np.argmin(history["val_loss"])) + 1
    assert display.lines_["best"].get_label() == f"best validation: epoch {best}"
    assert set(display.lines_["best"].get_xdata()) == {best}
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["training loss", "validation loss", f"best validation: epoch {best}"]


def test_learning_curve_of_an_estimator(classifier, theirs):
    display = LearningCurveDisplay.from_estimator(classifier)
    np.testing.assert_array_equal(display.lines_["loss"].get_ydata(), classifier.loss_curve_)
    np.testing.assert_array_equal(display.lines_["val_loss"].get_ydata(), classifier.validation_loss_curve_)
    np.testing.assert_array_equal(display.lines_["val_score"].get_ydata(), classifier.validation_scores_)
    assert display.score_ax_ is not display.ax_ and display.score_ax_.get_ylabel() == "validation score"
    plain = LearningCurveDisplay.from_estimator(theirs, linewidth=3)
    assert list(plain.lines_) == ["loss"] and plain.lines_["loss"].get_linewidth() == 3 and plain.score_ax_ is None
    with pytest.raises(NotFittedError):
        LearningCurveDisplay.from_estimator(fastbp.MLPClassifier())


def test_learning_curve_on_given_axes_and_with_a_logarithm():
    _, ax = plt.subplots()
    display = LearningCurveDisplay({"loss": [3.0, 2.0, 1.0]})
    assert display.plot(ax) is display and display.ax_ is ax and ax.get_yscale() == "linear"
    again = display.plot(log=True)
    assert again.ax_ is not ax and again.ax_.get_yscale() == "log"
    only_scores = LearningCurveDisplay({"val_score": [0.5]}).plot()
    assert only_scores.ax_.get_ylabel() == "validation score" and only_scores.score_ax_ is only_scores.ax_
    for curves in ({}, {"loss": []}, {"accuracy": [1.0]}):
        with pytest.raises(ValueError, match="curves must have one of 'loss', 'val_loss', 'val_score'"):
            LearningCurveDisplay(curves)


# ---------------------------------------------------------------------------------------------------------------------
# Gradient flow


def segments(collection):
    return [sorted(segment[:, 0]) for segment in collection.get_segments()]


def test_gradient_flow_by_layer():
    model = network(12, 12, 12, 12, 12, 12, activation="logistic")
    flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, LABELS, backend="reference")
    display = GradientFlowDisplay.from_flow(flow)
    ax = display.ax_
    assert [label.get_text() for label in ax.get_yticklabels()] == list(flow.layers)
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "|dL / dw|"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first layer is at the top
    spread, quartiles = ax.collections
    np.testing.assert_allclose(segments(spread), flow.gradient_percentiles[:, [0, 4]])
    np.testing.assert_allclose(segments(quartiles), flow.gradient_percentiles[:, [1, 3]])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), flow.gradient_percentiles[:, 2])
    said = [text.get_text() for text in ax.texts]
    assert said == [finding.what for finding in flow.findings] and "vanishing" in said


def test_gradient_flow_that_is_zero_is_drawn():
    model = network(8, 8)
    weights = model.get_weights()
    weights[3] -= 100.0
    model.set_weights(weights)
    flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, LABELS, backend="reference")
    display = GradientFlowDisplay.from_flow(flow)
    assert [text.get_text() for text in display.ax_.texts] == ["all 0", "dead, all 0", "all 0"]
    assert np.isfinite(segments(display.ax_.collections[0])).all()
    display.figure_.canvas.draw()


def test_gradient_flow_over_epochs():
    watcher = fastbp.GradientFlow(X, LABELS, every=2)
    trained(callbacks=[watcher])
    values = np.array([flow.gradient_mean for flow in watcher.flows]).T
    heat = GradientFlowDisplay.from_flows(watcher)
    (mesh,) = heat.ax_.collections
    np.testing.assert_allclose(mesh.get_array(), np.log10(values))
    np.testing.assert_array_equal(mesh.get_coordinates()[0, :, 0], [-1, 1, 3, 5])  # about the epochs 0, 2 and 4
    assert heat.ax_.get_xlabel() == "epoch"
    assert [label.get_text() for label in heat.ax_.get_yticklabels()] == ["1 Dense relu", "2 Dense identity"]
    lines = GradientFlowDisplay.from_flows(watcher.flows, epochs=watcher.epochs, kind="lines", quantity="ratio")
    assert len(lines.ax_.lines) == 2 and lines.ax_.get_ylabel() == "gradient norm / weight norm"
    for k, line in enumerate(lines.ax_.lines):
        np.testing.assert_array_equal(line.get_xdata(), [0, 2, 4])
        np.testing.assert_array_equal(line.get_ydata(), [flow.ratio[k] for flow in watcher.flows])
    assert len(GradientFlowDisplay.from_flows(watcher, kind="layers").ax_.lines) >= 1


def test_gradient_flow_of_an_estimator(classifier, theirs):
    display = GradientFlowDisplay.from_estimator(classifier, X, LABELS)
    model = network(8, last="softmax")
    pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
    model.set_weights([array for pair in pairs for array in pair])
    expected = fastbp.gradient_flow(model, "softmax_cross_entropy", X, LABELS)
    np.testing.assert_allclose(display.flows[0].gradient_mean, expected.gradient_mean, rtol=1e-10)
    regressor = fastbp.MLPRegressor(hidden_layer_sizes=(8,), solver="lbfgs", max_iter=300, random_state=0)
    regressor.fit(X[:20], X[:20, 0])
    assert GradientFlowDisplay.from_estimator(regressor, X, X[:, 0]).flows[0].layers[-1] == "2 Dense identity"
    with pytest.raises(TypeError, match=r"fastbp.MLPClassifier or fastbp.MLPRegressor"):
        GradientFlowDisplay.from_estimator(theirs, X, LABELS)


def test_gradient_flow_arguments():
    flow = fastbp.gradient_flow(network(4), "softmax_cross_entropy", X, LABELS, backend="reference")
    with pytest.raises(ValueError, match="at least one gradient flow, and epochs as many"):
        GradientFlowDisplay([])
    with pytest.raises(ValueError, match="got 1 and 2"):
        GradientFlowDisplay([flow], [1, 2])
    with pytest.raises(ValueError, match="kind must be one of 'layers', 'lines', 'heatmap', got 'bars'"):
        GradientFlowDisplay([flow]).plot(kind="bars")
    with pytest.raises(ValueError, match="quantity must be one of"):
        GradientFlowDisplay([flow]).plot(quantity="loss")


# ---------------------------------------------------------------------------------------------------------------------
# Weights


def test_weights_as_images(classifier):
    model = network(8)
    W = model.get_weights()[0]
    display = WeightsDisplay.from_model(model, units=4)
    sheet = display.image_.get_array().filled(np.nan)
    assert sheet.shape == (2 * 4 + 1, 2 * 4 + 1)
    strongest = np.sort(np.argsort(-np.linalg.norm(W, axis=0))[:4])
    np.testing.assert_array_equal(display.units_, strongest)
    np.testing.assert_array_equal(sheet[:4, :4], W[:, strongest[0]].reshape(4, 4))
    np.testing.assert_array_equal(sheet[5:, 5:], W[:, strongest[3]].reshape(4, 4))
    assert np.isnan(sheet[4]).all() and np.isnan(sheet[:, 4]).all()
    low, high = display.image_.get_clim()
    assert -low == high == np.abs(W[:, strongest]).max()
    other = WeightsDisplay.from_estimator(classifier, image_shape=(2, 8), units=3)
    np.testing.assert_array_equal(
        other.image_.get_array()[:2, :8], classifier.coefs_[0][:, other.units_[0]].reshape(2, 8)
    )
    assert display.figure_.axes[1].get_ylabel() == "weight"  # the colour bar


def test_weights_over_epochs():
    snapshots = [network(5).get_weights(), [2 * w for w in network(5).get_weights()]]
    display = WeightsDisplay.from_snapshots(snapshots, epochs=[0, 10])
    sheet = display.image_.get_array()
    assert sheet.shape == (2 * 4 + 1, 5 * 4 + 4)
    np.testing.assert_array_equal(2 * sheet[:4], sheet[5:])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["0", "10"]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("unit", "epoch")


def test_weights_of_features_that_are_no_image():
    W = RNG.normal(size=(13, 6))
    display = WeightsDisplay([W]).plot()
    np.testing.assert_array_equal(display.image_.get_array(), W)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("unit", "feature")
    with pytest.raises(ValueError, match=r"image_shape must be \(height, width\) of 13 cells"):
        WeightsDisplay([W], image_shape=(3, 4))
    with pytest.raises(ValueError, match="snapshots must be matrices of one shape"):
        WeightsDisplay([W, W.T])
    with pytest.raises(ValueError, match="epochs must be 1 number, one for each snapshot"):
        WeightsDisplay([W], epochs=[1, 2])


# ---------------------------------------------------------------------------------------------------------------------
# Activations


def test_histograms_of_outputs(classifier):
    model = network(8, last="softmax")
    display = ActivationsDisplay.from_model(model, X)
    assert [ax.get_title() for ax in display.axes_] == ["1 Dense relu", "2 Dense softmax"]
    W1, b1 = model.get_weights()[:2]
    np.testing.assert_allclose(display.outputs["1 Dense relu"], np.maximum(X @ W1 + b1, 0), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(display.outputs["2 Dense softmax"], model.predict(X))
    for name, ax in zip(display.shares_, display.axes_, strict=True):
        (stairs,) = ax.patches
        values, edges, _ = stairs.get_data()
        counts, expected = np.histogram(display.outputs[name], bins=40)
        np.testing.assert_allclose(values, 100 * counts / display.outputs[name].size)
        np.testing.assert_allclose(edges, expected)
        assert ax.get_xlabel() == "output"
    zero = 100 * np.mean(display.outputs["1 Dense relu"] == 0)
    assert display.axes_[0].texts[0].get_text() == f"{zero:.0f} % are 0"
    assert display.axes_[0].get_ylabel() == "share of outputs (%)"
    fitted = ActivationsDisplay.from_estimator(classifier, X, bins=7)
    np.testing.assert_allclose(fitted.outputs["2 Dense softmax"], classifier.predict_proba(X))
    assert len(fitted.shares_["1 Dense relu"]) == 7


def test_histograms_of_any_layers_are_those_of_a_prediction():
    layers = [
        fastbp.Dropout(),
        fastbp.BatchNorm(),
        fastbp.Residual([fastbp.Dense(8, "relu"), fastbp.Dropout()]),
        fastbp.Dense(3),
    ]
    model = fastbp.Sequential(layers, n_features=16, random_state=0, dtype="float64")
    outputs = ActivationsDisplay.from_model(model, X).outputs
    assert list(outputs) == [
        "1 Dropout", "2 BatchNorm", "3.1 Dense relu", "3.2 Dropout", "3.p Projection", "3 Residual", "4 Dense identity"
    ]  # fmt: skip
    np.testing.assert_array_equal(outputs["1 Dropout"], X)
    np.testing.assert_allclose(outputs["2 BatchNorm"], X / np.sqrt(1 + 1e-5))  # running statistics of 0 and 1
    np.testing.assert_allclose(outputs["3 Residual"], outputs["3.2 Dropout"] + outputs["3.p Projection"])
    np.testing.assert_allclose(outputs["4 Dense identity"], model.predict(X))


def test_histograms_show_the_link_that_training_brought():
    trainer, _ = trained(epochs=1)
    display = ActivationsDisplay.from_model(trainer, X)
    assert list(display.outputs) == ["1 Dense relu", "2 Dense softmax"]
    np.testing.assert_allclose(display.outputs["2 Dense softmax"].sum(axis=1), 1)


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_histograms_share_given_axes(layout):
    figure, (left, right) = plt.subplots(1, 2, layout=layout)
    display = ActivationsDisplay.from_model(network(8, 8, 8, 8), X, ax=left)
    assert display.figure_ is figure and display.ax_ is left and len(display.axes_) == 5
    figure.canvas.draw()
    assert max(ax.get_position().x1 for ax in display.axes_) < right.get_position().x1
    broken = ActivationsDisplay({"1 Dense": np.array([[0.0, 1.0], [np.nan, 2.0]])}).plot()
    assert "1 not finite" in broken.axes_[0].texts[0].get_text()
    with pytest.raises(ValueError, match="at least one layer"):
        ActivationsDisplay({})


# ---------------------------------------------------------------------------------------------------------------------
# The network as a graph


def texts_of(display):
    return [text.get_text() for text in display.ax_.texts]


def test_network_as_a_graph(classifier, theirs):
    model = network(8, 4)
    display = NetworkDisplay.from_model(model)
    assert list(display.boxes_) == ["inputs", "1", "2", "3"]
    texts = texts_of(display)
    for text in ("16 inputs", "1   Dense relu   16 → 8", "136 parameters", "2   Dense relu   8 → 4", "36 parameters"):
        assert text in texts
    assert display.ax_.get_title() == "3 layers, 187 parameters"
    middles = [box.get_xy()[:, 1].mean() for box in display.boxes_.values()]
    assert (np.diff(middles) > 0).all() and display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1]  # downwards
    arrows = [text for text in display.ax_.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == 3
    first = display.boxes_["1"].get_xy()
    assert np.ptp(first[:2, 0]) > np.ptp(first[2:4, 0])  # 16 inputs above, 8 outputs below
    for estimator in (classifier, theirs):
        assert "2   Dense softmax   8 → 3" in texts_of(NetworkDisplay.from_estimator(estimator))


def test_skip_connections_are_arcs():
    layers = [
        fastbp.Dense(8, "relu"),
        fastbp.Residual([fastbp.Dense(8, "relu"), fastbp.Residual([fastbp.Dense(8)])], "relu"),
        fastbp.Residual([fastbp.Dense(4)]),
        fastbp.Dense(2),
    ]
    display = NetworkDisplay.from_model(fastbp.Sequential(layers, n_features=16, random_state=0))
    assert list(display.boxes_) == ["inputs", "1", "2.1", "2.2.1", "3.1", "4"]
    assert set(display.skips_) == {"2", "2.2", "3"}
    texts = texts_of(display)
    assert texts.count("skip connection") == 2 and "projection, 36 parameters" in texts and "2   Residual relu" in texts
    outer, inner = (display.skips_[name].get_path().get_extents() for name in ("2", "2.2"))
    assert outer.x0 < inner.x0 and outer.y0 < inner.y0 and inner.y1 < outer.y1  # one round the other
    box = display.boxes_["2.1"].get_xy()
    assert outer.y0 < box[:, 1].min() and outer.y1 > box[:, 1].max() and outer.x0 < box[:, 0].min()
    assert display.ax_.get_title() == "5 layers, 362 parameters"


@pytest.mark.parametrize("depth", [1, 2, 20])
def test_boxes_never_overlap_and_labels_fit(depth):
    display = NetworkDisplay.from_model(network(*[10] * (depth - 1)))
    display.figure_.canvas.draw()
    spans = [(box.get_xy()[:, 1].min(), box.get_xy()[:, 1].max()) for box in display.boxes_.values()]
    assert all(above[1] < below[0] for above, below in itertools.pairwise(spans))
    for name, box in display.boxes_.items():
        label = next(text for text in display.ax_.texts if text.get_text().startswith(f"{name}   ") or name == "inputs")
        frame, shape = label.get_window_extent(), box.get_window_extent()
        assert shape.x0 < frame.x0 and frame.x1 < shape.x1 and shape.y0 <= frame.y0 and frame.y1 <= shape.y1


@pytest.mark.parametrize("display", ALL)
def test_displays_follow_the_habit(display):
    assert callable(display.from_estimator) and callable(display.plot)
    fitted = {
        ActivationsDisplay: (X,),
        GradientFlowDisplay: (X, LABELS),
    }.get(display, ())
    what = "model must be a fastbp" if display is not LearningCurveDisplay else "is not an estimator instance"
    with pytest.raises(TypeError, match=what):
        display.from_estimator(5, *fitted)
    if display is not LearningCurveDisplay:
        with pytest.raises(NotFittedError):
            display.from_estimator(fastbp.MLPClassifier(), *fitted)
