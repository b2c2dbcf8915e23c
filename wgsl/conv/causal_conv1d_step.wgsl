// y[l, e] = act(bias[e] + sum_k weight[e, k] w[l + k, e]) with w = (state, x) of one sequence; state = the last of w
// Source: causal_conv1d_update of Dao-AILab/causal-conv1d, with its conv_state_indices.
// Work: one invocation 4 channels (or 1) of one sequence, its few tokens one after another.
// Workgroup memory: none.
// Barriers: none: every channel of a state belongs to one invocation.
// Requirements: none; the vec4 loads need E, offsets and strides in multiples of 4, and weights without gaps.
//! axis load: vec4 | scalar
@if(load_vec4) import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve, shiftWindow, silu, tapsOf};
@else import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve, shiftWindow, silu};

struct Params {
  length: u32,
  channels: u32,
  // Sequences that the state has room for.
  slots: u32,
  xOffset: u32,
  xStride: u32,
  weightOffset: u32,
  weightStride: u32,
  stateOffset: u32,
  stateStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
// K
override TAPS: u32 = 4u;
override HAS_BIAS: bool = false;
override HAS_SLOTS: bool = false;
override SILU: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Channels>;
// (E, K), rows weightStride apart
@group(0) @binding(2) var<storage, read> weight: array<Channels>;
// (E)
@group(0) @binding(3) var<storage, read> bias: array<Channels>;
// (B): where the state of each sequence is; negative for padding, whose outputs are 0
@group(0) @binding(4) var<storage, read> slots: array<i32>;
// (slots, K - 1, E), rows stateStride apart, oldest first
@group(0) @binding(5) var<storage, read_write> state: array<Channels>;
// (B, L, E)
@group(0) @binding(6) var<storage, read_write> y: array<Channels>;

fn filterOf(channel: u32) -> Taps {
  @if(load_vec4) {
    let at = (params.weightOffset + channel * TAPS) / 4u;
    let a = weight[at];
    let b = weight[at + 1u];
    var c = Channels();
    var d = Channels();
    if (TAPS > 2u) { c = weight[at + 2u]; }
    if (TAPS > 3u) { d = weight[at + 3u]; }
    return tapsOf(TAPS, a, b, c, d);
  }
  @if(load_scalar) { return Taps(tap(channel, 3u), tap(channel, 2u), tap(channel, 1u), tap(channel, 0u)); }
}

// Tap `before` steps back from the current input; 0 where the filter has none.
@if(load_scalar)
fn tap(channel: u32, before: u32) -> f32 {
  if (before >= TAPS) { return 0.0; }
  return weight[params.weightOffset + channel * params.weightStride + TAPS - 1u - before];
}

// Element of a state that is `before` steps back from the first input.
fn stateAt(slot: u32, before: u32, channel: u32) -> u32 {
  let row = slot * (TAPS - 1u) + TAPS - 1u - before;
  return (params.stateOffset + row * params.stateStride + channel) / CHANNELS;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let channel = invocation.x * CHANNELS;
  if (channel >= params.channels) { return; }
  let batch = invocation.y;
  var slot = batch;
  if (HAS_SLOTS) { slot = bitcast<u32>(slots[batch]); }
  // Negative slots are beyond the last, too.
  if (HAS_SLOTS && slot >= params.slots) {
    for (var l = 0u; l < params.length; l++) {
      y[((batch * params.length + l) * params.channels + channel) / CHANNELS] = Channels();
    }
    return;
  }
  var window = Window();
  if (TAPS > 3u) { window.third = state[stateAt(slot, 3u, channel)]; }
  if (TAPS > 2u) { window.second = state[stateAt(slot, 2u, channel)]; }
  window.first = state[stateAt(slot, 1u, channel)];
  var offset = Channels();
  if (HAS_BIAS) { offset = bias[channel / CHANNELS]; }
  let taps = filterOf(channel);
  for (var l = 0u; l < params.length; l++) {
    let row = batch * params.length + l;
    let current = x[(params.xOffset + row * params.xStride + channel) / CHANNELS];
    var value = convolve(taps, window, current, offset);
    if (SILU) { value = silu(value); }
    y[(row * params.channels + channel) / CHANNELS] = value;
    window = shiftWindow(window, current);
  }
  if (TAPS > 3u) { state[stateAt(slot, 3u, channel)] = window.third; }
  if (TAPS > 2u) { state[stateAt(slot, 2u, channel)] = window.second; }
  state[stateAt(slot, 1u, channel)] = window.first;
}
