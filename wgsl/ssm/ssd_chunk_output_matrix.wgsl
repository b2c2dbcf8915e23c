// y[i] = exp(cs[i]) S C[i] + sum_{j <= i} scores[j, i] exp(cs[i] - cs[j]) dt[j] x[j] + D x[i], then y *= silu(z)
// Longer than most, as ssm/ssd_chunk_output: two products go into one set of sums.
// Source: as there. Numbers: decayed C and scores, S and x are rounded to f16 for the products, sums are f32.
// Work: one workgroup a (batch, chunk, head) and tile of 128 tokens x 64 values of P; see shared/ssd_matrix.
// Workgroup memory: 27 KiB of operands + 3 KiB of dt and cs.
// Barriers: around the staging of every 64 values of N or tokens, which are loaded to registers while the ones before
//   are multiplied, and around every strip of sums at the end.
// Requirements: f16 matrix units with f32 results and subgroups of 32; P, N and Q in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::activations::silu;
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, WIDE, FOUR, staged, Sums, Units, stageUnit, stageUnits, multiplyAlongRows,
  multiplyAcrossRows
};
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

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
}

override HAS_SKIP: bool = false;
// D has a value for every element of a head, not one for the head.
override SKIP_ELEMENTS: bool = false;
override HAS_GATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (B, L, G, N), rows of groups cStride apart
@group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N), the state that enters each chunk
@group(0) @binding(4) var<storage, read> states: array<vec4<f32>>;
// (B, chunks, G, Q, Q), [j, i]
@group(0) @binding(5) var<storage, read> scores: array<vec4<f32>>;
// (H) or (H, P), the skip weight
@group(0) @binding(6) var<storage, read> D: array<f32>;
// (B, L, H, P), rows of heads zStride apart
@group(0) @binding(7) var<storage, read> z: array<vec4<f32>>;
// (B, L, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> dt: array<f32, 256>;
var<workgroup> cs: array<vec2<f32>, 256>;

const TILE_I: u32 = 128u;
const TILE_P: u32 = 64u;
// The first unit of the state, and of x.
const STATE_UNITS: u32 = TILE_I * NARROW;
const X_UNITS: u32 = SLAB * WIDE;
// Sums are shown 16 rows of a subgroup at a time, with a vector of padding each.
const SHOWN: u32 = 17u;

// Both parts of cs of four tokens.
struct Decays {
  coarse: vec4<f32>,
  fine: vec4<f32>,
}

fn decaysFrom(i: u32) -> Decays {
  return Decays(vec4(cs[i].x, cs[i + 1u].x, cs[i + 2u].x, cs[i + 3u].x), vec4(cs[i].y, cs[i + 1u].y, cs[i + 2u].y, cs[i + 3u].y));
}

// Scores of tokens i .. i + 3 on token j, times the decay between them and dt[j]; 0 where j > i.
fn mix4(score: vec4<f32>, here: Decays, i: u32, j: u32) -> vec4<f32> {
  let there = cs[j];
  // Differences, never quotients of exponentials, which overflow.
  let weight = exp(min((here.coarse - there.x) + (here.fine - there.y), vec4(0.0))) * dt[j];
  return select(vec4(0.0), score * weight, vec4<u32>(i, i + 1u, i + 2u, i + 3u) >= vec4<u32>(j));
}

fn loadX(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), mat4x4<f32>(x[at.x + 1u], x[at.y + 1u], x[at.z + 1u], x[at.w + 1u]));
}

fn loadC(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(C[at.x], C[at.y], C[at.z], C[at.w]), mat4x4<f32>(C[at.x + 1u], C[at.y + 1u], C[at.z + 1u], C[at.w + 1u]));
}

fn loadState(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(states[at.x], states[at.y], states[at.z], states[at.w]), mat4x4<f32>(states[at.x + 1u], states[at.y + 1u], states[at.z + 1u], states[at.w + 1u]));
}

fn loadScores(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(scores[at.x], scores[at.y], scores[at.z], scores[at.w]), mat4x4<f32>(scores[at.x + 1u], scores[at.y + 1u], scores[at.z + 1u], scores[at.w + 1u]));
}

// Rows i of C times what is left there of the state that entered.
fn stageDecayed(at: vec4<u32>, units: Units, i: vec4<u32>) {
  let sums = mat4x2<f32>(cs[i.x], cs[i.y], cs[i.z], cs[i.w]);
  let w = exp(min(vec4(sums[0].x + sums[0].y, sums[1].x + sums[1].y, sums[2].x + sums[2].y, sums[3].x + sums[3].y), vec4(0.0)));
  stageUnit(at.x, units.low[0] * w.x, units.high[0] * w.x);
  stageUnit(at.y, units.low[1] * w.y, units.high[1] * w.y);
  stageUnit(at.z, units.low[2] * w.z, units.high[2] * w.z);
  stageUnit(at.w, units.low[3] * w.w, units.high[3] * w.w);
}

// Rows j of scores from token i on, mixed.
fn stageMixed(at: vec4<u32>, units: Units, low: Decays, high: Decays, i: u32, j: vec4<u32>) {
  for (var n = 0u; n < 4u; n++) {
    stageUnit(at[n], mix4(units.low[n], low, i, j[n]), mix4(units.high[n], high, i + 4u, j[n]));
  }
}

fn show(subgroup: u32, s0: subgroup_matrix_result<f32, 16, 16>, s1: subgroup_matrix_result<f32, 16, 16>, s2: subgroup_matrix_result<f32, 16, 16>, s3: subgroup_matrix_result<f32, 16, 16>) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN, s0, SHOWN);
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN + 4u, s1, SHOWN);
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN + 8u, s2, SHOWN);
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN + 12u, s3, SHOWN);
  workgroupBarrier();
}

// What the rows of a tile have in common.
struct Row {
  head: u32,
  // Row of the chunk's first token in (B * L).
  token: u32,
  valid: u32,
  p0: u32,
}

// What an invocation adds to and multiplies with the eight vectors of a strip that it writes. Loaded before the strip is
// shown: loads do not move across the stores of y by themselves.
struct Ends {
  skips: array<vec4<f32>, 8>,
  gates: array<vec4<f32>, 8>,
}

fn elementOf(row: Row, local: u32) -> u32 {
  return row.head * params.headDim + min(row.p0 + local % 16u * 4u, params.headDim - 4u);
}

fn loadEnds(row: Row, i: u32, local: u32) -> Ends {
  var ends: Ends;
  let element = elementOf(row, local);
  var skip = vec4<f32>();
  if (HAS_SKIP) { skip = vec4<f32>(D[select(row.head, element, SKIP_ELEMENTS)]); }
  if (SKIP_ELEMENTS) { skip = vec4(skip.x, D[element + 1u], D[element + 2u], D[element + 3u]); }
  for (var part = 0u; part < 8u; part++) {
    let token = row.token + min(i + part * 2u + local % 32u / 16u, row.valid - 1u);
    if (HAS_SKIP) { ends.skips[part] = skip * x[(params.xOffset + token * params.xStride + element) / 4u]; }
    if (HAS_GATE) { ends.gates[part] = silu(z[(params.zOffset + token * params.zStride + element) / 4u]); }
  }
  return ends;
}

// Writes the shown strip of a subgroup, whose first row in the chunk is i.
fn writeShown(row: Row, i: u32, local: u32, ends: Ends) {
  let element = elementOf(row, local);
  for (var part = 0u; part < 8u; part++) {
    let m = part * 2u + local % 32u / 16u;
    var value = bitcast<vec4<f32>>(staged[(local / 32u * 16u + m) * SHOWN + local % 16u]);
    if (HAS_SKIP) { value += ends.skips[part]; }
    if (HAS_GATE) { value *= ends.gates[part]; }
    if (i + m < row.valid && row.p0 + local % 16u * 4u < params.headDim) {
      y[((row.token + i + m) * params.heads * params.headDim + element) / 4u] = value;
    }
  }
}

@compute @workgroup_size(MATRIX_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let columnTiles = (params.headDim + TILE_P - 1u) / TILE_P;
  let i0 = (workgroup.x / columnTiles) * TILE_I;
  let p0 = (workgroup.x % columnTiles) * TILE_P;
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
    let k = part * MATRIX_INVOCATIONS + local;
    let step = sequence * 3u * q + k;
    if (k < q) {
      dt[k] = steps[step];
      cs[k] = vec2(steps[step + q], steps[step + 2u * q]);
    }
  }
  workgroupBarrier();

  // First what entered the chunk, in slabs of N, then the chunk's own tokens up to the tile's last row, in slabs of them.
  // Nothing enters the first chunk unless a state was given. Rows past an end repeat the last one: either the other
  // operand is zero there or their sums are not stored.
  let first = batch * params.length + start;
  let subgroup = local / 32u;
  let unit = local % 8u;
  let tokens = local / 8u + FOUR * 16u;
  let end = min(valid, i0 + TILE_I);
  let entered = select(0u, (params.stateSize + SLAB - 1u) / SLAB, chunk >= params.firstCarried);
  let slabs = entered + (end + SLAB - 1u) / SLAB;

  let last = vec4<u32>(valid - 1u);
  let cStart = (params.cOffset + first * params.cStride + group * params.stateSize) / 4u;
  let cRow = cStart + min(i0 + tokens, last) * (params.cStride / 4u);
  let cRowBelow = cStart + min(i0 + tokens + 64u, last) * (params.cStride / 4u);
  let p = min(vec4<u32>(p0) + tokens, vec4<u32>(params.headDim - 1u));
  let stateRow = (sequence * params.headDim + p) * (params.stateSize / 4u);
  let xUnit = min(p0 + unit * 8u, params.headDim - 8u);
  let xStart = (params.xOffset + first * params.xStride + head * params.headDim + xUnit) / 4u;
  let scoreRow = (workgroup.z * params.groups + group) * q;
  // Of the scores of a token, an invocation has those on eight tokens from here on.
  let i = min(i0 + local % 16u * 8u, q - 8u);
  let low = decaysFrom(i);
  let high = decaysFrom(i + 4u);
  let rows = local / 16u + FOUR * 8u;

  var sums: Sums;
  var above: Units;
  var below: Units;
  var right: Units;
  for (var slab = 0u; slab <= slabs; slab++) {
    if (slab > 0u) {
      workgroupBarrier();
      if (slab <= entered) {
        if ((slab - 1u) * SLAB + unit * 8u >= params.stateSize) { right = Units(); }
        stageDecayed(tokens * NARROW + unit, above, min(i0 + tokens, last));
        stageDecayed((tokens + 64u) * NARROW + unit, below, min(i0 + tokens + 64u, last));
        stageUnits(STATE_UNITS + tokens * NARROW + unit, right);
      } else {
        let j = (slab - 1u - entered) * SLAB + rows;
        stageMixed(rows * WIDE + local % 16u, above, low, high, i, j);
        stageMixed((rows + 32u) * WIDE + local % 16u, below, low, high, i, j + 32u);
        stageUnits(X_UNITS + tokens * NARROW + unit, right);
      }
      workgroupBarrier();
    }
    if (slab < entered) {
      let n = min(slab * SLAB + unit * 8u, params.stateSize - 8u) / 4u;
      above = loadC(cRow + n);
      below = loadC(cRowBelow + n);
      right = loadState(stateRow + n);
    } else if (slab < slabs) {
      let j0 = (slab - entered) * SLAB;
      above = loadScores(((scoreRow + min(j0 + rows, vec4<u32>(q - 1u))) * q + i) / 4u);
      below = loadScores(((scoreRow + min(j0 + rows + 32u, vec4<u32>(q - 1u))) * q + i) / 4u);
      right = loadX(xStart + min(j0 + tokens, last) * (params.xStride / 4u));
    }
    if (slab > 0u && slab <= entered) {
      for (var k = 0u; k < SLAB / 8u; k += 2u) {
        multiplyAlongRows(&sums, subgroup * 32u * NARROW + k, STATE_UNITS + k, NARROW);
      }
    }
    // Rows before the slab see nothing of it.
    if (slab > entered && i0 + subgroup * 32u + 31u >= (slab - 1u - entered) * SLAB) {
      for (var k = 0u; k < SLAB / 16u; k++) {
        multiplyAcrossRows(&sums, k * 16u * WIDE + subgroup * 4u, WIDE, X_UNITS + k * 16u * NARROW, NARROW);
      }
    }
  }

  let row = Row(head, first, valid, p0);
  let top = i0 + subgroup * 32u;
  let above16 = loadEnds(row, top, local);
  show(subgroup, sums.s00, sums.s01, sums.s02, sums.s03);
  writeShown(row, top, local, above16);
  let below16 = loadEnds(row, top + 16u, local);
  show(subgroup, sums.s10, sums.s11, sums.s12, sums.s13);
  writeShown(row, top + 16u, local, below16);
}
