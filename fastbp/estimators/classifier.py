"""MLPClassifier: scikit-learn's classifier on our kernels."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax
from sklearn import neural_network
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fastbp._validation import Array
from fastbp.estimators._class_targets import ClassTargets
from fastbp.estimators._codes import ClassCodes
from fastbp.estimators._inputs import on_the_host
from fastbp.estimators._scores import log_probabilities, share_all_right
from fastbp.estimators._targets import checked_targets


class MLPClassifier(ClassifierMixin, ClassTargets):
    """Multilayer perceptron classifier with the parameters of ``sklearn.neural_network.MLPClassifier``.

    Minimises the cross-entropy plus ``alpha`` / 2 |W|^2 over the sum of sample weights. In float64 the same
    ``random_state`` gives scikit-learn's model, to rounding.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, default=(100,)
        Units of each hidden layer; ``()`` for none.
    activation : {"identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", \
"mish", "softplus"} or list of them, default="relu"
        Of all hidden layers, or of each; see :class:`fastbp.Dense`.
    solver : str or Optimizer, default="adam"
        ``"lbfgs"``, ``"sgd"``, ``"adam"``, ``"rmsprop"``, ``"adagrad"``, ``"adamw"``, ``"nadam"`` or ``"lion"``. An
        object such as ``fastbp.RMSprop(0.01, momentum=0.9)`` holds all options itself, in place of ``alpha``,
        ``learning_rate_init``, ``momentum``, ``beta_1`` and so on.
    alpha : float, default=0.0001
        Penalty on the weights, not on the biases. For ``"adamw"`` and ``"lion"`` their ``weight_decay``, which is on
        both and no part of the loss.
    batch_size : int or "auto", default="auto"
        ``"auto"``: the smaller of 200 and the number of samples.
    learning_rate : {"constant", "invscaling", "adaptive"}, schedule or callable, default="constant"
        For ``solver="sgd"``: ``learning_rate_init``; that over (samples seen)^``power_t``; or divided by 5 whenever
        there is no more progress. For all but ``"lbfgs"``: one of :mod:`fastbp.schedules`, such as
        ``schedules.OneCycle(0.01)``, which spans ``max_iter`` epochs, or a function of the step; it takes the place of
        ``learning_rate_init``.
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
    verbose : bool or "progress", default=False
        True prints a line an epoch, as scikit-learn does; ``"progress"`` shows a progress bar.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the last one. It and ``partial_fit`` then refuse parameters that
        describe another network (layers, activations, ``normalization``, ``residual``, ``dtype``, a ``loss`` with
        another output activation), and targets of another kind. Predictions go by the parameters of the fit.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
        For ``solver="sgd"``.
    early_stopping : bool, default=False
        Whether to hold out rows (or to take those of ``fit(..., X_val=, y_val=)``), to stop when their score has not
        risen for a while (NaN is no rise), and to take the best weights. In ``partial_fit`` with ``X_val`` alone.
    validation_fraction : float, default=0.1
    beta_1, beta_2 : float, default=0.9 and 0.999
        For ``solver="adam"``, ``"adamw"`` and ``"nadam"``.
    epsilon : float, default=1e-8
        For these, ``"rmsprop"`` and ``"adagrad"``.
    n_iter_no_change : int, default=10
        Epochs without improvement before training ends.
    max_fun : int, default=15000
        Evaluations at most, for ``solver="lbfgs"``.
    class_weight : dict, list of dict, "balanced" or None, default=None
        What a sample of each class weighs, in the training and in validation scores and losses: {class: weight}, for
        several targets or labels one dict each (their product counts); classes without a key weigh 1. ``"balanced"``:
        the sum of the sample weights / (n_classes * that of the class), without sample weights n_samples / (n_classes *
        samples of the class). With the sample weight s_i and the smoothed targets t_ic of a sample of the class y_i
        the loss is sum_i s_i w_{y_i} sum_c (-t_ic ln p_ic) / sum_i s_i w_{y_i}: that of a sample weight s_i w_{y_i},
        as in scikit-learn. ``class_weight`` of :class:`fastbp.losses.Loss` weighs the terms instead, sum_i s_i sum_c
        w_c (-t_ic ln p_ic) / sum_i s_i w_{y_i}, as PyTorch does: the same without ``label_smoothing``.
    label_smoothing : float, default=0.0
        Share of each target, at least 0 and below 1, that is spread evenly over its classes (over 0 and 1 for labels
        that may occur together), in training and validation losses: probabilities become less extreme.
    scoring : str, callable or None, default=None
        What early stopping goes by: a scorer of scikit-learn or its name, ``"loss"`` for the validation loss, None
        for accuracy.
    n_jobs : int or None, default=None
        Threads at most; None and -1 for all usable ones, -2 for all but one, and so on, as joblib counts. The model
        does not depend on it.
    dtype : {"float32", "float64"}, type, numpy.dtype or None, default=None
        Of the training, whatever X is; None keeps X's. float32 takes about half the time.
    callbacks : sequence of fastbp.Callback or None, default=None
        Told of each epoch, after those of ``set_callbacks``. For ``solver="lbfgs"`` an iteration is an epoch, and
        weights that a callback sets are not kept.
    clip_norm : float or None, default=None
        Norm that the gradient of all parameters is shortened to where it is longer. Not for ``solver="lbfgs"``.
    dropout : float or sequence of float, default=0.0
        Share of values, from 0 to below 1, that each step of the training sets to 0 behind the activation of every
        hidden layer, or of each its own; see :class:`fastbp.Dropout`. Not with ``solver="lbfgs"``.
    normalization : {"batch", "layer"} or None, default=None
        What stands between the weights and the activation of each hidden layer: :class:`fastbp.BatchNorm`, which needs
        batches of at least 2 rows and does not go with ``solver="lbfgs"``, or :class:`fastbp.LayerNorm`. ``alpha`` is
        not on its arrays (but for ``"adamw"`` and ``"lion"``).
    residual : bool, default=False
        Whether a connection skips every hidden layer but the first. Without normalisation layer l adds to what it is
        given, A_l = A_{l-1} + dropout(f(A_{l-1} W + b)). With normalisation the skipping path has no activation:
        Z_l = Z_{l-1} + dropout(f(norm(Z_{l-1}))) W + b, and the output layer gets dropout(f(norm(Z))) of the last one
        ("pre-activation"). Where the width changes, what skips goes through weights of its own, a projection. Initial
        weights of these layers are divided by the square root of their number.
    device : {"cpu", "cuda", "auto"}, default="cpu"
        ``"cuda"``: training, and predictions of many rows, on an NVIDIA GPU (extra ``cuda``), not of a sparse X.
        ``"auto"``: there where it can be, otherwise on the CPU, which ``verbose`` says once. With either an X that
        lies on the GPU (``__cuda_array_interface__`` or DLPack) is used there without a copy: C-contiguous, and of
        ``dtype`` or float32 or float64, for predictions of that of the weights. Whether it is finite is not looked at.
        Predictions are arrays of the host.
    precision : {"float32", "tf32"}, default="float32"
        ``"tf32"`` takes a GPU's tensor cores for float32; see :class:`fastbp.Trainer`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        A list of them for several targets of several classes.
    coefs_, intercepts_ : list of ndarray
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer, of X's dtype, without projections.
    normalization_ : list of dict
        One for each hidden layer: ``"gamma"`` and ``"beta"``, and with ``normalization="batch"`` the running ``"mean"``
        and ``"variance"`` that predictions take, of shape (units,). Empty without normalisation.
    projections_ : list of None or tuple
        With ``residual=True`` and several hidden layers, one for each of these: W and b of its projection, or None
        where there is none. Otherwise empty.
    loss_, best_loss_ : float
        Of the last and of the best epoch (None with early stopping).
    loss_curve_ : list of float
        Mean loss of each epoch, with the penalty: of its batches' weighted means, each counted by its rows.
    validation_scores_, best_validation_score_
        Score on the validation rows, with early stopping.
    validation_loss_curve_ : list of float
        Loss of the validation rows after each epoch, without the penalty, where there are some.
    history_ : History
        ``loss``, ``val_loss``, ``val_score``, ``learning_rate`` (of the last step) and ``epoch_seconds``, one value an
        epoch.
    stopped_early_ : bool
        Whether training ended since there was no progress any more; ``partial_fit`` with early stopping then does
        nothing more.
    n_iter_, t_ : int
        Epochs; samples seen.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X had names.
    out_activation_ : {"softmax", "logistic"}

    References
    ----------
    He et al., "Identity Mappings in Deep Residual Networks", 2016, for skip connections. Hanin & Rolnick, "How to Start
    Training: The Effect of Initialization and Architecture", 2018, for their initial weights.

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
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | str = False,
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
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        scoring: Any = None,
        n_jobs: int | None = None,
        dtype: Any = None,
        callbacks: Any = None,
        clip_norm: float | None = None,
        dropout: Any = 0.0,
        normalization: str | None = None,
        residual: bool = False,
        device: str = "cpu",
        precision: str = "float32",
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
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.dtype = dtype
        self.callbacks = callbacks
        self.clip_norm = clip_norm
        self.dropout = dropout
        self.normalization = normalization
        self.residual = residual
        self.device = device
        self.precision = precision

    _sklearn_class = neural_network.MLPClassifier
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ClassTargets._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:  # fmt: skip
        """Fit to X and class labels y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            A sparse one is never filled up.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Classes; for several outputs indicators of labels (0 and 1), or a class of each target.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val, sample_weight_val : default=None
            Rows for ``validation_loss_curve_``, and for early stopping instead of rows that are held out.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            For parameters or data that cannot be used, or where training ends with weights, or outputs for its rows,
            that are not finite; a fitted estimator keeps its state.
        RuntimeError
            In a callback of a fit of this estimator, or in a second thread while there is one. That fit goes on.
        """
        return self._fit(X, y, sample_weight, False, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:  # fmt: skip
        """Train for one epoch on the given rows, going on from where the last call ended.

        With ``early_stopping=True`` each call scores ``X_val``. When the score has not risen for more than
        ``n_iter_no_change`` calls, the best weights are put back, ``stopped_early_`` is True, and further calls do
        nothing.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes that there will be; needed in the first call. A list of them for several targets.

        Returns
        -------
        MLPClassifier
            Itself.
        """
        with self._whole_or_as_before():
            if isinstance(self.class_weight, str):
                raise ValueError(
                    "class_weight 'balanced' is not for partial_fit, which does not see all rows: give a dict "
                    "{class: weight}, for example from sklearn.utils.class_weight.compute_class_weight"
                )
            y, classes = on_the_host(self, y=y, classes=classes)
            self._first_classes(y, classes)
            return self._fit(X, y, sample_weight, True, (X_val, y_val, sample_weight_val))

    def predict(self, X: Any) -> Array:
        """Most probable class of each row, or every label above one half.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._predictions(self._outputs(X), self.__dict__)

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A list of them for several targets of several classes.
        """
        outputs = self._outputs(X)
        if isinstance(self._label_binarizer, ClassCodes):
            return [softmax(outputs[:, block], axis=1) for block in self._label_binarizer.blocks]
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of :meth:`predict_proba`, also where that is too small for a float.

        Computed from the outputs before the softmax or the sigmoid.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A list of them for several targets of several classes.
        """
        return log_probabilities(self, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of rows whose class, or all of whose labels and classes, are predicted.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        y, sample_weight = on_the_host(self, y=y, sample_weight=sample_weight)
        predicted = self.predict(X)
        if not isinstance(self._label_binarizer, ClassCodes):
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        return share_all_right(checked_targets(self, y, "y"), predicted, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
