"""Matrix products against their twins and against exact sums, and what they read and write."""

import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from _kernels import DTYPES, SENTINEL, ULPS, few, lanes, panelled, panels_of, seeds, sizes, surrounded
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import layout, reference
from fastbp.kernels.cpu import _jit, gemm, simd
from fastbp.kernels.reference import gemm as twins

NO_FLOOR = -np.inf


def product(rng, dtype, m, n, K, whole):
    """Operands of C = init + A[index] B; small whole numbers, whose sums are exact, or real ones."""
    draw = (lambda *shape: rng.integers(-4, 5, shape)) if whole else (lambda *shape: rng.normal(size=shape))
    lda, n_rows = K + int(rng.integers(0, 4)), m + 3
    A = np.full((n_rows, lda), np.nan)
    A[:, :K] = draw(n_rows, K)
    index = rng.integers(0, n_rows, m).astype(np.intp)
    B, init = draw(K, n), np.zeros(panelled(n, dtype))
    init[:n] = draw(n)
    return A.astype(dtype), index, B.astype(dtype), init.astype(dtype)


def call_gemm(A, index, B, init, dtype, floor, ldc, panel_rows=None):
    """C of the compiled kernel and of its twin, each with its surroundings, on the same operands."""
    m, (K, n) = len(index), B.shape
    panels, floor = panels_of(B, dtype, panel_rows), dtype(floor)
    operands = [A.reshape(-1), index, panels, init]
    before = [array.copy() for array in operands]
    (whole, C), (twin_whole, twin_C) = (surrounded(m * ldc, dtype) for _ in range(2))
    rows = K if panel_rows is None else panel_rows
    gemm.gemm(C, ldc, operands[0], A.shape[1], index, panels, rows, init, 0, floor, m, n, K)
    for array, old in zip(operands, before, strict=True):
        np.testing.assert_array_equal(array, old)
    twins.gemm(
        twin_C, ldc, operands[0], A.shape[1], index, panels, rows, init, 0, floor, m, n, K, lanes=lanes(dtype)
    )  # fmt: skip
    return whole, twin_whole, C.reshape(m, ldc)[:, :n]


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(60)
def test_gemm_adds_to_what_is_there(dtype, data):
    m, n, K = (data.draw(sizes(dtype), name) for name in "mnK")
    A, index, B, _ = product(np.random.default_rng(data.draw(seeds())), dtype, m, n, K, whole=True)
    ld, floor = panelled(n, dtype) + data.draw(st.integers(0, 5), "spare"), dtype(NO_FLOOR)
    C = np.arange(m * ld, dtype=dtype)
    twin, before = C.copy(), C.reshape(m, ld)[:, :n].copy()
    operands = A.reshape(-1), A.shape[1], index, panels_of(B, dtype), K
    gemm.gemm(C, ld, *operands, C, ld, floor, m, n, K)
    twins.gemm(twin, ld, *operands, twin, ld, floor, m, n, K, lanes=lanes(dtype))
    np.testing.assert_array_equal(C.reshape(m, ld)[:, :n], before + A[index, :K] @ B)
    np.testing.assert_array_equal(C, twin)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(120)
def test_gemm_is_exact_on_whole_numbers(dtype, data):
    m, n, K = (data.draw(sizes(dtype), name) for name in "mnK")
    relu, spare = data.draw(st.booleans(), "relu"), data.draw(st.integers(0, 5), "spare")
    A, index, B, init = product(np.random.default_rng(data.draw(seeds())), dtype, m, n, K, whole=True)
    floor = 0 if relu else NO_FLOOR
    whole, twin, C = call_gemm(A, index, B, init, dtype, floor, panelled(n, dtype) + spare, K + spare)
    np.testing.assert_array_equal(C, np.maximum(init[:n] + A[index, :K] @ B, floor))
    np.testing.assert_array_equal(whole, twin)  # padding, sentinels between the rows and around them


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(30)
def test_gemm_agrees_with_its_twin(dtype, data):
    m, n, K = (data.draw(sizes(dtype), name) for name in "mnK")
    A, index, B, init = product(np.random.default_rng(data.draw(seeds())), dtype, m, n, K, whole=False)
    whole, twin, _ = call_gemm(A, index, B, init, dtype, NO_FLOOR, panelled(n, dtype))
    # K roundings, each of at most half a unit in the last place of the sum of magnitudes
    bound = (K + 1) * ULPS[dtype] * (np.abs(A[index, :K]).astype(float) @ np.abs(B) + np.abs(init[:n])).max()
    np.testing.assert_allclose(whole, twin, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(15)
def test_gemm_sums_each_element_in_one_order(dtype, data):
    m, n, K = (data.draw(sizes(dtype), name) for name in "mnK")
    A, index, B, init = product(np.random.default_rng(data.draw(seeds())), dtype, m, n, K, whole=False)
    _, _, together = call_gemm(A, index, B, init, dtype, NO_FLOOR, panelled(n, dtype))
    for i in range(m):  # row by row the small micro-kernel does it, column by column the narrow panel
        _, _, alone = call_gemm(A, index[i : i + 1], B, init, dtype, NO_FLOOR, panelled(n, dtype))
        np.testing.assert_array_equal(alone, together[i : i + 1])
    j = n - 1
    start = np.zeros(lanes(dtype), dtype)
    start[0] = init[j]
    _, _, alone = call_gemm(A, index, B[:, j:], start, dtype, NO_FLOOR, lanes(dtype))
    np.testing.assert_array_equal(alone, together[:, j:])


@pytest.mark.skipif(not _jit.HAS_FMA, reason="needs a CPU with fused multiply-add")
def test_gemm_fuses_multiply_and_add():
    x = np.float64(1 + 2.0**-30)  # x * x needs 61 bits: rounded before the addition, the last one would be lost
    A, B, init = np.array([[x]]), np.array([[x]]), np.zeros(lanes(np.float64))
    init[0] = -1 - 2.0**-29
    _, _, C = call_gemm(A, np.zeros(1, np.intp), B, init, np.float64, NO_FLOOR, lanes(np.float64))
    assert C[0, 0] == 2.0**-60


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gemm_keeps_what_is_not_finite(dtype, bad):
    panel = simd.NV * lanes(dtype)
    m, n, K = 2 * simd.MR + 5, panel + 1, 7
    rng = np.random.default_rng(0)
    for row, column in [(0, 0), (simd.MR + 1, panel - 1), (m - 1, n - 1)]:  # in the vector body, and in each tail
        A, _, B, init = product(rng, dtype, m, n, K, whole=True)
        A[:, :K], B[:] = np.abs(A[:, :K]) + 1, np.abs(B) + 1
        index = np.arange(m)
        A[row, 3] = bad
        for floor in (0, NO_FLOOR):
            whole, twin, C = call_gemm(A, index, B, init, dtype, floor, panelled(n, dtype))
            np.testing.assert_array_equal(whole, twin)
            want = 0 if bad == -np.inf and floor == 0 else bad
            np.testing.assert_array_equal(C[row], np.full(n, want, dtype))
            assert np.isfinite(np.delete(C, row, axis=0)).all()
        A[row, 3] = 1
        B[3, column] = bad
        _, _, C = call_gemm(A, index, B, init, dtype, 0, panelled(n, dtype))
        np.testing.assert_array_equal(C[:, column], np.full(m, 0 if bad == -np.inf else bad, dtype))
        assert np.isfinite(np.delete(C, column, axis=1)).all()


def call_gemm_transposed(A, index, D, width, dtype, m, shift=0):
    """The tile of the compiled kernel and of its twin, each with its surroundings."""
    K, ldd = D.shape
    zeros = np.zeros(width, dtype)
    (whole, G), (twin_whole, twin_G) = (surrounded(m * width, dtype) for _ in range(2))
    lda = A.shape[1] if A.shape[0] > 1 else 0
    index = None if index is None else layout.with_next(index)
    rest = (A.reshape(-1)[shift:], lda, index, D.reshape(-1), ldd, width, zeros, dtype(NO_FLOOR), m, K)
    gemm.gemm_transposed(G, *rest)
    twins.gemm_transposed(twin_G, *rest)
    return whole, twin_whole, G.reshape(m, width)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(100)
def test_weight_gradient_is_exact_on_whole_numbers(dtype, data):
    m, K = data.draw(sizes(dtype, 40), "m"), data.draw(sizes(dtype), "K")
    width, shift = lanes(dtype) * data.draw(st.sampled_from([1, simd.NV]), "vectors"), data.draw(st.integers(0, 4))
    rng = np.random.default_rng(data.draw(seeds()))
    A = rng.integers(-4, 5, (K + 3, m + shift + 2)).astype(dtype)
    D = rng.integers(-4, 5, (K, width + 2 * int(rng.integers(0, 3)))).astype(dtype)
    index = rng.integers(0, K + 3, K).astype(np.intp) if data.draw(st.booleans(), "indexed") else None
    whole, twin, G = call_gemm_transposed(A, index, D, width, dtype, m, shift)
    index = np.arange(K) if index is None else index
    np.testing.assert_array_equal(G, A[index, shift : shift + m].T @ D[:, :width])
    np.testing.assert_array_equal(whole, twin)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(20)
def test_weight_gradient_agrees_with_its_twin(dtype, data):
    m, K = data.draw(sizes(dtype, 40), "m"), data.draw(sizes(dtype), "K")
    width = lanes(dtype) * data.draw(st.sampled_from([1, simd.NV]), "vectors")
    rng = np.random.default_rng(data.draw(seeds()))
    A, D = rng.normal(size=(K, m)).astype(dtype), rng.normal(size=(K, width)).astype(dtype)
    if K == 1:
        A = np.concatenate([A, A])
    whole, twin, G = call_gemm_transposed(A, np.arange(K), D, width, dtype, m)
    np.testing.assert_array_equal(G, call_gemm_transposed(A, None, D, width, dtype, m)[2])
    bound = (K + 1) * ULPS[dtype] * (np.abs(A[:K]).astype(float).T @ np.abs(D)).max()
    np.testing.assert_allclose(whole, twin, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.data())
@few(30)
def test_bias_gradient_is_the_sum_of_the_deltas(dtype, data):
    K, width = data.draw(sizes(dtype), "K"), lanes(dtype) * data.draw(st.integers(1, 9), "vectors")
    D = np.random.default_rng(data.draw(seeds())).integers(-9, 10, (K, width + 3)).astype(dtype)
    (whole, g), (twin_whole, twin) = (surrounded(width, dtype) for _ in range(2))
    gemm.column_sums(g, D.reshape(-1), width + 3, width, K)
    twins.column_sums(twin, D.reshape(-1), width + 3, width, K)
    np.testing.assert_array_equal(g, D[:, :width].sum(axis=0))
    np.testing.assert_array_equal(whole, twin_whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [0, 4, 6])
def test_bias_gradient_keeps_what_is_not_finite(dtype, row):
    D = np.ones((7, 16), dtype)
    D[row, 3], D[row, 15] = np.nan, np.inf
    g = np.zeros(16, dtype)
    gemm.column_sums(g, D.reshape(-1), 16, 16, 7)
    np.testing.assert_array_equal(g, D.sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", [0, simd.MR + 1, 2 * simd.MR + 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weight_gradient_keeps_what_is_not_finite(dtype, row, bad):
    m, K, width = 2 * simd.MR + 5, 6, simd.NV * lanes(dtype)
    A, D = np.ones((K, m), dtype), np.ones((K, width), dtype)
    A[K - 1, row] = bad
    _, _, G = call_gemm_transposed(A, np.arange(K), D, width, dtype, m)
    np.testing.assert_array_equal(G[row], np.full(width, bad, dtype))
    assert (np.delete(G, row, axis=0) == K).all()


def micro(kernel):
    """A micro-kernel as Python can call it."""

    def call(C, ldc, A, lda, index, B, ldb, init, ld_init, floor, K):
        kernel(C, ldc, A, lda, index, B, ldb, init, ld_init, floor, K)

    return numba.njit(**_jit.OPTIONS)(call)


@pytest.mark.parametrize("gather", ["rows", "steps", "steps in order"])
@pytest.mark.parametrize("height", simd.HEIGHTS)
@pytest.mark.parametrize("vectors", [1, simd.NV])
def test_micro_kernel_goes_on_with_a_sum(gather, height, vectors):
    kernels = simd.rows_kernels if gather == "rows" else simd.steps_kernels
    kernel = micro(kernels[vectors - 1][simd.HEIGHTS.index(height)])
    dtype, K, rng = np.float32, 5, np.random.default_rng(0)
    width, lda = vectors * lanes(dtype), 11
    ldc = width + 3
    A, B = rng.integers(-4, 5, (height + K, lda)).astype(dtype), rng.integers(-4, 5, (K, width + 1)).astype(dtype)
    index = rng.permutation(height + K)[: height if gather == "rows" else K].astype(np.intp)
    entries = index if gather == "rows" else layout.with_next(index)
    if gather == "steps in order":
        index, entries = np.arange(K), None
    whole, C = surrounded((height - 1) * ldc + width, dtype)  # ends with the last vector of the last row
    before = rng.integers(-40, 41, (height, width)).astype(dtype)
    rows = reference._views.rows(C, ldc, height, width)
    rows[:] = before
    untouched = whole.copy()
    kernel(C, ldc, A.reshape(-1), lda, entries, B.reshape(-1), width + 1, C, ldc, dtype(-10), K)
    dense = A[index, :K] if gather == "rows" else A[index, :height].T
    want = np.maximum(before + dense @ B[:, :width], -10)
    np.testing.assert_array_equal(rows, want)
    rows[:] = before
    np.testing.assert_array_equal(whole, untouched)
    assert (whole == SENTINEL).sum() >= 128 + 3 * (height - 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs mmap and mprotect")
def test_nothing_outside_an_array_is_touched():
    """In a process of its own: reading one element too far is a fault."""
    script = Path(__file__).with_name("_guard.py")
    done = subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines()[-1] == "nothing outside was touched"


@pytest.mark.skipif(sys.platform == "win32", reason="needs mmap and mprotect")
@pytest.mark.parametrize("where", ["after", "before"])
def test_the_guard_is_seen(where):
    script = Path(__file__).with_name("_guard.py")
    done = subprocess.run([sys.executable, str(script), where], capture_output=True, text=True, timeout=600)
    assert done.returncode < 0, done.stdout  # killed by a signal
