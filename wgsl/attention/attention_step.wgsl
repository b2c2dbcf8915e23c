// Longer than most shaders, because scores, softmax and output of a tile share the registers of one invocation.
// y[b, h] = sum_t softmax_t(cap(scale q[b, h] . k[b, t, g])) v[b, t, g] over keys 0 to position[b]; in shares of the keys
// Source: Flash-Decoding (Dao et al., 2023): a share gives its own largest score, sum and output. Options as in
//         attention/flash_attention.
// Work: one workgroup a share of the keys of one key head, for up to HEAD_TILE query heads of its group at once: keys
//       and values are read once. Four invocations a key for the scores; for the output, each invocation one word of
//       every value row of its own.
// Workgroup memory: 4 HEAD_TILE (P + KEY_TILE) + 5120 bytes.
// Barriers: after q; per tile around the scores, after the lanes' maxima and the weights; around the sums of the output.
// Requirements: none; subgroups add up the four parts of a score without workgroup memory.
//! axis simd: subgroups(subgroups) | baseline
//! axis cache: f32 | f16 | q8
//! constant HEAD_DIM
//! constant HEAD_TILE
import package::shared::cache::{CacheWord, WORD_VECTORS, blockScale, wordHigh, wordLow};
import package::shared::online_softmax::{LOG2_E, MASKED, sinkScale, softCapped, softmaxWeight};
import package::shared::output_gate::gateFactor;
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
  // In words of the cache
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
  // Where the planes of scales begin, in words of two (q8 only)
  kScales: u32,
  vScales: u32,
  // Pages have 2^pageBits keys
  pageBits: u32,
  pagesOffset: u32,
  pagesStride: u32,
  slopesOffset: u32,
  sinksOffset: u32,
  gateOffset: u32,
  gateStride: u32,
  gateHeadStride: u32,
}

// Features that are absent cost nothing: their code is dropped when the pipeline is made.
override PAGED: bool = false;
override HAS_SLOPES: bool = false;
override HAS_SINKS: bool = false;
override HAS_GATE: bool = false;

const HEAD_DIM: u32 = 64u;
// Query heads that a workgroup handles, at most 8
const HEAD_TILE: u32 = 4u;

const INVOCATIONS: u32 = 256u;
// Invocations that share a key, and keys that are in work at a time
const TEAM: u32 = 4u;
const MEMBERS: u32 = 64u;
// Keys between two changes of the largest score: as many as make HEAD_TILE x KEY_TILE scores 4 KiB
const KEY_TILE: u32 = min(256u, 1024u / HEAD_TILE / MEMBERS * MEMBERS);
// Invocations that share a head in the softmax
const LANES: u32 = 32u;
const VECTORS: u32 = HEAD_DIM / 4u;
// Words of a head, and sets of keys that as many invocations as there are words go through
const WORDS: u32 = VECTORS / WORD_VECTORS;
const SETS: u32 = min(INVOCATIONS / WORDS, MEMBERS);

@group(0) @binding(0) var<uniform> params: Params;
// (B, H, P), sequences qStride apart
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, T, Hkv, P), or (pages, page size, Hkv, P) where PAGED: tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<CacheWord>;
// As k, tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<CacheWord>;
// (B), index of the last key
@group(0) @binding(4) var<storage, read> position: array<u32>;
// (B, pages of a sequence), rows pagesStride apart
@group(0) @binding(5) var<storage, read> pages: array<u32>;
// Slopes (H) and sinks (H), each from its own offset
@group(0) @binding(6) var<storage, read> terms: array<f32>;
// (B, H, P), sequences gateStride apart, heads gateHeadStride
@group(0) @binding(7) var<storage, read> gate: array<f32>;
// (B, H, splits, P + 4): sums of exp2(score - largest) v, then the largest score, the sum of exp2(score - largest) and
// two zeros; the result itself, (B, H, P), where splits is 1
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> queries: array<vec4<f32>, HEAD_TILE * VECTORS>;
// Scores of a tile, then weights
var<workgroup> scores: array<f32, HEAD_TILE * KEY_TILE>;
// Parts of scores (baseline only, where HEAD_TILE is at most 4); at the end, vectors of the output
var<workgroup> parts: array<vec4<f32>, INVOCATIONS>;
// One value of every invocation: the largest score of its keys; at the end, the sum of its weights
var<workgroup> lanes: array<f32, INVOCATIONS>;
// Of every head, what a tile multiplies the output with; at the end, the largest score
var<workgroup> rescales: array<f32, 8>;

@if(!simd_subgroups)
fn setPart(at: u32, part: u32, value: f32) {
  switch (part) {
    case 0u: { parts[at].x = value; }
    case 1u: { parts[at].y = value; }
    case 2u: { parts[at].z = value; }
    default: { parts[at].w = value; }
  }
}

// Row of a key in a paged cache, counted from row 0 of the cache; in a plain one, from the first row of its sequence.
fn cacheRow(batch: u32, key: u32) -> u32 {
  if (!PAGED) { return key; }
  let page = pages[params.pagesOffset + batch * params.pagesStride + (key >> params.pageBits)];
  return (page << params.pageBits) + (key & ((1u << params.pageBits) - 1u));
}

@if(cache_q8)
fn keyScale(word: u32) -> f32 {
  let at = params.kScales + word / 8u;
  return blockScale(k[at / 2u][at % 2u], word / 4u);
}

@if(cache_q8)
fn valueScale(word: u32) -> f32 {
  let at = params.vScales + word / 8u;
  return blockScale(v[at / 2u][at % 2u], word / 4u);
}

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
  let share = ((keys - firstVisible + params.splits - 1u) / params.splits + MEMBERS - 1u) / MEMBERS * MEMBERS;
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

  // Rows of pages are counted over all sequences.
  let firstRow = select(batch * params.capacity, 0u, PAGED);
  let kStart = params.kOffset + firstRow * params.kStride + kvHead * WORDS;
  let vStart = params.vOffset + firstRow * params.vStride + kvHead * WORDS;
  // Scores: invocation `part` of the team of key `member`. Softmax: lane of head `softHead`. Output: word and set.
  let member = local / TEAM;
  let part = local % TEAM;
  let softHead = local / LANES;
  let lane = local % LANES;
  let word = local % WORDS;
  let keySet = local / WORDS;
  var largest = MASKED;
  var total = 0.0;
  var slope = 0.0;
  if (HAS_SLOPES) { slope = LOG2_E * terms[params.slopesOffset + firstHead + min(softHead, headCount - 1u)]; }
  var outLow: array<vec4<f32>, HEAD_TILE>;
  @if(!cache_f32) var outHigh: array<vec4<f32>, HEAD_TILE>;

  for (var tile = 0u; tile < keyTiles; tile++) {
    let firstKey = begin + tile * KEY_TILE;
    let count = min(end - firstKey, KEY_TILE);
    workgroupBarrier();
    for (var round = 0u; round < (count + MEMBERS - 1u) / MEMBERS; round++) {
      let index = round * MEMBERS + member;
      // Beyond the end, the last key stands in: its loads need no condition, and its score is masked.
      let row = kStart + cacheRow(batch, min(firstKey + index, end - 1u)) * params.kStride;
      // Without its initial value, some drivers zero it only before the loop.
      var dots = array<f32, HEAD_TILE>();
      for (var n = 0u; n < (WORDS + TEAM - 1u) / TEAM; n++) {
        let unit = n * TEAM + part;
        if (WORDS % TEAM == 0u || unit < WORDS) {
          let values = k[row + unit];
          var low = wordLow(values);
          @if(!cache_f32) var high = wordHigh(values);
          @if(cache_q8) {
            let scale = keyScale(row + unit);
            low *= scale;
            high *= scale;
          }
          for (var h = 0u; h < HEAD_TILE; h++) {
            let at = h * VECTORS + unit * WORD_VECTORS;
            dots[h] += dot(queries[at], low);
            @if(!cache_f32) dots[h] += dot(queries[at + 1u], high);
          }
        }
      }
      @if(simd_subgroups) {
        // A team is a quad: four neighbouring invocations.
        for (var h = 0u; h < HEAD_TILE; h++) {
          var score = dots[h] + quadSwapX(dots[h]);
          score += quadSwapY(score);
          if (part == h % TEAM) { scores[h * KEY_TILE + index] = score; }
        }
      }
      @if(!simd_subgroups) {
        for (var h = 0u; h < HEAD_TILE; h++) { setPart(h * MEMBERS + member, part, dots[h]); }
        workgroupBarrier();
        if (part < HEAD_TILE) {
          let four = parts[part * MEMBERS + member];
          scores[part * KEY_TILE + index] = four.x + four.y + four.z + four.w;
        }
        workgroupBarrier();
      }
    }
    workgroupBarrier();

    var peak = MASKED;
    if (softHead < HEAD_TILE) {
      for (var i = lane; i < count; i += LANES) {
        let at = softHead * KEY_TILE + i;
        var score = scores[at];
        if (params.cap > 0.0) { score = softCapped(score, params.cap); }
        if (HAS_SLOPES) { score -= slope * f32(keys - 1u - firstKey - i); }
        if (HAS_SLOPES || params.cap > 0.0) { scores[at] = score; }
        peak = max(peak, score);
      }
    }
    lanes[local] = peak;
    workgroupBarrier();
    if (softHead < HEAD_TILE) {
      var raised = largest;
      for (var i = 0u; i < LANES; i++) { raised = max(raised, lanes[softHead * LANES + i]); }
      let rescale = exp2(largest - raised);
      largest = raised;
      total *= rescale;
      for (var n = 0u; n < KEY_TILE / LANES; n++) {
        let i = n * LANES + lane;
        let at = softHead * KEY_TILE + i;
        let weight = select(0.0, softmaxWeight(scores[at], raised), i < count);
        total += weight;
        scores[at] = weight;
      }
      if (lane == 0u) { rescales[softHead] = rescale; }
    }
    workgroupBarrier();

    for (var h = 0u; h < HEAD_TILE; h++) {
      let rescale = rescales[h];
      outLow[h] *= rescale;
      @if(!cache_f32) outHigh[h] *= rescale;
    }
    for (var n = 0u; n < (count + SETS - 1u) / SETS; n++) {
      let index = n * SETS + keySet;
      let at = vStart + cacheRow(batch, min(firstKey + index, end - 1u)) * params.vStride + word;
      let values = v[at];
      var low = wordLow(values);
      @if(!cache_f32) var high = wordHigh(values);
      @if(cache_q8) {
        let scale = valueScale(at);
        low *= scale;
        high *= scale;
      }
      for (var h = 0u; h < HEAD_TILE; h++) {
        let weight = select(0.0, scores[h * KEY_TILE + min(index, KEY_TILE - 1u)], index < count);
        outLow[h] += weight * low;
        @if(!cache_f32) outHigh[h] += weight * high;
      }
    }
  }

  lanes[local] = total;
  if (HAS_SINKS) {
    workgroupBarrier();
    if (lane == 0u) { rescales[softHead] = largest; }
  }
  for (var h = 0u; h < HEAD_TILE; h++) {
    for (var w = 0u; w < WORD_VECTORS; w++) {
      workgroupBarrier();
      // No loop with a barrier is unrolled, and an index that is not constant moves an array out of the registers.
      var mine = vec4<f32>();
      for (var i = 0u; i < HEAD_TILE; i++) {
        if (i == h) {
          mine = outLow[i];
          @if(!cache_f32) { if (w == 1u) { mine = outHigh[i]; } }
        }
      }
      parts[local] = mine;
      workgroupBarrier();
      if (h < headCount) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) { sum += lanes[h * LANES + i]; }
        let head = firstHead + h;
        let row = (batch * params.heads + head) * params.splits + split;
        let rowStride = select(VECTORS + 1u, VECTORS, params.splits == 1u);
        if (local < WORDS) {
          var value = vec4<f32>();
          for (var i = 0u; i < SETS; i++) { value += parts[i * WORDS + local]; }
          let vector = local * WORD_VECTORS + w;
          if (params.splits == 1u) {
            var scale = select(0.0, 1.0 / sum, sum > 0.0);
            if (HAS_SINKS) { scale = sinkScale(rescales[h], sum, LOG2_E * terms[params.sinksOffset + head]); }
            value *= scale;
            if (HAS_GATE) {
              let at = params.gateOffset + batch * params.gateStride + head * params.gateHeadStride + vector * 4u;
              value *= gateFactor(vec4<f32>(gate[at], gate[at + 1u], gate[at + 2u], gate[at + 3u]));
            }
          }
          y[row * rowStride + vector] = value;
        }
        if (params.splits > 1u && softHead == h && lane == 0u) {
          y[row * rowStride + VECTORS] = vec4<f32>(largest, sum, 0.0, 0.0);
        }
      }
    }
  }
}
