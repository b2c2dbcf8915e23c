// y[l, e] = act(bias[e] + sum_k weight[e, k] x[l - K + 1 + k, e]); inputs before the first are the state's, or 0
// Source: causal_conv1d_fwd of Dao-AILab/causal-conv1d, channel-last; Mamba, arXiv 2312.00752, figure 3.
// Work: one invocation 4 channels (or 1) x TOKENS tokens, eight inputs at a time in registers with the K - 1 before them.
// Workgroup memory: none.
// Barriers: none: only the invocation of the first tokens reads the state, and it alone writes it afterwards.
// Requirements: none; the vec4 loads need E, offsets and strides in multiples of 4, and weights without gaps.
//! axis load: vec4 | scalar
@if(load_vec4) import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve, silu, tapsOf};
@else import package::shared::conv_window::{Channels, CHANNELS, Window, Taps, convolve, silu};

struct Params {
  length: u32,
  channels: u32,
  xOffset: u32,
  xStride: u32,
  idsOffset: u32,
  idsStride: u32,
  weightOffset: u32,
  weightStride: u32,
  stateOffset: u32,
  stateStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
// A multiple of BLOCK.
override TOKENS: u32 = 8u;
// K
override TAPS: u32 = 4u;
override HAS_BIAS: bool = false;
override HAS_STATE: bool = false;
override HAS_IDS: bool = false;
override SILU: bool = false;

// Inputs that are loaded before the first of them is used, at least K - 1.
const BLOCK: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, E), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Channels>;
// (E, K), rows weightStride apart
@group(0) @binding(2) var<storage, read> weight: array<Channels>;
// (E)
@group(0) @binding(3) var<storage, read> bias: array<Channels>;
// (B, L), rows idsStride apart: taps reach no input of another sequence; below 0 is padding, whose outputs are 0
@group(0) @binding(4) var<storage, read> sequenceIds: array<i32>;
// (B, K - 1, E), rows stateStride apart: the inputs before x (where HAS_STATE), then the last ones, oldest first
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

// The input `before` steps back from token `token` of a sequence, read from x or from the state as it was.
fn inputBefore(batch: u32, token: u32, before: u32, channel: u32) -> Channels {
  if (before >= TAPS) { return Channels(); }
  if (token >= before) {
    return x[(params.xOffset + (batch * params.length + token - before) * params.xStride + channel) / CHANNELS];
  }
  if (!HAS_STATE) { return Channels(); }
  // Row K - 1 of the state would be token 0.
  let row = batch * (TAPS - 1u) + TAPS - 1u + token - before;
  return state[(params.stateOffset + row * params.stateStride + channel) / CHANNELS];
}

// The sequence of the input `before` steps back: what the state holds belongs to that of token 0.
fn idBefore(batch: u32, token: u32, before: u32) -> i32 {
  if (!HAS_IDS) { return 0; }
  let at = max(min(token, params.length - 1u + before), before) - before;
  return sequenceIds[params.idsOffset + batch * params.idsStride + at];
}

// An input of x; beyond the last token 0, which no output has a use for.
fn inputAt(batch: u32, token: u32, channel: u32) -> Channels {
  if (token >= params.length) { return Channels(); }
  return x[(params.xOffset + (batch * params.length + token) * params.xStride + channel) / CHANNELS];
}

// What token 0 of the next call finds in the state. All of it is read before any of it is written.
fn keepLast(batch: u32, channel: u32) {
  var third = inputBefore(batch, params.length, 3u, channel);
  var second = inputBefore(batch, params.length, 2u, channel);
  let first = inputBefore(batch, params.length, 1u, channel);
  if (HAS_IDS) {
    let id = idBefore(batch, params.length, 1u);
    third = select(Channels(), third, idBefore(batch, params.length, 3u) == id && id >= 0);
    second = select(Channels(), second, idBefore(batch, params.length, 2u) == id && id >= 0);
    keepRow(batch, 1u, channel, select(Channels(), first, id >= 0));
  } else {
    keepRow(batch, 1u, channel, first);
  }
  if (TAPS > 2u) { keepRow(batch, 2u, channel, second); }
  if (TAPS > 3u) { keepRow(batch, 3u, channel, third); }
}

fn keepRow(batch: u32, before: u32, channel: u32, value: Channels) {
  let row = batch * (TAPS - 1u) + TAPS - 1u - before;
  state[(params.stateOffset + row * params.stateStride + channel) / CHANNELS] = value;
}

// One output, from the inputs and sequences at its taps.
fn emit(batch: u32, token: u32, channel: u32, taps: Taps, offset: Channels, window: Window, current: Channels, ids: vec4<i32>) {
  if (token >= params.length) { return; }
  var seen = window;
  if (HAS_IDS) {
    seen.third = select(Channels(), window.third, ids.x == ids.w);
    seen.second = select(Channels(), window.second, ids.y == ids.w);
    seen.first = select(Channels(), window.first, ids.z == ids.w);
  }
  var value = convolve(taps, seen, current, offset);
  if (SILU) { value = silu(value); }
  if (HAS_IDS) { value = select(Channels(), value, ids.w >= 0); }
  y[((batch * params.length + token) * params.channels + channel) / CHANNELS] = value;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
  let e = invocation.x * CHANNELS;
  if (e >= params.channels) { return; }
  let start = invocation.y * TOKENS;
  let b = invocation.z;
  let taps = filterOf(e);
  var offset = Channels();
  if (HAS_BIAS) { offset = bias[e / CHANNELS]; }
  var window = Window(inputBefore(b, start, 3u, e), inputBefore(b, start, 2u, e), inputBefore(b, start, 1u, e));
  if (start == 0u) { keepLast(b, e); }

  for (var block = 0u; block < TOKENS / BLOCK; block++) {
    let t = start + block * BLOCK;
    if (t >= params.length) { break; }
    // Named, since not every compiler unrolls loops over an array; loaded together, to be in flight together.
    let x0 = inputAt(b, t, e);
    let x1 = inputAt(b, t + 1u, e);
    let x2 = inputAt(b, t + 2u, e);
    let x3 = inputAt(b, t + 3u, e);
    let x4 = inputAt(b, t + 4u, e);
    let x5 = inputAt(b, t + 5u, e);
    let x6 = inputAt(b, t + 6u, e);
    let x7 = inputAt(b, t + 7u, e);
    // Sequences at the taps of tokens t, t + 4 and t + 7: every other token's are parts of these.
    let i0 = vec4(idBefore(b, t, 3u), idBefore(b, t, 2u), idBefore(b, t, 1u), idBefore(b, t, 0u));
    let i4 = vec4(idBefore(b, t + 1u, 0u), idBefore(b, t + 2u, 0u), idBefore(b, t + 3u, 0u), idBefore(b, t + 4u, 0u));
    let i7 = vec4(i4.w, idBefore(b, t + 5u, 0u), idBefore(b, t + 6u, 0u), idBefore(b, t + 7u, 0u));
    emit(b, t, e, taps, offset, window, x0, i0);
    emit(b, t + 1u, e, taps, offset, Window(window.second, window.first, x0), x1, vec4(i0.yzw, i4.x));
    emit(b, t + 2u, e, taps, offset, Window(window.first, x0, x1), x2, vec4(i0.zw, i4.xy));
    emit(b, t + 3u, e, taps, offset, Window(x0, x1, x2), x3, vec4(i0.w, i4.xyz));
    emit(b, t + 4u, e, taps, offset, Window(x1, x2, x3), x4, i4);
    emit(b, t + 5u, e, taps, offset, Window(x2, x3, x4), x5, vec4(i4.yzw, i7.y));
    emit(b, t + 6u, e, taps, offset, Window(x3, x4, x5), x6, vec4(i4.zw, i7.yz));
    emit(b, t + 7u, e, taps, offset, Window(x4, x5, x6), x7, i7);
    window = Window(x5, x6, x7);
  }
}
