// Counter-based random numbers: the same counter and key give the same bits on every device, in any order.

// High and low word of a 64-bit product, from products of 16-bit halves.
fn multiplyWide(a: u32, b: u32) -> vec2<u32> {
  let aLow = a & 0xffffu;
  let aHigh = a >> 16u;
  let bLow = b & 0xffffu;
  let bHigh = b >> 16u;
  let low = aLow * bLow;
  let middle = aHigh * bLow + (low >> 16u);
  let cross = aLow * bHigh + (middle & 0xffffu);
  return vec2<u32>(aHigh * bHigh + (middle >> 16u) + (cross >> 16u), a * b);
}

// Philox-4x32-10: four words for each counter and key. Source: Salmon, Moraes, Dror and Shaw, SC 2011.
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let first = multiplyWide(0xd2511f53u, c.x);
    let second = multiplyWide(0xcd9e8d57u, c.z);
    c = vec4<u32>(second.x ^ c.y ^ k.x, second.y, first.x ^ c.w ^ k.y, first.y);
    k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}

// -log(1 - w) for w = (bits + 1/2) / 2^32: a standard exponential variate, with full relative precision near 0, where
// a plain logarithm has none.
fn exponential(bits: u32) -> f32 {
  // The complement gives 1 - w exactly where it is small.
  if (bits >= 0x80000000u) { return -log((f32(~bits) + 0.5) * 0x1p-32f); }
  // log(1 - w) = -2 atanh(s) with s = w / (2 - w) <= 1/3: the series ends below f32's precision.
  let w = (f32(bits) + 0.5) * 0x1p-32f;
  let s = w / (2.0 - w);
  let t = s * s;
  let series = 1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0 + t * (1.0 / 11.0 + t * (1.0 / 13.0))))));
  return 2.0 * s * series;
}

// A standard Gumbel variate, -log(-log(u)).
fn gumbel(bits: u32) -> f32 {
  return -log(exponential(bits));
}
