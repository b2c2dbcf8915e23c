// p = x' weight^T + bias, x' = x or its RMS norm; columns of p are z | xBC | dt, and of the middle ones, from `inner` on,
// y = silu(convBias + sum_k convWeight[e, k] window[k, e]), window = (state, p); state = (state[1 ..], p); others: y = p
// Source: Mamba2.step of state-spaces/mamba: norm, in_proj and causal_conv1d_update.
// Work: one workgroup makes ROWS outputs for X_ROWS rows of x; its invocations stride over K by 16-byte loads.
// Workgroup memory: 4 KiB of partial sums, 1 KiB with subgroups.
// Barriers: those of sumOverWorkgroup. An output is a channel of the convolution: one invocation moves its window.
// Requirements: none; subgroups shorten the reduction. K and all offsets and strides of x are multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! axis weight: f32 | f16 | bf16 | q8 | q4
import package::shared::activations::silu;
import package::shared::row_sums::{WORKGROUP_SIZE, ROWS, X_ROWS, HAS_NORM, UNROLL, AHEAD, Sums, addProducts, addScaled, totalsOf, productOf, squareOf};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, quadsOf, blockOf, scaleOf, turnOf, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  rows: u32,
  outputs: u32,
  width: u32,
  inner: u32,
  channels: u32,
  xOffset: u32,
  xStride: u32,
  weightOffset: u32,
  weightStride: u32,
  weightScales: u32,
  normOffset: u32,
  biasOffset: u32,
  convWeightOffset: u32,
  convWeightStride: u32,
  convBiasOffset: u32,
  stateOffset: u32,
  stateStride: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
}

// Taps of the convolution: 2, 3 or 4
override TAPS: u32 = 4u;
override HAS_BIAS: bool = false;
override HAS_CONV_BIAS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (N, K) from weightOffset, rows weightStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element weightScales
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
// (K) from normOffset
@group(0) @binding(3) var<storage, read> normWeight: array<vec4<f32>>;
// (N)
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// (E, TAPS), rows convWeightStride apart
@group(0) @binding(5) var<storage, read> convWeight: array<f32>;
// (E)
@group(0) @binding(6) var<storage, read> convBias: array<f32>;
// (M, TAPS - 1, E), rows stateStride apart, oldest first
@group(0) @binding(7) var<storage, read_write> state: array<f32>;
// (M, N) from yOffset, rows yStride apart
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

// Adds the products of four values along K from k; there are none from params.width on.
fn multiplyFour(sums: ptr<function, Sums>, starts: vec4<u32>, k: u32, weights: mat4x4<f32>) {
  if (k >= params.width) { return; }
  var gain = vec4<f32>(1.0);
  if (HAS_NORM) { gain = normWeight[(params.normOffset + k) / 4u]; }
  var values: mat4x4<f32>;
  values[0] = x[(starts.x + k) / 4u];
  if (X_ROWS > 1u) { values[1] = x[(starts.y + k) / 4u]; }
  if (X_ROWS > 2u) {
    values[2] = x[(starts.z + k) / 4u];
    values[3] = x[(starts.w + k) / 4u];
  }
  addProducts(sums, values, gain, weights);
}

// Element of the state that is `before` steps back from the current input.
fn stateAt(row: u32, before: u32, channel: u32) -> u32 {
  return params.stateOffset + (row * (TAPS - 1u) + TAPS - 1u - before) * params.stateStride + channel;
}

// Taps for the third, second and first input before the current one, and for the current one; 0 where there is none.
fn tapsOf(channel: u32) -> vec4<f32> {
  let last = params.convWeightOffset + channel * params.convWeightStride + TAPS - 1u;
  var taps = vec4<f32>(0.0, 0.0, convWeight[last - 1u], convWeight[last]);
  if (TAPS > 2u) { taps.y = convWeight[last - 2u]; }
  if (TAPS > 3u) { taps.x = convWeight[last - 3u]; }
  return taps;
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
  let starts = params.xOffset + xRows * params.xStride;

  // What the last invocations to work need is fetched first, so that it is there when the sums are.
  let m = local / ROWS;
  let row = workgroup.z * X_ROWS + m;
  let output = first + local % ROWS;
  let writes = m < X_ROWS && row < params.rows && output < params.outputs;
  let channel = output - params.inner;
  let convolves = writes && output >= params.inner && channel < params.channels;
  var window = vec4<f32>(0.0);
  var taps = vec4<f32>(0.0);
  var shift = 0.0;
  if (convolves) {
    if (TAPS > 3u) { window.x = state[stateAt(row, 3u, channel)]; }
    if (TAPS > 2u) { window.y = state[stateAt(row, 2u, channel)]; }
    window.z = state[stateAt(row, 1u, channel)];
    taps = tapsOf(channel);
    if (HAS_CONV_BIAS) { shift = convBias[params.convBiasOffset + channel]; }
  }

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
  if (!writes) { return; }
  var value = productOf(totals, m, local % ROWS);
  if (HAS_NORM) { value *= inverseSqrt(squareOf(totals, m) / f32(params.width) + params.eps); }
  if (HAS_BIAS) { value += bias[params.biasOffset + output]; }
  if (convolves) {
    window.w = value;
    if (TAPS > 3u) { state[stateAt(row, 3u, channel)] = window.y; }
    if (TAPS > 2u) { state[stateAt(row, 2u, channel)] = window.z; }
    state[stateAt(row, 1u, channel)] = value;
    value = silu(vec4<f32>(shift + dot(taps, window))).x;
  }
  y[params.yOffset + row * params.yStride + output] = value;
}
