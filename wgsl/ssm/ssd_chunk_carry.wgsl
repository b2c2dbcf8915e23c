// For each chunk c in turn: entering[c] = S; S = exp(cs[c, last]) S + states[c]
// Source: Transformers are SSMs, arXiv 2405.21060, section 6 (state passing); the fourth of the passes of ssdChunkScan.
// Work: one invocation 4 elements (or 1) of the state, over all chunks; entering replaces states in place, or with
//   HALVES is an f16 tensor of its own, for products on matrix units.
// Workgroup memory: none.
// Barriers: none, for every element belongs to one invocation.
// Requirements: none; the vec4 loads need P * N, the offset and the stride of the state in multiples of 4.
//! axis load: vec4 | scalar
@if(load_vec4) import package::shared::narrow::narrow;

struct Params {
  chunks: u32,
  // Q
  chunkLength: u32,
  heads: u32,
  // Elements of one head and of all heads, P * N and H * P * N.
  headElements: u32,
  elements: u32,
  stateOffset: u32,
  stateStride: u32,
  // Where the table begins in steps (with PACKED).
  table: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
override HAS_STATE: bool = false;
override PACKED: bool = false;
// Only with vec4 loads.
override HALVES: bool = false;

@if(load_vec4) alias Value = vec4<f32>;
@if(load_scalar) alias Value = f32;
@if(load_vec4) const WIDTH: u32 = 4u;
@if(load_scalar) const WIDTH: u32 = 1u;

const AHEAD: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step); then the table of ssd_chunk_cumsum
@group(0) @binding(1) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N): what each chunk adds, then the state that enters it
@group(0) @binding(2) var<storage, read_write> states: array<Value>;
// (B or S, H, P, N), sequences stateStride apart: before the first token (where HAS_STATE), then after the last
@group(0) @binding(3) var<storage, read_write> state: array<Value>;
// (B, chunks, H, P, N) f16 with HALVES: the state that enters each chunk
@group(0) @binding(4) var<storage, read_write> entering: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let element = invocation.x * WIDTH;
  if (element >= params.elements) { return; }
  let head = element / params.headElements;
  let own = (params.stateOffset + invocation.y * params.stateStride + element) / WIDTH;
  var first = invocation.y * params.chunks;
  var count = params.chunks;
  if (PACKED) {
    let at = params.table + 2u * (params.chunks + invocation.y);
    first = u32(steps[at]);
    count = u32(steps[at + 1u]);
  }
  var carried = Value();
  if (HAS_STATE) { carried = state[own]; }
  // Loaded AHEAD chunks at a time: loads do not move across the stores before them by themselves.
  for (var start = 0u; start < count; start += AHEAD) {
    var added: array<Value, AHEAD>;
    for (var n = 0u; n < AHEAD; n++) {
      added[n] = states[((first + min(start + n, count - 1u)) * params.elements + element) / WIDTH];
    }
    for (var n = 0u; n < AHEAD; n++) {
      if (start + n < count) {
        let index = first + start + n;
        // Padding adds nothing to cs, so that its last entry is the whole chunk's, also of a partial one.
        let step = (index * params.heads + head) * 3u * params.chunkLength;
        let total = steps[step + 2u * params.chunkLength - 1u] + steps[step + 3u * params.chunkLength - 1u];
        @if(load_vec4) if (HALVES) { entering[(index * params.elements + element) / 4u] = narrow(carried); }
        if (!HALVES) { states[(index * params.elements + element) / WIDTH] = carried; }
        carried = exp(min(total, 0.0)) * carried + added[n];
      }
    }
  }
  state[own] = carried;
}
