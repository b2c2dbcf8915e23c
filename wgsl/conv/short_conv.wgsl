// y[l, e] = C[l, e] (bias[e] + sum_k weight[e, k] p[l - K + 1 + k, e]), p = B x; before the first p are the state's, or 0
// Source: LFM2's short convolution, `Lfm2ShortConv` of transformers.
// Work: one invocation 4 channels (or 1) x TOKENS tokens, with the last K - 1 products in registers.
// Workgroup memory: none.
// Barriers: none: only the invocation of the first tokens reads the state, and it alone writes it afterwards.
// Requirements: none; the vec4 loads need E, offsets and strides in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve, shiftWindow};

struct Params {
  length: u32,
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
override TOKENS: u32 = 8u;
// K
override TAPS: u32 = 4u;
override HAS_BIAS: bool = false;
override HAS_STATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), rows bStride apart
@group(0) @binding(1) var<storage, read> B: array<Channels>;
// (B, L, E), rows cStride apart
@group(0) @binding(2) var<storage, read> C: array<Channels>;
// (B, L, E), rows xStride apart
@group(0) @binding(3) var<storage, read> x: array<Channels>;
// (E, K), rows weightStride apart
@group(0) @binding(4) var<storage, read> weight: array<f32>;
// (E)
@group(0) @binding(5) var<storage, read> bias: array<Channels>;
// (B, K - 1, E), rows stateStride apart: the products before x (where HAS_STATE), then the last ones, oldest first
@group(0) @binding(6) var<storage, read_write> state: array<Channels>;
// (B, L, E)
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

// The product of one row of B and x.
fn product(row: u32, channel: u32) -> Channels {
  let gate = B[(params.bOffset + row * params.bStride + channel) / CHANNELS];
  return gate * x[(params.xOffset + row * params.xStride + channel) / CHANNELS];
}

// The product `before` steps back from token `token` of a sequence, of B and x or from the state as it was.
fn productBefore(batch: u32, token: u32, before: u32, channel: u32) -> Channels {
  if (before >= TAPS) { return Channels(); }
  if (token >= before) { return product(batch * params.length + token - before, channel); }
  if (!HAS_STATE) { return Channels(); }
  // Row K - 1 of the state would be token 0.
  let row = batch * (TAPS - 1u) + TAPS - 1u + token - before;
  return state[(params.stateOffset + row * params.stateStride + channel) / CHANNELS];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let channel = invocation.x * CHANNELS;
  if (channel >= params.channels) { return; }
  let start = invocation.y * TOKENS;
  let batch = invocation.z;
  let taps = Taps(tap(channel, 3u), tap(channel, 2u), tap(channel, 1u), tap(channel, 0u));
  var offset = Channels();
  if (HAS_BIAS) { offset = bias[channel / CHANNELS]; }

  var window = Window(
    productBefore(batch, start, 3u, channel),
    productBefore(batch, start, 2u, channel),
    productBefore(batch, start, 1u, channel),
  );
  if (start == 0u) {
    // The window of the token after the last one, all of it read before any of it is written.
    let third = productBefore(batch, params.length, 3u, channel);
    let second = productBefore(batch, params.length, 2u, channel);
    let first = productBefore(batch, params.length, 1u, channel);
    let row = batch * (TAPS - 1u) + TAPS - 1u;
    if (TAPS > 3u) { state[(params.stateOffset + (row - 3u) * params.stateStride + channel) / CHANNELS] = third; }
    if (TAPS > 2u) { state[(params.stateOffset + (row - 2u) * params.stateStride + channel) / CHANNELS] = second; }
    state[(params.stateOffset + (row - 1u) * params.stateStride + channel) / CHANNELS] = first;
  }

  let count = min(TOKENS, params.length - start);
  let row = batch * params.length + start;
  for (var i = 0u; i < count; i++) {
    let current = product(row + i, channel);
    let gate = C[(params.cOffset + (row + i) * params.cStride + channel) / CHANNELS];
    y[((row + i) * params.channels + channel) / CHANNELS] = gate * convolve(taps, window, current, offset);
    window = shiftWindow(window, current);
  }
}
