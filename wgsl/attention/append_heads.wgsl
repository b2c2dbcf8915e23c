// Longer than most shaders, because keys and values, and three kinds of caches, go one way but for the last step.
// keyCache[b, position[b] + l] = rope(norm(k[b, l])); valueCache[b, position[b] + l] = v[b, l]; quantised, to pages
// Source: as attention/rope_append and attention/qk_norm; pages: arXiv 2309.06180; q8: shared/quantize.
// Work: LANES invocations a head, keys' first; a workgroup ROUNDS times as many heads of a token as it has such teams.
// Workgroup memory: 1.5 KiB (sine and cosine of up to 128 angles, 128 partial sums); 4.1 KiB of values more with q8.
// Barriers: after the angles; between the partial sums of a head and their total; with q8, around the staged heads.
// Requirements: none. Scales of q8 are written atomically: two blocks share a word, and may belong to two workgroups.
//! axis simd: subgroups(subgroups) | baseline
//! axis cache: f32 | f16 | q8
@if(!cache_q8) import package::shared::cache::{CachePair, storedPair};
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::quantize::{nearestQuant, scaleBits};
import package::shared::rotary::rotaryTurn;
import package::shared::trigonometry::sinCos;
@if(simd_subgroups) enable subgroups;

struct Params {
  tokens: u32,
  length: u32,
  capacity: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
  // In pairs of values; of q8, in words of four
  keyOffset: u32,
  keyStride: u32,
  valueOffset: u32,
  valueStride: u32,
  // Where the planes of scales begin, in words of two (q8 only)
  keyScales: u32,
  valueScales: u32,
  // Pages have 2^pageBits tokens; those that are not below pageCount do not exist
  pageBits: u32,
  pageCount: u32,
  pagesOffset: u32,
  pagesStride: u32,
  // Between the weights of two heads; 0 where they share one
  weightStride: u32,
  eps: f32,
  weightOffset: f32,
}

override WORKGROUP_SIZE: u32 = 128u;
override ROUNDS: u32 = 1u;
override KV_HEADS: u32 = 2u;
override HEAD_DIM: u32 = 64u;
// 0 where nothing rotates
override ROTARY_DIM: u32 = 64u;
override INTERLEAVED: bool = false;
override HAS_NORM: bool = false;
override PAGED: bool = false;

@if(cache_q8) alias CacheCell = atomic<u32>;
@else alias CacheCell = CachePair;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hkv, P), tokens kStride apart
@group(0) @binding(1) var<storage, read> k: array<f32>;
// (B, L, Hkv, P), tokens vStride apart
@group(0) @binding(2) var<storage, read> v: array<f32>;
// (P) or (Hkv, P)
@group(0) @binding(3) var<storage, read> weight: array<f32>;
// (rotaryDim / 2), radians a token
@group(0) @binding(4) var<storage, read> inverseFrequencies: array<f32>;
// (B), tokens in the cache before this call
@group(0) @binding(5) var<storage, read> position: array<u32>;
// (B, pages of a sequence), rows pagesStride apart
@group(0) @binding(6) var<storage, read> pages: array<u32>;
// (B, T, Hkv, P), or (pages, page size, Hkv, P) where PAGED
@group(0) @binding(7) var<storage, read_write> keyCache: array<CacheCell>;
// As keyCache
@group(0) @binding(8) var<storage, read_write> valueCache: array<CacheCell>;

const MAX_ANGLES: u32 = 128u;
var<workgroup> angles: array<vec2<f32>, MAX_ANGLES>;
// Heads of up to 256 values: blocks of 32 lie 33 apart, so that reads of several blocks meet in no bank.
@if(cache_q8) const STAGED_HEAD: u32 = 264u;
@if(cache_q8) var<workgroup> staged: array<f32, 4u * STAGED_HEAD>;

fn weighted(start: u32, weights: u32, e: u32) -> f32 {
  if (HAS_NORM) { return k[start + e] * (weight[weights + e] + params.weightOffset); }
  return k[start + e];
}

// A value of a key's head: weighted, normalised and rotated.
fn keyValue(start: u32, weights: u32, factor: f32, e: u32) -> f32 {
  var value = weighted(start, weights, e);
  if (e < ROTARY_DIM) {
    let turn = rotaryTurn(e, ROTARY_DIM, INTERLEAVED);
    let partner = weighted(start, weights, turn.partner);
    value = value * angles[turn.pair].y + turn.sign * partner * angles[turn.pair].x;
  }
  return value * factor;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Workgroups may exceed one dimension of the grid (see flatGrid).
  let flat = workgroup.y * grid.x + workgroup.x;
  let team = local / LANES;
  let teams = WORKGROUP_SIZE / LANES;
  let parts = (2u * KV_HEADS + teams * ROUNDS - 1u) / (teams * ROUNDS);
  let token = flat / parts;
  if (token >= params.tokens) { return; }
  let batch = token / params.length;
  let at = position[batch] + token % params.length;
  for (var i = local; i < ROTARY_DIM / 2u; i += WORKGROUP_SIZE) {
    angles[i] = sinCos(f32(at) * inverseFrequencies[i]);
  }
  workgroupBarrier();
  var exists = at < params.capacity;
  var row = batch * params.capacity + at;
  if (PAGED && exists) {
    let page = pages[params.pagesOffset + batch * params.pagesStride + (at >> params.pageBits)];
    exists = page < params.pageCount;
    row = (page << params.pageBits) + (at & ((1u << params.pageBits) - 1u));
  }
  let lane = local % LANES;
  for (var round = 0u; round < ROUNDS; round++) {
    let head = (flat % parts * ROUNDS + round) * teams + team;
    let inside = head < 2u * KV_HEADS && exists;
    let isKey = head < KV_HEADS;
    let kvHead = select(head - KV_HEADS, head, isKey);
    let start = select(
      params.vOffset + token * params.vStride + kvHead * HEAD_DIM,
      params.kOffset + token * params.kStride + kvHead * HEAD_DIM,
      isKey,
    );
    let weights = kvHead * params.weightStride;
    var factor = 1.0;
    if (HAS_NORM) {
      var squares = 0.0;
      if (inside && isKey) {
        for (var e = lane; e < HEAD_DIM; e += LANES) { squares += k[start + e] * k[start + e]; }
      }
      factor = inverseSqrt(sumOverLanes(squares, local, subgroupSize) / f32(HEAD_DIM) + params.eps);
    }
    if (inside) {
      for (var e = 2u * lane; e < HEAD_DIM; e += 2u * LANES) {
        var values: vec2<f32>;
        if (isKey) {
          values = vec2<f32>(keyValue(start, weights, factor, e), keyValue(start, weights, factor, e + 1u));
        } else {
          values = vec2<f32>(v[start + e], v[start + e + 1u]);
        }
        @if(cache_q8) {
          let cell = team * STAGED_HEAD + e + e / 32u;
          staged[cell] = values.x;
          staged[cell + 1u] = values.y;
        }
        @if(!cache_q8) {
          let pair = (kvHead * HEAD_DIM + e) / 2u;
          if (isKey) {
            keyCache[params.keyOffset + row * params.keyStride + pair] = storedPair(values);
          } else {
            valueCache[params.valueOffset + row * params.valueStride + pair] = storedPair(values);
          }
        }
      }
    }
    @if(cache_q8) {
      workgroupBarrier();
      if (inside) {
        for (var word = lane; word < HEAD_DIM / 4u; word += LANES) {
          let block = word / 8u;
          let first = team * STAGED_HEAD + block * 33u;
          var largest = 0.0;
          for (var i = 0u; i < 32u; i++) { largest = max(largest, abs(staged[first + i])); }
          let bits = scaleBits(largest);
          let scale = unpack2x16float(bits).x;
          var quants = 0u;
          for (var i = 0u; i < 4u; i++) {
            quants |= (bitcast<u32>(nearestQuant(staged[first + word % 8u * 4u + i], scale)) & 0xffu) << (8u * i);
          }
          let cell = kvHead * (HEAD_DIM / 4u) + word;
          if (isKey) {
            storeKey(params.keyOffset + row * params.keyStride + cell, quants, bits);
          } else {
            storeValue(params.valueOffset + row * params.valueStride + cell, quants, bits);
          }
        }
      }
      workgroupBarrier();
    }
  }
}

// Four quants, and with the first four of a block its scale: one half of a word.
@if(cache_q8)
fn storeKey(at: u32, quants: u32, scale: u32) {
  atomicStore(&keyCache[at], quants);
  if (at % 8u == 0u) {
    let shift = at / 8u % 2u * 16u;
    atomicAnd(&keyCache[params.keyScales + at / 16u], ~(0xffffu << shift));
    atomicOr(&keyCache[params.keyScales + at / 16u], scale << shift);
  }
}

@if(cache_q8)
fn storeValue(at: u32, quants: u32, scale: u32) {
  atomicStore(&valueCache[at], quants);
  if (at % 8u == 0u) {
    let shift = at / 8u % 2u * 16u;
    atomicAnd(&valueCache[params.valueScales + at / 16u], ~(0xffffu << shift));
    atomicOr(&valueCache[params.valueScales + at / 16u], scale << shift);
  }
}
