// S = exp(dt A) S + dt x B^T; y = (S C + D x) silu(z), for one token, with dt = clamp(softplus(raw + dtBias), low, high)
// Source: Transformers are SSMs, arXiv 2405.21060, section 7; selective_state_update with one A, dt and D a head.
// Work: LANES invocations a row (batch, head, p) of the state, each 4 values of N (or 1) at a time.
// Workgroup memory: 0.5 KiB (128 partial sums).
// Barriers: between the partial sums of a row and their total, where a row spans more than one subgroup.
// Requirements: none; the vec4 loads need N and the offsets and strides of B, C and the state in multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! axis load: vec4 | scalar
import package::shared::activations::silu;
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::time_step::{timeStep, logDecay};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
  dtOffset: u32,
  dtStride: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
  stateOffset: u32,
  stateStride: u32,
  zOffset: u32,
  zStride: u32,
  // States there are (with HAS_SLOTS).
  states: u32,
  low: f32,
  high: f32,
}

const WORKGROUP_SIZE: u32 = 128u;
override HAS_BIAS: bool = false;
override HAS_SKIP: bool = false;
// Whether D is one of every element, not of every head.
override SKIP_ELEMENTS: bool = false;
override HAS_GATE: bool = false;
override HAS_SLOTS: bool = false;
override SOFTPLUS: bool = true;

@if(load_vec4) alias Value = vec4<f32>;
@if(load_scalar) alias Value = f32;
@if(load_vec4) const WIDTH: u32 = 4u;
@if(load_scalar) const WIDTH: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
// x (B, H, P), B and C (B, G, N), sequences xStride, bStride and cStride apart: one storage, for there are 8 bindings
@group(0) @binding(1) var<storage, read> xBC: array<Value>;
// dt (B, H), raw, and the gate z (B, H, P), sequences dtStride and zStride apart: one storage
@group(0) @binding(2) var<storage, read> dtz: array<f32>;
// (H), negative
@group(0) @binding(3) var<storage, read> A: array<f32>;
// (H)
@group(0) @binding(4) var<storage, read> dtBias: array<f32>;
// (H) or (H, P), the skip weight
@group(0) @binding(5) var<storage, read> D: array<f32>;
// (B): which state belongs to a sequence; outside them all, y is 0 and none changes
@group(0) @binding(6) var<storage, read> slots: array<i32>;
// (B, H, P, N), or more states than sequences, stateStride apart
@group(0) @binding(7) var<storage, read_write> state: array<Value>;
// (B, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Rows may exceed one dimension of the grid (see flatGrid).
  let row = (workgroup.y * grid.x + workgroup.x) * (WORKGROUP_SIZE / LANES) + local / LANES;
  let inside = row < params.batch * params.heads * params.headDim;
  let headRow = row / params.headDim;
  let batch = headRow / params.heads;
  let head = headRow % params.heads;
  let group = head / (params.heads / params.groups);
  var slot = batch;
  // A negative slot is past them all as well.
  if (HAS_SLOTS && inside) { slot = bitcast<u32>(slots[batch]); }
  let used = inside && (!HAS_SLOTS || slot < params.states);
  let inner = row - batch * params.heads * params.headDim;
  var sum = 0.0;
  var input = 0.0;
  if (used) {
    var raw = dtz[params.dtOffset + batch * params.dtStride + head];
    if (HAS_BIAS) { raw += dtBias[head]; }
    let step = timeStep(raw, SOFTPLUS, params.low, params.high);
    let decay = exp(logDecay(step, A[head]));
    let at = params.xOffset + batch * params.xStride + inner;
    @if(load_vec4) input = xBC[at / 4u][at % 4u];
    @if(load_scalar) input = xBC[at];
    let scaled = step * input;
    let stateRow = (params.stateOffset + slot * params.stateStride + inner * params.stateSize) / WIDTH;
    let bRow = (params.bOffset + batch * params.bStride + group * params.stateSize) / WIDTH;
    let cRow = (params.cOffset + batch * params.cStride + group * params.stateSize) / WIDTH;
    let values = params.stateSize / WIDTH;
    for (var slice = 0u; slice < (values + LANES - 1u) / LANES; slice++) {
      let n = slice * LANES + local % LANES;
      if (n < values) {
        let next = decay * state[stateRow + n] + scaled * xBC[bRow + n];
        state[stateRow + n] = next;
        @if(load_vec4) sum += dot(next, xBC[cRow + n]);
        @if(load_scalar) sum += next * xBC[cRow + n];
      }
    }
  }
  var total = sumOverLanes(sum, local, subgroupSize);
  if (inside && local % LANES == 0u) {
    if (HAS_SKIP) { total += D[select(head, inner, SKIP_ELEMENTS)] * input; }
    if (HAS_GATE && used) { total *= silu(vec4(dtz[params.zOffset + batch * params.zStride + inner])).x; }
    y[row] = select(0.0, total, used);
  }
}
