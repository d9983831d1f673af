"""NumPy twins of the compiled kernels: the same names, the same order of arguments, written as the formulas."""
