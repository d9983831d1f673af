"""Optimizers as kernels take them, and their state in and out of the flat buffers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastbp._validation import Array
from fastbp.kernels import layout, packing
from fastbp.optimizers import SGD, Adagrad, Adam, Lion, NAdam, Optimizer, RMSprop


class Described(NamedTuple):
    """An optimizer in numbers.

    Attributes
    ----------
    codes : dict
        Entries of the plan's header.
    clipping : bool
        Whether the gradient's norm is to be known before the update.
    hyper : ndarray of float64, shape (HYPER_SIZE,)
    arrays : tuple of str
        What each array of ``moments`` holds, in their order.
    scalars : dict
        Entries of ``hyper`` that are state too, by name.
    """

    codes: dict[str, int]
    clipping: bool
    hyper: Array
    arrays: tuple[str, ...]
    scalars: dict[str, int]


def described(optimizer: Optimizer) -> Described:
    """An optimizer as the plan's header and ``hyper`` hold it."""
    code, arrays, numbers = _rule(optimizer)
    hyper, scalars = np.zeros(layout.HYPER_SIZE), {}
    if code == layout.NADAM:
        numbers[layout.MU_PRODUCT], scalars = 1.0, {"mu_product": layout.MU_PRODUCT}
    numbers |= {
        layout.L2: optimizer.l2,
        layout.L1: optimizer.l1,
        layout.WEIGHT_DECAY: optimizer.weight_decay,
        layout.CLIP_VALUE: optimizer.clip_value or 0.0,
        layout.CLIP_NORM: optimizer.clip_norm or 0.0,
        layout.EMA_DECAY: optimizer.ema_decay or 0.0,
    }
    hyper[list(numbers)] = list(numbers.values())
    averages = optimizer.ema_decay is not None
    # SGD and Adam add l2 w themselves
    adjusts = optimizer.l1 > 0 or optimizer.weight_decay > 0 or optimizer.clip_value is not None
    adjusts |= optimizer.l2 > 0 and code > layout.ADAM
    arrays += ("average",) * averages
    return Described(
        {
            "optimizer": code,
            "nesterov": int(isinstance(optimizer, SGD) and optimizer.nesterov),
            "convention": layout.SCIKIT_LEARN if optimizer.convention == "scikit-learn" else layout.PYTORCH,
            "n_moments": len(arrays),
            "adjusts": int(adjusts),
            "averages": int(averages),
        },
        optimizer.clip_norm is not None,
        hyper,
        arrays,
        scalars,
    )


def _rule(optimizer: Optimizer) -> tuple[int, tuple[str, ...], dict[int, float]]:
    """Code of the optimizer itself, the arrays that it keeps, and its numbers by their place in ``hyper``."""
    if isinstance(optimizer, SGD):
        return layout.SGD, ("velocity",), {layout.BETA_1: optimizer.momentum}
    if isinstance(optimizer, Adam | NAdam):
        numbers = {
            layout.BETA_1: optimizer.beta_1,
            layout.BETA_2: optimizer.beta_2,
            layout.EPSILON: optimizer.epsilon,
        }
        if isinstance(optimizer, NAdam):
            return layout.NADAM, ("first", "second"), numbers | {layout.DECAY: optimizer.momentum_decay}
        if optimizer.amsgrad:
            return layout.AMSGRAD, ("first", "second", "largest_second"), numbers
        return layout.ADAM, ("first", "second"), numbers
    if isinstance(optimizer, RMSprop):
        numbers = {
            layout.BETA_2: optimizer.alpha,
            layout.EPSILON: optimizer.epsilon,
            layout.MOMENTUM: optimizer.momentum,
        }
        if optimizer.centered:
            return layout.CENTERED_RMSPROP, ("velocity", "mean_square", "mean"), numbers
        if optimizer.momentum > 0:
            return layout.MOMENTUM_RMSPROP, ("velocity", "mean_square"), numbers
        return layout.RMSPROP, ("mean_square",), numbers
    if isinstance(optimizer, Adagrad):
        numbers = {layout.DECAY: optimizer.learning_rate_decay, layout.EPSILON: optimizer.epsilon}
        return layout.ADAGRAD, ("sum_of_squares",), numbers
    assert isinstance(optimizer, Lion)
    return layout.LION, ("momentum",), {layout.BETA_1: optimizer.beta_1, layout.BETA_2: optimizer.beta_2}


class State:
    """What an optimizer keeps from step to step: arrays in ``moments``, entries of ``hyper``, and the steps so far.

    Parameters
    ----------
    optimizer : Optimizer
    described : Described
    moments, table : ndarray
        Of the session.
    lanes : int
    """

    def __init__(self, optimizer: Optimizer, described: Described, moments: Array, table: Array, lanes: int) -> None:
        self._arrays = dict(zip(described.arrays, np.split(moments, len(described.arrays)), strict=True))
        self._hyper, self._scalars = described.hyper, described.scalars
        self._moments, self._table, self._lanes = moments, table, lanes
        self.step = 0
        if isinstance(optimizer, Adagrad):
            self._arrays["sum_of_squares"][:] = optimizer.initial_accumulator_value
        self._kept: tuple[int, Array, Array] = (0, moments.copy(), self._hyper.copy())

    def start(self, parameters: list[Array]) -> None:
        """Begin with these weights."""
        if "average" in self._arrays:
            packing.pack(parameters, self._arrays["average"], self._table, self._lanes)

    def read(self) -> dict[str, Any]:
        """Copies of all of it, by name."""
        state: dict[str, Any] = {"step": self.step}
        for name, array in self._arrays.items():
            state[name] = packing.unpack(array, self._table, self._lanes)
        return state | {name: float(self._hyper[place]) for name, place in self._scalars.items()}

    def write(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`read` gave."""
        wanted = {"step", *self._arrays, *self._scalars}
        if set(state) != wanted:
            raise ValueError(
                f"the state is not that of this optimizer, which has {', '.join(sorted(wanted))}: got "
                f"{', '.join(sorted(state))}. Go on with the same optimizer and options, or start anew"
            )
        for name, array in self._arrays.items():
            packing.pack(state[name], array, self._table, self._lanes)
        for name, place in self._scalars.items():
            self._hyper[place] = state[name]
        self.step = int(state["step"])

    def keep(self) -> None:
        """Copy it all, fast."""
        _, moments, hyper = self._kept
        np.copyto(moments, self._moments)
        np.copyto(hyper, self._hyper)
        self._kept = (self.step, moments, hyper)

    def restore(self) -> None:
        """Go back to what :meth:`keep` copied last."""
        self.step, moments, hyper = self._kept
        np.copyto(self._moments, moments)
        np.copyto(self._hyper, hyper)
