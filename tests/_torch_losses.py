"""Losses and gradients by PyTorch in float64, for ``test_loss_networks.py``; run as a script it writes them down.

    python tests/_torch_losses.py      # needs PyTorch; writes tests/golden_losses.json

A case is one dense layer, A = f(X W + b), so that the gradients of W and b hold those of all rows.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden_losses.json")
M, N_FEATURES, N = 9, 6, 4


@dataclass(frozen=True)
class Case:
    """A loss (name and keywords of ``fastbp.losses.Loss``) on some data."""

    name: str
    options: dict
    activation: str
    X: np.ndarray
    W: np.ndarray
    b: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray | None

    @property
    def soft(self):
        return self.y.dtype.kind == "f"


def cases():
    """By a name that says what is special."""
    rng, found = np.random.RandomState(0), {}
    X, W, b, weights = rng.normal(size=(M, N_FEATURES)), rng.normal(size=(N_FEATURES, N)), rng.normal(size=N), None
    reals, labels, counts = rng.normal(size=(M, N)), rng.randint(0, N, M), rng.poisson(2.0, (M, N)).astype(float)
    shares, units, weights = rng.dirichlet(np.ones(N), M), rng.uniform(size=(M, N)), rng.uniform(0.5, 2, M)
    class_weight = [1.5, 0.0, 2.0, 0.25]
    kinds = [
        ("mean_absolute_error", {}, "identity", reals),
        ("huber", {"delta": 0.7}, "identity", reals),
        ("huber", {}, "tanh", reals),
        ("quantile", {"level": 0.9}, "identity", reals),
        ("quantile", {"level": [0.1, 0.4, 0.5, 0.95]}, "logistic", reals),
        ("log_cosh", {}, "identity", reals),
        ("mean_squared_error", {}, "logistic", reals),
        ("softmax_cross_entropy", {}, "softmax", shares),
        ("sigmoid_cross_entropy", {"label_smoothing": 0.1}, "logistic", units),
        ("sigmoid_cross_entropy", {"class_weight": [1.5, 3.0]}, "logistic", units),
        (
            "sigmoid_cross_entropy",
            {"class_weight": [[1.0, 2.0], [0.0, 1.0], [2.0, 0.5], [1.0, 1.0]], "label_smoothing": 0.2},
            "logistic",
            units,
        ),
        ("sigmoid_cross_entropy", {}, "softmax", units),
        ("sigmoid_cross_entropy", {"class_weight": [1.5, 3.0], "label_smoothing": 0.2}, "softmax", units),
        ("poisson", {}, "exp", counts),
        ("poisson", {}, "logistic", counts),
        ("poisson", {}, "softmax", counts),
    ]
    for y in (labels, shares):
        kinds += [
            ("softmax_cross_entropy", options, "softmax", y)
            for options in (
                {"label_smoothing": 0.1},
                {"class_weight": class_weight},
                {"class_weight": class_weight, "label_smoothing": 0.1},
            )
        ]
    for name, options, activation, y in kinds:
        for sample_weight in (None, weights):
            kind = "labels" if y is labels else "values"
            title = f"{name} of {activation}, {kind}, {options}{'' if sample_weight is None else ', sample weights'}"
            found[title] = Case(name, options, activation, X, W, b, y, sample_weight)
    return found


def _rows(case, Z, torch):
    """Loss of each row, times the weight of its class where it has one, and each row's part in the mean."""
    functional, y, options = torch.nn.functional, torch.tensor(case.y), case.options
    by_class = options.get("class_weight")
    by_class = None if by_class is None else torch.tensor(by_class, dtype=torch.float64)
    smoothing, parts = options.get("label_smoothing", 0.0), torch.ones(M, dtype=torch.float64)
    A = {
        "identity": lambda: Z, "tanh": lambda: torch.tanh(Z), "logistic": lambda: torch.sigmoid(Z),
        "exp": lambda: torch.exp(Z), "softmax": lambda: torch.softmax(Z, 1),
    }[case.activation]()  # fmt: skip
    if case.name == "softmax_cross_entropy":
        if by_class is not None and not case.soft:
            parts = by_class[y]
        return functional.cross_entropy(Z, y, by_class, reduction="none", label_smoothing=smoothing), parts
    if case.name == "sigmoid_cross_entropy":
        t, pairs = (
            (1 - smoothing) * y + smoothing / 2,
            torch.ones(2, dtype=torch.float64) if by_class is None else by_class,
        )
        w_0, w_1 = pairs.expand(N, 2).T
        if case.activation == "logistic":  # pos_weight multiplies the first of the two terms
            only_one, only_zero = (
                functional.binary_cross_entropy_with_logits(Z, t, reduction="none", pos_weight=torch.full((N,), w))
                for w in (torch.tensor(1.0).double(), torch.tensor(0.0).double())
            )
            return (w_1 * (only_one - only_zero) + w_0 * only_zero).sum(1), parts
        ones = functional.binary_cross_entropy(A, torch.ones_like(t), reduction="none")
        zeros = functional.binary_cross_entropy(A, torch.zeros_like(t), reduction="none")
        return (w_1 * t * ones + w_0 * (1 - t) * zeros).sum(1), parts
    if case.name == "poisson":
        constant = torch.special.xlogy(y, y) - y
        return (functional.poisson_nll_loss(A, y, log_input=False, eps=0.0, reduction="none") + constant).sum(1), parts
    e = A - y
    if case.name == "quantile":  # no loss of PyTorch's: the two lines of the pinball
        level = torch.tensor(options["level"], dtype=torch.float64).expand(N)
        return torch.maximum((1 - level) * e, -level * e).mean(1), parts
    if case.name == "log_cosh":
        return torch.log(torch.cosh(e)).mean(1), parts
    losses = {
        "mean_absolute_error": torch.nn.L1Loss(reduction="none"),
        "mean_squared_error": torch.nn.MSELoss(reduction="none"),
        "huber": torch.nn.HuberLoss(reduction="none", delta=options.get("delta", 1.0)),
    }
    return losses[case.name](A, y).mean(1), parts


def by_torch(case):
    """Loss and the gradients of W and b."""
    import torch

    W, b = (torch.tensor(array, requires_grad=True) for array in (case.W, case.b))
    rows, parts = _rows(case, torch.tensor(case.X) @ W + b, torch)
    weights = torch.ones(M, dtype=torch.float64)
    if case.sample_weight is not None:
        weights = torch.tensor(case.sample_weight)
    loss = (weights * rows).sum() / (weights * parts).sum()
    loss.backward()
    return {"loss": loss.item(), "W": W.grad.tolist(), "b": b.grad.tolist()}


def main():
    import torch

    results = {title: by_torch(case) for title, case in cases().items()}
    lines = [f"{json.dumps(title)}: {json.dumps(result)}" for title, result in results.items()]
    text = f'{{"torch": "{torch.__version__}", "results": {{\n' + ",\n".join(lines) + "\n}}"
    GOLDEN.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
