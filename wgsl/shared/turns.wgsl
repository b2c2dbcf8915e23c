// Angles of Mamba-3 as fractions of a turn in 32 bits: sums wrap by themselves and are exact, whatever their order.

const TURN: f32 = 4294967296.0;
const TWO_PI: f32 = 6.283185307179586;

// tanh to about 1e-7; the builtin's error is not bounded tightly, and some overflow.
fn tanhOf(x: f32) -> f32 {
  return 1.0 - 2.0 / (exp(2.0 * clamp(x, -20.0, 20.0)) + 1.0);
}

// What pi tanh(raw) dt adds to an angle.
fn turnOf(raw: f32, step: f32) -> u32 {
  let turns = 0.5 * tanhOf(raw) * step;
  // The largest f32 below 2^31: half a turn may not become the other sign.
  return bitcast<u32>(i32(clamp((turns - round(turns)) * TURN, -2147483648.0, 2147483520.0)));
}

// An angle in radians, from -2 pi to 2 pi or a little more, as turns.
fn turnsOf(angle: f32) -> u32 {
  let turns = angle / TWO_PI;
  return bitcast<u32>(i32(clamp((turns - round(turns)) * TURN, -2147483648.0, 2147483520.0)));
}

// In [0, 2 pi)
fn positiveAngle(turns: u32) -> f32 {
  return min(f32(turns) * (TWO_PI / TURN), 6.2831848);
}

// In [-pi, pi)
fn signedAngle(turns: u32) -> f32 {
  return f32(bitcast<i32>(turns)) * (TWO_PI / TURN);
}

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(clamp(-x, -80.0, 80.0)));
}

// The pair (x.x, x.y) turned by an angle whose sine and cosine are given.
fn turned(x: vec2<f32>, sinCos: vec2<f32>) -> vec2<f32> {
  return vec2<f32>(x.x * sinCos.y - x.y * sinCos.x, x.x * sinCos.x + x.y * sinCos.y);
}
