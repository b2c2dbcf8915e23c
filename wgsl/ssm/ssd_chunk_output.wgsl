// y[i] = (exp(cs[i]) S C[i] + sum_{j <= i} scores[j, i] exp(cs[i] - cs[j]) dt[j] x[j] + D x[i]) silu(z[i]) in each chunk
// Longer than most, for two products with their own operands go into one tile of registers.
// Source: Transformers are SSMs, arXiv 2405.21060, listing 1, "Y_diag + Y_off"; the last of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head) and tile of (tokens, P); see shared/tile.
// Workgroup memory: 64 bytes a row and column of the tile + 3 KiB of dt and cs: 15 KiB at 128 * 64.
// Barriers: before a tile is staged (dt and cs are whole, the last tile has been read) and after. The next tile is
//   loaded to registers while this one is multiplied. Requirements: none; the vec4 loads need offsets, strides, P and N
//   in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::activations::silu;
import package::shared::tile::{
  THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, stageX, stageW, putX, putW, multiplyTiles,
  multiplyLowerTiles, placeOf
};
import package::shared::rows::firstOf;

struct Params {
  length: u32,
  chunks: u32,
  // Q
  chunkLength: u32,
  // 1 where the sequence begins at zeros: nothing enters its first chunk.
  firstCarried: u32,
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
  cOffset: u32,
  cStride: u32,
  zOffset: u32,
  zStride: u32,
  // Where the table begins in steps (with PACKED).
  table: u32,
}

override HAS_SKIP: bool = false;
// Whether D is one of every element, not of every head.
override SKIP_ELEMENTS: bool = false;
override HAS_GATE: bool = false;
// Whether some tokens belong to no sequence: their y is 0.
override HAS_PADDING: bool = false;
override PACKED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (B, L, G, N), rows of groups cStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> C: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step); then the table of ssd_chunk_cumsum
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N), the state that enters each chunk
@if(load_vec4) @group(0) @binding(4) var<storage, read> states: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(4) var<storage, read> states: array<f32>;
// (B, chunks, G, Q, Q), [j, i]
@group(0) @binding(5) var<storage, read> scores: array<vec4<f32>>;
// (H) or (H, P), the skip weight
@group(0) @binding(6) var<storage, read> D: array<f32>;
// (B, L, H, P), the gate, rows of heads zStride apart
@if(load_vec4) @group(0) @binding(7) var<storage, read> z: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(7) var<storage, read> z: array<f32>;
// (B, L, H, P)
@if(load_vec4) @group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(8) var<storage, read_write> y: array<f32>;

var<workgroup> dt: array<f32, 256>;
var<workgroup> cs: array<vec2<f32>, 256>;

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

// 4 values from column n of row p of the entering state; zeros beyond.
fn loadState(base: u32, n: u32, p: u32) -> vec4<f32> {
  if (n >= params.stateSize || p >= params.headDim) { return vec4(0.0); }
  let at = (base + p) * params.stateSize + n;
  @if(load_vec4) { return states[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(states[at], states[next.x], states[next.y], states[next.z]), params.stateSize - n);
  }
}

// Both parts of cs of tokens i .. i + 3.
struct Decays {
  coarse: vec4<f32>,
  fine: vec4<f32>,
}

fn decaysOf(i: u32) -> Decays {
  // Chunks are multiples of 16 long: four tokens lie inside one together or not at all. Rows past it are not stored.
  let at = min(i, params.chunkLength - 4u);
  return Decays(
    vec4(cs[at].x, cs[at + 1u].x, cs[at + 2u].x, cs[at + 3u].x),
    vec4(cs[at].y, cs[at + 1u].y, cs[at + 2u].y, cs[at + 3u].y),
  );
}

// Scores of tokens i .. i + 3 on token j, times the decay between them and dt[j]; 0 where j > i.
fn mix4(score: vec4<f32>, here: Decays, i: u32, j: u32) -> vec4<f32> {
  let there = cs[j];
  // Differences, never quotients of exponentials, which overflow.
  let weight = exp(min((here.coarse - there.x) + (here.fine - there.y), vec4(0.0))) * dt[j];
  return select(vec4(0.0), score * weight, vec4(i) + vec4(0u, 1u, 2u, 3u) >= vec4<u32>(j));
}

// exp(cs): what is left at tokens i .. i + 3 of the state that entered.
fn left4(here: Decays) -> vec4<f32> {
  return exp(min(here.coarse + here.fine, vec4(0.0)));
}

// What the rows of a tile have in common.
struct Rows {
  head: u32,
  // Row of the chunk's first token in (B * L), and where its x begins.
  first: u32,
  x: u32,
  valid: u32,
}

// Row i of the chunk, 4 values of P from p: adds the skip, gates and stores.
fn writeRow(rows: Rows, i: u32, p: u32, skip: vec4<f32>, value: vec4<f32>) {
  if (i >= rows.valid || p >= params.headDim) { return; }
  let token = rows.first + i;
  var sum = value;
  if (HAS_SKIP) { sum += skip * loadX(rows.x, p, i, rows.valid); }
  if (HAS_GATE) {
    let at = params.zOffset + token * params.zStride + rows.head * params.headDim + p;
    @if(load_vec4) { sum *= silu(z[at / 4u]); }
    @if(load_scalar) {
      let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.headDim - p - 1u));
      sum *= silu(vec4(z[at], z[next.x], z[next.y], z[next.z]));
    }
  }
  if (HAS_PADDING) {
    if (dt[i] < 0.0) { sum = vec4(0.0); }
  }
  let at = (token * params.heads + rows.head) * params.headDim + p;
  @if(load_vec4) { y[at / 4u] = sum; }
  @if(load_scalar) {
    for (var k = 0u; k < min(4u, params.headDim - p); k++) { y[at + k] = sum[k]; }
  }
}

fn writeBlock(rows: Rows, i: u32, p: u32, sums: mat4x4<f32>) {
  var skip = vec4(0.0);
  if (HAS_SKIP) {
    skip = vec4(D[rows.head]);
    if (SKIP_ELEMENTS) {
      let at = min(vec4(p) + vec4(0u, 1u, 2u, 3u), vec4(params.headDim - 1u)) + rows.head * params.headDim;
      skip = vec4(D[at.x], D[at.y], D[at.z], D[at.w]);
    }
  }
  writeRow(rows, i, p, skip, sums[0]);
  writeRow(rows, i + 1u, p, skip, sums[1]);
  writeRow(rows, i + 2u, p, skip, sums[2]);
  writeRow(rows, i + 3u, p, skip, sums[3]);
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tileRows = THREADS_M * THREAD_ROWS;
  let tileColumns = THREADS_N * THREAD_COLUMNS;
  let across = (params.headDim + tileColumns - 1u) / tileColumns;
  let i0 = workgroup.x / across * tileRows;
  let p0 = workgroup.x % across * tileColumns;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let chunk = workgroup.z % params.chunks;
  var first = workgroup.z / params.chunks * params.length + chunk * params.chunkLength;
  var valid = min(params.chunkLength, params.length - chunk * params.chunkLength);
  if (PACKED) {
    first = u32(steps[params.table + 2u * workgroup.z]);
    valid = u32(steps[params.table + 2u * workgroup.z + 1u]);
  }
  if (i0 >= valid) { return; }

  let sequence = workgroup.z * params.heads + head;
  let q = params.chunkLength;
  let invocations = THREADS_M * THREADS_N;
  for (var part = 0u; part < (q + invocations - 1u) / invocations; part++) {
    let k = part * invocations + local;
    let step = sequence * 3u * q + k;
    if (k < q) {
      dt[k] = steps[step];
      cs[k] = vec2(steps[step + q], steps[step + 2u * q]);
    }
  }

  workgroupBarrier();

  // Both products go through one loop. First what entered the chunk, 16 values of N at a time (nothing enters the first
  // one unless a state was given), then the chunk's own tokens up to the tile's last row, 16 at a time.
  let columnSlices = select((params.stateSize + TILE_K - 1u) / TILE_K, 0u, chunk < params.firstCarried);
  let slices = columnSlices + (min(valid, i0 + tileRows) + TILE_K - 1u) / TILE_K;
  let rows = Rows(head, first, params.xOffset + first * params.xStride + head * params.headDim, valid);
  let other = invocations - 1u - local;

  // Of C and the state an invocation stages at most one block each: four rows by four values of N.
  let cToken = i0 + local / 4u * 4u;
  let cK = local % 4u * 4u;
  let cStages = local < tileRows;
  let sColumn = p0 + other / 4u * 4u;
  let sK = other % 4u * 4u;
  let sStages = other < tileColumns;
  let cRow = params.cOffset + first * params.cStride + group * params.stateSize;
  let base = sequence * params.headDim;
  let left = left4(decaysOf(cToken));
  // Of scores and x too: four rows by four tokens.
  let xBlock = local % (tileRows / 4u);
  let xK = local / (tileRows / 4u) * 4u;
  let xStages = xK < TILE_K;
  let own = i0 + xBlock * 4u;
  let here = decaysOf(own);
  let scoreRow = (workgroup.z * params.groups + group) * q;
  let wBlock = other % (tileColumns / 4u);
  let wK = other / (tileColumns / 4u) * 4u;
  let wStages = wK < TILE_K;
  let p = p0 + wBlock * 4u;

  let place = placeOf(local);
  let i = i0 + place.x * 4u;
  let lower = 4u * THREADS_M;
  // The last row of the invocations of a subgroup (see placeOf), upper and lower: tokens behind it add nothing.
  let lastUpper = i0 + (place.x | 3u) * 4u + 3u;
  var sums: Sums;
  var xs: mat4x4<f32>;
  var ws: mat4x4<f32>;
  for (var slice = 0u; slice <= slices; slice++) {
    if (slice > 0u) {
      workgroupBarrier();
      if (slice <= columnSlices) {
        if (cStages) { stageX(local / 4u, cK, mat4x4<f32>(xs[0] * left.x, xs[1] * left.y, xs[2] * left.z, xs[3] * left.w)); }
        if (sStages) { stageW(other / 4u, sK, ws); }
      } else {
        if (xStages) {
          let j = (slice - columnSlices - 1u) * TILE_K + xK;
          putX(xBlock, xK, mix4(xs[0], here, own, j));
          putX(xBlock, xK + 1u, mix4(xs[1], here, own, j + 1u));
          putX(xBlock, xK + 2u, mix4(xs[2], here, own, j + 2u));
          putX(xBlock, xK + 3u, mix4(xs[3], here, own, j + 3u));
        }
        if (wStages) {
          putW(wBlock, wK, ws[0]);
          putW(wBlock, wK + 1u, ws[1]);
          putW(wBlock, wK + 2u, ws[2]);
          putW(wBlock, wK + 3u, ws[3]);
        }
      }
      workgroupBarrier();
    }
    if (slice < columnSlices) {
      let n = slice * TILE_K;
      if (cStages) {
        xs = mat4x4<f32>(loadC(cRow, n + cK, cToken, valid), loadC(cRow, n + cK, cToken + 1u, valid), loadC(cRow, n + cK, cToken + 2u, valid), loadC(cRow, n + cK, cToken + 3u, valid));
      }
      if (sStages) {
        ws = mat4x4<f32>(loadState(base, n + sK, sColumn), loadState(base, n + sK, sColumn + 1u), loadState(base, n + sK, sColumn + 2u), loadState(base, n + sK, sColumn + 3u));
      }
    } else if (slice < slices) {
      let j0 = (slice - columnSlices) * TILE_K;
      if (xStages) {
        let j = j0 + xK;
        xs = mat4x4<f32>();
        // Blocks above the diagonal are not defined; j is inside the chunk, which is a multiple of 16 long.
        if (own + 3u >= j && own < q) {
          let at = ((scoreRow + j) * q + own) / 4u;
          xs = mat4x4<f32>(scores[at], scores[at + q / 4u], scores[at + q / 2u], scores[at + 3u * q / 4u]);
        }
      }
      if (wStages) {
        let j = j0 + wK;
        ws = mat4x4<f32>(loadX(rows.x, p, j, valid), loadX(rows.x, p, j + 1u, valid), loadX(rows.x, p, j + 2u, valid), loadX(rows.x, p, j + 3u, valid));
      }
    }
    if (slice > 0u) {
      // The first of the slice's own tokens.
      let j = (max(slice, columnSlices + 1u) - columnSlices - 1u) * TILE_K;
      if (lastUpper >= j) {
        multiplyTiles(&sums, place);
      } else if (THREAD_ROWS == 8u && lastUpper + lower >= j) {
        multiplyLowerTiles(&sums, place);
      }
    }
  }

  let column = p0 + place.y * 4u;
  writeBlock(rows, i, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(rows, i + lower, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(rows, i, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(rows, i + lower, column + 4u * THREADS_N, sums.lowerRight); }
}
