"""model.summary() and the table of layer kinds behind it."""

from dataclasses import dataclass

import numpy as np
import pytest

import fastbp
from fastbp._describe import KINDS, describe


def test_summary_counts():
    model = fastbp.Sequential([fastbp.Dense(128, "relu"), fastbp.Dense(10)], n_features=784, random_state=0)
    summary = model.summary()
    assert summary.n_parameters == summary.n_trained == sum(w.size for w in model.get_weights()) == 101_770
    assert summary.n_bytes == sum(w.nbytes for w in model.get_weights())
    assert summary.flop_forward == 2 * (784 * 128 + 128 * 10)
    assert summary.flop_step == 4 * 784 * 128 + 6 * 128 * 10  # nothing below the first layer waits for deltas
    assert [row.fan_out for row in summary.layers] == [128, 10]
    assert [list(row.arrays) for row in summary.layers] == [[0, 1], [2, 3]]
    for row in summary.layers:
        assert [model.get_weights()[k].shape for k in row.arrays] == list(row.shapes)


def test_summary_reads_as_a_table():
    model = fastbp.Sequential([fastbp.Dense(3, "tanh"), fastbp.Dense(1, "sigmoid")], n_features=2, dtype="float64")
    lines = str(model.summary()).splitlines()
    assert lines[0] == "Sequential: 2 features, float64"
    assert lines[1].split() == ["layer", "output", "parameters", "FLOP", "forward", "FLOP", "step"]
    assert lines[3].split() == ["1", "Dense", "tanh", "3", "9", "12", "24"]
    assert lines[4].split() == ["2", "Dense", "logistic", "1", "4", "6", "18"]
    assert lines[6].split() == ["total", "13", "18", "42"]
    assert lines[7] == "13 parameters take 104 bytes; all are trained."
    assert "multiplications and additions of the matrix products alone" in lines[8]
    assert len({len(line) for line in lines[1:7]}) == 1


# Stand-ins: what the table says of a kind depends on the name of its class and on its fields alone
@dataclass(frozen=True)
class Dropout:
    rate: float


@dataclass(frozen=True)
class BatchNorm:
    pass


@dataclass(frozen=True)
class LayerNorm:
    pass


@dataclass(frozen=True)
class Residual:
    layers: tuple


def test_other_kinds_and_layers_inside():
    layers = [
        BatchNorm(),
        fastbp.Dense(8, "relu"),
        Dropout(0.5),
        Residual((fastbp.Dense(8, "relu"), LayerNorm(), fastbp.Dense(6))),
        Residual((fastbp.Dense(6),)),
        fastbp.Dense(2),
    ]
    rows = describe(layers, 4)
    assert [row.name for row in rows] == ["1", "2", "3", "4", "4.1", "4.2", "4.3", "5", "5.1", "6"]
    assert [row.depth for row in rows] == [0, 0, 0, 0, 1, 1, 1, 0, 1, 0]
    assert [row.fan_out for row in rows] == [4, 8, 8, 6, 8, 8, 6, 6, 6, 2]
    by_name = {row.name: row for row in rows}
    assert by_name["1"].n_parameters == 16 and by_name["1"].n_fixed == 8
    assert by_name["2"].flop_step == 6 * 4 * 8  # the norm below it is trained
    assert by_name["3"].n_parameters == 0 and list(by_name["3"].arrays) == []
    assert by_name["4"].shapes == ((8, 6),) and by_name["5"].shapes == ()
    places = sorted(k for row in rows for k in row.arrays)
    assert places == list(range(len(places)))  # every array belongs to one layer
    assert by_name["4.1"].arrays.start < by_name["4.2"].arrays.start < by_name["4"].arrays.start
    assert by_name["6"].fan_in == 6


def test_a_kind_that_is_not_known_is_named():
    with pytest.raises(TypeError, match=r"layer 2 must be one of Dense, .* got 5"):
        describe([fastbp.Dense(3), 5], 4)
    assert "Dense" in KINDS


def test_every_layer_of_the_package_is_in_the_table():
    import fastbp.layers

    kinds = {name for name, thing in vars(fastbp.layers).items() if hasattr(thing, "__dataclass_fields__")}
    assert kinds and kinds <= set(KINDS)
    assert np.all([callable(KINDS[name]) for name in kinds])
