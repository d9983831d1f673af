"""NumPy twins of the compiled kernels: the same names, the same order of arguments, written as the formulas.

Read ``step.py`` first: it is backpropagation from top to bottom, and everything else is what it calls. The arrays are
those of the compiled kernels, flat buffers that ``fastbp.kernels.layout`` describes; ``_views.py`` shows them as
matrices. Where a compiled kernel knows the width of its vectors, its twin takes a keyword ``lanes``; without it a
matrix is one panel.
"""
