"""Networks of more than dense layers as operations: regions, who hands deltas to whom, shapes and places."""

import itertools

import numpy as np
import pytest

from fastbp.kernels import layout, planning, schedule
from fastbp.kernels.layout import (
    ADD,
    ADDS_TO_INPUT,
    ADDS_TO_SOURCE,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    GRADIENTS,
    INPUT_ASKS,
    LAYER_NORM,
    ROWS,
    SOURCE_ASKS,
    UPDATE,
)
from fastbp.kernels.operations import (
    Operation,
    chain,
    dense_shapes,
    handed_on,
    needs_delta,
    parameter_shapes,
    reads_rows,
    regions,
)

DENSE_0, NORM_1, DENSE_2, NORM_3 = (Operation(kind, l - 1) for l, kind in enumerate((DENSE, BATCH_NORM) * 2))


def planned(widths, operations, **options):
    activations = ("identity",) * (len(widths) - 1)
    arguments = {"dtype": np.float32, "lanes": 8, "batch": 12, **options}
    return planning.plan(widths, activations, operations=operations, **arguments)


def test_most_networks_have_two_regions():
    table = [(UPDATE, 0, 0, 0, 0, 0), (ROWS, 0, 3, 1, 2, 0)]
    np.testing.assert_array_equal(regions(chain(3), first=0, clipping=False), table)
    network = [Operation(LAYER_NORM, -1), Operation(DENSE, 0)]
    table = [(UPDATE, 0, 0, 0, 0, 0), (ROWS, -1, 2, 1, 1, 0)]
    np.testing.assert_array_equal(regions(network, first=-1, clipping=False), table)


def test_a_batch_norm_cuts_the_rows_in_two():
    network = [DENSE_0, NORM_1, DENSE_2, NORM_3, Operation(DENSE, 3)]
    table = [
        (UPDATE, 0, 0, 0, 0, 0),
        (ROWS, 0, 1, 0, 0, 0), (ROWS, 1, 3, 0, 0, 0), (ROWS, 3, 5, 1, 4, 3), (ROWS, 0, 0, 0, 3, 1),
        (ROWS, 0, 0, 0, 1, 0),
    ]  # fmt: skip
    np.testing.assert_array_equal(regions(network, first=0, clipping=False), table)
    np.testing.assert_array_equal(
        regions(network, first=1, clipping=True), [table[0], *table[2:], (GRADIENTS, 0, 0, 0, 0, 0)]
    )


def test_a_batch_norm_on_x_has_no_delta_to_hand_on():
    network = [Operation(BATCH_NORM, -1), Operation(DENSE, 0)]
    table = [
        (UPDATE, 0, 0, 0, 0, 0), (ROWS, -1, 0, 0, 0, 0), (ROWS, 0, 2, 1, 1, 0),
    ]  # fmt: skip
    np.testing.assert_array_equal(regions(network, first=-1, clipping=False), table)


def test_a_gradient_of_known_norm_is_a_region_of_its_own():
    table = [(UPDATE, 0, 0, 0, 0, 0), (ROWS, 0, 2, 1, 1, 0), (GRADIENTS, 0, 0, 0, 0, 0)]
    np.testing.assert_array_equal(regions(chain(2), first=0, clipping=True), table)


def test_who_hands_deltas_to_whom():
    """X -> dropout -> dense -> [layer norm -> dense] + projection -> dense."""
    network = [
        Operation(DROPOUT, -1), Operation(DENSE, 0), Operation(LAYER_NORM, 1), Operation(DENSE, 2), Operation(DENSE, 1),
        Operation(ADD, 3, 4), Operation(DENSE, 5),
    ]  # fmt: skip
    assert needs_delta(network) == [False, True, True, True, True, True, True]
    both = INPUT_ASKS | SOURCE_ASKS
    # the projection is the first to reach the dense layer, so the layer norm adds
    assert handed_on(network) == [0, 0, INPUT_ASKS | ADDS_TO_INPUT, INPUT_ASKS, INPUT_ASKS, both, INPUT_ASKS]
    twice = [Operation(DENSE, -1), Operation(ADD, 0, 0)]  # y = x + x
    assert handed_on(twice) == [0, both | ADDS_TO_SOURCE]
    assert reads_rows(network) and not reads_rows(network[1:])
    widths = (4, 4, 6, 6, 8, 8, 8, 3)
    assert dense_shapes(widths, network) == [(4, 6), (6, 8), (6, 8), (8, 3)]
    assert dict(parameter_shapes(widths, network)) == {
        "W1": (4, 6), "b1": (6,), "gamma1": (6,), "beta1": (6,), "W2": (6, 8), "b2": (8,), "W3": (6, 8), "b3": (8,),
        "W4": (8, 3), "b4": (3,),
    }  # fmt: skip


@pytest.mark.compiled_as_used
def test_the_plan_says_by_its_type_what_is_used():
    network = [Operation(DENSE, -1), Operation(DROPOUT, 0, constant=0.5), Operation(LAYER_NORM, 1), Operation(DENSE, 2)]
    plan, _ = planned((5, 9, 9, 9, 2), network)
    assert plan.uses.dtype.names == ("dropout", "layer_norm") and len(plan.regions) == 2
    plain = planned((5, 9, 2), ())[0]
    assert plain.uses is None and plain.regions is None
    with pytest.raises(ValueError, match=r"features must be of .*, got speed"):
        layout.marker(["speed"])


def test_places_do_not_overlap():
    network = [DENSE_0, NORM_1, Operation(LAYER_NORM, 1), Operation(ADD, 2, 0), Operation(DENSE, 3)]
    widths, batch = (5, 20, 20, 20, 20, 3), 12
    plan, work_size = planned(widths, network, n_threads=3)
    header, taken = plan.header, []
    for row in plan.table:
        size = batch * row[layout.OUT_LD]
        taken += [(row[layout.OUT], size), (header[layout.DELTAS] + row[layout.OUT], size)]
    taken += [
        (plan.table[1, layout.STATS], (3 + layout.block_count(batch)) * layout.N_STATS * 32),
        (plan.table[2, layout.STATS], 2 * batch),
    ]
    taken += [(header[layout.ZEROS], 32), (header[layout.SCRATCH], 3 * header[layout.SCRATCH_STRIDE])]
    taken += [(header[layout.NORMS], header[layout.N_NORMS]), (plan.table[4, layout.TRANSPOSED], 32 * 16)]
    taken.sort()
    assert all(start + size <= then for (start, size), (then, _) in itertools.pairwise(taken))
    assert sum(taken[-1]) <= work_size
    kinds = plan.table[:, layout.KIND].tolist()
    assert kinds == [DENSE, BATCH_NORM, LAYER_NORM, ADD, DENSE]
    vectors = [tuple(item) for item in plan.items.tolist() if item[layout.LO] < 0 and item[0] in (1, 2)]
    assert vectors == [(1, 0, 24, -1, 0), (1, 0, 24, -2, 0), (2, 0, 24, -1, 0), (2, 0, 24, -2, 0)]


def test_a_batch_norm_has_no_more_threads_than_blocks_of_rows():
    options = {"dtype": np.float32, "lanes": 8, "batch": 32, "n_threads": 16}
    plain, normed = (
        [Operation(DENSE, -1), Operation(kind, 0), Operation(DENSE, 1)] for kind in (LAYER_NORM, BATCH_NORM)
    )
    shares = [
        schedule.training_plan((512, 2048, 2048, 512), ("identity",) * 3, operations=network, **options)[0].shares
        for network in (plain, normed)
    ]
    assert shares[0].shape[1] - 1 > layout.block_count(32) == shares[1].shape[1] - 1


def test_a_batch_norm_has_no_shards_and_only_dense_layers_owners():
    assert schedule.shard_rows((16, 32, 32, 2), 4096) > 0
    assert schedule.shard_rows((16, 32, 32, 2), 4096, [DENSE_0, NORM_1, DENSE_2]) == 0
    options = {"dtype": np.float32, "lanes": 8, "batch": 64, "n_threads": 2}
    for first, owners in ((Operation(DENSE, -1), 1), (Operation(DROPOUT, -1), 0)):
        network = [first, Operation(DENSE, 0)]
        widths = (784, 512, 512) if owners else (784, 784, 512)
        plan, _ = schedule.training_plan(widths, ("identity",) * 2, operations=network, **options)
        assert plan.header[layout.OWNERS] == owners
        assert (plan.header[layout.GATHERED] > 0) == (not owners)
