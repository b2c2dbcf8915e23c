// y[w, t] = sum_{i, c} x[w, i, t, c]: each invocation adds up READS vectors of 16 bytes, and stores one value
// Source: none; it measures how fast a device reads memory, with one store of 4 bytes for every 512 bytes read.
// Work: one workgroup a tile of READS * 256 vectors; neighbouring invocations read neighbouring vectors.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  // workgroups that have a tile
  tiles: u32,
}

const WORKGROUP_SIZE: u32 = 256u;
const READS: u32 = 32u;

@group(0) @binding(0) var<uniform> params: Params;
// (tiles, READS, 256) vectors
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (tiles, 256)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let tile = workgroup.y * grid.x + workgroup.x;
  if (tile >= params.tiles) { return; }
  let start = tile * READS * WORKGROUP_SIZE + local;
  var total = vec4<f32>();
  for (var i = 0u; i < READS; i++) {
    total += x[start + i * WORKGROUP_SIZE];
  }
  y[tile * WORKGROUP_SIZE + local] = total.x + total.y + total.z + total.w;
}
