// y[b, l, h] = sum_t softmax_t(cap(scale q[b, l, h] . k[b, t, g])) v[b, t, g] over the keys that query l sees, on matrix units
// Longer than most shaders, because scores, softmax and output of a tile are one loop.
// Source: FlashAttention-2, arXiv 2307.08691, algorithm 1; outputs are rescaled only where a score exceeds the row's
//   reference by 2^SLACK, which is exact as well. Numbers: scaled q and the weights are rounded to f16, the rest is f32.
// Work: one workgroup 64 queries of a head, 16 a subgroup; it walks the tiles of KEYS keys that any of them sees.
// Workgroup memory: 128 P + 384 KEYS + 3 KiB + 260 bytes: 44 KiB at P = 128 with 64 keys, 32 KiB with 32.
// Barriers: around the staging of keys, of values, of scores and of weights; around every rescaled or shown strip.
// Requirements: f16 matrix units with f32 results and subgroups of 32; P in multiples of 16, rows of 16 bytes.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
//! constant HEAD_DIM
//! constant KEYS
//! unroll f, column, n, i
import package::shared::narrow::narrow;
import package::shared::online_softmax::{LOG2_E, MASKED, softmaxWeight};
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

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
  // Offsets and strides of q in units of four values, of k and v in units of eight
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
}

const HEAD_DIM: u32 = 64u;
// Keys of a tile: 32 or 64
const KEYS: u32 = 32u;

const QUERY_TILE: u32 = 64u;
const INVOCATIONS: u32 = 128u;
const FRAGMENTS: u32 = HEAD_DIM / 16u;
const KEY_FRAGMENTS: u32 = KEYS / 16u;
// Units of eight values of a head, and between staged rows, of queries, keys or values
const UNITS: u32 = HEAD_DIM / 8u;
const STRIDE: u32 = UNITS + 1u;
// Between rows of scores in vectors, and of weights in units; one more than needed, which spreads rows over banks
const SCORE_STRIDE: u32 = KEYS / 4u + 1u;
const WEIGHT_STRIDE: u32 = KEYS / 8u + 1u;
// Units of a tile of keys that an invocation stages
const LOADS: u32 = (KEYS * UNITS + INVOCATIONS - 1u) / INVOCATIONS;
// A weight is at most 2^SLACK: far from what f16 can hold.
const SLACK: f32 = 8.0;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens qStride apart
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
// (B, T, Hkv, P) f16, tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
// (B, T, Hkv, P) f16, tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
// (B), keys before this call
@group(0) @binding(4) var<storage, read> position: array<u32>;
// (B, L, H, P)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> staged: array<vec4<u32>, QUERY_TILE * STRIDE>;
// 16 rows a subgroup: scores, later outputs on their way to be rescaled or written
var<workgroup> scores: array<vec4<f32>, QUERY_TILE * SCORE_STRIDE>;
var<workgroup> weights: array<vec4<u32>, QUERY_TILE * WEIGHT_STRIDE>;
// What the outputs of a row are multiplied with
var<workgroup> factors: array<f32, QUERY_TILE>;
var<workgroup> raised: atomic<u32>;

// Scores of keys key .. key + 3 with the cap, in units of log 2, and MASKED for those outside of [begin, end).
fn visible(score: vec4<f32>, key: i32, begin: i32, end: i32) -> vec4<f32> {
  var s = score;
  if (params.cap > 0.0) {
    let cap = params.cap * LOG2_E;
    // cap tanh(s / cap); drivers' own tanh may overflow.
    let e = exp2(clamp(s / cap, vec4<f32>(-15.0), vec4<f32>(15.0)) * (2.0 * LOG2_E));
    s = cap * (1.0 - 2.0 / (e + 1.0));
  }
  let keys = key + vec4<i32>(0, 1, 2, 3);
  return select(vec4<f32>(MASKED), s, (keys >= vec4<i32>(begin)) & (keys < vec4<i32>(end)));
}

// Where unit number n of an invocation lies in the tile from firstKey on. Rows beyond the last key may hold anything, so
// that the last one stands for them: their scores are masked.
fn placeOf(firstKey: u32, n: u32, local: u32, keys: i32, stride: u32) -> u32 {
  let i = n * INVOCATIONS + local;
  return min(firstKey + i / UNITS, u32(max(keys, 1)) - 1u) * stride + i % UNITS;
}

fn stage(n: u32, local: u32, value: vec4<u32>) {
  let i = n * INVOCATIONS + local;
  if (i < KEYS * UNITS) { staged[i / UNITS * STRIDE + i % UNITS] = value; }
}

@compute @workgroup_size(INVOCATIONS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // The last queries see the most keys: they begin first.
  let firstQuery = (grid.x - 1u - workgroup.x) * QUERY_TILE;
  let head = workgroup.y;
  let batch = workgroup.z;
  let kvHead = head / params.group;
  let length = i32(params.length);
  var keys = i32(params.capacity);
  var offset = keys - length;
  if (params.hasPosition != 0u) {
    offset = i32(min(position[batch], params.capacity));
    keys = min(offset + length, keys);
  }
  let window = i32(params.window);
  var lastKey = keys;
  if (params.causal != 0u) { lastKey = min(keys, offset + min(i32(firstQuery + QUERY_TILE), length)); }
  let firstTile = u32(max(offset + i32(firstQuery) - window + 1, 0)) / KEYS;
  let endTile = (u32(max(lastKey, 0)) + KEYS - 1u) / KEYS;

  let subgroup = local / 32u;
  // Two invocations share a row: one has the even units of its scores, the other the odd ones.
  let row = local / 2u;
  let side = local % 2u;
  let query = offset + i32(firstQuery + row);
  let begin = query - window + 1;
  let end = select(keys, min(keys, query + 1), params.causal != 0u);

  for (var n = 0u; n < QUERY_TILE * UNITS / INVOCATIONS; n++) {
    let i = n * INVOCATIONS + local;
    let token = firstQuery + i / UNITS;
    var low = vec4<f32>();
    var high = vec4<f32>();
    if (token < params.length) {
      let at = params.qOffset + (batch * params.length + token) * params.qStride + (head * UNITS + i % UNITS) * 2u;
      low = q[at] * (params.scale * LOG2_E);
      high = q[at + 1u] * (params.scale * LOG2_E);
    }
    staged[i / UNITS * STRIDE + i % UNITS] = vec4<u32>(narrow(low), narrow(high));
  }
  if (local == 0u) { atomicStore(&raised, 0u); }
  workgroupBarrier();
  var queries: array<subgroup_matrix_left<f16, 16, 16>, FRAGMENTS>;
  for (var f = 0u; f < FRAGMENTS; f++) {
    queries[f] = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, subgroup * 16u * STRIDE + f * 2u, STRIDE);
  }

  var outputs: array<subgroup_matrix_result<f32, 16, 16>, FRAGMENTS>;
  var largest = MASKED;
  var total = 0.0;
  let kStart = params.kOffset + batch * params.capacity * params.kStride + kvHead * UNITS;
  let vStart = params.vOffset + batch * params.capacity * params.vStride + kvHead * UNITS;
  var loaded: array<vec4<u32>, LOADS>;
  for (var n = 0u; n < LOADS; n++) { loaded[n] = k[kStart + placeOf(firstTile * KEYS, n, local, keys, params.kStride)]; }
  for (var tile = firstTile; tile < endTile; tile++) {
    let firstKey = tile * KEYS;
    workgroupBarrier();
    for (var n = 0u; n < LOADS; n++) { stage(n, local, loaded[n]); }
    workgroupBarrier();
    // Values arrive while the scores are made, the next keys while the values are multiplied.
    for (var n = 0u; n < LOADS; n++) { loaded[n] = v[vStart + placeOf(firstKey, n, local, keys, params.vStride)]; }
    var products = array<subgroup_matrix_result<f32, 16, 16>, KEY_FRAGMENTS>();
    for (var f = 0u; f < FRAGMENTS; f++) {
      for (var column = 0u; column < KEY_FRAGMENTS; column++) {
        let part = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, column * 16u * STRIDE + f * 2u, STRIDE);
        products[column] = subgroupMatrixMultiplyAccumulate(queries[f], part, products[column]);
      }
    }
    for (var column = 0u; column < KEY_FRAGMENTS; column++) {
      subgroupMatrixStore<row_major>(&scores, subgroup * 16u * SCORE_STRIDE + column * 4u, products[column], SCORE_STRIDE);
    }
    workgroupBarrier();

    for (var n = 0u; n < LOADS; n++) { stage(n, local, loaded[n]); }
    var own = array<vec4<f32>, KEYS / 8u>();
    var highest = MASKED;
    for (var i = 0u; i < KEYS / 8u; i++) {
      let quad = (i / 2u * 2u + side) * 2u + i % 2u;
      let s = visible(scores[row * SCORE_STRIDE + quad], i32(firstKey + quad * 4u), begin, end);
      own[i] = s;
      highest = max(highest, max(max(s.x, s.y), max(s.z, s.w)));
    }
    highest = max(highest, subgroupShuffleXor(highest, 1u));
    var factor = 1.0;
    if (highest > largest + SLACK) {
      factor = exp2(max(largest - highest, -126.0));
      // Without outputs so far there is nothing to rescale.
      if (largest > 0.5 * MASKED) { atomicStore(&raised, 1u); }
      largest = highest;
      total *= factor;
    }
    if (side == 0u) { factors[row] = factor; }
    for (var i = 0u; i < KEYS / 16u; i++) {
      var pair: array<vec4<f32>, 2>;
      for (var n = 0u; n < 2u; n++) {
        let s = own[i * 2u + n];
        pair[n] = vec4(softmaxWeight(s.x, largest), softmaxWeight(s.y, largest), softmaxWeight(s.z, largest), softmaxWeight(s.w, largest));
        total += pair[n].x + pair[n].y + pair[n].z + pair[n].w;
      }
      weights[row * WEIGHT_STRIDE + i * 2u + side] = vec4<u32>(narrow(pair[0]), narrow(pair[1]));
    }
    // A barrier as well: weights, values and factors are whole.
    if (workgroupUniformLoad(&raised) != 0u) {
      if (local == 0u) { atomicStore(&raised, 0u); }
      for (var f = 0u; f < FRAGMENTS; f++) {
        let place = subgroup * 16u * SCORE_STRIDE;
        subgroupMatrixStore<row_major>(&scores, place, outputs[f], SCORE_STRIDE);
        workgroupBarrier();
        for (var i = 0u; i < 2u; i++) { scores[row * SCORE_STRIDE + side * 2u + i] *= factors[row]; }
        workgroupBarrier();
        outputs[f] = subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>(&scores, place, SCORE_STRIDE);
        workgroupBarrier();
      }
    }
    for (var n = 0u; n < LOADS; n++) { loaded[n] = k[kStart + placeOf(firstKey + KEYS, n, local, keys, params.kStride)]; }
    for (var column = 0u; column < KEY_FRAGMENTS; column++) {
      let left = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&weights, subgroup * 16u * WEIGHT_STRIDE + column * 2u, WEIGHT_STRIDE);
      for (var f = 0u; f < FRAGMENTS; f++) {
        let part = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&staged, column * 16u * STRIDE + f * 2u, STRIDE);
        outputs[f] = subgroupMatrixMultiplyAccumulate(left, part, outputs[f]);
      }
    }
  }

  total += subgroupShuffleXor(total, 1u);
  // A query that sees no key gives zero.
  let scale = select(0.0, 1.0 / total, total > 0.0);
  let token = firstQuery + row;
  for (var f = 0u; f < FRAGMENTS; f++) {
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&scores, subgroup * 16u * SCORE_STRIDE, outputs[f], SCORE_STRIDE);
    workgroupBarrier();
    if (token < params.length) {
      for (var i = 0u; i < 2u; i++) {
        let quad = side * 2u + i;
        let at = ((batch * params.length + token) * params.heads + head) * (HEAD_DIM / 4u) + f * 4u + quad;
        y[at] = scores[row * SCORE_STRIDE + quad] * scale;
      }
    }
  }
}
