"""All compile policy of the CPU kernels: options, vector width, what is compiled and when.

Nothing else in the package calls ``numba.njit``. A kernel is decorated with :func:`kernel`; a function that opens
parallel regions is built by :func:`parallel`, which compiles it twice, on demand: with threads, and as a serial twin.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import _dynfunc
from numba.core import types
from numba.core.codegen import JITCodeLibrary, get_host_cpu_features
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import register_pass
from numba.core.cpu import ParallelOptions
from numba.core.typed_passes import NativeLowering, NativeParforLowering
from numba.extending import models, overload, register_model

from fastbp.kernels.cpu._cache import Cache
from fastbp.kernels.cpu._threads import parallel_allowed, threads

# error_model="numpy": Numba's default division carries a zero check that stops vectorisation (Adam over 100,000
# parameters: 247 us with it, 44 us without). nsz is the only fast-math flag: contract, reassoc, nnan and ninf change
# bits between CPU models or hide NaN, and measured no faster.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nsz"}}
# Two neighbouring parallel loops must stay two regions: the second reads what all threads wrote in the first.
# Not as a dict: Numba takes the entries out of a dict, and the second function would be compiled with its defaults.
PARALLEL = ParallelOptions(False)
PARALLEL.enabled = PARALLEL.prange = True


# ---------------------------------------------------------------------------------------------------------------------
# Vector width


def _assembly(body: str) -> str:
    """Machine code, as text, that LLVM makes of one function for the CPU that Numba compiles for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name = numba.config.CPU_NAME or llvm.get_host_cpu_name()
    features = numba.config.CPU_FEATURES
    if features is None:  # as Numba has it, also where a CPU's name is given
        features = get_host_cpu_features()
    target = llvm.Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=2)
    return target.emit_assembly(llvm.parse_assembly(body))


@functools.cache
def _target() -> tuple[int, bool]:
    """Widest vector in bits, and whether there is a fused multiply-add, of the CPU that Numba compiles for."""
    text = _assembly(
        "declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)\n"
        "define void @f(ptr %p, ptr %q) {\n"
        "  %x = load <16 x float>, ptr %p\n  %y = load <16 x float>, ptr %q\n"
        "  %z = call <16 x float> @llvm.fma.v16f32(<16 x float> %x, <16 x float> %y, <16 x float> %x)\n"
        "  store <16 x float> %z, ptr %p\n  ret void\n}\n"
    )
    bits = 512 if "zmm" in text else 256 if "ymm" in text else 128
    return bits, "fmaf" not in text  # without the instruction LLVM calls fmaf of the C library


def _vector_bits() -> int:
    widest = _target()[0]
    asked = os.environ.get("FASTBP_VECTOR_BITS")
    if asked is None:
        return widest
    if asked not in {"128", "256", "512"}:
        raise ValueError(f"FASTBP_VECTOR_BITS is {asked!r}: it must be 128, 256 or 512; unset it for the widest")
    if int(asked) > widest:
        raise ValueError(
            f"FASTBP_VECTOR_BITS is {asked}, but this CPU (as Numba compiles for it: {cpu_name()}) has vectors of "
            f"{widest} bits: set it to {widest} or less, or unset it"
        )
    return int(asked)


def cpu_name() -> str:
    """Name of the CPU model that is compiled for, as LLVM calls it."""
    return numba.config.CPU_NAME or llvm.get_host_cpu_name()


VECTOR_BITS = _vector_bits()
HAS_FMA = _target()[1]


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    regions = REGIONS if "parallel" in options else {}
    dispatcher = numba.njit(no_cfunc_wrapper=True, **OPTIONS, **options, **regions)(function)
    dispatcher._cache = Cache(function, (VECTOR_BITS, HAS_FMA, OPTIONS, options))
    return dispatcher


class _PartLibrary(JITCodeLibrary):
    """Code that waits to be linked into its callers, where it is optimised and turned into machine code.

    Numba does both for every function that it compiles, and again in every caller: with seven levels from a training
    step down to exp, most of a cold start went there (21 s for the first threaded step, 13 s without).
    """

    optimised = True

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        if self.optimised:
            self._optimize_final_module()
        self._final_module.verify()
        self._finalized = True


class _PastedLibrary(_PartLibrary):
    """Code that its callers optimise: it only says in which order other parts are called.

    Loops need it beforehand, while LLVM sees that their arrays are not one: without, steps take up to twice as long.
    """

    optimised = False


def _stand_in(fndesc: Any, name: str, env: Any, library: Any) -> Any:
    """What callers of a part are typed with: it stands for the code and cannot be called."""
    return _dynfunc.make_function(fndesc.lookup_module(), name, "part of its callers", 0, env, (library,))


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    """Numba's lowering without an address to call: that would be machine code."""

    _name = "part_lowering"
    library: type[_PartLibrary] = _PartLibrary

    def run_pass(self, state: Any) -> bool:
        codegen = state.targetctx.codegen()
        state.library = self.library(codegen, state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        result, name = state["cr"], state.func_id.func_name
        function = _stand_in(result.fndesc, name, result.env, state.library)
        state.targetctx.insert_user_function(function, result.fndesc, [state.library])
        state["cr"] = result._replace(cfunc=function)
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PastedLowering(_PartLowering):
    """The same for what is pasted into its callers."""

    _name = "pasted_lowering"
    library = _PastedLibrary


class _PartCompiler(Compiler):
    """Numba's compiler with :class:`_PartLowering`."""

    replaced: type = NativeLowering
    lowering: type = _PartLowering

    def define_pipelines(self) -> list[Any]:
        (manager,) = super().define_pipelines()
        manager.passes = [(self.lowering if step is self.replaced else step, text) for step, text in manager.passes]
        manager.finalize()
        return [manager]


class _PastedCompiler(_PartCompiler):
    """Numba's compiler with :class:`_PastedLowering`."""

    lowering = _PastedLowering


@register_pass(mutates_CFG=True, analysis_only=False)
class _RegionLowering(NativeParforLowering):
    """Numba's lowering of a function with parallel loops, whose bodies become machine code within it only.

    Numba optimises and translates a body, the wrapper around it, and the function around both, each with all that it
    calls: three times the whole of a training step.
    """

    _name = "region_lowering"

    def run_pass(self, state: Any) -> bool:
        context, codegen = state.targetctx, state.targetctx.codegen()
        state.library = codegen.create_library(state.func_id.func_qualname)
        state.library.enable_object_caching()
        whole_library, whole_executable = codegen.create_library, context.get_executable

        def library_of(name: str, **options: Any) -> Any:
            # what else is compiled meanwhile, an overload of Numba's for one, is no body of a loop
            if any(part in name for part in ("parfor_gufunc", "GufuncWrapper", "parallelgufuncwrapper")):
                return _PastedLibrary(codegen, name)
            return whole_library(name, **options)

        def executable(library: Any, fndesc: Any, env: Any) -> Any:
            if isinstance(library, _PastedLibrary):
                return _stand_in(fndesc, fndesc.qualname.split(".")[-1], env, library)
            return whole_executable(library, fndesc, env)

        codegen.create_library, context.get_executable = library_of, executable  # Numba's compiler lock is held
        try:
            return super().run_pass(state)
        finally:
            del codegen.create_library, context.get_executable


class _RegionCompiler(_PartCompiler):
    """Numba's compiler with :class:`_RegionLowering`."""

    replaced, lowering = NativeParforLowering, _RegionLowering


# This reaches into Numba's insides, so only where they are known; any other version compiles every part as a whole,
# with the same results and a longer wait.
TESTED_NUMBA = (0, 63), (0, 68)
PART: dict[str, Any] = {}
REGIONS: dict[str, Any] = {}
if TESTED_NUMBA[0] <= numba.version_info.short <= TESTED_NUMBA[1]:
    PART = {"pipeline_class": _PartCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    REGIONS = {"pipeline_class": _RegionCompiler}
PASTED: dict[str, Any] = {**PART, "forceinline": True, **({"pipeline_class": _PastedCompiler} if PART else {})}


class _KernelType(types.Dispatcher):
    """Kernels as callers see them: 0, an unsigned loop index and an integer are one type, so one compilation."""

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        plain = (types.intp if isinstance(kind, types.Integer) else kind for kind in args)
        return super().get_call_type(context, tuple(plain), kws)


register_model(_KernelType)(models.OpaqueModel)


class kernel:  # noqa: N801  (used as a decorator)
    """A compiled function: the decorator of ``kernels/cpu``.

    Called by another kernel it becomes a part of that one's code. Called from Python it is compiled as a whole.
    ``@kernel.inlined`` pastes the part into its callers, for what is called once a tile or a step: ``plan`` and
    ``buffers`` go by value, some 85 words on the stack a call, which took 7 % of mnist's weight gradients and a fifth
    of a step of 64-32-10. Loops over elements belong into a part of their own.
    """

    def __init__(self, function: Callable[..., Any], how: dict[str, Any] = PART) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self._part = numba.njit(**OPTIONS, **how)(function)
        self._numba_type_ = _KernelType(self._part)

    @classmethod
    def inlined(cls, function: Callable[..., Any]) -> kernel:
        """A kernel that LLVM always pastes into its callers."""
        return cls(function, PASTED)

    @functools.cached_property
    def entry(self) -> Any:
        """The dispatcher that Python calls."""
        return _compile(self.py_func)

    def __call__(self, *args: Any) -> Any:
        return self.entry(*args)


def by_dtype(make: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """A scalar function with one body for float32 and one for float64, chosen when the caller is compiled.

    ``make(real)`` returns the body for ``real`` being ``numpy.float32`` or ``numpy.float64``, with its constants in
    that type: a float64 constant would silently turn the arithmetic of a float32 kernel into float64.
    """
    import numpy as np

    bodies = {types.float32: make(np.float32), types.float64: make(np.float64)}

    def stub(x: Any) -> Any:
        raise NotImplementedError("only for use inside kernels")

    functools.update_wrapper(stub, make)
    # forceinline leaves the pasting to LLVM; Numba's own inline="always" warns about variables out of scope
    overload(stub, jit_options={**OPTIONS, **PART, "forceinline": True})(lambda x: bodies.get(x))
    return stub


def by_type(choose: Callable[..., Callable[..., Any] | None], how: dict[str, Any] = PART) -> Callable[..., Any]:
    """A function whose body is chosen by the types of its arguments, when the caller is compiled.

    What is not chosen is not compiled: a network does not wait for code that only another kind of data needs. The
    result is for use inside kernels. Numba cannot pass a tuple within a tuple into a parallel region, so what data
    lacks is marked by None, not by an empty tuple.

    Parameters
    ----------
    choose : callable
        Has the name, the docstring and the arguments of the function. It is called with Numba's types, one an
        argument, and returns the body: a Python function whose arguments have the same names in the same order, which
        may call kernels. None for types that the function does not take.

    Examples
    --------
    >>> from numba import types
    >>> from fastbp.kernels.cpu._jit import by_type
    >>> def _dense(X, columns, i):
    ...     return X[i]
    >>> def _sparse(X, columns, i):
    ...     return X[columns[i]]
    >>> @by_type
    ... def element(X, columns, i):
    ...     return _dense if isinstance(columns, types.NoneType) else _sparse
    """

    def stub(*args: Any) -> Any:
        raise NotImplementedError("only for use inside kernels")

    functools.update_wrapper(stub, choose)
    overload(stub, jit_options={**OPTIONS, **how})(choose)
    return stub


def by_type_inlined(choose: Callable[..., Callable[..., Any] | None]) -> Callable[..., Any]:
    """The same, pasted into its callers: see :class:`kernel`."""
    return by_type(choose, PASTED)


def uses(plan: Any, feature: str) -> bool:
    """Whether the network of a plan, of which this is Numba's type, needs a feature: for :func:`by_type`."""
    marker = plan.types[plan.fields.index("uses")]
    return isinstance(marker, types.Array) and feature in marker.dtype.fields


def more_than_dense(plan: Any) -> bool:
    """Whether a network has anything but dense layers, for :func:`by_type`."""
    return any(uses(plan, feature) for feature in ("batch_norm", "layer_norm", "dropout", "residual"))


# ---------------------------------------------------------------------------------------------------------------------
# Two twins of what has parallel regions


class parallel:  # noqa: N801  (used as a decorator)
    """A function with ``prange`` regions: ``f.serial(...)`` and ``f.threaded(...)`` are compiled from one body.

    The serial twin has no parallel region at all: tiny steps, one thread and forked children use it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.serial = _compile(function)
        self.threaded = _compile(function, parallel=PARALLEL)

    def __call__(self, *args: Any, n_threads: int = 1) -> Any:
        if n_threads == 1 or not parallel_allowed():
            return self.serial(*args)
        with threads(n_threads):
            return self.threaded(*args)
