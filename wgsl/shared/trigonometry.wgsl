// Sine and cosine that are accurate for every finite angle. WGSL bounds the error of its own only between -pi and pi,
// and drivers differ beyond; a rotary angle reaches the position itself, a million and more.
//
// The angle is reduced in whole numbers (Payne and Hanek, 1983): angle = m 2^s, and only the bits of 2/pi that matter
// modulo 4 meet the 24 bits of m. Nothing is rounded, so no fused or reordered arithmetic can spoil it.

const HALF_PI: f32 = 1.5707963267948966;

// The bits of 2 / pi after the point, in words, behind one word of zeros.
fn twoOverPi(word: u32) -> u32 {
  switch (word) {
    case 1u: { return 0xa2f9836eu; }
    case 2u: { return 0x4e441529u; }
    case 3u: { return 0xfc2757d1u; }
    case 4u: { return 0xf534ddc0u; }
    case 5u: { return 0xdb629599u; }
    case 6u: { return 0x3c439041u; }
    default: { return 0u; }
  }
}

// 32 bits of the stream above from bit `start` on.
fn twoOverPiBits(start: u32) -> u32 {
  let word = start >> 5u;
  let shift = start & 31u;
  let high = twoOverPi(word) << shift;
  return select(high | (twoOverPi(word + 1u) >> (32u - max(shift, 1u))), high, shift == 0u);
}

// Upper word of a b for a < 2^24.
fn multiplyHigh(a: u32, b: u32) -> u32 {
  // Below 2^32, because a has 24 bits: 2^16 a_high b_low <= 2^40 is split once more.
  let low = (a & 0xffffu) * (b & 0xffffu);
  let cross = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let middle = (a & 0xffffu) * (b >> 16u) + (cross & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (cross >> 16u) + (middle >> 16u);
}

// (sin, cos) of a finite angle in radians, to about 1e-7.
fn sinCos(angle: f32) -> vec2<f32> {
  let bits = bitcast<u32>(abs(angle));
  var quadrant = 0u;
  var r = abs(angle);
  if (r > 0.785) {
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    // 64 bits of 2 / pi whose product with the mantissa counts quadrants in units of 2^-62, modulo 4. The exponent is
    // that of the mantissa's first bit, and the window begins at the bit worth 2 after the shift.
    let start = (bits >> 23u) - 127u + 7u;
    let low = twoOverPiBits(start + 32u);
    let high = mantissa * twoOverPiBits(start) + multiplyHigh(mantissa, low);
    quadrant = (high + 0x20000000u) >> 30u;
    // What is left of the nearest quadrant, signed, in units of 2^-32.
    r = f32(bitcast<i32>((high << 2u) | ((mantissa * low) >> 30u))) * (HALF_PI / 4294967296.0);
  }
  let turned = sinCosOfQuadrant(r, quadrant);
  return vec2<f32>(select(turned.x, -turned.x, angle < 0.0), turned.y);
}

// (sin, cos) of `turn` 2^-32 of a full turn.
fn sinCosOfTurn(turn: u32) -> vec2<f32> {
  // What is left of the nearest quadrant, signed, in units of 2^-32 of one.
  let r = f32(bitcast<i32>(turn << 2u)) * (HALF_PI / 4294967296.0);
  return sinCosOfQuadrant(r, (turn + 0x20000000u) >> 30u);
}

// (sin, cos) of r, from -pi/4 to pi/4, and so many right angles.
fn sinCosOfQuadrant(r: f32, quadrant: u32) -> vec2<f32> {
  // Cephes, sinf and cosf on -pi/4 to pi/4.
  let z = r * r;
  let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r;
  let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  let swapped = select(vec2<f32>(s, c), vec2<f32>(c, s), (quadrant & 1u) == 1u);
  // Quadrants 0 to 3: sin is s, c, -s, -c and cos is c, -s, -c, s.
  let negative = vec2<bool>((quadrant & 2u) != 0u, ((quadrant + 1u) & 2u) != 0u);
  return select(swapped, -swapped, negative);
}
