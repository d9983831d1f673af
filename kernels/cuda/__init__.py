"""Kernels for one NVIDIA GPU, with the names of ``fastbp.kernels.cpu``: see ``step.py`` for how a step is cut up."""
