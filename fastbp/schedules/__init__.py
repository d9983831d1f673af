"""Learning-rate schedules: frozen descriptions of how the rate goes along with the steps or epochs.

One stands wherever an optimizer has a ``learning_rate``: ``fastbp.Adam(schedules.OneCycle(1e-2))``. Each says in which
unit it counts. What counts epochs changes the rate between them, what counts steps before every step:

=======================  =========================  ==============================================================
schedule                 counts                     PyTorch's
=======================  =========================  ==============================================================
:class:`Constant`
:class:`Step`            epochs, or steps           ``StepLR``
:class:`Exponential`     epochs, or steps           ``ExponentialLR``
:class:`InverseScaling`  steps, or epochs           (scikit-learn's ``learning_rate="invscaling"``)
:class:`Cosine`          steps, or epochs           ``CosineAnnealingLR``, ``CosineAnnealingWarmRestarts``, ``LinearLR``
:class:`OneCycle`        steps                      ``OneCycleLR``
:class:`ReduceOnPlateau` epochs                     ``ReduceLROnPlateau``
a function of the step   steps                      ``LambdaLR``
=======================  =========================  ==============================================================

Counts start at 0 and go on from one ``fit`` to the next, as the optimizer's state does: two fits of 5 epochs have the
rates of one of 10. The exception are :class:`Cosine` and :class:`OneCycle` without a ``total`` of their own: they span
each ``fit``, and begin anew with the next one.
"""

from __future__ import annotations

from fastbp.schedules._base import Schedule
from fastbp.schedules._cycles import Cosine, OneCycle
from fastbp.schedules._learning_rate import LearningRate, check_learning_rate, is_scheduled
from fastbp.schedules._plateau import ReduceOnPlateau
from fastbp.schedules._rates import preview
from fastbp.schedules._simple import Constant, Exponential, InverseScaling, Step

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "LearningRate",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
    "check_learning_rate",
    "is_scheduled",
    "preview",
]
