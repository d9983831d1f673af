"""Sequential: a stack of layers, its weights, and what it predicts."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from fastbp._arrays import NUMBERS, limited, readable
from fastbp._busy import SET_ELSEWHERE, refuse_elsewhere
from fastbp._descriptions import load_model, save_model
from fastbp._files import ANOTHER, as_path
from fastbp._network import Initializers, check_sparse, initial_weights, network_of
from fastbp._summary import Summary, summarize
from fastbp._validation import Array, as_random_state, check_real, flag, matrix, one_of, real_dtype, whole_number
from fastbp._words import shown
from fastbp.backends import BACKENDS, Network, as_precision, get_backend
from fastbp.layers import Layer, as_layers
from fastbp.losses import LINKS


class Sequential:
    """A multilayer perceptron: layers, each fed by the one before.

    Parameters
    ----------
    layers : sequence of Dense, Dropout, BatchNorm, LayerNorm and Residual
        In any order, at least one of them a Dense. Only the last may have the activation ``"softmax"``.
    n_features : int
        Columns of X.
    random_state : int, RandomState instance or None, default=None
        Draws the initial weights, layer after layer. An instance goes on from where it stands.
    dtype : {"float32", "float64"}, default="float32"
        Of parameters, activations and predictions.

    Attributes
    ----------
    layers : tuple of layers
    n_features, n_outputs : int
    dtype : numpy.dtype
    link : str
        What predictions go through: the last layer's activation, or the one that a loss brings (softmax, logistic or
        exp). A new model has the link of the Trainer that was made for it last, and then that of each ``fit``. Without
        a Trainer, or with one whose loss brings none, it is the last layer's activation: for ``Dense(10)`` predictions
        are then logits.

    Raises
    ------
    TypeError, ValueError
        For what is not a layer, sizes below 1 or beyond the memory of the machine, or another dtype.

    Examples
    --------
    >>> import fastbp
    >>> model = fastbp.Sequential([fastbp.Dense(3, "relu"), fastbp.Dense(2)], n_features=4, random_state=0)
    >>> [w.shape for w in model.get_weights()]
    [(4, 3), (3,), (3, 2), (2,)]
    >>> model.predict([[1.0, 2.0, 3.0, 4.0]]).shape
    (1, 2)
    """

    _trained = False  # whether a training, maybe before it was saved, has settled the link

    def __init__(
        self, layers: Sequence[Layer], *, n_features: int, random_state: Any = None, dtype: Any = "float32"
    ) -> None:
        initializers = self._describe(layers, n_features, dtype)
        self._weights = initial_weights(self._described, initializers, as_random_state(random_state))

    def _describe(self, layers: Any, n_features: Any, dtype: Any) -> list[Initializers]:
        """Set everything but the weights, checked; the initializers that these are drawn with."""
        self.layers = as_layers(layers, "layers")
        self._described, initializers = network_of(
            self.layers, whole_number(n_features, "n_features"), real_dtype(dtype)
        )
        self.link = self._described.activations[-1]
        check_size(self._described)
        return initializers

    @classmethod
    def _without_weights(cls, layers: Any, *, n_features: Any, dtype: Any, link: Any) -> Sequential:
        """A model that has no weights until ``set_weights``."""
        model = cls.__new__(cls)
        model._describe(layers, n_features, dtype)
        if link != model.link and not (model.link == "identity" and link in LINKS.values()):
            raise ValueError(
                f"link must be {model.link!r}, as the last layer's activation, got {shown(link)}. {ANOTHER}"
            )
        model.link, model._trained = link, True
        return model

    @classmethod
    def _with_weights(cls, layers: Sequence[Layer], weights: Sequence[Array], link: str | None = None) -> Sequential:
        """A model that takes over these arrays, of one dtype, instead of drawing its own."""
        model = cls.__new__(cls)
        # whatever has the first weights, they have a row or an element for each feature
        model.layers = tuple(layers)
        model._described, _ = network_of(model.layers, len(weights[0]), weights[0].dtype)
        shapes = [array.shape for array in weights]
        if shapes != model._described.shapes:  # kernels read as much as the layers say
            raise ValueError(
                f"layers need weights of the shapes {model._described.shapes}, got {shapes}: give such, or fit anew"
            )
        model.link = model._described.activations[-1] if link is None else link
        model._weights = [np.ascontiguousarray(array) for array in weights]
        return model

    def __repr__(self) -> str:
        widths = "-".join(map(str, self._network.widths))
        return f"<Sequential {widths}, {sum(w.size for w in self._weights)} parameters, {self.dtype.name}>"

    def summary(self) -> Summary:
        """What the network is made of: layers, output widths, parameters and FLOP of one sample.

        Returns
        -------
        Summary
            As a string a table; its attributes are the numbers.

        Examples
        --------
        >>> import fastbp
        >>> model = fastbp.Sequential([fastbp.Dense(128, "relu"), fastbp.Dense(10)], n_features=784, random_state=0)
        >>> print(model.summary())
        Sequential: 784 features, float32
        layer             output  parameters  FLOP forward  FLOP step
        -------------------------------------------------------------
        1 Dense relu         128     100,480       200,704    401,408
        2 Dense identity      10       1,290         2,560      7,680
        -------------------------------------------------------------
        total                        101,770       203,264    409,088
        101,770 parameters take 397.5 KiB; all are trained.
        FLOP for one sample: multiplications and additions of the matrix products alone. A step is forward, deltas and
        gradients; biases, activations, normalisation, the loss and the optimizer are not counted.
        """
        return summarize(self)

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return self._described.widths[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of parameters, activations and predictions."""
        return self._described.dtype

    @property
    def n_outputs(self) -> int:
        """Units of the last layer."""
        return self._described.widths[-1]

    @property
    def _network(self) -> Network:
        """The network as a backend sees it, with the link as its output's activation."""
        return replace(self._described, activations=(*self._described.activations[:-1], self.link))

    def get_weights(self) -> list[Array]:
        """Copies of W1, b1, W2, b2, ..., layer by layer.

        Returns
        -------
        list of ndarray
            W of shape (fan_in, fan_out), b of shape (fan_out,), of the model's dtype. A batch norm has gamma, beta and
            the running mean and variance, a layer norm gamma and beta, of shape (fan_out,) each.
        """
        return [array.copy() for array in self._weights]

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Replace all parameters.

        Parameters
        ----------
        weights : sequence of array-like
            Shaped and ordered as :meth:`get_weights` gives them.

        Raises
        ------
        TypeError, ValueError
            For another number of arrays, other shapes, or values that are not finite; the model keeps its weights.
        RuntimeError
            While another thread trains the model. In a callback of a training they may be set.
        """
        refuse_elsewhere(self, SET_ELSEWHERE)
        self._weights = self._checked_weights(weights)

    def _checked_weights(self, weights: Iterable[Any]) -> list[Array]:
        """Copies of arrays that this model could have as its weights; errors as :meth:`set_weights` has them."""
        shapes, names = self._described.shapes, self._described.names
        listed = ", ".join([*names[:4], "..."] if len(names) > 4 else names)
        given = limited(weights, f"weights must be a sequence of {len(shapes)} arrays ({listed})", most=len(shapes) + 1)
        if len(given) != len(shapes):
            raise ValueError(f"weights must be {len(shapes)} arrays ({listed}), got {len(given)}")
        new = []
        for k, (value, shape) in enumerate(zip(given, shapes, strict=True)):
            name = f"weights[{k}] ({names[k]})"
            value = readable(value, name, NUMBERS)
            try:
                check_real(np.asarray(value))
                with np.errstate(over="ignore"):
                    array = np.array(value, self.dtype, order="C")
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{name} must be an array of numbers of shape {shape}: {error}") from None
            if array.shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite in {self.dtype.name}, got NaN or infinity")
            if names[k].startswith("variance") and array.min() < 0:
                raise ValueError(f"{name} must be at least 0, got {array.min()}")
            new.append(array)
        return new

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file: its layers as a description, and its weights, in safetensors.

        Parameters
        ----------
        path : str or path-like
            By custom it ends in ``.safetensors``. What is there is replaced in one moment, by a whole file.

        Raises
        ------
        OSError
            Where it cannot be written.
        TypeError, ValueError
            For another path, a layer of a class of your own or with a function as initializer, or weights that are not
            finite.

        Examples
        --------
        >>> import os, tempfile, fastbp
        >>> model = fastbp.Sequential([fastbp.Dense(2)], n_features=3, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "model.safetensors"))
        ...     again = fastbp.load(os.path.join(folder, "model.safetensors"))
        >>> bool((again.predict([[1.0, 2.0, 3.0]]) == model.predict([[1.0, 2.0, 3.0]])).all())
        True
        """
        save_model(self, as_path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sequential:
        """A model from a file that :meth:`save` or ``Trainer.save`` wrote; nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Sequential

        Raises
        ------
        OSError
            Where it cannot be read.
        TypeError, ValueError
            For another path, or a file that is cut short, of another version, with layers that are not known, or with
            weights that are missing, too many, of another shape or dtype, or not finite.
        """
        return load_model(cls, as_path(path))

    def predict(
        self,
        X: Any,
        *,
        raw: bool = False,
        backend: str = "cpu",
        n_threads: int | None = None,
        precision: str = "float32",
    ) -> Array:
        """Outputs for X: probabilities where :attr:`link` is softmax or logistic, values elsewhere.

        The link comes from the last layer's activation or from the loss, as soon as there is a Trainer with one: before
        that the predictions of a model that ends in ``Dense(10)`` are logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            For ``backend="cuda"`` also an array on the device, as in :meth:`fastbp.Trainer.fit`.
        raw : bool, default=False
            True leaves out the link: logits, or Z of the last layer.
        backend : {"cpu", "cuda", "reference"}, default="cpu"
        n_threads : int or None, default=None
            At most so many threads; None for all usable ones. The result does not depend on it.
        precision : {"float32", "tf32"}, default="float32"
            As in :class:`fastbp.Trainer`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)

        Raises
        ------
        TypeError, ValueError
            For an X of another shape, or with values that are not finite numbers.
        RuntimeError
            For ``backend="cuda"`` where the extra, a driver or a device is missing.
        """
        backend = one_of(backend, BACKENDS, "backend")
        chosen, precision = get_backend(backend), as_precision(precision, backend, self.dtype)
        X = matrix(X, "X", dtype=self.dtype, n_columns=self.n_features, device=backend == "cuda")
        check_sparse(self._described, X, "X", backend)
        n_threads = None if n_threads is None else whole_number(n_threads, "n_threads")
        return chosen.predict(
            self._network, self._weights, X, raw=flag(raw, "raw"), n_threads=n_threads, precision=precision
        )


def load(path: str | os.PathLike[str]) -> Sequential:
    """:meth:`Sequential.load`."""
    return Sequential.load(path)


def as_sequential(model: Any) -> Sequential:
    """The model, where it is one."""
    if not isinstance(model, Sequential):
        raise TypeError(f"model must be a fastbp.Sequential, got {shown(model)}")
    return model


def check_size(network: Network) -> Network:
    """The network; a ValueError for one that this machine cannot hold."""
    n_parameters = sum(math.prod(shape) for shape in network.shapes)
    needed, memory = n_parameters * (8 + network.dtype.itemsize), sys.maxsize  # they are drawn in float64
    with suppress(AttributeError, OSError, ValueError):  # not every system tells
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"n_features and the units of layers ({'-'.join(map(str, network.widths))}) make {n_parameters:.2g} "
            f"parameters, which take {needed / 2**30:.2g} GiB; the machine has {memory / 2**30:.2g} GiB: make the "
            "layers smaller"
        )
    return network
