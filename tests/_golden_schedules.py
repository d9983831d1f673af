"""Writes ``golden_schedules.json``: learning rates of PyTorch's schedulers over 50 steps, for ``test_schedules.py``.

    python tests/_golden_schedules.py

A test computes them again where PyTorch is installed and compares them with the file.
"""

import json
import math
from pathlib import Path

FILE = Path(__file__).with_name("golden_schedules.json")
N_STEPS = 50


def losses(kind):
    """A loss after each of 50 epochs: what falls, stays, rises and is no number, in one."""
    falling = [3 * math.exp(-k / 8) + 0.3 * math.cos(1.7 * k) / (1 + k / 10) for k in range(N_STEPS)]
    if kind == "flat":
        return [max(1.0, 2 - k / 4) for k in range(N_STEPS)]
    if kind == "nan":
        return [math.nan if k in (0, 7, 8, 9, 30) else value for k, value in enumerate(falling)]
    if kind == "rising":
        return [-value for value in falling]
    return falling


def schedulers(torch):
    """Name: what makes a scheduler for an optimizer, and what it is told after each step (None: nothing)."""
    lr = torch.optim.lr_scheduler

    def warm(optimizer, warmup, start, then):
        first = lr.LinearLR(optimizer, start_factor=start, total_iters=warmup)
        return lr.SequentialLR(optimizer, [first, then(optimizer)], [warmup])

    def one_cycle(**options):
        return lambda optimizer: lr.OneCycleLR(optimizer, 0.3, total_steps=N_STEPS, cycle_momentum=False, **options)

    def plateau(kind, **options):
        return lambda optimizer: lr.ReduceLROnPlateau(optimizer, **options), losses(kind)

    cases = {
        "step": lambda o: lr.StepLR(o, 7, gamma=0.3),
        "exponential": lambda o: lr.ExponentialLR(o, 0.9),
        "cosine": lambda o: lr.CosineAnnealingLR(o, N_STEPS, eta_min=0.01),
        "cosine_short": lambda o: lr.CosineAnnealingLR(o, 49),
        "restarts": lambda o: lr.CosineAnnealingWarmRestarts(o, 8, eta_min=0.001),
        "restarts_longer": lambda o: lr.CosineAnnealingWarmRestarts(o, 5, T_mult=2),
        "warmup_cosine": lambda o: warm(o, 10, 0.1, lambda o: lr.CosineAnnealingLR(o, 40, eta_min=0.02)),
        "warmup_even": lambda o: warm(o, 9, 0.1, lambda o: lr.CosineAnnealingLR(o, 41)),
        "warmup_restarts": lambda o: warm(o, 4, 0.25, lambda o: lr.CosineAnnealingWarmRestarts(o, 6, T_mult=3)),
        "one_cycle": one_cycle(),
        "one_cycle_linear": one_cycle(anneal_strategy="linear", pct_start=0.25, div_factor=10, final_div_factor=50),
        "one_cycle_three": one_cycle(three_phase=True, pct_start=0.4),
        "one_cycle_three_linear": one_cycle(three_phase=True, anneal_strategy="linear", pct_start=0.33),
    }
    return {name: (make, None) for name, make in cases.items()} | {
        "plateau": plateau("falling", patience=2),
        "plateau_flat": plateau("flat", factor=0.5, patience=3, cooldown=4, min_lr=0.004),
        "plateau_abs": plateau("falling", factor=0.7, patience=0, threshold=0.3, threshold_mode="abs"),
        "plateau_max": plateau("rising", mode="max", factor=0.5, patience=1, threshold=0.05),
        "plateau_max_abs": plateau("rising", mode="max", patience=1, threshold=0.2, threshold_mode="abs"),
        "plateau_nan": plateau("nan", factor=0.5, patience=2),
    }


def computed():
    """All of it, by PyTorch: name, and the rate of each of 50 steps."""
    import torch

    rates = {}
    for name, (make, told) in schedulers(torch).items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
        scheduler, rates[name] = make(optimizer), []
        for k in range(N_STEPS):
            rates[name].append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if told is not None:
                scheduler.step(told[k])
            elif k + 1 < N_STEPS:
                scheduler.step()
    return rates


if __name__ == "__main__":
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rates)}" for name, rates in computed().items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
