// One filter of a causal convolution over the last four inputs of a channel. Filters of fewer taps stand at the end.

const MAX_TAPS: u32 = 4u;

@if(load_vec4) alias Channels = vec4<f32>;
@if(load_scalar) alias Channels = f32;
// Channels of one invocation.
@if(load_vec4) const CHANNELS: u32 = 4u;
@if(load_scalar) const CHANNELS: u32 = 1u;

// The inputs before the current one, oldest first.
struct Window {
  third: Channels,
  second: Channels,
  first: Channels,
}

// Taps that multiply the third, second and first input before the current one, and the current one.
struct Taps {
  third: Channels,
  second: Channels,
  first: Channels,
  current: Channels,
}

// Taps of four channels from the K vectors that hold their (4, K) weights, row by row.
@if(load_vec4)
fn tapsOf(count: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Taps {
  let none = vec4<f32>(0.0);
  if (count == 2u) { return Taps(none, none, vec4(a.xz, b.xz), vec4(a.yw, b.yw)); }
  if (count == 3u) { return Taps(none, vec4(a.x, a.w, b.z, c.y), vec4(a.y, b.x, b.w, c.z), vec4(a.z, b.y, c.x, c.w)); }
  return Taps(vec4(a.x, b.x, c.x, d.x), vec4(a.y, b.y, c.y, d.y), vec4(a.z, b.z, c.z, d.z), vec4(a.w, b.w, c.w, d.w));
}

fn convolve(taps: Taps, window: Window, current: Channels, bias: Channels) -> Channels {
  return bias + taps.third * window.third + taps.second * window.second + taps.first * window.first
    + taps.current * current;
}

fn shiftWindow(window: Window, current: Channels) -> Window {
  return Window(window.second, window.first, current);
}

fn silu(value: Channels) -> Channels {
  // The bound keeps exp finite; silu(-80) is 0 in f32 either way.
  return value / (1.0 + exp(min(-value, Channels(80.0))));
}
