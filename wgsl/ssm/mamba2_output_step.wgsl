// y[m, n] = residual[m, n] + bias[n] + sum_k weight[n, k] u[m, k] g[k] / sqrt(mean_i(u[m, i]^2) + eps), i over k's group
// Source: Mamba2.step of state-spaces/mamba: the norm of RMSNormGated (group_size) and out_proj.
// Work: one workgroup makes ROWS outputs for X_ROWS rows of u; its invocations stride over K by 16-byte loads.
// Workgroup memory: 6 KiB, 3 KiB with subgroups: partial sums, and the factors of the groups.
// Barriers: two for the factors of several groups; those of sumOverWorkgroup, which also sums the squares of one group.
// Requirements: none; subgroups shorten the reduction. K / groups and the offsets and strides of u are multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16 | q8 | q4
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, X_ROWS, HAS_NORM, UNROLL, AHEAD, Sums, addProducts, addScaled, totalsOf, productOf, squareOf};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, quadsOf, blockOf, scaleOf, turnOf, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  rows: u32,
  outputs: u32,
  width: u32,
  groups: u32,
  slices: u32,
  uOffset: u32,
  uStride: u32,
  weightOffset: u32,
  weightStride: u32,
  weightScales: u32,
  normOffset: u32,
  biasOffset: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
}

// K / groups where there are several groups; 0 for one, whose squares are summed along with the products (HAS_NORM)
override GROUP_WIDTH: u32 = 0u;
override HAS_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from uOffset, rows uStride apart
@group(0) @binding(1) var<storage, read> u: array<vec4<f32>>;
// (M, slices, groups): sums of squares of u over slices of each group; not read for one group
@group(0) @binding(2) var<storage, read> squares: array<f32>;
// (N, K) from weightOffset, rows weightStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element weightScales
@group(0) @binding(3) var<storage, read> weight: array<vec4<u32>>;
// (K) from normOffset: g
@group(0) @binding(4) var<storage, read> normWeight: array<vec4<f32>>;
// (N)
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// (M, N) from yOffset, rows yStride apart; holds the residual first
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

const MAX_FACTORS: u32 = 256u;
var<workgroup> shares: array<f32, MAX_FACTORS>;
// (X_ROWS, groups)
var<workgroup> factors: array<f32, MAX_FACTORS>;

// 1 / sqrt(mean square + eps) of every group of every row. Every invocation calls it.
fn findFactors(xRows: vec4<u32>, local: u32) {
  let count = X_ROWS * params.groups;
  // Invocations that share the sum of one factor; a factor each, in rounds, where there are more factors than those.
  let share = max(WORKGROUP_SIZE / count, 1u);
  let all = count * share;
  for (var round = 0u; round < (all + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    if (at < all) {
      let factor = at % count;
      let start = xRows[factor / params.groups] * params.slices * params.groups + factor % params.groups;
      var sum = 0.0;
      for (var step = 0u; step < (params.slices + share - 1u) / share; step++) {
        let slice = step * share + at / count;
        if (slice < params.slices) { sum += squares[start + slice * params.groups]; }
      }
      shares[at] = sum;
    }
  }
  workgroupBarrier();
  for (var round = 0u; round < (count + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let factor = round * WORKGROUP_SIZE + local;
    if (factor < count) {
      var sum = 0.0;
      for (var i = 0u; i < share; i++) { sum += shares[i * count + factor]; }
      factors[factor] = inverseSqrt(sum / f32(GROUP_WIDTH) + params.eps);
    }
  }
  workgroupBarrier();
}

// u[start + k .. + 3] of row m, times the factor of its group
fn loadU(start: u32, k: u32, m: u32) -> vec4<f32> {
  var values = u[(start + k) / 4u];
  if (GROUP_WIDTH > 0u) { values *= factors[m * params.groups + k / max(GROUP_WIDTH, 1u)]; }
  return values;
}

// Adds the products of four values along K from k; there are none from params.width on.
fn multiplyFour(sums: ptr<function, Sums>, starts: vec4<u32>, k: u32, weights: mat4x4<f32>) {
  if (k >= params.width) { return; }
  let gain = normWeight[(params.normOffset + k) / 4u];
  var values: mat4x4<f32>;
  values[0] = loadU(starts.x, k, 0u);
  if (X_ROWS > 1u) { values[1] = loadU(starts.y, k, 1u); }
  if (X_ROWS > 2u) {
    values[2] = loadU(starts.z, k, 2u);
    values[3] = loadU(starts.w, k, 3u);
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

fn multiplyQuad(sums: ptr<function, Sums>, starts: vec4<u32>, k: u32, turn: u32, loads: Loads, quad: u32) {
  multiplyFour(sums, starts, k + (turn + quad) % QUADS * 4u, quadsOf(loads, quad));
}

// Adds the products of one load of each row, number `unit` of them.
fn multiply(sums: ptr<function, Sums>, starts: vec4<u32>, unit: u32, loads: Loads) {
  let k = unit * VALUES_PER_LOAD;
  let turn = turnOf(unit);
  let parts = turned(loads, turn);
  @if(!(weight_q8 || weight_q4)) let into = sums;
  @if(weight_q8 || weight_q4) var part = Sums();
  @if(weight_q8 || weight_q4) let into = &part;
  if (UNROLL || QUADS <= 2u) {
    multiplyQuad(into, starts, k, turn, parts, 0u);
    @if(!weight_f32) multiplyQuad(into, starts, k, turn, parts, 1u);
    @if(weight_q8 || weight_q4) multiplyQuad(into, starts, k, turn, parts, 2u);
    @if(weight_q8 || weight_q4) multiplyQuad(into, starts, k, turn, parts, 3u);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 4u);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 5u);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 6u);
    @if(weight_q4) multiplyQuad(into, starts, k, turn, parts, 7u);
  } else {
    for (var quad = 0u; quad < QUADS; quad++) { multiplyQuad(into, starts, k, turn, parts, quad); }
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
  let starts = params.uOffset + xRows * params.uStride;
  if (GROUP_WIDTH > 0u) { findFactors(xRows, local); }

  var sums: Sums;
  // AHEAD loads of each row before the first is used, then the rest.
  let rounds = params.width / VALUES_PER_LOAD / (AHEAD * WORKGROUP_SIZE);
  for (var round = 0u; round < rounds; round++) {
    let unit = round * AHEAD * WORKGROUP_SIZE + local;
    let one = load(rows + unit);
    if (AHEAD > 1u) {
      let two = load(rows + unit + WORKGROUP_SIZE);
      multiply(&sums, starts, unit, one);
      multiply(&sums, starts, unit + WORKGROUP_SIZE, two);
    } else {
      multiply(&sums, starts, unit, one);
    }
  }
  let units = (params.width + VALUES_PER_LOAD - 1u) / VALUES_PER_LOAD;
  for (var unit = rounds * AHEAD * WORKGROUP_SIZE + local; unit < units; unit += WORKGROUP_SIZE) {
    multiply(&sums, starts, unit, load(rows + unit));
  }

  let totals = totalsOf(sums, local, subgroupSize);
  let m = local / ROWS;
  let row = workgroup.z * X_ROWS + m;
  let output = first + local % ROWS;
  if (m >= X_ROWS || row >= params.rows || output >= params.outputs) { return; }
  var value = productOf(totals, m, local % ROWS);
  if (HAS_NORM) { value *= inverseSqrt(squareOf(totals, m) / f32(params.width) + params.eps); }
  if (HAS_BIAS) { value += bias[params.biasOffset + output]; }
  let at = params.yOffset + row * params.yStride + output;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
