// Longer than most shaders, because scores, softmax and output of a tile share the registers of one invocation.
// y[b, l, h] = sum_t softmax_t(cap(scale q[b, l, h] . k[b, t, g]) + bias) v[b, t, g] over the keys that query l sees
// Source: FlashAttention-2, arXiv 2307.08691, algorithm 1; g = floor(h Hkv / H). ALiBi, arXiv 2108.12409; sinks, gpt-oss.
// Work: one workgroup QUERY_TILE queries of a head; it walks the tiles of 32 keys that any of them sees. An invocation
//       holds the scores of ROWS queries x 4 keys and the outputs of ROWS queries x P / 8 values.
// Workgroup memory: 16 max((QUERY_TILE + 32) 5, VALUE_ROWS P / 4) + 128 QUERY_TILE bytes.
// Barriers: around each staged slice of queries and keys, and of values; around the row maxima; before the weights.
// Requirements: none.
//! axis cache: f32 | f16 | q8
//! constant HEAD_DIM
//! constant ROWS
//! constant ROW_GROUPS
//! constant VALUE_ROWS
import package::shared::cache::{CacheQuad, blockScale, quadValues};
import package::shared::online_softmax::{LOG2_E, MASKED, sinkScale, softCapped, softmaxWeight};
import package::shared::output_gate::gateFactor;

struct Params {
  length: u32,
  capacity: u32,
  heads: u32,
  group: u32,
  // 1 where queries see keys up to their own only; 1 where position counts
  causal: u32,
  hasPosition: u32,
  window: u32,
  scale: f32,
  // 0: none
  cap: f32,
  // Offsets and strides in units of four values
  qOffset: u32,
  qStride: u32,
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
  // Packed sequences
  sequences: u32,
  slopesOffset: u32,
  sinksOffset: u32,
  // Of the bias (B, H, L, T) or the gate (B, L, H, P); 0 along what is broadcast
  extraOffset: u32,
  extraBatchStride: u32,
  extraHeadStride: u32,
  extraRowStride: u32,
}

// Features that are absent cost nothing: their code is dropped when the pipeline is made.
override PAGED: bool = false;
override PACKED: bool = false;
override HAS_SLOPES: bool = false;
override HAS_SINKS: bool = false;
override HAS_BIAS: bool = false;
override HAS_GATE: bool = false;

const HEAD_DIM: u32 = 64u;
// Queries of an invocation, and groups of invocations that have different queries
const ROWS: u32 = 4u;
const ROW_GROUPS: u32 = 16u;
// Keys whose values are staged at once; divides 32
const VALUE_ROWS: u32 = 32u;

// Invocations that share their queries; each has four keys of a tile and every eighth vector of the output.
const COLUMN_GROUPS: u32 = 8u;
const KEY_TILE: u32 = 32u;
const QUERY_TILE: u32 = ROWS * ROW_GROUPS;
const INVOCATIONS: u32 = ROW_GROUPS * COLUMN_GROUPS;
// Vectors of four values: of a head, of a staged slice, between staged rows (odd: rows fall in different banks)
const VECTORS: u32 = HEAD_DIM / 4u;
const SLICE: u32 = 4u;
const SLICE_STRIDE: u32 = 5u;
const SLICES: u32 = (VECTORS + SLICE - 1u) / SLICE;
const OUTPUTS: u32 = (VECTORS + COLUMN_GROUPS - 1u) / COLUMN_GROUPS;
const STAGE: u32 = max((QUERY_TILE + KEY_TILE) * SLICE_STRIDE, VALUE_ROWS * VECTORS);

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens qStride apart
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
// (B, T, Hkv, P), or (pages, page size, Hkv, P) where PAGED: tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<CacheQuad>;
// As k, tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<CacheQuad>;
// (B), keys before this call; (sequences + 1), first tokens of packed sequences, where PACKED
@group(0) @binding(4) var<storage, read> position: array<u32>;
// (B, pages of a sequence), rows pagesStride apart
@group(0) @binding(5) var<storage, read> pages: array<u32>;
// Slopes (H) and sinks (H), each from its own offset
@group(0) @binding(6) var<storage, read> terms: array<f32>;
// The bias or the gate, which have one binding because there are 8
@group(0) @binding(7) var<storage, read> extra: array<f32>;
// (B, L, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> stage: array<vec4<f32>, STAGE>;
// exp2(score - largest) of (query, four keys), columns swizzled by the row; between tiles, one value of each invocation
var<workgroup> weights: array<vec4<f32>, QUERY_TILE * COLUMN_GROUPS>;

fn shareWithRow(row: u32, column: u32, value: f32) {
  let at = row * COLUMN_GROUPS + column / 4u;
  switch (column % 4u) {
    case 0u: { weights[at].x = value; }
    case 1u: { weights[at].y = value; }
    case 2u: { weights[at].z = value; }
    default: { weights[at].w = value; }
  }
}

// Row of a key in a paged cache, counted from row 0 of the cache; in a plain one, from the first row of its sequence.
fn cacheRow(batch: u32, key: u32) -> u32 {
  if (!PAGED) { return key; }
  let page = pages[params.pagesOffset + batch * params.pagesStride + (key >> params.pageBits)];
  return (page << params.pageBits) + (key & ((1u << params.pageBits) - 1u));
}

// First token of the packed sequence of a token, and of the next one: tokens behind the last sequence have the last one.
fn sequenceOf(token: u32) -> vec2<i32> {
  var low = 0u;
  var high = params.sequences;
  for (var n = 0u; n < 32u; n++) {
    let middle = (low + high) / 2u;
    if (high - low > 1u) {
      if (position[middle] <= token) { low = middle; } else { high = middle; }
    }
  }
  return vec2<i32>(i32(position[low]), i32(position[low + 1u]));
}

// Four values of the bias of a query from a key on, in units of log 2; those beyond `last` may not exist.
fn biasOf(batch: u32, head: u32, query: u32, key: i32, last: i32) -> vec4<f32> {
  let start = params.extraOffset + batch * params.extraBatchStride + head * params.extraHeadStride
    + query * params.extraRowStride;
  let index = vec4<u32>(clamp(vec4<i32>(key) + vec4<i32>(0, 1, 2, 3), vec4<i32>(0), vec4<i32>(max(last, 0)))) + start;
  let bias = vec4<f32>(extra[index.x], extra[index.y], extra[index.z], extra[index.w]);
  return clamp(bias, vec4<f32>(MASKED), vec4<f32>(-MASKED)) * LOG2_E;
}

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let column = local % COLUMN_GROUPS;
  let rowGroup = local / COLUMN_GROUPS;
  // The last queries see the most keys: they begin first.
  let firstQuery = (grid.x - 1u - workgroup.x) * QUERY_TILE;
  let head = workgroup.y;
  let batch = workgroup.z;
  let kvHead = head / params.group;
  let length = i32(params.length);
  var keys = i32(params.capacity);
  var offset = keys - length;
  if (!PACKED && params.hasPosition != 0u) {
    offset = i32(min(position[batch], params.capacity));
    keys = min(offset + length, keys);
  }
  var end = keys;
  if (params.causal != 0u) { end = min(keys, offset + min(i32(firstQuery + QUERY_TILE), length)); }
  let window = i32(params.window);
  var begin = max(offset + i32(firstQuery) - window + 1, 0);
  if (PACKED) {
    begin = max(begin, sequenceOf(firstQuery).x);
    end = min(end, sequenceOf(min(firstQuery + QUERY_TILE, params.length) - 1u).y);
  }
  let firstTile = u32(begin) / KEY_TILE;
  let endTile = (u32(max(end, 0)) + KEY_TILE - 1u) / KEY_TILE;

  var out: array<vec4<f32>, ROWS * OUTPUTS>;
  var largest: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  // Keys of the sequence of each query: the first one, and the one behind the last
  var bounds: array<vec2<i32>, ROWS>;
  for (var i = 0u; i < ROWS; i++) {
    largest[i] = MASKED;
    if (PACKED) {
      let token = i32(firstQuery + rowGroup + i * ROW_GROUPS);
      let sequence = sequenceOf(u32(token));
      bounds[i] = select(vec2<i32>(), sequence, token >= sequence.x && token < sequence.y);
    }
  }
  let qStart = params.qOffset + batch * params.length * params.qStride + head * VECTORS;
  // Rows of pages are counted over all sequences.
  let firstRow = select(batch * params.capacity, 0u, PAGED);
  let kStart = params.kOffset + firstRow * params.kStride + kvHead * VECTORS;
  let vStart = params.vOffset + firstRow * params.vStride + kvHead * VECTORS;
  var slope = 0.0;
  if (HAS_SLOPES) { slope = LOG2_E * terms[params.slopesOffset + head]; }

  for (var tile = firstTile; tile < endTile; tile++) {
    let firstKey = tile * KEY_TILE;
    // Without its initial value, some drivers zero it only before the loop.
    var scores = array<vec4<f32>, ROWS>();
    for (var slice = 0u; slice < SLICES; slice++) {
      workgroupBarrier();
      for (var n = 0u; n < (QUERY_TILE * SLICE + INVOCATIONS - 1u) / INVOCATIONS; n++) {
        let i = n * INVOCATIONS + local;
        let row = i / SLICE;
        let vector = slice * SLICE + i % SLICE;
        var value = vec4<f32>();
        if (firstQuery + row < params.length && vector < VECTORS) {
          value = q[qStart + (firstQuery + row) * params.qStride + vector];
        }
        if (row < QUERY_TILE) { stage[row * SLICE_STRIDE + i % SLICE] = value; }
      }
      for (var n = 0u; n < (KEY_TILE * SLICE + INVOCATIONS - 1u) / INVOCATIONS; n++) {
        let i = n * INVOCATIONS + local;
        let key = i / SLICE;
        let vector = slice * SLICE + i % SLICE;
        // Rows beyond the last key may hold anything.
        var value = vec4<f32>();
        if (i32(firstKey + key) < end && vector < VECTORS) {
          let at = kStart + cacheRow(batch, firstKey + key) * params.kStride + vector;
          value = quadValues(k[at]);
          @if(cache_q8) { value *= blockScale(k[params.kScales + at / 16u], at / 8u); }
        }
        // Key 4 c + j of column c lies at row 8 j + c, so that a read of all columns meets no bank twice.
        if (key < KEY_TILE) {
          stage[(QUERY_TILE + key % 4u * COLUMN_GROUPS + key / 4u) * SLICE_STRIDE + i % SLICE] = value;
        }
      }
      workgroupBarrier();
      for (var c = 0u; c < SLICE; c++) {
        let at = (QUERY_TILE + column) * SLICE_STRIDE + c;
        let k0 = stage[at];
        let k1 = stage[at + COLUMN_GROUPS * SLICE_STRIDE];
        let k2 = stage[at + 2u * COLUMN_GROUPS * SLICE_STRIDE];
        let k3 = stage[at + 3u * COLUMN_GROUPS * SLICE_STRIDE];
        for (var i = 0u; i < ROWS; i++) {
          let query = stage[(rowGroup + i * ROW_GROUPS) * SLICE_STRIDE + c];
          var s = scores[i];
          s += query.x * vec4<f32>(k0.x, k1.x, k2.x, k3.x);
          s += query.y * vec4<f32>(k0.y, k1.y, k2.y, k3.y);
          s += query.z * vec4<f32>(k0.z, k1.z, k2.z, k3.z);
          s += query.w * vec4<f32>(k0.w, k1.w, k2.w, k3.w);
          scores[i] = s;
        }
      }
    }

    let keyIndex = i32(firstKey + 4u * column) + vec4<i32>(0, 1, 2, 3);
    for (var i = 0u; i < ROWS; i++) {
      let row = rowGroup + i * ROW_GROUPS;
      let query = offset + i32(firstQuery + row);
      var s = scores[i] * params.scale;
      if (params.cap > 0.0) {
        s = vec4<f32>(
          softCapped(s.x, params.cap), softCapped(s.y, params.cap), softCapped(s.z, params.cap), softCapped(s.w, params.cap),
        );
      } else {
        s *= LOG2_E;
      }
      var last = select(keys - 1, min(query, keys - 1), params.causal != 0u);
      var hidden = query - window;
      if (PACKED) {
        last = min(last, bounds[i].y - 1);
        hidden = max(hidden, bounds[i].x - 1);
      }
      if (HAS_SLOPES) { s += slope * vec4<f32>(keyIndex - query); }
      if (HAS_BIAS) { s = max(s + biasOf(batch, head, firstQuery + row, keyIndex.x, last), vec4<f32>(MASKED)); }
      s = select(vec4<f32>(MASKED), s, (keyIndex <= vec4<i32>(last)) & (keyIndex > vec4<i32>(hidden)));
      scores[i] = s;
      shareWithRow(row, column, max(max(s.x, s.y), max(s.z, s.w)));
    }
    workgroupBarrier();
    for (var i = 0u; i < ROWS; i++) {
      let at = (rowGroup + i * ROW_GROUPS) * COLUMN_GROUPS;
      let both = max(weights[at], weights[at + 1u]);
      let raised = max(largest[i], max(max(both.x, both.y), max(both.z, both.w)));
      let rescale = exp2(largest[i] - raised);
      largest[i] = raised;
      let s = scores[i];
      let weight = vec4<f32>(
        softmaxWeight(s.x, raised), softmaxWeight(s.y, raised), softmaxWeight(s.z, raised), softmaxWeight(s.w, raised),
      );
      scores[i] = weight;
      total[i] = total[i] * rescale + weight.x + weight.y + weight.z + weight.w;
      for (var o = 0u; o < OUTPUTS; o++) { out[i * OUTPUTS + o] *= rescale; }
    }
    workgroupBarrier();
    for (var i = 0u; i < ROWS; i++) {
      let row = rowGroup + i * ROW_GROUPS;
      weights[row * COLUMN_GROUPS + (column ^ (row % COLUMN_GROUPS))] = scores[i];
    }

    for (var part = 0u; part < KEY_TILE / VALUE_ROWS; part++) {
      if (part > 0u) { workgroupBarrier(); }
      for (var n = 0u; n < (VALUE_ROWS * VECTORS + INVOCATIONS - 1u) / INVOCATIONS; n++) {
        let i = n * INVOCATIONS + local;
        let key = firstKey + part * VALUE_ROWS + i / VECTORS;
        var value = vec4<f32>();
        if (i32(key) < end && i < VALUE_ROWS * VECTORS) {
          let at = vStart + cacheRow(batch, key) * params.vStride + i % VECTORS;
          value = quadValues(v[at]);
          @if(cache_q8) { value *= blockScale(v[params.vScales + at / 16u], at / 8u); }
        }
        if (i < VALUE_ROWS * VECTORS) { stage[i] = value; }
      }
      workgroupBarrier();
      for (var four = 0u; four < VALUE_ROWS / 4u; four++) {
        var weight: array<vec4<f32>, ROWS>;
        for (var i = 0u; i < ROWS; i++) {
          let row = rowGroup + i * ROW_GROUPS;
          weight[i] = weights[row * COLUMN_GROUPS + ((part * VALUE_ROWS / 4u + four) ^ (row % COLUMN_GROUPS))];
        }
        for (var o = 0u; o < OUTPUTS; o++) {
          let at = four * 4u * VECTORS + min(column + o * COLUMN_GROUPS, VECTORS - 1u);
          let v0 = stage[at];
          let v1 = stage[at + VECTORS];
          let v2 = stage[at + 2u * VECTORS];
          let v3 = stage[at + 3u * VECTORS];
          for (var i = 0u; i < ROWS; i++) {
            var sum = out[i * OUTPUTS + o];
            sum += weight[i].x * v0;
            sum += weight[i].y * v1;
            sum += weight[i].z * v2;
            sum += weight[i].w * v3;
            out[i * OUTPUTS + o] = sum;
          }
        }
      }
    }
  }

  workgroupBarrier();
  for (var i = 0u; i < ROWS; i++) { shareWithRow(rowGroup + i * ROW_GROUPS, column, total[i]); }
  workgroupBarrier();
  for (var i = 0u; i < ROWS; i++) {
    let row = rowGroup + i * ROW_GROUPS;
    let both = weights[row * COLUMN_GROUPS] + weights[row * COLUMN_GROUPS + 1u];
    let sum = both.x + both.y + both.z + both.w;
    // A query that sees no key gives zero.
    var scale = select(0.0, 1.0 / sum, sum > 0.0);
    if (HAS_SINKS) { scale = sinkScale(largest[i], sum, LOG2_E * terms[params.sinksOffset + head]); }
    let token = batch * params.length + firstQuery + row;
    for (var o = 0u; o < OUTPUTS; o++) {
      let vector = column + o * COLUMN_GROUPS;
      if (firstQuery + row < params.length && vector < VECTORS) {
        var value = out[i * OUTPUTS + o] * scale;
        if (HAS_GATE) {
          let at = params.extraOffset + token * params.extraRowStride + head * params.extraHeadStride + vector * 4u;
          value *= gateFactor(vec4<f32>(extra[at], extra[at + 1u], extra[at + 2u], extra[at + 3u]));
        }
        y[(token * params.heads + head) * VECTORS + vector] = value;
      }
    }
  }
}
