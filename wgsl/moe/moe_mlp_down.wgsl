// y[m, n] = residual[m, n] + scale * sum_s weights[m, s] sum_k down[indices[m, s], n, k] h[m, s, k]
// Source: Mixtral, arXiv 2401.04088, section 2.1: the down projections of a token's experts and their sum.
// Work: one workgroup makes ROWS outputs of one token; its invocations stride over the slots' K, one slot after another,
//   as if they were one long row. Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups.
// Barriers: those of sumOverWorkgroup.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16 | q8 | q4
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, UNROLL, Sums, addProducts, addScaled, totalsOf, productOf};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, quadsOf, blockOf, scaleOf, turnOf, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  slots: u32,
  outputs: u32,
  inner: u32,
  hStride: u32,
  downOffset: u32,
  downStride: u32,
  downExpertStride: u32,
  downScales: u32,
  indicesOffset: u32,
  weightsOffset: u32,
  yOffset: u32,
  yStride: u32,
  scale: f32,
}

override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, slots, K), rows hStride apart (a multiple of 4)
@group(0) @binding(1) var<storage, read> h: array<vec4<f32>>;
// (E, N, K) from downOffset, rows downStride, experts downExpertStride apart (multiples of 8, of 32 for quants), 16 bytes
// an element; scales of all experts from element downScales
@group(0) @binding(2) var<storage, read> down: array<vec4<u32>>;
// (M, slots) from indicesOffset: experts
@group(0) @binding(3) var<storage, read> indices: array<u32>;
// (M, slots) from weightsOffset
@group(0) @binding(4) var<storage, read> weights: array<f32>;
// (M, N) from yOffset, rows yStride apart; holds the residual first
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

// h[start + k .. + 3], zero from params.inner on: what lies there may be anything, NaN included.
fn loadH(start: u32, k: u32) -> vec4<f32> {
  if (k >= params.inner) { return vec4<f32>(0.0); }
  let outside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(params.inner);
  return select(h[(start + k) / 4u], vec4<f32>(0.0), outside);
}

@if(weight_q8 || weight_q4)
fn scaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(down[params.downScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows; `loads` counts them from the start of the binding.
fn load(loads: vec4<u32>) -> Loads {
  var found: Loads;
  found.w0 = down[loads.x];
  if (ROWS > 1u) { found.w1 = down[loads.y]; }
  if (ROWS > 2u) {
    found.w2 = down[loads.z];
    found.w3 = down[loads.w];
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

// Loads of one slot's expert, number `unit` of its rows, and what they are multiplied with: h from `start` on, and the
// slot's weight.
struct Step {
  loads: Loads,
  unit: u32,
  start: u32,
  share: f32,
}

// The step of a number: those of a slot follow each other.
fn stepOf(pair: u32, outputs: vec4<u32>, number: u32, units: u32) -> Step {
  let slot = pair + number / units;
  let unit = number % units;
  let expert = indices[params.indicesOffset + slot];
  let rows = (params.downOffset + expert * params.downExpertStride + outputs * params.downStride) / VALUES_PER_LOAD;
  return Step(load(rows + unit), unit, slot * params.hStride, weights[params.weightsOffset + slot]);
}

fn multiplyQuad(sums: ptr<function, Sums>, start: u32, k: u32, turn: u32, loads: Loads, quad: u32) {
  var values: mat4x4<f32>;
  values[0] = loadH(start, k + (turn + quad) % QUADS * 4u);
  addProducts(sums, values, vec4<f32>(1.0), quadsOf(loads, quad));
}

// Adds the products of a step; the slot's weight goes with the scales.
fn multiply(sums: ptr<function, Sums>, step: Step) {
  let k = step.unit * VALUES_PER_LOAD;
  let turn = turnOf(step.unit);
  let parts = turned(step.loads, turn);
  var part = Sums();
  if (UNROLL || QUADS <= 2u) {
    multiplyQuad(&part, step.start, k, turn, parts, 0u);
    @if(!weight_f32) multiplyQuad(&part, step.start, k, turn, parts, 1u);
    @if(weight_q8 || weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 2u);
    @if(weight_q8 || weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 3u);
    @if(weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 4u);
    @if(weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 5u);
    @if(weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 6u);
    @if(weight_q4) multiplyQuad(&part, step.start, k, turn, parts, 7u);
  } else {
    for (var quad = 0u; quad < QUADS; quad++) { multiplyQuad(&part, step.start, k, turn, parts, quad); }
  }
  @if(weight_q8 || weight_q4) let scales = step.share * step.loads.scales;
  @if(!(weight_q8 || weight_q4)) let scales = vec4<f32>(step.share);
  addScaled(sums, part, scales);
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
  let token = workgroup.z;
  let pair = token * params.slots;
  // Rows beyond the last one repeat it; their sums are not written.
  let outputs = min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));

  var sums: Sums;
  let units = (params.inner + VALUES_PER_LOAD - 1u) / VALUES_PER_LOAD;
  let all = params.slots * units;
  // Pairs of loads, both issued before either is used, then the rest.
  let twos = all / (2u * WORKGROUP_SIZE);
  for (var two = 0u; two < twos; two++) {
    let number = two * 2u * WORKGROUP_SIZE + local;
    let one = stepOf(pair, outputs, number, units);
    let other = stepOf(pair, outputs, number + WORKGROUP_SIZE, units);
    multiply(&sums, one);
    multiply(&sums, other);
  }
  let done = twos * 2u * WORKGROUP_SIZE;
  let rounds = (all - done + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
  for (var round = 0u; round < rounds; round++) {
    let number = done + round * WORKGROUP_SIZE + local;
    if (number < all) { multiply(&sums, stepOf(pair, outputs, number, units)); }
  }

  let totals = totalsOf(sums, local, subgroupSize);
  let output = first + local;
  if (local >= ROWS || output >= params.outputs) { return; }
  var value = params.scale * productOf(totals, 0u, local);
  let at = params.yOffset + token * params.yStride + output;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
