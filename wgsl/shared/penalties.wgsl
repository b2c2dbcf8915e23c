// What is done to a logit, given as bits, before it is compared: infinities and NaN stay out of the arithmetic, and what
// would overflow is the largest float.
import package::shared::sampling::{INFINITY_BITS, LARGEST_FLOAT};

fn isFiniteBits(bits: u32) -> bool { return (bits & INFINITY_BITS) != INFINITY_BITS; }

// A float that is finite, 0 for all others.
fn finite(bits: u32) -> f32 {
  if (isFiniteBits(bits)) { return bitcast<f32>(bits); }
  return 0.0;
}

fn bounded(value: f32) -> u32 { return bitcast<u32>(clamp(value, -LARGEST_FLOAT, LARGEST_FLOAT)); }

// A bias that is not finite takes the place of the logit.
fn biased(bits: u32, bias: u32) -> u32 {
  if (!isFiniteBits(bias)) { return bias; }
  if (!isFiniteBits(bits)) { return bits; }
  return bounded(bitcast<f32>(bits) + bitcast<f32>(bias));
}

// The logit of a token that is `count` times among the recent ones; a repetition penalty of 0 is none. `subtracted` is
// the presence and the frequency penalty.
fn penalized(bits: u32, count: u32, repetition: f32, subtracted: vec2<f32>) -> u32 {
  if (count == 0u || !isFiniteBits(bits)) { return bits; }
  var value = bitcast<f32>(bits);
  if (repetition > 0.0) { value = select(value * repetition, value / repetition, value > 0.0); }
  return bounded(value - (subtracted.x + f32(count) * subtracted.y));
}
