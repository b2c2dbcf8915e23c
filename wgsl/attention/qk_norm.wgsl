// y[b, l, h] = rope(x / sqrt(mean(x^2) + eps) * (weight + weightOffset)) of every head x of q[b, l], then of k[b, l]
// Source: the norms of queries and keys of Qwen3 and Gemma 3; as norm/rms_norm and attention/rope, in this order.
// Work: LANES invocations a head; a workgroup ROUNDS times as many heads of one token as it has such teams.
// Workgroup memory: 1.5 KiB (sine and cosine of up to 128 angles, 128 partial sums).
// Barriers: after the angles; between the partial sums of a head and their total, where it spans several subgroups.
// Requirements: none.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::rotary::rotaryTurn;
import package::shared::trigonometry::sinCos;
@if(simd_subgroups) enable subgroups;

struct Params {
  tokens: u32,
  length: u32,
  qOffset: u32,
  qStride: u32,
  qHeadStride: u32,
  kOffset: u32,
  kStride: u32,
  kHeadStride: u32,
  // Between the weights of two heads; 0 where they share one
  qWeightStride: u32,
  kWeightStride: u32,
  eps: f32,
  weightOffset: f32,
}

override WORKGROUP_SIZE: u32 = 128u;
override ROUNDS: u32 = 1u;
override HEADS: u32 = 8u;
// 0 where there are queries only
override KV_HEADS: u32 = 2u;
override HEAD_DIM: u32 = 64u;
// 0 where nothing rotates
override ROTARY_DIM: u32 = 0u;
override INTERLEAVED: bool = false;
override HAS_POSITION: bool = false;
override Q_NORM: bool = true;
override K_NORM: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens qStride apart, heads qHeadStride
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, L, Hkv, P), tokens kStride apart, heads kHeadStride
@group(0) @binding(2) var<storage, read> k: array<f32>;
// (P) or (H, P)
@group(0) @binding(3) var<storage, read> qWeight: array<f32>;
// (P) or (Hkv, P)
@group(0) @binding(4) var<storage, read> kWeight: array<f32>;
// (rotaryDim / 2), radians a token
@group(0) @binding(5) var<storage, read> inverseFrequencies: array<f32>;
// (B), tokens before this call
@group(0) @binding(6) var<storage, read> position: array<u32>;
// (B, L, H + Hkv, P)
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

const MAX_ANGLES: u32 = 128u;
var<workgroup> angles: array<vec2<f32>, MAX_ANGLES>;

fn plain(isKey: bool, at: u32) -> f32 {
  if (isKey) { return k[at]; }
  return q[at];
}

// A value of the head that begins at `start`, with its weight, before the factor of the norm.
fn weighted(isKey: bool, start: u32, weights: u32, e: u32) -> f32 {
  let value = plain(isKey, start + e);
  if (isKey && K_NORM) { return value * (kWeight[weights + e] + params.weightOffset); }
  if (!isKey && Q_NORM) { return value * (qWeight[weights + e] + params.weightOffset); }
  return value;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Workgroups may exceed one dimension of the grid (see flatGrid).
  let flat = workgroup.y * grid.x + workgroup.x;
  let teams = WORKGROUP_SIZE / LANES;
  let heads = HEADS + KV_HEADS;
  let parts = (heads + teams * ROUNDS - 1u) / (teams * ROUNDS);
  let token = flat / parts;
  if (token >= params.tokens) { return; }
  if (ROTARY_DIM > 0u) {
    var at = token % params.length;
    if (HAS_POSITION) { at += position[token / params.length]; }
    for (var i = local; i < ROTARY_DIM / 2u; i += WORKGROUP_SIZE) {
      angles[i] = sinCos(f32(at) * inverseFrequencies[i]);
    }
    workgroupBarrier();
  }
  let lane = local % LANES;
  for (var round = 0u; round < ROUNDS; round++) {
    let head = (flat % parts * ROUNDS + round) * teams + local / LANES;
    let inside = head < heads;
    let isKey = KV_HEADS > 0u && head >= HEADS;
    let ownHead = select(head, head - HEADS, isKey);
    let start = select(
      params.qOffset + token * params.qStride + ownHead * params.qHeadStride,
      params.kOffset + token * params.kStride + ownHead * params.kHeadStride,
      isKey,
    );
    let weights = ownHead * select(params.qWeightStride, params.kWeightStride, isKey);
    var squares = 0.0;
    if (inside) {
      for (var e = lane; e < HEAD_DIM; e += LANES) {
        let value = plain(isKey, start + e);
        squares += value * value;
      }
    }
    var factor = inverseSqrt(sumOverLanes(squares, local, subgroupSize) / f32(HEAD_DIM) + params.eps);
    if ((isKey && !K_NORM) || (!isKey && !Q_NORM)) { factor = 1.0; }
    if (inside) {
      for (var e = lane; e < HEAD_DIM; e += LANES) {
        var value = weighted(isKey, start, weights, e);
        if (e < ROTARY_DIM) {
          let turn = rotaryTurn(e, ROTARY_DIM, INTERLEAVED);
          let partner = weighted(isKey, start, weights, turn.partner);
          value = value * angles[turn.pair].y + turn.sign * partner * angles[turn.pair].x;
        }
        y[(token * heads + head) * HEAD_DIM + e] = value * factor;
      }
    }
  }
}
