// y = residual + scale * act(u), and with a gate, in one pass, y = residual + scale * act(g) * u, where
// u[m, n] = sum_k up[n, k] x'[m, k] + upBias[n], g likewise of the gate, x' = x or its RMS norm (times weight + normShift)
// Source: GLU Variants Improve Transformer, arXiv 2002.05202, equations 2 and 6, for few rows m.
// Work: one workgroup makes ROWS sums (half as many outputs with a gate) for X_ROWS rows of x, 16-byte loads over K.
// Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups. Barriers: those of sumOverWorkgroup.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16 | q8 | q4
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, X_ROWS, HAS_NORM, UNROLL, AHEAD, Sums, addProducts, addScaled, totalsOf, productOf, squareOf};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, quadsOf, blockOf, scaleOf, turnOf, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  rows: u32,
  outputs: u32,
  inner: u32,
  xOffset: u32,
  xStride: u32,
  gateOffset: u32,
  gateStride: u32,
  gateScales: u32,
  upOffset: u32,
  upStride: u32,
  upScales: u32,
  normOffset: u32,
  gateBiasOffset: u32,
  upBiasOffset: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
  normShift: f32,
  scale: f32,
}

override ACTIVATION: u32 = 0u;
override GATED: bool = false;
override HAS_GATE_BIAS: bool = false;
override HAS_UP_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (N, K) from gateOffset, rows gateStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element gateScales
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
// (N, K) from upOffset, rows upStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element upScales
@group(0) @binding(3) var<storage, read> up: array<vec4<u32>>;
// (K) from normOffset, a multiple of 4 for vector access: g
@if(access_vector) @group(0) @binding(4) var<storage, read> normWeight: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(4) var<storage, read> normWeight: array<f32>;
// (N)
@group(0) @binding(5) var<storage, read> gateBias: array<f32>;
// (N)
@group(0) @binding(6) var<storage, read> upBias: array<f32>;
// (M, N) from yOffset, rows yStride apart; holds the residual first
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

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

// g[k .. k + 3] + normShift, zero from params.inner on
fn loadGain(k: u32, tail: bool) -> vec4<f32> {
  if (tail && k >= params.inner) { return vec4<f32>(0.0); }
  let at = params.normOffset + k;
  @if(access_vector) let gains = normWeight[at / 4u];
  @if(access_scalar) let last = params.normOffset + params.inner - 1u;
  @if(access_scalar) let gains = vec4<f32>(normWeight[at], normWeight[min(at + 1u, last)], normWeight[min(at + 2u, last)], normWeight[min(at + 3u, last)]);
  return masked(gains + params.normShift, k, tail);
}

// Adds the products of four values along K from k.
fn multiplyFour(sums: ptr<function, Sums>, starts: vec4<u32>, k: u32, weights: mat4x4<f32>, tail: bool) {
  var gain = vec4<f32>(1.0);
  if (HAS_NORM) { gain = loadGain(k, tail); }
  var values: mat4x4<f32>;
  values[0] = loadX(starts.x, k, tail);
  if (X_ROWS > 1u) { values[1] = loadX(starts.y, k, tail); }
  if (X_ROWS > 2u) {
    values[2] = loadX(starts.z, k, tail);
    values[3] = loadX(starts.w, k, tail);
  }
  addProducts(sums, values, gain, weights);
}

@if(weight_q8 || weight_q4)
fn gateScaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(gate[params.gateScales + block / 8u][block / 2u % 4u], block);
}

@if(weight_q8 || weight_q4)
fn upScaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(up[params.upScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows; with a gate they are the gate's n, up's n, the gate's n + 1, up's n + 1.
fn load(loads: vec4<u32>) -> Loads {
  var found: Loads;
  if (GATED) { found.w0 = gate[loads.x]; } else { found.w0 = up[loads.x]; }
  if (ROWS > 1u) { found.w1 = up[loads.y]; }
  if (ROWS > 2u) {
    if (GATED) { found.w2 = gate[loads.z]; } else { found.w2 = up[loads.z]; }
    found.w3 = up[loads.w];
  }
  @if(weight_q8 || weight_q4) {
    if (GATED) { found.scales.x = gateScaleAt(loads.x); } else { found.scales.x = upScaleAt(loads.x); }
    if (ROWS > 1u) { found.scales.y = upScaleAt(loads.y); }
    if (ROWS > 2u) {
      if (GATED) { found.scales.z = gateScaleAt(loads.z); } else { found.scales.z = upScaleAt(loads.z); }
      found.scales.w = upScaleAt(loads.w);
    }
  }
  return found;
}

fn multiplyQuad(sums: ptr<function, Sums>, starts: vec4<u32>, k: u32, turn: u32, loads: Loads, quad: u32, tail: bool) {
  multiplyFour(sums, starts, k + (turn + quad) % QUADS * 4u, quadsOf(loads, quad), tail);
}

// Adds the products of one load of each row, number `unit` of them.
fn multiply(sums: ptr<function, Sums>, starts: vec4<u32>, unit: u32, loads: Loads, tail: bool) {
  let k = unit * VALUES_PER_LOAD;
  let turn = turnOf(unit);
  let parts = turned(loads, turn);
  @if(!(weight_q8 || weight_q4)) let into = sums;
  @if(weight_q8 || weight_q4) var part = Sums();
  @if(weight_q8 || weight_q4) let into = &part;
  if (UNROLL || QUADS <= 2u) {
    multiplyQuad(into, starts, k, turn, parts, 0u, tail);
    @if(!weight_f32) multiplyQuad(into, starts, k, turn, parts, 1u, tail);
    @if(weight_q8 || weight_q4) multiplyQuad(into, starts, k, turn, parts, 2u, tail);
    @if(weight_q8 || weight_q4) multiplyQuad(into, starts, k, turn, parts, 3u, tail);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 4u, tail);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 5u, tail);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 6u, tail);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 7u, tail);
  } else {
    for (var quad = 0u; quad < QUADS; quad++) { multiplyQuad(into, starts, k, turn, parts, quad, tail); }
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
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let outputs = min(first + select(lanes, lanes / 2u, GATED), vec4<u32>(params.outputs - 1u));
  let gates = params.gateOffset + outputs * params.gateStride;
  let ups = params.upOffset + outputs * params.upStride;
  let rows = select(ups, gates, vec4<bool>(GATED) & (lanes % 2u == vec4<u32>(0u))) / VALUES_PER_LOAD;
  let xRows = min(workgroup.z * X_ROWS + lanes, vec4<u32>(params.rows - 1u));
  let starts = params.xOffset + xRows * params.xStride;

  var sums: Sums;
  // Loads that need no mask, AHEAD of each row before the first is used, then the rest.
  let rounds = params.inner / VALUES_PER_LOAD / (AHEAD * WORKGROUP_SIZE);
  for (var round = 0u; round < rounds; round++) {
    let unit = round * AHEAD * WORKGROUP_SIZE + local;
    let one = load(rows + unit);
    if (AHEAD > 1u) {
      let two = load(rows + unit + WORKGROUP_SIZE);
      multiply(&sums, starts, unit, one, false);
      multiply(&sums, starts, unit + WORKGROUP_SIZE, two, false);
    } else {
      multiply(&sums, starts, unit, one, false);
    }
  }
  let units = (params.inner + VALUES_PER_LOAD - 1u) / VALUES_PER_LOAD;
  for (var unit = rounds * AHEAD * WORKGROUP_SIZE + local; unit < units; unit += WORKGROUP_SIZE) {
    multiply(&sums, starts, unit, load(rows + unit), true);
  }

  let totals = totalsOf(sums, local, subgroupSize);
  let m = local / made;
  let row = workgroup.z * X_ROWS + m;
  let lane = local % made;
  let output = first + lane;
  if (m >= X_ROWS || row >= params.rows || output >= params.outputs) { return; }
  var norm = 1.0;
  if (HAS_NORM) { norm = inverseSqrt(squareOf(totals, m) / f32(params.inner) + params.eps); }
  var value = productOf(totals, m, select(lane, lane * 2u + 1u, GATED)) * norm;
  if (HAS_UP_BIAS) { value += upBias[params.upBiasOffset + output]; }
  if (GATED) {
    var gated = productOf(totals, m, lane * 2u) * norm;
    if (HAS_GATE_BIAS) { gated += gateBias[params.gateBiasOffset + output]; }
    value *= activate(ACTIVATION, vec4<f32>(gated)).x;
  } else {
    value = activate(ACTIVATION, vec4<f32>(value)).x;
  }
  value *= params.scale;
  let at = params.yOffset + row * params.yStride + output;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
