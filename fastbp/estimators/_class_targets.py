"""Targets that are classes: how they are encoded, what they weigh, and which output and loss they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from fastbp._validation import Array
from fastbp.estimators._base import BaseMLP
from fastbp.estimators._codes import ClassCodes
from fastbp.estimators._inputs import checked_rows_and_targets
from fastbp.estimators._rows import Rows, class_weights, weighted
from fastbp.estimators._targets import LABELS, MULTIOUTPUT, check_kind, checked_targets, listed, one_column, target_kind
from fastbp.losses import Loss


def _unknown(classes: Array, known: Array) -> list[Any]:
    """Those that are not known: by themselves, since NumPy takes "1" for 1."""
    there = set(known.tolist())
    return [one for one in classes.tolist() if one not in there]


def _of_several(classes: Any) -> bool:
    """Whether there is a sequence of classes for each target, beyond the 0 and 1 of labels."""
    if not isinstance(classes, list | tuple) or any(
        isinstance(one, str) or not hasattr(one, "__len__") for one in classes
    ):
        return False
    return any(set(np.unique(one).tolist()) - {0, 1} for one in classes)


def _same_classes(some: Sequence[Array], others: Any) -> bool:
    return isinstance(others, list) and [a.tolist() for a in some] == [b.tolist() for b in others]


class ClassTargets(BaseMLP):
    """What :class:`MLPClassifier` does with y."""

    class_weight: Any
    label_smoothing: float
    _label_binarizer: Any
    classes_: Any

    def _first_classes(self, y: Any, classes: Any) -> None:
        """In the first call of partial_fit: what classes there will be; in a later one that they are the same."""
        if isinstance(y, list | tuple):  # of a list of lists scikit-learn takes no classes
            with suppress(ValueError):
                y = np.asarray(y)
        if classes is not None and (
            (kind := type_of_target(y)) == MULTIOUTPUT or (kind == LABELS and _of_several(classes))
        ):
            there = ClassCodes(classes)
            if not hasattr(self, "classes_"):
                self._label_binarizer, self.classes_ = there, there.classes_
            elif not _same_classes(there.classes_, self.classes_):
                raise ValueError(
                    "classes are not those of the first call of partial_fit: give the same, or leave them out"
                )
        elif _check_partial_fit_first_call(self, classes):
            labels = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if labels else classes)

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array, dict[str, Any]]:
        dtype = self._training_dtype(goes_on=not reset)
        X, y = checked_rows_and_targets(self, X, y, dtype=dtype, reset=reset)
        anew = not hasattr(self, "classes_") or (not self.warm_start and not incremental)
        if not anew:
            state = {"_label_binarizer": self._label_binarizer, "classes_": self.classes_}
            return X, self._encode(y, "y", state, X.dtype, goes_on=True), state
        y = one_column(y, "y")
        kind = target_kind(y, "y")
        if kind == MULTIOUTPUT and sparse.issparse(y):
            raise TypeError("y is sparse, which only labels of 0 and 1 may be: give y.toarray() for several targets")
        binarizer: Any = ClassCodes(list(y.T)) if kind == MULTIOUTPUT else LabelBinarizer().fit(y)
        # of several targets there is no class that it does not know
        encoded = binarizer.transform(y) if kind == MULTIOUTPUT else binarizer.transform(y).astype(bool)
        return X, encoded, {"_label_binarizer": binarizer, "classes_": binarizer.classes_}

    def _encode(self, y: Any, name: str, state: dict[str, Any], dtype: Any, goes_on: bool = False) -> Array:
        binarizer = state["_label_binarizer"]
        y = one_column(y if goes_on else checked_targets(self, y, name), name)
        if isinstance(binarizer, ClassCodes):
            return binarizer.transform(y, name)
        check_kind(y, name, binarizer.y_type_, len(binarizer.classes_))
        try:
            classes = unique_labels(y)
        except (TypeError, ValueError) as error:  # strings beside numbers
            raise ValueError(f"{name} is not usable: {error}") from None
        if goes_on:
            self._check_classes(classes)
        elif unknown := _unknown(classes, binarizer.classes_):
            raise ValueError(f"{name} has classes {listed(unknown)} that are not among {listed(binarizer.classes_)}")
        encoded: Array = binarizer.transform(y).astype(bool)
        return encoded

    def _check_classes(self, classes: Array) -> None:
        """Raise where a fit that goes on meets other classes than before."""
        if self.warm_start and set(classes.tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {listed(self.classes_)}, `y` has {listed(classes)}"
            )
        if _unknown(classes, self.classes_):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {listed(self.classes_)}. 'y' has "
                f"{listed(classes)}."
            )

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
        by_class = state.get("_class_weights")  # validation rows weigh what those of the training do
        if by_class is None:
            by_class = class_weights(self.class_weight, names, codes, sample_weight)
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
