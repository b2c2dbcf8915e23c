// y[m, n] = residual[m, n] + scale * sum_s weights[m, s] sum_k down[indices[m, s], n, k] h[m, s, k]
// Source: Mixtral, arXiv 2401.04088, section 2.1: the down projections of a token's experts and their sum.
// Work: one workgroup makes ROWS outputs of one token; its invocations stride over the slots' K, one slot after another,
//   as if they were one long row. Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups.
// Barriers: those of sumOverWorkgroup.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, Sums, addProducts, totalsOf};
import package::shared::weights::{VALUES_PER_LOAD, unpackLow, unpackHigh};
@if(simd_subgroups) enable subgroups;

struct Params {
  slots: u32,
  outputs: u32,
  inner: u32,
  hStride: u32,
  downOffset: u32,
  downStride: u32,
  downExpertStride: u32,
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
// (E, N, K) from downOffset, rows downStride, experts downExpertStride apart (multiples of 8), 16 bytes an element
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

// Adds the products of four values along K from k; `share` is the weight of the slot.
fn multiplyFour(sums: ptr<function, Sums>, start: u32, k: u32, share: f32, weights: mat4x4<f32>) {
  var values: mat4x4<f32>;
  values[0] = loadH(start, k);
  addProducts(sums, values, vec4<f32>(share), weights);
}

// Four rows of weights, one load of each, and what they are multiplied with.
struct Loads {
  w0: vec4<u32>,
  w1: vec4<u32>,
  w2: vec4<u32>,
  w3: vec4<u32>,
  start: u32,
  k: u32,
  share: f32,
}

// The load of a number: those of a slot follow each other.
fn load(pair: u32, outputs: vec4<u32>, number: u32, units: u32) -> Loads {
  let slot = pair + number / units;
  let unit = number % units;
  let expert = indices[params.indicesOffset + slot];
  let rows = (params.downOffset + expert * params.downExpertStride + outputs * params.downStride) / VALUES_PER_LOAD;
  var loads: Loads;
  loads.w0 = down[rows.x + unit];
  if (ROWS > 1u) { loads.w1 = down[rows.y + unit]; }
  if (ROWS > 2u) {
    loads.w2 = down[rows.z + unit];
    loads.w3 = down[rows.w + unit];
  }
  loads.start = slot * params.hStride;
  loads.k = unit * VALUES_PER_LOAD;
  loads.share = weights[params.weightsOffset + slot];
  return loads;
}

fn multiply(sums: ptr<function, Sums>, loads: Loads) {
  let low = mat4x4<f32>(unpackLow(loads.w0), unpackLow(loads.w1), unpackLow(loads.w2), unpackLow(loads.w3));
  multiplyFour(sums, loads.start, loads.k, loads.share, low);
  @if(!weight_f32) {
    let high = mat4x4<f32>(unpackHigh(loads.w0), unpackHigh(loads.w1), unpackHigh(loads.w2), unpackHigh(loads.w3));
    multiplyFour(sums, loads.start, loads.k + 4u, loads.share, high);
  }
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
    let one = load(pair, outputs, number, units);
    let other = load(pair, outputs, number + WORKGROUP_SIZE, units);
    multiply(&sums, one);
    multiply(&sums, other);
  }
  let done = twos * 2u * WORKGROUP_SIZE;
  let rounds = (all - done + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
  for (var round = 0u; round < rounds; round++) {
    let number = done + round * WORKGROUP_SIZE + local;
    if (number < all) { multiply(&sums, load(pair, outputs, number, units)); }
  }

  let totals = totalsOf(sums, local, subgroupSize);
  let output = first + local;
  if (local >= ROWS || output >= params.outputs) { return; }
  var value = params.scale * totals.products[0][local];
  let at = params.yOffset + token * params.yStride + output;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
