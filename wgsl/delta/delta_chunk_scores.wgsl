// scores[0, j, i] = k[j] . k[i] and scores[1, j, i] = k[j] . q[i] for the tokens of one chunk; factors of unit length
// Source: Gated Delta Networks, arXiv 2412.06464, section 3.3; the second of the passes of gatedDeltaRule.
// Work: one workgroup a (batch, chunk, key head) and product, a 64 x 64 tile; see shared/square_tile.
// Workgroup memory: 2 * 4 KiB of operands + 1 KiB of sums of squares.
// Barriers: those of multiplyTile around every 16 values of K; the sums before their total.
// Requirements: none; the vec4 loads need offsets and strides in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::square_tile::{
  Tile, TILE, DEPTH, QUADS, TILE_INVOCATIONS, tileRow, tileColumn, setLeftTransposed, setRightTransposed, multiplyTile
};

struct Params {
  length: u32,
  chunks: u32,
  heads: u32,
  // K
  keyDim: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  // 1 where rows are made of unit length.
  unit: u32,
  scale: f32,
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hk, K), rows of heads qStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, L, Hk, K), rows of heads kStride apart
@if(load_vec4) @group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> k: array<f32>;
// (B, chunks, Hk, 2, 64, 64), [j, i]
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<f32>>;
// (B, chunks, Hk, 2, 64): what makes k[i] of unit length; what makes q[i] so, times scale
@group(0) @binding(4) var<storage, read_write> norms: array<vec4<f32>>;

// [inner quad][token / 4]
var<workgroup> squares: array<vec4<f32>, 64>;

// 4 values of a token's row from column n; zeros beyond the row and beyond the sequence. K is a multiple of 4.
fn loadK(row: u32, n: u32, token: u32) -> vec4<f32> {
  if (n >= params.keyDim || token >= params.length) { return vec4(0.0); }
  let at = row + token * params.kStride + n;
  @if(load_vec4) { return k[at / 4u]; }
  @if(load_scalar) { return vec4(k[at], k[at + 1u], k[at + 2u], k[at + 3u]); }
}

fn loadQ(row: u32, n: u32, token: u32) -> vec4<f32> {
  if (n >= params.keyDim || token >= params.length) { return vec4(0.0); }
  let at = row + token * params.qStride + n;
  @if(load_vec4) { return q[at / 4u]; }
  @if(load_scalar) { return vec4(q[at], q[at + 1u], q[at + 2u], q[at + 3u]); }
}

fn storeScores(base: u32, j: u32, i: u32, value: vec4<f32>) {
  scores[((base + j) * TILE + i) / 4u] = value;
}

@compute @workgroup_size(TILE_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let queries = workgroup.x == 1u;
  let head = workgroup.y;
  let first = (workgroup.z / params.chunks) * params.length;
  let start = (workgroup.z % params.chunks) * TILE;
  let qRow = params.qOffset + first * params.qStride + head * params.keyDim;
  let kRow = params.kOffset + first * params.kStride + head * params.keyDim;

  var tile: Tile;
  // The first 64 invocations stage the rows j, the others the columns i: each a block of 4 tokens by 4 values of K.
  let quad = local % QUADS;
  let inner = ((local % 64u) / QUADS) * 4u;
  let t = start + quad * 4u;
  var square = vec4(0.0);
  let slices = (params.keyDim + DEPTH - 1u) / DEPTH;
  for (var slice = 0u; slice < slices; slice++) {
    let n = slice * DEPTH + inner;
    if (local < 64u) {
      setLeftTransposed(inner, quad, loadK(kRow, n, t), loadK(kRow, n, t + 1u), loadK(kRow, n, t + 2u), loadK(kRow, n, t + 3u));
    } else {
      var v0 = vec4(0.0);
      var v1 = vec4(0.0);
      var v2 = vec4(0.0);
      var v3 = vec4(0.0);
      if (queries) {
        v0 = loadQ(qRow, n, t);
        v1 = loadQ(qRow, n, t + 1u);
        v2 = loadQ(qRow, n, t + 2u);
        v3 = loadQ(qRow, n, t + 3u);
      } else {
        v0 = loadK(kRow, n, t);
        v1 = loadK(kRow, n, t + 1u);
        v2 = loadK(kRow, n, t + 2u);
        v3 = loadK(kRow, n, t + 3u);
      }
      square += vec4(dot(v0, v0), dot(v1, v1), dot(v2, v2), dot(v3, v3));
      setRightTransposed(inner, quad, v0, v1, v2, v3);
    }
    multiplyTile(&tile, local);
  }

  let pair = (workgroup.z * params.heads + head) * 2u + workgroup.x;
  let base = pair * TILE;
  let i = tileColumn(local);
  storeScores(base, tileRow(local, 0u), i, tile.r0);
  storeScores(base, tileRow(local, 1u), i, tile.r1);
  storeScores(base, tileRow(local, 2u), i, tile.r2);
  storeScores(base, tileRow(local, 3u), i, tile.r3);
  storeScores(base, tileRow(local, 4u), i, tile.r4);
  storeScores(base, tileRow(local, 5u), i, tile.r5);
  storeScores(base, tileRow(local, 6u), i, tile.r6);
  storeScores(base, tileRow(local, 7u), i, tile.r7);

  if (local >= 64u) { squares[local - 64u] = square; }
  workgroupBarrier();
  if (local < QUADS) {
    var factor = vec4(1.0);
    if (params.unit == 1u) {
      let total = squares[local] + squares[local + 16u] + squares[local + 32u] + squares[local + 48u];
      factor = inverseSqrt(total + params.eps);
    }
    if (queries) { factor *= params.scale; }
    norms[pair * QUADS + local] = factor;
  }
}
