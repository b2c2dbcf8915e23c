// g = A softplus(raw + dtBias); beta = factor sigmoid(raw); cs[i] = sum_{k <= i} g[k] inside each chunk of 64 tokens
// Source: Gated Delta Networks, arXiv 2412.06464, section 3.3; the first of the passes of gatedDeltaRule.
// Work: one workgroup a (batch, chunk, value head), one invocation a token; tokens past the end get beta = g = 0.
// Workgroup memory: 0.5 KiB (64 sums in two parts).
// Barriers: two a doubling step of the scan: all have read before one writes, all have written before one reads.
// Requirements: none.
import package::shared::delta_gates::{deltaDecay, deltaBeta};
import package::shared::time_step::splitDecay;

struct Params {
  length: u32,
  chunks: u32,
  heads: u32,
  gOffset: u32,
  gStride: u32,
  betaOffset: u32,
  betaStride: u32,
  betaFactor: f32,
}

const CHUNK: u32 = 64u;
override HAS_A: bool = false;
override HAS_BIAS: bool = false;
override SIGMOID: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hv), the log decay or its raw value, rows of heads gStride apart
@group(0) @binding(1) var<storage, read> g: array<f32>;
// (B, L, Hv), rows of heads betaStride apart
@group(0) @binding(2) var<storage, read> beta: array<f32>;
// (Hv), negative
@group(0) @binding(3) var<storage, read> A: array<f32>;
// (Hv)
@group(0) @binding(4) var<storage, read> dtBias: array<f32>;
// (B, chunks, Hv, 64): beta, cs in two parts (see shared/time_step), 0
@group(0) @binding(5) var<storage, read_write> gates: array<vec4<f32>>;

var<workgroup> sums: array<vec2<f32>, CHUNK>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let batch = workgroup.y / params.chunks;
  let token = (workgroup.y % params.chunks) * CHUNK + local;
  var decay = 0.0;
  var written = 0.0;
  if (token < params.length) {
    let row = batch * params.length + token;
    var a = 0.0;
    var bias = 0.0;
    if (HAS_A) { a = A[head]; }
    if (HAS_BIAS) { bias = dtBias[head]; }
    decay = deltaDecay(g[params.gOffset + row * params.gStride + head], HAS_A, a, bias);
    written = deltaBeta(beta[params.betaOffset + row * params.betaStride + head], SIGMOID, params.betaFactor);
  }
  sums[local] = splitDecay(decay);
  workgroupBarrier();
  for (var distance = 1u; distance < CHUNK; distance <<= 1u) {
    var sum = sums[local];
    if (local >= distance) { sum += sums[local - distance]; }
    workgroupBarrier();
    sums[local] = sum;
    workgroupBarrier();
  }
  gates[(workgroup.y * params.heads + head) * CHUNK + local] = vec4(written, sums[local], 0.0);
}
