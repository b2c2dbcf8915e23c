// T = (I + A)^-1, A[i, j] = beta[i] k[i] . k[j] exp(cs[i] - cs[j]) for j < i; u = T (beta v), w = T (beta exp(cs) k)
// Longer than most: the inverse stays in workgroup memory between its making and its two uses.
// Source: Gated Delta Networks, arXiv 2412.06464, section 3.3 (WY form); the third of the passes of gatedDeltaRule.
// Work: one workgroup a (batch, chunk, value head): inverts, then makes 64 columns of u or w after another.
// Workgroup memory: 10 KiB of T (10 blocks of 16 x 16) + 4 KiB of operands + 1 KiB of gates.
// Barriers: those of invertBlocks (see shared/unit_triangular); around the operands of every 16 tokens.
// Requirements: none; the vec4 loads need offsets and strides in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::unit_triangular::{blocks, BLOCK, INVERSE_INVOCATIONS, blockAt, invertBlocks};

struct Params {
  length: u32,
  chunks: u32,
  heads: u32,
  // Value heads of a key head, Hv / Hk.
  ratio: u32,
  // K and V
  keyDim: u32,
  valueDim: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
}

const CHUNK: u32 = 64u;
// vec4s of a row of 64.
const QUADS: u32 = 16u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hk, K), rows of heads kStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> k: array<f32>;
// (B, L, Hv, V), rows of heads vStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> v: array<f32>;
// (B, chunks, Hv, 64): beta, cs in two parts, 0
@group(0) @binding(3) var<storage, read> gates: array<vec4<f32>>;
// (B, chunks, Hk, 2, 64): factors of k and q
@group(0) @binding(4) var<storage, read> norms: array<f32>;
// (B, chunks, Hk, 2, 64, 64), [j, i]: the first of each two is k . k
@group(0) @binding(5) var<storage, read> scores: array<vec4<f32>>;
// (B, chunks, Hv, 64, V)
@group(0) @binding(6) var<storage, read_write> u: array<vec4<f32>>;
// (B, chunks, Hv, K, 64): transposed, as the next pass multiplies it
@group(0) @binding(7) var<storage, read_write> w: array<vec4<f32>>;

// [token][column / 4]
var<workgroup> right: array<vec4<f32>, 256>;
// beta, cs in two parts, factor of k
var<workgroup> tokens: array<vec4<f32>, CHUNK>;

// A of tokens i .. i + 3 on token j.
fn system4(score: vec4<f32>, i: u32, j: u32) -> vec4<f32> {
  let there = tokens[j];
  let t0 = tokens[i];
  let t1 = tokens[i + 1u];
  let t2 = tokens[i + 2u];
  let t3 = tokens[i + 3u];
  // Differences, never quotients of exponentials, which overflow.
  let sums = vec4(t0.y, t1.y, t2.y, t3.y) - there.y + (vec4(t0.z, t1.z, t2.z, t3.z) - there.z);
  let weight = vec4(t0.x * t0.w, t1.x * t1.w, t2.x * t2.w, t3.x * t3.w) * there.w * exp(min(sums, vec4(0.0)));
  return select(vec4(0.0), score * weight, vec4(i, i + 1u, i + 2u, i + 3u) > vec4(j));
}

// beta v of token j, or beta exp(cs) k, 4 values from column n; zeros beyond the row and past the end.
fn loadRight(row: u32, keys: bool, n: u32, j: u32) -> vec4<f32> {
  let token = tokens[j];
  if (keys) {
    if (n >= params.keyDim) { return vec4(0.0); }
    let at = row + j * params.kStride + n;
    let factor = token.x * token.w * exp(min(token.y + token.z, 0.0));
    @if(load_vec4) { return factor * k[at / 4u]; }
    @if(load_scalar) { return factor * vec4(k[at], k[at + 1u], k[at + 2u], k[at + 3u]); }
  }
  if (n >= params.valueDim) { return vec4(0.0); }
  let at = row + j * params.vStride + n;
  @if(load_vec4) { return token.x * v[at / 4u]; }
  @if(load_scalar) { return token.x * vec4(v[at], v[at + 1u], v[at + 2u], v[at + 3u]); }
}

// 4 rows x 4 columns of a product.
struct Rows {
  r0: vec4<f32>,
  r1: vec4<f32>,
  r2: vec4<f32>,
  r3: vec4<f32>,
}

// rows += T[I, m] right over the 16 tokens now staged, where `at` is the rows' place in the block.
fn multiplyRows(rows: ptr<function, Rows>, at: u32, column: u32) {
  for (var j = 0u; j < 16u; j++) {
    let values = right[j * QUADS + column];
    let t = blocks[at + j * 4u];
    (*rows).r0 += t.x * values;
    (*rows).r1 += t.y * values;
    (*rows).r2 += t.z * values;
    (*rows).r3 += t.w * values;
  }
}

// Rows i .. i + 3 of u, or columns i .. i + 3 of w, which is transposed.
fn storeRows(sequence: u32, keys: bool, i: u32, n: u32, rows: Rows) {
  if (keys) {
    if (n >= params.keyDim) { return; }
    let at = ((sequence * params.keyDim + n) * CHUNK + i) / 4u;
    w[at] = vec4(rows.r0.x, rows.r1.x, rows.r2.x, rows.r3.x);
    w[at + QUADS] = vec4(rows.r0.y, rows.r1.y, rows.r2.y, rows.r3.y);
    w[at + 2u * QUADS] = vec4(rows.r0.z, rows.r1.z, rows.r2.z, rows.r3.z);
    w[at + 3u * QUADS] = vec4(rows.r0.w, rows.r1.w, rows.r2.w, rows.r3.w);
    return;
  }
  if (n >= params.valueDim) { return; }
  let stride = params.valueDim / 4u;
  let at = (sequence * CHUNK + i) * stride + n / 4u;
  u[at] = rows.r0;
  u[at + stride] = rows.r1;
  u[at + 2u * stride] = rows.r2;
  u[at + 3u * stride] = rows.r3;
}

@compute @workgroup_size(INVERSE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let keyHead = head / params.ratio;
  let keyHeads = params.heads / params.ratio;
  let chunk = workgroup.y % params.chunks;
  let start = chunk * CHUNK;
  let first = (workgroup.y / params.chunks) * params.length + start;
  let valid = min(CHUNK, params.length - start);
  let sequence = workgroup.y * params.heads + head;
  let pair = (workgroup.y * keyHeads + keyHead) * 2u;

  if (local < CHUNK) {
    tokens[local] = vec4(gates[sequence * CHUNK + local].xyz, norms[pair * CHUNK + local]);
  }
  workgroupBarrier();
  // 10 blocks of 64 vec4s, two blocks at a time.
  for (var part = 0u; part < 5u; part++) {
    let block = part * 2u + local / 64u;
    // Blocks in the order (0, 0), (1, 0), (1, 1), (2, 0), ...
    let row = u32(block >= 1u) + u32(block >= 3u) + u32(block >= 6u);
    let column = block - row * (row + 1u) / 2u;
    let i = row * 16u + (local % 4u) * 4u;
    let j = column * 16u + (local % 64u) / 4u;
    blocks[block * BLOCK + local % 64u] = system4(scores[(pair * CHUNK + j) * QUADS + i / 4u], i, j);
  }
  invertBlocks(local);

  // An invocation has rows 4 r .. 4 r + 3 and the same 32 below, in blocks of T `upper` and `upper + 2`.
  let r = local / QUADS;
  let quad = local % QUADS;
  let upper = r / 4u;
  let valueTiles = (params.valueDim + CHUNK - 1u) / CHUNK;
  let tiles = valueTiles + (params.keyDim + CHUNK - 1u) / CHUNK;
  for (var tile = 0u; tile < tiles; tile++) {
    let keys = tile >= valueTiles;
    let n = (tile - select(0u, valueTiles, keys)) * CHUNK + quad * 4u;
    var row = params.vOffset + first * params.vStride + head * params.valueDim;
    if (keys) { row = params.kOffset + first * params.kStride + keyHead * params.keyDim; }
    var above = Rows(vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    var below = Rows(vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    for (var m = 0u; m < 4u; m++) {
      for (var part = 0u; part < 2u; part++) {
        let inner = part * 8u + r;
        let j = m * 16u + inner;
        var value = vec4(0.0);
        if (j < valid) { value = loadRight(row, keys, n, j); }
        right[inner * QUADS + quad] = value;
      }
      workgroupBarrier();
      if (m <= upper) { multiplyRows(&above, blockAt(upper, m) + r % 4u, quad); }
      if (m <= upper + 2u) { multiplyRows(&below, blockAt(upper + 2u, m) + r % 4u, quad); }
      workgroupBarrier();
    }
    storeRows(sequence, keys, r * 4u, n, above);
    storeRows(sequence, keys, 32u + r * 4u, n, below);
  }
}
