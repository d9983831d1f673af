"""Words of messages: one line, the value's own digits, one name of a file, and classes of layers at the door."""

import re

import numpy as np
import pytest

import fastbp
import fastbp.plotting
from fastbp._words import counted, shown


def test_what_is_shown_has_one_line():
    for value in (np.eye(3), [np.eye(2)] * 2, {"a": np.zeros((4, 4))}, "a\nb", np.arange(5000)):
        assert "\n" not in shown(value)
    assert shown("a\n  b") == r"'a\n  b'" and shown(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    with pytest.raises(TypeError, match=r"got array\(\[\[1\., 0\.\], \[0\., 1\.\]\]\)$"):
        fastbp.plotting.NetworkDisplay.from_model(np.eye(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_have_the_digits_of_their_own_type(dtype):
    model = fastbp.Sequential([fastbp.Dense(1)], n_features=2, random_state=0, dtype=dtype)
    trainer = fastbp.Trainer(model, loss="sigmoid_cross_entropy")
    with pytest.raises(ValueError, match=re.escape("for this loss, got values from -2.1 to 1.7")):
        trainer.fit(np.ones((2, 2)), [-2.1, 1.7])
    above = np.nextafter(np.ones(1, dtype), np.full(1, 2, dtype))[0]  # rounding would say that it goes from 0 to 1
    with pytest.raises(ValueError, match=re.escape(f"got values from 0.0 to {above!s}")):
        trainer.fit(np.ones((2, 2)), [0, above])


def test_numbers_agree_with_their_nouns():
    assert [counted(n, "row") for n in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
    with pytest.raises(ValueError, match="class_weight has 2 weights, but y has 1 target: give"):
        fastbp.MLPClassifier((2,), class_weight=["balanced", None]).fit(np.ones((4, 2)), [0, 1, 0, 1])


def test_a_message_names_a_file_once(tmp_path):
    path = tmp_path / "model.safetensors"
    small = fastbp.Sequential([fastbp.Dense(1)], n_features=2, random_state=0)
    trainer = fastbp.Trainer(small, loss="mean_squared_error", random_state=0)
    trainer.fit(np.ones((4, 2)), np.ones(4))
    trainer.save(path)
    whole = path.read_bytes()
    for contents in (whole[:-3], b"", b"\x80\x04 pickle", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(contents)
        for read in (lambda: fastbp.load(path), lambda: trainer.fit(np.ones((4, 2)), np.ones(4), resume_from=path)):
            with pytest.raises(ValueError, match="^" + re.escape(f"{path} is ")) as caught:
                read()
            assert str(caught.value).count(str(path)) == 1
            assert str(caught.value).endswith("Load another copy of the file, or write it anew")


class Wide(fastbp.Dense):
    pass


@pytest.mark.parametrize("make", [
    lambda layer: fastbp.Sequential([layer], n_features=3),
    lambda layer: fastbp.Sequential([fastbp.Residual([layer]), fastbp.Dense(2)], n_features=3),
])  # fmt: skip
def test_a_subclass_of_a_layer_is_refused_at_the_door(make):
    """Files, summaries and pictures would refuse it, or lose what it adds."""
    with pytest.raises(TypeError, match=r"number 0 must be .*, and not of a subclass, got Wide\(units=3"):
        make(Wide(3))
    make(fastbp.Dense(3))
