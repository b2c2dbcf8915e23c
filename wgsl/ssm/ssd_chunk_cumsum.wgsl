// dt = clamp(softplus(raw + dtBias), low, high); cs[i] = sum_{k <= i} dt[k] A inside each chunk of Q tokens
// Source: Transformers are SSMs, arXiv 2405.21060, section 6; the first of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head), one invocation a token; tokens past the end get dt = 0.
// Workgroup memory: 2 KiB (256 sums in two parts).
// Barriers: two a doubling step of the scan: all have read before one writes, all have written before one reads.
// Requirements: none.
import package::shared::time_step::{timeStep, logDecay, splitDecay};

struct Params {
  length: u32,
  chunks: u32,
  heads: u32,
  dtOffset: u32,
  dtStride: u32,
  low: f32,
  high: f32,
}

override CHUNK: u32 = 128u;
override HAS_BIAS: bool = false;
override SOFTPLUS: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H), raw, rows of heads dtStride apart
@group(0) @binding(1) var<storage, read> dt: array<f32>;
// (H), negative
@group(0) @binding(2) var<storage, read> A: array<f32>;
// (H)
@group(0) @binding(3) var<storage, read> dtBias: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(4) var<storage, read_write> steps: array<f32>;

var<workgroup> sums: array<vec2<f32>, 256>;

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let batch = workgroup.y / params.chunks;
  let chunk = workgroup.y % params.chunks;
  let token = chunk * CHUNK + local;
  var step = 0.0;
  if (token < params.length) {
    var raw = dt[params.dtOffset + (batch * params.length + token) * params.dtStride + head];
    if (HAS_BIAS) { raw += dtBias[head]; }
    step = timeStep(raw, SOFTPLUS, params.low, params.high);
  }
  sums[local] = splitDecay(logDecay(step, A[head]));
  workgroupBarrier();
  for (var distance = 1u; distance < CHUNK; distance <<= 1u) {
    var sum = sums[local];
    if (local >= distance) { sum += sums[local - distance]; }
    workgroupBarrier();
    sums[local] = sum;
    workgroupBarrier();
  }
  let at = (workgroup.y * params.heads + head) * 3u * CHUNK + local;
  steps[at] = step;
  steps[at + CHUNK] = sums[local].x;
  steps[at + 2u * CHUNK] = sums[local].y;
}
