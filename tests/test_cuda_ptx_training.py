"""Whole training kernels compiled as for a GPU: what a network is compiled to, with nothing in it by accident.

Each process compiles for one compute capability: functions of kernels are kept from one kernel to the next.
"""

import json
import re
import sys

import _ptx
import pytest
from _cuda_networks import CASES
from test_cuda_ptx import compile_in_a_process

IMAGES = [f"images {batch} float32" for batch in (64, 256, 1024)]
WIDE = [f"wide 4096 {precision}" for precision in ("float32", "tf32")]
QUICK = ["9.0 train images 64 float32"]
OTHER_MODES = [f"{mode} norms 7 float32" for mode in ("gradient", "given", "predict", "evaluate")]
SLOW = [f"train {rest}" for rest in (*IMAGES, *WIDE, "images 64 float64", "images 1024 tf32")] + OTHER_MODES
EACH_CASE = [f"train {name.replace(' ', '_')} 7" for name in CASES]


def network_of(name, mode, batch, precision):
    """(Program, Spec, names of the phases) of a network on a card with 132 multiprocessors."""
    import numpy as np
    from _cuda_networks import prepared

    from fastbp.backends._optimizers import described
    from fastbp.backends._targets import loss_codes
    from fastbp.kernels import layout
    from fastbp.kernels.cuda.planning import program

    real = "float64" if precision == "float64" else "float32"
    common = {"dtype": np.dtype(real), "batch": batch, "processors": 132}
    common |= {"precision": "tf32" if precision == "tf32" else "float32", "mode": mode}
    if name in ("images", "wide"):
        codes = {"loss": layout.SOFTMAX_CROSS_ENTROPY, "optimizer": layout.ADAM, "n_moments": 2}
        widths, hidden = ((784, 128, 10), 1) if name == "images" else ((4096,) * 4, 2)
        return program(widths, ("relu",) * hidden + ("identity",), **common, **codes)[:2]
    trainer, data, network = prepared(name.replace("_", " "), real)
    numbers = described(trainer.optimizer)
    codes = loss_codes(trainer.loss, network.activations[-1], data[1])
    if mode == "gradient":
        common["mode"], options = "train", {"optimizer": layout.GRADIENT, "n_moments": 1}
    elif mode in ("predict", "evaluate"):
        options = {}
    else:
        common["mode"], reports = "train", numbers.codes["convention"] == layout.SCIKIT_LEARN and mode == "train"
        options = numbers.codes | {"clipping": numbers.clipping, "reports": reports, "given": mode == "given"}
    return program(network.widths, network.activations, operations=network.operations, **common, **codes, **options)[:2]


def types_of(real):
    """Of the arguments of a training kernel."""
    from numba import types

    from fastbp.kernels import layout
    from fastbp.kernels.cuda.layout import Program
    from fastbp.kernels.cuda.training import Store

    def array(kind, n_dims=1):
        return types.Array(kind, n_dims, "C")

    i, r, d = types.int64, getattr(types, real), types.float64
    tables = [array(i, 2)] * 5
    return (
        types.NamedTuple([array(i), *tables, array(r)], Program),
        types.NamedTuple([array(r), array(r), array(r), array(d)], layout.Buffers),
        types.NamedTuple([array(r), array(d), array(d), array(i)], Store),
        array(r),
        types.NamedTuple([array(i), array(r), array(r), array(i), array(r)], layout.Targets),
        array(i), array(i), array(r),
    ), (array(r), array(d)), (i,) * 8  # fmt: skip


def compiled(name):
    """What a test looks at: of each kernel of a network its code, and what it is made of."""
    from fastbp.kernels.cuda import gemm
    from fastbp.kernels.cuda.layout import BACKWARD, COLUMNS, COLUMNS_BACK, ELEMENTS, FORWARD, ROWS, SQUARES, UPDATE
    from fastbp.kernels.cuda.training import steps_kernel

    number, mode, network, batch, precision = name.split()
    capability = tuple(map(int, number.split(".")))
    host, spec = network_of(network, mode, int(batch), precision)
    arrays, (reals, doubles), scalars = types_of(spec.real)
    names = {
        FORWARD: "forward", ROWS: "rows", COLUMNS: "columns", COLUMNS_BACK: "columns back", BACKWARD: "backward",
        UPDATE: "update", SQUARES: "squares", ELEMENTS: "elements",
    }  # fmt: skip
    kernels = {}
    for what in sorted(spec.phases) if spec.launched else [-1]:
        own = spec if what < 0 else spec._replace(phases=frozenset([what]))
        kernel = steps_kernel(own)
        out = reals if spec.mode == "predict" else doubles
        bounds = (spec.tile.threads, 2) if spec.launched else None
        ptx = _ptx.to_ptx(kernel, (*arrays, out, *scalars), capability, launch_bounds=bounds)
        kernels[names.get(what, "all")] = {"ptx": ptx, "assembled": _ptx.assemble(ptx, capability)}
    tiles = {getattr(gemm, tile): tile for tile in ("SMALL", "MEDIUM", "WIDE", "WIDE_TENSOR")}
    return {
        "kernels": kernels, "phases": [names[phase] for phase in host.phases[:, 0].tolist()], "tile": tiles[spec.tile],
        "threads": spec.tile.threads, "shared": gemm.shared_size(spec.tile) * (8 if spec.real == "float64" else 4),
    }  # fmt: skip


def check(name, found):
    """The code of each kernel of a network."""
    precision = name.split()[-1]
    for what, kernel in found["kernels"].items():
        ptx = kernel["ptx"]
        assert ".local" not in ptx, what  # an array that has not found its place in registers
        assert not re.search(r"\bcall\b", ptx), what
        assert "ld.global.nc" not in ptx, what  # other blocks write what a block reads
        assert ("mma.sync" in ptx) == (precision == "tf32" and what != "rows"), what
        if what in ("forward", "backward"):
            assert ".f64" not in ptx, what
        if what == "all" and "train images" in name and precision != "float64":
            assert not re.search(r"(fma|div|sqrt)\S*\.f64", ptx)  # only the rows' losses are added up in float64
        static = sum(map(int, re.findall(r"^\.visible \.shared .*\[(\d+)\];$", ptx, re.MULTILINE)))
        assert (static > 0) == (what == "all")  # short tables
        assert found["shared"] + static <= 48 * 1024, what  # what a launch has without a word to the driver
        if kernel["assembled"] is not None:
            registers, spilled, _ = kernel["assembled"]
            assert registers * found["threads"] <= 65536
            if what == "all":
                assert spilled <= (256 if precision == "float64" else 0)


def test_training_kernels():
    found = compile_in_a_process(QUICK, __file__)
    for name in QUICK:
        check(name, found[name])
    assert found[QUICK[0]]["phases"] == ["forward", "rows", "update"]  # three meetings a step
    assert "ld.acquire.gpu" in found[QUICK[0]]["kernels"]["all"]["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["8.0", "9.0"])
def test_all_training_kernels(capability):
    found = compile_in_a_process([f"{capability} {name}" for name in SLOW], __file__)
    for name in found:
        check(name, found[name])

    def of(name):
        return found[f"{capability} {name}"]

    assert [of(f"train images {batch} float32")["tile"] for batch in (64, 256, 1024)] == ["SMALL", "SMALL", "MEDIUM"]
    assert of("train images 1024 float32")["phases"] == ["forward", "rows", "update", "elements"]
    wide = of("train wide 4096 float32")
    assert wide["tile"] == "WIDE" and sorted(wide["kernels"]) == ["backward", "forward", "rows", "update"]
    assert wide["phases"] == [*["forward"] * 3, "rows", *["backward"] * 2, "update"]
    assert of("train wide 4096 tf32")["tile"] == "WIDE_TENSOR"


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "real"), [("8.0", "float32"), ("9.0", "float32"), ("9.0", "float64")])
def test_each_network_of_the_tests(capability, real):
    for name, found in compile_in_a_process([f"{capability} {name} {real}" for name in EACH_CASE], __file__).items():
        check(name, found)


def counts(names):
    """Registers, spills and the instructions of the loops of each kernel; the last need ``nvidia-cuda-nvdisasm``."""
    for name in names:
        for what, kernel in compiled(name)["kernels"].items():
            registers, spilled, code = kernel["assembled"]
            print(f"{name}, {what}: {registers} registers, {spilled} bytes of stack and spills")
            for loop in _ptx.loops(code):
                print("   ", {key: loop[key] for key in ("all", "FFMA", "HMMA", "LDS", "LDG", "LDL") if key in loop})


if __name__ == "__main__":
    if sys.argv[1] == "counts":
        sys.exit(counts(sys.argv[2:]))
    missing = _ptx.missing()
    print(json.dumps({"missing": missing} if missing else {name: compiled(name) for name in sys.argv[1:]}))
