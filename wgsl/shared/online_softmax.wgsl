// Softmax over keys that arrive in tiles: with the largest score so far m, the sum l of exp2(score - m) and the output
// in the same units, a tile that raises m to n first multiplies l and the output by exp2(m - n). Scores are in units of
// log 2, which the scale brings with it. WGSL has no infinity: a masked score is a number below all others.

const MASKED: f32 = -1e30;
const LOG2_E: f32 = 1.4426950408889634;

// exp2(score - largest), and 0 for a masked score: also where a row has seen masked scores only.
fn softmaxWeight(score: f32, largest: f32) -> f32 {
  return select(0.0, exp2(score - largest), score > 0.5 * MASKED);
}

// cap tanh(score / cap) of a score in natural units, as a score in units of log 2. Drivers' own tanh may overflow.
fn softCapped(score: f32, cap: f32) -> f32 {
  let e = exp2(clamp(score / cap, -15.0, 15.0) * (2.0 * LOG2_E));
  return cap * LOG2_E * (1.0 - 2.0 / (e + 1.0));
}

// What the output is multiplied with where the denominator has one more term, exp2(sink), that brings no value.
fn sinkScale(largest: f32, total: f32, sink: f32) -> f32 {
  let raised = max(largest, sink);
  let rescale = exp2(largest - raised);
  return rescale / (total * rescale + exp2(sink - raised));
}
