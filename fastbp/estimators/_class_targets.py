"""Targets that are classes: how they are encoded, what they weigh, and which output and loss they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastbp._validation import Array
from fastbp.estimators._base import BaseMLP
from fastbp.estimators._codes import MULTIOUTPUT, ClassCodes
from fastbp.estimators._inputs import checked_rows_and_targets, named
from fastbp.estimators._rows import Rows, class_weights, weighted
from fastbp.losses import Loss


class ClassTargets(BaseMLP):
    """What :class:`MLPClassifier` does with y."""

    class_weight: Any
    label_smoothing: float
    _label_binarizer: Any

    def _first_classes(self, y: Any, classes: Any) -> None:
        """In the first call of partial_fit: what classes there will be."""
        if classes is not None and type_of_target(y) == MULTIOUTPUT:
            if not hasattr(self, "classes_"):
                self._label_binarizer = ClassCodes(classes)
                self.classes_ = self._label_binarizer.classes_
        elif _check_partial_fit_first_call(self, classes):
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array, dict[str, Any]]:
        dtype = self._training_dtype(goes_on=not reset)
        X, y = checked_rows_and_targets(self, X, y, dtype=dtype, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        several = type_of_target(y) == MULTIOUTPUT
        anew = not hasattr(self, "classes_") or (not self.warm_start and not incremental)
        if anew:
            binarizer: Any = ClassCodes(list(y.T)) if several else LabelBinarizer().fit(y)
        else:
            binarizer = self._label_binarizer
            if not isinstance(binarizer, ClassCodes):
                self._check_classes(unique_labels(y))
        state = {"_label_binarizer": binarizer, "classes_": binarizer.classes_}
        if anew and not several:  # there is no class that it does not know
            return X, binarizer.transform(y).astype(bool), state
        return X, self._encode(y, state), state

    def _check_classes(self, classes: Array) -> None:
        """Raise where a fit that goes on meets other classes than before."""
        if self.warm_start and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        if np.setdiff1d(classes, self.classes_, assume_unique=True).size:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _encode(self, y: Any, state: dict[str, Any]) -> Array:
        binarizer = state["_label_binarizer"]
        if isinstance(binarizer, ClassCodes):
            return binarizer.transform(np.asarray(y))
        if not (unknown := np.setdiff1d(unique_labels(y), binarizer.classes_)).size:
            return binarizer.transform(y).astype(bool)
        raise ValueError(f"y_val has classes {unknown} that are not among {binarizer.classes_}")

    @staticmethod
    def _choices(outputs: Array, binarizer: Any) -> Array:
        """Codes of the classes, or the labels, that outputs stand for: the most probable one, or all above one half."""
        if isinstance(binarizer, ClassCodes):
            return np.column_stack([outputs[:, block].argmax(axis=1) for block in binarizer.blocks])
        if binarizer.y_type_ == "multiclass":
            return outputs.argmax(axis=1)
        labels = (outputs > 0.5).astype(np.intp)
        if binarizer.y_type_ == "binary":
            return np.minimum(labels[:, 0], len(binarizer.classes_) - 1)  # there may be one class alone
        return labels

    @staticmethod
    def _names(choices: Array, binarizer: Any) -> Array:
        """The classes that codes stand for."""
        if isinstance(binarizer, ClassCodes):
            return binarizer.inverse_transform(choices)
        if choices.ndim == 2:
            return binarizer.inverse_transform(choices) if binarizer.sparse_input_ else choices
        return binarizer.classes_[choices]

    def _decode(self, y: Array, state: dict[str, Any]) -> Array:
        binarizer = state["_label_binarizer"]
        return self._names(y if isinstance(binarizer, ClassCodes) else self._choices(y, binarizer), binarizer)

    def _predictions(self, outputs: Array, state: dict[str, Any]) -> Array:
        binarizer = state["_label_binarizer"]
        return self._names(self._choices(outputs, binarizer), binarizer)

    def _weights(self, sample_weight: Array | None, y: Array, state: dict[str, Any], dtype: Any) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        binarizer = state["_label_binarizer"]
        if isinstance(binarizer, ClassCodes):
            names, codes = binarizer.classes_, y
        elif binarizer.y_type_ == "multiclass":
            names, codes = [binarizer.classes_], y.argmax(axis=1)[:, None]
        elif binarizer.y_type_ == "binary":
            names, codes = [binarizer.classes_], y.astype(np.intp)
        else:
            names, codes = [np.arange(2)] * y.shape[1], y.astype(np.intp)
        # validation rows weigh what those of the training do
        with named("class_weight"):
            by_class = state.setdefault("_class_weights", None) or class_weights(self.class_weight, names, codes)
        state["_class_weights"] = by_class
        return weighted(sample_weight, by_class, codes, dtype)

    def _output(self, y: Array, state: dict[str, Any]) -> tuple[int, str, Loss]:
        binarizer = state["_label_binarizer"]
        if isinstance(binarizer, ClassCodes):
            sizes = binarizer.sizes
            return sum(sizes), "softmax", self._cross_entropy("softmax", sizes)
        if binarizer.y_type_ == "multiclass":
            return y.shape[1], "softmax", self._cross_entropy("softmax")
        return y.shape[1], "logistic", self._cross_entropy("sigmoid")

    def _cross_entropy(self, kind: str, blocks: tuple[int, ...] = ()) -> Loss:
        return Loss(f"{kind}_cross_entropy", "scikit-learn", blocks, label_smoothing=self.label_smoothing)

    def _link(self, out_activation: str, state: dict[str, Any]) -> str:
        # with several targets there is a softmax for each, which the predictions take by themselves
        return "identity" if isinstance(state["_label_binarizer"], ClassCodes) else out_activation

    def _targets(self, y: Array, loss: Loss, dtype: Any) -> Array:
        if y.dtype == np.intp:
            return y
        return y.argmax(axis=1) if loss.name == "softmax_cross_entropy" else np.ascontiguousarray(y, dtype)

    def _outputs_score(self, held_out: Rows, state: dict[str, Any]) -> Callable[[Array], float]:
        binarizer = state["_label_binarizer"]
        y = held_out.y if isinstance(binarizer, ClassCodes) else self._choices(held_out.y, binarizer)

        def score(outputs: Array) -> float:
            right = (self._choices(outputs, binarizer) == y).reshape(len(y), -1).all(axis=1)
            return float(np.average(right, weights=held_out.weights))

        return score
