"""Scaled frequencies of rotary embeddings, their attention factors, and a scaled rotation.

The equations are written here in float64 and checked against the functions of transformers, which compute in float32.
"""

import math

import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from .common import Cases, Draw

THEIRS = {
    "factor": "factor",
    "originalLength": "original_max_position_embeddings",
    "fastTurns": "beta_fast",
    "slowTurns": "beta_slow",
    "truncate": "truncate",
    "attentionFactor": "attention_factor",
    "mscale": "mscale",
    "mscaleAllDim": "mscale_all_dim",
    "shortFactors": "short_factor",
    "longFactors": "long_factor",
}


def plain(theta, dim):
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)


def yarn(theta, dim, scaling):
    def pair(turns):
        return dim * math.log(scaling["originalLength"] / (2 * math.pi * turns)) / (2 * math.log(theta))

    low, high = pair(scaling.get("fastTurns", 32)), pair(scaling.get("slowTurns", 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = ((torch.arange(dim // 2, dtype=torch.float64) - low) / (high - low)).clamp(0, 1)
    return torch.lerp(plain(theta, dim), plain(theta, dim) / scaling["factor"], ramp)


def longrope(theta, dim, scaling):
    name = "longFactors" if scaling["length"] > scaling["originalLength"] else "shortFactors"
    return plain(theta, dim) / torch.tensor(scaling[name], dtype=torch.float64)


def dynamic(theta, dim, scaling):
    length = max(scaling["length"], scaling["originalLength"])
    growth = scaling["factor"] * length / scaling["originalLength"] - (scaling["factor"] - 1)
    return plain(theta * growth ** (dim / (dim - 2)), dim)


def make():
    cases, draw = Cases("ropes"), Draw(23)
    short = [round(1 + 0.01 * i, 4) for i in range(8)]
    long = [round(1.5 + 0.75 * i, 4) for i in range(8)]
    phi = {"factor": 32.0, "originalLength": 4096, "shortFactors": short, "longFactors": long}
    for theta, dim, kind, scaling in [
        (10000, 128, "yarn", {"factor": 16.0, "originalLength": 4096}),
        (150000, 64, "yarn", {"factor": 32.0, "originalLength": 4096, "truncate": False}),
        (10000, 64, "yarn", {"factor": 40.0, "originalLength": 4096, "mscale": 1.0, "mscaleAllDim": 0.707}),
        (1e6, 32, "yarn", {"factor": 4.0, "originalLength": 512, "fastTurns": 16, "slowTurns": 2}),
        (10000, 16, "yarn", {"factor": 8.0, "originalLength": 2048, "attentionFactor": 1.25}),
        (10000, 16, "longrope", {**phi, "length": 4096}),
        (10000, 16, "longrope", {**phi, "length": 4097}),
        (10000, 16, "longrope", {**phi, "length": 9000, "attentionFactor": 1.1}),
        (10000, 64, "dynamic", {"factor": 2.0, "originalLength": 2048, "length": 1000}),
        (10000, 64, "dynamic", {"factor": 4.0, "originalLength": 2048, "length": 10000}),
    ]:
        frequencies = {"yarn": yarn, "longrope": longrope, "dynamic": dynamic}[kind](theta, dim, scaling)
        config = LlamaConfig(
            hidden_size=dim,
            num_attention_heads=1,
            head_dim=dim,
            rope_theta=theta,
            max_position_embeddings=scaling["originalLength"],
        )
        config.rope_parameters = {"rope_type": kind, "rope_theta": theta}
        config.rope_parameters.update({THEIRS[name]: value for name, value in scaling.items() if name in THEIRS})
        found, factor = ROPE_INIT_FUNCTIONS[kind](config, device="cpu", seq_len=scaling.get("length"))
        torch.testing.assert_close(found.double(), frequencies, rtol=1e-5, atol=1e-12)
        ours = {"type": kind, **scaling}
        name = f"{kind}, theta {theta}, {dim}, {' '.join(f'{k}' for k in scaling)}"
        options = {"theta": theta, "rotaryDim": dim, "scaling": ours}
        cases.add(name, "ropeInverseFrequencies", {}, options, frequencies)
        cases.add(name, "ropeAttentionFactor", {}, ours, torch.tensor([factor], dtype=torch.float64))

    batch, length, heads, head_dim, rotary, start, scale = 2, 3, 2, 12, 8, 17, 1.3
    x = draw(batch, length, heads, head_dim)
    frequencies = plain(10000, rotary)
    angles = torch.arange(start, start + length, dtype=torch.float64).unsqueeze(-1) * frequencies
    doubled = torch.cat([angles, angles], dim=-1).unsqueeze(0)
    part = x[..., :rotary]
    turned, _ = apply_rotary_pos_emb(part, part, scale * doubled.cos(), scale * doubled.sin(), unsqueeze_dim=2)
    options = {"batch": batch, "length": length, "heads": heads, "headDim": head_dim, "start": start}
    options.update({"rotaryDim": rotary, "theta": 10000, "scale": scale})
    cases.add("scaled, 8 of 12", "rope", {"x": x}, options, torch.cat([turned, x[..., rotary:]], dim=-1))
    cases.write()
