// For each chunk in turn: r = u - w S; S = exp(cs[last]) S + sum_i exp(cs[last] - cs[i]) k[i] r[i]^T
// Source: Gated Delta Networks, arXiv 2412.06464, section 3.3; the fourth of the passes of gatedDeltaRule.
// Work: one workgroup a (batch, value head) and 4 QUADS columns of V, over all chunks; r takes the place of u.
// Workgroup memory: 16 QUADS (K + 64) + 256 bytes: the state, what is written, and its decay.
// Barriers: two a chunk: the state and the decay are whole before r, and r before the state.
// Requirements: none; the vec4 loads need the offset and the stride of k in multiples of 4.
//! axis memory: large(maxComputeWorkgroupStorageSize>=32768) | baseline
//! axis load: vec4 | scalar
//! constant QUADS
//! constant KEY_DIM

struct Params {
  length: u32,
  chunks: u32,
  // 1 where the sequence begins at zeros: nothing enters its first chunk.
  firstCarried: u32,
  heads: u32,
  // Value heads of a key head, Hv / Hk.
  ratio: u32,
  // V
  valueDim: u32,
  kOffset: u32,
  kStride: u32,
  stateOffset: u32,
  stateStride: u32,
}

const CHUNK: u32 = 64u;
// vec4s of a row of V that one workgroup has.
const QUADS: u32 = 4u;
// K
const KEY_DIM: u32 = 128u;
// Invocations: 32 QUADS, each with 2 tokens and then with 4 rows of the state at a time.
override WORKGROUP_SIZE: u32 = 128u;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hk, K), rows of heads kStride apart
@if(load_vec4) @group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(1) var<storage, read> k: array<f32>;
// (B, chunks, Hv, 64): beta, cs in two parts, 0
@group(0) @binding(2) var<storage, read> gates: array<vec4<f32>>;
// (B, chunks, Hk, 2, 64): factors of k and q
@group(0) @binding(3) var<storage, read> norms: array<f32>;
// (B, chunks, Hv, K, 64)
@group(0) @binding(4) var<storage, read> w: array<vec2<f32>>;
// (B, chunks, Hv, 64, V): u, then r
@group(0) @binding(5) var<storage, read_write> u: array<vec4<f32>>;
// (B, chunks, Hv, K, V): the state that enters each chunk
@group(0) @binding(6) var<storage, read_write> states: array<vec4<f32>>;
// (B, Hv, K, V), sequences stateStride apart: before the first token (where firstCarried is 0), then after the last
@group(0) @binding(7) var<storage, read_write> state: array<vec4<f32>>;

// [row of K][quad of V]
var<workgroup> current: array<vec4<f32>, KEY_DIM * QUADS>;
// r of the chunk, decayed to its last token: [token][quad of V]
var<workgroup> written: array<vec4<f32>, CHUNK * QUADS>;
var<workgroup> decays: array<f32, CHUNK>;

// 4 values of a token's k from column n.
fn loadK(at: u32) -> vec4<f32> {
  @if(load_vec4) { return k[at / 4u]; }
  @if(load_scalar) { return vec4(k[at], k[at + 1u], k[at + 2u], k[at + 3u]); }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let quad = local % QUADS;
  let lane = local / QUADS;
  let column = workgroup.x * QUADS + quad;
  let columns = params.valueDim / 4u;
  let inside = column < columns;
  let head = workgroup.y;
  let batch = workgroup.z;
  let keyHead = head / params.ratio;
  let keyHeads = params.heads / params.ratio;
  let own = (params.stateOffset + batch * params.stateStride + head * KEY_DIM * params.valueDim) / 4u + column;
  // Rows of the state, 4 at a time: the invocation that loads them also adds to them and stores them.
  let parts = (KEY_DIM + 127u) / 128u;
  for (var part = 0u; part < 4u * parts; part++) {
    let row = (part / 4u * 32u + lane) * 4u + part % 4u;
    if (row < KEY_DIM) {
      var value = vec4(0.0);
      if (inside && params.firstCarried == 0u) { value = state[own + row * columns]; }
      current[row * QUADS + quad] = value;
    }
  }

  for (var chunk = 0u; chunk < params.chunks; chunk++) {
    let sequence = (batch * params.chunks + chunk) * params.heads + head;
    let start = chunk * CHUNK;
    // Padding adds nothing to cs, so that its last entry is the whole chunk's, also of a partial one.
    let last = gates[sequence * CHUNK + CHUNK - 1u].yz;
    if (local < CHUNK) {
      let sum = last - gates[sequence * CHUNK + local].yz;
      let norm = norms[((batch * params.chunks + chunk) * keyHeads + keyHead) * 2u * CHUNK + local];
      decays[local] = norm * exp(min(sum.x + sum.y, 0.0));
    }
    // Nothing reads what enters the first chunk where that is zeros.
    if (inside && chunk >= params.firstCarried) {
      for (var part = 0u; part < 4u * parts; part++) {
        let row = (part / 4u * 32u + lane) * 4u + part % 4u;
        if (row < KEY_DIM) { states[(sequence * KEY_DIM + row) * columns + column] = current[row * QUADS + quad]; }
      }
    }
    workgroupBarrier();

    // Tokens 2 lane and 2 lane + 1.
    var r0 = vec4(0.0);
    var r1 = vec4(0.0);
    let rows = (sequence * CHUNK + 2u * lane) * columns + column;
    if (inside) {
      r0 = u[rows];
      r1 = u[rows + columns];
    }
    let wRow = sequence * KEY_DIM * 32u + lane;
    for (var n = 0u; n < KEY_DIM / 4u; n++) {
      let at = wRow + n * 128u;
      let s = n * 4u * QUADS + quad;
      let w0 = w[at];
      let w1 = w[at + 32u];
      let w2 = w[at + 64u];
      let w3 = w[at + 96u];
      let s0 = current[s];
      let s1 = current[s + QUADS];
      let s2 = current[s + 2u * QUADS];
      let s3 = current[s + 3u * QUADS];
      r0 -= w0.x * s0 + w1.x * s1 + w2.x * s2 + w3.x * s3;
      r1 -= w0.y * s0 + w1.y * s1 + w2.y * s2 + w3.y * s3;
    }
    if (inside) {
      u[rows] = r0;
      u[rows + columns] = r1;
    }
    written[2u * lane * QUADS + quad] = r0 * decays[2u * lane];
    written[(2u * lane + 1u) * QUADS + quad] = r1 * decays[2u * lane + 1u];
    workgroupBarrier();

    let total = exp(min(last.x + last.y, 0.0));
    let valid = min(CHUNK, params.length - start);
    let kRow = params.kOffset + (batch * params.length + start) * params.kStride + keyHead * KEY_DIM;
    for (var part = 0u; part < parts; part++) {
      let row = (part * 32u + lane) * 4u;
      if (row < KEY_DIM) {
        var sum0 = vec4(0.0);
        var sum1 = vec4(0.0);
        var sum2 = vec4(0.0);
        var sum3 = vec4(0.0);
        for (var i = 0u; i < valid; i++) {
          let keys = loadK(kRow + i * params.kStride + row);
          let values = written[i * QUADS + quad];
          sum0 += keys.x * values;
          sum1 += keys.y * values;
          sum2 += keys.z * values;
          sum3 += keys.w * values;
        }
        let s = row * QUADS + quad;
        current[s] = total * current[s] + sum0;
        current[s + QUADS] = total * current[s + QUADS] + sum1;
        current[s + 2u * QUADS] = total * current[s + 2u * QUADS] + sum2;
        current[s + 3u * QUADS] = total * current[s + 3u * QUADS] + sum3;
      }
    }
  }

  if (inside) {
    for (var part = 0u; part < 4u * parts; part++) {
      let row = (part / 4u * 32u + lane) * 4u + part % 4u;
      if (row < KEY_DIM) { state[own + row * columns] = current[row * QUADS + quad]; }
    }
  }
}
