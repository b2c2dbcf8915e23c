// y[m, s, n] = act(sum_k weight[e, n, k] x'[m, s, k]), e = indices[m, s], and with a gate, in one pass,
// y[m, s, n] = act(sum_k gate[e, n, k] x'[m, s, k]) * sum_k weight[e, n, k] x'[m, s, k]; x' = x or its RMS norm
// Source: Mixtral, arXiv 2401.04088, section 2.1; the gate is GLU Variants Improve Transformer, arXiv 2002.05202.
// Work: one workgroup makes ROWS sums (half as many outputs with a gate) of one pair (m, s), 16-byte loads over K.
// Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups. Barriers: those of sumOverWorkgroup.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16 | q8 | q4
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, HAS_NORM, UNROLL, AHEAD, Sums, addProducts, addScaled, totalsOf, productOf, squareOf};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, quadsOf, blockOf, scaleOf, turnOf, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  slots: u32,
  outputs: u32,
  inner: u32,
  xOffset: u32,
  xStride: u32,
  gateOffset: u32,
  gateStride: u32,
  gateExpertStride: u32,
  gateScales: u32,
  weightOffset: u32,
  weightStride: u32,
  weightExpertStride: u32,
  weightScales: u32,
  normOffset: u32,
  indicesOffset: u32,
  yStride: u32,
  eps: f32,
}

override ACTIVATION: u32 = 0u;
override GATED: bool = false;
// Whether every pair has a row of x of its own, or all of a token one.
override PAIRED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K), or (M, slots, K) where PAIRED, from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (E, N, K) from gateOffset, rows gateStride, experts gateExpertStride apart (multiples of 8, of 32 for quants), 16 bytes
// an element; scales of all experts from element gateScales
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
// (E, N, K) from weightOffset, rows weightStride, experts weightExpertStride apart (multiples of 8, of 32 for quants);
// scales of all experts from element weightScales
@group(0) @binding(3) var<storage, read> weight: array<vec4<u32>>;
// (K) from normOffset, a multiple of 4 for vector access: g
@if(access_vector) @group(0) @binding(4) var<storage, read> normWeight: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(4) var<storage, read> normWeight: array<f32>;
// (M, slots) from indicesOffset: experts
@group(0) @binding(5) var<storage, read> indices: array<u32>;
// (M, slots, N), rows yStride apart
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

// Zero where k .. k + 3 reaches params.inner: what lies there may be anything, NaN included.
fn masked(values: vec4<f32>, k: u32, tail: bool) -> vec4<f32> {
  let outside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(params.inner);
  return select(values, vec4<f32>(0.0), vec4<bool>(tail) & outside);
}

// x[start + k .. + 3]; with `tail`, zero from params.inner on
fn loadX(start: u32, k: u32, tail: bool) -> vec4<f32> {
  if (tail && k >= params.inner) { return vec4<f32>(0.0); }
  let at = start + k;
  @if(access_vector) let values = x[at / 4u];
  @if(access_scalar) let last = start + params.inner - 1u;
  @if(access_scalar) let values = vec4<f32>(x[at], x[min(at + 1u, last)], x[min(at + 2u, last)], x[min(at + 3u, last)]);
  return masked(values, k, tail);
}

// g[k .. k + 3], zero from params.inner on
fn loadGain(k: u32, tail: bool) -> vec4<f32> {
  if (tail && k >= params.inner) { return vec4<f32>(0.0); }
  let at = params.normOffset + k;
  @if(access_vector) let values = normWeight[at / 4u];
  @if(access_scalar) let last = params.normOffset + params.inner - 1u;
  @if(access_scalar) let values = vec4<f32>(normWeight[at], normWeight[min(at + 1u, last)], normWeight[min(at + 2u, last)], normWeight[min(at + 3u, last)]);
  return masked(values, k, tail);
}

// Adds the products of four values along K from k.
fn multiplyFour(sums: ptr<function, Sums>, start: u32, k: u32, weights: mat4x4<f32>, tail: bool) {
  var gain = vec4<f32>(1.0);
  if (HAS_NORM) { gain = loadGain(k, tail); }
  var values: mat4x4<f32>;
  values[0] = loadX(start, k, tail);
  addProducts(sums, values, gain, weights);
}

// One load of the gate or of the other matrix, counted from the start of its binding, and the scale of its block.
fn wordsAt(fromGate: bool, load: u32) -> vec4<u32> {
  if (fromGate) { return gate[load]; }
  return weight[load];
}

@if(weight_q8 || weight_q4)
fn scaleAt(fromGate: bool, load: u32) -> f32 {
  let block = blockOf(load);
  if (fromGate) { return scaleOf(gate[params.gateScales + block / 8u][block / 2u % 4u], block); }
  return scaleOf(weight[params.weightScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows; with a gate they are the gate's n, the other's n, the gate's n + 1, the other's n + 1.
fn load(loads: vec4<u32>) -> Loads {
  var found: Loads;
  found.w0 = wordsAt(GATED, loads.x);
  if (ROWS > 1u) { found.w1 = wordsAt(false, loads.y); }
  if (ROWS > 2u) {
    found.w2 = wordsAt(GATED, loads.z);
    found.w3 = wordsAt(false, loads.w);
  }
  @if(weight_q8 || weight_q4) {
    found.scales.x = scaleAt(GATED, loads.x);
    if (ROWS > 1u) { found.scales.y = scaleAt(false, loads.y); }
    if (ROWS > 2u) {
      found.scales.z = scaleAt(GATED, loads.z);
      found.scales.w = scaleAt(false, loads.w);
    }
  }
  return found;
}

fn multiplyQuad(sums: ptr<function, Sums>, start: u32, k: u32, turn: u32, loads: Loads, quad: u32, tail: bool) {
  multiplyFour(sums, start, k + (turn + quad) % QUADS * 4u, quadsOf(loads, quad), tail);
}

// Adds the products of one load of each row, number `unit` of them.
fn multiply(sums: ptr<function, Sums>, start: u32, unit: u32, loads: Loads, tail: bool) {
  let k = unit * VALUES_PER_LOAD;
  let turn = turnOf(unit);
  let parts = turned(loads, turn);
  @if(!(weight_q8 || weight_q4)) let into = sums;
  @if(weight_q8 || weight_q4) var part = Sums();
  @if(weight_q8 || weight_q4) let into = &part;
  if (UNROLL || QUADS <= 2u) {
    multiplyQuad(into, start, k, turn, parts, 0u, tail);
    @if(!weight_f32) multiplyQuad(into, start, k, turn, parts, 1u, tail);
    @if(weight_q8 || weight_q4) multiplyQuad(into, start, k, turn, parts, 2u, tail);
    @if(weight_q8 || weight_q4) multiplyQuad(into, start, k, turn, parts, 3u, tail);
    @if(weight_q4) multiplyQuad(into, start, k, turn, parts, 4u, tail);
    @if(weight_q4) multiplyQuad(into, start, k, turn, parts, 5u, tail);
    @if(weight_q4) multiplyQuad(into, start, k, turn, parts, 6u, tail);
    @if(weight_q4) multiplyQuad(into, start, k, turn, parts, 7u, tail);
  } else {
    for (var quad = 0u; quad < QUADS; quad++) { multiplyQuad(into, start, k, turn, parts, quad, tail); }
  }
  @if(weight_q8 || weight_q4) addScaled(sums, part, loads.scales);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Groups of outputs may exceed one dimension of the grid (see flatGrid).
  let made = select(ROWS, ROWS / 2u, GATED);
  let first = (workgroup.y * grid.x + workgroup.x) * made;
  if (first >= params.outputs) { return; }
  let pair = workgroup.z;
  let expert = indices[params.indicesOffset + pair];
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let outputs = min(first + select(lanes, lanes / 2u, GATED), vec4<u32>(params.outputs - 1u));
  let gates = params.gateOffset + expert * params.gateExpertStride + outputs * params.gateStride;
  let others = params.weightOffset + expert * params.weightExpertStride + outputs * params.weightStride;
  let rows = select(others, gates, vec4<bool>(GATED) & (lanes % 2u == vec4<u32>(0u))) / VALUES_PER_LOAD;
  let start = params.xOffset + select(pair / params.slots, pair, PAIRED) * params.xStride;

  var sums: Sums;
  // Loads that need no mask, AHEAD of each row before the first is used, then the rest.
  let rounds = params.inner / VALUES_PER_LOAD / (AHEAD * WORKGROUP_SIZE);
  for (var round = 0u; round < rounds; round++) {
    let unit = round * AHEAD * WORKGROUP_SIZE + local;
    let one = load(rows + unit);
    if (AHEAD > 1u) {
      let two = load(rows + unit + WORKGROUP_SIZE);
      multiply(&sums, start, unit, one, false);
      multiply(&sums, start, unit + WORKGROUP_SIZE, two, false);
    } else {
      multiply(&sums, start, unit, one, false);
    }
  }
  let units = (params.inner + VALUES_PER_LOAD - 1u) / VALUES_PER_LOAD;
  for (var unit = rounds * AHEAD * WORKGROUP_SIZE + local; unit < units; unit += WORKGROUP_SIZE) {
    multiply(&sums, start, unit, load(rows + unit), true);
  }

  let totals = totalsOf(sums, local, subgroupSize);
  let output = first + local;
  if (local >= made || output >= params.outputs) { return; }
  var norm = 1.0;
  if (HAS_NORM) { norm = inverseSqrt(squareOf(totals, 0u) / f32(params.inner) + params.eps); }
  var value = productOf(totals, 0u, select(local, local * 2u, GATED)) * norm;
  value = activate(ACTIVATION, vec4<f32>(value)).x;
  if (GATED) { value *= productOf(totals, 0u, local * 2u + 1u) * norm; }
  y[pair * params.yStride + output] = value;
}
