"""Turn a results file into the README's table and a plot: ``python -m benchmarks.report``, with ``--check`` to compare.

The table stands between two markers, and nothing else of the README is touched. Where there is a ``sweep.json`` beside
the file, its curves are drawn as well; ``--json`` with a file of that suite draws them alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.driver import ROOT
from benchmarks.peers import BASELINE, PEERS
from benchmarks.summary import Spread, network, summarize

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
RESULTS = ROOT / "benchmarks" / "results"
# variants of fastbp, and a file that does not come with the repository: they are in the results, not in the table
LEFT_OUT = ("fastbp-alpha", "fastbp-float64", "fastbp-trainer", "probe")


def columns(results: dict[str, Any]) -> list[str]:
    """The peers that have a figure on some workload."""
    workloads = results["workloads"].values()
    measured = {name for workload in workloads for name in summarize(workload)}
    return [name for name in PEERS if name in measured and name not in (*LEFT_OUT, BASELINE)]


def table(results: dict[str, Any]) -> str:
    """The table, with the machine above it and the command below it, in Markdown."""
    machine, peers = results["machine"], columns(results)
    header = ["", "network, batch", "step", "GFLOP/s", "of peak", *(PEERS[name].label for name in peers)]
    rows = [header, ["---", "---", *["---:"] * (len(header) - 2)]]
    for name, workload in results["workloads"].items():
        summaries = summarize(workload)
        ours = summaries[BASELINE]
        cells = [name, f"{network(workload)}, {workload['batch']}", f"{ours.step_us:.0f} µs"]
        cells += [f"{ours.gflops:.0f}", f"{ours.share:.0%}"]
        rows.append([*cells, *(_cell(summaries[peer].ratio) if peer in summaries else "" for peer in peers)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([_machine(machine, results), "", *lines, "", _legend(results)])


def _cell(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.1f} ({ratio.least:.1f} to {ratio.most:.1f})"


def _machine(machine: dict[str, Any], results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    settings = "".join(f", {name}={value}" for name, value in machine["environment"].items())
    quick = " A quick run, to see that it works: its figures mean nothing." if results["quick"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {threads}, {results['dtype']}{settings}; "
        f"Python {machine['python']}, {versions}{_blas(results)}.{quick}"
    )


def _blas(results: dict[str, Any]) -> str:
    """Which kernels NumPy's OpenBLAS ran for scikit-learn."""
    for workload in results["workloads"].values():
        for library in workload["peers"].get("sklearn", {}).get("notes", {}).get("blas", []):
            if library["of"] == "numpy":
                return (
                    f"; NumPy's {library['internal_api']} {library['version']} with {library['architecture']} kernels"
                )
    return ""


def _legend(results: dict[str, Any]) -> str:
    reasons: dict[str, str] = {}
    for workload in results["workloads"].values():
        for name, peer in workload["peers"].items():
            if "unavailable" in peer and name not in LEFT_OUT:
                reasons.setdefault(name, peer["unavailable"])
    missing = "".join(
        f" {PEERS[name].label} is missing where it could not run ({why})." for name, why in reasons.items()
    )
    return (
        "The columns of other libraries give their time for an epoch by that of `fastbp.MLPClassifier`, taken in turn: "
        f"the median of {results['rounds']} rounds, with the smallest and the largest; above 1, fastbp is faster. The "
        "peak is that of the micro-kernel on operands in the first-level cache, in the same run. "
        f"All networks have ReLU and are trained by Adam on random rows. Compilation is not included.{missing} "
        f"Measured by `{results['command']}`."
    )


def updated(readme: str, results: dict[str, Any]) -> str:
    """The README with the table between its markers.

    Raises
    ------
    ValueError
        Where the markers are not there once each, in order.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in head + tail:
        raise ValueError(f"the README must hold {BEGIN} and, after it, {END}, once each")
    return f"{head}{BEGIN}\n{table(results)}\n{END}{tail}"


def plot(results: dict[str, Any], path: Path) -> None:
    """A bar for each peer and workload: how many times fastbp's seconds it takes, with smallest and largest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    peers, names = columns(results), list(results["workloads"])
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / max(1, len(peers))
    for k, peer in enumerate(peers):
        places, medians, below, above = [], [], [], []
        for position, name in enumerate(names):
            summary = summarize(results["workloads"][name]).get(peer)
            if summary is None or summary.ratio is None:
                continue
            ratio = summary.ratio
            places.append(position + (k - (len(peers) - 1) / 2) * width)
            medians.append(ratio.median)
            below.append(ratio.median - ratio.least)
            above.append(ratio.most - ratio.median)
        axes.bar(places, medians, width, yerr=[below, above], capsize=2, label=PEERS[peer].label)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xticks(range(len(names)), [f"{name}\n{network(results['workloads'][name])}" for name in names])
    axes.tick_params(axis="x", labelsize="small")
    axes.set_ylabel("time of an epoch / that of fastbp")
    machine = results["machine"]
    axes.set_title(f"{machine['cpu']}, {machine['threads']} threads, {results['dtype']}", fontsize="medium")
    if peers:
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_sweep(results: dict[str, Any], path: Path) -> None:
    """Two panels, over batches and over widths: a line for each library, its share of the peak."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    labels = {"batch": "rows in a batch, 256-256-256-10", "width": "width W of W-W-W-10, batches of 256 rows"}
    for axes, (kind, label) in zip(panels, labels.items(), strict=True):
        for peer, (sizes, shares) in sweep_curves(results, kind).items():
            axes.plot(sizes, shares, marker="o", markersize=4, label=PEERS[peer].label)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("share of the machine's peak")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PEERS))
    machine = results["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['threads']} threads, {results['dtype']}", fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sweep_curves(results: dict[str, Any], kind: str) -> dict[str, tuple[list[int], list[float]]]:
    """By peer: sizes in ascending order, and the share of the peak at each, of the workloads named ``kind-SIZE``."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, workload in results["workloads"].items():
        swept, _, size = name.partition("-")
        if swept == kind:
            for peer, summary in summarize(workload).items():
                found.setdefault(peer, []).append((int(size), summary.share))
    columns = {peer: zip(*sorted(points), strict=True) for peer, points in found.items()}
    return {peer: (list(sizes), list(shares)) for peer, (sizes, shares) in columns.items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Write the table and the plot, or compare; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS / "cpu.json", help="default: benchmarks/results/cpu.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="default: README.md")
    parser.add_argument("--plot", type=Path, default=RESULTS / "cpu.png", help="default: benchmarks/results/cpu.png")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the README differs")
    args = parser.parse_args(argv)
    if not args.json.is_file():
        raise SystemExit(f"there is no {args.json.name}: python -m benchmarks.run writes it")
    results, sweep = _read(args.json), args.json.with_name("sweep.json")
    if results["suite"] == "sweep":
        plot_sweep(results, args.json.with_suffix(".png"))
        print(f"wrote {args.json.stem}.png")
        return 0
    if results["suite"] != "cpu":
        raise SystemExit(f"{args.json.name} is of the suite {results['suite']}: the table is that of the suite cpu")
    before = args.readme.read_text(encoding="utf-8")
    after = updated(before, results)
    if args.check:
        if before != after:
            print(f"{args.readme.name} and {args.json.name} differ: run python -m benchmarks.report", file=sys.stderr)
        return int(before != after)
    args.readme.write_text(after, encoding="utf-8")
    plot(results, args.plot)
    print(f"wrote the table into {args.readme.name}, and {args.plot.name}")
    if sweep.is_file():
        plot_sweep(_read(sweep), sweep.with_suffix(".png"))
        print(f"wrote {sweep.stem}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
