// Activation functions by number, as `core/matrix.ts` numbers them. `kind` is an override where it is called, so that
// the compiler keeps one of them. Exponents are clamped: no infinity arises that a compiler may assume away.

const LARGEST_EXPONENT: f32 = 87.0;

fn activate(kind: u32, x: vec4<f32>) -> vec4<f32> {
  if (kind == 1u) { return silu(x); }
  if (kind == 2u) { return gelu(x); }
  if (kind == 3u) { return geluTanh(x); }
  if (kind == 4u) { return max(x, vec4<f32>(0.0)); }
  if (kind == 5u) {
    let positive = max(x, vec4<f32>(0.0));
    return positive * positive;
  }
  if (kind == 6u) { return 1.0 / (1.0 + exp(min(-x, vec4<f32>(LARGEST_EXPONENT)))); }
  return x;
}

// x / (1 + exp(-x))
fn silu(x: vec4<f32>) -> vec4<f32> {
  return x / (1.0 + exp(min(-x, vec4<f32>(LARGEST_EXPONENT))));
}

// x (1 + tanh(u)) / 2 = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
fn geluTanh(x: vec4<f32>) -> vec4<f32> {
  let u = 0.7978845608 * (x + 0.044715 * x * x * x);
  return x / (1.0 + exp(min(-2.0 * u, vec4<f32>(LARGEST_EXPONENT))));
}

// x erfc(-x / sqrt(2)) / 2. erfc is Chebyshev-fitted with a relative error below 1.2e-7 (Numerical Recipes, 6.2).
fn gelu(x: vec4<f32>) -> vec4<f32> {
  let z = abs(x) * 0.7071067812;
  let t = 1.0 / (1.0 + 0.5 * z);
  var p = vec4<f32>(0.17087277);
  p = p * t - 0.82215223;
  p = p * t + 1.48851587;
  p = p * t - 1.13520398;
  p = p * t + 0.27886807;
  p = p * t - 0.18628806;
  p = p * t + 0.09678418;
  p = p * t + 0.37409196;
  p = p * t + 1.00002368;
  p = p * t - 1.26551223;
  let tail = t * exp(max(p - z * z, vec4<f32>(-LARGEST_EXPONENT)));
  return 0.5 * x * select(tail, 2.0 - tail, x > vec4<f32>(0.0));
}
