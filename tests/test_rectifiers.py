"""Leaky relu, elu, selu, softplus, gelu, silu, mish: errors over the whole range, kernels against their twins."""

import numpy as np
import pytest
from _elements import WIDER, elementwise, samples, ulp_errors, with_each_bad_value
from _kernels import DTYPES, ULPS, few, seeds, surrounded
from _processes import ROOT, succeed
from hypothesis import given
from hypothesis import strategies as st

import fastbp
from fastbp.kernels import layout, planning
from fastbp.kernels.cpu import rectifiers, special
from fastbp.kernels.reference import rectifiers as twins
from fastbp.kernels.reference import special as special_twins

# Largest errors over the samples, float32 and float64, of each result: expm1 0.83 and 1.15, log1p 1.37 and 0.75,
# logistic_pair 2.26 and 2.64, normal_cdf 6.09 and 5.15, elu as expm1, softplus 1.52 and 1.50, gelu 5.34 and 5.15, its
# derivative 5.73 and 6.28, silu 2.90 and 2.87, 4.87 and 4.41, mish 3.74 and 4.24, 7.52 and 6.89; gelu_tanh, over
# 1 + |w|: 2.28 and 2.56, 2.73 and 2.97
LARGEST_ERROR = {
    "expm1": (1.2,), "log1p": (1.4,), "logistic_pair": (3, 3), "normal_cdf": (6.5, 1.5), "elu": (1.2,),
    "softplus": (1.6,), "gelu": (6, 6.5), "gelu_tanh": (3, 3), "silu": (3, 5), "mish": (4.5, 8),
}  # fmt: skip
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_function = pytest.mark.parametrize("name", LARGEST_ERROR)
each_rectifier = pytest.mark.parametrize("name", layout.RECTIFIERS)
each_by_slope = pytest.mark.parametrize("name", layout.BY_SLOPE)


# ---------------------------------------------------------------------------------------------------------------------
# Functions of one number, against the same in a wider type


def normal_tail(a):
    """P(Z > a) of a standard normal Z for a >= 0: a series up to 3, from there Laplace's continued fraction."""
    kind = a.dtype.type
    density = np.exp(-a * a / 2) / np.sqrt(8 * np.arctan(kind(1)))
    small, large = np.minimum(a, 3), np.maximum(a, 3)
    term, series, fraction = small, small, large
    for k in range(1, 60):
        term = term * small * small / (2 * k + 1)
        series = series + term
    for k in range(200, 0, -1):
        fraction = large + k / fraction
    return np.where(a < 3, kind(0.5) - density * series, density / fraction)


def exact(name, x):
    """All results of a function."""
    one, pi = x.dtype.type(1), 4 * np.arctan(x.dtype.type(1))
    s, other = one / (one + np.exp(-x)), one / (one + np.exp(x))
    if name in ("expm1", "log1p"):
        return (getattr(np, name)(x),)
    if name == "elu":
        return (np.where(x > 0, x, np.expm1(np.minimum(x, 0))),)
    if name == "logistic_pair":
        return s, other
    if name == "silu":
        return x * s, s * (1 + x * other)
    if name == "gelu_tanh":
        factor, cubic = np.sqrt(8 / pi), 0.044715
        w = factor * (x + cubic * x**3)
        s, other = one / (one + np.exp(-w)), one / (one + np.exp(w))
        return x * s, s * (1 + x * factor * (1 + 3 * cubic * x * x) * other)
    if name in ("normal_cdf", "gelu"):
        tail, e = normal_tail(np.abs(x)), np.exp(-x * x / 2)
        cdf = np.where(x > 0, 1 - tail, tail)
        return (cdf, e) if name == "normal_cdf" else (x * cdf, cdf + x * e / np.sqrt(2 * pi))
    softplus = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    if name == "softplus":
        return (softplus,)
    t = np.tanh(softplus)
    return x * t, t + x * (1 - t * t) * s


def results(name, x):
    """The same by the kernels."""
    function = getattr(special, name, None) or getattr(rectifiers, name)
    n_results = len(LARGEST_ERROR[name])
    return tuple(elementwise(function, None if n_results == 1 else part)(x) for part in range(n_results))


def domain(name, dtype):
    """Samples of the numbers that a function takes; fewer of float64, for which its wider type is slow."""
    x = samples(dtype)
    x = x if dtype == np.float32 else np.concatenate([x[:-200_000:8], x[-200_000::2]])
    x = x[np.abs(x) < 1e4]
    if name == "expm1":
        return -np.abs(x)
    return np.abs(x)[np.abs(x) <= 1] if name == "log1p" else x


@each_dtype
@each_function
def test_largest_error(name, dtype):
    x, tiny = domain(name, dtype), np.finfo(dtype).tiny
    wide = x.astype(WIDER[dtype])
    with np.errstate(all="ignore"):
        want, scale = exact(name, wide), wide * 0 + 1
        # where what the result is made of is a normal number
        vanishing = {"gelu": (normal_tail(np.abs(wide)),), "silu": (np.exp(-np.abs(wide)),)}
        if name == "gelu_tanh":
            w = np.sqrt(2 / np.pi) * 2 * np.abs(wide + 0.044715 * wide**3)
            vanishing[name], scale = (np.exp(-w),), 1 + np.where(x < 0, w, 0)
        vanishing["mish"], vanishing["normal_cdf"] = vanishing["silu"], vanishing["gelu"]
    for got, right, largest, part in zip(results(name, x), want, LARGEST_ERROR[name], (0, 1), strict=False):
        size = np.abs(right)
        if part and name in layout.BY_SLOPE:  # near the zero of a derivative, units of its largest term
            with np.errstate(all="ignore"):
                size = np.maximum(size, np.abs(want[0] / wide))
        normal = (np.abs(right) >= tiny) & (np.abs(wide) > tiny)
        for part_of_it in vanishing.get(name, ()):
            normal &= (x > 0) | (part_of_it >= tiny)
        assert normal.sum() > 5_000
        rest = right[~normal].astype(dtype)
        assert (np.abs(got[~normal] - rest) <= 200 * tiny + 2 * np.finfo(dtype).eps * np.abs(rest)).all()
        _, exponent = np.frexp(size[normal])
        units = np.ldexp(wide.dtype.type(1), exponent - 1 - np.finfo(dtype).nmant)
        errors = np.abs(got[normal].astype(wide.dtype) - right[normal]) / units / scale[normal]
        assert errors.max() <= largest, (part, x[normal][errors.argmax()])


@each_dtype
def test_log1p_and_softplus_keep_small_numbers(dtype):
    tiny = np.finfo(dtype).tiny * np.array([1e-2, 1, 1e5], dtype)
    np.testing.assert_array_equal(results("log1p", tiny)[0], tiny)
    x = np.array([-20, -50, -80], dtype)
    wide = exact("softplus", x.astype(WIDER[dtype]))[0]
    assert ulp_errors(results("softplus", x)[0], wide, dtype).max() <= 2


LIMITS = {  # at -inf and at inf: value, and derivative
    "leaky_relu": ((-np.inf, np.inf), (0.01, 1)),
    "elu": ((-1, np.inf), (0, 1)),
    "selu": ((-rectifiers.SELU_SCALE * rectifiers.SELU_ALPHA, np.inf), (0, rectifiers.SELU_SCALE)),
    "softplus": ((0, np.inf), (0, 1)),
    **dict.fromkeys(layout.BY_SLOPE, ((0, np.inf), (0, 1))),
}


def forward(name, Z, module=rectifiers):
    """A and S of a forward of training."""
    A, S, code = Z.copy(), np.full_like(Z, np.nan), layout.RECTIFIERS[name]
    if name in layout.BY_SLOPE:
        module.rectifier_forward_slope(A, S, code)
    else:
        module.rectifier_forward(A, code)
    return A, S


def derivative(name, Z, module=rectifiers):
    A, S = forward(name, Z, module)
    dZ = np.ones_like(Z)
    module.rectifier_backward(dZ, A, S, layout.RECTIFIERS[name])
    return dZ


@each_dtype
@each_rectifier
@pytest.mark.parametrize("module", [rectifiers, twins])
def test_limits(module, name, dtype):
    values, slopes = (np.array(limits, dtype) for limits in LIMITS[name])
    for size in (np.inf, 1e30):
        Z = np.array([-size, size], dtype)
        A, S = forward(name, Z, module)
        want = np.where(np.isinf(values), np.maximum(slopes, dtype(0.01)) * Z, values)  # linear where it is infinite
        np.testing.assert_allclose(A, want, rtol=2 * ULPS[dtype])
        np.testing.assert_allclose(derivative(name, Z, module), slopes, atol=2 * ULPS[dtype])
        dZ = np.zeros(2, dtype)
        module.rectifier_backward(dZ, A, S, layout.RECTIFIERS[name])
        np.testing.assert_array_equal(dZ, 0)  # not NaN
    assert np.isnan(forward(name, np.full(3, np.nan, dtype), module)[0]).all()
    assert forward(name, np.zeros(1, dtype), module)[0][0] == (dtype(np.log(2)) if name == "softplus" else 0)


@each_dtype
@each_function
def test_twin_of_scalar_function(name, dtype):
    x = np.linspace(-6, 6, 1001).astype(dtype)
    x = -np.abs(x) if name == "expm1" else np.abs(x) / 6 if name == "log1p" else x
    twin = getattr(special_twins if hasattr(special_twins, name) and name in vars(special) else twins, name)(x)
    for got, want in zip(results(name, x), twin if isinstance(twin, tuple) else (twin,), strict=True):
        assert want.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=32 * ULPS[dtype] * max(1, np.abs(want).max()))


# ---------------------------------------------------------------------------------------------------------------------
# Kernels on arrays. 37 elements: whole vectors of every width, and a tail


@each_dtype
@each_rectifier
@given(st.data())
@few(20)
def test_rectifier_agrees_with_its_twin(name, dtype, data):
    rng, n = np.random.default_rng(data.draw(seeds())), data.draw(st.integers(1, 75))
    code, size = layout.RECTIFIERS[name], data.draw(st.sampled_from([0.1, 3, 100]))
    values, dA = rng.normal(size=n).astype(dtype) * dtype(size), rng.normal(size=n).astype(dtype)
    allowed = 8 * ULPS[dtype] * max(1, np.abs(values).max())
    found = []
    for module in (rectifiers, twins):
        (whole_A, A), (whole_S, S), (whole_dZ, dZ) = (surrounded(n, dtype) for _ in range(3))
        A[:], S[:], dZ[:] = values, values, dA
        module.rectifier_forward_slope(A, S, code)
        if name in layout.BY_OUTPUT:
            np.testing.assert_array_equal([A, S], [values, values])
            module.rectifier_forward(A, code)
        else:
            predicted = values.copy()
            module.rectifier_forward(predicted, code)
            np.testing.assert_array_equal(predicted, A)  # a prediction has the bits of training
        before = A.copy(), S.copy()
        module.rectifier_backward(dZ, A, S, code)
        np.testing.assert_array_equal([A, S], before)
        for whole, part in ((whole_A, A), (whole_S, S), (whole_dZ, dZ)):
            np.testing.assert_array_equal(np.delete(whole, np.arange(64, 64 + n)), whole[0])
            assert np.isfinite(part).all()
        found.append((A, S, dZ))
    (A, S, dZ), (twin_A, twin_S, twin_dZ) = found
    np.testing.assert_allclose(A, twin_A, rtol=4 * ULPS[dtype], atol=allowed)
    np.testing.assert_allclose(S, twin_S, rtol=0, atol=32 * ULPS[dtype])
    np.testing.assert_allclose(dZ, twin_dZ, rtol=0, atol=32 * ULPS[dtype] * np.abs(dA).max())


@each_dtype
@pytest.mark.parametrize("module", [rectifiers, twins])
def test_other_activations_are_left_alone(module, dtype):
    for code in set(layout.ACTIVATIONS.values()) - set(layout.RECTIFIERS.values()):
        arrays = np.random.default_rng(0).normal(size=(3, 37)).astype(dtype)
        before = arrays.copy()
        module.rectifier_forward(arrays[0], code)
        module.rectifier_forward_slope(arrays[0], arrays[1], code)
        module.rectifier_backward(*arrays, code)
        np.testing.assert_array_equal(arrays, before)


@each_dtype
@each_rectifier
def test_rectifier_keeps_nan_where_it_is(name, dtype):
    code = layout.RECTIFIERS[name]
    for Z, place, bad in with_each_bad_value(dtype):
        A, S = forward(name, Z)
        predicted = Z.copy()
        rectifiers.rectifier_forward(predicted, code)
        np.testing.assert_array_equal(predicted, A)
        values, slopes = (bad, bad) if np.isnan(bad) else (limit[int(bad > 0)] for limit in LIMITS[name])
        np.testing.assert_allclose(A[place], values, rtol=2 * ULPS[dtype])
        if name in layout.BY_SLOPE:
            np.testing.assert_allclose(S[place], slopes, rtol=2 * ULPS[dtype])
            assert np.isfinite(np.delete(S, place)).all()
        assert np.isfinite(np.delete(A, place)).all()
        in_delta = Z.copy(), *forward(name, np.linspace(-1, 1, 37).astype(dtype) + dtype(0.01))
        in_output = np.ones(37, dtype), A, S
        for dZ, A, S in (in_delta, in_output):
            twin_dZ = dZ.copy()
            rectifiers.rectifier_backward(dZ, A, S, code)
            twins.rectifier_backward(twin_dZ, A, S, code)
            np.testing.assert_allclose(dZ[place], twin_dZ[place], rtol=4 * ULPS[dtype])
            assert np.isfinite(np.delete(dZ, place)).all()


@each_rectifier
def test_derivative_against_central_differences(name):
    Z, h = np.linspace(-6, 6, 62), 1e-6  # the kink at 0 is not among them
    below, above = (forward(name, Z + step)[0] for step in (-h, h))
    np.testing.assert_allclose(derivative(name, Z), (above - below) / (2 * h), rtol=1e-9, atol=2e-9)


@each_dtype
@each_by_slope
def test_derivative_keeps_its_accuracy_far_below_zero(name, dtype):
    """What 1 + tanh or 1 + erf gives there is 0: the unit would be dead."""
    Z = np.array([-9, -8, -7, -6], dtype)
    value, slope = exact(name, Z.astype(WIDER[dtype]))
    A, S = forward(name, Z)
    assert (A < 0).all() and (S < 0).all()
    np.testing.assert_allclose(A, value.astype(dtype), rtol=200 * ULPS[dtype])
    np.testing.assert_allclose(S, slope.astype(dtype), rtol=200 * ULPS[dtype])


@each_dtype
@pytest.mark.parametrize("module", [rectifiers, twins])
def test_kinks(module, dtype):
    """Leaky relu at 0 has the slope of its negative side; selu too."""
    for name, slopes in {
        "leaky_relu": (0.01, 0.01, 1),
        "elu": (1, 1, 1),
        "selu": (module.SELU_SCALE * module.SELU_ALPHA,) * 2 + (module.SELU_SCALE,),
    }.items():
        Z = np.array([-1e-30, 0, 1e-30], dtype)
        np.testing.assert_allclose(derivative(name, Z, module), slopes, rtol=2 * ULPS[dtype])


def test_selu_keeps_mean_and_variance():
    """Klambauer et al., 2017: mean 0 and variance 1 are the fixed point."""
    Z = np.sqrt(2) * np.polynomial.hermite.hermgauss(180)[0]
    weight = np.polynomial.hermite.hermgauss(180)[1] / np.sqrt(np.pi)
    A = forward("selu", Z)[0]
    np.testing.assert_allclose([weight @ A, weight @ A**2], [0, 1], atol=2e-3)


@each_dtype
@each_rectifier
def test_padding_between_rows_stays_finite(name, dtype):
    """No gemm writes it: in each step the activation goes over what it has left there, f(f(f(0))) and so on."""
    A, S, code = np.zeros(37, dtype), np.zeros(37, dtype), layout.RECTIFIERS[name]
    for _ in range(3000):
        if name in layout.BY_SLOPE:
            rectifiers.rectifier_forward_slope(A, S, code)
        else:
            rectifiers.rectifier_forward(A, code)
    assert np.isfinite(A).all() and np.isfinite(S).all() and A.max() < 10
    dZ = np.zeros(37, dtype)
    rectifiers.rectifier_backward(dZ, A, S, code)
    np.testing.assert_array_equal(dZ, 0)


@each_rectifier
def test_agrees_with_pytorch(name):
    functional = pytest.importorskip("torch").nn.functional
    theirs = functional.gelu if name == "gelu_tanh" else getattr(functional, name)
    Z = np.linspace(-5, 5, 101)
    inputs = pytest.importorskip("torch").tensor(Z, requires_grad=True)
    outputs = theirs(inputs, approximate="tanh") if name == "gelu_tanh" else theirs(inputs)
    outputs.sum().backward()
    np.testing.assert_allclose(forward(name, Z)[0], outputs.detach().numpy(), rtol=1e-12, atol=1e-13)
    # at 0 theirs is the mean of both sides for some
    np.testing.assert_allclose(np.delete(derivative(name, Z), 50), np.delete(inputs.grad.numpy(), 50), atol=1e-13)


IR = """
import re
import numpy as np
from fastbp.kernels.cpu import rectifiers
x, code = np.zeros(9, np.float32), 7
calls = {"rectifier_forward": (x,), "rectifier_forward_slope": (x, x), "rectifier_backward": (x, x, x)}
for name, arrays in calls.items():
    kernel = getattr(rectifiers, name)
    kernel(*arrays, code)
    (text,) = kernel.entry.inspect_llvm().values()
    print(name, len(re.findall(r"^vector[.]body[^:]*:", text, re.M)))
"""


def test_every_loop_is_vectorised(tmp_path):
    # Numba keeps no text of code that it loads: compiled anew
    lines = succeed("-c", IR, path=[ROOT], NUMBA_CACHE_DIR=tmp_path).stdout.split("\n")
    assert lines[:3] == ["rectifier_forward 8", "rectifier_forward_slope 4", "rectifier_backward 5"]


# ---------------------------------------------------------------------------------------------------------------------
# Plans and networks


def plan_of(*activations):
    return planning.plan((4,) * (len(activations) + 1), activations, dtype=np.float32, lanes=8, batch=3)[0]


@pytest.mark.compiled_as_used
def test_only_networks_with_one_of_them_have_the_feature():
    plain = [name for name in layout.ACTIVATIONS if name not in layout.RECTIFIERS]
    plan = plan_of(*plain)
    assert plan.uses is None and (plan.table[:, layout.SLOPE] == 0).all()
    for name in layout.RECTIFIERS:
        plan = plan_of("relu", name)
        assert plan.uses.dtype.names == ("rectifiers",) and plan.uses.size == 0
        assert plan.table[0, layout.SLOPE] == 0 and (plan.table[1, layout.SLOPE] > 0) == (name in layout.BY_SLOPE)


def all_of_them(dtype, last="identity"):
    layers = [fastbp.Dense(units, name) for units, name in zip(range(20, 12, -1), layout.RECTIFIERS, strict=True)]
    return fastbp.Sequential([*layers, fastbp.Dense(3, last)], n_features=6, random_state=0, dtype=dtype)


@each_dtype
def test_few_rows_have_the_bits_of_many(dtype):
    model, X = all_of_them(dtype, "silu"), np.random.default_rng(0).normal(size=(41, 6))
    whole = model.predict(X)
    np.testing.assert_array_equal(np.concatenate([model.predict(X[i : i + 5]) for i in range(0, 41, 5)]), whole)
    np.testing.assert_allclose(model.predict(X[:4], backend="reference"), whole[:4], rtol=1e-4)
    raw = model.predict(X, raw=True)
    np.testing.assert_allclose(whole, raw / (1 + np.exp(-raw)), rtol=1e-5)


def test_aliases():
    assert fastbp.Dense(3, "swish") == fastbp.Dense(3, "silu")
    with pytest.raises(ValueError, match=r"activation must be one of .* 'gelu', 'gelu_tanh', .* got 'gelu_exact'"):
        fastbp.Dense(3, "gelu_exact")
