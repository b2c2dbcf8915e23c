// Bits of f32 as u32 keys with the order of the numbers, where a compiler may assume that floats are never NaN.

const LARGEST_BITS: u32 = 0x7f7fffffu;

// Infinities as the largest number of their sign, NaN as the smallest number.
fn finiteBits(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude <= LARGEST_BITS) { return bits; }
  return LARGEST_BITS | select(bits & 0x80000000u, 0x80000000u, magnitude > LARGEST_BITS + 1u);
}

// Of finite bits: larger numbers have larger keys, never 0; both zeros have one key.
fn orderedKey(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

fn valueOfKey(key: u32) -> f32 {
  return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u));
}
