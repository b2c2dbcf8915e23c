// The two gates of the gated delta rule: how much of the state stays, and how much of a token is written.
import package::shared::time_step::softplus;

// Log of the decay of a state, at most 0. `raw` is it already, or with HAS_A the input of A softplus(raw + bias).
fn deltaDecay(raw: f32, hasA: bool, a: f32, bias: f32) -> f32 {
  var log = raw;
  if (hasA) { log = a * softplus(raw + bias); }
  // exp(-100) is 0 in f32; the bound keeps sums over a chunk small.
  return clamp(log, -100.0, 0.0);
}

// factor * raw, or factor * sigmoid(raw).
fn deltaBeta(raw: f32, applySigmoid: bool, factor: f32) -> f32 {
  if (!applySigmoid) { return factor * raw; }
  // The bound keeps exp finite.
  return factor / (1.0 + exp(min(-raw, 80.0)));
}
