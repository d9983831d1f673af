"""What the tests of the kernels share: sizes around the micro-kernel's, arrays with sentinels, small networks."""

import itertools

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from fastbp.kernels import layout, packing, planning
from fastbp.kernels.cpu import simd
from fastbp.kernels.csr import csr

DTYPES = [np.float32, np.float64]
SENTINEL = 12345.0
ULPS = {np.float32: 2.0**-23, np.float64: 2.0**-52}


def few(n_examples):
    """The same examples in every run, without a time limit: the first one compiles."""
    return settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)


def lanes(dtype):
    return simd.lanes(np.dtype(dtype).itemsize)


def sizes(dtype, most=75):
    """Sizes at which a matrix product takes another path, and some odd ones."""
    panel = simd.NV * lanes(dtype)
    edges = {1, 2, 3, 4, 5, simd.MR - 1, simd.MR, simd.MR + 1, 2 * simd.MR + 5, lanes(dtype), lanes(dtype) + 1}
    edges |= {panel - 1, panel, panel + 1, 2 * panel + 3, 15, 16, 17, 29, 61}
    return st.sampled_from(sorted(n for n in edges if n <= most))


def seeds():
    return st.integers(0, 2**32 - 1)


def surrounded(size, dtype, margin=64):
    """An array full of the sentinel, and its ``size`` elements in the middle."""
    whole = np.full(size + 2 * margin, SENTINEL, dtype)
    return whole, whole[margin : margin + size]


def panels_of(B, dtype, panel_rows=None):
    """A matrix as kernels read it: panel after panel; rows that must not be read hold NaN."""
    K, n = B.shape
    panel_rows = K if panel_rows is None else panel_rows
    width = simd.NV * lanes(dtype)
    parts = []
    for j in range(0, n, width):
        columns = B[:, j : j + width]
        panel = np.full((panel_rows, width if n - j > lanes(dtype) else lanes(dtype)), np.nan, dtype)
        panel[:K] = 0
        panel[:K, : columns.shape[1]] = columns
        parts.append(panel.reshape(-1))
    return np.concatenate(parts)


def panelled(n, dtype):
    """Columns that the panels of a matrix with n columns have."""
    return layout.padded(n, lanes(dtype))


def assert_close(got, want, tolerance, where=""):
    """Agreement by array: max |got - want| <= tolerance max |want|; NaN and infinities in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    odd = ~np.isfinite(want)
    np.testing.assert_array_equal(got[odd], want[odd], err_msg=where)
    assert np.isfinite(got[~odd]).all(), where
    error, scale = np.abs(got[~odd] - want[~odd]).max(initial=0), np.abs(want[~odd]).max(initial=0)
    assert error <= tolerance * scale, f"{where}: {error:.3g} of {scale:.3g}"


class Net:
    """A network with everything that the kernels of a step read.

    With ``density``, X has so large a share of non-zeros and is in compressed rows; ``dense_X`` is the same, dense.
    """

    def __init__(
        self, widths, activations, dtype, *, batch, n_rows, loss, n_threads=1, owners=False, weighted=False, seed=0,
        hyper=(0.9, 0.99, 1e-8, 0.0), density=None, gathered=False, shard=0, blocks=(), **codes,
    ):  # fmt: skip
        rng = np.random.default_rng(seed)
        self.widths, self.dtype, self.batch, self.lanes = widths, np.dtype(dtype), batch, lanes(dtype)
        codes |= {"loss": layout.LOSSES[loss], "n_blocks": len(blocks)}
        self.plan, work_size = planning.plan(
            widths, activations, dtype=dtype, lanes=self.lanes, batch=batch, n_threads=n_threads, owners=owners,
            density=density, gathered=gathered, shard=shard, **codes,
        )  # fmt: skip
        size = int(self.plan.header[layout.N_PARAMETERS])
        self.buffers = layout.Buffers(
            layout.aligned_zeros(size, dtype),
            layout.aligned_zeros(max(2, int(self.plan.header[layout.N_MOMENTS])) * size, dtype),
            layout.aligned_zeros(work_size, dtype),
            np.zeros(len(self.plan.rows)),
        )
        arrays = []
        for fan_in, fan_out in itertools.pairwise(widths):
            arrays += [rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in), 0.1 * rng.normal(size=fan_out)]
        self.pack([array.astype(dtype) for array in arrays])
        labels, values = np.zeros(0, np.intp), np.zeros(0, dtype)
        ends = np.cumsum([0, *blocks], dtype=np.intp) if blocks else np.zeros(0, np.intp)
        if blocks:
            labels = rng.integers(0, blocks, (n_rows, len(blocks))).astype(np.intp).reshape(-1)
        elif loss == "softmax_cross_entropy":
            labels = rng.integers(0, widths[-1], n_rows).astype(np.intp)
        elif loss == "sigmoid_cross_entropy":
            values = rng.integers(0, 2, n_rows * widths[-1]).astype(dtype)
        elif loss == "poisson":
            values = rng.poisson(2.0, n_rows * widths[-1]).astype(dtype)
        else:
            values = rng.normal(size=n_rows * widths[-1]).astype(dtype)
        coefficients = np.full(1 if loss == "huber" else 0, 0.7, dtype)
        X, weights = rng.normal(size=n_rows * widths[0]).astype(dtype), np.zeros(0, dtype)
        if weighted:
            weights = rng.uniform(0.5, 2, n_rows).astype(dtype)
        self.X = self.dense_X = read_only(X)
        if density is not None:
            X[rng.uniform(size=X.size) >= density] = 0
            self.X = compressed(X.reshape(n_rows, -1), self.plan)
        self.targets = layout.Targets(*map(read_only, (labels, values, weights, ends, coefficients)))
        self.order = read_only(rng.permutation(n_rows).astype(np.intp))
        self.hyper = np.zeros(layout.HYPER_SIZE)
        self.hyper[: len(hyper)] = hyper
        self.hyper[layout.MU_PRODUCT] = 1

    def pack(self, arrays):
        packing.pack(arrays, self.buffers.parameters, self.plan.table, self.lanes)
        packing.pack_transposed(self.buffers.parameters, self.buffers.work, self.plan.table, self.lanes)

    def unpack(self, moment=None):
        size = int(self.plan.header[layout.N_PARAMETERS])
        flat = self.buffers.parameters if moment is None else self.buffers.moments[moment * size :][:size]
        return packing.unpack(flat, self.plan.table, self.lanes)

    def copy(self):
        """The same network with buffers and numbers of its own."""
        twin = object.__new__(Net)
        twin.__dict__.update(self.__dict__)
        twin.buffers, twin.hyper = layout.Buffers(*(array.copy() for array in self.buffers)), self.hyper.copy()
        return twin

    def regions(self):
        """Name and view of each part of the buffers that holds something of its own."""
        header, table, work = self.plan.header, self.plan.table, self.buffers.work
        yield "parameters", self.buffers.parameters
        for k, moment in enumerate(self.buffers.moments.reshape(-1, header[layout.N_PARAMETERS])):
            yield f"moment {k}", moment
        if header[layout.SHARD]:  # which thread has held which rows is nobody's concern
            room, size = (self.plan.shares.shape[1] - 1) * header[layout.SHARD], header[layout.N_PARAMETERS]
            yield "shards' losses", self.buffers.row_loss[room:]
            yield "shards' gradients", work[header[layout.SHARDS] :][: (len(self.buffers.row_loss) - room) * size]
        else:
            yield "row loss", self.buffers.row_loss
        for l, row in enumerate([] if header[layout.SHARD] else table):
            starts = {"outputs": row[layout.OUT], "deltas": header[layout.DELTAS] + row[layout.OUT]}
            if row[layout.SLOPE]:
                starts["slopes"] = row[layout.SLOPE]
            if l == 0 and header[layout.OWNERS]:
                starts["outputs of slot 1"] = header[layout.SECOND_SLOT]
            if l == 0 and header[layout.GATHERED]:
                ld = header[layout.GATHERED_LD]
                copy = work[header[layout.GATHERED] :][: self.batch * ld].reshape(self.batch, ld)
                yield "rows of X", copy[:, : self.widths[0]]
            for name, start in starts.items():
                Z = work[start : start + self.batch * row[layout.OUT_LD]].reshape(self.batch, -1)
                yield f"{name} of layer {l}", Z[:, : row[layout.FAN_OUT]]
        for l, row in enumerate(table):
            if l > 0:
                size = layout.padded(int(row[layout.FAN_IN])) * row[layout.TRANSPOSED_ROWS]
                yield f"transposed copy of layer {l}", work[row[layout.TRANSPOSED] :][:size]
        yield "norms", work[header[layout.NORMS] :][: header[layout.N_NORMS]]
        yield "zeros", work[header[layout.ZEROS] :][: max(layout.padded(int(n)) for n in self.widths)]

    def assert_close(self, twin, tolerance, where=""):
        for (name, got), (_, want) in zip(self.regions(), twin.regions(), strict=True):
            assert_close(got, want, tolerance, f"{where}, {name}")


def compressed(X, plan=None):
    """A matrix in compressed rows; what is infinite or NaN counts as other than zero."""
    rows, columns = np.nonzero(X)
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(X)).cumsum()]).astype(np.intp)
    return csr(read_only(X[rows, columns]), read_only(columns.astype(np.int32)), read_only(starts), plan)


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view
