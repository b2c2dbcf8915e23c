// For each chunk c in turn: entering[c] = h; h = exp(sums[c] A) h + states[c]
// Source: Mamba, arXiv 2312.00752, section 3.3.2 (parallel scan); the second of the three passes of selectiveScan.
// Work: one invocation one element of the state, over all chunks; entering replaces states in place.
// Workgroup memory: none.
// Barriers: none, for every element belongs to one invocation.
// Requirements: none.

struct Params {
  chunks: u32,
  channels: u32,
  stateSize: u32,
  aOffset: u32,
  aStride: u32,
  stateOffset: u32,
  stateStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
override HAS_STATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (E, N), negative, channels aStride apart
@group(0) @binding(1) var<storage, read> A: array<f32>;
// (B, chunks, E): dt summed over each chunk
@group(0) @binding(2) var<storage, read> sums: array<f32>;
// (B, chunks, E, N): what each chunk leaves from zeros, then the state that enters it
@group(0) @binding(3) var<storage, read_write> states: array<f32>;
// (B, E, N), sequences stateStride apart: before the first token (where HAS_STATE), then after the last
@group(0) @binding(4) var<storage, read_write> state: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let element = invocation.x;
  let elements = params.channels * params.stateSize;
  if (element >= elements) { return; }
  let channel = element / params.stateSize;
  let rate = A[params.aOffset + channel * params.aStride + element % params.stateSize];
  let own = params.stateOffset + invocation.y * params.stateStride + element;
  var carried = 0.0;
  if (HAS_STATE) { carried = state[own]; }
  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let sequence = invocation.y * params.chunks + chunk;
    let at = sequence * elements + element;
    let left = states[at];
    states[at] = carried;
    carried = exp(max(sums[sequence * params.channels + channel] * rate, -100.0)) * carried + left;
  }
  state[own] = carried;
}
