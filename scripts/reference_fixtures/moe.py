"""Routing and experts, checked against the routers and experts of transformers' models."""

import torch
import torch.nn.functional as F
from transformers import (
    DeepseekV3Config,
    GraniteMoeHybridConfig,
    JambaConfig,
    Lfm2MoeConfig,
    MixtralConfig,
    NemotronHConfig,
    Qwen3NextConfig,
)
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
from transformers.models.granitemoehybrid.modeling_granitemoehybrid import (
    GraniteMoeHybridExperts,
    GraniteMoeHybridTopKRouter,
)
from transformers.models.jamba.modeling_jamba import JambaSparseMoeBlock
from transformers.models.lfm2_moe.modeling_lfm2_moe import Lfm2MoeTopKRouter
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHExperts, NemotronHTopkRouter
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextTopKRouter

from .common import ACTIVATIONS, Cases, Draw


def route(
    logits,
    top_k,
    *,
    bias=None,
    scoring="softmax",
    order="scoreThenTopK",
    normalize=False,
    eps=0,
    scale=1,
    groups=1,
    top_groups=1,
):
    """In float64, the best expert first."""
    if order == "topKThenSoftmax":
        chosen = logits.topk(top_k)
        return chosen.indices, scale * chosen.values.softmax(-1)
    scores = logits.softmax(-1) if scoring == "softmax" else logits.sigmoid()
    choice = scores if bias is None else scores + bias
    if top_groups < groups:
        parts = choice.unflatten(-1, (groups, -1))
        best = parts.topk(2).values.sum(-1).topk(top_groups).indices
        closed = torch.ones(parts.shape[:-1], dtype=torch.bool).scatter(-1, best, False)
        choice = parts.masked_fill(closed.unsqueeze(-1), -torch.inf).flatten(-2)
    indices = choice.topk(top_k).indices
    weights = scores.gather(-1, indices)
    if normalize:
        weights = weights / (weights.sum(-1, keepdim=True) + eps)
    return indices, scale * weights


def expect_same(name, ours, theirs):
    """The same experts with the same weights, in any order; transformers' are float32."""
    (indices, weights), (their_indices, their_weights) = ours, theirs
    assert torch.equal(indices.sort(-1).values, their_indices.sort(-1).values), name
    dense = torch.zeros(indices.shape[0], indices.max() + 1, dtype=torch.float64)
    theirs = dense.scatter(-1, their_indices, their_weights.double())
    torch.testing.assert_close(theirs, dense.scatter(-1, indices, weights), rtol=1e-5, atol=1e-7)


def their_route(router, logits, bias=None):
    """A router whose hidden states are the logits: its weight is the unit matrix."""
    experts = logits.shape[-1]
    router.weight.data = torch.eye(experts)
    if bias is not None and hasattr(router, "e_score_correction_bias"):
        router.e_score_correction_bias.data = bias.float()
    return router(logits.float())


def granite_config(**sizes):
    return GraniteMoeHybridConfig(mamba_n_heads=2, **sizes)


def routes(cases, draw):
    rows = 4

    def add(name, experts, top_k, check, bias=None, **options):
        logits = draw(rows, experts, scale=2)
        indices, weights = route(logits, top_k, bias=bias, **options)
        expect_same(name, (indices, weights), check(logits))
        keys = {"eps": "normalizeEps", "top_groups": "topGroups"}
        given = {keys.get(key, key): value for key, value in options.items()}
        cases.add(
            name,
            "moeRoute",
            {"logits": logits, "correctionBias": bias},
            {"rows": rows, "experts": experts, "topK": top_k, **given},
            {"indices": indices, "weights": weights},
        )

    mixtral = MixtralTopKRouter(MixtralConfig(num_local_experts=8, num_experts_per_tok=2, hidden_size=8))
    add("mixtral", 8, 2, lambda x: their_route(mixtral, x)[:0:-1], normalize=True)

    qwen_config = Qwen3NextConfig(num_experts=40, num_experts_per_tok=10, hidden_size=40, norm_topk_prob=True)
    qwen = Qwen3NextTopKRouter(qwen_config)
    add("qwen3_next", 40, 10, lambda x: their_route(qwen, x)[:0:-1], normalize=True)

    jamba = JambaSparseMoeBlock(JambaConfig(num_experts=16, num_experts_per_tok=2, hidden_size=8, intermediate_size=8))
    add("jamba", 16, 2, lambda x: jamba.route_tokens_to_experts(x, x))

    granite = GraniteMoeHybridTopKRouter(granite_config(num_local_experts=12, num_experts_per_tok=6, hidden_size=12))
    add("granitemoehybrid", 12, 6, lambda x: their_route(granite, x)[:2], order="topKThenSoftmax")

    lfm_config = Lfm2MoeConfig(
        num_experts=8, num_experts_per_tok=3, hidden_size=8, use_expert_bias=True, norm_topk_prob=True
    )
    lfm, bias = Lfm2MoeTopKRouter(lfm_config), draw(8, scale=0.3)

    def lfm_route(x):
        lfm.weight.data = torch.eye(8)
        return lfm(x.float(), bias.float())[:0:-1]

    add("lfm2_moe", 8, 3, lfm_route, bias, scoring="sigmoid", normalize=True, eps=1e-6)

    common = {"scoring": "sigmoid", "normalize": True, "eps": 1e-20, "scale": 2.5}
    sizes = {"num_experts_per_tok": 6, "hidden_size": 32, "routed_scaling_factor": 2.5, "norm_topk_prob": True}
    bias = draw(32, scale=0.3)
    nemotron = NemotronHTopkRouter(NemotronHConfig(n_routed_experts=32, n_group=1, topk_group=1, **sizes))
    add("nemotron_h", 32, 6, lambda x: their_route(nemotron, x, bias)[:0:-1], bias, **common)

    bias = draw(32, scale=0.3)
    deepseek = DeepseekV3TopkRouter(DeepseekV3Config(n_routed_experts=32, n_group=8, topk_group=3, **sizes))
    add("deepseek_v3", 32, 6, lambda x: their_route(deepseek, x, bias)[:0:-1], bias, groups=8, top_groups=3, **common)


def experts(cases, draw):
    """Expert feed-forward layers of transformers, in float64."""
    for name, rows, slots, count, width, hidden, activation in [
        ("gated", 5, 2, 4, 6, 5, "silu"),
        ("one expert", 3, 1, 1, 4, 3, "silu"),
        ("without a gate", 4, 3, 6, 5, 7, "relu2"),
    ]:
        gated = name != "without a gate"
        x, residual = draw(rows, width), draw(rows, width)
        gate, up = draw(count, hidden, width) if gated else None, draw(count, hidden, width)
        down = draw(count, width, hidden)
        indices, weights = route(draw(rows, count), slots)
        if gated:
            config = granite_config(
                num_local_experts=count, hidden_size=width, intermediate_size=hidden, hidden_act=activation
            )
            theirs = GraniteMoeHybridExperts(config).double()
            theirs.gate_up_proj.data = torch.cat([gate, up], dim=1)
        else:
            config = NemotronHConfig(n_routed_experts=count, hidden_size=width, moe_intermediate_size=hidden)
            theirs = NemotronHExperts(config).double()
            theirs.up_proj.data = up
        theirs.down_proj.data = down
        with torch.no_grad():
            y = theirs(x, indices, weights)
        routing = {"indices": indices, "weights": weights}
        inputs = {"x": x, **routing, "gate": gate, "up": up, "down": down, "residual": residual}
        options = {
            "rows": rows,
            "slots": slots,
            "experts": count,
            "width": width,
            "hidden": hidden,
            "activation": activation,
            "scale": 0.5,
        }
        cases.add(name, "moeMlp", inputs, options, residual + 0.5 * y)

        shape = {"rows": rows, "slots": slots, "experts": count, "inner": width, "outputs": hidden}
        product = torch.einsum("msfd,md->msf", up[indices], x)
        wanted = ACTIVATIONS["gelu"](product)
        inputs = {"x": x, "weight": up, "indices": indices}
        cases.add(name, "expertMatmul", inputs, {**shape, "activation": "gelu"}, wanted)
        shape = {**shape, "inner": hidden, "outputs": width, "paired": True}
        inputs = {"x": product, "weight": down, "indices": indices}
        cases.add(name, "expertMatmul", inputs, shape, torch.einsum("msdf,msf->msd", down[indices], product))
        first = {"x": x[:1], "weight": up, "indices": indices[:1]}
        one = {"slots": slots, "experts": count, "inner": width, "outputs": hidden}
        cases.add(name, "expertMatvec", first, one, product[:1])


def make():
    cases, draw = Cases("moe"), Draw(31)
    routes(cases, draw)
    experts(cases, draw)
    cases.write()
