// Longer than most shaders, because staging, recurrence and output of a tile share its workgroup memory.
// h = exp(dt A) h + dt B u; y = (C h + D u) silu(z) over a chunk of tokens, dt = clamp(softplus(raw + dtBias), low, high)
// Source: Mamba, arXiv 2312.00752, algorithm 2; selective_scan of state-spaces/mamba.
// Work: one workgroup CHANNELS channels of one group over one chunk, from the state that enters it.
// Workgroup memory: TILE (12 CHANNELS + 32 VECTORS LANES + 4 WORKGROUP_SIZE) bytes.
// Barriers: between staging a tile and walking over it, and between its partial sums of y and their totals.
// Requirements: none.
//! constant VECTORS
import package::shared::activations::silu;
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
  zOffset: u32,
  zStride: u32,
  aOffset: u32,
  aStride: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
  biasOffset: u32,
  skipOffset: u32,
  stateOffset: u32,
  stateStride: u32,
  low: f32,
  high: f32,
}

override HAS_BIAS: bool = false;
override HAS_SKIP: bool = false;
override HAS_GATE: bool = false;
override SOFTPLUS: bool = true;
// A state enters the chunk; else it begins at zeros.
override HAS_STATE: bool = false;
// The chunk is the whole sequence, and its last state is wanted.
override WRITES_STATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), tokens uStride apart
@group(0) @binding(1) var<storage, read> u: array<f32>;
// (B, L, E), raw, tokens dtStride apart
@group(0) @binding(2) var<storage, read> dt: array<f32>;
// (E, N), negative, channels aStride apart
@group(0) @binding(3) var<storage, read> A: array<f32>;
// B and C, each (B, L, G, N), tokens bStride and cStride apart: one storage, for there are 8 bindings
@group(0) @binding(4) var<storage, read> BC: array<f32>;
// dtBias and D, each (E), from biasOffset and skipOffset
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
// (B, L, E), tokens zStride apart
@group(0) @binding(6) var<storage, read> z: array<f32>;
// (B, chunks, E, N), chunks stateStride apart: the states that enter chunks; with WRITES_STATE then the last state
@group(0) @binding(7) var<storage, read_write> states: array<f32>;
// (B, L, E)
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

// (TILE, VECTORS * LANES): C, zeros beyond N
var<workgroup> queries: array<vec4<f32>, TILE * VECTORS * LANES>;
// (TILE, CHANNELS): silu(z)
var<workgroup> gates: array<f32, TILE * CHANNELS>;
// (TILE, LANES, CHANNELS): sums of C h over the states of a lane
var<workgroup> partials: array<f32, TILE * WORKGROUP_SIZE>;

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
      if (HAS_GATE) { gates[at] = silu(vec4<f32>(z[params.zOffset + (row + token) * params.zStride + channel])).x; }
    }
    if (at < TILE * CHANNELS) { steps[at] = step; }
  }
  let quads = VECTORS * LANES;
  for (var round = 0u; round < (TILE * quads + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    let token = row + min(at / quads, count - 1u);
    let b = params.bOffset + token * params.bStride + group * params.stateSize;
    let c = params.cOffset + token * params.cStride + group * params.stateSize;
    var key = vec4<f32>(0.0);
    var query = vec4<f32>(0.0);
    for (var i = 0u; i < 4u; i++) {
      let n = at % quads * 4u + i;
      if (n < params.stateSize) {
        key[i] = BC[b + n];
        query[i] = BC[c + n];
      }
    }
    if (at < TILE * quads) {
      keys[at] = key;
      queries[at] = query;
    }
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
  let sequence = workgroup.z * params.chunks + workgroup.y;
  let stateRow = params.stateOffset + sequence * params.stateStride + own * params.stateSize;

  var h = array<vec4<f32>, VECTORS>();
  var rates = array<vec4<f32>, VECTORS>();
  for (var v = 0u; v < VECTORS; v++) {
    for (var i = 0u; i < 4u; i++) {
      let n = (v * LANES + lane) * 4u + i;
      if (n < params.stateSize) {
        rates[v][i] = A[params.aOffset + own * params.aStride + n] * LOG2_E;
        if (HAS_STATE) { h[v][i] = states[stateRow + n]; }
      }
    }
  }
  // One lane of a channel adds D u.
  var skip = 0.0;
  if (HAS_SKIP && lane == 0u) { skip = vectors[params.skipOffset + own]; }

  let start = workgroup.y * params.chunkLength;
  let length = min(params.length - start, params.chunkLength);
  for (var tile = 0u; tile < (length + TILE - 1u) / TILE; tile++) {
    let row = workgroup.z * params.length + start + tile * TILE;
    let count = min(length - tile * TILE, TILE);
    stage(row, count, group, first, width, local);
    workgroupBarrier();
    // Four tokens at a time: their decays do not wait for each other.
    for (var four = 0u; four < TILE / 4u; four++) {
      let given = fourSteps(four * 4u, local % CHANNELS);
      let inputs = given[0] * given[1];
      var sums = skip * given[1];
      for (var v = 0u; v < VECTORS; v++) {
        let at = (four * 4u * VECTORS + v) * LANES + lane;
        let next = VECTORS * LANES;
        var value = h[v];
        value = decayOf(given[0].x, rates[v]) * value + inputs.x * keys[at];
        sums.x += dot(value, queries[at]);
        value = decayOf(given[0].y, rates[v]) * value + inputs.y * keys[at + next];
        sums.y += dot(value, queries[at + next]);
        value = decayOf(given[0].z, rates[v]) * value + inputs.z * keys[at + 2u * next];
        sums.z += dot(value, queries[at + 2u * next]);
        value = decayOf(given[0].w, rates[v]) * value + inputs.w * keys[at + 3u * next];
        sums.w += dot(value, queries[at + 3u * next]);
        h[v] = value;
      }
      let at = four * 4u * WORKGROUP_SIZE + local;
      partials[at] = sums.x;
      partials[at + WORKGROUP_SIZE] = sums.y;
      partials[at + 2u * WORKGROUP_SIZE] = sums.z;
      partials[at + 3u * WORKGROUP_SIZE] = sums.w;
    }
    workgroupBarrier();
    // An invocation ends the values whose gates it staged, so that staging the next tile needs no barrier.
    for (var round = 0u; round < (TILE * CHANNELS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
      let at = round * WORKGROUP_SIZE + local;
      let token = at / CHANNELS;
      if (token < count && at % CHANNELS < width) {
        var total = 0.0;
        for (var other = 0u; other < LANES; other++) {
          total += partials[token * WORKGROUP_SIZE + other * CHANNELS + at % CHANNELS];
        }
        if (HAS_GATE) { total *= gates[at]; }
        y[(row + token) * params.channels + first + at % CHANNELS] = total;
      }
    }
  }
  if (WRITES_STATE && local % CHANNELS < width) {
    for (var v = 0u; v < VECTORS; v++) {
      for (var i = 0u; i < 4u; i++) {
        let n = (v * LANES + lane) * 4u + i;
        if (n < params.stateSize) { states[stateRow + n] = h[v][i]; }
      }
    }
  }
}
