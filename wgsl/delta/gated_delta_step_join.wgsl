// joined[b] = q[b], then k[b]
// Source: none; it serves gatedDeltaStep where q and k lie in different storages, which would take a ninth binding.
// Work: one invocation a value.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  width: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, Hk, K), sequences qStride apart
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, Hk, K), sequences kStride apart
@group(0) @binding(2) var<storage, read> k: array<f32>;
// (B, 2, Hk, K)
@group(0) @binding(3) var<storage, read_write> joined: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let batch = invocation.y;
  let column = invocation.x;
  if (column >= 2u * params.width) { return; }
  var value = 0.0;
  if (column < params.width) {
    value = q[params.qOffset + batch * params.qStride + column];
  } else {
    value = k[params.kOffset + batch * params.kStride + column - params.width];
  }
  joined[batch * 2u * params.width + column] = value;
}
