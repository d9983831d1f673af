"""Errors of the GPU: what is missing, arrays that lie there, memory. In Numba's simulator, by made-up machines."""

import sys
from types import SimpleNamespace

import numpy as np

from fastbp.backends import _device, get_backend

from ._entry import Also, Entry, Exempt, Section


class Card:
    """What ``numba.cuda`` says of a machine, as far as it is asked before a training."""

    def __init__(self, error=None, version=(13, 0), devices=1, capability=(9, 0)):
        self._error, self.gpus = error, range(devices)
        self.runtime = SimpleNamespace(get_version=lambda: (13, 1))
        self.cudadrv = SimpleNamespace(driver=SimpleNamespace(driver=SimpleNamespace(get_version=lambda: version)))
        self._device = SimpleNamespace(compute_capability=capability, name="NVIDIA T4", id=0)

    def is_available(self):
        return self._error is None

    def cuda_error(self):
        return self._error

    def current_context(self):
        return SimpleNamespace(get_memory_info=lambda: (2**33, 2**34))

    def get_current_device(self):
        return self._device


def machine(extra=None, **card):
    """A machine with this card, in place of the simulator."""

    def given(stage):
        stage.patch.setattr(_device, "simulated", lambda: False)
        stage.patch.setattr(_device, "_without_extra", lambda: extra)
        stage.patch.setattr(_device, "_target", lambda: SimpleNamespace(cuda=Card(**card)))
        stage.patch.setattr(_device, "_missing", _device._missing.__wrapped__)  # without its memory

    return given


class OnCard:
    """An array of another library on the card; in the simulator its memory is the host's."""

    def __init__(self, array, **changes):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3, **changes}


class WithGradients:
    """As PyTorch's tensors are that have gradients."""

    @property
    def __cuda_array_interface__(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")

    def __dlpack_device__(self):
        return (2, 0)


class Skewed:
    """An array on the card that begins 4 bytes behind a multiple of 16."""

    __cuda_ndarray__, shape, dtype = True, (12, 4), np.dtype("f4")

    @property
    def __cuda_array_interface__(self):
        return {"data": (4, False)}

    def is_c_contiguous(self):
        return True


class Lost:
    """An array of a device that has failed since."""

    __cuda_ndarray__ = True

    def copy_to_host(self):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")


def on_card(**arrays):
    """A card by the reference, and arrays on it: each a function of X."""

    def given(stage):
        stage.patch.setattr(_device, "_missing", lambda process: None)
        stage.patch.setitem(sys.modules, "fastbp.backends.cuda", SimpleNamespace(BACKEND=get_backend("reference")))
        X = np.ascontiguousarray(np.random.default_rng(0).normal(size=(12, 3)), np.float32)
        stage.names.update({name: make(X) for name, make in arrays.items()})

    return given


def _two_cards(stage):
    on_card(X_there=lambda X: SimpleNamespace(__dlpack_device__=lambda: (2, 1)))(stage)
    stage.patch.setattr(_device, "simulated", lambda: False)
    stage.patch.setattr(_device, "_target", lambda: SimpleNamespace(cuda=Card()))


def _skewed(stage):
    on_card(X_there=lambda X: Skewed())(stage)
    stage.patch.setattr(_device, "simulated", lambda: False)


def _free(megabytes):
    """The simulator, in which so much memory is free."""

    def given(stage):
        memory = lambda: (megabytes * 2**20, 2**34)  # noqa: E731
        stage.patch.setattr("fastbp.backends.cuda.device_memory", memory)

    return given


def _full(stage):
    """A card that turns out to be full when memory is asked for."""
    from fastbp.kernels.cuda import memory

    def to_device(array):
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    stage.patch.setattr(memory, "SIMULATED", False)
    stage.patch.setattr(memory, "cuda", SimpleNamespace(to_device=to_device))
    stage.names["start"] = lambda: memory.to_device(np.zeros(3))


def _no_room(stage):
    """A card on which no block of threads has room."""
    from fastbp.kernels.cuda.training import Launcher

    launcher = object.__new__(Launcher)
    launcher._spec, launcher._shared = SimpleNamespace(tile=SimpleNamespace(threads=256)), 49152
    compiled = SimpleNamespace(max_cooperative_grid_blocks=lambda threads, shared: 0)
    kernel = SimpleNamespace(specialize=lambda *arguments: SimpleNamespace(overloads={0: compiled}))
    stage.patch.setattr(Launcher, "_kernel", lambda self, what: kernel)
    stage.names["start"] = lambda: launcher._resident(())


def _small_feed(stage):
    """Room for a row and no more, beside the network."""
    from fastbp.backends._feed import Feed

    rows = np.zeros((64, 3), np.float32)
    stage.names["start"] = lambda: next(Feed(rows, 30).parts(np.arange(32), None, 32))


CUDA = 'fastbp.Trainer(model, loss="softmax_cross_entropy", backend="cuda")'
ON_CARD = f"{CUDA}.fit(X_there, labels)"
SIMULATOR = "only in Numba's simulator, which is for the tests of kernels"

SECTION = Section(
    "GPU",
    'Errors of `backend="cuda"`, of `device="cuda"` and `device="auto"`. `X_there` stands for an array on the card, of '
    "CuPy, PyTorch, Numba or another library.",
    (
        Entry(
            "The extra for GPUs is missing",
            CUDA,
            RuntimeError,
            "The compiler for GPUs is a package of its own, which fastbp does without on a CPU.",
            "Install the extra, in the environment that Python runs in.",
            given=machine(extra=f"the extra is missing: {_device._install()}"),
        ),
        Entry(
            "The driver is missing",
            CUDA,
            RuntimeError,
            "The library of NVIDIA's driver is not found. In a container it comes from outside.",
            "Install the driver, or start the container with its GPUs: `docker run --gpus all`.",
            given=machine(error="CUDA driver library cannot be found."),
        ),
        Entry(
            "No card is seen",
            CUDA,
            RuntimeError,
            "There is a driver, but it counts no card: the variable CUDA_VISIBLE_DEVICES hides it, the job was given "
            "none, or the process was forked after CUDA had started.",
            'Run `nvidia-smi`. In a pool of processes use the method "spawn", or joblib\'s loky.',
            given=machine(devices=0),
        ),
        Entry(
            "The driver is too old",
            'fastbp.MLPClassifier((4,), device="cuda").fit(X, labels)',
            RuntimeError,
            "The compiler makes code for a newer version of CUDA than the driver can load.",
            "Take one of the two ways that the message names.",
            given=machine(version=(12, 4)),
        ),
        Entry(
            "The card is too old",
            CUDA,
            RuntimeError,
            "The kernels use instructions that came with the generation named Ampere.",
            'Train with backend="cpu", or device="auto", which does so by itself.',
            given=machine(capability=(7, 5)),
        ),
        Entry(
            "A sparse X for the GPU",
            f"from scipy import sparse\n{CUDA}.fit(sparse.csr_array(X), labels)",
            ValueError,
            "The kernels for the GPU take dense matrices alone.",
            "A sparse X is trained on by the CPU. Dense, in float32, it takes 4 bytes times rows times columns.",
            given=on_card(),
        ),
        Entry(
            "A sparse X for an estimator on the GPU",
            'from scipy import sparse\nfastbp.MLPClassifier((4,), device="cuda").fit(sparse.csr_array(X), labels)',
            ValueError,
            "The kernels for the GPU take dense matrices alone.",
            'With device="auto" a sparse X is trained on by the CPU.',
            given=on_card(),
        ),
        Entry(
            "A sparse X beside one on the card",
            "from scipy import sparse\n"
            'fastbp.MLPClassifier((4,), device="cuda").fit(X_there, labels, X_val=sparse.csr_array(X), y_val=labels)',
            ValueError,
            "One of X and X_val lies on the card, and so the other has to be computed with there.",
            "Call `toarray()` on the sparse one.",
            given=on_card(X_there=OnCard),
        ),
        Entry(
            "TF32 on a CPU",
            'fastbp.MLPClassifier((4,), precision="tf32").fit(X, labels)',
            ValueError,
            "TF32 is a mode of the tensor cores of a GPU, for float32 alone.",
            'Leave precision as it is, or pass dtype="float32" and device="cuda".',
        ),
        Entry(
            "An array on the card for the CPU",
            "trainer.fit(X_there, labels)",
            TypeError,
            "The kernels of the CPU cannot read the memory of the card, and copying it unasked would be slow.",
            'Train on the card with backend="cuda", or device="cuda" of the estimators.',
            given=on_card(X_there=OnCard),
        ),
        Entry(
            "An array on another card",
            ON_CARD,
            ValueError,
            "The machine has several cards, and fastbp computes on the current one.",
            "Copy the array there, or choose the card before Python starts: `CUDA_VISIBLE_DEVICES=1`.",
            given=_two_cards,
        ),
        Entry(
            "A tensor with gradients",
            ON_CARD,
            ValueError,
            "The library that owns the array does not hand it out; PyTorch does so for tensors that have gradients.",
            "Cut the gradients off: pass `tensor.detach()`.",
            given=on_card(X_there=lambda X: WithGradients()),
        ),
        Entry(
            "An array on the card that is no matrix",
            ON_CARD,
            ValueError,
            "X has a row for each sample and a column for each feature.",
            "Reshape it on the card: `x.reshape(1, -1)` for one sample.",
            given=on_card(X_there=lambda X: OnCard(X[0])),
        ),
        Entry(
            "An array on the card with other features",
            ON_CARD,
            ValueError,
            "The array has more or fewer columns than the model has features.",
            "Select the columns on the card, and copy the result into an array of its own.",
            given=on_card(X_there=lambda X: OnCard(np.ascontiguousarray(X[:, :2]))),
        ),
        Entry(
            "An array on the card of another dtype",
            ON_CARD,
            TypeError,
            "An array on the card is not copied, so it must have the dtype of the model already.",
            'Convert it, `x.astype("float32")`, or make the model with dtype="float64".',
            given=on_card(X_there=lambda X: OnCard(X.astype(np.float64))),
        ),
        Entry(
            "A transposed array on the card",
            ON_CARD,
            ValueError,
            "The kernels read row after row, and this array is a view: a transposed matrix, or some columns of one.",
            "Copy it on the card: `cupy.ascontiguousarray(x)`, or `tensor.contiguous()`.",
            given=on_card(X_there=lambda X: OnCard(np.asfortranarray(X))),
        ),
        Entry(
            "An array on the card that contradicts itself",
            ON_CARD,
            ValueError,
            "Shape, strides, mask or address in the interface of the array cannot be true: the library that made it "
            "has an error, or has freed the memory.",
            "Copy the array by its own library, `x.copy()`, and pass the copy.",
            given=on_card(X_there=lambda X: OnCard(X, strides=(4,))),
            also=(
                Also(given=on_card(X_there=lambda X: OnCard(X, mask=X))),
                Also(given=on_card(X_there=lambda X: OnCard(X, data=(0, False)))),
            ),
        ),
        Entry(
            "An array on the card that begins in between",
            "four = fastbp.Sequential([fastbp.Dense(3)], n_features=4)\n"
            'fastbp.Trainer(four, loss="softmax_cross_entropy", backend="cuda").fit(X_there, labels)',
            ValueError,
            "The kernels load 16 bytes at once, and the array is a part of a larger one that does not begin there.",
            "Copy it: `x.copy()`, or `tensor.clone()`.",
            given=_skewed,
        ),
        Entry(
            "Targets that cannot be copied",
            f"{CUDA}.fit(X, y_there)",
            ValueError,
            "The card has failed since the array was made: an earlier kernel, perhaps of another library, has read "
            "beyond its memory.",
            "Start the process anew. If it fails again, look for the kernel with `compute-sanitizer`.",
            given=on_card(y_there=lambda X: Lost()),
        ),
        Entry(
            "Early stopping on the card without validation rows",
            'fastbp.MLPClassifier((4,), device="cuda", early_stopping=True).fit(X_there, labels)',
            ValueError,
            "Early stopping would hold out some rows, which would be a second copy of X on the card.",
            "Split the rows before, and pass both parts.",
            given=on_card(X_there=OnCard),
        ),
        Entry(
            "A network larger than the card",
            f"{CUDA}.fit(X, labels)",
            MemoryError,
            "Parameters, moments of the optimizer, and outputs and deltas of a batch are together larger than what is "
            "free on the card.",
            "The second number in the message shrinks with batch_size, the rest with the layers. "
            "`nvidia-smi` lists who else uses the card.",
            given=_free(100),
            hide=(r"(?<=needs )\d+", r"(?<=card, )\d+"),
        ),
        Entry(
            "A batch larger than what is left of the card",
            "start()",
            MemoryError,
            "The network fits on the card, but no batch of X beside it.",
            "Halve batch_size until it fits.",
            given=_small_feed,
            shown=f"{CUDA}.fit(X, labels, batch_size=32)",
        ),
        Entry(
            "A card that is full",
            "start()",
            MemoryError,
            "Something else has taken the memory since fastbp has asked how much is free.",
            "Free what your own process keeps there: arrays of CuPy, models of PyTorch.",
            given=_full,
            shown=f"{CUDA}.fit(X, labels)",
        ),
        Entry(
            "A card without room for a block",
            "start()",
            RuntimeError,
            "The card has less shared memory or fewer registers than those that fastbp was written for.",
            'Report it with the output of `fastbp.show_config()`, and train with backend="cpu" meanwhile.',
            given=_no_room,
            shown=f"{CUDA}.fit(X, labels)",
        ),
    ),
    (
        Exempt(
            "fastbp/backends/cuda.py",
            "_dense",
            "X is sparse",
            "not reachable through Trainer, Sequential and the estimators, which refuse a sparse X before",
        ),
        Exempt(
            "fastbp/backends/_targets.py",
            "check_sizes",
            "must have the shape",
            "for who opens sessions: Trainer and the estimators check the targets before",
        ),
        Exempt("kernels/cuda/memory.py", "allocated", "raise", "passes on what is no lack of memory"),
        Exempt("kernels/cuda/_simulator.py", "_Thread.syncthreads", "SystemExit", SIMULATOR),
        Exempt("kernels/cuda/_simulator.py", "_Block.run", "thread.error", SIMULATOR),
        Exempt("kernels/cuda/_simulator.py", "_Block.run", "wait at a barrier", SIMULATOR),
        Exempt("kernels/cuda/_simulator.py", "load4", "IndexError", SIMULATOR),
        Exempt("kernels/cuda/_simulator.py", "store4", "IndexError", SIMULATOR),
        Exempt("kernels/cuda/_simulator.py", "mma", "NotImplementedError", SIMULATOR),
    ),
)
