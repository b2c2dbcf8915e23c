"""Norms beyond the plain ones: residuals, sigmoid gates, no weight, many groups, a mean far from 0."""

import torch
import torch.nn.functional as F

from .common import Cases, Draw


def gated(x, z, weight, groups, eps, before, activation):
    def normalize(value):
        sliced = value.unflatten(-1, (groups, -1))
        flat = F.rms_norm(sliced, sliced.shape[-1:], eps=eps).flatten(-2)
        return flat if weight is None else flat * weight

    gate = F.silu(z) if activation == "silu" else torch.sigmoid(z)
    return normalize(x) * gate if before else normalize(x * gate)


def make():
    cases, draw = Cases("norms"), Draw(21)
    rows, width, eps = 3, 10, 1e-6
    shape = {"rows": rows, "width": width, "eps": eps}
    x, residual, weight = draw(rows, width, scale=3), draw(rows, width), draw(width)
    expected = F.rms_norm(x + residual, (width,), weight, eps)
    cases.add("residual", "rmsNorm", {"x": x, "residual": residual, "weight": weight}, shape, expected)
    expected = F.rms_norm(x + residual, (width,), 1 + weight, eps)
    inputs = {"x": x, "residual": residual, "weight": weight}
    cases.add("residual, 1 + weight", "rmsNorm", inputs, {**shape, "weightOffset": 1}, expected)

    far = 20 + draw(rows, width, scale=0.5)
    cases.add("mean far from 0", "layerNorm", {"x": far}, shape, F.layer_norm(far, (width,), None, None, eps))
    bias = draw(width)
    expected = F.layer_norm(x, (width,), torch.ones(width, dtype=torch.float64), bias, eps)
    cases.add("bias alone", "layerNorm", {"x": x, "bias": bias}, shape, expected)

    for groups, width, activation, weighted in [
        (1, 7, "sigmoid", True),
        (3, 9, "silu", False),
        (5, 30, "sigmoid", False),
        (8, 24, "silu", True),
    ]:
        for before in [False, True]:
            x, z = draw(2, width), draw(2, width, scale=2)
            weight = draw(width) if weighted else None
            options = {"rows": 2, "width": width, "groups": groups, "eps": eps, "normBeforeGate": before}
            options["activation"] = activation
            expected = gated(x, z, weight, groups, eps, before, activation)
            name = f"{groups} groups, {activation}, {'norm' if before else 'gate'} first"
            cases.add(name, "gatedRmsNorm", {"x": x, "z": z, "weight": weight}, options, expected)
    # The norm behind a layer, as Gemma 3 adds it to its residual stream.
    options = {"rows": 3, "width": 10, "eps": eps, "weightOffset": 1}
    x, stream, weight = draw(3, 10, scale=3), draw(3, 10), draw(10)
    expected = stream + F.rms_norm(x, (10,), 1 + weight, eps)
    cases.add("added", "rmsNorm", {"x": x, "weight": weight, "addTo": stream}, options, expected)
    cases.write()
