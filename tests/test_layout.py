"""Where everything lies, who does what, and how many threads a step is worth."""

import itertools

import numpy as np
import pytest
from _kernels import DTYPES, few, lanes, seeds
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels import items, layout, packing, planning, schedule
from fastbp.kernels.layout import BATCH, BIAS, DELTAS, FAN_IN, FAN_OUT, GROUP, LO, OUT, OUT_LD, OWNERS, PANEL_ROWS

LANES = [2, 4, 8, 16]
networks = st.lists(st.integers(1, 140), min_size=2, max_size=5).map(tuple)


def planned(widths, *, n_threads=1, owners=False, batch=7, dtype=np.float32, n_lanes=8, activation="relu", **options):
    activations = (activation,) * (len(widths) - 1)
    return planning.plan(
        widths, activations, dtype=dtype, lanes=n_lanes, batch=batch, n_threads=n_threads, owners=owners, **options
    )


def work_regions(plan, work_size):
    """First element and end of each part of the work buffer, with all that kernels may write to it."""
    header, table = plan.header, plan.table
    for l, row in enumerate(table):
        rows, W = header[BATCH] * row[OUT_LD], layout.padded(int(row[FAN_IN])) * row[layout.TRANSPOSED_ROWS]
        norms = -(-row[FAN_IN] // layout.TILE_ROWS) * layout.padded(int(row[FAN_OUT]))
        yield f"outputs {l}", row[OUT], rows
        yield f"deltas {l}", header[DELTAS] + row[OUT], rows
        if l == 0 and header[OWNERS]:
            yield "second slot", row[OUT] + header[layout.SECOND_SLOT], rows
        if l == 0 and header[layout.GATHERED]:
            yield "rows of X", header[layout.GATHERED], header[BATCH] * header[layout.GATHERED_LD]
        if row[layout.SLOPE]:
            yield f"slopes {l}", row[layout.SLOPE], rows
        if l > 0:
            yield f"transposed {l}", row[layout.TRANSPOSED], W
        yield f"norms {l}", row[layout.NORM], norms
    yield "zeros", header[layout.ZEROS], max(layout.padded(int(n)) for n in table[:, [FAN_IN, FAN_OUT]].flat)
    tile = layout.TILE_ROWS * 2 * header[layout.LANES]
    for t in range(plan.shares.shape[1] - 1):
        yield f"tile of thread {t}", header[layout.SCRATCH] + t * header[layout.SCRATCH_STRIDE], tile
    yield "end", work_size, 0


def assert_apart(regions):
    regions = sorted(regions, key=lambda region: (region[1], region[2]))
    assert regions[0][1] >= 0
    for (name, start, size), (after, following, _) in itertools.pairwise(regions):
        assert start + size <= following, f"{name} reaches into {after}"


ways = st.sampled_from([{}, {"owners": True}, {"gathered": True}, {"owners": True, "activation": "gelu"}])


@given(networks, st.integers(1, 5), ways, st.integers(1, 70), st.sampled_from(DTYPES), st.sampled_from(LANES))
@few(100)
def test_no_two_regions_of_the_work_buffer_overlap(widths, n_threads, way, batch, dtype, n_lanes):
    plan, size = planned(widths, n_threads=n_threads, batch=batch, dtype=dtype, n_lanes=n_lanes, **way)
    assert_apart(work_regions(plan, size))
    header, table = plan.header, plan.table
    # the sum of the norms runs over all of them, group after group
    assert header[layout.NORMS] == table[0, layout.NORM] and header[layout.N_NORMS] % GROUP == 0
    last = -(-table[-1, FAN_IN] // layout.TILE_ROWS) * layout.padded(widths[-1])
    assert header[layout.NORMS] + header[layout.N_NORMS] == table[-1, layout.NORM] + last
    # threads write to tiles a cache line apart
    gap = header[layout.SCRATCH_STRIDE] - layout.TILE_ROWS * 2 * n_lanes
    assert gap * np.dtype(dtype).itemsize >= layout.CACHE_LINE
    np.testing.assert_array_equal(plan.rows, np.arange(batch))


def test_overlaps_are_seen():
    with pytest.raises(AssertionError, match="one reaches into two"):
        assert_apart([("two", 9, 5), ("one", 0, 10)])


@given(networks, st.sampled_from(DTYPES), st.sampled_from(LANES))
@few(60)
def test_no_two_parameters_share_a_place(widths, dtype, n_lanes):
    plan, _ = planned(widths, dtype=dtype, n_lanes=n_lanes)
    regions = []
    for l, row in enumerate(plan.table):
        # the transposed copy is made of whole vectors of rows
        assert row[PANEL_ROWS] == (layout.padded(widths[l]) if l else widths[0])
        regions.append((f"W {l}", row[layout.WEIGHTS], row[PANEL_ROWS] * layout.padded(widths[l + 1])))
        regions.append((f"b {l}", row[BIAS], layout.padded(widths[l + 1])))
        assert row[layout.WEIGHTS] % GROUP == 0 and row[BIAS] % GROUP == 0
    assert_apart([*regions, ("end", plan.header[layout.N_PARAMETERS], 0)])


@given(st.integers(1, 5000), st.sampled_from([4, 8]))
@few(200)
def test_rows_are_an_odd_number_of_cache_lines_or_two(n, itemsize):
    stride = layout.row_stride(n, itemsize)
    lines, rest = divmod(stride * itemsize, layout.CACHE_LINE)
    assert rest == 0 and (lines % 2 == 1 or lines == 2)
    assert layout.padded(n) <= stride <= layout.padded(n) + 2 * layout.CACHE_LINE // itemsize


@given(st.integers(1, 300), st.sampled_from(LANES))
@few(200)
def test_panels_cover_each_column_once(n, n_lanes):
    panels = layout.panel_columns(n, n_lanes)
    assert panels[0][0] == 0
    for (column, width), (following, _) in itertools.pairwise(panels):
        assert width == 2 * n_lanes and column + width == following
    column, width = panels[-1]
    assert width in (n_lanes, 2 * n_lanes) and column + width <= layout.padded(n)
    assert n <= column + width < n + n_lanes  # not a vector more than needed


@given(st.integers(1, 300), st.integers(300, 500))
@few(50)
def test_one_wide_vector_makes_one_panel_no_wider_than_padding(n, n_lanes):
    assert layout.panel_columns(n, layout.padded(n_lanes)) == [(0, layout.padded(n))]


# ---------------------------------------------------------------------------------------------------------------------
# Items: what the update does, and who does it


def updates(plan, items):
    """How often each element of the parameters is updated by some items."""
    count = np.zeros(plan.header[layout.N_PARAMETERS], int)
    for l, column, width, lo, hi in items:
        row = plan.table[l]
        if lo < 0:
            count[row[BIAS] + column :][:width] += 1
        else:
            assert lo % layout.TILE_ROWS == 0 and lo < hi <= min(lo + layout.TILE_ROWS, row[FAN_IN])
            count[row[layout.WEIGHTS] + column * row[PANEL_ROWS] + lo * width :][: (hi - lo) * width] += 1
    return count


@given(networks, st.integers(1, 9), st.booleans(), st.integers(1, 200), st.sampled_from(LANES))
@few(150)
def test_items_update_each_parameter_once(widths, n_threads, owners, batch, n_lanes):
    plan, _ = planned(widths, n_threads=n_threads, owners=owners, batch=batch, n_lanes=n_lanes)
    count = updates(plan, plan.items)
    for part in packing.unpack(count, plan.table, n_lanes):
        assert (part == 1).all()
    assert count.max() == 1  # nor is padding updated twice
    # rows of padding belong to nobody: they stay zero
    for l, row in enumerate(plan.table):
        W = count[row[layout.WEIGHTS] : row[BIAS]]
        assert W.sum() == sum(width * widths[l] for _, width in layout.panel_columns(widths[l + 1], n_lanes))
    shares = plan.shares[0]
    assert shares.shape == (n_threads + 1,) and shares[0] == 0 and shares[-1] == len(plan.items)
    assert (np.diff(shares) >= 0).all()


@given(networks, st.integers(1, 9), st.integers(1, 200), st.sampled_from(LANES))
@few(150)
def test_owners_update_the_panels_whose_outputs_they_compute(widths, n_threads, batch, n_lanes):
    plan, _ = planned(widths, n_threads=n_threads, owners=True, batch=batch, n_lanes=n_lanes)
    shares, panels = plan.shares, layout.panel_columns(widths[1], n_lanes)
    assert shares[1, 0] == 0 and shares[1, -1] == len(panels) and (np.diff(shares[1]) >= 0).all()
    for t in range(n_threads):
        mine = plan.items[shares[0, t] : shares[0, t + 1]]
        owned = panels[shares[1, t] : shares[1, t + 1]]
        assert {(column, width) for l, column, width, lo, _ in mine.tolist() if l == 0 and lo >= 0} == set(owned)
        biases = [(column, width) for l, column, width, lo, _ in mine.tolist() if l == 0 and lo < 0]
        assert sum(width for _, width in biases) == sum(width for _, width in owned)
        assert all(layout.PANELS_TOGETHER * 2 * n_lanes >= width for _, width in biases)
        assert not biases or min(biases)[0] == owned[0][0]


def test_the_set_of_tiles_does_not_depend_on_threads():
    """Their order does, they do not: each element's sum is the same one."""
    widths = (100, 70, 40, 10)
    alone = {tuple(item) for item in planned(widths)[0].items.tolist() if item[LO] >= 0}
    for n_threads, owners in itertools.product((1, 2, 3, 8), (False, True)):
        items = planned(widths, n_threads=n_threads, owners=owners)[0].items.tolist()
        tiles = [tuple(item) for item in items if item[LO] >= 0]
        assert set(tiles) == alone and len(tiles) == len(alone)


def test_a_plan_without_updates_has_no_items():
    plan, size = planned((20, 30, 4), n_threads=3, update=False)
    assert len(plan.items) == 0 and not plan.shares.any()
    assert_apart(work_regions(plan, size))


def test_codes_go_to_the_header():
    plan, _ = planned((4, 3), loss=layout.HALF_SQUARED_ERROR, optimizer=layout.ADAM, loss_convention=1, nesterov=1)
    names = ("LOSS", "OPTIMIZER", "LOSS_CONVENTION", "NESTEROV", "CONVENTION", "BATCH", "N_LAYERS", "LANES")
    header = {name: int(plan.header[getattr(layout, name)]) for name in names}
    assert header == dict(zip(names, (3, 2, 1, 1, 0, 7, 1, 8), strict=True))


def test_work_is_shared_evenly_where_there_are_many_items():
    for n_threads, owners in itertools.product((2, 3, 8), (False, True)):
        plan, _ = planned((784, 512, 512, 10), n_threads=n_threads, owners=owners, batch=128, n_lanes=16)
        assert 1 <= items.imbalance(plan) < (1.3 if owners and n_threads == 3 else 1.1)
    assert items.imbalance(planned((784, 512, 10))[0]) == 1


def test_imbalance_is_the_busiest_share_over_an_even_one():
    plan, _ = planned((32, 16, 1), n_threads=2, n_lanes=8, batch=16)
    costs = items.item_costs(plan.items, 16)
    tiles = plan.items[:, LO] >= 0
    rows = plan.items[tiles, layout.HI] - plan.items[tiles, LO]
    np.testing.assert_array_equal(costs[tiles], rows * plan.items[tiles, layout.WIDTH] * 32)
    loads = [costs[a:b].sum() for a, b in itertools.pairwise(plan.shares[0])]
    assert items.imbalance(plan) == 2 * max(loads) / sum(loads) > 1
    # three panels of the first layer for two owners: each computes the outputs of its own as well
    plan, _ = planned((32, 48, 1), n_threads=2, n_lanes=8, batch=16, owners=True)
    costs = items.item_costs(plan.items, 16)
    loads = [costs[a:b].sum() for a, b in itertools.pairwise(plan.shares[0])]
    assert sorted(np.diff(plan.shares[1])) == [1, 2]
    loads += np.diff(plan.shares[1]) * 16 * 32 * 16
    assert items.imbalance(plan) == 2 * max(loads) / sum(loads)


# ---------------------------------------------------------------------------------------------------------------------
# Dense arrays in and out


@given(networks, st.sampled_from(DTYPES), st.sampled_from([*LANES, 144]), seeds())
@few(60)
def test_what_is_packed_comes_out_again(widths, dtype, n_lanes, seed):
    rng = np.random.default_rng(seed)
    plan, work_size = planned(widths, dtype=dtype, n_lanes=n_lanes)
    parameters = layout.aligned_zeros(int(plan.header[layout.N_PARAMETERS]), dtype)
    arrays = []
    for fan_in, fan_out in itertools.pairwise(widths):
        arrays += [rng.uniform(1, 2, (fan_in, fan_out)).astype(dtype), rng.uniform(1, 2, fan_out).astype(dtype)]
    packing.pack(arrays, parameters, plan.table, n_lanes)
    for got, want in zip(packing.unpack(parameters, plan.table, n_lanes), arrays, strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == dtype and got.flags.c_contiguous and not np.shares_memory(got, parameters)
    assert np.count_nonzero(parameters) == sum(array.size for array in arrays)  # padding stays zero
    work = layout.aligned_zeros(work_size, dtype)
    packing.pack_transposed(parameters, work, plan.table, n_lanes)
    for row, W in zip(plan.table[1:], arrays[2::2], strict=True):
        for column, width in layout.panel_columns(int(row[FAN_IN]), n_lanes):
            panel = work[row[layout.TRANSPOSED] + column * row[layout.TRANSPOSED_ROWS] :]
            panel = panel[: row[FAN_OUT] * width].reshape(-1, width)
            used = W[column : column + width]
            np.testing.assert_array_equal(panel[:, : len(used)], used.T)
    assert np.count_nonzero(work) == sum(array.size for array in arrays[2::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 37, 1024])
def test_aligned_zeros_start_on_a_cache_line(dtype, n):
    for _ in range(5):
        array = layout.aligned_zeros(n, dtype)
        assert array.shape == (n,) and array.dtype == dtype and not array.any()
        assert array.ctypes.data % layout.CACHE_LINE == 0 and array.flags.writeable


# ---------------------------------------------------------------------------------------------------------------------
# The cost model


def trained(widths, batch, n_threads, dtype=np.float32):
    activations = ("relu",) * (len(widths) - 1)
    plan, _ = schedule.training_plan(
        widths, activations, dtype=dtype, lanes=lanes(dtype), batch=batch, n_threads=n_threads, optimizer=layout.ADAM
    )
    assert plan.header[layout.OPTIMIZER] == layout.ADAM and plan.header[BATCH] == batch
    return plan.shares.shape[1] - 1, bool(plan.header[OWNERS])


def test_a_tiny_network_trains_on_one_thread():
    assert trained((4, 8, 3), 32, 8) == (1, False)
    assert trained((64, 100, 10), 1, 8) == (1, False)


def test_a_wide_network_has_owners():
    assert trained((784, 1024, 512, 10), 256, 2) == (2, True)
    assert trained((784, 1024, 512, 10), 256, 1) == (1, False)


@pytest.mark.parametrize(("widths", "dtype", "gathered"), [
    ((512, 1024, 10), np.float32, True), ((256, 128, 10), np.float32, True), ((128, 256, 10), np.float64, True),
    ((128, 256, 10), np.float32, False), ((784, 256, 10), np.float32, False), ((512, 100, 10), np.float32, False),
])  # fmt: skip
def test_rows_a_power_of_two_apart_are_gathered_for_a_wide_layer(widths, dtype, gathered):
    for n_threads in (1, 2):
        plan, _ = schedule.training_plan(
            widths, ("relu", "softmax"), dtype=dtype, lanes=lanes(dtype), batch=256, n_threads=n_threads
        )
        header = plan.header
        assert (header[layout.GATHERED] > 0, bool(header[OWNERS] and gathered)) == (gathered, False)
        assert not gathered or header[layout.GATHERED_LD] == layout.row_stride(widths[0], np.dtype(dtype).itemsize)


def test_large_batches_of_small_networks_go_in_shards():
    def shard(widths, batch, n_threads=2, **options):
        plan, _ = schedule.training_plan(
            widths, ("relu",) * (len(widths) - 1), dtype=np.float32, lanes=lanes(np.float32), batch=batch,
            n_threads=n_threads, **options,
        )  # fmt: skip
        size = int(plan.header[layout.SHARD])
        assert not (size and (plan.header[OWNERS] or (plan.shares.shape[1] - 2) * size >= batch))  # no idle threads
        return size

    small = (64, 100, 10)
    assert [shard(small, batch) for batch in (200, 2047, 2048, 4096, 4100, 10_000)] == [0, 0, 128, 256, 132, 160]
    for n_threads in (1, 3, 64):  # another size would be another order of sums
        assert shard(small, 10_000, n_threads) == 160
    assert shard((512, 1024, 1024, 100), 4096) == 0  # gradients of 1.7 million weights for each shard
    plan, _ = schedule.training_plan(
        small, ("relu", "relu"), dtype=np.float32, lanes=lanes(np.float32), batch=2100, n_threads=16
    )
    assert plan.shares.shape[1] - 1 == 16  # shards of 132 rows
    assert shard(small, 4096, density=0.1) == 256  # the bits of the dense matrix


@given(networks, st.integers(1, 10**6))
@few(200)
def test_shards_take_no_more_memory_than_they_save(widths, batch):
    size = schedule.shard_rows(widths, batch)
    assert size == 0 or (size % 4 == 0 and 128 <= size <= 256 and batch >= 2048)
    if size:
        n_shards = -(-batch // size)
        weights = sum(a * b + b for a, b in itertools.pairwise(widths))
        assert n_shards * weights <= 2 * batch * sum(widths[1:])


def test_no_owners_where_their_shares_would_be_uneven():
    widths = (2000, 2 * lanes(np.float32), 10)  # one panel: it has one owner
    assert trained(widths, 512, 2) == (2, False)


@given(st.floats(1e-7, 1), st.integers(1, 600), st.integers(1, 64), st.sampled_from([1e-6, 4e-6]))
@few(200)
def test_threads_are_used_where_they_help(seconds, batch, n_threads, cost):
    threads = schedule.useful_threads(seconds, batch, n_threads, cost)
    assert 1 <= threads <= min(n_threads, batch)
    times = [seconds] + [seconds * np.ceil(batch / t) / batch + cost for t in range(2, min(n_threads, batch) + 1)]
    assert times[threads - 1] <= min(times) / 0.899
    if threads > 1:
        assert times[threads - 1] < 0.9 * seconds
    assert schedule.useful_threads(cost, batch, n_threads, cost) == 1


def test_two_threads_share_work_that_is_worth_it():
    assert schedule.useful_threads(1e-3, 64, 2, 4e-6) == 2
    assert schedule.useful_threads(1e-3, 1, 2, 4e-6) == 1
    assert schedule.useful_threads(1e-5, 64, 2, 8e-6) == 1
    assert schedule.useful_threads(1e-2, 16, 15, 1e-6) == 8  # of 16 parts, 15 threads would do two each as well


@given(networks, st.integers(1, 100), st.sampled_from([4, 8]))
@few(60)
def test_more_work_takes_longer(widths, batch, itemsize):
    seconds = schedule.step_seconds(widths, batch, itemsize)
    assert 0 < seconds < schedule.step_seconds(widths, batch + 1, itemsize)
    assert seconds < schedule.step_seconds((*widths, 1), batch, itemsize)
    assert schedule.step_seconds(widths, batch, 4) < schedule.step_seconds(widths, batch, 8)


@pytest.mark.parametrize("n_rows", [1, 255, 257, 10_000])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_predictions_go_through_at_most_256_rows_a_thread(n_rows, n_threads):
    plan, size = schedule.prediction_plan(
        (784, 512, 10), ("relu", "softmax"), dtype=np.float32, lanes=16, n_rows=n_rows, n_threads=n_threads, loss=2
    )
    threads = plan.shares.shape[1] - 1
    assert plan.header[BATCH] == min(n_rows, 256 * threads)
    assert threads == (n_threads if n_rows > 16 else 1)
    assert plan.header[layout.LOSS] == 2 and not plan.header[OWNERS] and len(plan.items) == 0
    assert_apart(work_regions(plan, size))


@given(networks, st.integers(0, 10**6), st.sampled_from([4, 8]))
@few(60)
def test_blocks_cover_each_row_once(widths, n_rows, itemsize):
    blocks = list(schedule.blocks(widths, n_rows, itemsize))
    ends = [0, *(block.stop for block in blocks)]
    assert [block.start for block in blocks] == ends[:-1] and ends[-1] == n_rows
    sizes = np.diff(ends)
    assert (sizes > 0).all()
    if len(blocks) > 1:
        assert (sizes[:-1] == sizes[0]).all() and sizes[0] % 1024 == 0 and sizes[-1] <= sizes[0]
        seconds = schedule.step_seconds(widths, int(sizes[0]) - 1024, itemsize) / 3
        assert seconds <= 1.01 * schedule.BLOCK_SECONDS
