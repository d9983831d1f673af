"""Multilayer perceptrons trained by backpropagation on hand-written Numba kernels."""

from pathlib import Path

from fastbp._config import show_config

__version__ = "0.1.0"
__all__ = ["__version__", "show_config"]

if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parents[1]))  # a bare checkout: kernels/ lies beside this package
