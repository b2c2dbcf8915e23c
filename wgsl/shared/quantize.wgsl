// Blocks of 32 values as q8 stores them: scale = f16(largest / 127), value n scale with n the nearest whole number. All
// decisions are made exactly, so that every device, and the host, writes the same bits.

// f16(largest / 127) as its 16 bits, to the nearest, ties to even; `largest` is not negative.
fn scaleBits(largest: f32) -> u32 {
  let bits = bitcast<u32>(min(largest * (1.0 / 127.0), 65504.0));
  if (bits >= 0x38800000u) {
    let rebiased = bits - 0x38000000u;
    return (rebiased + 0xfffu + ((rebiased >> 13u) & 1u)) >> 13u;
  }
  // Below 2^-14 halves lie 2^-24 apart; below 2^-25, zero is the nearest.
  if (bits <= 0x33000000u) { return 0u; }
  let shift = 126u - (bits >> 23u);
  let mantissa = (bits & 0x7fffffu) | 0x800000u;
  let whole = mantissa >> shift;
  let rest = mantissa & ((1u << shift) - 1u);
  let middle = 1u << (shift - 1u);
  return whole + select(0u, 1u, rest > middle || (rest == middle && (whole & 1u) == 1u));
}

// The whole number nearest to value / scale, from -127 to 127, away from zero where two are as near.
fn nearestQuant(value: f32, scale: f32) -> i32 {
  if (scale <= 0.0) { return 0; }
  let magnitude = abs(value);
  // Division may be off by a few units in the last place; these products, of 11 bits with 8, are exact.
  var n = floor(min(magnitude / scale, 127.0) + 0.5);
  if (magnitude < (n - 0.5) * scale) { n -= 1.0; }
  if (magnitude >= (n + 0.5) * scale) { n += 1.0; }
  return i32(sign(value) * min(n, 127.0));
}
