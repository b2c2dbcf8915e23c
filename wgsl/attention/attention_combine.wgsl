// y[b, h] = sum_s exp2(m_s - m) O_s / (exp2(sink_h - m) + sum_s exp2(m_s - m) l_s), m the largest, over shares s of keys
// Source: Flash-Decoding (Dao et al., 2023); the shares are those of attention/attention_step, the sink and the gate too.
// Work: one workgroup a query head of a sequence; an invocation four values of every SETS-th share.
// Workgroup memory: 6 KiB (4 KiB of partial sums, 8 bytes for each of up to 256 shares).
// Barriers: after the weights of the shares; before the sums of the sets meet.
// Requirements: none.
//! constant HEAD_DIM
import package::shared::online_softmax::{LOG2_E, MASKED, sinkScale};
import package::shared::output_gate::gateFactor;

struct Params {
  heads: u32,
  splits: u32,
  sinksOffset: u32,
  gateOffset: u32,
  gateStride: u32,
  gateHeadStride: u32,
}

const HEAD_DIM: u32 = 64u;
const VECTORS: u32 = HEAD_DIM / 4u;
const INVOCATIONS: u32 = 256u;
const SETS: u32 = INVOCATIONS / VECTORS;
const MAX_SPLITS: u32 = 256u;
override HAS_SINKS: bool = false;
override HAS_GATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, H, splits, P + 4): sums, then the largest score, the sum of weights and two zeros
@group(0) @binding(1) var<storage, read> sums: array<vec4<f32>>;
// (H)
@group(0) @binding(2) var<storage, read> sinks: array<f32>;
// (B, H, P), sequences gateStride apart, heads gateHeadStride
@group(0) @binding(3) var<storage, read> gate: array<f32>;
// (B, H, P)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> shares: array<vec2<f32>, MAX_SPLITS>;
var<workgroup> partials: array<vec4<f32>, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let batch = workgroup.y;
  let row = batch * params.heads + head;
  if (local < params.splits) { shares[local] = sums[(row * params.splits + local) * (VECTORS + 1u) + VECTORS].xy; }
  workgroupBarrier();
  var largest = MASKED;
  for (var s = 0u; s < params.splits; s++) { largest = max(largest, shares[s].x); }
  var total = 0.0;
  for (var s = 0u; s < params.splits; s++) { total += exp2(shares[s].x - largest) * shares[s].y; }
  let vector = local % VECTORS;
  let keySet = local / VECTORS;
  var sum = vec4<f32>();
  if (keySet < SETS) {
    for (var n = 0u; n < (params.splits + SETS - 1u) / SETS; n++) {
      let s = n * SETS + keySet;
      if (s < params.splits) {
        sum += exp2(shares[s].x - largest) * sums[(row * params.splits + s) * (VECTORS + 1u) + vector];
      }
    }
  }
  partials[local] = sum;
  workgroupBarrier();
  if (local < VECTORS) {
    var value = vec4<f32>();
    for (var i = 0u; i < SETS; i++) { value += partials[i * VECTORS + local]; }
    var scale = select(0.0, 1.0 / total, total > 0.0);
    if (HAS_SINKS) { scale = sinkScale(largest, total, LOG2_E * sinks[params.sinksOffset + head]); }
    value *= scale;
    if (HAS_GATE) {
      let at = params.gateOffset + batch * params.gateStride + head * params.gateHeadStride + local * 4u;
      value *= gateFactor(vec4<f32>(gate[at], gate[at + 1u], gate[at + 2u], gate[at + 3u]));
    }
    y[row * VECTORS + local] = value;
  }
}
