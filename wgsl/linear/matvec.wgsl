// y[m, n] = residual[m, n] + scale * act(sum_k weight[n, k] x[m, k] g[k] / sqrt(mean_k(x[m, k]^2) + eps) + bias[n])
// Source: the linear layer of a checkpoint, for few rows m; the root, and g = normWeight + normShift, only with a norm.
// Work: one workgroup makes ROWS outputs for X_ROWS rows of x; its invocations stride over K by 16-byte loads.
// Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups.
// Barriers: those of sumOverWorkgroup. Every workgroup sees the whole of x, so that the norm costs no dispatch.
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
  weightOffset: u32,
  weightStride: u32,
  weightScales: u32,
  normOffset: u32,
  biasOffset: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
  normShift: f32,
  scale: f32,
}

override ACTIVATION: u32 = 0u;
override HAS_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (N, K) from weightOffset, rows weightStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element weightScales
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
// (K) from normOffset, a multiple of 4 for vector access: g
@if(access_vector) @group(0) @binding(3) var<storage, read> normWeight: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(3) var<storage, read> normWeight: array<f32>;
// (N)
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// (M, N) from yOffset, rows yStride apart; holds the residual first
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

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
fn scaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(weight[params.weightScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows; `loads` counts them from the start of the binding.
fn load(loads: vec4<u32>) -> Loads {
  var found: Loads;
  found.w0 = weight[loads.x];
  if (ROWS > 1u) { found.w1 = weight[loads.y]; }
  if (ROWS > 2u) {
    found.w2 = weight[loads.z];
    found.w3 = weight[loads.w];
  }
  @if(weight_q8 || weight_q4) {
    found.scales.x = scaleAt(loads.x);
    if (ROWS > 1u) { found.scales.y = scaleAt(loads.y); }
    if (ROWS > 2u) {
      found.scales.z = scaleAt(loads.z);
      found.scales.w = scaleAt(loads.w);
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
  let first = (workgroup.y * grid.x + workgroup.x) * ROWS;
  if (first >= params.outputs) { return; }
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let outputs = min(first + lanes, vec4<u32>(params.outputs - 1u));
  let rows = (params.weightOffset + outputs * params.weightStride) / VALUES_PER_LOAD;
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
  let m = local / ROWS;
  let row = workgroup.z * X_ROWS + m;
  let output = first + local % ROWS;
  if (m >= X_ROWS || row >= params.rows || output >= params.outputs) { return; }
  var value = productOf(totals, m, local % ROWS);
  if (HAS_NORM) { value *= inverseSqrt(squareOf(totals, m) / f32(params.inner) + params.eps); }
  if (HAS_BIAS) { value += bias[params.biasOffset + output]; }
  value = params.scale * activate(ACTIVATION, vec4<f32>(value)).x;
  let at = params.yOffset + row * params.yStride + output;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
