// states[c] = h after chunk c from h = 0, with h = exp(dt A) h + dt B u; sums[c] = sum of dt over the chunk
// Source: Mamba, arXiv 2312.00752, section 3.3.2 (parallel scan); the first of the three passes of selectiveScan.
// Work: one workgroup CHANNELS channels of one group over one chunk.
// Workgroup memory: TILE (8 CHANNELS + 16 VECTORS LANES) bytes.
// Barriers: around every staged tile.
// Requirements: none.
//! constant VECTORS
import package::shared::selective_tile::{WORKGROUP_SIZE, LANES, CHANNELS, TILE, VECTORS, LOG2_E};
import package::shared::selective_tile::{steps, keys, decayOf, fourSteps};
import package::shared::time_step::timeStep;

struct Params {
  length: u32,
  chunks: u32,
  // Q
  chunkLength: u32,
  groupChannels: u32,
  // Workgroups that have the channels of one group
  groupTiles: u32,
  channels: u32,
  stateSize: u32,
  uOffset: u32,
  uStride: u32,
  dtOffset: u32,
  dtStride: u32,
  aOffset: u32,
  aStride: u32,
  bOffset: u32,
  bStride: u32,
  biasOffset: u32,
  low: f32,
  high: f32,
}

override HAS_BIAS: bool = false;
override SOFTPLUS: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), tokens uStride apart
@group(0) @binding(1) var<storage, read> u: array<f32>;
// (B, L, E), raw, tokens dtStride apart
@group(0) @binding(2) var<storage, read> dt: array<f32>;
// (E, N), negative, channels aStride apart
@group(0) @binding(3) var<storage, read> A: array<f32>;
// (B, L, G, N), tokens bStride apart
@group(0) @binding(4) var<storage, read> B: array<f32>;
// dtBias (E) from biasOffset
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
// (B, chunks, E, N)
@group(0) @binding(6) var<storage, read_write> states: array<f32>;
// (B, chunks, E): dt A summed over a chunk is the logarithm of its decay
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;

// Stages `count` tokens from row `row` of (B, L) on, for the workgroup's `width` channels from `first` on.
fn stage(row: u32, count: u32, group: u32, first: u32, width: u32, local: u32) {
  for (var round = 0u; round < (TILE * CHANNELS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    let token = at / CHANNELS;
    let channel = first + at % CHANNELS;
    var step = vec2<f32>(0.0);
    if (token < count && at % CHANNELS < width) {
      var raw = dt[params.dtOffset + (row + token) * params.dtStride + channel];
      if (HAS_BIAS) { raw += vectors[params.biasOffset + channel]; }
      step = vec2<f32>(
        timeStep(raw, SOFTPLUS, params.low, params.high),
        u[params.uOffset + (row + token) * params.uStride + channel],
      );
    }
    if (at < TILE * CHANNELS) { steps[at] = step; }
  }
  let quads = VECTORS * LANES;
  for (var round = 0u; round < (TILE * quads + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    let b = params.bOffset + (row + min(at / quads, count - 1u)) * params.bStride + group * params.stateSize;
    var key = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
      let n = at % quads * 4u + i;
      if (n < params.stateSize) { key[i] = B[b + n]; }
    }
    if (at < TILE * quads) { keys[at] = key; }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group = workgroup.x / params.groupTiles;
  let inGroup = workgroup.x % params.groupTiles * CHANNELS;
  let first = group * params.groupChannels + inGroup;
  let width = min(params.groupChannels - inGroup, CHANNELS);
  let lane = local / CHANNELS;
  // Invocations beyond the last channel repeat it, and write nothing.
  let own = first + min(local % CHANNELS, width - 1u);
  let row = (workgroup.z * params.chunks + workgroup.y) * params.channels + own;

  var h = array<vec4<f32>, VECTORS>();
  var rates = array<vec4<f32>, VECTORS>();
  for (var v = 0u; v < VECTORS; v++) {
    for (var i = 0u; i < 4u; i++) {
      let n = (v * LANES + lane) * 4u + i;
      if (n < params.stateSize) { rates[v][i] = A[params.aOffset + own * params.aStride + n] * LOG2_E; }
    }
  }
  var total = 0.0;
  let start = workgroup.y * params.chunkLength;
  let length = min(params.length - start, params.chunkLength);
  for (var tile = 0u; tile < (length + TILE - 1u) / TILE; tile++) {
    let token = workgroup.z * params.length + start + tile * TILE;
    stage(token, min(length - tile * TILE, TILE), group, first, width, local);
    workgroupBarrier();
    // Four tokens at a time: their decays do not wait for each other.
    for (var four = 0u; four < TILE / 4u; four++) {
      let given = fourSteps(four * 4u, local % CHANNELS);
      let inputs = given[0] * given[1];
      total += dot(given[0], vec4<f32>(1.0));
      for (var v = 0u; v < VECTORS; v++) {
        let at = (four * 4u * VECTORS + v) * LANES + lane;
        let next = VECTORS * LANES;
        var value = h[v];
        value = decayOf(given[0].x, rates[v]) * value + inputs.x * keys[at];
        value = decayOf(given[0].y, rates[v]) * value + inputs.y * keys[at + next];
        value = decayOf(given[0].z, rates[v]) * value + inputs.z * keys[at + 2u * next];
        value = decayOf(given[0].w, rates[v]) * value + inputs.w * keys[at + 3u * next];
        h[v] = value;
      }
    }
    workgroupBarrier();
  }
  if (local % CHANNELS >= width) { return; }
  if (lane == 0u) { sums[row] = total; }
  for (var v = 0u; v < VECTORS; v++) {
    for (var i = 0u; i < 4u; i++) {
      let n = (v * LANES + lane) * 4u + i;
      if (n < params.stateSize) { states[row * params.stateSize + n] = h[v][i]; }
    }
  }
}
