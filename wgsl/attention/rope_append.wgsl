// rotated = rope(q); keyCache[b, position[b] + l] = rope(k[b, l]); valueCache[b, position[b] + l] = v[b, l]
// Source: as attention/rope; the cache of grouped-query attention, arXiv 2305.13245.
// Work: one invocation two neighbouring values of HEADS_EACH heads of one token, counting q's, then k's, then v's heads.
// Workgroup memory: none.
// Barriers: none: the two values are one word of an f16 cache, so that no word has two writers.
// Requirements: none.
//! axis cache: f32 | f16
import package::shared::cache::{CachePair, storedPair};
import package::shared::rotary::rotaryTurn;
import package::shared::trigonometry::sinCos;

struct Params {
  tokens: u32,
  length: u32,
  capacity: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
  // In pairs of values
  keyOffset: u32,
  keyStride: u32,
  valueOffset: u32,
  valueStride: u32,
}

override HEADS: u32 = 8u;
override KV_HEADS: u32 = 2u;
override HEAD_DIM: u32 = 64u;
// 0 where nothing rotates
override ROTARY_DIM: u32 = 64u;
override HEADS_EACH: u32 = 4u;
override INTERLEAVED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens qStride apart
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, L, Hkv, P), tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<f32>;
// (B, L, Hkv, P), tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<f32>;
// (rotaryDim / 2), radians a token
@group(0) @binding(4) var<storage, read> inverseFrequencies: array<f32>;
// (B), tokens in the cache before this call
@group(0) @binding(5) var<storage, read> position: array<u32>;
// (B, L, H, P)
@group(0) @binding(6) var<storage, read_write> rotated: array<vec2<f32>>;
// (B, T, Hkv, P), in pairs of values
@group(0) @binding(7) var<storage, read_write> keyCache: array<CachePair>;
// (B, T, Hkv, P), in pairs of values
@group(0) @binding(8) var<storage, read_write> valueCache: array<CachePair>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (workgroup.y * grid.x + workgroup.x) * 256u + local;
  let pairs = HEAD_DIM / 2u;
  let heads = HEADS + 2u * KV_HEADS;
  let groups = (heads + HEADS_EACH - 1u) / HEADS_EACH;
  let token = index / (groups * pairs);
  if (token >= params.tokens) { return; }
  let rest = index % (groups * pairs);
  let firstHead = rest / pairs * HEADS_EACH;
  let pair = rest % pairs;
  let e = pair * 2u;
  let batch = token / params.length;
  let row = position[batch] + token % params.length;
  let rotates = e < ROTARY_DIM && firstHead < HEADS + KV_HEADS;
  let last = max(ROTARY_DIM, 1u) - 1u;
  let turn0 = rotaryTurn(min(e, last), ROTARY_DIM, INTERLEAVED);
  let turn1 = rotaryTurn(min(e + 1u, last), ROTARY_DIM, INTERLEAVED);
  var sines = vec2<f32>(0.0);
  var cosines = vec2<f32>(1.0);
  if (rotates) {
    let angle0 = sinCos(f32(row) * inverseFrequencies[turn0.pair]);
    let angle1 = sinCos(f32(row) * inverseFrequencies[turn1.pair]);
    sines = vec2<f32>(turn0.sign * angle0.x, turn1.sign * angle1.x);
    cosines = vec2<f32>(angle0.y, angle1.y);
  }
  for (var n = 0u; n < HEADS_EACH; n++) {
    let head = firstHead + n;
    if (head < HEADS) {
      let start = params.qOffset + token * params.qStride + head * HEAD_DIM;
      var values = vec2<f32>(q[start + e], q[start + e + 1u]);
      if (rotates) {
        values = values * cosines + vec2<f32>(q[start + turn0.partner], q[start + turn1.partner]) * sines;
      }
      rotated[(token * HEADS + head) * pairs + pair] = values;
    } else if (head < HEADS + KV_HEADS && row < params.capacity) {
      let kvHead = head - HEADS;
      let start = params.kOffset + token * params.kStride + kvHead * HEAD_DIM;
      var values = vec2<f32>(k[start + e], k[start + e + 1u]);
      if (rotates) {
        values = values * cosines + vec2<f32>(k[start + turn0.partner], k[start + turn1.partner]) * sines;
      }
      let at = params.keyOffset + (batch * params.capacity + row) * params.keyStride + kvHead * pairs + pair;
      keyCache[at] = storedPair(values);
    } else if (head < heads && row < params.capacity) {
      let kvHead = head - HEADS - KV_HEADS;
      let start = params.vOffset + token * params.vStride + kvHead * HEAD_DIM + e;
      let at = params.valueOffset + (batch * params.capacity + row) * params.valueStride + kvHead * pairs + pair;
      valueCache[at] = storedPair(vec2<f32>(v[start], v[start + 1u]));
    }
  }
}
