"""model.summary() and the table of layer kinds behind it."""

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


LAYERS = [
    fastbp.BatchNorm(),
    fastbp.Dense(8, "relu"),
    fastbp.Dropout(0.5),
    fastbp.Residual([fastbp.Dense(8, "relu"), fastbp.LayerNorm(), fastbp.Residual([fastbp.Dense(8)]), fastbp.Dense(6)]),
    fastbp.Residual([fastbp.Dense(6)], "relu"),
    fastbp.Dense(2),
]


def test_other_kinds_and_layers_inside():
    rows = describe(LAYERS, 4)
    by_name = {row.name: row for row in rows}
    assert list(by_name) == ["1", "2", "3", "4", "4.1", "4.2", "4.3", "4.3.1", "4.4", "4.p", "5", "5.1", "6"]
    assert [row.depth for row in rows] == [0, 0, 0, 0, 1, 1, 1, 2, 1, 1, 0, 1, 0]
    assert by_name["1"].n_parameters == 16 and by_name["1"].n_fixed == 8
    assert by_name["2"].flop_step == 6 * 4 * 8  # the norm below it is trained
    assert by_name["3"].n_parameters == 0 and list(by_name["3"].arrays) == []
    assert by_name["4.p"].title == "4.p Projection" and by_name["4.p"].shapes == ((8, 6), (6,))
    assert by_name["5"].shapes == () and by_name["5"].title == "5 Residual relu"


def test_description_is_the_network_that_backends_see():
    model = fastbp.Sequential(LAYERS, n_features=4, random_state=0)
    rows = sorted(describe(LAYERS, 4), key=lambda row: row.operation)
    assert [row.operation for row in rows] == list(range(len(model._network.all_operations)))
    assert [row.fan_out for row in rows] == list(model._network.widths[1:])
    assert [row.activation or "identity" for row in rows] == list(model._network.activations)
    assert [shape for row in rows for shape in row.shapes] == [w.shape for w in model.get_weights()]
    assert [k for row in rows for k in row.arrays] == list(range(len(model.get_weights())))
    summary = model.summary()
    assert summary.n_parameters == sum(w.size for w in model.get_weights())
    assert summary.n_parameters - summary.n_trained == 8
    assert "8 of them are not trained by gradients." in str(summary)
    assert "\n  4.1 Dense relu " in str(summary) and "\n    4.3.1 Dense identity " in str(summary)


def test_only_what_has_something_trained_below_needs_deltas():
    layers = [fastbp.Dropout(), fastbp.Residual([fastbp.Dense(3)]), fastbp.Dense(2)]
    rows = {row.name: row for row in describe(layers, 4)}
    assert rows["2.1"].flop_step == 4 * 4 * 3 and rows["2.p"].flop_step == 4 * 4 * 3
    assert rows["3"].flop_step == 6 * 3 * 2


def test_a_kind_that_is_not_known_is_named():
    with pytest.raises(TypeError, match=r"layer 2 must be one of Dense, .* got 5"):
        describe([fastbp.Dense(3), 5], 4)


def test_every_layer_of_the_package_is_in_the_table():
    import fastbp.layers

    things = vars(fastbp.layers).items()
    kinds = {name for name, thing in things if getattr(thing, "__module__", None) == "fastbp.layers"}
    kinds = {name for name in kinds if hasattr(getattr(fastbp.layers, name), "__dataclass_fields__")}
    assert kinds and kinds <= set(KINDS)
