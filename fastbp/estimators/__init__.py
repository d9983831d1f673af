"""Estimators with scikit-learn's contract: the parameters, attributes and models of ``sklearn.neural_network``."""

from fastbp.estimators.classifier import MLPClassifier
from fastbp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
