"""Seeded inputs and case files that all generators of reference fixtures share."""

import json
import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "reference"
ACTIVATIONS = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu": F.gelu,
    "geluTanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x) ** 2,
}


class Draw:
    """Seeded tensors whose elements have four decimals."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def __call__(self, *shape, scale=1.0, low=None, high=None):
        def one():
            return self.random.gauss(0, scale) if low is None else self.random.uniform(low, high)

        values = [round(one(), 4) for _ in range(math.prod(shape))]
        return torch.tensor(values, dtype=torch.float64).reshape(shape)


def plain(value):
    """Tensors as flat lists of numbers, missing inputs left out."""
    if isinstance(value, torch.Tensor):
        return value.reshape(-1).tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return value


class Cases:
    def __init__(self, stem):
        self.stem, self.cases = stem, []

    def add(self, name, run, inputs, options, expected):
        case = {"name": name, "run": run, "inputs": inputs, "options": options, "expected": expected}
        self.cases.append(plain(case))

    def write(self):
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in self.cases)
        (FOLDER / f"{self.stem}.json").write_text(f'{{"cases":[\n{lines}\n]}}\n')
