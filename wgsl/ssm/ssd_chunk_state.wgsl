// S[c, h] = sum_k exp(cs[last] - cs[k]) dt[k] x[k] B[k]^T over the tokens k of chunk c: what it adds to the state
// Source: Transformers are SSMs, arXiv 2405.21060, listing 1, "states"; the second of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head) and 64 x 64 tile of (P, N); see shared/ssd_tile.
// Workgroup memory: 2 * 4 KiB of operands + 1 KiB of token weights.
// Barriers: the weights before their use; those of multiplyTile around every 16 tokens.
// Requirements: none; the vec4 loads need offsets, strides, P and N in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::ssd_tile::{
  Tile, TILE, DEPTH, QUADS, TILE_INVOCATIONS, tileRow, tileColumn, setLeft, setRight, multiplyTile, firstOf
};

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
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (B, L, G, N), rows of groups bStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> B: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> B: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N)
@if(load_vec4) @group(0) @binding(4) var<storage, read_write> states: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(4) var<storage, read_write> states: array<f32>;

var<workgroup> weights: array<f32, 256>;

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

fn loadB(row: u32, column: u32, width: u32) -> vec4<f32> {
  if (column >= width) { return vec4(0.0); }
  let at = row + column;
  @if(load_vec4) { return B[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(width - column - 1u));
    return firstOf(vec4(B[at], B[next.x], B[next.y], B[next.z]), width - column);
  }
}

fn storeState(row: u32, n: u32, base: u32, value: vec4<f32>) {
  if (row >= params.headDim || n >= params.stateSize) { return; }
  let at = (base + row) * params.stateSize + n;
  @if(load_vec4) { states[at / 4u] = value; }
  @if(load_scalar) {
    for (var i = 0u; i < min(4u, params.stateSize - n); i++) { states[at + i] = value[i]; }
  }
}

@compute @workgroup_size(TILE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let columnTiles = (params.stateSize + TILE - 1u) / TILE;
  let p0 = (workgroup.x / columnTiles) * TILE;
  let n0 = (workgroup.x % columnTiles) * TILE;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let batch = workgroup.z / params.chunks;
  let start = (workgroup.z % params.chunks) * params.chunkLength;
  let valid = min(params.chunkLength, params.length - start);
  let sequence = workgroup.z * params.heads + head;

  let q = params.chunkLength;
  let step = sequence * 3u * q;
  for (var i = 0u; i < 2u; i++) {
    let k = i * TILE_INVOCATIONS + local;
    if (k < q) {
      let coarse = steps[step + 2u * q - 1u] - steps[step + q + k];
      let fine = steps[step + 3u * q - 1u] - steps[step + 2u * q + k];
      weights[k] = exp(min(coarse + fine, 0.0)) * steps[step + k];
    }
  }
  workgroupBarrier();

  var tile: Tile;
  let quad = local % QUADS;
  let slices = (valid + DEPTH - 1u) / DEPTH;
  for (var slice = 0u; slice < slices; slice++) {
    for (var i = 0u; i < 2u; i++) {
      let inner = i * 8u + local / QUADS;
      let k = slice * DEPTH + inner;
      var xs = vec4(0.0);
      var bs = vec4(0.0);
      if (k < valid) {
        let token = batch * params.length + start + k;
        let xRow = params.xOffset + token * params.xStride + head * params.headDim;
        let bRow = params.bOffset + token * params.bStride + group * params.stateSize;
        xs = loadX(xRow, p0 + quad * 4u, params.headDim) * weights[k];
        bs = loadB(bRow, n0 + quad * 4u, params.stateSize);
      }
      setLeft(inner, quad, xs);
      setRight(inner, quad, bs);
    }
    multiplyTile(&tile, local);
  }

  let base = sequence * params.headDim;
  let n = n0 + tileColumn(local);
  storeState(p0 + tileRow(local, 0u), n, base, tile.r0);
  storeState(p0 + tileRow(local, 1u), n, base, tile.r1);
  storeState(p0 + tileRow(local, 2u), n, base, tile.r2);
  storeState(p0 + tileRow(local, 3u), n, base, tile.r3);
  storeState(p0 + tileRow(local, 4u), n, base, tile.r4);
  storeState(p0 + tileRow(local, 5u), n, base, tile.r5);
  storeState(p0 + tileRow(local, 6u), n, base, tile.r6);
  storeState(p0 + tileRow(local, 7u), n, base, tile.r7);
}
