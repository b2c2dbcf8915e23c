// What the passes of sampling agree on. A logit's key is an unsigned integer in the order of the floats: comparisons are
// exact, and neither NaN nor an infinity takes part in arithmetic, where a compiler may assume that there is none.
import package::shared::random::gumbel;
import package::shared::reduce::betterOf;

// Words of a row of settings.
const TEMPERATURE: u32 = 0u;
const SEED: u32 = 1u;
const TOP_K: u32 = 3u;
const TOP_P: u32 = 4u;
const MIN_P: u32 = 5u;
const REPETITION: u32 = 6u;
const PRESENCE: u32 = 7u;
const FREQUENCY: u32 = 8u;
const WINDOW: u32 = 9u;

const INFINITY_BITS: u32 = 0x7f800000u;
const INFINITY_KEY: u32 = 0xff800000u;
const MINUS_INFINITY_KEY: u32 = 0x007fffffu;
const LARGEST_FLOAT: f32 = 0x1.fffffep+127f;
// Key and index of the best of no logits.
const NOTHING: vec2<u32> = vec2<u32>(0u, 0xffffffffu);

// Larger floats have larger keys; both zeros have one key and NaN, as 0, is below all.
fn orderedKey(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > INFINITY_BITS) { return 0u; }
  if (magnitude == 0u) { return 0x80000000u; }
  return bits ^ select(0x80000000u, 0xffffffffu, bits != magnitude);
}

fn isFiniteKey(key: u32) -> bool { return key > MINUS_INFINITY_KEY && key < INFINITY_KEY; }

// The float of a finite key.
fn keyValue(key: u32) -> f32 {
  return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u));
}

// A float that is positive and finite, 0 for all others.
fn positive(bits: u32) -> f32 {
  if (bits < INFINITY_BITS) { return bitcast<f32>(bits); }
  return 0.0;
}

// The key of logit + temperature * gumbel, which has the order of logit / temperature + gumbel without its overflow.
fn drawnKey(key: u32, temperature: f32, noise: u32) -> u32 {
  if (!(temperature > 0.0) || key == INFINITY_KEY) { return key; }
  if (!isFiniteKey(key)) { return 0u; }
  return orderedKey(bitcast<u32>(keyValue(key) + temperature * gumbel(noise)));
}

// The best of four keys, the first of which has this index.
fn bestOfQuad(four: vec4<u32>, index: u32) -> vec2<u32> {
  var best = NOTHING;
  for (var i = 0u; i < 4u; i++) {
    if (four[i] != 0u) { best = betterOf(best, vec2<u32>(four[i], index + i)); }
  }
  return best;
}

// Half of how far a finite logit lies below the largest: halves do not overflow, and with the products exact no
// contraction of the expression changes it.
fn halfBelow(largest: f32, key: u32) -> f32 { return 0.5 * largest - 0.5 * keyValue(key); }

// The halfBelow of the least probable logit that min-p keeps; everything where there is no largest logit or no draw.
fn minPReach(minP: f32, temperature: f32, largestKey: u32) -> f32 {
  if (minP == 0.0 || !(temperature > 0.0) || !isFiniteKey(largestKey)) { return LARGEST_FLOAT; }
  return clamp(-0.5 * temperature * log(min(minP, 1.0)), 0.0, LARGEST_FLOAT);
}

// Bins of equal relative width: 64 for each doubling of the distance below the largest logit, from 1/128 to 512.
const BINS: u32 = 1024u;

fn binOf(distance: f32) -> u32 {
  let sixtyFourths = bitcast<u32>(max(distance, 0.0)) >> 17u;
  return min(max(sixtyFourths, 7615u) - 7615u, BINS - 1u);
}

// exp(-2 distance / temperature) in units of 2^-44, as the low and the high word. Sums of whole numbers do not depend on
// their order, and no sum over a vocabulary overflows.
fn massOf(distance: f32, temperature: f32) -> vec2<u32> {
  if (distance == 0.0) { return vec2<u32>(0u, 4096u); }
  if (distance * 0.0625 > temperature) { return vec2<u32>(); }
  let scaled = 4096.0 * min(exp(-2.0 * (distance / temperature)), 1.0);
  let whole = floor(scaled);
  return vec2<u32>(u32((scaled - whole) * 0x1p32f), u32(whole));
}

// exp(logit - largest). Where the largest is infinite, it has all the mass, shared by its equals; where nothing is above
// -Infinity there is none.
fn relativeWeight(key: u32, largest: u32) -> f32 {
  if (key <= MINUS_INFINITY_KEY) { return 0.0; }
  if (key == largest) { return 1.0; }
  if (!isFiniteKey(largest)) { return 0.0; }
  // Halves do not overflow; 2^-173 is 0.
  return exp(2.0 * max(0.5 * keyValue(key) - 0.5 * keyValue(largest), -60.0));
}
