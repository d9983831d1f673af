"""MLPClassifier: scikit-learn's classifier on our kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastbp._validation import Array
from fastbp.estimators._base import SPARSE, BaseMLP
from fastbp.losses import Loss


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron classifier with the parameters of ``sklearn.neural_network.MLPClassifier``.

    Minimises the cross-entropy plus ``alpha`` / 2 |W|^2 over the sum of sample weights. In float64 the same
    ``random_state`` gives scikit-learn's model, to rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; ``()`` for none.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Of the hidden layers.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
    alpha : float, default=0.0001
        Penalty on the weights, not on the biases.
    batch_size : int or "auto", default="auto"
        ``"auto"``: the smaller of 200 and the number of samples.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For ``solver="sgd"``: ``learning_rate_init``; that over (samples seen)^``power_t``; or divided by 5 whenever
        there is no more progress.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs at most.
    shuffle : bool, default=True
        Whether each epoch has an order of rows of its own.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, validation split and order of rows.
    tol : float, default=1e-4
        A smaller improvement counts as none.
    verbose : bool, default=False
        Whether to print a line an epoch.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the last one.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
        For ``solver="sgd"``.
    early_stopping : bool, default=False
        Whether to hold out rows, to stop when their score has not risen for a while, and to take the best weights.
    validation_fraction : float, default=0.1
    beta_1, beta_2 : float, default=0.9 and 0.999
    epsilon : float, default=1e-8
        For ``solver="adam"``.
    n_iter_no_change : int, default=10
        Epochs without improvement before training ends.
    max_fun : int, default=15000
        Evaluations at most, for ``solver="lbfgs"``.
    n_jobs : int or None, default=None
        Threads at most; None and -1 for all usable ones. The model does not depend on it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer, of X's dtype.
    loss_, best_loss_ : float
        Of the last and of the best epoch (None with early stopping).
    loss_curve_ : list of float
        Mean loss of each epoch, with the penalty.
    validation_scores_, best_validation_score_
        Accuracy on the rows held out, with early stopping.
    n_iter_, t_ : int
        Epochs; samples seen.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    out_activation_ : {"softmax", "logistic"}

    See Also
    --------
    MLPRegressor : The same for real targets.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastbp import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier((20,), learning_rate_init=0.01, max_iter=500, random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        n_jobs: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Fit to X and class labels y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or, for multilabel targets, (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that cannot be used, or where training produces weights that are not finite; a
            fitted estimator keeps its state.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """Train for one epoch on the given rows, going on from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes that there will be; needed in the first call.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        with self._whole_or_as_before():
            if _check_partial_fit_first_call(self, classes):
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Most probable class of each row, or every label above one half.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._decode(self._outputs(X), {})

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    # -----------------------------------------------------------------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Array, Array, dict[str, Any]]:
        X, y = validate_data(
            self, X, y, multi_output=True, dtype=(np.float64, np.float32), order="C", reset=reset, accept_sparse=SPARSE
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            binarizer = LabelBinarizer().fit(y)
        else:
            binarizer, classes = self._label_binarizer, unique_labels(y)
            if self.warm_start and set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                    f"Previously got {self.classes_}, `y` has {classes}"
                )
            if np.setdiff1d(classes, self.classes_, assume_unique=True).size:
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        y = binarizer.transform(y).astype(bool)
        return X, y, {"_label_binarizer": binarizer, "classes_": binarizer.classes_}

    def _link_and_loss(self, state: dict[str, Any]) -> tuple[str, Loss]:
        if state["_label_binarizer"].y_type_ == "multiclass":
            return "softmax", Loss("softmax_cross_entropy", "scikit-learn")
        return "logistic", Loss("sigmoid_cross_entropy", "scikit-learn")

    def _targets(self, y: Array, out_activation: str, dtype: Any) -> Array:
        return y.argmax(axis=1) if out_activation == "softmax" else np.ascontiguousarray(y, dtype)

    def _decode(self, outputs: Array, state: dict[str, Any]) -> Array:
        binarizer = state.get("_label_binarizer") or self._label_binarizer
        return binarizer.inverse_transform(outputs.ravel() if outputs.shape[1] == 1 else outputs)

    def _score_function(self, y: Array, predicted: Array, sample_weight: Array | None) -> float:
        return accuracy_score(y, predicted, sample_weight=sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
