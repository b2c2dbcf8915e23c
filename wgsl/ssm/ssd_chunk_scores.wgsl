// scores[j, i] = sum_n B[j, n] C[i, n] for tokens j <= i of one chunk: shared by all heads of a group
// Source: Transformers are SSMs, arXiv 2405.21060, section 6; the third of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, group) and tile (see shared/tile); tiles above the diagonal or past the end do
//   nothing. Workgroup memory: 64 bytes a row and column of the tile: 8 KiB at 64 * 64.
// Barriers: before a tile is staged (the last one has been read) and after (it is whole). The next tile is loaded to
//   registers while this one is multiplied. Requirements: none; the vec4 loads need offsets, strides and N in multiples
//   of 4.
//! axis load: vec4 | scalar
import package::shared::tile::{
  THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, stageX, stageW, multiplyTiles, placeOf
};
import package::shared::rows::firstOf;

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
  // Where the table begins in steps (with PACKED).
  table: u32,
}

override PACKED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, G, N), rows of groups bStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> B: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> B: array<f32>;
// (B, L, G, N), rows of groups cStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> C: array<f32>;
// With PACKED: the table of ssd_chunk_cumsum
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, G, Q, Q), transposed: i is contiguous; entries with j > i are not defined
@group(0) @binding(4) var<storage, read_write> scores: array<vec4<f32>>;

// 4 values from column n of row `token` of a chunk; zeros beyond the row and beyond the chunk's `valid` tokens.
fn loadB(row: u32, n: u32, token: u32, valid: u32) -> vec4<f32> {
  if (n >= params.stateSize || token >= valid) { return vec4(0.0); }
  let at = row + token * params.bStride + n;
  @if(load_vec4) { return B[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(B[at], B[next.x], B[next.y], B[next.z]), params.stateSize - n);
  }
}

fn loadC(row: u32, n: u32, token: u32, valid: u32) -> vec4<f32> {
  if (n >= params.stateSize || token >= valid) { return vec4(0.0); }
  let at = row + token * params.cStride + n;
  @if(load_vec4) { return C[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(C[at], C[next.x], C[next.y], C[next.z]), params.stateSize - n);
  }
}

fn writeBlock(base: u32, j: u32, i: u32, sums: mat4x4<f32>) {
  // Chunks are multiples of 16 long: four rows or columns lie inside one together or not at all.
  if (j >= params.chunkLength || i >= params.chunkLength) { return; }
  let at = ((base + j) * params.chunkLength + i) / 4u;
  let width = params.chunkLength / 4u;
  scores[at] = sums[0];
  scores[at + width] = sums[1];
  scores[at + 2u * width] = sums[2];
  scores[at + 3u * width] = sums[3];
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let rows = THREADS_M * THREAD_ROWS;
  let columns = THREADS_N * THREAD_COLUMNS;
  let across = (params.chunkLength + columns - 1u) / columns;
  let j0 = workgroup.x / across * rows;
  let i0 = workgroup.x % across * columns;
  let group = workgroup.y;
  let start = workgroup.z % params.chunks * params.chunkLength;
  var first = workgroup.z / params.chunks * params.length + start;
  var valid = min(params.chunkLength, params.length - start);
  if (PACKED) {
    first = u32(steps[params.table + 2u * workgroup.z]);
    valid = u32(steps[params.table + 2u * workgroup.z + 1u]);
  }
  if (j0 >= i0 + columns || i0 >= valid) { return; }

  let bRow = params.bOffset + first * params.bStride + group * params.stateSize;
  let cRow = params.cOffset + first * params.cStride + group * params.stateSize;
  // Blocks of four tokens by four values of N, at most one of B and one of C an invocation.
  let k = local % 4u * 4u;
  let xBlock = local / 4u;
  let xStages = xBlock < rows / 4u;
  let wBlock = (THREADS_M * THREADS_N - 1u - local) / 4u;
  let wStages = wBlock < columns / 4u;
  let wK = (THREADS_M * THREADS_N - 1u - local) % 4u * 4u;
  let j = j0 + xBlock * 4u;
  let i = i0 + wBlock * 4u;
  let place = placeOf(local);
  var sums: Sums;
  var xs: mat4x4<f32>;
  var ws: mat4x4<f32>;
  let slices = (params.stateSize + TILE_K - 1u) / TILE_K;
  for (var slice = 0u; slice <= slices; slice++) {
    if (slice > 0u) {
      workgroupBarrier();
      if (xStages) { stageX(xBlock, k, xs); }
      if (wStages) { stageW(wBlock, wK, ws); }
      workgroupBarrier();
    }
    if (slice < slices) {
      let n = slice * TILE_K;
      if (xStages) {
        xs = mat4x4<f32>(loadB(bRow, n + k, j, valid), loadB(bRow, n + k, j + 1u, valid), loadB(bRow, n + k, j + 2u, valid), loadB(bRow, n + k, j + 3u, valid));
      }
      if (wStages) {
        ws = mat4x4<f32>(loadC(cRow, n + wK, i, valid), loadC(cRow, n + wK, i + 1u, valid), loadC(cRow, n + wK, i + 2u, valid), loadC(cRow, n + wK, i + 3u, valid));
      }
    }
    if (slice > 0u) { multiplyTiles(&sums, place); }
  }

  let base = (workgroup.z * params.groups + group) * params.chunkLength;
  let row = j0 + place.x * 4u;
  let column = i0 + place.y * 4u;
  writeBlock(base, row, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(base, row + 4u * THREADS_M, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(base, row, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(base, row + 4u * THREADS_M, column + 4u * THREADS_N, sums.lowerRight); }
}
