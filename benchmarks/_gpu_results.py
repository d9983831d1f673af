"""Goals and the short table of :mod:`benchmarks.gpu`, from its results file alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.summary import Spread

MOST_LINES = 25
COLUMNS = ("eager", "graphs", "graphs-many", "compile", "compile-graphs")


@dataclass(frozen=True)
class Goal:
    """``factor`` times the speed of the fastest of ``peers`` on a part."""

    part: str
    peers: tuple[str, ...]
    factor: float


GOALS = (
    Goal("mnist/64", ("graphs", "graphs-many"), 5.0),
    Goal("mnist/256", ("graphs", "graphs-many"), 3.0),
    Goal("mnist/1024", ("graphs", "graphs-many"), 2.0),
    Goal("mnist/64", ("eager",), 20.0),
    Goal("wide/float32", ("eager", "graphs"), 0.9),
    Goal("wide/tf32", ("eager", "graphs"), 0.7),
)


def seconds(part: dict[str, Any], name: str) -> Spread | None:
    """Of an epoch; None where it was not measured."""
    rounds = part.get("peers", {}).get(name, {}).get("rounds")
    return Spread.of([turn["seconds"] for turn in rounds]) if rounds else None


def ratio(part: dict[str, Any], name: str) -> Spread | None:
    """Seconds of a peer by fastbp's of the same round."""
    peers = part.get("peers", {})
    both = [peers.get(key, {}).get("rounds") or [] for key in (name, "fastbp")]
    values = [theirs["seconds"] / ours["seconds"] for theirs, ours in zip(*both, strict=False)]
    return Spread.of(values) if values else None


def judged(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals with what was measured: ``reached`` is None where that is nothing."""
    found = []
    for goal in GOALS:
        part = parts.get(goal.part, {})
        measured = {name: spread for name in goal.peers if (spread := seconds(part, name)) is not None}
        best = min(measured, key=lambda name: measured[name].median, default=None)
        times = None if best is None else ratio(part, best)
        found.append(
            asdict(goal) | {
                "against": best, "ratio": None if times is None else asdict(times),
                "reached": None if times is None else times.median >= goal.factor,
            }
        )  # fmt: skip
    return found


def agreements(parts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By precision: how many cases there are, how many agree, which are off or not done, and the worst difference."""
    found: dict[str, dict[str, Any]] = {}
    for name, part in parts.items():
        kind, _, rest = name.partition("/")
        if kind != "agreement":
            continue
        precision, _, case = rest.partition("/")
        all_of = found.setdefault(precision, {"cases": 0, "agree": 0, "off": [], "open": [], "worst": 0.0})
        all_of["cases"] += 1
        if "skipped" in part:
            all_of["open"].append(case)
        elif part.get("agrees"):
            all_of["agree"] += 1
            all_of["worst"], all_of["allowed"] = max(all_of["worst"], part["worst"]), part["allowed"]
        else:
            all_of["off"].append(case)
    return found


def disagreements(parts: dict[str, Any]) -> list[str]:
    """A line for each case that is off: what it was, by how much, or the error."""
    lines = []
    for name, part in parts.items():
        if name.startswith("agreement/") and not part.get("agrees") and "skipped" not in part:
            if "error" in part:
                what = part["error"]
            else:
                what = ", ".join(f"{key} {value:.1e}" for key, value in part["off"].items())
                what += f" (allowed {part['allowed']:.0e})"
            lines.append(f"  {name.removeprefix('agreement/')}: {what}"[:200])
    return lines


def table(results: dict[str, Any]) -> list[str]:
    """At most :data:`MOST_LINES` lines."""
    parts, machine = results["parts"], results["machine"]
    lines = [_machine(machine, results), *_agreement_lines(parts)]
    timed = [name for name in parts if name.split("/")[0] in ("mnist", "wide")]
    if timed:
        lines.append(f"{'us a step (min-max)':14s} {'fastbp':>22s}" + "".join(f"{name:>17s}" for name in COLUMNS))
    lines += [_row(name, parts) for name in timed]
    for goal in results["goals"] if timed else []:
        state = {True: "reached", False: "MISSED", None: "open"}[goal["reached"]]
        times = "not measured"
        if goal["ratio"] is not None:
            spread = Spread(**goal["ratio"])
            times = f"{spread.median:.2f} ({spread.least:.2f}-{spread.most:.2f}) times {goal['against']}"
        lines.append(f"  {state:8s} {goal['part']:13s} {times}, goal {goal['factor']:g}")
    lines += _troubles(parts, MOST_LINES - len(lines))
    return lines[:MOST_LINES]


def _machine(machine: dict[str, Any], results: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    quick = " QUICK RUN: no figures." if results["quick"] else ""
    cuda = f"driver {machine.get('driver')}, CUDA {machine.get('torch_cuda')}"
    return f"{machine.get('gpu')}, {cuda}, {machine['cpu']}; {versions}; seed {results['seed']}.{quick}"


def _agreement_lines(parts: dict[str, Any]) -> list[str]:
    lines = []
    for precision, found in agreements(parts).items():
        off = f"; OFF: {', '.join(found['off'])}" if found["off"] else ""
        not_done = f"; not done: {', '.join(found['open'])}" if found["open"] else ""
        worst = f", worst {found['worst']:.1e} of {found['allowed']:.0e}" if "allowed" in found else ""
        lines.append(f"agreement {precision}: {found['agree']} of {found['cases']} cases{worst}{off}{not_done}"[:200])
    return lines


def _row(name: str, parts: dict[str, Any]) -> str:
    part, compiled = parts[name], parts.get(f"compiled/{name.partition('/')[2]}", {})
    ours = seconds(part, "fastbp")
    cells = [f"{name:14s}", f"{_step(part, ours):>22s}"]
    for peer in COLUMNS:
        source = compiled if peer.startswith("compile") and name.startswith("mnist") else part
        theirs, times = seconds(source, peer), ratio(source, peer)
        text = "" if theirs is None else f"{theirs.median / source['steps'] * 1e6:.1f}"
        cells.append(f"{text + (f' x{times.median:.2f}' if times else ''):>16s}")
    return " ".join(cells)


def _step(part: dict[str, Any], spread: Spread | None) -> str:
    if spread is None:
        return "-"
    median, least, most = (value / part["steps"] * 1e6 for value in (spread.median, spread.least, spread.most))
    return f"{median:.1f} ({least:.1f}-{most:.1f})"


def _troubles(parts: dict[str, Any], room: int) -> list[str]:
    """Parts without a result and peers that could not run, one line each, as many as there is room for."""
    lines = []
    for name, part in parts.items():
        if name.startswith("agreement/"):
            continue
        why = part.get("error") or part.get("skipped")
        found = [(name, why)] if why else []
        found += [
            (f"{name} {peer}", one["unavailable"])
            for peer, one in part.get("peers", {}).items()
            if "unavailable" in one
        ]
        lines += [f"  {what}: {' '.join(reason.split())}"[:160] for what, reason in found]
    if len(lines) > room > 0:
        lines = [*lines[: room - 1], f"  and {len(lines) - room + 1} more: see the JSON"]
    return lines[: max(room, 0)]


def losses_apart(part: dict[str, Any], allowed: float) -> list[str]:
    """Peers whose first losses are not fastbp's: they would not have trained the same network."""
    peers: dict[str, Any] = part.get("peers", {})
    ours = peers.get("fastbp", {}).get("loss")
    losses: Sequence[tuple[str, float]] = [(name, one["loss"]) for name, one in peers.items() if "loss" in one]
    return [
        f"{name} has the loss {loss:.4f} after its first turn, fastbp {ours:.4f}"
        for name, loss in losses
        if ours is not None and not abs(loss - ours) <= allowed * abs(ours)
    ]
