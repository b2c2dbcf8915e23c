// joined[b] = B[b], then C[b]
// Source: none; it serves ssdStep where B and C lie in different storages, which would take a ninth binding.
// Work: one invocation a value.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  batch: u32,
  width: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, G, N), sequences bStride apart
@group(0) @binding(1) var<storage, read> B: array<f32>;
// (B, G, N), sequences cStride apart
@group(0) @binding(2) var<storage, read> C: array<f32>;
// (B, 2, G, N)
@group(0) @binding(3) var<storage, read_write> joined: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let batch = invocation.y;
  let column = invocation.x;
  if (column >= 2u * params.width) { return; }
  var value = 0.0;
  if (column < params.width) {
    value = B[params.bOffset + batch * params.bStride + column];
  } else {
    value = C[params.cOffset + batch * params.cStride + column - params.width];
  }
  joined[batch * 2u * params.width + column] = value;
}
