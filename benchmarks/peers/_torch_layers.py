"""The workloads' networks in PyTorch: as modules, and as functions of lists of arrays for a step that is one graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads import DROPOUT_RATE, Workload, initial_weights


def pairs(workload: Workload, dtype: str) -> list[tuple[Any, Any]]:
    """W and b of each layer."""
    arrays = initial_weights(workload.dims, dtype)
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def modules(workload: Workload, dtype: str) -> list[Any]:
    """Linear layers with the initial weights, and what each hidden one has besides."""
    import torch
    from torch import nn

    class Skip(nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return x + self.inner(x)

    real = getattr(torch, dtype)
    activation = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}[workload.activation]
    norm = {"batch_norm": nn.BatchNorm1d, "layer_norm": nn.LayerNorm}.get(workload.extra)
    linears: list[Any] = []
    for W, b in pairs(workload, dtype):
        linear = nn.Linear(*W.shape, dtype=real)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
        linears.append(linear)
    layers: list[Any] = []
    for k, linear in enumerate(linears[:-1]):
        layers.append(Skip(linear) if workload.extra == "residual" and k else linear)
        layers += [norm(linear.out_features, dtype=real)] if norm else []
        layers += [activation(), *([nn.Dropout(DROPOUT_RATE)] if workload.extra == "dropout" else [])]
    return [*layers, linears[-1]]


def arrays(workload: Workload, dtype: str) -> list[Any]:
    """The same weights as a list: W^T, b and, of a hidden layer with a normalisation, gamma and beta."""
    import torch

    flat: list[Any] = []
    for k, (W, b) in enumerate(pairs(workload, dtype)):
        flat += [W.T.copy(), b]
        if workload.extra in ("batch_norm", "layer_norm") and k < len(workload.dims) - 2:
            flat += [np.ones_like(b), np.zeros_like(b)]
    return [torch.from_numpy(array) for array in flat]


def outputs(workload: Workload, weights: list[Any], X: Any, training: bool) -> Any:
    """The network as a function. A batch norm takes the batch's statistics and keeps none: less work than ours."""
    import torch
    from torch.nn import functional

    activation = {"tanh": torch.tanh, "relu": functional.relu, "gelu": functional.gelu}[workload.activation]
    size, A = 4 if workload.extra in ("batch_norm", "layer_norm") else 2, X
    for k, start in enumerate(range(0, len(weights) - 2, size)):
        W, b, *norm = weights[start : start + size]
        Z = functional.linear(A, W, b)
        if workload.extra == "residual" and k:
            Z = A + Z
        if workload.extra == "batch_norm":
            Z = functional.batch_norm(Z, None, None, *norm, training=True)
        elif workload.extra == "layer_norm":
            Z = functional.layer_norm(Z, b.shape, *norm)
        A = activation(Z)
        if workload.extra == "dropout" and training:
            A = functional.dropout(A, DROPOUT_RATE)
    return functional.linear(A, *weights[-2:])
