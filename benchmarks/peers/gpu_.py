"""Training on a GPU, turn by turn: fastbp's Trainer, and PyTorch eager, in CUDA graphs, compiled, and both.

All hold the rows on the device, start each turn from the same weights and draw a new order of rows each epoch; an epoch
ends with its mean loss on the host.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers._torch_layers import modules
from benchmarks.peers._worker import Turn, UnavailableError, turns
from benchmarks.peers.fastbp_ import _start, descriptions
from benchmarks.peers.torch_ import _compile, _loss
from benchmarks.workloads import MOMENTUM, Workload

WINDOW = 58  # steps of a graph of many: divides the 928, 232 and 58 steps of 59,392 rows
WARM_UPS = 3  # before a capture, as PyTorch's notes on CUDA graphs ask for
WARM_EPOCHS = 2  # of the Trainer: its chunks of steps grow eightfold up to a whole epoch


def on_device(workload: Workload, device: str) -> tuple[Any, Any]:
    """X and y as tensors: uploaded once for all peers."""
    import torch

    return tuple(torch.from_numpy(array).to(device) for array in workload.data("float32"))  # type: ignore[return-value]


def fastbp_turn(workload: Workload, X: Any, y: Any, *, backend: str, precision: str, notes: dict[str, Any]) -> Turn:
    """Epochs of ``Trainer.fit``; ``notes`` says whether it took the tensors of the device or copied from the host."""
    import fastbp

    class Stamps(fastbp.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_epoch_end(self, trainer: Any, epoch: int, logs: Any) -> None:
            self.times.append(time.perf_counter())

    loss, optimizer = descriptions(workload, workload.dims[-1])
    layers = [*(fastbp.Dense(n, workload.activation) for n in workload.hidden), fastbp.Dense(workload.dims[-1])]
    model = fastbp.Sequential(layers, n_features=workload.n_features, dtype="float32", random_state=0)
    _start(model, workload.dims, "float32")
    initial, precise = model.get_weights(), {"precision": "tf32"} if precision == "tf32" else {}

    def host(array: Any) -> Any:
        return array.cpu().numpy()

    def fit(X: Any, y: Any, n_epochs: int) -> tuple[Any, list[float]]:
        model.set_weights(initial)
        trainer = fastbp.Trainer(
            model,
            loss=loss,
            optimizer=optimizer,
            backend=backend,
            random_state=0,
            **precise,  # type: ignore[arg-type]
        )
        stamps = Stamps()
        history = trainer.fit(X, y, epochs=n_epochs, batch_size=workload.batch, callbacks=[stamps])
        return history, stamps.times

    rows: dict[str, Any] = {}
    ways = {
        "on the device": lambda: (X, y),
        "X on the device": lambda: (X, host(y)),
        "host": lambda: (host(X), host(y)),
    }
    for way, data in ways.items() if X.device.type == "cuda" else [("host", ways["host"])]:
        try:
            fit(*data(), 1)
        except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
            notes[f"not {way}"] = f"{type(error).__name__}: {error}"
            continue
        notes["data"], rows["data"] = way, data()
        break
    else:
        raise UnavailableError(f"Trainer.fit takes the data in no way: {notes}")

    def turn(n_epochs: int) -> dict[str, Any]:
        history, times = fit(*rows["data"], WARM_EPOCHS + n_epochs)
        first = WARM_EPOCHS - 1
        return {
            "seconds": (times[-1] - times[first]) / n_epochs,
            "loss": history["loss"][-1],
            "second_loss": history["loss"][1],  # with which a peer's turn of one epoch ends
            # of the order of rows and the steps alone
            "steps_seconds": sum(itertools.islice(history["epoch_seconds"], WARM_EPOCHS, None)) / n_epochs,
        }

    return turn


class _Network:
    """A network, its fused optimizer and one step, which graphs can capture: the losses add up on the device."""

    def __init__(self, workload: Workload, X: Any, y: Any, *, compiled: bool, capturable: bool) -> None:
        import torch

        self.workload, self.X, self.y = workload, X, y
        model = torch.nn.Sequential(*modules(workload, "float32")).to(X.device)
        self._parameters = list(model.parameters())
        self._initial = [parameter.detach().clone() for parameter in self._parameters]
        if workload.optimizer == "sgd":
            self.optimizer: Any = torch.optim.SGD(self._parameters, workload.learning_rate, MOMENTUM, fused=True)
        else:
            options = {"capturable": True} if capturable else {}
            self.optimizer = torch.optim.Adam(self._parameters, workload.learning_rate, fused=True, **options)
        self.total = torch.zeros((), device=X.device)

        def loss(X: Any, y: Any) -> Any:
            return _loss(workload, model(X), y)

        self._loss = torch.compile(loss, fullgraph=True, dynamic=False) if compiled else loss

    def start(self) -> None:
        """Back to the initial weights, in place: graphs know addresses."""
        import torch

        with torch.no_grad():
            for parameter, initial in zip(self._parameters, self._initial, strict=True):
                parameter.copy_(initial)
            for state in self.optimizer.state.values():
                for value in state.values():
                    if isinstance(value, torch.Tensor):
                        value.zero_()

    def step(self, rows: Any) -> None:
        """One update on these rows."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.X.index_select(0, rows), self.y.index_select(0, rows))
        loss.backward()
        self.optimizer.step()
        self.total.add_(loss.detach())

    def mean_loss(self) -> float:
        """Of an epoch, on the host: waits for the device."""
        return float(self.total) / self.workload.steps / self.workload.n_outputs


def _capture(work: Callable[[], None], before: Callable[[], object] = bool) -> Any:
    """A CUDA graph of ``work``, which has run on a side stream before, each time after ``before``."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            before()
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _eagerly(network: _Network) -> Callable[[], float]:
    """A step is as many launches as it has operations."""
    import torch

    n_rows, batch = network.workload.n_samples, network.workload.batch

    def epoch() -> float:
        network.total.zero_()
        for rows in torch.randperm(n_rows, device=network.X.device).split(batch):
            network.step(rows)
        return network.mean_loss()

    return epoch


def _by_step(network: _Network) -> Callable[[], float]:
    """A graph of one step, which takes the next rows of the order by a counter on the device."""
    import torch

    n_steps, batch, device = network.workload.steps, network.workload.batch, network.X.device
    order = torch.arange(n_steps * batch, device=device).view(n_steps, batch)
    counter = torch.zeros(1, dtype=torch.int64, device=device)

    def work() -> None:
        network.step(order.index_select(0, counter).view(-1))
        counter.add_(1)

    graph = _capture(work, counter.zero_)

    def epoch() -> float:
        order.copy_(torch.randperm(n_steps * batch, device=device).view(n_steps, batch))
        counter.zero_()
        network.total.zero_()
        for _ in range(n_steps):
            graph.replay()
        return network.mean_loss()

    return epoch


def _by_many(network: _Network) -> Callable[[], float]:
    """A graph of many steps on fixed places of a window, which is filled before each replay."""
    import torch

    n_steps, batch, device = network.workload.steps, network.workload.batch, network.X.device
    n_window = math.gcd(WINDOW, n_steps)
    window = torch.arange(n_window * batch, device=device).view(n_window, batch)

    def work() -> None:
        for k in range(n_window):
            network.step(window[k])

    graph = _capture(work)

    def epoch() -> float:
        network.total.zero_()
        for rows in torch.randperm(n_steps * batch, device=device).view(-1, n_window, batch):
            window.copy_(rows)
            graph.replay()
        return network.mean_loss()

    return epoch


EPOCHS = {
    "eager": _eagerly, "graphs": _by_step, "graphs-many": _by_many, "compile": _eagerly, "compile-graphs": _by_step,
}  # fmt: skip


def torch_turn(variant: str, workload: Workload, X: Any, y: Any) -> Turn:
    """Epochs of one of PyTorch's variants.

    Raises
    ------
    UnavailableError
        Where there are no CUDA graphs, or the compiler fails.
    """
    graphs, compiled = "graphs" in variant, variant.startswith("compile")
    if graphs and X.device.type != "cuda":
        raise UnavailableError("CUDA graphs need a GPU")
    network = _Network(workload, X, y, compiled=compiled, capturable=graphs)
    if compiled:
        _compile(lambda: network.step(_first_rows(workload, X)))
    epoch = EPOCHS[variant](network)
    return turns(network.start, epoch)


def _first_rows(workload: Workload, X: Any) -> Any:
    """Rows of a first batch."""
    import torch

    return torch.arange(workload.batch, device=X.device)
