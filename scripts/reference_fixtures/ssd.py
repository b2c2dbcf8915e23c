"""Cases of several sequences in one row, of skip weights of every element, and of states chosen by number."""

import torch
import torch.nn.functional as F

from .common import Cases, Draw


def scan(x, dt, A, B, C, D, z, state, same, carried):
    """The dual form with a mask of who sees whom: [b, i, j], and who sees the state that a row begins with, [b, i]."""
    heads = x.shape[2]
    Bh, Ch = (m.repeat_interleave(heads // m.shape[2], dim=2) for m in (B, C))
    sums = (dt * A).cumsum(1)
    decay = (sums.unsqueeze(2) - sums.unsqueeze(1)).exp() * same.unsqueeze(-1)
    inputs = x * dt.unsqueeze(-1)
    y = torch.einsum("bihn,bjhn,bijh,bjhp->bihp", Ch, Bh, decay, inputs)
    y = y + torch.einsum("bihn,bih,bhpn->bihp", Ch, sums.exp() * carried.unsqueeze(-1), state) + D * x
    states = torch.einsum("bjhn,bijh,bjhp->bihpn", Bh, decay, inputs)
    states = states + torch.einsum("bih,bhpn->bihpn", sums.exp() * carried.unsqueeze(-1), state)
    return (y if z is None else y * F.silu(z)), states


def masks(ids):
    """From ids (B, L) in runs: the same run up to the diagonal, and the run that a row begins with; padding in none."""
    changes = F.pad((ids[:, 1:] != ids[:, :-1]).long(), (1, 0)).cumsum(1)
    real = (ids >= 0).to(torch.float64)
    same = (changes.unsqueeze(2) == changes.unsqueeze(1)).to(torch.float64).tril()
    return same * real.unsqueeze(2) * real.unsqueeze(1), (changes == 0) * real, real


def drawn(draw, batch, length, heads, head_dim, groups, size, gate):
    shape = (batch, length, heads)
    return {
        "x": draw(*shape, head_dim),
        "dt": draw(*shape, low=0.01, high=0.5),
        "A": draw(heads, low=-4, high=-0.2),
        "B": draw(batch, length, groups, size),
        "C": draw(batch, length, groups, size),
        "D": draw(heads, head_dim),
        "z": draw(*shape, head_dim) if gate else None,
    }


def make():
    cases, draw = Cases("ssd"), Draw(41)
    for name, rows, gate in [
        ("two rows", [[0, 0, 0, 1, 1, 5, 5], [3, 3, 3, 3, 3, 3, 4]], True),
        ("padding behind", [[0, 0, 1, 1, 1, -1, -1], [2, -1, -1, -1, -1, -1, -1]], False),
        ("padding before and between", [[-1, -1, 0, 0, -1, 1, 1]], True),
        ("nothing but padding", [[-1, -1]], True),
    ]:
        ids = torch.tensor(rows)
        batch, length = ids.shape
        heads, head_dim, groups, size = 2, 2, 2, 3
        inputs = drawn(draw, batch, length, heads, head_dim, groups, size, gate)
        state = draw(batch, heads, head_dim, size)
        same, carried, real = masks(ids)
        y, states = scan(**inputs, state=state, same=same, carried=carried)
        last = state.clone()
        for b in range(batch):
            tokens = real[b].nonzero()
            if len(tokens) > 0:
                last[b] = states[b, tokens[-1, 0]]
        options = {"batch": batch, "length": length, "heads": heads, "headDim": head_dim}
        options.update({"groups": groups, "stateSize": size, "dtSoftplus": False})
        expected = {"y": y * real[..., None, None], "state": last}
        cases.add(name, "ssdScan", {**inputs, "state": state, "sequenceIds": ids}, options, expected)
        cases.add(
            f"{name}, chunks of 3",
            "ssdChunkScan",
            {**inputs, "state": state, "sequenceIds": ids},
            {**options, "chunkLength": 3},
            expected,
        )

    # Packed: the states of all sequences, of which one is empty, and tokens behind the last.
    starts, length = [0, 4, 4, 9, 10], 12
    heads, head_dim, groups, size = 2, 2, 1, 4
    inputs = drawn(draw, 1, length, heads, head_dim, groups, size, True)
    state = draw(4, heads, head_dim, size)
    y, last = torch.zeros(1, length, heads, head_dim, dtype=torch.float64), state.clone()
    for s in range(4):
        tokens = slice(starts[s], starts[s + 1])
        if starts[s] == starts[s + 1]:
            continue
        own = {key: value if key in ("A", "D") else value[:, tokens] for key, value in inputs.items()}
        same, carried, _ = masks(torch.zeros(1, starts[s + 1] - starts[s], dtype=torch.long))
        y[:, tokens], states = scan(**own, state=state[s : s + 1], same=same, carried=carried)
        last[s] = states[0, -1]
    options = {"batch": 1, "length": length, "heads": heads, "headDim": head_dim}
    options.update({"groups": groups, "stateSize": size, "dtSoftplus": False})
    inputs.update({"state": state, "starts": torch.tensor(starts)})
    cases.add("packed", "ssdScan", inputs, options, {"y": y, "state": last})
    cases.add("packed, chunks of 2", "ssdChunkScan", inputs, {**options, "chunkLength": 2}, {"y": y, "state": last})

    # One token, whose states are three of five.
    batch, slots = 4, [3, -1, 0, 4]
    inputs = drawn(draw, batch, 1, heads, head_dim, groups, size, True)
    pool = draw(5, heads, head_dim, size)
    one = torch.ones(batch, 1, 1, dtype=torch.float64)
    y, states = scan(**inputs, state=pool[slots], same=one, carried=one[..., 0])
    last = pool.clone()
    for b, slot in enumerate(slots):
        if slot >= 0:
            last[slot] = states[b, 0]
        else:
            y[b] = 0
    options = {"batch": batch, "heads": heads, "headDim": head_dim, "groups": groups, "stateSize": size}
    inputs.update({"state": pool, "slots": torch.tensor(slots)})
    cases.add("slots", "ssdStep", inputs, {**options, "dtSoftplus": False}, {"y": y, "state": last})
    cases.write()
