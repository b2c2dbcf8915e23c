"""What attention adds to its plain form, the norms of queries and keys, and their place in paged caches."""

import math

import torch
import torch.nn.functional as F
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as attention_with_sinks
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from .common import Cases, Draw


def heads_first(q, k, v):
    """(B, H, L, P), keys and values once for each query head."""
    qh, kh, vh = (t.transpose(1, 2) for t in (q, k, v))
    times = qh.shape[1] // kh.shape[1]
    return qh, kh.repeat_interleave(times, dim=1), vh.repeat_interleave(times, dim=1)


def visible_keys(length, keys, causal=True, window=None):
    query = torch.arange(length).unsqueeze(1) + keys - length
    key = torch.arange(keys).unsqueeze(0)
    seen = key <= query if causal else torch.ones(length, keys, dtype=torch.bool)
    return seen if window is None else seen & (key > query - window)


def masked(seen):
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -math.inf)


def sinks_attention(qh, kh, vh, mask, sinks):
    module = torch.nn.Module()
    module.num_key_value_groups, module.sinks = 1, sinks
    y, _ = attention_with_sinks(module, qh, kh, vh, mask, qh.shape[-1] ** -0.5)
    return y


def normed(norm, x, weight, eps):
    layer = norm(x.shape[-1], eps=eps).double()
    layer.weight.data = weight
    return layer(x).detach()


def turned(x, frequencies, start):
    """Rotates the first values of each head of (B, L, H, P), sequence b from start[b] on."""
    positions = torch.tensor(start).double().unsqueeze(1) + torch.arange(x.shape[1]).double()
    angles = positions.unsqueeze(-1) * frequencies
    doubled = torch.cat([angles, angles], dim=-1)
    rotary = doubled.shape[-1]
    y, _ = apply_rotary_pos_emb(x[..., :rotary], x[..., :rotary], doubled.cos(), doubled.sin(), unsqueeze_dim=2)
    return torch.cat([y, x[..., rotary:]], dim=-1)


def quantized(x):
    """Blocks of 32 values: a half-precision scale, and whole multiples of it."""
    blocks = x.reshape(-1, 32)
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half().double()
    quants = (blocks.abs() / scale.clamp(min=1e-30) + 0.5).floor().clamp(max=127) * blocks.sign()
    return (quants * scale).reshape(x.shape)


def attention(cases, draw):
    heads, kv_heads, head_dim = 4, 2, 2
    sizes = {"heads": heads, "kvHeads": kv_heads, "headDim": head_dim}

    def drawn(batch, length, keys):
        shape = [(batch, length, heads), (batch, keys, kv_heads), (batch, keys, kv_heads)]
        return [draw(*s, head_dim, scale=1.5) for s in shape]

    for length, keys, soft_cap in [(3, 5, None), (2, 5, 2)]:
        q, k, v = drawn(2, length, keys)
        qh, kh, vh = heads_first(q, k, v)
        slopes = build_alibi_tensor(torch.ones(1, 2), heads, torch.float64)[:, 0, 1]
        alibi = build_alibi_tensor(torch.ones(2, keys), heads, torch.float64).reshape(2, heads, 1, keys)
        # Bloom counts from the first key: the same for every key of a query, so the softmax is too.
        scores = qh @ kh.transpose(-1, -2) * head_dim**-0.5
        scores = scores if soft_cap is None else soft_cap * torch.tanh(scores / soft_cap)
        y = (scores + alibi + masked(visible_keys(length, keys))).softmax(-1) @ vh
        options = {"batch": 2, "length": length, "keyLength": keys, "causal": True, "softCap": soft_cap, **sizes}
        inputs = {"q": q, "k": k, "v": v, "slopes": slopes}
        cases.add(f"slopes, soft cap {soft_cap}", "attention", inputs, options, y.transpose(1, 2))

    for bias_batch, bias_heads in [(2, heads), (1, 1)]:
        q, k, v = drawn(2, 3, 5)
        bias, seen = draw(bias_batch, bias_heads, 3, 5, scale=2), visible_keys(3, 5)
        y = F.scaled_dot_product_attention(*heads_first(q, k, v), attn_mask=bias + masked(seen))
        options = {"batch": 2, "length": 3, "keyLength": 5, "causal": True, **sizes}
        options |= {"biasBatch": bias_batch, "biasHeads": bias_heads}
        name = f"a bias of {bias_batch} sequences and {bias_heads} heads"
        cases.add(name, "attention", {"q": q, "k": k, "v": v, "bias": bias}, options, y.transpose(1, 2))

    for extras in [{"causal": True, "window": 2}, {"causal": False}]:
        q, k, v = drawn(2, 3, 5)
        sinks, gate = draw(heads, scale=2), draw(2, 3, heads, head_dim, scale=3)
        y = sinks_attention(*heads_first(q, k, v), masked(visible_keys(3, 5, **extras)), sinks) * gate.sigmoid()
        options = {"batch": 2, "length": 3, "keyLength": 5, **sizes, **extras}
        inputs = {"q": q, "k": k, "v": v, "sinks": sinks, "gate": gate}
        cases.add(f"sinks and a gate, {' '.join(extras)}", "attention", inputs, options, y)

    for causal in (True, False):
        q, k, v = drawn(1, 7, 7)
        parts, starts = [], [0, 1, 1, 4, 6]
        for begin, end in zip(starts, starts[1:]):
            if begin == end:
                continue
            part = heads_first(*(t[:, begin:end] for t in (q, k, v)))
            parts.append(F.scaled_dot_product_attention(*part, is_causal=causal).transpose(1, 2))
        parts.append(torch.zeros(1, 1, heads, head_dim, dtype=torch.float64))
        options = {"batch": 1, "length": 7, "capacity": 7, "causal": causal, **sizes}
        inputs = {"q": q, "k": k, "v": v, "starts": torch.tensor(starts)}
        name = f"packed sequences, {'causal' if causal else 'both ways'}"
        cases.add(name, "flashAttention", inputs, options, torch.cat(parts, dim=1))

    # Keys in pages, in no order; the second sequence is shorter.
    page_size, pages = 2, torch.tensor([[4, 0, 2], [1, 3, 6]])
    q = draw(2, 1, heads, head_dim)
    k, v = draw(7, page_size, kv_heads, head_dim), draw(7, page_size, kv_heads, head_dim)
    sinks, rows = draw(heads), []
    for b, position in enumerate([4, 1]):
        own = [t[pages[b]].reshape(1, 6, kv_heads, head_dim)[:, : position + 1] for t in (k, v)]
        seen = visible_keys(1, position + 1)
        rows.append(sinks_attention(*heads_first(q[b : b + 1], *own), masked(seen), sinks))
    options = {"batch": 2, "capacity": 6, "pageSize": page_size, **sizes}
    inputs = {"q": q, "k": k, "v": v, "sinks": sinks, "pages": pages, "position": torch.tensor([4, 1])}
    cases.add("pages and sinks", "attentionStep", inputs, options, torch.cat(rows))


def norms(cases, draw):
    sizes = {"batch": 2, "length": 2, "heads": 2, "kvHeads": 1, "headDim": 6}
    frequencies = 10000.0 ** (-torch.arange(0, 4, 2, dtype=torch.float64) / 4)
    for norm, offset, eps in [(Qwen3RMSNorm, 0, 1e-6), (Gemma3RMSNorm, 1, 1e-2)]:
        q, k = draw(2, 2, 2, 6, scale=3), draw(2, 2, 1, 6, scale=0.1)
        q_weight, k_weight = draw(6), draw(6)
        # Both norms compute in float32 where their input is of less precision than that, and these are not.
        both = [normed_double(x, w + offset, eps) for x, w in ((q, q_weight), (k, k_weight))]
        for ours, x, w in zip(both, (q, k), (q_weight, k_weight)):
            torch.testing.assert_close(normed(norm, x.float(), w.float(), eps).double(), ours, rtol=1e-5, atol=1e-5)
        inputs = {"q": q, "k": k, "qWeight": q_weight, "kWeight": k_weight}
        options = {**sizes, "eps": eps, "weightOffset": offset}
        cases.add(norm.__name__, "qkNorm", inputs, options, {"q": both[0], "k": both[1]})
        if offset == 0:
            continue
        start = [5, 0]
        rotated = {"q": turned(both[0], frequencies, start), "k": turned(both[1], frequencies, start)}
        inputs |= {"inverseFrequencies": frequencies, "position": torch.tensor(start)}
        cases.add(f"{norm.__name__}, rotated", "qkNorm", inputs, options, rotated)


def normed_double(x, weight, eps):
    return F.rms_norm(x, x.shape[-1:], eps=eps) * weight


def appends(cases, draw):
    x = torch.cat([draw(32), draw(32, scale=1e-4), torch.zeros(32, dtype=torch.float64), draw(32, scale=100)])
    cases.add("blocks", "quantizeBlocks", {"x": x}, {}, quantized(x))
    # The second token goes to another page, the third beyond the pages of its sequence.
    frequencies = 10000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    q, k, v = draw(1, 3, 1, 32), draw(1, 3, 1, 32), draw(1, 3, 1, 32)
    weight, cache = draw(32), draw(2, 2, 1, 32)
    keys = quantized(turned(normed_double(k, weight, 1e-6), frequencies, [1]))
    key_cache, value_cache = cache.clone(), cache.clone()
    key_cache[1, 1], key_cache[0, 0], key_cache[0, 1] = keys[0]
    value_cache[1, 1], value_cache[0, 0], value_cache[0, 1] = quantized(v)[0]
    inputs = {"q": q, "k": k, "v": v, "kWeight": weight, "inverseFrequencies": frequencies}
    inputs |= {"position": torch.tensor([1]), "pages": torch.tensor([[1, 0]]), "keyCache": cache, "valueCache": cache}
    sizes = {"batch": 1, "length": 3, "heads": 1, "kvHeads": 1, "headDim": 32, "capacity": 4, "pageSize": 2}
    expected = {"rotated": turned(q, frequencies, [1]), "keyCache": key_cache, "valueCache": value_cache}
    cases.add("to pages of q8", "ropeAppend", inputs, {**sizes, "quantized": True}, expected)
    # One token further on, and without norm and quants: the third token is beyond the pages of its sequence.
    q, k, v, cache = draw(1, 3, 1, 8), draw(1, 3, 1, 8), draw(1, 3, 1, 8), draw(2, 2, 1, 8)
    key_cache, value_cache = cache.clone(), cache.clone()
    key_cache[0], value_cache[0] = turned(k, frequencies, [2])[0, :2], v[0, :2]
    inputs = {"q": q, "k": k, "v": v, "inverseFrequencies": frequencies, "pages": torch.tensor([[1, 0]])}
    inputs |= {"position": torch.tensor([2]), "keyCache": cache, "valueCache": cache}
    expected = {"rotated": turned(q, frequencies, [2]), "keyCache": key_cache, "valueCache": value_cache}
    cases.add("to pages, beyond the last", "ropeAppend", inputs, {**sizes, "headDim": 8}, expected)


def make():
    cases, draw = Cases("attention_options"), Draw(41)
    attention(cases, draw)
    norms(cases, draw)
    appends(cases, draw)
    cases.write()
