// joined[r] = part0[r], part1[r], ... : rows of up to six tensors behind each other
// Source: none; it serves kernels with more inputs than the 8 storage buffers that every device binds.
// Work: one invocation a value.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  rows: u32,
  // Values of a row of each part, 0 for one that is absent; rows strideN apart from offsetN on
  width0: u32,
  width1: u32,
  width2: u32,
  width3: u32,
  width4: u32,
  width5: u32,
  offset0: u32,
  offset1: u32,
  offset2: u32,
  offset3: u32,
  offset4: u32,
  offset5: u32,
  stride0: u32,
  stride1: u32,
  stride2: u32,
  stride3: u32,
  stride4: u32,
  stride5: u32,
  // Sum of the widths
  width: u32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width0), and so on
@group(0) @binding(1) var<storage, read> part0: array<f32>;
@group(0) @binding(2) var<storage, read> part1: array<f32>;
@group(0) @binding(3) var<storage, read> part2: array<f32>;
@group(0) @binding(4) var<storage, read> part3: array<f32>;
@group(0) @binding(5) var<storage, read> part4: array<f32>;
@group(0) @binding(6) var<storage, read> part5: array<f32>;
// (rows, width)
@group(0) @binding(7) var<storage, read_write> joined: array<f32>;

fn valueAt(row: u32, from0: u32) -> f32 {
  var column = from0;
  if (column < params.width0) { return part0[params.offset0 + row * params.stride0 + column]; }
  column -= params.width0;
  if (column < params.width1) { return part1[params.offset1 + row * params.stride1 + column]; }
  column -= params.width1;
  if (column < params.width2) { return part2[params.offset2 + row * params.stride2 + column]; }
  column -= params.width2;
  if (column < params.width3) { return part3[params.offset3 + row * params.stride3 + column]; }
  column -= params.width3;
  if (column < params.width4) { return part4[params.offset4 + row * params.stride4 + column]; }
  column -= params.width4;
  return part5[params.offset5 + row * params.stride5 + column];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Values may exceed one dimension of the grid (see flatGrid).
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  if (at < params.rows * params.width) { joined[at] = valueAt(at / params.width, at % params.width); }
}
