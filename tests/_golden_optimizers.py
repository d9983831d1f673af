"""PyTorch's optimizers over 50 steps in float64: run as a script, it writes ``golden_optimizers.json`` anew.

Gradients vary in size by a factor of some thousand; some elements are always zero, and one step's are all zero. The
rate changes from step to step.
"""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import fastbp

FILE = Path(__file__).with_name("golden_optimizers.json")
STEPS, KEPT = 50, (1, 2, 10, 50)  # steps taken, and those whose weights are written down
SHAPES = [(5, 3), (3,)]


def problem():
    """Weights, for each step gradients, and rates relative to the first."""
    rng = np.random.RandomState(0)  # its stream never changes
    weights = [rng.normal(size=shape) for shape in SHAPES]
    weights[0][4, 2] = 0
    gradients = [[rng.normal(size=shape) * 10 ** rng.uniform(-2, 1.5) for shape in SHAPES] for _ in range(STEPS)]
    for W, b in gradients:
        W[1], b[2] = 0, 0
    gradients[7] = [np.zeros(shape) for shape in SHAPES]
    return weights, gradients, 1 / np.sqrt(1 + np.arange(STEPS))


# Ours, the class of torch.optim, and its arguments; "norm" and "value" stand for torch.nn.utils.clip_grad_*
CASES = {
    "sgd": (fastbp.SGD(0.05), "SGD", {}),
    "sgd, momentum, l2": (fastbp.SGD(0.05, 0.9, l2=0.3), "SGD", {"momentum": 0.9, "weight_decay": 0.3}),
    "sgd, nesterov": (fastbp.SGD(0.05, 0.9, True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "sgd, nesterov, l2": (
        fastbp.SGD(0.05, 0.9, True, 0.3),
        "SGD",
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3},
    ),
    "sgd, clip_norm": (fastbp.SGD(0.05, 0.9, clip_norm=2.0), "SGD", {"momentum": 0.9, "norm": 2.0}),
    "sgd, clip_value, l2": (
        fastbp.SGD(0.05, 0.9, l2=0.3, clip_value=0.5),
        "SGD",
        {"momentum": 0.9, "weight_decay": 0.3, "value": 0.5},
    ),
    "adam": (fastbp.Adam(0.05), "Adam", {}),
    "adam, betas, epsilon, l2": (
        fastbp.Adam(0.05, 0.8, 0.99, 0.1, 0.3),
        "Adam",
        {"betas": (0.8, 0.99), "eps": 0.1, "weight_decay": 0.3},
    ),
    "adam, clip_norm, clip_value": (
        fastbp.Adam(0.05, clip_norm=2.0, clip_value=0.25),
        "Adam",
        {"norm": 2.0, "value": 0.25},
    ),
    "adam, amsgrad": (fastbp.Adam(0.05, 0.9, 0.9, amsgrad=True), "Adam", {"betas": (0.9, 0.9), "amsgrad": True}),
    "adam, amsgrad, l2": (
        fastbp.Adam(0.05, 0.9, 0.9, 1e-3, 0.3, amsgrad=True),
        "Adam",
        {"betas": (0.9, 0.9), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.3},
    ),
    "adamw": (fastbp.AdamW(0.05), "AdamW", {}),
    "adamw, weight_decay": (fastbp.AdamW(0.05, weight_decay=0.5), "AdamW", {"weight_decay": 0.5}),
    "adamw, amsgrad": (
        fastbp.AdamW(0.05, 0.8, 0.9, amsgrad=True, weight_decay=0.5),
        "AdamW",
        {"betas": (0.8, 0.9), "amsgrad": True, "weight_decay": 0.5},
    ),
    "nadam": (fastbp.NAdam(0.05), "NAdam", {}),
    "nadam, momentum_decay, l2": (
        fastbp.NAdam(0.05, 0.8, 0.99, 1e-3, 0.1, l2=0.3),
        "NAdam",
        {"betas": (0.8, 0.99), "eps": 1e-3, "momentum_decay": 0.1, "weight_decay": 0.3},
    ),
    "nadam, weight_decay": (
        fastbp.NAdam(0.05, weight_decay=0.5),
        "NAdam",
        {"weight_decay": 0.5, "decoupled_weight_decay": True},
    ),
    "rmsprop": (fastbp.RMSprop(0.05), "RMSprop", {}),
    "rmsprop, alpha, epsilon, l2": (
        fastbp.RMSprop(0.05, 0.9, 0.1, l2=0.3),
        "RMSprop",
        {"alpha": 0.9, "eps": 0.1, "weight_decay": 0.3},
    ),
    "rmsprop, momentum": (fastbp.RMSprop(0.05, momentum=0.9), "RMSprop", {"momentum": 0.9}),
    "rmsprop, centered": (fastbp.RMSprop(0.05, 0.9, centered=True), "RMSprop", {"alpha": 0.9, "centered": True}),
    "rmsprop, momentum, centered, l2": (
        fastbp.RMSprop(0.05, 0.9, 1e-3, 0.9, True, l2=0.3),
        "RMSprop",
        {"alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "centered": True, "weight_decay": 0.3},
    ),
    "adagrad": (fastbp.Adagrad(0.5), "Adagrad", {}),
    "adagrad, decay, initial, epsilon, l2": (
        fastbp.Adagrad(0.5, 0.1, 0.7, 1e-3, l2=0.3),
        "Adagrad",
        {"lr_decay": 0.1, "initial_accumulator_value": 0.7, "eps": 1e-3, "weight_decay": 0.3},
    ),
}


@contextmanager
def double():
    """PyTorch keeps its scalars, such as NAdam's product, in the default type: 6e-10 of the weights in float32."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@double()
def by_torch(name):
    """Weights after each of the kept steps: a list of lists of arrays."""
    import torch

    mine, kind, options = CASES[name]
    options = dict(options)
    norm, value = options.pop("norm", None), options.pop("value", None)
    weights, gradients, rates = problem()
    tensors = [torch.tensor(array, requires_grad=True) for array in weights]
    optimizer = getattr(torch.optim, kind)(tensors, lr=mine.learning_rate, **options)
    kept = []
    for step, (arrays, rate) in enumerate(zip(gradients, rates.tolist(), strict=True), 1):
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.grad = torch.tensor(array)
        if norm is not None:
            torch.nn.utils.clip_grad_norm_(tensors, norm)
        if value is not None:
            torch.nn.utils.clip_grad_value_(tensors, value)
        for group in optimizer.param_groups:
            group["lr"] = mine.learning_rate * rate
        optimizer.step()
        if step in KEPT:
            kept.append([tensor.detach().numpy().copy() for tensor in tensors])
    return kept


def main():
    golden = {name: [[array.tolist() for array in arrays] for arrays in by_torch(name)] for name in CASES}
    lines = (f"{json.dumps(name)}: {json.dumps(values)}" for name, values in golden.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
