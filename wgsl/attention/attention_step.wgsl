// y[b, h] = sum_t softmax_t(cap(scale q[b, h] . k[b, t, g])) v[b, t, g] over keys 0 to position[b]; in shares of the keys
// Source: Flash-Decoding (Dao et al., 2023): a share gives its own largest score, sum and output.
// Work: one workgroup a share of the keys of one key head, for up to HEAD_TILE query heads of its group at once: keys
//       and values are read once. Four invocations a key for the scores; for the output, each invocation 16 bytes of
//       every value row of its own.
// Workgroup memory: 4 HEAD_TILE P + 256 HEAD_TILE + 4 max(256 HEAD_TILE, 1024 or 2048) + 1088 bytes.
// Barriers: after q; per tile after the partial scores, the scores (baseline only) and the weights; around sums.
// Requirements: none; subgroups add up the four parts of a score without workgroup memory.
//! axis simd: subgroups(subgroups) | baseline
//! axis cache: f32 | f16
//! constant HEAD_DIM
//! constant HEAD_TILE
import package::shared::cache::{CacheWord, WORD_VECTORS, wordValues};
import package::shared::online_softmax::{LOG2_E, MASKED, softCapped, softmaxWeight};
@if(simd_subgroups) enable subgroups;

struct Params {
  capacity: u32,
  heads: u32,
  kvHeads: u32,
  splits: u32,
  window: u32,
  scale: f32,
  // 0: none
  cap: f32,
  // In values
  qOffset: u32,
  qStride: u32,
  // In units of 16 bytes
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
}

const HEAD_DIM: u32 = 64u;
// Query heads that a workgroup handles, at most 8
const HEAD_TILE: u32 = 4u;

const INVOCATIONS: u32 = 256u;
const KEY_TILE: u32 = 64u;
// Invocations that share a key, and invocations that share a head in the softmax
const TEAM: u32 = 4u;
const LANES: u32 = 32u;
const VECTORS: u32 = HEAD_DIM / 4u;
// Units of 16 bytes in a head, and sets of keys that as many invocations as there are units go through
const WORDS: u32 = VECTORS / WORD_VECTORS;
const SETS: u32 = min(INVOCATIONS / WORDS, KEY_TILE);
const BUFFER: u32 = max(HEAD_TILE * KEY_TILE * TEAM, INVOCATIONS * 4u * WORD_VECTORS);

@group(0) @binding(0) var<uniform> params: Params;
// (B, H, P), sequences qStride apart
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, T, Hkv, P), tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<CacheWord>;
// (B, T, Hkv, P), tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<CacheWord>;
// (B), index of the last key
@group(0) @binding(4) var<storage, read> position: array<u32>;
// (B, H, splits, P): sums of exp2(score - largest) v; the result itself where splits is 1
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
// (B, H, splits, 2): largest score, sum of exp2(score - largest)
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;

var<workgroup> queries: array<vec4<f32>, HEAD_TILE * VECTORS>;
var<workgroup> scores: array<f32, HEAD_TILE * KEY_TILE>;
// Parts of scores or weights of a tile; at the end, sums of the output
var<workgroup> buffer: array<f32, BUFFER>;
var<workgroup> rescales: array<f32, 8>;
var<workgroup> totals: array<f32, INVOCATIONS>;

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let split = workgroup.y;
  let batch = workgroup.z;
  // workgroup.x counts the head tiles of key head 0, then those of key head 1, ...
  let group = params.heads / params.kvHeads;
  let tiles = (group + HEAD_TILE - 1u) / HEAD_TILE;
  let kvHead = workgroup.x / tiles;
  let firstInGroup = workgroup.x % tiles * HEAD_TILE;
  let firstHead = kvHead * group + firstInGroup;
  let headCount = min(HEAD_TILE, group - firstInGroup);

  let keys = min(position[batch] + 1u, params.capacity);
  let firstVisible = select(0u, keys - params.window, keys > params.window);
  let share = ((keys - firstVisible + params.splits - 1u) / params.splits + KEY_TILE - 1u) / KEY_TILE * KEY_TILE;
  let begin = min(firstVisible + split * share, keys);
  let end = min(begin + share, keys);
  let keyTiles = (end - begin + KEY_TILE - 1u) / KEY_TILE;

  for (var n = 0u; n < (HEAD_TILE * VECTORS + INVOCATIONS - 1u) / INVOCATIONS; n++) {
    let i = n * INVOCATIONS + local;
    let h = i / VECTORS;
    var value = vec4<f32>();
    if (h < headCount) {
      let at = params.qOffset + batch * params.qStride + (firstHead + h) * HEAD_DIM + i % VECTORS * 4u;
      value = params.scale * vec4<f32>(q[at], q[at + 1u], q[at + 2u], q[at + 3u]);
      if (params.cap <= 0.0) { value *= LOG2_E; }
    }
    if (i < HEAD_TILE * VECTORS) { queries[i] = value; }
  }
  workgroupBarrier();

  let kStart = params.kOffset + batch * params.capacity * params.kStride + kvHead * WORDS;
  let vStart = params.vOffset + batch * params.capacity * params.vStride + kvHead * WORDS;
  // Scores: invocation `part` of the team of key `member`. Softmax: lane of head `softHead`. Output: unit and set.
  let member = local / TEAM;
  let part = local % TEAM;
  let softHead = local / LANES;
  let lane = local % LANES;
  let word = local % WORDS;
  let keySet = local / WORDS;
  var largest = MASKED;
  var total = 0.0;
  var out: array<vec4<f32>, HEAD_TILE * WORD_VECTORS>;

  for (var tile = 0u; tile < keyTiles; tile++) {
    let firstKey = begin + tile * KEY_TILE;
    let key = firstKey + member;
    // Without its initial value, some drivers zero it only before the loop.
    var dots = array<f32, HEAD_TILE>();
    if (key < end) {
      for (var n = 0u; n < (WORDS + TEAM - 1u) / TEAM; n++) {
        let unit = n * TEAM + part;
        if (unit < WORDS) {
          let values = wordValues(k[kStart + key * params.kStride + unit]);
          for (var h = 0u; h < HEAD_TILE; h++) {
            for (var w = 0u; w < WORD_VECTORS; w++) {
              dots[h] += dot(queries[h * VECTORS + unit * WORD_VECTORS + w], values[w]);
            }
          }
        }
      }
    }
    @if(simd_subgroups) {
      // A team is a quad: four neighbouring invocations.
      for (var h = 0u; h < HEAD_TILE; h++) {
        var score = dots[h] + quadSwapX(dots[h]);
        score += quadSwapY(score);
        if (params.cap > 0.0) { score = softCapped(score, params.cap); }
        if (part == h % TEAM) { scores[h * KEY_TILE + member] = select(MASKED, score, key < end); }
      }
      workgroupBarrier();
    }
    @if(!simd_subgroups) {
      for (var h = 0u; h < HEAD_TILE; h++) { buffer[(h * KEY_TILE + member) * TEAM + part] = dots[h]; }
      workgroupBarrier();
      for (var n = 0u; n < (HEAD_TILE * KEY_TILE + INVOCATIONS - 1u) / INVOCATIONS; n++) {
        let i = n * INVOCATIONS + local;
        if (i < HEAD_TILE * KEY_TILE) {
          var score = buffer[i * TEAM] + buffer[i * TEAM + 1u] + buffer[i * TEAM + 2u] + buffer[i * TEAM + 3u];
          if (params.cap > 0.0) { score = softCapped(score, params.cap); }
          scores[i] = select(MASKED, score, firstKey + i % KEY_TILE < end);
        }
      }
      workgroupBarrier();
    }

    if (softHead < HEAD_TILE) {
      var raised = largest;
      for (var i = 0u; i < KEY_TILE; i++) { raised = max(raised, scores[softHead * KEY_TILE + i]); }
      let rescale = exp2(largest - raised);
      largest = raised;
      total *= rescale;
      for (var n = 0u; n < KEY_TILE / LANES; n++) {
        let at = softHead * KEY_TILE + n * LANES + lane;
        let weight = softmaxWeight(scores[at], raised);
        total += weight;
        buffer[at] = weight;
      }
      if (lane == 0u) { rescales[softHead] = rescale; }
    }
    workgroupBarrier();

    for (var h = 0u; h < HEAD_TILE; h++) {
      let rescale = rescales[h];
      for (var w = 0u; w < WORD_VECTORS; w++) { out[h * WORD_VECTORS + w] *= rescale; }
    }
    for (var n = 0u; n < (KEY_TILE + SETS - 1u) / SETS; n++) {
      let i = n * SETS + keySet;
      if (keySet < SETS && i < KEY_TILE && firstKey + i < end) {
        let values = wordValues(v[vStart + (firstKey + i) * params.vStride + word]);
        for (var h = 0u; h < HEAD_TILE; h++) {
          let weight = buffer[h * KEY_TILE + i];
          for (var w = 0u; w < WORD_VECTORS; w++) { out[h * WORD_VECTORS + w] += weight * values[w]; }
        }
      }
    }
    // Before the next tile writes the parts of its scores over the weights.
    @if(!simd_subgroups) workgroupBarrier();
  }

  totals[local] = total;
  for (var h = 0u; h < HEAD_TILE; h++) {
    workgroupBarrier();
    for (var w = 0u; w < WORD_VECTORS; w++) {
      let at = keySet * HEAD_DIM + (word * WORD_VECTORS + w) * 4u;
      if (keySet < SETS) {
        let values = out[h * WORD_VECTORS + w];
        buffer[at] = values.x;
        buffer[at + 1u] = values.y;
        buffer[at + 2u] = values.z;
        buffer[at + 3u] = values.w;
      }
    }
    workgroupBarrier();
    if (h < headCount) {
      var sum = 0.0;
      for (var i = 0u; i < LANES; i++) { sum += totals[h * LANES + i]; }
      let row = (batch * params.heads + firstHead + h) * params.splits + split;
      if (local < HEAD_DIM) {
        var value = 0.0;
        for (var i = 0u; i < SETS; i++) { value += buffer[i * HEAD_DIM + local]; }
        if (params.splits == 1u) { value *= select(0.0, 1.0 / sum, sum > 0.0); }
        sums[row * HEAD_DIM + local] = value;
      }
      if (params.splits > 1u && softHead == h && lane == 0u) { stats[row] = vec2<f32>(largest, sum); }
    }
  }
}
