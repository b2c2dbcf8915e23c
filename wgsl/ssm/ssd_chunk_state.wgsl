// S[c, h] = sum_k exp(cs[last] - cs[k]) dt[k] x[k] B[k]^T over the tokens k of chunk c: what it adds to the state
// Source: Transformers are SSMs, arXiv 2405.21060, listing 1, "states"; the second of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head) and tile of (P, N); see shared/tile.
// Workgroup memory: 64 bytes a row and column of the tile + 1 KiB of token weights: 13 KiB at 64 * 128.
// Barriers: before a tile is staged (the weights are whole, the last tile has been read) and after. The next tile is
//   loaded to registers while this one is multiplied. Requirements: none; the vec4 loads need offsets, strides, P and N
//   in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::tile::{
  THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, putX, putW, multiplyTiles, placeOf
};
import package::shared::rows::firstOf;

struct Params {
  length: u32,
  chunks: u32,
  // Q
  chunkLength: u32,
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
  bOffset: u32,
  bStride: u32,
  // Where the table begins in steps (with PACKED).
  table: u32,
}

override PACKED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (B, L, G, N), rows of groups bStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> B: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> B: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step); then the table of ssd_chunk_cumsum
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N)
@if(load_vec4) @group(0) @binding(4) var<storage, read_write> states: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(4) var<storage, read_write> states: array<f32>;

var<workgroup> weights: array<f32, 256>;

// 4 values from column `column` of a token's row; zeros beyond the row and beyond the chunk's `valid` tokens.
fn loadX(row: u32, column: u32, token: u32, valid: u32) -> vec4<f32> {
  if (column >= params.headDim || token >= valid) { return vec4(0.0); }
  let at = row + token * params.xStride + column;
  @if(load_vec4) { return x[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.headDim - column - 1u));
    return firstOf(vec4(x[at], x[next.x], x[next.y], x[next.z]), params.headDim - column);
  }
}

fn loadB(row: u32, column: u32, token: u32, valid: u32) -> vec4<f32> {
  if (column >= params.stateSize || token >= valid) { return vec4(0.0); }
  let at = row + token * params.bStride + column;
  @if(load_vec4) { return B[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - column - 1u));
    return firstOf(vec4(B[at], B[next.x], B[next.y], B[next.z]), params.stateSize - column);
  }
}

fn writeRow(base: u32, row: u32, n: u32, value: vec4<f32>) {
  if (row >= params.headDim || n >= params.stateSize) { return; }
  let at = (base + row) * params.stateSize + n;
  @if(load_vec4) { states[at / 4u] = value; }
  @if(load_scalar) {
    for (var i = 0u; i < min(4u, params.stateSize - n); i++) { states[at + i] = value[i]; }
  }
}

fn writeBlock(base: u32, row: u32, n: u32, sums: mat4x4<f32>) {
  writeRow(base, row, n, sums[0]);
  writeRow(base, row + 1u, n, sums[1]);
  writeRow(base, row + 2u, n, sums[2]);
  writeRow(base, row + 3u, n, sums[3]);
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let rows = THREADS_M * THREAD_ROWS;
  let columns = THREADS_N * THREAD_COLUMNS;
  let across = (params.stateSize + columns - 1u) / columns;
  let p0 = workgroup.x / across * rows;
  let n0 = workgroup.x % across * columns;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let start = workgroup.z % params.chunks * params.chunkLength;
  var first = workgroup.z / params.chunks * params.length + start;
  var valid = min(params.chunkLength, params.length - start);
  if (PACKED) {
    first = u32(steps[params.table + 2u * workgroup.z]);
    valid = u32(steps[params.table + 2u * workgroup.z + 1u]);
    if (valid == 0u) { return; }
  }
  let sequence = workgroup.z * params.heads + head;

  let q = params.chunkLength;
  let step = sequence * 3u * q;
  let invocations = THREADS_M * THREADS_N;
  for (var i = 0u; i < (q + invocations - 1u) / invocations; i++) {
    let k = i * invocations + local;
    if (k < q) {
      let coarse = steps[step + 2u * q - 1u] - steps[step + q + k];
      let fine = steps[step + 3u * q - 1u] - steps[step + 2u * q + k];
      weights[k] = exp(min(coarse + fine, 0.0)) * steps[step + k];
    }
  }

  // Blocks of four values by four tokens, at most one of x and one of B an invocation.
  let xBlock = local % (rows / 4u);
  let xK = local / (rows / 4u) * 4u;
  let xStages = xK < TILE_K;
  let other = invocations - 1u - local;
  let wBlock = other % (columns / 4u);
  let wK = other / (columns / 4u) * 4u;
  let wStages = wK < TILE_K;
  let xRow = params.xOffset + first * params.xStride + head * params.headDim;
  let bRow = params.bOffset + first * params.bStride + group * params.stateSize;
  let p = p0 + xBlock * 4u;
  let n = n0 + wBlock * 4u;
  let place = placeOf(local);
  var sums: Sums;
  var xs: mat4x4<f32>;
  var ws: mat4x4<f32>;
  let slices = (valid + TILE_K - 1u) / TILE_K;
  for (var slice = 0u; slice <= slices; slice++) {
    if (slice > 0u) {
      workgroupBarrier();
      if (xStages) {
        // Chunks are multiples of 16 long: weights of tokens past the end are zeros of their own.
        let at = (slice - 1u) * TILE_K + xK;
        putX(xBlock, xK, xs[0] * weights[at]);
        putX(xBlock, xK + 1u, xs[1] * weights[at + 1u]);
        putX(xBlock, xK + 2u, xs[2] * weights[at + 2u]);
        putX(xBlock, xK + 3u, xs[3] * weights[at + 3u]);
      }
      if (wStages) {
        putW(wBlock, wK, ws[0]);
        putW(wBlock, wK + 1u, ws[1]);
        putW(wBlock, wK + 2u, ws[2]);
        putW(wBlock, wK + 3u, ws[3]);
      }
      workgroupBarrier();
    }
    if (slice < slices) {
      if (xStages) {
        let k = slice * TILE_K + xK;
        xs = mat4x4<f32>(loadX(xRow, p, k, valid), loadX(xRow, p, k + 1u, valid), loadX(xRow, p, k + 2u, valid), loadX(xRow, p, k + 3u, valid));
      }
      if (wStages) {
        let k = slice * TILE_K + wK;
        ws = mat4x4<f32>(loadB(bRow, n, k, valid), loadB(bRow, n, k + 1u, valid), loadB(bRow, n, k + 2u, valid), loadB(bRow, n, k + 3u, valid));
      }
    }
    if (slice > 0u) { multiplyTiles(&sums, place); }
  }

  let base = sequence * params.headDim;
  let row = p0 + place.x * 4u;
  let column = n0 + place.y * 4u;
  writeBlock(base, row, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(base, row + 4u * THREADS_M, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(base, row, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(base, row + 4u * THREADS_M, column + 4u * THREADS_N, sums.lowerRight); }
}
