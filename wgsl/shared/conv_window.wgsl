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
