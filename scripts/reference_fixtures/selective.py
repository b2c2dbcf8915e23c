"""Mamba-1's selective scan with limits, and Mamba-3, in matrix form."""

import math

import torch
import torch.nn.functional as F

from .common import Cases, Draw


def decays(a):
    """[..., i, j] = exp(a[j + 1] + ... + a[i]) for j <= i, 0 above."""
    sums = a.cumsum(-1)
    return torch.exp(sums.unsqueeze(-1) - sums.unsqueeze(-2)).tril()


def selective_scan(u, dt, A, B, C, D, z, dt_bias, state, dt_limits):
    """Every channel as one lower triangular matrix over time, applied to its inputs."""
    step = F.softplus(dt + dt_bias).clamp(*dt_limits)
    repeat = u.shape[-1] // B.shape[2]
    keys, queries = (m.repeat_interleave(repeat, dim=2) for m in (B, C))
    a = torch.einsum("ble,en->benl", step, A)
    mixing = torch.einsum("blen,benls,bsen->bels", queries, decays(a), keys)
    y = torch.einsum("bels,bse->ble", mixing, step * u)
    since_start = a.cumsum(-1).exp()
    y = y + torch.einsum("blen,benl,ben->ble", queries, since_start, state) + D * u
    last = torch.einsum("bens,bsen,bse->ben", decays(a)[..., -1, :], keys, step * u) + since_start[..., -1] * state
    return {"y": y * F.silu(z), "state": last}


def rotations(angles, size):
    """Block diagonal matrices that turn pairs (2 i, 2 i + 1) by `angles` (..., S); the rest of `size` stays."""
    pairs = torch.zeros(*angles.shape[:-1], size // 2, dtype=torch.float64)
    pairs[..., : angles.shape[-1]] = angles
    return torch.stack(
        [
            torch.block_diag(*(torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]], dtype=torch.float64) for a in row))
            for row in pairs.reshape(-1, size // 2)
        ]
    ).reshape(*angles.shape[:-1], size, size)


def mamba3(q, k, v, dt, adt, trap, angles, qBias, kBias, D, z, states):
    """One masked matrix over the tokens and, in front of them, the token of the state; y = M V plus the old state."""
    batch, length, heads, head_dim = v.shape
    size = q.shape[-1]
    moved = (math.pi * angles.tanh() * dt.unsqueeze(-1)).cumsum(1) + states["angleState"].unsqueeze(1)
    turn = rotations(moved, size)
    q, k = (m.repeat_interleave(heads // m.shape[2], dim=2) for m in (q, k))
    q = torch.einsum("blhnm,blhm->blhn", turn, q + qBias)
    k = torch.einsum("blhnm,blhm->blhn", turn, k + kBias)
    keys = torch.cat([states["kState"].unsqueeze(1), k], dim=1)
    values = torch.cat([states["vState"].unsqueeze(1), v], dim=1)
    # The trapezoid: a token's input arrives with itself and, as seen from the next token, once more before its decay.
    share = trap.sigmoid()
    zero = torch.zeros(batch, 1, heads, dtype=torch.float64)
    own, late = torch.cat([zero, share * dt], dim=1), torch.cat([(1 - share) * dt, zero], dim=1)
    decay = decays(torch.cat([zero, adt], dim=1).transpose(1, 2))
    weights = decay * own.transpose(1, 2).unsqueeze(-2)
    below = torch.ones(length + 1, length + 1, dtype=torch.float64).tril(-1)
    weights = weights + decay * below * late.transpose(1, 2).unsqueeze(-2)
    y = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, keys, weights[..., 1:, :], values)
    y = y + torch.einsum("blhn,bhpn,bhl->blhp", q, states["state"], decay[..., 1:, 0])
    y = y if D is None else y + D.unsqueeze(-1) * v
    last = torch.einsum("bhs,bshp,bshn->bhpn", weights[..., -1, :], values, keys)
    return {
        "y": y if z is None else y * F.silu(z),
        "angleState": moved[:, -1].remainder(2 * math.pi),
        "state": last + decay[..., -1, 0, None, None] * states["state"],
        "kState": k[:, -1],
        "vState": v[:, -1],
    }


def make():
    cases, draw = Cases("selective"), Draw(21)
    for batch, length, channels, groups, size in [(2, 6, 4, 2, 3), (1, 9, 6, 3, 2)]:
        u, dt, z = draw(batch, length, channels), draw(batch, length, channels, scale=2), draw(batch, length, channels)
        B, C = draw(batch, length, groups, size), draw(batch, length, groups, size)
        A, D = draw(channels, size, low=-8, high=-0.2), draw(channels)
        bias, state = draw(channels, low=-2, high=0), draw(batch, channels, size)
        limits = [0.05, 0.4]
        expected = selective_scan(u, dt, A, B, C, D, z, bias, state, limits)
        options = {"batch": batch, "length": length, "channels": channels, "groups": groups, "stateSize": size}
        options.update({"dtSoftplus": True, "dtLimits": limits})
        inputs = {"u": u, "dt": dt, "A": A, "B": B, "C": C, "D": D, "z": z, "dtBias": bias, "state": state}
        cases.add(f"{length} tokens, {channels} channels, {groups} groups; limits", "selectiveScan", inputs, options, expected)

    for batch, length, heads, shared, head_dim, size, rotary, extras in [
        (1, 1, 1, 1, 1, 2, 1, "D z states"),
        (2, 5, 4, 2, 3, 6, 2, "D z states"),
        (1, 7, 2, 1, 2, 4, 2, "states"),
        (1, 4, 2, 2, 3, 4, 1, ""),
    ]:
        inputs = {
            "q": draw(batch, length, shared, size),
            "k": draw(batch, length, shared, size),
            "v": draw(batch, length, heads, head_dim),
            "dt": draw(batch, length, heads, low=0.01, high=1.5),
            "adt": draw(batch, length, heads, low=-2, high=-0.01),
            "trap": draw(batch, length, heads),
            "angles": draw(batch, length, heads, rotary),
            "qBias": draw(heads, size),
            "kBias": draw(heads, size),
            "D": draw(heads) if "D" in extras else None,
            "z": draw(batch, length, heads, head_dim) if "z" in extras else None,
        }
        shapes = {"angleState": (rotary,), "state": (head_dim, size), "kState": (size,), "vState": (head_dim,)}
        if "states" in extras:
            states = {name: draw(batch, heads, *shape) for name, shape in shapes.items()}
            states["angleState"] = draw(batch, heads, rotary, low=0, high=6.28)
        else:
            states = {name: torch.zeros(batch, heads, *shape, dtype=torch.float64) for name, shape in shapes.items()}
        expected = mamba3(**inputs, states=states)
        options = {
            "batch": batch,
            "length": length,
            "heads": heads,
            "sharedHeads": shared,
            "headDim": head_dim,
            "stateSize": size,
            "rotary": rotary,
        }
        given = {**inputs, **states} if "states" in extras else inputs
        name = f"{length} tokens, {heads} heads, {shared} of q and k; {extras or 'plain'}"
        if length == 1:
            cases.add(name, "mamba3Step", given, {k: v for k, v in options.items() if k != "length"}, expected)
        cases.add(name, "mamba3Scan", given, options, expected)
    cases.write()
