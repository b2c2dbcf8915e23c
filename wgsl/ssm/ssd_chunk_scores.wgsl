// scores[j, i] = sum_n B[j, n] C[i, n] for tokens j <= i of one chunk: shared by all heads of a group
// Source: Transformers are SSMs, arXiv 2405.21060, section 6; the third of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, group) and 64 x 64 tile; tiles above the diagonal or past the end do nothing.
// Workgroup memory: 2 * 4 KiB of operands.
// Barriers: those of multiplyTile around every 16 values of N.
// Requirements: none; the vec4 loads need offsets, strides and N in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::ssd_tile::{
  Tile, TILE, DEPTH, QUADS, TILE_INVOCATIONS, tileRow, tileColumn, setLeftTransposed, setRightTransposed,
  multiplyTile, firstOf
};

struct Params {
  length: u32,
  chunks: u32,
  // Q
  chunkLength: u32,
  groups: u32,
  stateSize: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, G, N), rows of groups bStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> B: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> B: array<f32>;
// (B, L, G, N), rows of groups cStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> C: array<f32>;
// (B, chunks, G, Q, Q), transposed: i is contiguous; entries with j > i are not defined
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<f32>>;

// 4 values from column n of a token's row; zeros beyond the row and beyond the sequence.
fn loadB(row: u32, n: u32, token: u32) -> vec4<f32> {
  if (n >= params.stateSize || token >= params.length) { return vec4(0.0); }
  let at = row + token * params.bStride + n;
  @if(load_vec4) { return B[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(B[at], B[next.x], B[next.y], B[next.z]), params.stateSize - n);
  }
}

fn loadC(row: u32, n: u32, token: u32) -> vec4<f32> {
  if (n >= params.stateSize || token >= params.length) { return vec4(0.0); }
  let at = row + token * params.cStride + n;
  @if(load_vec4) { return C[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(C[at], C[next.x], C[next.y], C[next.z]), params.stateSize - n);
  }
}

fn storeScores(j: u32, i: u32, base: u32, value: vec4<f32>) {
  if (j >= params.chunkLength || i >= params.chunkLength) { return; }
  scores[((base + j) * params.chunkLength + i) / 4u] = value;
}

@compute @workgroup_size(TILE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tiles = (params.chunkLength + TILE - 1u) / TILE;
  let j0 = (workgroup.x / tiles) * TILE;
  let i0 = (workgroup.x % tiles) * TILE;
  let group = workgroup.y;
  let batch = workgroup.z / params.chunks;
  let start = (workgroup.z % params.chunks) * params.chunkLength;
  if (j0 > i0 || start + i0 >= params.length) { return; }

  let first = batch * params.length;
  let bRow = params.bOffset + first * params.bStride + group * params.stateSize;
  let cRow = params.cOffset + first * params.cStride + group * params.stateSize;
  var tile: Tile;
  // The first 64 invocations stage B, the others C: each a block of 4 tokens by 4 values of N.
  let block = local % 64u;
  let quad = block % QUADS;
  let inner = (block / QUADS) * 4u;
  let slices = (params.stateSize + DEPTH - 1u) / DEPTH;
  for (var slice = 0u; slice < slices; slice++) {
    let n = slice * DEPTH + inner;
    if (local < 64u) {
      let t = start + j0 + quad * 4u;
      setLeftTransposed(inner, quad, loadB(bRow, n, t), loadB(bRow, n, t + 1u), loadB(bRow, n, t + 2u), loadB(bRow, n, t + 3u));
    } else {
      let t = start + i0 + quad * 4u;
      setRightTransposed(inner, quad, loadC(cRow, n, t), loadC(cRow, n, t + 1u), loadC(cRow, n, t + 2u), loadC(cRow, n, t + 3u));
    }
    multiplyTile(&tile, local);
  }

  let base = (workgroup.z * params.groups + group) * params.chunkLength;
  let i = i0 + tileColumn(local);
  storeScores(j0 + tileRow(local, 0u), i, base, tile.r0);
  storeScores(j0 + tileRow(local, 1u), i, base, tile.r1);
  storeScores(j0 + tileRow(local, 2u), i, base, tile.r2);
  storeScores(j0 + tileRow(local, 3u), i, base, tile.r3);
  storeScores(j0 + tileRow(local, 4u), i, base, tile.r4);
  storeScores(j0 + tileRow(local, 5u), i, base, tile.r5);
  storeScores(j0 + tileRow(local, 6u), i, base, tile.r6);
  storeScores(j0 + tileRow(local, 7u), i, base, tile.r7);
}
