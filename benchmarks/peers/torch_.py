"""PyTorch: eager with a fused optimizer, or, with ``--variant compile``, the whole step as one compiled graph.

Predictions are from a tensor to a tensor, without autograd; ``compile`` compiles the forward pass.

Measured on mnist (784-128-10, batch 64, 2 threads, Zen 3, PyTorch 2.13), ms an epoch: eager with fused Adam 141; loss
through torch.compile, backward and fused Adam outside of it 181; the step below 103, the same with Inductor's C++
wrapper 102.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from benchmarks.peers._loops import Learner, fits_turn
from benchmarks.peers._torch_layers import arrays, modules, outputs
from benchmarks.peers._worker import Task, Training, UnavailableError, prediction, prediction_rows, serve, turns
from benchmarks.workloads import CLIP_NORM, MOMENTUM, Workload

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def prepare(task: Task) -> Training:
    """Put the data into tensors and compile, where that is asked for."""
    import torch

    torch.set_num_threads(task.n_threads)
    workload = task.workload
    if task.predict is not None:
        return _prediction(task)
    X, y = (torch.from_numpy(array) for array in workload.data(task.dtype))
    if workload.loss == "logistic":
        y = y.to(X.dtype)
    learner = (_compiled if task.variant == "compile" else _eager)(task, X, y)
    if task.fit:
        turn = fits_turn(task, learner)
    else:
        turn = turns(learner.start, lambda: learner.train(torch.randperm(len(X)), workload.batch))
    if task.variant == "compile":
        _compile(lambda: turn(1))
    return Training(turn, workload.dims, _notes(), predict=learner.predict)


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

    X = torch.from_numpy(prediction_rows(task))
    links = {"logistic": torch.nn.Sigmoid(), "softmax": torch.nn.Softmax(dim=1), "squared": torch.nn.Identity()}
    model = torch.nn.Sequential(*modules(task.workload, task.dtype), links[task.workload.loss]).eval()
    run: Callable[[Any], Any] = torch.compile(model, fullgraph=True) if task.variant == "compile" else model

    @torch.no_grad()
    def predict() -> Any:
        return run(X)

    if task.variant == "compile":
        _compile(predict)
    return prediction(task, predict, _notes())


def _loss(workload: Workload, outputs: Any, y: Any) -> Any:
    """Mean over the rows of a batch; half the squared error is summed over the outputs."""
    from torch.nn import functional

    if workload.loss == "squared":
        return functional.mse_loss(outputs, y) * (workload.n_outputs / 2)
    if workload.loss == "logistic":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], y)
    return functional.cross_entropy(outputs, y)


def _decided(task: Task, outputs: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import torch

    @torch.no_grad()
    def predict(X: Any) -> Any:
        return task.workload.decide(outputs(torch.from_numpy(X)))

    return predict


def _eager(task: Task, X: Any, y: Any) -> Learner:
    import torch

    workload = task.workload
    state: dict[str, Any] = {}

    def start() -> None:
        state["model"] = torch.nn.Sequential(*modules(workload, task.dtype))
        weights = state["model"].parameters()
        if workload.optimizer == "sgd":
            state["optimizer"] = torch.optim.SGD(weights, workload.learning_rate, MOMENTUM, fused=True)
        else:
            state["optimizer"] = torch.optim.Adam(weights, workload.learning_rate, fused=True)

    def train(order: Any, batch: int) -> float:
        model, optimizer, total = state["model"], state["optimizer"], torch.zeros((), dtype=X.dtype)
        batches = torch.as_tensor(order).split(batch)
        for rows in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(workload, model(X.index_select(0, rows)), y.index_select(0, rows))
            loss.backward()
            if workload.extra == "clipping":
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            total += loss.detach()
        return float(total) / len(batches) / workload.n_outputs

    return Learner(
        start, train, _decided(task, lambda X: state["model"](X)),
        lambda: copy.deepcopy(state["model"].state_dict()), lambda weights: state["model"].load_state_dict(weights),
    )  # fmt: skip


def _adam(w: Any, g: Any, held: Any, rate: Any, correction: Any) -> None:
    m, v = held
    m.mul_(BETA_1).add_(g, alpha=1 - BETA_1)
    v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
    w.sub_(rate * m / ((v * correction).sqrt() + EPSILON))


def _sgd(w: Any, g: Any, held: Any, rate: Any, correction: Any) -> None:
    (v,) = held
    v.mul_(MOMENTUM).sub_(rate * g)
    w.add_(v)


def _compiled(task: Task, X: Any, y: Any) -> Learner:
    import torch

    workload = task.workload
    update, n_held = (_sgd, 1) if workload.optimizer == "sgd" else (_adam, 2)
    state: dict[str, Any] = {}

    def batch_loss(weights: list[Any], X: Any, y: Any) -> Any:
        return _loss(workload, outputs(workload, weights, X, training=True), y)

    @torch.compile(fullgraph=True, dynamic=False)  # a short last batch has code of its own
    def step(weights: Any, held: Any, X: Any, y: Any, rate: Any, correction: Any) -> Any:
        gradients, loss = torch.func.grad_and_value(batch_loss)(weights, X, y)
        if workload.extra == "clipping":
            norm = torch.sqrt(sum((g * g).sum() for g in gradients))
            gradients = [g * torch.clamp(CLIP_NORM / (norm + 1e-6), max=1.0) for g in gradients]
        for w, g, of_w in zip(weights, gradients, held, strict=True):
            update(w, g, of_w, rate, correction)
        return loss

    def start() -> None:
        state["weights"] = arrays(workload, task.dtype)
        state["held"] = [[torch.zeros_like(w) for _ in range(n_held)] for w in state["weights"]]
        state["t"] = 0

    @torch.no_grad()
    def train(order: Any, batch: int) -> float:
        batches, total = torch.as_tensor(order).split(batch), torch.zeros((), dtype=X.dtype)
        n_steps = len(batches)
        t = torch.arange(state["t"] + 1, state["t"] + n_steps + 1, dtype=torch.float64)
        first = torch.zeros_like(t) if update is _sgd else BETA_1**t
        rates = (workload.learning_rate / (1 - first)).to(X.dtype)
        corrections = (1 / (1 - BETA_2**t)).to(X.dtype)
        for rows, rate, correction in zip(batches, rates, corrections, strict=True):
            here = X.index_select(0, rows), y.index_select(0, rows)
            total += step(state["weights"], state["held"], *here, rate, correction)
        state["t"] += n_steps
        return float(total) / n_steps / workload.n_outputs

    def put_back(weights: Any) -> None:
        state["weights"] = weights

    predict = _decided(task, lambda X: outputs(workload, state["weights"], X, training=False))
    return Learner(start, train, predict, lambda: [w.clone() for w in state["weights"]], put_back)


if __name__ == "__main__":
    serve(prepare)
