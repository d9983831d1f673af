"""Errors of the displays."""

import runpy
import sys

from sklearn.exceptions import NotFittedError

from ._entry import Also, Entry, Section

PLOTTING = "from fastbp import plotting\n"


def _without_matplotlib(stage):
    import fastbp

    stage.patch.setitem(sys.modules, "matplotlib", None)
    path = f"{fastbp.__path__[0]}/plotting/__init__.py"
    stage.names["start"] = lambda: runpy.run_path(path, run_name="fastbp.plotting.again")


SECTION = Section(
    "Plotting",
    "Errors of `fastbp.plotting`, which draws by matplotlib.",
    (
        Entry(
            "matplotlib is missing",
            "start()",
            ImportError,
            "fastbp does without matplotlib everywhere else, so it is not installed along with it.",
            "Install the extra, in the environment that Python runs in.",
            given=_without_matplotlib,
            shown="import fastbp.plotting",
        ),
        Entry(
            "A picture of something else",
            PLOTTING + "plotting.NetworkDisplay.from_model(X)",
            TypeError,
            "The first argument is neither a model nor a trainer nor an estimator.",
            "Pass the model first, and X after it.",
        ),
        Entry(
            "A picture of an estimator of scikit-learn",
            PLOTTING + "plotting.GradientFlowDisplay.from_estimator(classifier.to_sklearn(), X, labels)",
            TypeError,
            "Gradients are computed with the loss of the estimator, and scikit-learn's does not tell its own.",
            "Take it over first: `fastbp.MLPClassifier.from_sklearn(estimator)`.",
        ),
        Entry(
            "A picture before the fit",
            PLOTTING + "plotting.LearningCurveDisplay.from_estimator(fastbp.MLPClassifier())",
            NotFittedError,
            "There is nothing to draw before the fit.",
            "Call `fit`. A search keeps the fitted estimator in `best_estimator_`.",
            foreign=True,
        ),
        Entry(
            "A learning curve without an epoch",
            PLOTTING + 'plotting.LearningCurveDisplay({"accuracy": [0.5, 0.7]})',
            ValueError,
            "None of the curves has one of the names that are drawn, or all are empty.",
            'Rename the curve to "loss", "val_loss" or "val_score".',
        ),
        Entry(
            "No outputs",
            PLOTTING + "plotting.ActivationsDisplay({})",
            ValueError,
            "The mapping of names of layers to their outputs is empty.",
            "Let `ActivationsDisplay.from_model(model, X)` compute the outputs.",
        ),
        Entry(
            "Flows without their epochs",
            PLOTTING + 'flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, labels)\n'
            "plotting.GradientFlowDisplay([flow], epochs=[0, 1])",
            ValueError,
            "There is a number of an epoch for each flow, and at least one flow.",
            "Pass the callback `fastbp.GradientFlow` to `from_flows`: it has both.",
        ),
        Entry(
            "A kind of picture that does not exist",
            PLOTTING + 'flow = fastbp.gradient_flow(model, "softmax_cross_entropy", X, labels)\n'
            'plotting.GradientFlowDisplay([flow]).plot(kind="bars")',
            ValueError,
            "Flows are drawn layer by layer, as lines over the epochs, or as a map of colours.",
            "Leave kind out: one flow is drawn by layers, several as a map.",
        ),
        Entry(
            "Weights of several shapes",
            PLOTTING + "plotting.WeightsDisplay(model.get_weights())",
            ValueError,
            "Snapshots are matrices of one layer at several times, and these are arrays of several layers.",
            "Pass `[model.get_weights()[0]]` for the first layer as it is now.",
        ),
        Entry(
            "Another number of epochs than of snapshots",
            PLOTTING + "plotting.WeightsDisplay([np.zeros((4, 2))], epochs=[0, 10])",
            ValueError,
            "There is a number of an epoch for each snapshot.",
            "Leave epochs out, or keep a snapshot and its epoch together in your callback.",
        ),
        Entry(
            "An image of another size",
            PLOTTING + "plotting.WeightsDisplay([np.zeros((6, 2))], image_shape=(4, 4))",
            ValueError,
            "Each cell of the image is a feature, so height times width is their number.",
            "Give the height and the width of the images in X before they were laid out in rows.",
        ),
        Entry(
            "Curves or outputs without names",
            PLOTTING + "plotting.LearningCurveDisplay([1.0, 0.5])",
            TypeError,
            "A display is made of values by their names, and a list has none.",
            'Pass a History or a dict, `{"loss": [1.0, 0.5]}`; `from_model` and `from_estimator` collect them.',
            also=(Also(PLOTTING + "plotting.ActivationsDisplay([X])"),),
        ),
    ),
)
