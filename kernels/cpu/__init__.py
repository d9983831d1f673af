"""CPU kernels, compiled by Numba; each has its NumPy twin of the same name in ``fastbp.kernels.reference``."""
