"""Same seed, same bits: whatever the number of threads, the schedule, the vector width and the CPU compiled for.

Each configuration is a process of its own (``_digest.py``), two of them at a time.
"""

import json
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llvmlite.binding as llvm
import pytest
from _processes import run

SCRIPT = Path(__file__).with_name("_digest.py")
POOL = 4
FEATURES = llvm.get_host_cpu_features()
# Features empty: those of the model. Unset, Numba takes the model's instruction timings, but the features of the host.
HASWELL = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
SKYLAKE = {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""}


def needs(*features):
    """What a skipped configuration lacks, or None."""
    missing = [feature for feature in features if not FEATURES.get(feature)]
    return f"this CPU lacks {', '.join(missing)}" if missing else None


AVX2 = needs("avx2", "fma")
AVX512 = needs("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
# environment, argument of the script, what show_config() must then say, why it cannot run here
CONFIGURATIONS = {
    "host": ({}, ("threaded",), {"cpu_name": llvm.get_host_cpu_name()}, None),
    "128 bits": ({"FASTBP_VECTOR_BITS": "128"}, ("-float64", "-sparse"), {"vector_bits": 128}, None),
    "256 bits": ({"FASTBP_VECTOR_BITS": "256"}, (), {"vector_bits": 256}, AVX2),
    "512 bits": ({"FASTBP_VECTOR_BITS": "512"}, (), {"vector_bits": 512}, AVX512),
    # the layout and the order of 512 bits on any machine
    "512 bits, split": ({}, ("512",), {"vector_bits": 512, "cpu_name": llvm.get_host_cpu_name()}, None),
    "haswell": (HASWELL, ("-everything", "-sparse"), {"vector_bits": 256, "cpu_name": "haswell"}, AVX2),
    "skylake-avx512": (SKYLAKE, (), {"vector_bits": 512, "cpu_name": "skylake-avx512"}, AVX512),
}


WIDEST = f"{512 if FEATURES.get('avx512f') else 256 if FEATURES.get('avx2') else 128} bits"


@pytest.fixture(scope="module")
def results(request):
    """A future for each configuration; all that tests of this run ask for, and this machine can run, are under way."""
    here = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    asked = {"host", *(item.callspec.params.get("name") for item in here)}
    with ThreadPoolExecutor(2) as pool:
        futures = {
            name: pool.submit(run, SCRIPT, *arguments, path=[SCRIPT.parent], NUMBA_NUM_THREADS=str(POOL), **changes)
            for name, (changes, arguments, _, reason) in CONFIGURATIONS.items()
            if reason is None and name != WIDEST and name in asked
        }
        if WIDEST in CONFIGURATIONS:  # to name the widest vectors changes nothing: the code is the host's
            futures[WIDEST] = futures["host"]
        yield futures
        for future in futures.values():  # none is started after a failure that ends the run
            future.cancel()


def result(results, name):
    """What a configuration printed, or a skip with what it lacks."""
    reason = CONFIGURATIONS[name][3]
    if reason:
        pytest.skip(reason)
    done = results[name].result()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def one_digest(runs):
    """The digest that all schedules of a case share."""
    assert len(set(runs.values())) == 1, runs
    return next(iter(runs.values()))


others = [pytest.param(name, marks=pytest.mark.slow) for name in CONFIGURATIONS if name != "host"]
each_configuration = pytest.mark.parametrize("name", ["host", *others])


@each_configuration
def test_configuration_runs_as_asked(results, name):
    config = result(results, name)["config"]
    assert config["pool"] == POOL
    assert (config["threading_layer"] is not None) == ("threaded" in CONFIGURATIONS[name][1] or name == WIDEST)
    assert config["threads"] <= POOL
    expected = CONFIGURATIONS[name][2]
    assert {key: config[key] for key in expected} == expected


def test_host_has_its_widest_vectors(results):
    widest = 512 if FEATURES.get("avx512f") else 256 if FEATURES.get("avx2") else 128
    assert result(results, "host")["config"]["vector_bits"] == widest


@each_configuration
def test_bits_do_not_depend_on_threads_or_schedule(results, name):
    """On plans for one to four threads, by the serial entry; on the host by the threaded one too."""
    entries = 2 if "threaded" in CONFIGURATIONS[name][1] or name == WIDEST else 1
    for case, runs in result(results, name)["cases"].items():
        assert len(runs) == (2 if "sparse" in case else entries * 4 if "everything" in case else entries * 8), case
        one_digest(runs)


def test_bits_do_not_depend_on_the_threads_of_a_session(results):
    for runs in result(results, "host")["backend"].values():
        digests = {asked: digest for asked, (digest, _) in runs.items()}
        assert {asked: used for asked, (_, used) in runs.items()} == {"1": 1, "2": 2}
        one_digest(digests)


@pytest.mark.parametrize("name", others)
def test_bits_do_not_depend_on_vectors_or_cpu(results, name):
    there, here = result(results, name), result(results, "host")
    left_out = [word[1:] for word in CONFIGURATIONS[name][1] if word.startswith("-")]
    for kind in ("cases", "backend", "parts"):
        wanted = {case for case in here[kind] if not any(word in case for word in left_out)}
        assert there[kind].keys() == wanted and len(wanted) >= 3
    assert not [case for case, runs in there["cases"].items() if one_digest(runs) != one_digest(here["cases"][case])]
    assert not [case for case, runs in there["backend"].items() if runs["1"] != here["backend"][case]["1"]]
    assert not [part for part, digest in there["parts"].items() if digest != here["parts"][part]]


def test_digest_tells_cases_apart(results):
    cases = result(results, "host")["cases"]
    assert len(cases) == len({digest for runs in cases.values() for digest in runs.values()}) == 83
    names = "float32", "float64", "relu", "tanh", "logistic", "poisson", "everything", "adam", "sgd", "scikit-learn"
    for word in names:
        assert any(word in case for case in cases), word


ERRORS = [
    ({"FASTBP_VECTOR_BITS": "64"}, "FASTBP_VECTOR_BITS is '64': it must be 128, 256 or 512; unset it"),
    ({"FASTBP_VECTOR_BITS": "wide"}, "FASTBP_VECTOR_BITS is 'wide': it must be 128, 256 or 512; unset it"),
    ({"FASTBP_VECTOR_BITS": ""}, "FASTBP_VECTOR_BITS is '': it must be 128, 256 or 512; unset it"),
]
if platform.machine().lower() in {"x86_64", "amd64"}:  # nothing is run for these models, so any x86-64 will do
    ERRORS += [
        (HASWELL | {"FASTBP_VECTOR_BITS": "512"}, "haswell) has vectors of 256 bits: set it to 256 or less, or unset"),
        (
            {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "FASTBP_VECTOR_BITS": "256"},
            "x86-64) has vectors of 128 bits: set it to 128 or less, or unset",
        ),
    ]


@pytest.mark.parametrize(
    "changes, message", ERRORS, ids=[" ".join(changes.values()) or "empty" for changes, _ in ERRORS]
)
def test_impossible_vector_width_says_what_to_do(changes, message):
    done = run("-c", "from fastbp.backends import get_backend; get_backend('cpu')", **changes)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ValueError: FASTBP_VECTOR_BITS is ")
    assert message in last
