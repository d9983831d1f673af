"""Run the worked examples and put their code and numbers into docs/worked_examples.md.

    python scripts/worked_examples.py --mnist mnist.npz    # an .npz file with x_train, y_train, x_test, y_test
    python scripts/worked_examples.py                      # scikit-learn's digits stand in for MNIST
    python scripts/worked_examples.py --check              # writes nothing: is the page what the examples give?

The page is its own template: prose, and between markers what this script puts there, the source of an example or what
it gives. Prose is changed in the page, code and numbers in ``scripts/worked``. Numbers are shown with as many digits as
are the same on every machine. The NumPy reference computes all examples but MNIST, which the compiled kernels do.

``--check`` exits with 1 and shows the difference where there is one. Without ``--mnist`` it leaves the block of MNIST
as it is. Figures are drawn anew, and not compared: their bytes depend on matplotlib's version.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train_mnist import load_npz, to_inputs
from worked import by_hand, learning, sickness

PAGE = Path(__file__).resolve().parents[1] / "docs" / "worked_examples.md"
BACKEND = "reference"  # bits may depend on NumPy's BLAS; digits shown do not
BLOCK = re.compile(r"<!-- (code|output): ([\w.]+) -->\n(.*?)<!-- end -->", re.DOTALL)
SECOND = by_hand.START | {"b2": 0.2}


def outputs() -> dict[str, str]:
    """What the examples give, by the name that the page has for it; but MNIST."""
    return {
        "first_worksheet": by_hand.worksheet(by_hand.relu_then_sigmoid, by_hand.START),
        "first_side_by_side": by_hand.side_by_side(by_hand.relu_then_sigmoid, "relu", by_hand.START, backend=BACKEND),
        "second_worksheet": by_hand.worksheet(by_hand.two_sigmoids, SECOND),
        "second_side_by_side": by_hand.side_by_side(by_hand.two_sigmoids, "sigmoid", SECOND, backend=BACKEND),
        "xor": learning.xor_table(BACKEND),
        "vanishing_flow": sickness.vanishing_flow(BACKEND),
        "vanishing": sickness.vanishing_table(BACKEND),
        "exploding": sickness.exploding_table(BACKEND),
        "dead": sickness.dead_table(BACKEND),
    }


def digits_output(path: Path | None) -> str:
    """The example of handwritten digits: MNIST from a file by the compiled kernels, or scikit-learn's digits."""
    if path is None:
        return learning.digits_table(learning.stand_in(), BACKEND)
    x_train, y_train, x_test, y_test = load_npz(path)
    digits = learning.Digits("MNIST", to_inputs(x_train), y_train, to_inputs(x_test), y_test)
    return learning.digits_table(digits, "cpu")


def rendered(page: str, texts: Mapping[str, str]) -> str:
    """The page with code and outputs between its markers; an output that is not in ``texts`` stays as it is.

    Raises
    ------
    ValueError
        For an output that the page has no place for.
    """
    placed = set()

    def block(match: re.Match[str]) -> str:
        kind, name, before = match.groups()
        if kind == "code":
            module, function = name.rsplit(".", 1)
            text = inspect.getsource(getattr(importlib.import_module(f"worked.{module}"), function))
            return f"<!-- code: {name} -->\n```python\n{text.rstrip()}\n```\n<!-- end -->"
        placed.add(name)
        text = f"```text\n{texts[name]}\n```\n" if name in texts else before
        return f"<!-- output: {name} -->\n{text}<!-- end -->"

    result = BLOCK.sub(block, page)
    if set(texts) - placed:
        raise ValueError(f"the page has no place for {', '.join(sorted(set(texts) - placed))}")
    return result


def difference(page: str, new: str) -> str:
    """What of the page the examples give otherwise; empty where nothing is."""
    return "\n".join(difflib.unified_diff(page.splitlines(), new.splitlines(), "the page", "the examples", lineterm=""))


def draw(folder: Path) -> list[Path]:
    """The figures of the page."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from fastbp.plotting import GradientFlowDisplay, LearningCurveDisplay

    outcomes = sickness.vanishing_outcomes(BACKEND)
    figure, axes = plt.subplots(2, 2, figsize=(13, 10), layout="constrained")
    for ax, (name, done) in zip(axes.flat, outcomes.items(), strict=True):
        GradientFlowDisplay.from_flow(done.flows.flows[0], ax=ax)
        ax.set_xlim(1e-9, 1)
        ax.set_title(name, pad=30)  # above the legend
    flow_path = _saved(plt, figure, folder / "worked_gradient_flow.png")

    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, style, colour in zip(outcomes, ("-", "--", "-.", ":"), range(4), strict=True):
        curve = {"loss": outcomes[name].losses}
        LearningCurveDisplay(curve).plot(ax, label=name, linestyle=style, color=f"C{colour}")
    ax.set_title("Loss of the four networks")
    ax.legend()
    curve_path = _saved(plt, figure, folder / "worked_learning_curves.png")

    clipped = sickness.exploding_outcomes(BACKEND)["clipped"].flows
    figure, ax = plt.subplots(figsize=(7.5, 5.5), layout="constrained")
    GradientFlowDisplay.from_flows(clipped, ax=ax, kind="heatmap", quantity="ratio")
    return [flow_path, curve_path, _saved(plt, figure, folder / "worked_exploding.png")]


def _saved(plt: Any, figure: Any, path: Path) -> Path:
    """Write a figure with 256 colours: half the bytes."""
    from PIL import Image

    whole = io.BytesIO()
    figure.savefig(whole, dpi=80)
    plt.close(figure)
    with Image.open(whole) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)
    return path


def folder(text: str) -> Path:
    """A command-line argument that is a folder."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no folder: make it first")
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the script; the exit status."""
    parser = argparse.ArgumentParser(description="Run the worked examples and write their page and figures.")
    parser.add_argument("--mnist", type=Path, help="an .npz file (default: scikit-learn's digits stand in)")
    parser.add_argument("--check", action="store_true", help="compare with the page instead of writing it")
    parser.add_argument("--out", type=folder, default=PAGE.parent, help="folder for page and figures (default: docs)")
    args = parser.parse_args(argv)
    if not args.check:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            from fastbp._extras import how_to_install

            raise SystemExit(f"the figures need matplotlib: {how_to_install('plot')}") from None
    texts = outputs()
    if args.mnist is not None or not args.check:
        texts["digits"] = digits_output(args.mnist)
    page = PAGE.read_text(encoding="utf-8")
    new = rendered(page, texts)
    if args.check:
        found = difference(page, new)
        print(found or f"{PAGE.name} is what the examples give" + ("" if args.mnist else " (MNIST was not run)"))
        return 1 if found else 0
    for name, text in texts.items():
        print(f"== {name}\n{text}\n")
    (args.out / PAGE.name).write_text(new, encoding="utf-8")
    print("wrote", ", ".join(str(path) for path in [args.out / PAGE.name, *draw(args.out)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
