// h = exp(dt A) h + dt B u; y = (C h + D u) silu(z), for one token, with dt = clamp(softplus(raw + dtBias), low, high)
// Source: Mamba, arXiv 2312.00752, algorithm 2; selective_state_update of state-spaces/mamba.
// Work: LANES invocations a channel, each 4 states (or 1) at a time.
// Workgroup memory: 0.5 KiB (128 partial sums).
// Barriers: between the partial sums of a channel and their total, where it spans more than one subgroup.
// Requirements: none; the vec4 loads need N and the offsets and strides of A, B, C and the state in multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! axis load: vec4 | scalar
import package::shared::activations::silu;
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::time_step::timeStep;
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  channels: u32,
  groupChannels: u32,
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

const WORKGROUP_SIZE: u32 = 128u;
override HAS_BIAS: bool = false;
override HAS_SKIP: bool = false;
override HAS_GATE: bool = false;
override SOFTPLUS: bool = true;

@if(load_vec4) alias Value = vec4<f32>;
@if(load_scalar) alias Value = f32;
@if(load_vec4) const WIDTH: u32 = 4u;
@if(load_scalar) const WIDTH: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, E), sequences uStride apart
@group(0) @binding(1) var<storage, read> u: array<f32>;
// (B, E), raw, sequences dtStride apart
@group(0) @binding(2) var<storage, read> dt: array<f32>;
// (E, N), negative, channels aStride apart
@group(0) @binding(3) var<storage, read> A: array<Value>;
// B and C, each (B, G, N), sequences bStride and cStride apart: one storage, for there are 8 bindings
@group(0) @binding(4) var<storage, read> BC: array<Value>;
// dtBias and D, each (E), from biasOffset and skipOffset
@group(0) @binding(5) var<storage, read> vectors: array<f32>;
// (B, E), sequences zStride apart
@group(0) @binding(6) var<storage, read> z: array<f32>;
// (B, E, N), sequences stateStride apart
@group(0) @binding(7) var<storage, read_write> state: array<Value>;
// (B, E)
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Channels of all sequences may exceed one dimension of the grid (see flatGrid).
  let row = (workgroup.y * grid.x + workgroup.x) * (WORKGROUP_SIZE / LANES) + local / LANES;
  let inside = row < params.batch * params.channels;
  let batch = row / params.channels;
  let channel = row % params.channels;
  var sum = 0.0;
  var input = 0.0;
  if (inside) {
    var raw = dt[params.dtOffset + batch * params.dtStride + channel];
    if (HAS_BIAS) { raw += vectors[params.biasOffset + channel]; }
    let step = timeStep(raw, SOFTPLUS, params.low, params.high);
    input = u[params.uOffset + batch * params.uStride + channel];
    let scaled = step * input;
    let group = channel / params.groupChannels * params.stateSize;
    let aRow = (params.aOffset + channel * params.aStride) / WIDTH;
    let bRow = (params.bOffset + batch * params.bStride + group) / WIDTH;
    let cRow = (params.cOffset + batch * params.cStride + group) / WIDTH;
    let stateRow = (params.stateOffset + batch * params.stateStride + channel * params.stateSize) / WIDTH;
    let values = params.stateSize / WIDTH;
    for (var slice = 0u; slice < (values + LANES - 1u) / LANES; slice++) {
      let n = slice * LANES + local % LANES;
      if (n < values) {
        let next = exp(max(step * A[aRow + n], Value(-100.0))) * state[stateRow + n] + scaled * BC[bRow + n];
        state[stateRow + n] = next;
        @if(load_vec4) sum += dot(next, BC[cRow + n]);
        @if(load_scalar) sum += next * BC[cRow + n];
      }
    }
  }
  var total = sumOverLanes(sum, local, subgroupSize);
  if (inside && local % LANES == 0u) {
    if (HAS_SKIP) { total += vectors[params.skipOffset + channel] * input; }
    if (HAS_GATE) { total *= silu(vec4<f32>(z[params.zOffset + batch * params.zStride + channel])).x; }
    y[row] = total;
  }
}
