// y = (slopes, sinks)
// Source: the kernels of attention bind both as one tensor, because there are 8 storage bindings.
// Work: one invocation a value of each.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  heads: u32,
  slopesOffset: u32,
  sinksOffset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (H)
@group(0) @binding(1) var<storage, read> slopes: array<f32>;
// (H)
@group(0) @binding(2) var<storage, read> sinks: array<f32>;
// (2, H)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x >= params.heads) { return; }
  y[id.x] = slopes[params.slopesOffset + id.x];
  y[params.heads + id.x] = sinks[params.sinksOffset + id.x];
}
