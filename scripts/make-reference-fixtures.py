"""Writes tests/fixtures/reference/*.json: small float64 cases that PyTorch computed, for packages/kernels/reference.

    pip install torch transformers
    python scripts/make-reference-fixtures.py

Each file is {"cases": [{"name", "run", "inputs", "options", "expected"}]}: `run` is the reference function to call with
`inputs` and `options`, `expected` what it must return. Inputs come from Python's own generator with a seed per file and
are rounded to four decimals, so that a run on any machine writes the same inputs. Nothing here follows the TypeScript
loops: PyTorch's own functions where there is one, otherwise the published equations in matrix form. Families that came
later have a module each in reference_fixtures, whose `make()` writes their files.
"""

import importlib
import math
import pkgutil

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, Mamba2Config, MambaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as apply_rotary_interleaved
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

import reference_fixtures
from reference_fixtures.common import ACTIVATIONS, Cases, Draw, FOLDER


def activations():
    cases = Cases("activations")
    grid = [i / 8 for i in range(-64, 65)] + [-30.0, -12.5, -1e-3, 1e-9, 1.9999, 2.0001, 12.5, 19.5, 20.5, 30.0]
    x = torch.tensor(grid, dtype=torch.float64)
    functions = {"erf": torch.erf, "erfc": torch.erfc, "sigmoid": torch.sigmoid, "softplus": F.softplus, **ACTIVATIONS}
    for name, function in functions.items():
        if name != "none":
            cases.add(name, name, {"x": x}, {}, function(x))
    cases.write()


def linear():
    cases, draw = Cases("linear"), Draw(1)
    rows, inner, outputs = 3, 7, 5
    for activation in ACTIVATIONS:
        x, weight = draw(rows, inner), draw(outputs, inner)
        bias, residual = draw(outputs), draw(rows, outputs)
        expected = residual + 0.5 * ACTIVATIONS[activation](F.linear(x, weight, bias))
        options = {"rows": rows, "inner": inner, "outputs": outputs, "activation": activation, "scale": 0.5}
        inputs = {"x": x, "weight": weight, "bias": bias, "residual": residual}
        cases.add(f"{activation}, bias, scale, residual", "matmul", inputs, options, expected)
    for rows, inner, outputs in [(1, 1, 1), (1, 33, 17), (16, 5, 3)]:
        x, weight = draw(rows, inner), draw(outputs, inner)
        options = {"rows": rows, "inner": inner, "outputs": outputs}
        cases.add(f"plain {rows}x{inner}x{outputs}", "matmul", {"x": x, "weight": weight}, options, F.linear(x, weight))
    x, weight, bias = draw(19), draw(11, 19), draw(11)
    options = {"inner": 19, "outputs": 11, "activation": "silu"}
    expected = F.silu(F.linear(x, weight, bias))
    cases.add("one row", "matvec", {"x": x, "weight": weight, "bias": bias}, options, expected)
    cases.write()


def gated_rms_norm(x, z, weight, groups, eps, norm_before_gate):
    def normalize(value):
        sliced = value.unflatten(-1, (groups, -1))
        return F.rms_norm(sliced, sliced.shape[-1:], eps=eps).flatten(-2) * weight

    return normalize(x) * F.silu(z) if norm_before_gate else normalize(x * F.silu(z))


def norm():
    cases, draw = Cases("norm"), Draw(2)
    rows, width, eps = 4, 13, 1e-5
    options = {"rows": rows, "width": width, "eps": eps}
    x, weight, bias = draw(rows, width, scale=3), draw(width), draw(width)
    cases.add("weight", "rmsNorm", {"x": x, "weight": weight}, options, F.rms_norm(x, (width,), weight, eps))
    cases.add("no weight", "rmsNorm", {"x": x}, options, F.rms_norm(x, (width,), None, eps))
    expected = F.rms_norm(x, (width,), 1 + weight, eps)
    cases.add("1 + weight", "rmsNorm", {"x": x, "weight": weight}, {**options, "weightOffset": 1}, expected)
    tiny = draw(rows, width, scale=1e-3)
    cases.add("eps matters", "rmsNorm", {"x": tiny, "weight": weight}, options, F.rms_norm(tiny, (width,), weight, eps))
    for name, w, b, offset in [
        ("weight, bias", weight, bias, 0),
        ("weight", weight, None, 0),
        ("1 + weight, bias", weight, bias, 1),
        ("neither", None, None, 0),
    ]:
        expected = F.layer_norm(x, (width,), None if w is None else w + offset, b, eps)
        cases.add(name, "layerNorm", {"x": x, "weight": w, "bias": b}, {**options, "weightOffset": offset}, expected)
    for groups in [1, 2, 4]:
        for before in [False, True]:
            x, z, weight = draw(3, 12), draw(3, 12, scale=2), draw(12)
            expected = gated_rms_norm(x, z, weight, groups, eps, before)
            options = {"rows": 3, "width": 12, "groups": groups, "eps": eps, "normBeforeGate": before}
            name = f"{groups} groups, {'norm' if before else 'gate'} first"
            cases.add(name, "gatedRmsNorm", {"x": x, "z": z, "weight": weight}, options, expected)
    cases.write()


def conv():
    cases, draw = Cases("conv"), Draw(3)
    for width in [1, 2, 3, 4]:
        for length in [1, 2, 9]:
            for with_state in [False, True]:
                batch, channels = 2, 3
                activation = "silu" if width % 2 == 0 else "none"
                x, weight = draw(batch, length, channels), draw(channels, width)
                bias = draw(channels) if length != 2 else None
                state = draw(batch, width - 1, channels) if with_state else None
                before = state if with_state else torch.zeros(batch, width - 1, channels, dtype=torch.float64)
                padded = torch.cat([before, x], dim=1)
                y = F.conv1d(padded.transpose(1, 2), weight.unsqueeze(1), bias, groups=channels).transpose(1, 2)
                expected = {"y": ACTIVATIONS[activation](y), "state": padded[:, padded.shape[1] - width + 1 :]}
                options = {
                    "batch": batch,
                    "length": length,
                    "channels": channels,
                    "width": width,
                    "activation": activation,
                }
                name = f"width {width}, length {length}{', state' if with_state else ''}"
                cases.add(
                    name, "causalConv1d", {"x": x, "weight": weight, "bias": bias, "state": state}, options, expected
                )
    cases.write()


def segment_sums(a):
    """[..., i, j] = a[j + 1] + ... + a[i], -inf for j > i."""
    size = a.shape[-1]
    below = torch.ones(size, size, dtype=torch.bool).tril(-1)
    spread = a.unsqueeze(-1).expand(*a.shape, size).masked_fill(~below, 0)
    return spread.cumsum(-2).masked_fill(~below.logical_or(torch.eye(size, dtype=torch.bool)), -math.inf)


def ssd(x, dt, A, B, C, D, z, dt_bias, state, dt_softplus, dt_limits):
    """Mamba-2's dual form over the whole sequence as one chunk: a masked attention matrix per head."""
    batch, length, heads, _ = x.shape
    step = dt if dt_bias is None else dt + dt_bias
    step = F.softplus(step) if dt_softplus else step
    step = step if dt_limits is None else step.clamp(*dt_limits)
    Bh, Ch = (m.repeat_interleave(heads // m.shape[2], dim=2) for m in (B, C))
    a = (step * A).transpose(1, 2)
    mask = segment_sums(a).exp()
    from_start = a.cumsum(-1).exp()
    inputs = x * step.unsqueeze(-1)
    y = torch.einsum("blhn,bshn,bhls,bshp->blhp", Ch, Bh, mask, inputs)
    y = y + torch.einsum("blhn,bhl,bhpn->blhp", Ch, from_start, state)
    last = torch.einsum("bshn,bhs,bshp->bhpn", Bh, mask[:, :, -1], inputs) + from_start[..., -1, None, None] * state
    y = y if D is None else y + D.unsqueeze(-1) * x
    return {"y": y if z is None else y * F.silu(z), "state": last}


def selective_scan(u, dt, A, B, C, D, z, dt_bias, state, dt_softplus):
    """The scan in closed form: h_l = sum_s exp(A sum_{s<k<=l} dt_k) dt_s B_s u_s + exp(A sum_{k<=l} dt_k) h_0."""
    channels = u.shape[-1]
    step = dt if dt_bias is None else dt + dt_bias
    step = F.softplus(step) if dt_softplus else step
    Be, Ce = (m.repeat_interleave(channels // m.shape[2], dim=2) for m in (B, C))
    a = torch.einsum("ble,en->benl", step, A)
    h = torch.einsum("benls,bse,bsen->blen", segment_sums(a).exp(), step * u, Be)
    h = h + torch.einsum("benl,ben->blen", a.cumsum(-1).exp(), state)
    y = torch.einsum("blen,blen->ble", Ce, h)
    y = y if D is None else y + D * u
    return {"y": y if z is None else y * F.silu(z), "state": h[:, -1]}


def ssm():
    cases, draw = Cases("ssm"), Draw(4)
    for batch, length, heads, head_dim, groups, size, extras in [
        (1, 1, 1, 1, 1, 1, ""),
        (2, 7, 4, 3, 2, 5, "D z bias softplus limits state"),
        (1, 17, 2, 4, 1, 8, "D bias softplus state"),
        (1, 9, 6, 2, 3, 4, "z softplus"),
        (2, 6, 2, 3, 2, 4, ""),
    ]:
        chosen = set(extras.split())
        shape = (batch, length, heads)
        softplus = "softplus" in chosen
        dt = draw(*shape, scale=2) if softplus else draw(*shape, low=0.01, high=0.5)
        A = draw(heads, low=-4, high=-0.2)
        x, z = draw(*shape, head_dim), draw(*shape, head_dim) if "z" in chosen else None
        B, C = draw(batch, length, groups, size), draw(batch, length, groups, size)
        D = draw(heads) if "D" in chosen else None
        bias = draw(heads, low=-4, high=-1) if "bias" in chosen else None
        limits = [0.02, 0.3] if "limits" in chosen else None
        state = draw(batch, heads, head_dim, size) if "state" in chosen else None
        zeros = torch.zeros(batch, heads, head_dim, size, dtype=torch.float64)
        expected = ssd(x, dt, A, B, C, D, z, bias, zeros if state is None else state, softplus, limits)
        options = {
            "batch": batch,
            "length": length,
            "heads": heads,
            "headDim": head_dim,
            "groups": groups,
            "stateSize": size,
            "dtSoftplus": softplus,
        }
        if limits is not None:
            options["dtLimits"] = limits
        inputs = {"x": x, "dt": dt, "A": A, "B": B, "C": C, "D": D, "z": z, "dtBias": bias, "state": state}
        cases.add(
            f"{length} tokens, {heads} heads, {groups} groups; {extras or 'plain'}",
            "ssdScan",
            inputs,
            options,
            expected,
        )
    for batch, length, channels, groups, size, extras in [
        (1, 1, 1, 1, 1, ""),
        (2, 7, 4, 2, 5, "D z bias softplus state"),
        (1, 17, 6, 1, 4, "D bias softplus"),
        (2, 5, 3, 3, 4, "z state"),
    ]:
        chosen = set(extras.split())
        softplus = "softplus" in chosen
        shape = (batch, length, channels)
        u, dt = draw(*shape), draw(*shape, scale=2) if softplus else draw(*shape, low=0.01, high=0.5)
        A = draw(channels, size, low=-8, high=-0.2)
        B, C = draw(batch, length, groups, size), draw(batch, length, groups, size)
        D, z = draw(channels) if "D" in chosen else None, draw(*shape) if "z" in chosen else None
        bias = draw(channels, low=-4, high=-1) if "bias" in chosen else None
        state = draw(batch, channels, size) if "state" in chosen else None
        zeros = torch.zeros(batch, channels, size, dtype=torch.float64)
        expected = selective_scan(u, dt, A, B, C, D, z, bias, zeros if state is None else state, softplus)
        options = {
            "batch": batch,
            "length": length,
            "channels": channels,
            "groups": groups,
            "stateSize": size,
            "dtSoftplus": softplus,
        }
        inputs = {"u": u, "dt": dt, "A": A, "B": B, "C": C, "D": D, "z": z, "dtBias": bias, "state": state}
        cases.add(
            f"{length} tokens, {channels} channels, {groups} groups; {extras or 'plain'}",
            "selectiveScan",
            inputs,
            options,
            expected,
        )
    cases.write()


def soft_capped_attention(q, k, v, scale, soft_cap, visible):
    scores = torch.einsum("bhlp,bhtp->bhlt", q, k) * scale
    scores = soft_cap * torch.tanh(scores / soft_cap)
    return scores.masked_fill(~visible, -math.inf).softmax(-1) @ v


def rope_frequencies(theta, dim, scaling):
    """Equation of each pair's frequency in float64, checked here against transformers' float32 one."""
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    config = LlamaConfig(hidden_size=dim, num_attention_heads=1, head_dim=dim, rope_theta=theta)
    if scaling is None:
        return frequencies
    low, high, original = scaling["lowFrequencyFactor"], scaling["highFrequencyFactor"], scaling["originalLength"]
    wavelength = 2 * math.pi / frequencies
    blend = ((original / wavelength - low) / (high - low)).clamp(0, 1)
    scaled = torch.lerp(frequencies / scaling["factor"], frequencies, blend)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": scaling["factor"],
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device="cpu")
    torch.testing.assert_close(theirs.double(), scaled, rtol=1e-5, atol=1e-12)
    return scaled


def attention():
    cases, draw = Cases("attention"), Draw(5)
    for batch, length, keys, heads, kv_heads, head_dim, extras in [
        (1, 1, 1, 1, 1, 1, {"causal": True}),
        (2, 5, 5, 4, 2, 3, {"causal": True}),
        (1, 5, 5, 4, 4, 3, {"causal": False, "scale": 0.3}),
        (1, 1, 11, 6, 2, 4, {"causal": True}),
        (1, 3, 8, 2, 1, 4, {"causal": True, "scale": 1}),
        (1, 3, 8, 2, 1, 4, {"causal": True, "queryOffset": 2}),
        (1, 9, 9, 2, 2, 4, {"causal": True, "window": 3}),
        (1, 4, 9, 2, 1, 4, {"causal": True, "window": 4, "softCap": 1.5}),
        (1, 4, 4, 2, 1, 4, {"causal": True, "softCap": 5}),
    ]:
        q = draw(batch, length, heads, head_dim, scale=2)
        k, v = draw(batch, keys, kv_heads, head_dim, scale=2), draw(batch, keys, kv_heads, head_dim)
        position = torch.arange(length).unsqueeze(1) + extras.get("queryOffset", keys - length)
        key = torch.arange(keys).unsqueeze(0)
        visible = key <= position if extras["causal"] else torch.ones(length, keys, dtype=torch.bool)
        visible = visible & (key > position - extras.get("window", keys + length))
        scale = extras.get("scale", head_dim**-0.5)
        qh, kh, vh = (t.transpose(1, 2) for t in (q, k, v))
        kh, vh = (t.repeat_interleave(heads // kv_heads, dim=1) for t in (kh, vh))
        if "softCap" in extras:
            y = soft_capped_attention(qh, kh, vh, scale, extras["softCap"], visible)
        else:
            y = F.scaled_dot_product_attention(qh, kh, vh, attn_mask=visible, scale=scale)
        options = {
            "batch": batch,
            "length": length,
            "keyLength": keys,
            "heads": heads,
            "kvHeads": kv_heads,
            "headDim": head_dim,
            **extras,
        }
        name = f"{length} queries, {keys} keys, {heads}/{kv_heads} heads; {' '.join(extras)}"
        cases.add(name, "attention", {"q": q, "k": k, "v": v}, options, y.transpose(1, 2))

    llama3 = {"type": "llama3", "factor": 8, "lowFrequencyFactor": 1, "highFrequencyFactor": 4, "originalLength": 8192}
    for theta, dim, scaling in [(10000, 2, None), (10000, 64, None), (1e6, 80, None), (500000, 128, llama3)]:
        options = {"theta": theta, "rotaryDim": dim, **({} if scaling is None else {"scaling": scaling})}
        name = f"theta {theta}, {dim}{'' if scaling is None else ', llama3'}"
        cases.add(name, "ropeInverseFrequencies", {}, options, rope_frequencies(theta, dim, scaling))

    for start, head_dim, rotary, interleaved, explicit in [
        (0, 8, 8, False, False),
        (5, 8, 8, True, False),
        (1000, 8, 4, False, False),
        (3, 8, 4, True, True),
        (4095, 6, 6, False, True),
    ]:
        batch, length, heads, theta = 2, 3, 2, 10000
        x = draw(batch, length, heads, head_dim)
        frequencies = draw(rotary // 2, low=0.01, high=1) if explicit else rope_frequencies(theta, rotary, None)
        angles = torch.arange(start, start + length, dtype=torch.float64).unsqueeze(-1) * frequencies
        rotated, kept = x[..., :rotary], x[..., rotary:]
        if interleaved:
            half = lambda t: t.expand(batch, length, rotary // 2)
            turned = apply_rotary_interleaved(rotated, half(angles.sin()), half(angles.cos()))
        else:
            doubled = torch.cat([angles, angles], dim=-1).unsqueeze(0)
            turned, _ = apply_rotary_pos_emb(rotated, rotated, doubled.cos(), doubled.sin(), unsqueeze_dim=2)
        options = {
            "batch": batch,
            "length": length,
            "heads": heads,
            "headDim": head_dim,
            "start": start,
            "rotaryDim": rotary,
            "interleaved": interleaved,
        }
        options.update({"inverseFrequencies": frequencies} if explicit else {"theta": theta})
        name = f"from {start}, {rotary} of {head_dim}, {'interleaved' if interleaved else 'halves'}"
        cases.add(name, "rope", {"x": x}, options, torch.cat([turned, kept], dim=-1))
    cases.write()


def mlp():
    cases, draw = Cases("mlp"), Draw(6)
    rows, width, hidden = 3, 5, 7
    for activation, gated, with_residual in [
        ("silu", True, True),
        ("gelu", True, False),
        ("geluTanh", True, True),
        ("relu2", False, True),
        ("gelu", False, False),
    ]:
        x, up, down = draw(rows, width), draw(hidden, width), draw(width, hidden)
        gate = draw(hidden, width) if gated else None
        residual = draw(rows, width) if with_residual else None
        act = ACTIVATIONS[activation]
        inner = act(F.linear(x, gate)) * F.linear(x, up) if gated else act(F.linear(x, up))
        y = F.linear(inner, down) + (residual if with_residual else 0)
        options = {"rows": rows, "width": width, "hidden": hidden, "activation": activation}
        inputs = {"x": x, "gate": gate, "up": up, "down": down, "residual": residual}
        cases.add(
            f"{activation}{', gate' if gated else ''}{', residual' if with_residual else ''}",
            "fusedMlp",
            inputs,
            options,
            y,
        )
    cases.write()


def token():
    cases, draw = Cases("token"), Draw(7)
    table, tokens = draw(9, 4), torch.tensor([0, 8, 3, 3, 1])
    options = {"rows": 5, "vocabulary": 9, "width": 4}
    cases.add("plain", "embed", {"table": table, "tokens": tokens}, options, F.embedding(tokens, table))
    cases.add(
        "scaled", "embed", {"table": table, "tokens": tokens}, {**options, "scale": 2}, 2 * F.embedding(tokens, table)
    )
    x = draw(4, 11, scale=4)
    shape = {"rows": 4, "width": 11}
    cases.add("plain", "softmax", {"x": x}, shape, x.softmax(-1))
    cases.add("scaled, large", "softmax", {"x": x * 1000}, {**shape, "scale": 0.7}, (x * 700).softmax(-1))
    cases.add("plain", "argmax", {"x": x}, shape, x.argmax(-1))
    cases.write()


def mixers():
    """Whole Mamba and Mamba-2 mixers of transformers, in float32: their code casts to it."""
    cases, draw = Cases("mixers"), Draw(8)
    length, width = 7, 6

    def fill(module):
        weights = {}
        for name, parameter in module.named_parameters():
            low, high = {"A_log": (-1, 1.5), "dt_bias": (-3, 0), "dt_proj.bias": (-3, 0)}.get(name, (-0.6, 0.6))
            weights[name] = draw(*parameter.shape, low=low, high=high)
            parameter.data = weights[name].float()
        return weights

    config = MambaConfig(
        hidden_size=width, expand=2, state_size=4, conv_kernel=4, time_step_rank=2, vocab_size=8, num_hidden_layers=1
    )
    mixer = MambaMixer(config, layer_idx=0).eval()
    weights, x = fill(mixer), draw(2, length, width)
    options = {"batch": 2, "length": length, "width": width, "channels": 12, "stateSize": 4, "convWidth": 4, "rank": 2}
    with torch.no_grad():
        cases.add("mamba", "mamba", {"x": x, **weights}, options, mixer(x.float()))

    config = Mamba2Config(
        hidden_size=width,
        expand=2,
        state_size=4,
        conv_kernel=4,
        num_heads=4,
        head_dim=3,
        n_groups=2,
        chunk_size=4,
        vocab_size=8,
        num_hidden_layers=1,
    )
    mixer = Mamba2Mixer(config, layer_idx=0).eval()
    weights, x = fill(mixer), draw(2, length, width)
    options = {
        "batch": 2,
        "length": length,
        "width": width,
        "heads": 4,
        "headDim": 3,
        "groups": 2,
        "stateSize": 4,
        "convWidth": 4,
        "eps": config.layer_norm_epsilon,
    }
    with torch.no_grad():
        cases.add("mamba2", "mamba2", {"x": x, **weights}, options, mixer(x.float()))
    cases.write()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for make in (activations, linear, norm, conv, ssm, attention, mlp, token, mixers):
        make()
    for module in pkgutil.iter_modules(reference_fixtures.__path__, "reference_fixtures."):
        if module.name != "reference_fixtures.common":
            importlib.import_module(module.name).make()
