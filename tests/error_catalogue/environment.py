"""Errors of the installation: variables of the environment, and how the package is imported."""

import runpy

from fastbp import kernels
from fastbp.kernels.cpu import _jit

from ._entry import Entry, Exempt, Section


def _vector_bits(value):
    """The variable is set, on a CPU with vectors of 256 bits."""

    def given(stage):
        stage.patch.setenv("FASTBP_VECTOR_BITS", value)
        stage.patch.setattr(_jit, "_target", lambda: (256, True))
        stage.names["start"] = _jit._vector_bits

    return given


def _imported_alone(stage):
    stage.names["start"] = lambda: runpy.run_path(kernels.__file__, run_name="kernels")


KERNELS = "only for those who write kernels"

SECTION = Section(
    "Installation",
    "Errors that come when fastbp is imported.",
    (
        Entry(
            "A width of vectors that does not exist",
            "start()",
            ValueError,
            "The variable FASTBP_VECTOR_BITS holds something else than a width.",
            "Unset it: the widest vectors of the CPU are the fastest, with the same results.",
            given=_vector_bits("64"),
            shown='$ FASTBP_VECTOR_BITS=64 python -c "import fastbp"',
        ),
        Entry(
            "Vectors that the CPU does not have",
            "start()",
            ValueError,
            "The variable FASTBP_VECTOR_BITS asks for wider vectors than those of this CPU; it was probably set for "
            "another machine.",
            "Unset it, in the profile of the shell or in the job.",
            given=_vector_bits("512"),
            shown='$ FASTBP_VECTOR_BITS=512 python -c "import fastbp"',
            hide=(r"(?<=compiles for it: )[\w.-]+",),
        ),
        Entry(
            "The kernels under another name",
            "start()",
            ImportError,
            "The root of a checkout is on the path, and its folder kernels was found as a package of its own.",
            "Import it as what it is: `from fastbp import kernels`.",
            given=_imported_alone,
            shown="import kernels",
        ),
    ),
    (
        Exempt("kernels/cpu/_jit.py", "by_dtype.stub", "NotImplementedError", KERNELS),
        Exempt("kernels/cpu/_jit.py", "by_type.stub", "NotImplementedError", KERNELS),
        Exempt("kernels/cpu/simd.py", "_element", "float32 or float64", KERNELS),
        Exempt("kernels/layout.py", "marker", "features must be", KERNELS),
        Exempt("kernels/reference/_views.py", "rows", "IndexError", KERNELS),
    ),
)
