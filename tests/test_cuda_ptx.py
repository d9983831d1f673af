"""GPU kernels compiled as for a GPU, which needs none: types, registers, no local memory, no float64 for float32."""

import json
import sys

import _ptx
import pytest
from _processes import ROOT, succeed

QUICK = ("9.0 forward WIDE float32", "8.0 gradient WIDE_TENSOR tf32", "9.0 backward SMALL float64")
KINDS, TILES = ("forward", "backward", "gradient"), ("SMALL", "MEDIUM", "WIDE")
SLOW = [
    f"{kind} {tile if precision != 'tf32' else tile.replace('WIDE', 'WIDE_TENSOR')} {precision}"
    for kind in KINDS
    for tile in TILES
    for precision in ("float32", "float64", "tf32")
    if precision != "float64" or tile != "WIDE"
]


def product_kernel(kind, tile, real, precision):
    """(kernel, types of its arguments): all tiles of C = a product."""
    from numba import types

    from fastbp.kernels.cuda._target import cuda, inlined, kernel
    from fastbp.kernels.cuda.gemm import product_of

    @inlined
    def leave(i, j, value, context):
        C, ldc = context
        C[i * ldc + j] = value

    product, rows, columns = product_of(kind, tile, real, precision, leave), tile.rows, tile.columns

    @kernel
    def run(C, ldc, A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end):
        high = (m + rows - 1) // rows
        for unit in range(cuda.blockIdx.x, high * ((n + columns - 1) // columns), cuda.gridDim.x):
            row, column = unit % high * rows, unit // high * columns
            product(A, a, lda, index, first, gathered, B, b, ldb, m, n, start, end, row, column, (C, ldc))

    array, integers = types.Array(getattr(types, real), 1, "C"), types.Array(types.int64, 1, "C")
    i = types.int64
    return run, (array, i, array, i, i, integers, i, i, array, i, i, i, i, i, i)


def compiled(name):
    """What a test looks at, of one kernel."""
    from fastbp.kernels.cuda import gemm

    number, kind, tile, precision = name.split()
    capability = tuple(map(int, number.split(".")))
    tile, real = getattr(gemm, tile), "float64" if precision == "float64" else "float32"
    ptx = _ptx.to_ptx(*product_kernel(kind, tile, real, precision), capability)
    assembled = _ptx.assemble(ptx, capability)
    size = gemm.shared_size(tile) * (8 if real == "float64" else 4)
    return {"ptx": ptx, "assembled": assembled, "shared": size, "threads": tile.threads}


def check(name, found):
    """One kernel's code."""
    ptx, precision = found["ptx"], name.split()[-1]
    assert ".local" not in ptx  # an array that has not found its place in registers
    assert (".f64" in ptx) == (precision == "float64")
    assert ".extern .shared .align 16" in ptx
    assert found["shared"] <= 48 * 1024  # what a launch may ask for without a word to the driver
    assert ("mma.sync" in ptx) == (precision == "tf32")
    if precision != "float64":
        assert "ld.global.v4.f32" in ptx
    if precision == "float32":
        assert "ld.shared.v4.f32" in ptx
    if found["assembled"] is not None:
        registers, spilled, code = found["assembled"]
        assert spilled == 0
        assert registers * found["threads"] <= 65536
        if code and precision == "float32":
            assert "LDS.128" in code
            assert "LDG.E.128" in code


def compile_in_a_process(names, file=__file__):
    """Code of each kernel, by its name; skips the test where there is no compiler for GPUs."""
    done = succeed(file, *names, path=(ROOT, ROOT / "tests"), NUMBA_ENABLE_CUDASIM=None)
    found = json.loads(done.stdout)
    if "missing" in found:
        pytest.skip(found["missing"])
    assert sorted(found) == sorted(names)
    return found


def test_products_of_tiles():
    for name, found in compile_in_a_process(QUICK).items():
        check(name, found)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["8.0", "9.0"])
def test_products_of_all_tiles(capability):
    for name, found in compile_in_a_process([f"{capability} {name}" for name in SLOW]).items():
        check(name, found)


def main(names):
    """The process that compiles."""
    missing = _ptx.missing()
    found = {"missing": missing} if missing else {name: compiled(name) for name in names}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
