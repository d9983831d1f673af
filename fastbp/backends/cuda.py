"""The GPU backend: sessions whose buffers lie on one NVIDIA GPU, and whose steps are launched many at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp._validation import Array
from fastbp.backends._device import device_memory
from fastbp.backends._feed import Feed
from fastbp.backends._optimizers import Described, State, described
from fastbp.backends._planned import outputs_and_deltas
from fastbp.backends._targets import as_targets, loss_codes
from fastbp.backends.base import Backend, Inspection, Matrix, Network, Session
from fastbp.kernels import layout, packing
from fastbp.kernels.cuda import memory
from fastbp.kernels.cuda.layout import Sizes
from fastbp.kernels.cuda.optimizers import AT_SCALE, N_NUMBERS
from fastbp.kernels.cuda.planning import program
from fastbp.kernels.cuda.predict import evaluate_rows, predict_rows
from fastbp.kernels.cuda.rules import step_numbers
from fastbp.kernels.cuda.schedule import PREDICTED_ROWS, units_of
from fastbp.kernels.cuda.training import Launcher, Store, all_finite, train_steps
from fastbp.losses import LINKS, Loss
from fastbp.optimizers import Optimizer

RESERVE = 256 * 2**20  # bytes that the driver, kernels and others on the card are left
BLOCKS = [1]  # in the simulator; with more, each phase of a step is a launch of its own


class _Kernel:
    """A compiled program with its buffers on the card."""

    def __init__(self, network: Network, mode: str, batch: int, precision: str, **options: Any) -> None:
        host, self.spec, self.sizes = program(
            network.widths, network.activations, mode=mode, dtype=network.dtype, batch=batch,
            processors=memory.processors(), precision=precision, operations=network.operations, **options,
        )  # fmt: skip
        self.host, self.batch = host, batch
        self._units = units_of(host, self.spec.tile)

    def allocate(self, real: Any) -> None:
        """All that is read and written besides parameters, moments and data."""
        self.program = memory.tuple_to_device(self.host)
        self.store = Store(
            memory.zeros(self.sizes.partials, real), memory.zeros(self.sizes.squares, np.float64),
            memory.zeros(self.sizes.norms, np.float64), memory.zeros(1, np.int64),
        )  # fmt: skip
        self.launcher = Launcher(self.spec, self.host, self._units, BLOCKS[0])


def _budget(sizes: Sizes, itemsize: int, copies: int, what: str) -> int:
    """Bytes that are left for data; a MemoryError where even the network does not fit."""
    free, total = device_memory()
    needed = sizes.bytes(itemsize) + copies * sizes.moments * itemsize + RESERVE
    if needed > free:
        raise MemoryError(
            f"{what} needs {needed / 1e6:,.0f} MB on the card, {sizes.work * itemsize / 1e6:,.0f} MB of it for outputs "
            f"and deltas, but {free / 1e6:,.0f} of {total / 1e6:,.0f} MB are free: use a smaller batch_size or "
            "narrower layers, end what else uses the card, or train with backend='cpu'"
        )
    return free - needed


def _dense(X: Matrix) -> None:
    if not isinstance(X, np.ndarray) and not hasattr(X, "__cuda_array_interface__") and hasattr(X, "indptr"):
        raise ValueError(
            "X is sparse, and there are no kernels for that on the GPU yet: use backend='cpu' (device='cpu'), or "
            "X.toarray() where it fits into memory"
        )


class CudaSession(Session):
    """Training on the card."""

    def __init__(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Matrix,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None,
        seed: int,
        precision: str,
    ) -> None:
        _dense(X)
        self._network, self._loss, self._precision, self._X = network, loss, precision, X
        self._numbers = described(optimizer)
        self._codes = loss_codes(loss, network.activations[-1], y)
        convention, hyper = self._numbers.codes["convention"], self._numbers.hyper
        self._kernel = _Kernel(
            network, "train", batch_size, precision, seed=seed, **self._codes, **self._numbers.codes,
            clipping=self._numbers.clipping,
            reports=bool(convention == layout.SCIKIT_LEARN and hyper[layout.L2] != 0),
        )  # fmt: skip
        self._seed, real = seed, network.dtype
        budget = _budget(self._kernel.sizes, real.itemsize, 1, f"a network with widths {network.widths}")
        self._kernel.allocate(real)
        sizes = self._kernel.sizes
        self._buffers = layout.Buffers(
            memory.zeros(sizes.parameters, real), memory.zeros(sizes.moments, real), memory.zeros(sizes.work, real),
            memory.zeros(sizes.rows, np.float64),
        )  # fmt: skip
        targets = as_targets(y, sample_weight, real, loss, self._codes, X.shape[0], network.widths[-1])
        self._weights = np.asarray(targets.weights, np.float64)
        self._targets = memory.tuple_to_device(targets)
        # of each row also its number, and at most a batch's own numbers
        n_rows = X.shape[0]
        taken = sum(array.nbytes for array in targets) + n_rows * 8 + -(-n_rows // batch_size) * (8 + 8 * N_NUMBERS)
        self._feed = Feed(X, budget - taken)
        self._flat = np.zeros(sizes.parameters, real)
        self._views = packing.Views(self._flat, self._kernel.host.table, self._lanes)
        self._state = _State(optimizer, self._numbers, self._buffers.moments, self._kernel.host.table, self._lanes)
        self._state.start(parameters)
        self._gradient: _Kernel | None = None
        self._given: _Kernel | None = None
        self._predicting: tuple[Array, Callable[[list[Array]], Array]] | None = None
        self.set_parameters(parameters)

    @property
    def _lanes(self) -> int:
        return layout.padded(max(self._network.widths))

    def _steps(
        self, kernel: _Kernel, buffers: layout.Buffers, rows: Array, rates: Array, described: Described
    ) -> Array:
        """The losses of one step on each batch of ``rows``."""
        n_steps, batch = len(rates), kernel.batch
        weights = self._batch_weights(rows, n_steps, batch)
        codes = described.codes
        numbers = step_numbers(
            codes["optimizer"], codes["convention"], described.hyper, rates, weights, self._state.step,
            bool(codes["adjusts"]), self._network.dtype,
        )  # fmt: skip
        losses = memory.zeros(n_steps, np.float64)
        order, scalars = memory.to_device(rows.astype(np.int64, copy=False)), memory.to_device(numbers.reshape(-1))
        for part in self._feed.parts(rows, order, batch):
            first, last = part.start // batch, -(-part.stop // batch)
            train_steps(
                kernel.launcher, memory.section(losses, first, last), kernel.program, buffers, kernel.store, part.X,
                self._targets, memory.section(order, part.start, part.stop), part.places,
                memory.section(scalars, first * N_NUMBERS, last * N_NUMBERS), self._state.step + first, 0, last - first,
                self._feed.stream,
            )  # fmt: skip
        return memory.to_host(losses)[:n_steps]

    def _batch_weights(self, rows: Array, n_steps: int, batch: int) -> Array:
        """What each batch's losses are divided by: its rows, or their weights, infinite where these are 0."""
        starts = np.arange(n_steps) * batch
        if not self._weights.size:
            return np.minimum(batch, len(rows) - starts).astype(float)
        total = np.add.reduceat(self._weights[rows], starts)
        return np.where(total != 0, total, np.inf)

    def train(self, rows: Array, learning_rates: Array) -> Array:
        losses = self._steps(self._kernel, self._buffers, rows, np.asarray(learning_rates, float), self._numbers)
        self._state.step += len(learning_rates)
        return losses

    def loss_and_gradients(self, rows: Array) -> tuple[float, list[Array]]:
        real, table = self._network.dtype, self._kernel.host.table
        if self._gradient is None:
            self._gradient = _Kernel(
                self._network, "train", self._kernel.batch, self._precision, seed=self._seed, **self._codes,
                optimizer=layout.GRADIENT, n_moments=1,
            )  # fmt: skip
            self._gradient.allocate(real)
        gradients = memory.zeros(self._gradient.sizes.moments, real)
        of_none = self._numbers._replace(codes={"optimizer": layout.GRADIENT, "convention": 0, "adjusts": 0})
        step, self._state.step = self._state.step, 0  # with the masks of step 0
        try:
            losses = self._steps(self._gradient, self._buffers._replace(moments=gradients), rows, np.zeros(1), of_none)
        finally:
            self._state.step = step
        flat = memory.to_host(gradients)[: self._gradient.sizes.moments]
        return float(losses[0]), packing.unpack(flat, table, self._lanes)

    def inspect(self, rows: Array) -> Inspection:
        loss, gradients = self.loss_and_gradients(rows)
        host, work = self._kernel.host, memory.to_host(self._buffers.work)
        outputs, deltas = outputs_and_deltas(self._network, host.header, host.table, work, len(rows))
        if self._loss.name in LINKS:  # such a loss starts from Z, and works in its place
            if self._predicting is None or not np.array_equal(self._predicting[0], rows):
                chosen = np.ascontiguousarray(np.asarray(self._X)[rows])
                self._predicting = rows.copy(), _predictor(self._network, chosen, False, self._precision)
            outputs[-1] = self._predicting[1](self.get_parameters())
        return Inspection(loss, gradients, outputs, deltas)

    def apply_gradients(self, gradients: list[Array], learning_rate: float, n_rows: int) -> None:
        real, codes = self._network.dtype, self._numbers.codes
        if self._given is None:
            self._given = _Kernel(
                self._network, "train", self._kernel.batch, self._precision, seed=self._seed, **self._codes, **codes,
                clipping=self._numbers.clipping, given=True,
            )  # fmt: skip
            self._given.allocate(real)
        flat = np.zeros_like(self._flat)
        packing.pack(gradients, flat, self._given.host.table, self._lanes)
        memory.overwrite(self._given.store.partials, flat)
        numbers = step_numbers(
            codes["optimizer"], codes["convention"], self._numbers.hyper, np.array([learning_rate], float),
            np.array([n_rows], float), self._state.step, bool(codes["adjusts"]), real,
        )  # fmt: skip
        order, X = memory.to_device(np.zeros(n_rows, np.int64)), memory.zeros(1, real)
        train_steps(
            self._given.launcher, memory.zeros(1, np.float64), self._given.program, self._buffers, self._given.store,
            X, self._targets, order, order, memory.to_device(numbers.reshape(-1)), self._state.step, 0, 1,
        )  # fmt: skip
        self._state.step += 1

    def evaluation(self, X: Matrix, y: Array, sample_weight: Array | None = None) -> Callable[[], float]:
        codes = loss_codes(self._loss, self._network.activations[-1], y)
        real = self._network.dtype
        targets = as_targets(y, sample_weight, real, self._loss, codes, X.shape[0], self._network.widths[-1])
        rows = _Rows(self._network, X, "evaluate", self._precision, targets, **codes)
        total = float(targets.weights.sum(dtype=float)) if targets.weights.size else X.shape[0]
        total = total or np.inf  # as in a step: what has no weight has no loss
        buffers = rows.buffers._replace(parameters=self._buffers.parameters)
        return lambda: float(rows.run(buffers, 1).sum() / total)

    def get_parameters(self) -> list[Array]:
        self._flat[:] = memory.to_host(self._buffers.parameters)[: len(self._flat)]
        return self._views.read()

    def set_parameters(self, parameters: list[Array]) -> None:
        self._views.write(parameters)
        memory.overwrite(self._buffers.parameters, self._flat)

    def get_optimizer_state(self) -> dict[str, Any]:
        return self._state.read()

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        self._state.write(state)

    def keep_optimizer_state(self) -> None:
        self._state.keep()

    def restore_optimizer_state(self) -> None:
        self._state.restore()

    def all_finite(self) -> bool:
        return all_finite(self._buffers.parameters)


class _State(State):
    """An optimizer's state whose arrays are on the card; here is where they are read and written."""

    def __init__(self, optimizer: Optimizer, numbers: Described, moments: Any, table: Array, lanes: int) -> None:
        self._device, n_moments = moments, numbers.codes["n_moments"]
        size = moments.size if n_moments else 0
        super().__init__(optimizer, numbers, np.zeros(size, moments.dtype), table, lanes)
        self._copy = memory.zeros(size, moments.dtype)
        memory.overwrite(self._device, self._moments)

    def start(self, parameters: list[Array]) -> None:
        super().start(parameters)
        memory.overwrite(self._device, self._moments)

    def read(self) -> dict[str, Any]:
        self._moments[:] = memory.to_host(self._device)
        return super().read()

    def write(self, state: dict[str, Any]) -> None:
        super().write(state)
        memory.overwrite(self._device, self._moments)

    def keep(self) -> None:
        memory.copy(self._copy, self._device)
        self._kept = (self.step, self._kept[1], self._hyper.copy())

    def restore(self) -> None:
        self.step, _, hyper = self._kept
        memory.copy(self._device, self._copy)
        np.copyto(self._hyper, hyper)


class _Rows:
    """Rows that are not trained on, and the workspace for them."""

    def __init__(
        self, network: Network, X: Matrix, mode: str, precision: str, targets: layout.Targets, **codes: int
    ) -> None:
        _dense(X)
        real, self._n_rows = network.dtype, X.shape[0]
        self._real = real if mode == "predict" else np.dtype(np.float64)
        kernel = self._kernel = _Kernel(network, mode, min(self._n_rows, PREDICTED_ROWS), precision, **codes)
        budget = _budget(kernel.sizes, real.itemsize, 0, f"a prediction by a network with widths {network.widths}")
        kernel.allocate(real)
        none, sizes = memory.zeros(1, real), kernel.sizes
        self.buffers = layout.Buffers(none, none, memory.zeros(sizes.work, real), memory.zeros(sizes.rows, np.float64))
        width = network.widths[-1] if mode == "predict" else 1
        taken = sum(array.nbytes for array in targets) + self._n_rows * (8 + width * self._real.itemsize)
        self._feed, self._targets = Feed(X, budget - taken), memory.tuple_to_device(targets)
        numbers = np.zeros(N_NUMBERS, real)
        numbers[AT_SCALE] = 1
        self._numbers = memory.to_device(numbers)
        self.table, self.size = kernel.host.table, sizes.parameters

    def run(self, buffers: layout.Buffers, width: int) -> Array:
        """``width`` numbers for each row."""
        kernel, rows = self._kernel, np.arange(self._n_rows)
        out = np.empty(self._n_rows * width, self._real)
        launch = predict_rows if kernel.spec.mode == "predict" else evaluate_rows
        order, device = memory.to_device(rows), memory.zeros(len(out), self._real)
        for part in self._feed.parts(rows, order, kernel.batch):
            launch(
                kernel.launcher, memory.section(device, part.start * width, part.stop * width), kernel.program, buffers,
                kernel.store, part.X, self._targets, memory.section(order, part.start, part.stop), part.places,
                self._numbers, -(-(part.stop - part.start) // kernel.batch), self._feed.stream,
            )  # fmt: skip
        out[:] = memory.to_host(device)[: len(out)]
        return out


def _predictor(network: Network, X: Matrix, raw: bool, precision: str) -> Callable[[list[Array]], Array]:
    if raw:
        network = replace(network, activations=(*network.activations[:-1], "identity"))
    real, n_outputs = network.dtype, network.widths[-1]
    none = layout.Targets(*(np.zeros(0, kind) for kind in (np.intp, real, real, np.intp, real)))
    rows = _Rows(network, X, "predict", precision, none)
    flat, device = np.zeros(rows.size, real), memory.zeros(rows.size, real)
    views, buffers = packing.Views(flat, rows.table, layout.padded(max(network.widths))), rows.buffers

    def predict(parameters: list[Array]) -> Array:
        views.write(parameters)
        memory.overwrite(device, flat)
        return rows.run(buffers._replace(parameters=device), n_outputs).reshape(-1, n_outputs)

    return predict


class CudaBackend(Backend):
    """One NVIDIA GPU; ``precision="tf32"`` has its tensor cores compute products of float32 networks."""

    name = "cuda"

    def open(
        self,
        network: Network,
        loss: Loss,
        optimizer: Optimizer,
        X: Matrix,
        y: Array,
        *,
        parameters: list[Array],
        batch_size: int,
        sample_weight: Array | None = None,
        n_threads: int | None = None,
        seed: int = 0,
        precision: str = "float32",
    ) -> CudaSession:
        return CudaSession(
            network, loss, optimizer, X, y, parameters=parameters, batch_size=batch_size, sample_weight=sample_weight,
            seed=seed, precision=precision,
        )  # fmt: skip

    def predictor(
        self, network: Network, X: Matrix, *, raw: bool = False, n_threads: int | None = None,
        precision: str = "float32",
    ) -> Callable[[list[Array]], Array]:  # fmt: skip
        return _predictor(network, X, raw, precision)


BACKEND = CudaBackend()
