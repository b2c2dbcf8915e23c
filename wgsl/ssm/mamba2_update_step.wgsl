// S = exp(dt A) S + dt x B^T; u = (S C + D x) * silu(z), dt = clamp(softplus(raw + dtBias), low, high); sums of u^2
// Source: selective_state_update of state-spaces/mamba with one A, dt and D a head, and the gate of RMSNormGated.
// Work: LANES invocations a row (head, p) of the state, STEPS times 4 values of N each; a workgroup has a slice of rows.
// Workgroup memory: 1.5 KiB (128 and 256 partial sums).
// Barriers: those of sumOverLanes for rows that span subgroups, and of workgroupSum. A slice lies in one group of the norm.
// Requirements: none; subgroups shorten the reductions. N, H P, and the offsets and strides of all are multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! constant STEPS
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::reduce::workgroupSum;
import package::shared::time_step::{timeStep, logDecay};
@if(simd_subgroups) enable subgroups;

struct Params {
  headDim: u32,
  headsPerGroup: u32,
  stateSize: u32,
  zOffset: u32,
  xOffset: u32,
  bOffset: u32,
  cOffset: u32,
  dtOffset: u32,
  projectedStride: u32,
  stateOffset: u32,
  stateStride: u32,
  uStride: u32,
  normGroups: u32,
  normWidth: u32,
  slices: u32,
  sliceRows: u32,
  low: f32,
  high: f32,
}

// Up to 128, a multiple of LANES
override WORKGROUP_SIZE: u32 = 128u;
override HAS_BIAS: bool = false;
override HAS_SKIP: bool = false;
override WANTS_SQUARES: bool = true;
// ceil(N / 4 / LANES)
const STEPS: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, z | x | B | C | dt), rows projectedStride apart; x, B and C convolved
@group(0) @binding(1) var<storage, read> projected: array<f32>;
// The same
@group(0) @binding(2) var<storage, read> vectors: array<vec4<f32>>;
// (H), negative
@group(0) @binding(3) var<storage, read> A: array<f32>;
// (H)
@group(0) @binding(4) var<storage, read> dtBias: array<f32>;
// (H), the skip weight
@group(0) @binding(5) var<storage, read> D: array<f32>;
// (B, H, P, N), sequences stateStride apart
@group(0) @binding(6) var<storage, read_write> state: array<vec4<f32>>;
// (B, H P), rows uStride apart
@group(0) @binding(7) var<storage, read_write> u: array<f32>;
// (B, slices, normGroups): the sum of u^2 over each slice
@group(0) @binding(8) var<storage, read_write> squares: array<f32>;

fn silu(value: f32) -> f32 {
  // The bound keeps exp finite; silu(-80) is 0 in f32 either way.
  return value / (1.0 + exp(min(-value, 80.0)));
}

// Updates the part of row `row` that this lane has, and gives its part of S C.
fn update(batch: u32, row: u32, lane: u32, input: f32) -> f32 {
  let head = row / params.headDim;
  let sequence = batch * params.projectedStride;
  let stateRow = (params.stateOffset + batch * params.stateStride + row * params.stateSize) / 4u;
  let group = sequence + (head / params.headsPerGroup) * params.stateSize;
  let bRow = (params.bOffset + group) / 4u;
  let cRow = (params.cOffset + group) / 4u;
  let values = params.stateSize / 4u;
  // All loads of the state before the first use.
  var kept: array<vec4<f32>, STEPS>;
  for (var step = 0u; step < STEPS; step++) {
    let n = step * LANES + lane;
    if (n < values) { kept[step] = state[stateRow + n]; }
  }
  var raw = projected[params.dtOffset + sequence + head];
  if (HAS_BIAS) { raw += dtBias[head]; }
  let dt = timeStep(raw, true, params.low, params.high);
  let decay = exp(logDecay(dt, A[head]));
  let scaled = dt * input;
  var sum = 0.0;
  for (var step = 0u; step < STEPS; step++) {
    let n = step * LANES + lane;
    if (n < values) {
      let next = decay * kept[step] + scaled * vectors[bRow + n];
      state[stateRow + n] = next;
      sum += dot(next, vectors[cRow + n]);
    }
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let batch = workgroup.y;
  let begin = (workgroup.x % params.normGroups) * params.normWidth;
  let start = begin + (workgroup.x / params.normGroups) * params.sliceRows;
  let end = min(start + params.sliceRows, begin + params.normWidth);
  let lane = local % LANES;
  let atOnce = WORKGROUP_SIZE / LANES;
  var total = 0.0;
  for (var round = 0u; round < (params.sliceRows + atOnce - 1u) / atOnce; round++) {
    let row = start + round * atOnce + local / LANES;
    let inside = row < end;
    var input = 0.0;
    var sum = 0.0;
    if (inside) {
      input = projected[params.xOffset + batch * params.projectedStride + row];
      sum = update(batch, row, lane, input);
    }
    sum = sumOverLanes(sum, local, subgroupSize);
    if (inside && lane == 0u) {
      if (HAS_SKIP) { sum += D[row / params.headDim] * input; }
      let gated = sum * silu(projected[params.zOffset + batch * params.projectedStride + row]);
      u[batch * params.uStride + row] = gated;
      total += gated * gated;
    }
  }
  if (WANTS_SQUARES) {
    total = workgroupSum(total, local, WORKGROUP_SIZE, subgroupSize);
    if (local == 0u) { squares[batch * params.slices * params.normGroups + workgroup.x] = total; }
  }
}
