"""Gates that are applied value by value: of a feed-forward layer in parts, of a whole row, and none at all."""

import torch

from .common import ACTIVATIONS, Cases, Draw


def make():
    cases, draw = Cases("gates"), Draw(31)
    rows, width = 3, 7
    shape = {"rows": rows, "width": width}
    for activation, function in {**ACTIVATIONS, "sigmoid": torch.sigmoid}.items():
        x, gate, addend = draw(rows, width), draw(rows, width, scale=3), draw(rows, width)
        expected = addend + 0.5 * function(gate) * x
        options = {**shape, "activation": activation, "scale": 0.5}
        cases.add(f"{activation}, addend, scale", "applyGate", {"x": x, "gate": gate, "addend": addend}, options, expected)
    # A shared expert, as transformers' qwen3_next adds it to the others.
    x, gate, addend = draw(rows, width), draw(rows, 1, scale=2), draw(rows, width)
    inputs = {"x": x, "gate": gate, "addend": addend}
    expected = addend + torch.sigmoid(gate) * x
    cases.add("one gate a row", "applyGate", inputs, {**shape, "activation": "sigmoid"}, expected)
    cases.add("a sum", "applyGate", {"x": x, "addend": addend}, shape, x + addend)
    cases.add("a copy", "applyGate", {"x": x}, shape, x)
    cases.write()
