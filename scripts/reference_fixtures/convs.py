"""Convolutions of packed sequences, of several tokens a step, and of states that lie in slots.

Each sequence is convolved by itself with PyTorch, then laid where it belongs.
"""

import torch
import torch.nn.functional as F

from .common import ACTIVATIONS, Cases, Draw


def convolve(x, weight, bias, activation, before=None):
    """(L, E) inputs behind (K - 1, E) earlier ones, or zeros; and the last K - 1 of all of them."""
    channels, width = weight.shape
    kept = torch.zeros(width - 1, channels, dtype=torch.float64) if before is None else before
    padded = torch.cat([kept, x])
    y = F.conv1d(padded.T.unsqueeze(0), weight.unsqueeze(1), bias, groups=channels)[0].T
    return ACTIVATIONS[activation](y), padded[padded.shape[0] - width + 1 :]


def make():
    cases, draw = Cases("convs"), Draw(22)
    channels = 3
    # Runs of (id, tokens) of each row of the batch; a negative id is padding.
    for width, activation, with_state, runs in [
        (4, "silu", False, [[(0, 5), (1, 1), (2, 3)], [(3, 2), (-1, 3), (4, 4)]]),
        (4, "none", True, [[(7, 2), (8, 4), (9, 1), (-1, 2)], [(5, 9)]]),
        (3, "silu", True, [[(1, 1), (0, 1), (2, 1), (4, 2)], [(-1, 1), (6, 4)]]),
        (2, "none", False, [[(0, 3), (1, 1)]]),
    ]:
        batch, length = len(runs), sum(tokens for _, tokens in runs[0])
        x, weight, bias = draw(batch, length, channels), draw(channels, width), draw(channels)
        state = draw(batch, width - 1, channels) if with_state else None
        y = torch.zeros_like(x)
        last, states, starts, ids = [], [], [0], []
        for b, row in enumerate(runs):
            at = 0
            for index, (sequence, tokens) in enumerate(row):
                part = x[b, at : at + tokens]
                before = state[b] if with_state and index == 0 else None
                result, after = convolve(part, weight, bias, activation, before)
                y[b, at : at + tokens] = result if sequence >= 0 else 0
                after = after if sequence >= 0 else torch.zeros_like(after)
                starts.append(starts[-1] + tokens)
                ids += [sequence] * tokens
                at += tokens
                # The state before x is no part of what starts point at.
                alone = torch.cat([torch.zeros(width - 1, channels, dtype=torch.float64), part])
                states.append(alone[alone.shape[0] - width + 1 :])
            last.append(after)
        inputs = {"x": x, "weight": weight, "bias": bias, "state": state}
        inputs.update({"sequenceIds": torch.tensor(ids), "starts": torch.tensor(starts)})
        options = {"batch": batch, "length": length, "channels": channels, "width": width, "activation": activation}
        expected = {"y": y, "state": torch.stack(last), "sequenceStates": torch.stack(states)}
        name = f"packed, width {width}{', state' if with_state else ''}"
        cases.add(name, "causalConv1d", inputs, options, expected)

    for width, length, slots in [(4, 1, None), (4, 3, None), (2, 8, None), (3, 1, [4, -1, 0]), (4, 5, [2, 1, -1, 5])]:
        batch = 2 if slots is None else len(slots)
        x, weight, bias = draw(batch, length, channels), draw(channels, width), draw(channels)
        state = draw(batch if slots is None else 5, width - 1, channels)
        y, after = torch.zeros_like(x), state.clone()
        for b in range(batch):
            slot = b if slots is None else slots[b]
            if 0 <= slot < state.shape[0]:
                y[b], after[slot] = convolve(x[b], weight, bias, "silu", state[slot])
        options = {"batch": batch, "length": length, "channels": channels, "width": width, "activation": "silu"}
        inputs = {"x": x, "weight": weight, "bias": bias, "state": state}
        inputs["slots"] = None if slots is None else torch.tensor(slots)
        name = f"{length} tokens, width {width}{', slots' if slots else ''}"
        cases.add(name, "causalConv1dStep", inputs, options, {"y": y, "state": after})
    cases.write()
