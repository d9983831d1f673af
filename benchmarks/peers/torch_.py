"""PyTorch: eager with fused Adam, or, with ``--variant compile``, the whole step as one compiled graph.

Predictions are from a tensor to a tensor, without autograd; ``compile`` compiles the forward pass.

Measured on mnist (784-128-10, batch 64, 2 threads, Zen 3, PyTorch 2.13), ms an epoch: eager with fused Adam 141; loss
through torch.compile, backward and fused Adam outside of it 181; the step below 103, the same with Inductor's C++
wrapper 102.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers._worker import Task, Training, UnavailableError, prediction, prediction_rows, serve, turns
from benchmarks.workloads import LEARNING_RATE, initial_weights

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def prepare(task: Task) -> Training:
    """Put the data into tensors and compile, where that is asked for."""
    import torch

    torch.set_num_threads(task.n_threads)
    dims = task.workload.dims
    if task.predict is not None:
        return _prediction(task)
    X, y = (torch.from_numpy(array) for array in task.workload.data(task.dtype))
    if dims[-1] == 1:
        y = y.to(X.dtype)
    make = _compiled if task.variant == "compile" else _eager
    turn = turns(*make(task, dims, X, y))
    if task.variant == "compile":
        _compile(lambda: turn(1))
    return Training(turn, dims, _notes())


def _notes() -> dict[str, Any]:
    import torch

    return {"threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()}


def _compile(call: Callable[[], object]) -> None:
    """The first call of what is compiled."""
    try:
        call()
    except Exception as error:  # Inductor raises whatever its C++ compiler fails with
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise UnavailableError(f"torch.compile does not work here: {type(error).__name__}: {first_line}") from error


def _prediction(task: Task) -> Training:
    import torch

    X, dims = torch.from_numpy(prediction_rows(task)), task.workload.dims
    model = torch.nn.Sequential(*_layers(task), torch.nn.Sigmoid() if dims[-1] == 1 else torch.nn.Softmax(dim=1)).eval()
    run: Callable[[Any], Any] = torch.compile(model, fullgraph=True) if task.variant == "compile" else model

    @torch.no_grad()
    def predict() -> Any:
        return run(X)

    if task.variant == "compile":
        _compile(predict)
    return prediction(task, predict, _notes())


def _layers(task: Task) -> list[Any]:
    """Linear and ReLU in turn, with the initial weights."""
    import torch

    layers: list[Any] = []
    for W, b in zip(*[iter(initial_weights(task.workload.dims, task.dtype))] * 2, strict=True):
        linear = torch.nn.Linear(*W.shape, dtype=getattr(torch, task.dtype))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.ReLU()]
    return layers[:-1]


def _loss(logits: Any, y: Any) -> Any:
    from torch.nn import functional

    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], y)
    return functional.cross_entropy(logits, y)


def _eager(task: Task, dims: Any, X: Any, y: Any) -> tuple[Callable[[], object], Callable[[], float]]:
    import torch

    state: dict[str, Any] = {}

    def start() -> None:
        state["model"] = torch.nn.Sequential(*_layers(task))
        state["adam"] = torch.optim.Adam(state["model"].parameters(), LEARNING_RATE, fused=True)

    def epoch() -> float:
        model, adam, total = state["model"], state["adam"], torch.zeros((), dtype=X.dtype)
        for rows in torch.randperm(len(X)).split(task.workload.batch):
            adam.zero_grad(set_to_none=True)
            loss = _loss(model(X.index_select(0, rows)), y.index_select(0, rows))
            loss.backward()
            adam.step()
            total += loss.detach()
        return float(total) / task.workload.steps

    return start, epoch


def _compiled(task: Task, dims: Any, X: Any, y: Any) -> tuple[Callable[[], object], Callable[[], float]]:
    import torch
    from torch.nn import functional

    state: dict[str, Any] = {}

    def batch_loss(weights: list[Any], X: Any, y: Any) -> Any:
        A = X
        for W, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            A = functional.relu(functional.linear(A, W, b))
        return _loss(functional.linear(A, *weights[-2:]), y)

    @torch.compile(fullgraph=True)
    def step(weights: Any, first: Any, second: Any, X: Any, y: Any, rate: Any, correction: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(batch_loss)(weights, X, y)
        for w, m, v, g in zip(weights, first, second, gradients, strict=True):
            m.mul_(BETA_1).add_(g, alpha=1 - BETA_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
            w.sub_(rate * m / ((v * correction).sqrt() + EPSILON))
        return loss

    def start() -> None:
        arrays = initial_weights(dims, task.dtype)
        state["weights"] = [torch.from_numpy(array.T.copy()) for array in arrays]
        state["first"] = [torch.zeros_like(w) for w in state["weights"]]
        state["second"] = [torch.zeros_like(w) for w in state["weights"]]
        state["t"] = 0

    @torch.no_grad()
    def epoch() -> float:
        n_steps, batch, total = task.workload.steps, task.workload.batch, torch.zeros((), dtype=X.dtype)
        t = torch.arange(state["t"] + 1, state["t"] + n_steps + 1, dtype=torch.float64)
        rates = (LEARNING_RATE / (1 - BETA_1**t)).to(X.dtype)
        corrections = (1 / (1 - BETA_2**t)).to(X.dtype)
        for rows, rate, correction in zip(torch.randperm(len(X)).split(batch), rates, corrections, strict=True):
            here = X.index_select(0, rows), y.index_select(0, rows)
            total += step(state["weights"], state["first"], state["second"], *here, rate, correction)
        state["t"] += n_steps
        return float(total) / n_steps

    return start, epoch


if __name__ == "__main__":
    serve(prepare)
