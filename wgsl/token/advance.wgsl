// position[b] = position[b] + by
// Source: the count of tokens consumed so far, which rotary embeddings, caches and random numbers are addressed by.
// Work: one invocation a sequence.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  batch: u32,
  offset: u32,
  by: u32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (batch)
@group(0) @binding(1) var<storage, read_write> position: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.batch) { position[params.offset + id.x] += params.by; }
}
