"""Optimizers: frozen descriptions. The arithmetic is in ``fastbp.kernels``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SGD:
    learning_rate: float = 1e-2
    momentum: float = 0.0
    nesterov: bool = False
    l2: float = 0.0
    convention: str = "pytorch"


@dataclass(frozen=True)
class Adam:
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    convention: str = "pytorch"


Optimizer = SGD | Adam
