"""Block formats of weights, and the norms, biases and activations that products take in; PyTorch computes all of it."""

import struct

import torch
import torch.nn.functional as F

from .common import ACTIVATIONS, Cases, Draw


def words_of(parts, bits):
    """Numbers of `bits` bits as little-endian 32-bit words, the first number in the lowest bits."""
    per = 32 // bits
    return [sum(part << (bits * i) for i, part in enumerate(parts[at : at + per])) for at in range(0, len(parts), per)]


def stored(quants, bits):
    """The words of a row's quants: a load of 16 bytes holds value 4 j + c as part j of word c."""
    per_load, bias = 128 // bits, 8 if bits == 4 else 0
    words = []
    for load in quants.reshape(-1, per_load).tolist():
        parts = [(quant + bias) % 2**bits for quant in load]
        words += [word for c in range(4) for word in words_of(parts[c::4], bits)]
    return words


def dequantize(cases, draw):
    for dtype, bits, least, most in [("q8", 8, -128, 127), ("q4", 4, -8, 7)]:
        rows, width = 3, 70
        padded = (width + 31) // 32 * 32
        quants = torch.tensor([draw.random.randint(least, most) for _ in range(rows * padded)]).reshape(rows, padded)
        # Negative, subnormal, zero and largest scales among them.
        scales = draw(rows, padded // 32).flatten().tolist()
        scales[1:5] = [-0.5, 3e-7, 0.0, 65504.0]
        scales = torch.tensor(scales, dtype=torch.float16)
        halves = list(struct.unpack(f"<{rows * padded // 32}H", scales.numpy().tobytes()))
        words = stored(quants, bits)
        # The plane of scales begins at a multiple of 256 bytes.
        scales_at = (len(words) + 63) // 64 * 64
        words += [0] * (scales_at - len(words)) + words_of(halves + [0] * (len(halves) % 2), 16)
        expected = quants.double() * scales.double().repeat_interleave(32).reshape(rows, padded)
        options = {"dtype": dtype, "rows": rows, "width": width, "scalesAt": scales_at}
        cases.add(dtype, "dequantize", {"words": words}, options, expected[:, :width].contiguous())


def products(cases, draw):
    rows, inner, outputs = 3, 7, 5
    for activation, offset in [("sigmoid", 0), ("silu", 1)]:
        act = ACTIVATIONS.get(activation, torch.sigmoid)
        x, weight, gain, bias = draw(rows, inner), draw(outputs, inner), draw(inner), draw(outputs)
        options = {"rows": rows, "inner": inner, "outputs": outputs, "activation": activation}
        inputs = {"x": x, "weight": weight, "normWeight": gain, "bias": bias}
        expected = act(F.linear(F.rms_norm(x, (inner,), gain + offset, 0.01), weight, bias))
        norm = {"normEps": 0.01, "normWeightOffset": offset}
        cases.add(f"norm + {offset}, {activation}", "matmul", inputs, {**options, **norm}, expected)


def layers(cases, draw):
    rows, width, hidden = 3, 5, 7
    for activation, gated in [("geluTanh", False), ("gelu", True), ("sigmoid", True)]:
        act = ACTIVATIONS.get(activation, torch.sigmoid)
        x, gain, residual = draw(rows, width), draw(width), draw(rows, width)
        up, down = draw(hidden, width), draw(width, hidden)
        up_bias, down_bias = draw(hidden), draw(width)
        gate, gate_bias = (draw(hidden, width), draw(hidden)) if gated else (None, None)
        n = F.rms_norm(x, (width,), gain, 1e-5)
        u = F.linear(n, up, up_bias)
        h = act(F.linear(n, gate, gate_bias)) * u if gated else act(u)
        inputs = {"x": x, "normWeight": gain, "gate": gate, "gateBias": gate_bias, "up": up, "upBias": up_bias}
        inputs |= {"down": down, "downBias": down_bias, "residual": residual}
        options = {"rows": rows, "width": width, "hidden": hidden, "activation": activation, "scale": -0.5}
        expected = residual - 0.5 * F.linear(h, down, down_bias)
        cases.add(f"norm, {activation}, biases{', gate' if gated else ''}", "fusedMlp", inputs, options, expected)


def make():
    cases, draw = Cases("blocks"), Draw(71)
    dequantize(cases, draw)
    products(cases, draw)
    layers(cases, draw)
    cases.write()
