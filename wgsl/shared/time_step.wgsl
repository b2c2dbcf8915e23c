// The step of a state-space recurrence from its raw value.

// exp(x) for x <= 0 to about 2 ulp. The built-in exp may be off by 3 + 2 |x| ulp, too much for a step of exp(-15).
fn expNegative(x: f32) -> f32 {
  let whole = max(round(x * 1.4426950408889634), -126.0);
  // ln 2 in two parts: the first has 9 bits, so that whole * 0.693359375 is exact.
  let rest = (x - whole * 0.693359375) + whole * 2.12194440e-4;
  return exp(max(rest, -1.0)) * bitcast<f32>(u32(i32(whole) + 127) << 23u);
}

// log(1 + exp(x)), and x itself above 20 (the threshold of torch.nn.functional.softplus), to about 4 ulp: WGSL has no
// log1p, and log(1 + e) loses every digit of a small e. With s = e / (2 + e) <= 1/3, log(1 + e) = 2 atanh(s).
fn softplus(x: f32) -> f32 {
  if (x > 20.0) { return x; }
  let e = expNegative(-abs(x));
  let s = e / (2.0 + e);
  let t = s * s;
  var series = 1.0 / 17.0;
  series = series * t + 1.0 / 15.0;
  series = series * t + 1.0 / 13.0;
  series = series * t + 1.0 / 11.0;
  series = series * t + 1.0 / 9.0;
  series = series * t + 1.0 / 7.0;
  series = series * t + 1.0 / 5.0;
  series = series * t + 1.0 / 3.0;
  return max(x, 0.0) + 2.0 * (s + s * t * series);
}

// clamp(softplus(raw), low, high), or without softplus.
fn timeStep(raw: f32, applySoftplus: bool, low: f32, high: f32) -> f32 {
  var step = raw;
  if (applySoftplus) { step = softplus(raw); }
  return clamp(step, low, high);
}

// dt * A, of which every kernel takes the exponential: 0 in f32 below -100, and kept there to bound sums over a chunk.
fn logDecay(step: f32, a: f32) -> f32 {
  return max(step * a, -100.0);
}

// A log decay in two parts: a multiple of 1/256 and the rest. Up to 256 of the first add up in f32 without rounding, and
// the second stay small, so that a difference of two sums is right even where the sums are thousands apart from it.
fn splitDecay(value: f32) -> vec2<f32> {
  let coarse = round(value * 256.0) / 256.0;
  return vec2(coarse, value - coarse);
}

// The step of a token that belongs to no sequence: below zero, which marks it, and too small to add anything.
const PADDING_STEP: f32 = -1e-37;

// Log decay of a token before which everything is forgotten: its exponential is 0 in f32, and a chunk of them adds up
// without rounding.
const RESET: f32 = -128.0;
