// p = B x; y[e] = C[e] (bias[e] + weight[e, K - 1] p[e] + sum_{k < K - 1} weight[e, k] state[k, e]); state = (state[1 ..], p)
// Source: LFM2's short convolution, `Lfm2ShortConv` of transformers.
// Work: one invocation 4 channels (or 1) of one sequence.
// Workgroup memory: none.
// Barriers: none: every channel of the state belongs to one invocation.
// Requirements: none; the vec4 loads need E, offsets and strides in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve};

struct Params {
  channels: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
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

@group(0) @binding(0) var<uniform> params: Params;
// (B, E), rows bStride apart
@group(0) @binding(1) var<storage, read> B: array<Channels>;
// (B, E), rows cStride apart
@group(0) @binding(2) var<storage, read> C: array<Channels>;
// (B, E), rows xStride apart
@group(0) @binding(3) var<storage, read> x: array<Channels>;
// (E, K), rows weightStride apart
@group(0) @binding(4) var<storage, read> weight: array<f32>;
// (E)
@group(0) @binding(5) var<storage, read> bias: array<Channels>;
// (B, K - 1, E), products, rows stateStride apart, oldest first
@group(0) @binding(6) var<storage, read_write> state: array<Channels>;
// (B, E)
@group(0) @binding(7) var<storage, read_write> y: array<Channels>;

// Tap `before` steps back from the current product; 0 where the filter has none.
fn tap(channel: u32, before: u32) -> Channels {
  if (before >= TAPS) { return Channels(); }
  let at = params.weightOffset + channel * params.weightStride + TAPS - 1u - before;
  @if(load_vec4) {
    let stride = params.weightStride;
    return vec4(weight[at], weight[at + stride], weight[at + 2u * stride], weight[at + 3u * stride]);
  }
  @if(load_scalar) { return weight[at]; }
}

// Element of the state that is `before` steps back from the current product.
fn stateAt(batch: u32, before: u32, channel: u32) -> u32 {
  let row = batch * (TAPS - 1u) + TAPS - 1u - before;
  return (params.stateOffset + row * params.stateStride + channel) / CHANNELS;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let channel = invocation.x * CHANNELS;
  if (channel >= params.channels) { return; }
  let batch = invocation.y;
  var window = Window();
  if (TAPS > 3u) { window.third = state[stateAt(batch, 3u, channel)]; }
  if (TAPS > 2u) { window.second = state[stateAt(batch, 2u, channel)]; }
  window.first = state[stateAt(batch, 1u, channel)];
  let current = B[(params.bOffset + batch * params.bStride + channel) / CHANNELS]
    * x[(params.xOffset + batch * params.xStride + channel) / CHANNELS];
  let gate = C[(params.cOffset + batch * params.cStride + channel) / CHANNELS];
  var offset = Channels();
  if (HAS_BIAS) { offset = bias[channel / CHANNELS]; }
  let taps = Taps(tap(channel, 3u), tap(channel, 2u), tap(channel, 1u), tap(channel, 0u));
  y[(batch * params.channels + channel) / CHANNELS] = gate * convolve(taps, window, current, offset);
  if (TAPS > 3u) { state[stateAt(batch, 3u, channel)] = window.second; }
  if (TAPS > 2u) { state[stateAt(batch, 2u, channel)] = window.first; }
  state[stateAt(batch, 1u, channel)] = current;
}
