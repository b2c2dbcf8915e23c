// u = x * silu(z); y[r, g, i] = u[r, g, i] / sqrt(mean_i(u[r, g, i]^2) + eps) * weight[g, i]; or norm(x) * weight * silu(z)
// Source: Dao and Gu, arXiv 2405.21060, section 7; state-spaces/mamba, RMSNormGated (norm_before_gate, group_size).
// Work: one workgroup a row and group; the values stay in registers between the sum of squares and the scaling.
// Workgroup memory: 1 KiB (256 partial sums).
// Barriers: those of workgroupSum, between its partial sums and their total.
// Requirements: none; subgroups shorten the reduction; 16-byte loads where offsets and strides allow them.
//! axis simd: subgroups(subgroups) | baseline
//! axis load: vec4 | scalar
//! constant STEPS
import package::shared::reduce::workgroupSum;
@if(simd_subgroups) enable subgroups;

// Width, offsets and strides count Elements: four values where loads are vec4.
struct Params {
  rows: u32,
  groups: u32,
  width: u32,
  channels: u32,
  xOffset: u32,
  xStride: u32,
  zOffset: u32,
  zStride: u32,
  yStride: u32,
  eps: f32,
}

override WORKGROUP_SIZE: u32 = 256u;
override NORM_BEFORE_GATE: bool = false;
// Elements that one invocation holds: ceil(width / WORKGROUP_SIZE).
const STEPS: u32 = 8u;

@if(load_vec4) alias Element = vec4<f32>;
@else alias Element = f32;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, groups * width), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Element>;
// (rows, groups * width), rows zStride apart: the gate before its activation
@group(0) @binding(2) var<storage, read> z: array<Element>;
// (groups * width)
@group(0) @binding(3) var<storage, read> weight: array<Element>;
// (rows, groups * width), rows yStride apart
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

@if(load_vec4) fn squared(v: Element) -> f32 { return dot(v, v); }
@else fn squared(v: Element) -> f32 { return v * v; }

fn silu(v: Element) -> Element { return v / (1.0 + exp(-v)); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let slice = workgroup.y * grid.x + workgroup.x;
  if (slice >= params.rows * params.groups) { return; }
  let row = slice / params.groups;
  // First element of the group within its row.
  let start = (slice % params.groups) * params.width;
  var kept: array<Element, STEPS>;
  var squares = 0.0;
  for (var step = 0u; step < STEPS; step++) {
    let i = step * WORKGROUP_SIZE + local;
    if (i < params.width) {
      var value = x[params.xOffset + row * params.xStride + start + i];
      if (!NORM_BEFORE_GATE) { value *= silu(z[params.zOffset + row * params.zStride + start + i]); }
      kept[step] = value;
      squares += squared(value);
    }
  }
  let total = workgroupSum(squares, local, WORKGROUP_SIZE, subgroupSize);
  let scale = inverseSqrt(total / f32(params.channels) + params.eps);
  for (var step = 0u; step < STEPS; step++) {
    let i = step * WORKGROUP_SIZE + local;
    if (i < params.width) {
      var value = kept[step] * scale * weight[start + i];
      if (NORM_BEFORE_GATE) { value *= silu(z[params.zOffset + row * params.zStride + start + i]); }
      y[row * params.yStride + start + i] = value;
    }
  }
}
