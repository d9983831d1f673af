"""Displays of training and of networks, by matplotlib; they follow scikit-learn's habit.

Each has class methods that compute what is shown (``from_estimator``, ``from_model``, ...), a method ``plot(ax=None)``
that may be called again, and afterwards ``ax_`` and ``figure_``. No setting of matplotlib is changed and nothing is
shown by itself. Needs matplotlib, the extra ``plot``.
"""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    from fastbp._extras import how_to_install

    raise ImportError(
        f"fastbp.plotting draws with matplotlib, which is not installed: {how_to_install('plot')}"
    ) from error

from fastbp.plotting._activations import ActivationsDisplay
from fastbp.plotting._gradient_flow import GradientFlowDisplay
from fastbp.plotting._learning_curve import LearningCurveDisplay
from fastbp.plotting._network import NetworkDisplay
from fastbp.plotting._weights import WeightsDisplay

__all__ = ["ActivationsDisplay", "GradientFlowDisplay", "LearningCurveDisplay", "NetworkDisplay", "WeightsDisplay"]
