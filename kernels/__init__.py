"""Kernels of fastbp: arrays in, arrays out, no objects. Imported as ``fastbp.kernels``."""

if __name__ != "fastbp.kernels":
    raise ImportError("this package is part of fastbp: import it as fastbp.kernels, not as " + __name__)
