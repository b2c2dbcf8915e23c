// For each chunk in turn: y[i] = (exp(cs[i]) S C[i] + sum_{j <= i} scores[j, i] exp(cs[i] - cs[j]) dt[j] x[j] + D x[i])
//   silu(z[i]); S = exp(cs[last]) S + sum_k exp(cs[last] - cs[k]) dt[k] x[k] B[k]^T
// Longer than most, for three products share the state in registers: this is all of the scan but cumsum and scores.
// Source: Transformers are SSMs, arXiv 2405.21060, section 6, in the order of Mamba-3's kernel: no state in memory.
// Work: one workgroup a (sequence, head) and 32 rows of the state, over all chunks of up to 64 tokens. An invocation has
//   4 rows of the state by 4 columns in every 64, and y of 4 tokens by the same 4 rows.
// Workgroup memory: 7 KiB for 16 columns of C and S, then for 8 tokens of scores, x and B (11 KiB for N > 128) + 1 KiB.
// Barriers: before a slice is staged (the last one has been read) and after. The next slice is loaded to registers while
//   this one is multiplied. Requirements: none; the vec4 loads need offsets, strides, P and N in multiples of 4.
//! axis load: vec4 | scalar
import package::shared::activations::silu;
import package::shared::rows::firstOf;

struct Params {
  length: u32,
  chunks: u32,
  // Q, up to 64
  chunkLength: u32,
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
  zOffset: u32,
  zStride: u32,
  stateOffset: u32,
  stateStride: u32,
  // S, and where the table begins in steps (with PACKED).
  sequences: u32,
  table: u32,
}

// Sets of 64 columns of the state: ceil(N / 64).
override SETS: u32 = 2u;
override HAS_STATE: bool = false;
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
// B and C, each (B, L, G, N), rows of groups bStride and cStride apart: one storage, for there are 8 bindings
@if(load_vec4) @group(0) @binding(2) var<storage, read> BC: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(2) var<storage, read> BC: array<f32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step); then the table of ssd_chunk_cumsum
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, G, Q, Q), [j, i]
@group(0) @binding(4) var<storage, read> scores: array<vec4<f32>>;
// (H) or (H, P), the skip weight
@group(0) @binding(5) var<storage, read> D: array<f32>;
// (B, L, H, P), the gate, rows of heads zStride apart
@if(load_vec4) @group(0) @binding(6) var<storage, read> z: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(6) var<storage, read> z: array<f32>;
// (B or S, H, P, N), sequences stateStride apart: before the first token (where HAS_STATE), then after the last
@if(load_vec4) @group(0) @binding(7) var<storage, read_write> state: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(7) var<storage, read_write> state: array<f32>;
// (B, L, H, P)
@if(load_vec4) @group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;
@if(load_scalar) @group(0) @binding(8) var<storage, read_write> y: array<f32>;

// Rows of the state in fours, tokens in fours, and the longest chunk.
const P_QUADS: u32 = 8u;
const T_QUADS: u32 = 16u;
const LONGEST: u32 = 64u;
const INVOCATIONS: u32 = P_QUADS * T_QUADS;
// Columns of the state in a slice of the first product, and the distance between rows of C there: odd, so that tokens
// lie in different banks.
const COLUMNS: u32 = 16u;
const C_STRIDE: u32 = 5u;
// Tokens in a slice of the other two.
const TOKENS: u32 = 8u;

// First product: C as [token % 4][token / 4][n / 4], then S as [n][p / 4]. The others: scores as [j][i / 4], x as
// [j][p / 4], B as [j][n / 4].
var<workgroup> staged: array<vec4<f32>, max(LONGEST * C_STRIDE + COLUMNS * P_QUADS, TOKENS * (T_QUADS + P_QUADS + 16u * SETS))>;
const S_PLACE: u32 = LONGEST * C_STRIDE;
const X_PLACE: u32 = TOKENS * T_QUADS;
const B_PLACE: u32 = X_PLACE + TOKENS * P_QUADS;
var<workgroup> dt: array<f32, LONGEST>;
var<workgroup> cs: array<vec2<f32>, LONGEST>;
// exp(cs[last] - cs[k]) dt[k]
var<workgroup> weights: array<f32, LONGEST>;

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

// 4 values from column n of row `row` of B or C.
fn loadBC(row: u32, n: u32, token: u32, valid: u32) -> vec4<f32> {
  if (n >= params.stateSize || token >= valid) { return vec4(0.0); }
  let at = row + n;
  @if(load_vec4) { return BC[at / 4u]; }
  @if(load_scalar) {
    // Never past the row: the buffer may end there.
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(BC[at], BC[next.x], BC[next.y], BC[next.z]), params.stateSize - n);
  }
}

// 4 values from column n of row p of the state that begins at `base`.
fn loadState(base: u32, p: u32, n: u32) -> vec4<f32> {
  if (n >= params.stateSize || p >= params.headDim) { return vec4(0.0); }
  let at = base + p * params.stateSize + n;
  @if(load_vec4) { return state[at / 4u]; }
  @if(load_scalar) {
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.stateSize - n - 1u));
    return firstOf(vec4(state[at], state[next.x], state[next.y], state[next.z]), params.stateSize - n);
  }
}

fn storeState(base: u32, p: u32, n: u32, value: vec4<f32>) {
  if (n >= params.stateSize || p >= params.headDim) { return; }
  let at = base + p * params.stateSize + n;
  @if(load_vec4) { state[at / 4u] = value; }
  @if(load_scalar) {
    for (var i = 0u; i < min(4u, params.stateSize - n); i++) { state[at + i] = value[i]; }
  }
}

fn storeY(row: u32, p: u32, value: vec4<f32>) {
  if (p >= params.headDim) { return; }
  let at = row + p;
  @if(load_vec4) { y[at / 4u] = value; }
  @if(load_scalar) {
    for (var k = 0u; k < min(4u, params.headDim - p); k++) { y[at + k] = value[k]; }
  }
}

fn gateOf(row: u32, p: u32) -> vec4<f32> {
  if (p >= params.headDim) { return vec4(0.0); }
  let at = row + p;
  @if(load_vec4) { return silu(z[at / 4u]); }
  @if(load_scalar) {
    let next = at + min(vec3<u32>(1u, 2u, 3u), vec3<u32>(params.headDim - p - 1u));
    return silu(vec4(z[at], z[next.x], z[next.y], z[next.z]));
  }
}

// Both parts of cs of tokens i .. i + 3.
struct Decays {
  coarse: vec4<f32>,
  fine: vec4<f32>,
}

// Scores of tokens i .. i + 3 on token j, times the decay between them and dt[j]; 0 where j > i.
fn mix4(score: vec4<f32>, here: Decays, i: u32, j: u32) -> vec4<f32> {
  let there = cs[j];
  // Differences, never quotients of exponentials, which overflow.
  let weight = exp(min((here.coarse - there.x) + (here.fine - there.y), vec4(0.0))) * dt[j];
  return select(vec4(0.0), score * weight, vec4(i) + vec4(0u, 1u, 2u, 3u) >= vec4<u32>(j));
}

// The tokens of a chunk.
struct Tokens {
  first: u32,
  valid: u32,
}

fn tokensOf(sequence: u32, chunk: u32, index: u32) -> Tokens {
  if (PACKED) {
    let at = params.table + 2u * index;
    return Tokens(u32(steps[at]), u32(steps[at + 1u]));
  }
  let start = chunk * params.chunkLength;
  return Tokens(sequence * params.length + start, min(params.chunkLength, params.length - start));
}

// What an invocation has loaded of the steps of a chunk: of one token, and the chunk's last sum.
struct Step {
  dt: f32,
  sum: vec2<f32>,
  total: vec2<f32>,
}

fn loadStep(index: u32, head: u32, local: u32) -> Step {
  let q = params.chunkLength;
  let row = (index * params.heads + head) * 3u * q;
  let at = row + min(local, q - 1u);
  // Tokens past the chunk's end take part in no sum.
  return Step(
    select(0.0, steps[at], local < q),
    vec2(steps[at + q], steps[at + 2u * q]),
    vec2(steps[row + 2u * q - 1u], steps[row + 3u * q - 1u]),
  );
}

// What an invocation has loaded of a slice of tokens: a score, an x and up to four B.
struct Slice {
  score: vec4<f32>,
  x: vec4<f32>,
  b0: vec4<f32>,
  b1: vec4<f32>,
  b2: vec4<f32>,
  b3: vec4<f32>,
}

// Where a chunk's operands begin, and what the invocation loads of them.
struct Rows {
  x: u32,
  b: u32,
  scores: u32,
  xColumn: u32,
  valid: u32,
}

fn loadSlice(rows: Rows, slice: u32, local: u32) -> Slice {
  let j = slice * TOKENS + local / T_QUADS;
  let own = local % T_QUADS * 4u;
  var loaded = Slice();
  // Above the diagonal they are not defined. Chunks are multiples of 16 long: j is inside.
  if (own + 3u >= j && own < params.chunkLength) { loaded.score = scores[((rows.scores + j) * params.chunkLength + own) / 4u]; }
  if (local < TOKENS * P_QUADS) { loaded.x = loadX(rows.x, rows.xColumn, slice * TOKENS + local / P_QUADS, rows.valid); }
  let row = rows.b + j * params.bStride;
  loaded.b0 = loadBC(row, own, j, rows.valid);
  if (SETS > 1u) { loaded.b1 = loadBC(row, own + 64u, j, rows.valid); }
  if (SETS > 2u) { loaded.b2 = loadBC(row, own + 128u, j, rows.valid); }
  if (SETS > 3u) { loaded.b3 = loadBC(row, own + 192u, j, rows.valid); }
  return loaded;
}

// Four columns of the state in a set, rows p .. p + 3 in each vector.
struct Columns {
  n0: vec4<f32>,
  n1: vec4<f32>,
  n2: vec4<f32>,
  n3: vec4<f32>,
}

fn loadColumns(base: u32, p: u32, n: u32) -> Columns {
  let rows = transpose(mat4x4<f32>(loadState(base, p, n), loadState(base, p + 1u, n), loadState(base, p + 2u, n), loadState(base, p + 3u, n)));
  return Columns(rows[0], rows[1], rows[2], rows[3]);
}

fn storeColumns(base: u32, p: u32, n: u32, columns: Columns) {
  let rows = transpose(mat4x4<f32>(columns.n0, columns.n1, columns.n2, columns.n3));
  storeState(base, p, n, rows[0]);
  storeState(base, p + 1u, n, rows[1]);
  storeState(base, p + 2u, n, rows[2]);
  storeState(base, p + 3u, n, rows[3]);
}

fn scaleColumns(columns: ptr<function, Columns>, factor: f32) {
  (*columns).n0 *= factor;
  (*columns).n1 *= factor;
  (*columns).n2 *= factor;
  (*columns).n3 *= factor;
}

fn addColumns(columns: ptr<function, Columns>, values: vec4<f32>, rows: vec4<f32>) {
  (*columns).n0 += values.x * rows;
  (*columns).n1 += values.y * rows;
  (*columns).n2 += values.z * rows;
  (*columns).n3 += values.w * rows;
}

fn stageColumns(place: u32, columns: Columns) {
  staged[place] = columns.n0;
  staged[place + P_QUADS] = columns.n1;
  staged[place + 2u * P_QUADS] = columns.n2;
  staged[place + 3u * P_QUADS] = columns.n3;
}

// What four columns of C and S add to y of one token.
fn across(c: vec4<f32>, s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>) -> vec4<f32> {
  return c.x * s0 + c.y * s1 + c.z * s2 + c.w * s3;
}

@compute @workgroup_size(INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let pQuad = local % P_QUADS;
  let quad = local / P_QUADS;
  let p = (workgroup.x * P_QUADS + pQuad) * 4u;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let q = params.chunkLength;
  var firstChunk = workgroup.z * params.chunks;
  var count = params.chunks;
  if (PACKED) {
    let at = params.table + 2u * (params.chunks + workgroup.z);
    if (workgroup.z == params.sequences) {
      // Tokens behind the last sequence.
      let end = u32(steps[at]);
      for (var slice = 0u; slice < (params.length - end + T_QUADS - 1u) / T_QUADS; slice++) {
        let token = end + slice * T_QUADS + quad;
        if (token < params.length) { storeY((token * params.heads + head) * params.headDim, p, vec4(0.0)); }
      }
      return;
    }
    firstChunk = u32(steps[at]);
    count = u32(steps[at + 1u]);
  }
  let base = params.stateOffset + workgroup.z * params.stateStride + head * params.headDim * params.stateSize;
  let n = quad * 4u;
  var s0: Columns;
  var s1: Columns;
  var s2: Columns;
  var s3: Columns;
  if (HAS_STATE) {
    s0 = loadColumns(base, p, n);
    if (SETS > 1u) { s1 = loadColumns(base, p, n + 64u); }
    if (SETS > 2u) { s2 = loadColumns(base, p, n + 128u); }
    if (SETS > 3u) { s3 = loadColumns(base, p, n + 192u); }
  }
  var skip = vec4(0.0);
  if (HAS_SKIP) {
    skip = vec4(D[head]);
    if (SKIP_ELEMENTS) {
      let at = min(vec4(p) + vec4(0u, 1u, 2u, 3u), vec4(params.headDim - 1u)) + head * params.headDim;
      skip = vec4(D[at.x], D[at.y], D[at.z], D[at.w]);
    }
  }
  // An invocation stages four columns of C of two tokens, 32 apart.
  let cToken = local / 4u;
  let cQuad = local % 4u;
  let cPlace = (cToken % 4u * T_QUADS + cToken / 4u) * C_STRIDE + cQuad;
  let i = quad * 4u;
  let own = local % T_QUADS * 4u;

  // The next chunk's steps and its first slice of C are loaded while this chunk's tokens are multiplied.
  var tokens: Tokens;
  var step: Step;
  var c0: vec4<f32>;
  var c1: vec4<f32>;
  if (count > 0u) {
    tokens = tokensOf(workgroup.z, 0u, firstChunk);
    step = loadStep(firstChunk, head, local);
    if (HAS_STATE) {
      let row = params.cOffset + (tokens.first + cToken) * params.cStride + group * params.stateSize;
      c0 = loadBC(row, cQuad * 4u, cToken, tokens.valid);
      c1 = loadBC(row + 32u * params.cStride, cQuad * 4u, cToken + 32u, tokens.valid);
    }
  }
  for (var chunk = 0u; chunk < count; chunk++) {
    let index = firstChunk + chunk;
    let first = tokens.first;
    let valid = tokens.valid;
    let total = step.total;
    // The last chunk's outputs have read these.
    workgroupBarrier();
    if (local < LONGEST) {
      dt[local] = step.dt;
      cs[local] = step.sum;
      weights[local] = exp(min((total.x - step.sum.x) + (total.y - step.sum.y), 0.0)) * step.dt;
    }
    let rows = Rows(
      params.xOffset + first * params.xStride + head * params.headDim,
      params.bOffset + first * params.bStride + group * params.stateSize,
      (index * params.groups + group) * q,
      (workgroup.x * P_QUADS + local % P_QUADS) * 4u,
      valid,
    );
    var loaded = loadSlice(rows, 0u, local);

    var y0 = vec4(0.0);
    var y1 = vec4(0.0);
    var y2 = vec4(0.0);
    var y3 = vec4(0.0);
    // What entered: C S, in slices of 16 columns. Nothing enters the first chunk unless a state was given.
    if (HAS_STATE || chunk > 0u) {
      let cRow = params.cOffset + (first + cToken) * params.cStride + group * params.stateSize;
      let lowerRow = cRow + 32u * params.cStride;
      let slices = (params.stateSize + COLUMNS - 1u) / COLUMNS;
      for (var slice = 0u; slice < slices; slice++) {
        workgroupBarrier();
        staged[cPlace] = c0;
        // Token + 32 lies 8 quads further on.
        staged[cPlace + 8u * C_STRIDE] = c1;
        // The 16 columns are with a quarter of the invocations.
        if (quad / 4u == slice % 4u) {
          let place = S_PLACE + quad % 4u * 4u * P_QUADS + pQuad;
          let owned = slice / 4u;
          if (owned == 0u) { stageColumns(place, s0); }
          if (SETS > 1u && owned == 1u) { stageColumns(place, s1); }
          if (SETS > 2u && owned == 2u) { stageColumns(place, s2); }
          if (SETS > 3u && owned == 3u) { stageColumns(place, s3); }
        }
        workgroupBarrier();
        let nextColumn = (slice + 1u) * COLUMNS + cQuad * 4u;
        c0 = loadBC(cRow, nextColumn, cToken, valid);
        c1 = loadBC(lowerRow, nextColumn, cToken + 32u, valid);
        for (var k = 0u; k < COLUMNS / 4u; k++) {
          let place = S_PLACE + k * 4u * P_QUADS + pQuad;
          let a0 = staged[place];
          let a1 = staged[place + P_QUADS];
          let a2 = staged[place + 2u * P_QUADS];
          let a3 = staged[place + 3u * P_QUADS];
          y0 += across(staged[quad * C_STRIDE + k], a0, a1, a2, a3);
          y1 += across(staged[(T_QUADS + quad) * C_STRIDE + k], a0, a1, a2, a3);
          y2 += across(staged[(2u * T_QUADS + quad) * C_STRIDE + k], a0, a1, a2, a3);
          y3 += across(staged[(3u * T_QUADS + quad) * C_STRIDE + k], a0, a1, a2, a3);
        }
      }
    } else {
      workgroupBarrier();
    }
    y0 *= exp(min(cs[i].x + cs[i].y, 0.0));
    y1 *= exp(min(cs[i + 1u].x + cs[i + 1u].y, 0.0));
    y2 *= exp(min(cs[i + 2u].x + cs[i + 2u].y, 0.0));
    y3 *= exp(min(cs[i + 3u].x + cs[i + 3u].y, 0.0));
    let kept = exp(min(total.x + total.y, 0.0));
    scaleColumns(&s0, kept);
    if (SETS > 1u) { scaleColumns(&s1, kept); }
    if (SETS > 2u) { scaleColumns(&s2, kept); }
    if (SETS > 3u) { scaleColumns(&s3, kept); }

    if (chunk + 1u < count) {
      tokens = tokensOf(workgroup.z, chunk + 1u, index + 1u);
      step = loadStep(index + 1u, head, local);
      let row = params.cOffset + (tokens.first + cToken) * params.cStride + group * params.stateSize;
      c0 = loadBC(row, cQuad * 4u, cToken, tokens.valid);
      c1 = loadBC(row + 32u * params.cStride, cQuad * 4u, cToken + 32u, tokens.valid);
    }

    // The chunk's own tokens, 8 at a time: what they give to later outputs, and to the state.
    let here = Decays(
      vec4(cs[own].x, cs[own + 1u].x, cs[own + 2u].x, cs[own + 3u].x),
      vec4(cs[own].y, cs[own + 1u].y, cs[own + 2u].y, cs[own + 3u].y),
    );
    let slices = (valid + TOKENS - 1u) / TOKENS;
    for (var slice = 0u; slice < slices; slice++) {
      workgroupBarrier();
      let j = slice * TOKENS + local / T_QUADS;
      let weight = weights[j];
      let place = B_PLACE + local / T_QUADS * 16u * SETS + local % T_QUADS;
      staged[local] = mix4(loaded.score, here, own, j);
      if (local < TOKENS * P_QUADS) { staged[X_PLACE + local] = loaded.x; }
      staged[place] = loaded.b0 * weight;
      if (SETS > 1u) { staged[place + 16u] = loaded.b1 * weight; }
      if (SETS > 2u) { staged[place + 32u] = loaded.b2 * weight; }
      if (SETS > 3u) { staged[place + 48u] = loaded.b3 * weight; }
      workgroupBarrier();
      if (slice + 1u < slices) { loaded = loadSlice(rows, slice + 1u, local); }
      // Tokens behind the last of these four rows give them nothing.
      if (i + 3u >= slice * TOKENS) {
        for (var k = 0u; k < TOKENS; k++) {
          let w = staged[k * T_QUADS + quad];
          let values = staged[X_PLACE + k * P_QUADS + pQuad];
          y0 += w.x * values;
          y1 += w.y * values;
          y2 += w.z * values;
          y3 += w.w * values;
        }
      }
      for (var k = 0u; k < TOKENS; k++) {
        let values = staged[X_PLACE + k * P_QUADS + pQuad];
        let at = B_PLACE + k * 16u * SETS + quad;
        addColumns(&s0, staged[at], values);
        if (SETS > 1u) { addColumns(&s1, staged[at + 16u], values); }
        if (SETS > 2u) { addColumns(&s2, staged[at + 32u], values); }
        if (SETS > 3u) { addColumns(&s3, staged[at + 48u], values); }
      }
    }

    for (var m = 0u; m < 4u; m++) {
      let t = i + m;
      if (t >= valid) { continue; }
      var value = y0;
      if (m == 1u) { value = y1; }
      if (m == 2u) { value = y2; }
      if (m == 3u) { value = y3; }
      if (HAS_SKIP) { value += skip * loadX(rows.x, p, t, valid); }
      if (HAS_GATE) { value *= gateOf(params.zOffset + (first + t) * params.zStride + head * params.headDim, p); }
      if (HAS_PADDING) {
        if (dt[t] < 0.0) { value = vec4(0.0); }
      }
      storeY(((first + t) * params.heads + head) * params.headDim, p, value);
    }
  }

  storeColumns(base, p, n, s0);
  if (SETS > 1u) { storeColumns(base, p, n + 64u, s1); }
  if (SETS > 2u) { storeColumns(base, p, n + 128u, s2); }
  if (SETS > 3u) { storeColumns(base, p, n + 192u, s3); }
}
