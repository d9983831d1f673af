"""Who is measured: one module a library, each run as a process of its own (see :mod:`benchmarks.peers._worker`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """How a library is started and what it is called.

    Parameters
    ----------
    module : str
    label : str
        In tables.
    arguments : tuple of str
        Choose the variant where a module has several.
    needs_probe : bool
        Whether it runs only where ``--probe`` gives a path.
    estimator : bool
        Whether it has scikit-learn's interface, which takes a sparse X.
    predicts : bool
        Whether its predictions can be timed.
    features : bool
        Whether it knows the layers of the suite ``features``.
    """

    module: str
    label: str
    arguments: tuple[str, ...] = ()
    needs_probe: bool = False
    estimator: bool = False
    predicts: bool = False
    features: bool = False


BASELINE = "fastbp"
PEERS = {
    "fastbp": Peer("benchmarks.peers.fastbp_", "fastbp", estimator=True, predicts=True, features=True),
    "fastbp-alpha": Peer("benchmarks.peers.fastbp_", "fastbp, alpha=1e-4", ("--variant", "alpha")),
    "fastbp-float64": Peer("benchmarks.peers.fastbp_", "fastbp, float64", ("--dtype", "float64")),
    "sklearn": Peer("benchmarks.peers.sklearn_", "scikit-learn", estimator=True, predicts=True),
    "torch": Peer("benchmarks.peers.torch_", "PyTorch", predicts=True, features=True),
    "torch-compile": Peer(
        "benchmarks.peers.torch_", "PyTorch, compiled", ("--variant", "compile"), predicts=True, features=True
    ),
    "jax": Peer("benchmarks.peers.jax_", "JAX", predicts=True),
    "reference": Peer("benchmarks.peers.fastbp_", "NumPy reference", ("--variant", "reference"), features=True),
    # neighbours, so that a round times one right after the other
    "fastbp-trainer": Peer("benchmarks.peers.fastbp_", "fastbp Trainer", ("--variant", "trainer"), features=True),
    "fastbp-plain": Peer("benchmarks.peers.fastbp_", "without it", ("--variant", "plain"), features=True),
    "probe": Peer("benchmarks.peers.probe_", "probe", needs_probe=True),
}
