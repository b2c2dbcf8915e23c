// S = exp(g) S; S = S + beta k (v - S^T k)^T; y = S^T q, for one token
// Source: Gated Delta Networks, arXiv 2412.06464, equation 10.
// Work: one workgroup a (batch, value head) and 4 QUADS columns of V; each invocation a vec4 of ROWS rows of the state.
// Workgroup memory: 6 KiB of partial sums.
// Barriers: one, between the partial sums and their totals: S^T k, S^T q, and k . q with the lengths of both.
// Requirements: none.
//! axis simd: subgroups(subgroups) | baseline
//! constant ROWS
import package::shared::delta_gates::{deltaDecay, deltaBeta};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  heads: u32,
  // Value heads of a key head, Hv / Hk.
  ratio: u32,
  // K and V
  keyDim: u32,
  valueDim: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
  gOffset: u32,
  gStride: u32,
  betaOffset: u32,
  betaStride: u32,
  stateOffset: u32,
  stateStride: u32,
  betaFactor: f32,
  scale: f32,
  eps: f32,
}

const MAX_INVOCATIONS: u32 = 128u;
// Rows of the state that an invocation keeps in registers: K / (WORKGROUP_SIZE / QUADS), rounded up.
const ROWS: u32 = 8u;
override WORKGROUP_SIZE: u32 = 128u;
// vec4s of a row of V that one workgroup has: a power of two.
override QUADS: u32 = 8u;
override HAS_A: bool = false;
override HAS_BIAS: bool = false;
override SIGMOID: bool = false;
override L2_NORM: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// q and k, each (B, Hk, K), sequences qStride and kStride apart: one storage, for there are 8 bindings
@group(0) @binding(1) var<storage, read> qk: array<f32>;
// (B, Hv, V), sequences vStride apart
@group(0) @binding(2) var<storage, read> v: array<f32>;
// (B, Hv), the log decay or its raw value, sequences gStride apart
@group(0) @binding(3) var<storage, read> g: array<f32>;
// (B, Hv), sequences betaStride apart
@group(0) @binding(4) var<storage, read> beta: array<f32>;
// (Hv), negative
@group(0) @binding(5) var<storage, read> A: array<f32>;
// (Hv)
@group(0) @binding(6) var<storage, read> dtBias: array<f32>;
// (B, Hv, K, V), sequences stateStride apart
@group(0) @binding(7) var<storage, read_write> state: array<vec4<f32>>;
// (B, Hv, V)
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;

// What an invocation has summed over its rows: S^T k and S^T q of 4 columns; k . k, q . q, k . q.
struct Sums {
  keys: vec4<f32>,
  queries: vec4<f32>,
  products: vec3<f32>,
}

var<workgroup> partials: array<Sums, MAX_INVOCATIONS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  // Workgroups may exceed one dimension of the grid (see flatGrid).
  let columns = params.valueDim / 4u;
  let tiles = (columns + QUADS - 1u) / QUADS;
  let index = workgroup.y * grid.x + workgroup.x;
  let headRow = index / tiles;
  let batch = headRow / params.heads;
  if (batch >= params.batch) { return; }
  let head = headRow % params.heads;
  let column = (index % tiles) * QUADS + local % QUADS;
  let inside = column < columns;
  // Rows first, first + lanes, first + 2 lanes, ...: neighbouring rows are read together.
  let first = local / QUADS;
  let lanes = WORKGROUP_SIZE / QUADS;
  let keyHead = head / params.ratio;
  let qRow = params.qOffset + batch * params.qStride + keyHead * params.keyDim;
  let kRow = params.kOffset + batch * params.kStride + keyHead * params.keyDim;
  let own = (params.stateOffset + batch * params.stateStride + head * params.keyDim * params.valueDim) / 4u + column;

  var rows = array<vec4<f32>, ROWS>();
  for (var i = 0u; i < ROWS; i++) {
    let row = first + i * lanes;
    if (inside && row < params.keyDim) { rows[i] = state[own + row * columns]; }
  }
  var sums = Sums(vec4(0.0), vec4(0.0), vec3(0.0));
  for (var i = 0u; i < ROWS; i++) {
    let row = first + i * lanes;
    if (row < params.keyDim) {
      let key = qk[kRow + row];
      let query = qk[qRow + row];
      sums.keys += key * rows[i];
      sums.queries += query * rows[i];
      sums.products += vec3(key * key, query * query, key * query);
    }
  }
  // Invocations of one column are QUADS apart.
  var width = 1u;
  @if(simd_subgroups) {
    for (var mask = QUADS; mask < min(subgroupSize, WORKGROUP_SIZE); mask <<= 1u) {
      sums.keys += subgroupShuffleXor(sums.keys, mask);
      sums.queries += subgroupShuffleXor(sums.queries, mask);
      sums.products += subgroupShuffleXor(sums.products, mask);
      width <<= 1u;
    }
  }
  if (WORKGROUP_SIZE > width * QUADS) {
    // Invocations are numbered subgroup by subgroup, as on every driver in use.
    partials[local] = sums;
    workgroupBarrier();
    sums = Sums(vec4(0.0), vec4(0.0), vec3(0.0));
    for (var lane = 0u; lane < lanes / width; lane++) {
      let part = partials[lane * width * QUADS + local % QUADS];
      sums.keys += part.keys;
      sums.queries += part.queries;
      sums.products += part.products;
    }
  }

  var a = 0.0;
  var bias = 0.0;
  if (HAS_A) { a = A[head]; }
  if (HAS_BIAS) { bias = dtBias[head]; }
  let decay = exp(deltaDecay(g[params.gOffset + batch * params.gStride + head], HAS_A, a, bias));
  let gate = deltaBeta(beta[params.betaOffset + batch * params.betaStride + head], SIGMOID, params.betaFactor);
  // What makes k and q of unit length.
  var factors = vec2(1.0);
  if (L2_NORM) { factors = inverseSqrt(sums.products.xy + params.eps); }
  if (!inside) { return; }
  let at = params.vOffset + batch * params.vStride + head * params.valueDim + column * 4u;
  let value = vec4(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
  let written = gate * (value - decay * factors.x * sums.keys);
  if (first == 0u) {
    let mixed = decay * sums.queries + (factors.x * sums.products.z) * written;
    y[headRow * columns + column] = params.scale * factors.y * mixed;
  }
  for (var i = 0u; i < ROWS; i++) {
    let row = first + i * lanes;
    if (row < params.keyDim) {
      state[own + row * columns] = decay * rows[i] + (factors.x * qk[kRow + row]) * written;
    }
  }
}
