// y[i] = q[i] (exp(cs[i]) S + sum_{j <= i} exp(cs[i] - cs[j]) k[j] r[j]^T) for the tokens of a chunk, S what enters it
// Longer than most, for two products with their own operands go into one tile of registers.
// Source: Gated Delta Networks, arXiv 2412.06464, section 3.3; the last of the passes of gatedDeltaRule.
// Work: one workgroup a (batch, chunk, value head) and tile of 64 tokens x 64 values of V; see shared/square_tile.
// Workgroup memory: 2 * 4 KiB of operands + 1 KiB of gates.
// Barriers: the gates before their use; those of multiplyTile around every 16 values of K, then every 16 tokens.
// Requirements: none; the vec4 loads need the offset and the stride of q in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::square_tile::{
  Tile, TILE, DEPTH, QUADS, TILE_INVOCATIONS, tileRow, tileColumn, setLeft, setRight, setLeftTransposed, multiplyTile
};

struct Params {
  length: u32,
  chunks: u32,
  // 1 where the sequence begins at zeros: nothing enters its first chunk.
  firstCarried: u32,
  heads: u32,
  // Value heads of a key head, Hv / Hk.
  ratio: u32,
  // K and V
  keyDim: u32,
  valueDim: u32,
  qOffset: u32,
  qStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hk, K), rows of heads qStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, chunks, Hv, 64): beta, cs in two parts, 0
@group(0) @binding(2) var<storage, read> gates: array<vec4<f32>>;
// (B, chunks, Hk, 2, 64): factors of k and q
@group(0) @binding(3) var<storage, read> norms: array<f32>;
// (B, chunks, Hk, 2, 64, 64), [j, i]: the second of each two is k[j] . q[i]
@group(0) @binding(4) var<storage, read> scores: array<vec4<f32>>;
// (B, chunks, Hv, K, V), the state that enters each chunk
@group(0) @binding(5) var<storage, read> states: array<vec4<f32>>;
// (B, chunks, Hv, 64, V), what each token writes
@group(0) @binding(6) var<storage, read> r: array<vec4<f32>>;
// (B, L, Hv, V)
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;

// cs in two parts, factor of k, factor of q
var<workgroup> tokens: array<vec4<f32>, TILE>;

// 4 values from column n of a token's row; zeros beyond the row and beyond the sequence. K is a multiple of 4.
fn loadQ(row: u32, n: u32, token: u32) -> vec4<f32> {
  if (n >= params.keyDim || token >= params.length) { return vec4(0.0); }
  let at = row + token * params.qStride + n;
  @if(load_vec4) { return q[at / 4u]; }
  @if(load_scalar) { return vec4(q[at], q[at + 1u], q[at + 2u], q[at + 3u]); }
}

// exp(cs[i]): what is left at token i of the state that entered.
fn decayTo(i: u32) -> f32 {
  let token = tokens[i];
  return exp(min(token.x + token.y, 0.0));
}

// Scores of tokens i .. i + 3 on token j, times the decay between them; 0 where j > i.
fn mix4(score: vec4<f32>, i: u32, j: u32) -> vec4<f32> {
  let there = tokens[j];
  let t0 = tokens[i];
  let t1 = tokens[i + 1u];
  let t2 = tokens[i + 2u];
  let t3 = tokens[i + 3u];
  // Differences, never quotients of exponentials, which overflow.
  let sums = vec4(t0.x, t1.x, t2.x, t3.x) - there.x + (vec4(t0.y, t1.y, t2.y, t3.y) - there.y);
  let weight = there.z * exp(min(sums, vec4(0.0)));
  return select(vec4(0.0), score * weight, vec4(i, i + 1u, i + 2u, i + 3u) >= vec4(j));
}

// Row i of the chunk, 4 values of V from column n.
fn storeY(token: u32, head: u32, i: u32, n: u32, value: vec4<f32>) {
  if (token % params.length + i >= params.length || n >= params.valueDim) { return; }
  y[(((token + i) * params.heads + head) * params.valueDim + n) / 4u] = tokens[i].w * value;
}

@compute @workgroup_size(TILE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let n0 = workgroup.x * TILE;
  let head = workgroup.y;
  let keyHead = head / params.ratio;
  let keyHeads = params.heads / params.ratio;
  let first = (workgroup.z / params.chunks) * params.length;
  let chunk = workgroup.z % params.chunks;
  let start = chunk * TILE;
  let sequence = workgroup.z * params.heads + head;
  let pair = (workgroup.z * keyHeads + keyHead) * 2u;
  if (local < TILE) {
    let factors = vec2(norms[pair * TILE + local], norms[(pair + 1u) * TILE + local]);
    tokens[local] = vec4(gates[sequence * TILE + local].yz, factors);
  }
  workgroupBarrier();

  var tile: Tile;
  let quad = local % QUADS;
  // What entered the chunk; nothing enters the first one unless a state was given.
  if (chunk >= params.firstCarried) {
    let qRow = params.qOffset + first * params.qStride + keyHead * params.keyDim;
    // The first 64 invocations stage q, each a block of 4 tokens by 4 values of K, the others the state.
    let inner = ((local % 64u) / QUADS) * 4u;
    let t = start + quad * 4u;
    let n = n0 + quad * 4u;
    let slices = (params.keyDim + DEPTH - 1u) / DEPTH;
    for (var slice = 0u; slice < slices; slice++) {
      let row = slice * DEPTH + inner;
      if (local < 64u) {
        setLeftTransposed(inner, quad, loadQ(qRow, row, t), loadQ(qRow, row, t + 1u), loadQ(qRow, row, t + 2u), loadQ(qRow, row, t + 3u));
      } else {
        for (var part = 0u; part < 4u; part++) {
          var value = vec4(0.0);
          if (row < params.keyDim && n < params.valueDim) {
            value = states[((sequence * params.keyDim + row + part) * params.valueDim + n) / 4u];
          }
          setRight(inner + part, quad, value);
        }
      }
      multiplyTile(&tile, local);
    }
    tile.r0 *= decayTo(tileRow(local, 0u));
    tile.r1 *= decayTo(tileRow(local, 1u));
    tile.r2 *= decayTo(tileRow(local, 2u));
    tile.r3 *= decayTo(tileRow(local, 3u));
    tile.r4 *= decayTo(tileRow(local, 4u));
    tile.r5 *= decayTo(tileRow(local, 5u));
    tile.r6 *= decayTo(tileRow(local, 6u));
    tile.r7 *= decayTo(tileRow(local, 7u));
  }

  // The chunk's own tokens.
  let slices = (min(TILE, params.length - start) + DEPTH - 1u) / DEPTH;
  for (var slice = 0u; slice < slices; slice++) {
    for (var part = 0u; part < 2u; part++) {
      let inner = part * 8u + local / QUADS;
      let j = slice * DEPTH + inner;
      setLeft(inner, quad, mix4(scores[((pair + 1u) * TILE + j) * QUADS + quad], quad * 4u, j));
      var value = vec4(0.0);
      if (n0 + quad * 4u < params.valueDim) {
        value = r[((sequence * TILE + j) * params.valueDim + n0) / 4u + quad];
      }
      setRight(inner, quad, value);
    }
    multiplyTile(&tile, local);
  }

  let token = first + start;
  let n = n0 + tileColumn(local);
  storeY(token, head, tileRow(local, 0u), n, tile.r0);
  storeY(token, head, tileRow(local, 1u), n, tile.r1);
  storeY(token, head, tileRow(local, 2u), n, tile.r2);
  storeY(token, head, tileRow(local, 3u), n, tile.r3);
  storeY(token, head, tileRow(local, 4u), n, tile.r4);
  storeY(token, head, tileRow(local, 5u), n, tile.r5);
  storeY(token, head, tileRow(local, 6u), n, tile.r6);
  storeY(token, head, tileRow(local, 7u), n, tile.r7);
}
