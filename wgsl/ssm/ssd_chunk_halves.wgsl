// Bh[t] = f16(B[t]), Ch[t] = f16(C[t]): all heads of a group and three passes read these rows, so they are narrowed once
// Source: none; the second of the passes of ssdChunkScan on matrix units.
// Work: one invocation eight values, of B where workgroup.z is 0, else of C.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; G * N in multiples of 8, offsets and strides in multiples of 4.
import package::shared::narrow::narrow;

struct Params {
  // B * L
  rows: u32,
  // G * N / 8
  units: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
}

override WORKGROUP_SIZE: u32 = 128u;

@group(0) @binding(0) var<uniform> params: Params;
// (B * L, G * N), rows bStride apart
@group(0) @binding(1) var<storage, read> B: array<vec4<f32>>;
// (B * L, G * N), rows cStride apart
@group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
// (B * L, G * N) f16 each
@group(0) @binding(3) var<storage, read_write> Bh: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> Ch: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Units may exceed one dimension of the grid (see flatGrid).
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  if (at >= params.rows * params.units) { return; }
  let row = at / params.units;
  let unit = at % params.units * 2u;
  if (workgroup.z == 0u) {
    let from0 = (params.bOffset + row * params.bStride) / 4u + unit;
    Bh[at] = vec4<u32>(narrow(B[from0]), narrow(B[from0 + 1u]));
  } else {
    let from0 = (params.cOffset + row * params.cStride) / 4u + unit;
    Ch[at] = vec4<u32>(narrow(C[from0]), narrow(C[from0 + 1u]));
  }
}
