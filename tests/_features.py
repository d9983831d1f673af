"""One compilation for all networks that need more than a plain one, instead of one for each set of features."""

from fastbp.kernels import layout, planning

# What is clipped is stored before it is applied: the compiler is told of an update that goes another way.
TOGETHER = set(layout.FEATURES) - {"clipping"}


def together(features):
    """``layout.marker``, for a network that needs any of the features told of all that compile together."""
    return layout.marker(TOGETHER | set(features) if features else ())


def compile_together(patch):
    """Patch the plans of networks: ``patch(target, name, value)``, as pytest's monkeypatch has it.

    The code is that of each feature, chosen among more by what stands in the plan.
    """
    patch(planning, "marker", together)


def compile_as_used(patch):
    """The opposite."""
    patch(planning, "marker", layout.marker)
