// y[r, i] = x[r, i] / sqrt(mean_i(x[r, i]^2) + eps) * (weight[i] + weightOffset)
// Source: Zhang and Sennrich, arXiv 1910.07467, equation 4; the 1 + w form is Gemma's and Qwen3-Next's.
// Work: one workgroup a row; invocations stride over the row twice (sum of squares, then scaling).
// Workgroup memory: 1 KiB (256 partial sums).
// Barriers: those of workgroupSum, between its partial sums and their total.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::reduce::workgroupSum;
@if(simd_subgroups) enable subgroups;

struct Params {
  rows: u32,
  width: u32,
  xOffset: u32,
  xStride: u32,
  yStride: u32,
  eps: f32,
  weightOffset: f32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_WEIGHT: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<f32>;
// (width)
@group(0) @binding(2) var<storage, read> weight: array<f32>;
// (rows, width), rows yStride apart
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Rows may exceed one dimension of the grid (see flatGrid).
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= params.rows) { return; }
  let start = params.xOffset + row * params.xStride;
  var squares = 0.0;
  for (var i = local; i < params.width; i += WORKGROUP_SIZE) {
    let value = x[start + i];
    squares += value * value;
  }
  let total = workgroupSum(squares, local, WORKGROUP_SIZE, subgroupSize);
  let scale = inverseSqrt(total / f32(params.width) + params.eps);
  for (var i = local; i < params.width; i += WORKGROUP_SIZE) {
    var value = x[start + i] * scale;
    if (HAS_WEIGHT) { value *= weight[i] + params.weightOffset; }
    y[row * params.yStride + i] = value;
  }
}
