// y[i] = exp(cs[i]) S C[i] + sum_{j <= i} scores[j, i] exp(cs[i] - cs[j]) dt[j] x[j] + D x[i] for the tokens of a chunk
// Longer than most, for two products with their own operands go into one tile of registers.
// Source: Transformers are SSMs, arXiv 2405.21060, listing 1, "Y_diag + Y_off"; the last of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head) and tile of 64 tokens x 64 values of P; see shared/ssd_tile.
// Workgroup memory: 2 * 4 KiB of operands + 3 KiB of dt and cs.
// Barriers: dt and cs before their use; those of multiplyTile around every 16 values of N, then every 16 tokens.
// Requirements: none; the vec4 loads need offsets, strides, P and N in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::ssd_tile::{
  Tile, TILE, DEPTH, QUADS, TILE_INVOCATIONS, tileRow, tileColumn, setLeft, setRight, setLeftTransposed,
  setRightTransposed, multiplyTile, firstOf
};

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
}

override HAS_SKIP: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (B, L, G, N), rows of groups cStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> C: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N), the state that enters each chunk
@if(load_vec4) @group(0) @binding(4) var<storage, read> states: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(4) var<storage, read> states: array<f32>;
// (B, chunks, G, Q, Q), [j, i]
@group(0) @binding(5) var<storage, read> scores: array<vec4<f32>>;
// (H), the skip weight
@group(0) @binding(6) var<storage, read> D: array<f32>;
// (B, L, H, P)
@if(load_vec4) @group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(7) var<storage, read_write> y: array<f32>;

var<workgroup> dt: array<f32, 256>;
var<workgroup> cs: array<vec2<f32>, 256>;

// 4 values from column `column` of a row that begins at `row` and has `width` of them; zeros beyond.
fn loadX(row: u32, column: u32, width: u32) -> vec4<f32> {
  if (column >= width) { return vec4(0.0); }
  let at = row + column;
  @if(load_vec4) { return x[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(width - column - 1u));
    return firstOf(vec4(x[at], x[next.x], x[next.y], x[next.z]), width - column);
  }
}

// 4 values from column n of a token's row; zeros beyond the row and beyond the sequence.
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

// exp(cs[i]): what is left at token i of the state that entered. Rows past the chunk are not stored.
fn decayTo(i: u32) -> f32 {
  let sum = cs[min(i, params.chunkLength - 1u)];
  return exp(min(sum.x + sum.y, 0.0));
}

// Both parts of cs of tokens i .. i + 3.
struct Sums {
  coarse: vec4<f32>,
  fine: vec4<f32>,
}

// Scores of tokens i .. i + 3 on token j, times the decay between them and dt[j]; 0 where j > i.
fn mix4(score: vec4<f32>, here: Sums, i: u32, j: u32) -> vec4<f32> {
  let there = cs[j];
  // Differences, never quotients of exponentials, which overflow.
  let weight = exp(min((here.coarse - there.x) + (here.fine - there.y), vec4(0.0))) * dt[j];
  let at = vec4<u32>(i, i + 1u, i + 2u, i + 3u);
  return select(vec4(0.0), score * weight, at >= vec4<u32>(j));
}

// Row i of the chunk, 4 values of P from p: adds the skip and stores.
fn storeY(row: Row, i: u32, p: u32, value: vec4<f32>) {
  if (i >= row.valid || p >= params.headDim) { return; }
  let token = row.token + i;
  var sum = value;
  if (HAS_SKIP) { sum += row.skip * loadX(row.x + i * params.xStride, p, params.headDim); }
  let at = (token * params.heads + row.head) * params.headDim + p;
  @if(load_vec4) { y[at / 4u] = sum; }
  @if(load_scalar) {
    for (var k = 0u; k < min(4u, params.headDim - p); k++) { y[at + k] = sum[k]; }
  }
}

// What the rows of a tile have in common.
struct Row {
  head: u32,
  // Row of the chunk's first token in (B * L), and where its x begins.
  token: u32,
  x: u32,
  valid: u32,
  skip: f32,
}

@compute @workgroup_size(TILE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let columnTiles = (params.headDim + TILE - 1u) / TILE;
  let i0 = (workgroup.x / columnTiles) * TILE;
  let p0 = (workgroup.x % columnTiles) * TILE;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let batch = workgroup.z / params.chunks;
  let chunk = workgroup.z % params.chunks;
  let start = chunk * params.chunkLength;
  let valid = min(params.chunkLength, params.length - start);
  if (i0 >= valid) { return; }

  let sequence = workgroup.z * params.heads + head;
  let q = params.chunkLength;
  for (var part = 0u; part < 2u; part++) {
    let k = part * TILE_INVOCATIONS + local;
    let step = sequence * 3u * q + k;
    if (k < q) {
      dt[k] = steps[step];
      cs[k] = vec2(steps[step + q], steps[step + 2u * q]);
    }
  }
  workgroupBarrier();

  var tile: Tile;
  let first = batch * params.length;
  // What entered the chunk; nothing enters the first one unless a state was given.
  if (chunk >= params.firstCarried) {
    let cRow = params.cOffset + first * params.cStride + group * params.stateSize;
    // The first 64 invocations stage C, the others the state: each a block of 4 rows by 4 values of N.
    let block = local % 64u;
    let quad = block % QUADS;
    let inner = (block / QUADS) * 4u;
    let slices = (params.stateSize + DEPTH - 1u) / DEPTH;
    for (var slice = 0u; slice < slices; slice++) {
      let n = slice * DEPTH + inner;
      if (local < 64u) {
        let t = start + i0 + quad * 4u;
        setLeftTransposed(inner, quad, loadC(cRow, n, t), loadC(cRow, n, t + 1u), loadC(cRow, n, t + 2u), loadC(cRow, n, t + 3u));
      } else {
        let p = p0 + quad * 4u;
        let base = sequence * params.headDim;
        setRightTransposed(inner, quad, loadState(base, n, p), loadState(base, n, p + 1u), loadState(base, n, p + 2u), loadState(base, n, p + 3u));
      }
      multiplyTile(&tile, local);
    }
    tile.r0 *= decayTo(i0 + tileRow(local, 0u));
    tile.r1 *= decayTo(i0 + tileRow(local, 1u));
    tile.r2 *= decayTo(i0 + tileRow(local, 2u));
    tile.r3 *= decayTo(i0 + tileRow(local, 3u));
    tile.r4 *= decayTo(i0 + tileRow(local, 4u));
    tile.r5 *= decayTo(i0 + tileRow(local, 5u));
    tile.r6 *= decayTo(i0 + tileRow(local, 6u));
    tile.r7 *= decayTo(i0 + tileRow(local, 7u));
  }

  // The chunk's own tokens, up to the tile's last row.
  let xRow = params.xOffset + (first + start) * params.xStride + head * params.headDim;
  let scoreRow = (workgroup.z * params.groups + group) * params.chunkLength;
  let quad = local % QUADS;
  let i = i0 + quad * 4u;
  // Chunks are multiples of 16 long: four tokens lie inside one together or not at all.
  let own = min(i, q - 4u);
  let here = Sums(
    vec4(cs[own].x, cs[own + 1u].x, cs[own + 2u].x, cs[own + 3u].x),
    vec4(cs[own].y, cs[own + 1u].y, cs[own + 2u].y, cs[own + 3u].y),
  );
  let slices = (min(valid, i0 + TILE) + DEPTH - 1u) / DEPTH;
  for (var slice = 0u; slice < slices; slice++) {
    for (var part = 0u; part < 2u; part++) {
      let inner = part * 8u + local / QUADS;
      let j = slice * DEPTH + inner;
      var mixed = vec4(0.0);
      var xs = vec4(0.0);
      if (j < valid) {
        if (i + 3u >= j && i < q) { mixed = mix4(scores[((scoreRow + j) * q + i) / 4u], here, i, j); }
        xs = loadX(xRow + j * params.xStride, p0 + quad * 4u, params.headDim);
      }
      setLeft(inner, quad, mixed);
      setRight(inner, quad, xs);
    }
    multiplyTile(&tile, local);
  }

  var row = Row(head, first + start, xRow, valid, 0.0);
  if (HAS_SKIP) { row.skip = D[head]; }
  let p = p0 + tileColumn(local);
  storeY(row, i0 + tileRow(local, 0u), p, tile.r0);
  storeY(row, i0 + tileRow(local, 1u), p, tile.r1);
  storeY(row, i0 + tileRow(local, 2u), p, tile.r2);
  storeY(row, i0 + tileRow(local, 3u), p, tile.r3);
  storeY(row, i0 + tileRow(local, 4u), p, tile.r4);
  storeY(row, i0 + tileRow(local, 5u), p, tile.r5);
  storeY(row, i0 + tileRow(local, 6u), p, tile.r6);
  storeY(row, i0 + tileRow(local, 7u), p, tile.r7);
}
