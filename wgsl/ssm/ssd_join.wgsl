// joined[row] = first[row], then second[row], then third[row]
// Source: none; it serves kernels that read several tensors through one binding, for there are 8.
// Work: one invocation a value.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  rows: u32,
  firstWidth: u32,
  firstOffset: u32,
  firstStride: u32,
  secondWidth: u32,
  secondOffset: u32,
  secondStride: u32,
  // 0 where there is none.
  thirdWidth: u32,
  thirdOffset: u32,
  thirdStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width) each, rows a stride apart
@group(0) @binding(1) var<storage, read> first: array<f32>;
@group(0) @binding(2) var<storage, read> second: array<f32>;
@group(0) @binding(3) var<storage, read> third: array<f32>;
// (rows, all widths)
@group(0) @binding(4) var<storage, read_write> joined: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Values may exceed one dimension of the grid (see flatGrid).
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  let width = params.firstWidth + params.secondWidth + params.thirdWidth;
  let row = at / width;
  let column = at % width;
  if (row >= params.rows) { return; }
  var value = 0.0;
  if (column < params.firstWidth) {
    value = first[params.firstOffset + row * params.firstStride + column];
  } else if (column < params.firstWidth + params.secondWidth) {
    value = second[params.secondOffset + row * params.secondStride + column - params.firstWidth];
  } else {
    value = third[params.thirdOffset + row * params.thirdStride + column - params.firstWidth - params.secondWidth];
  }
  joined[at] = value;
}
