// Longer than most shaders, because staging, recurrence and output of a tile share its workgroup memory.
// S = decay S + scale v k^T; y = (S q + rest v) silu(z) over all tokens of a head, with the four of mamba3_scan_rotate
// Source: state-spaces/mamba, mamba3_siso (one program a head walks over its chunks); the last pass of mamba3Scan.
// Work: one workgroup ROWS = WORKGROUP_SIZE / LANES rows of a head's state over all tokens, the state in registers.
// Workgroup memory: TILE (16 + 8 ROWS + 32 VECTORS LANES + 4 WORKGROUP_SIZE) bytes.
// Barriers: between staging a tile and walking over it, and between its partial sums of y and their totals.
// Requirements: none.
//! constant VECTORS
import package::shared::activations::silu;

struct Params {
  length: u32,
  heads: u32,
  headDim: u32,
  stateSize: u32,
  vOffset: u32,
  vStride: u32,
  zOffset: u32,
  zStride: u32,
  stateOffset: u32,
  stateStride: u32,
  kOffset: u32,
  kStride: u32,
  vStateOffset: u32,
  vStateStride: u32,
}

override WORKGROUP_SIZE: u32 = 64u;
// Powers of two: invocations of a row of the state, each 4 * VECTORS values of it, and rows of a workgroup
override LANES: u32 = 8u;
override ROWS: u32 = 8u;
// Tokens of a tile, a multiple of 4
override TILE: u32 = 8u;
const VECTORS: u32 = 4u;
override HAS_STATE: bool = false;
override HAS_GATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L + 1, H, 2, N): rotated queries and keys, N padded to 4 VECTORS LANES with zeros; the first key is of before
@group(0) @binding(1) var<storage, read> qk: array<vec4<f32>>;
// (B, L + 1, H): decay, scale, part of it that the next token brings, what v counts with in y
@group(0) @binding(2) var<storage, read> coefficients: array<vec4<f32>>;
// (B, L, H, P), tokens vStride apart
@group(0) @binding(3) var<storage, read> v: array<f32>;
// (B, L, H, P), tokens zStride apart
@group(0) @binding(4) var<storage, read> z: array<f32>;
// (B, H, P, N), sequences stateStride apart: before the first token (where HAS_STATE), then after the last
@group(0) @binding(5) var<storage, read_write> state: array<f32>;
// (B, H, N), sequences kStride apart: the last key
@group(0) @binding(6) var<storage, read_write> kState: array<f32>;
// (B, H, P), sequences vStateStride apart: the v before the first token (where HAS_STATE), then the last
@group(0) @binding(7) var<storage, read_write> vState: array<f32>;
// (B, L, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

// (TILE, VECTORS * LANES)
var<workgroup> queries: array<vec4<f32>, TILE * VECTORS * LANES>;
var<workgroup> keys: array<vec4<f32>, TILE * VECTORS * LANES>;
// (TILE): zeros but for a decay of 1 beyond the last token
var<workgroup> factors: array<vec4<f32>, TILE>;
// (TILE, ROWS): v and silu(z)
var<workgroup> values: array<vec2<f32>, TILE * ROWS>;
// (TILE, LANES, ROWS): sums of S q over the values of a lane
var<workgroup> partials: array<f32, TILE * WORKGROUP_SIZE>;

// Stages `count` tokens of a head from `token` on, for rows of the state from `first` on.
fn stage(batch: u32, head: u32, token: u32, count: u32, first: u32, local: u32) {
  let entry = (batch * (params.length + 1u) + token + 1u) * params.heads + head;
  if (local < TILE) {
    var factor = vec4<f32>(1.0, 0.0, 0.0, 0.0);
    if (local < count) { factor = coefficients[entry + local * params.heads]; }
    factors[local] = factor;
  }
  for (var round = 0u; round < (TILE * ROWS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    let p = first + at % ROWS;
    var value = vec2<f32>(0.0, 1.0);
    if (at / ROWS < count && p < params.headDim) {
      let row = batch * params.length + token + at / ROWS;
      let column = head * params.headDim + p;
      value.x = v[params.vOffset + row * params.vStride + column];
      if (HAS_GATE) { value.y = silu(vec4<f32>(z[params.zOffset + row * params.zStride + column])).x; }
    }
    if (at < TILE * ROWS) { values[at] = value; }
  }
  let quads = VECTORS * LANES;
  for (var round = 0u; round < (TILE * quads + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let at = round * WORKGROUP_SIZE + local;
    let source = 2u * (entry + min(at / quads, count - 1u) * params.heads) * quads + at % quads;
    if (at < TILE * quads) {
      queries[at] = qk[source];
      keys[at] = qk[source + quads];
    }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.y;
  let batch = workgroup.z;
  let first = workgroup.x * ROWS;
  let lane = local / ROWS;
  let p = first + local % ROWS;
  let inside = p < params.headDim;
  let quads = VECTORS * LANES;
  let ownRow = head * params.headDim + min(p, params.headDim - 1u);
  let stateRow = params.stateOffset + batch * params.stateStride + ownRow * params.stateSize;
  let held = params.vStateOffset + batch * params.vStateStride + head * params.headDim + p;

  var rows = array<vec4<f32>, VECTORS>();
  if (HAS_STATE && inside) {
    // The late part of the key before this call was not yet known then.
    let entry = batch * (params.length + 1u) * params.heads + head;
    let late = coefficients[entry].z * vState[held];
    for (var i = 0u; i < VECTORS; i++) {
      var value = vec4<f32>(0.0);
      for (var j = 0u; j < 4u; j++) {
        let n = (i * LANES + lane) * 4u + j;
        if (n < params.stateSize) { value[j] = state[stateRow + n]; }
      }
      rows[i] = value + late * qk[(2u * entry + 1u) * quads + i * LANES + lane];
    }
  }

  for (var tile = 0u; tile < (params.length + TILE - 1u) / TILE; tile++) {
    let token = tile * TILE;
    let count = min(params.length - token, TILE);
    stage(batch, head, token, count, first, local);
    workgroupBarrier();
    for (var t = 0u; t < TILE; t++) {
      let factor = factors[t];
      let input = factor.y * values[t * ROWS + local % ROWS].x;
      var sums = vec4<f32>(0.0);
      for (var i = 0u; i < VECTORS; i++) {
        let at = (t * VECTORS + i) * LANES + lane;
        let next = factor.x * rows[i] + input * keys[at];
        sums += next * queries[at];
        rows[i] = next;
      }
      partials[t * WORKGROUP_SIZE + local] = dot(sums, vec4<f32>(1.0));
    }
    workgroupBarrier();
    // An invocation ends the values that it staged; only the factors need the barrier before the next tile.
    for (var round = 0u; round < (TILE * ROWS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
      let at = round * WORKGROUP_SIZE + local;
      let t = at / ROWS;
      if (t < count && first + at % ROWS < params.headDim) {
        var total = factors[t].w * values[at].x;
        for (var other = 0u; other < LANES; other++) {
          total += partials[t * WORKGROUP_SIZE + other * ROWS + at % ROWS];
        }
        let row = batch * params.length + token + t;
        y[(row * params.heads + head) * params.headDim + first + at % ROWS] = total * values[at].y;
      }
    }
    workgroupBarrier();
  }

  if (!inside) { return; }
  let last = (batch * (params.length + 1u) + params.length) * params.heads + head;
  let keyRow = params.kOffset + batch * params.kStride + head * params.stateSize;
  if (lane == 0u) {
    let row = batch * params.length + params.length - 1u;
    vState[held] = v[params.vOffset + row * params.vStride + head * params.headDim + p];
  }
  for (var i = 0u; i < VECTORS; i++) {
    for (var j = 0u; j < 4u; j++) {
      let n = (i * LANES + lane) * 4u + j;
      if (n < params.stateSize) {
        state[stateRow + n] = rows[i][j];
        if (p == 0u) { kState[keyRow + n] = qk[(2u * last + 1u) * quads + n / 4u][j]; }
      }
    }
  }
}
