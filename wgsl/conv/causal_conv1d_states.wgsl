// states[s, k, e] = x[starts[s + 1] - K + 1 + k, e]; 0 where that lies before starts[s]
// Source: causal_conv1d_varlen_states of Dao-AILab/causal-conv1d.
// Work: one invocation 4 channels (or 1) of one sequence.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; the vec4 loads need E, offset and stride in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::conv_window::{Channels, CHANNELS};

struct Params {
  // B * L
  tokens: u32,
  channels: u32,
  // S
  sequences: u32,
  xOffset: u32,
  xStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
// K
override TAPS: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Channels>;
// (S + 1): sequence s has the tokens starts[s] .. starts[s + 1] - 1, counted through the batch
@group(0) @binding(2) var<storage, read> starts: array<u32>;
// (S, K - 1, E), oldest first
@group(0) @binding(3) var<storage, read_write> states: array<Channels>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
  let channel = invocation.x * CHANNELS;
  // Sequences may exceed one dimension of the grid (see flatGrid).
  let sequence = invocation.z * grid.y + invocation.y;
  if (channel >= params.channels || sequence >= params.sequences) { return; }
  let first = starts[sequence];
  let end = min(starts[sequence + 1u], params.tokens);
  for (var before = 1u; before < TAPS; before++) {
    var value = Channels();
    if (end >= first + before) { value = x[(params.xOffset + (end - before) * params.xStride + channel) / CHANNELS]; }
    states[((sequence * (TAPS - 1u) + TAPS - 1u - before) * params.channels + channel) / CHANNELS] = value;
  }
}
