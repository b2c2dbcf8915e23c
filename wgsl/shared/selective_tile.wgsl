// Mamba's recurrence by a workgroup: CHANNELS channels with LANES invocations each, which hold 4 * VECTORS states in
// registers. Tokens go in tiles: their inputs are staged by all invocations, then everyone walks over the tile.
// Invocation `local` has channel local % CHANNELS and lane local / CHANNELS, so that neighbours have neighbouring
// channels and read the same B and C. Its vector v holds the states from 4 (v LANES + lane) on.

override WORKGROUP_SIZE: u32 = 128u;
// Powers of two, LANES <= WORKGROUP_SIZE
override LANES: u32 = 4u;
override CHANNELS: u32 = 32u;
// Tokens of a tile, a multiple of 4
override TILE: u32 = 16u;
const VECTORS: u32 = 1u;

// exp(x) = exp2(x log2 e): rates are A log2 e
const LOG2_E: f32 = 1.4426950408889634;

// (TILE, CHANNELS): dt, 0 where there is no token or channel, and u
var<workgroup> steps: array<vec2<f32>, TILE * CHANNELS>;
// (TILE, VECTORS * LANES): B, zeros beyond N
var<workgroup> keys: array<vec4<f32>, TILE * VECTORS * LANES>;

// Kept where f32 has a normal number for it: what is multiplied by 2^-126 is gone.
fn decayOf(step: f32, rates: vec4<f32>) -> vec4<f32> {
  return exp2(max(step * rates, vec4<f32>(-126.0)));
}

// dt of four tokens from `token` of the tile on (x), and u (y), of one channel
fn fourSteps(token: u32, channel: u32) -> array<vec4<f32>, 2> {
  let at = token * CHANNELS + channel;
  let one = steps[at];
  let two = steps[at + CHANNELS];
  let three = steps[at + 2u * CHANNELS];
  let four = steps[at + 3u * CHANNELS];
  return array<vec4<f32>, 2>(vec4<f32>(one.x, two.x, three.x, four.x), vec4<f32>(one.y, two.y, three.y, four.y));
}
