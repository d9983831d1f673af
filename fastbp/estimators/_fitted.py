"""The attributes that a fit sets: a new fit leaves none of an earlier one."""

from __future__ import annotations

from typing import Any

# All but n_features_in_ and feature_names_in_, which scikit-learn sets and deletes itself
FITTED = (
    "classes_", "coefs_", "intercepts_", "normalization_", "projections_", "n_layers_", "n_outputs_", "out_activation_",
    "loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "validation_loss_curve_",
    "history_", "stopped_early_", "n_iter_", "t_",
    "_label_binarizer", "_class_weights", "_n_targets", "_description", "_no_improvement_count", "_best_weights",
    "_optimizer_state", "_mask_seed",
)  # fmt: skip


def replace_fitted(estimator: Any, attributes: dict[str, Any]) -> None:
    """Set what a fit has found, in the place of all that an earlier one did.

    A fit that goes on puts what it goes on from among its own attributes.
    """
    there = vars(estimator)
    for name in FITTED:
        if name not in attributes:
            there.pop(name, None)
    there.update(attributes)
