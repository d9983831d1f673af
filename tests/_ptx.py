"""Kernels compiled to PTX, and that to machine code, without a driver.

For a process of its own without ``NUMBA_ENABLE_CUDASIM``, which is fixed at import.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

REGISTERS = re.compile(r"Used (\d+) registers")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def tool(name):
    """A program of the CUDA toolkit, of the version of the compiler: one from the path may be older than its PTX."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else spec.submodule_search_locations
    return next((str(file) for folder in folders for file in sorted(Path(folder).glob(f"*/bin/{name}"))), None)


def missing():
    """Why nothing can be compiled for GPUs here; empty where it can."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: it comes with the extra `cuda`"
    from numba.cuda.cudadrv.nvvm import NVVM

    try:
        NVVM()
    except Exception as error:  # of several kinds, as there are ways not to find a library
        return f"numba-cuda finds no compiler: {error}"
    return ""


def to_ptx(kernel, arguments, capability, launch_bounds=None):
    """PTX of a kernel for arguments of Numba's types and a compute capability such as (9, 0)."""
    from numba import cuda, types

    class Device:
        compute_capability = capability

    # device functions are compiled for the current device, which asks the driver
    for name, module in list(sys.modules.items()):
        if name.startswith("numba") and hasattr(module, "get_current_device"):
            module.get_current_device = lambda: Device
    ptx, _ = cuda.compile_ptx(kernel, types.void(*arguments), cc=capability, launch_bounds=launch_bounds)
    return ptx


def assemble(ptx, capability):
    """(registers, bytes of stack and spills, machine code) of what ptxas makes of it; None where there is no ptxas."""
    ptxas = tool("ptxas")
    if ptxas is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        arch = f"-arch=sm_{capability[0]}{capability[1]}"
        done = subprocess.run([ptxas, "-v", arch, source, "-o", binary], capture_output=True, text=True, check=True)
        disassembler = tool("nvdisasm")
        code = ""
        if disassembler is not None:
            code = subprocess.run([disassembler, "-c", binary], capture_output=True, text=True, check=True).stdout
    registers = max(map(int, REGISTERS.findall(done.stderr)))
    return registers, sum(int(n) for sizes in SPILLS.findall(done.stderr) for n in sizes), code


def loops(code, least=16):
    """How many of each instruction there are in the runs of machine code that compute most: FFMA, HMMA, LDS, ..."""
    runs = re.split(r"^\.L_x_\d+:", code, flags=re.MULTILINE)
    found = (Counter(re.findall(r"\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9]*)", run)) for run in runs)
    return [dict(one) | {"all": one.total()} for one in found if one["FFMA"] >= 16 * least or one["HMMA"] >= least]
