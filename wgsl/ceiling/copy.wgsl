// y[i] = x[i]
// Source: none; it measures how fast a device reads and writes memory at the same time.
// Work: one workgroup a tile of COPIES * 256 vectors of 16 bytes; neighbouring invocations copy neighbouring vectors.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  // workgroups that have a tile
  tiles: u32,
}

const WORKGROUP_SIZE: u32 = 256u;
const COPIES: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Params;
// (tiles, COPIES, 256) vectors
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (tiles, COPIES, 256) vectors
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let tile = workgroup.y * grid.x + workgroup.x;
  if (tile >= params.tiles) { return; }
  let start = tile * COPIES * WORKGROUP_SIZE + local;
  for (var i = 0u; i < COPIES; i++) {
    y[start + i * WORKGROUP_SIZE] = x[start + i * WORKGROUP_SIZE];
  }
}
