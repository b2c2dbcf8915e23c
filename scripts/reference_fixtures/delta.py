"""The gated delta rule and LFM2's short convolution: tests/fixtures/reference/delta.json and short_conv.json."""

import torch
import torch.nn.functional as F
from transformers import Lfm2Config
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from .common import Cases, Draw


def one_system(q, k, v, g, beta, state):
    """One head, all tokens at once: with D[i, j] = exp(g_(j+1) + ... + g_i) for j <= i, the written values r solve
    (I + diag(beta) strict_lower(K K^T * D)) r = diag(beta) (V - diag(d) K S), d = exp(cumsum g)."""
    sums = g.cumsum(0)
    decay = (sums[:, None] - sums[None, :]).tril().exp().tril()
    system = torch.eye(len(g), dtype=g.dtype) + beta[:, None] * ((k @ k.T) * decay).tril(-1)
    entered = sums.exp()[:, None]
    written = torch.linalg.solve(system, beta[:, None] * (v - entered * (k @ state)))
    y = entered * (q @ state) + ((q @ k.T) * decay) @ written
    return y, sums[-1].exp() * state + ((sums[-1] - sums).exp()[:, None] * k).T @ written


def rule(inputs, options):
    """float64, and compared with both float32 forms of transformers."""
    q, k, v, g, beta = (inputs[name] for name in ("q", "k", "v", "g", "beta"))
    if "A" in inputs:
        g = inputs["A"] * F.softplus(g + inputs.get("dtBias", 0))
    beta = (beta.sigmoid() if options.get("betaSigmoid") else beta) * options.get("betaFactor", 1)
    ratio = options["valueHeads"] // options["keyHeads"]
    q, k = (x.repeat_interleave(ratio, dim=2) for x in (q, k))
    shape = (options["batch"], options["valueHeads"], options["keyDim"], options["valueDim"])
    state = inputs.get("state", torch.zeros(shape, dtype=torch.float64))
    theirs = [
        form(q, k, v, g, beta, initial_state=state, output_final_state=True, use_qk_l2norm_in_kernel="l2Norm" in options)
        for form in (torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule)
    ]
    if "l2Norm" in options:
        q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt() for x in (q, k))
    y, states = torch.empty_like(v), torch.empty(shape, dtype=torch.float64)
    for b in range(shape[0]):
        for h in range(shape[1]):
            head = (q[b, :, h] * options["keyDim"] ** -0.5, k[b, :, h], v[b, :, h], g[b, :, h], beta[b, :, h])
            y[b, :, h], states[b, h] = one_system(*head, state[b, h])
    for other, last in theirs:
        torch.testing.assert_close(other.double(), y, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(last.double(), states, rtol=1e-4, atol=1e-4)
    return {"y": y, "state": states}


def delta():
    cases, draw = Cases("delta"), Draw(20)

    def case(name, sizes, decays, betas, state, raw=False, **options):
        batch, length, key_heads, value_heads, key_dim, value_dim = sizes
        names = ("batch", "length", "keyHeads", "valueHeads", "keyDim", "valueDim")
        options = {**dict(zip(names, sizes)), **options}
        gates = (batch, length, value_heads)
        # Without the norm, keys about as long as normalised ones: longer ones make the recurrence unstable.
        scale = 1.0 if "l2Norm" in options else key_dim**-0.5
        inputs = {
            "q": draw(batch, length, key_heads, key_dim, scale=scale),
            "k": draw(batch, length, key_heads, key_dim, scale=scale),
            "v": draw(batch, length, value_heads, value_dim),
            "g": draw(*gates, low=decays[0], high=decays[1]),
            "beta": draw(*gates, low=betas[0], high=betas[1]),
        }
        if raw:
            inputs |= {"A": draw(value_heads, low=-16, high=-0.01), "dtBias": draw(value_heads)}
        if state:
            inputs["state"] = draw(batch, value_heads, key_dim, value_dim)
        cases.add(name, "gatedDeltaRule", inputs, options, rule(inputs, options))

    case("given gates", (2, 9, 2, 2, 4, 3), (-1, -0.01), (0, 1), True)
    case("key heads shared, no state", (1, 11, 2, 4, 3, 5), (-0.3, 0), (0, 1), False, l2Norm=True)
    case("raw gates", (1, 7, 1, 2, 5, 4), (-3, 1), (-3, 3), True, raw=True, l2Norm=True, betaSigmoid=True)
    case(
        "negative eigenvalues", (1, 12, 2, 2, 4, 4), (-0.2, 0), (-4, 4), True,
        l2Norm=True, betaSigmoid=True, betaFactor=2,
    )  # fmt: skip
    case("strong decay", (1, 12, 1, 1, 4, 4), (-20, 0), (0, 1), True, l2Norm=True)
    case("one token", (2, 1, 1, 2, 4, 6), (-2, 0), (0, 1), True, l2Norm=True)
    cases.write()


def short_conv():
    cases, draw = Cases("short_conv"), Draw(21)
    for taps, bias, length in [(3, False, 7), (4, True, 2), (2, True, 1)]:
        channels = 5
        config = Lfm2Config(hidden_size=channels, conv_L_cache=taps, conv_bias=bias, layer_types=["conv"], num_hidden_layers=1)
        layer = Lfm2ShortConv(config, layer_idx=0).double().eval()
        # Their filter alone: the projections become identities over the three parts.
        weight, offset = draw(channels, taps), draw(channels) if bias else None
        layer.conv.weight.data = weight.unsqueeze(1)
        layer.out_proj.weight.data = torch.eye(channels, dtype=torch.float64)
        layer.in_proj = torch.nn.Identity()
        if bias:
            layer.conv.bias.data = offset
            layer.out_proj.bias.data.zero_()
        B, C, x = draw(2, length, channels), draw(2, length, channels), draw(2, length, channels)
        with torch.no_grad():
            y = layer(torch.cat([B, C, x], dim=-1))
        products = F.pad(B * x, (0, 0, taps - 1, 0))
        options = {"batch": 2, "length": length, "channels": channels, "width": taps}
        inputs = {"B": B, "C": C, "x": x, "weight": weight, "bias": offset}
        expected = {"y": y, "state": products[:, length:]}
        cases.add(f"{taps} taps", "shortConv", inputs, options, expected)
        # The same with products before the first token.
        state = draw(2, taps - 1, channels)
        joined = torch.cat([state, B * x], dim=1)
        filtered = F.conv1d(joined.transpose(1, 2), weight.unsqueeze(1), offset, groups=channels).transpose(1, 2)
        expected = {"y": C * filtered, "state": joined[:, length:]}
        cases.add(f"{taps} taps, state", "shortConv", {**inputs, "state": state}, options, expected)
    cases.write()


def make():
    delta()
    short_conv()
