// y[i] = exp(cs[i]) S C[i] + sum_{j <= i} scores[j, i] exp(cs[i] - cs[j]) dt[j] x[j] + D x[i], then y *= silu(z)
// Longer than most, as ssm/ssd_chunk_output: two products go into one set of sums.
// Source: as there. Numbers: C, S and scores are f16; decayed C, mixed scores and x are rounded to f16 for the products, sums are f32.
// Work: one workgroup a (batch, chunk, head) and tile of 128 tokens x 64 values of P; see shared/ssd_matrix.
// Workgroup memory: 27 KiB of operands + 2 KiB of dt and cs.
// Barriers: around the staging of every 64 values of N or tokens, which are loaded to registers while the ones before
//   are multiplied, and around every strip of sums that is gated at the end.
// Requirements: f16 matrix units with f32 results and subgroups of 32; P, N and Q in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::activations::silu;
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, WIDE, SHOWN, staged, Sums, Units, tallRows, shortRows, wideRows, unitOf, scaledUnit,
  stageUnits, stageWide, show, multiplyAlongRows, multiplyAcrossRows
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
// (B, L, G, N) f16
@group(0) @binding(2) var<storage, read> C: array<vec4<u32>>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N) f16, the state that enters each chunk
@group(0) @binding(4) var<storage, read> entering: array<vec4<u32>>;
// (B, chunks, G, Q, Q) f16, [j, i]
@group(0) @binding(5) var<storage, read> scores: array<vec4<u32>>;
// (H) or (H, P), the skip weight
@group(0) @binding(6) var<storage, read> D: array<f32>;
// (B, L, H, P), rows of heads zStride apart
@group(0) @binding(7) var<storage, read> z: array<vec4<f32>>;
// (B, L, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> dt: array<f32, 256>;
// In units of log 2. One f32 is enough here: operands have 11 bits.
var<workgroup> cs: array<f32, 256>;

const TILE_I: u32 = 128u;
const TILE_P: u32 = 64u;
// The first unit of the state, and of x.
const STATE_UNITS: u32 = TILE_I * NARROW;
const X_UNITS: u32 = SLAB * WIDE;

const LOG2_E: f32 = 1.4426950408889634;

fn sumsFrom(i: u32) -> vec4<f32> {
  return vec4(cs[i], cs[i + 1u], cs[i + 2u], cs[i + 3u]);
}

// Scores of tokens i .. i + 3 on token j, times the decay between them and dt[j], and `own` more where i = j; 0 where
// j > i. What a token adds to its own output, D x, is one more of its scores.
fn mix4(score: vec4<f32>, here: vec4<f32>, i: u32, j: u32, own: f32) -> vec4<f32> {
  // Differences, never quotients of exponentials, which overflow.
  let weight = exp2(min(here - cs[j], vec4(0.0))) * dt[j];
  let tokens = vec4<u32>(i, i + 1u, i + 2u, i + 3u);
  return select(vec4(0.0), score * weight + select(vec4(0.0), vec4(own), tokens == vec4<u32>(j)), tokens >= vec4<u32>(j));
}

// The same where every i is behind every token of the slab: its decay is one up to the slab's last token, `here` as a
// factor, and one from there on, `there`. Neither is above 1, so that a part that vanishes is one of a sum that does.
fn behindUnit(unit: vec4<u32>, lowHere: vec4<f32>, highHere: vec4<f32>, there: f32) -> vec4<u32> {
  let low = vec4(unpack2x16float(unit.x), unpack2x16float(unit.y));
  let high = vec4(unpack2x16float(unit.z), unpack2x16float(unit.w));
  return unitOf(low * (lowHere * there), high * (highHere * there));
}

fn loadX(at: vec2<u32>) -> Units {
  return Units(bitcast<vec4<u32>>(x[at.x]), bitcast<vec4<u32>>(x[at.x + 1u]), bitcast<vec4<u32>>(x[at.y]), bitcast<vec4<u32>>(x[at.y + 1u]));
}


fn loadC(at: vec4<u32>) -> Units {
  return Units(C[at.x], C[at.y], C[at.z], C[at.w]);
}

fn loadScores(at: vec4<u32>) -> Units {
  return Units(scores[at.x], scores[at.y], scores[at.z], scores[at.w]);
}

// What is left of an entering state at token i.
fn decayOf(i: u32) -> f32 {
  return exp2(min(cs[i], 0.0));
}

// A unit of scores, mixed.
fn mixedUnit(unit: vec4<u32>, lowSums: vec4<f32>, highSums: vec4<f32>, i: u32, j: u32, own: f32) -> vec4<u32> {
  let low = vec4(unpack2x16float(unit.x), unpack2x16float(unit.y));
  let high = vec4(unpack2x16float(unit.z), unpack2x16float(unit.w));
  return unitOf(mix4(low, lowSums, i, j, own), mix4(high, highSums, i + 4u, j, own));
}

// What the rows of a tile have in common.
struct Row {
  head: u32,
  // Row of the chunk's first token in (B * L).
  token: u32,
  valid: u32,
  // The first value of P of the subgroup.
  p0: u32,
}

// Writes the shown strip of a subgroup, whose first row in the chunk is i.
fn writeShown(row: Row, i: u32, local: u32) {
  let p = row.p0 + local % 8u * 4u;
  let element = row.head * params.headDim + min(p, params.headDim - 4u);
  var skip = vec4<f32>();
  if (SKIP_ELEMENTS) { skip = vec4(D[element], D[element + 1u], D[element + 2u], D[element + 3u]); }
  for (var part = 0u; part < 4u; part++) {
    let m = part * 4u + local % 32u / 8u;
    let token = row.token + min(i + m, row.valid - 1u);
    var value = bitcast<vec4<f32>>(staged[(local / 32u * 16u + m) * SHOWN + local % 8u]);
    if (SKIP_ELEMENTS) { value += skip * x[(params.xOffset + token * params.xStride + element) / 4u]; }
    if (HAS_GATE) { value *= silu(z[(params.zOffset + token * params.zStride + element) / 4u]); }
    if (i + m < row.valid && p < params.headDim) {
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

  // First what entered the chunk, in slabs of N, then the chunk's own tokens up to the tile's last row, in slabs of them.
  // Nothing enters the first chunk unless a state was given. Rows past an end repeat the last one: either the other
  // operand is zero there or their sums are not stored.
  let first = batch * params.length + start;
  let sequence = workgroup.z * params.heads + head;
  let q = params.chunkLength;
  let subgroup = local / 32u;
  let unit = local % 8u;
  let end = min(valid, i0 + TILE_I);
  let entered = select(0u, (params.stateSize + SLAB - 1u) / SLAB, chunk >= params.firstCarried);
  let slabs = entered + (end + SLAB - 1u) / SLAB;

  let cRows = min(i0 + tallRows(local), vec4<u32>(valid - 1u));
  let rowUnits = params.groups * params.stateSize / 8u;
  let cStart = first * rowUnits + group * params.stateSize / 8u + cRows * rowUnits;
  let p = min(p0 + shortRows(local), vec2<u32>(params.headDim - 1u));
  let stateStart = (sequence * params.headDim + p) * (params.stateSize / 8u);
  let xUnit = min(p0 + unit * 8u, params.headDim - 8u);
  let xStart = (params.xOffset + first * params.xStride + head * params.headDim + xUnit) / 4u;
  let scoreStart = (workgroup.z * params.groups + group) * q;
  // Of the scores of a token, an invocation has those on eight tokens from here on.
  let i = min(i0 + local % 16u * 8u, q - 8u);

  var sums: Sums;
  var left: Units;
  var right: Units;
  var lowSums: vec4<f32>;
  var highSums: vec4<f32>;
  var own = 0.0;
  if (HAS_SKIP && !SKIP_ELEMENTS) { own = D[head]; }
  for (var slab = 0u; slab <= slabs; slab++) {
    if (slab > 0u) {
      workgroupBarrier();
      if (slab <= entered) {
        if ((slab - 1u) * SLAB + unit * 8u >= params.stateSize) { right = Units(); }
        let decayed = Units(scaledUnit(left.a, decayOf(cRows.x)), scaledUnit(left.b, decayOf(cRows.y)), scaledUnit(left.c, decayOf(cRows.z)), scaledUnit(left.d, decayOf(cRows.w)));
        stageUnits(tallRows(local) * NARROW + unit, decayed);
        let rows = STATE_UNITS + shortRows(local) * NARROW + unit;
        staged[rows.x] = right.a;
        staged[rows.y] = right.b;
      } else {
        let j0 = (slab - 1u - entered) * SLAB;
        let j = j0 + wideRows(local);
        var mixed: Units;
        if (j0 + SLAB <= i0) {
          let last = cs[j0 + SLAB - 1u];
          let lowHere = exp2(min(lowSums - last, vec4(0.0)));
          let highHere = exp2(min(highSums - last, vec4(0.0)));
          let there = exp2(min(last - vec4(cs[j.x], cs[j.y], cs[j.z], cs[j.w]), vec4(0.0))) * vec4(dt[j.x], dt[j.y], dt[j.z], dt[j.w]);
          mixed = Units(
            behindUnit(left.a, lowHere, highHere, there.x),
            behindUnit(left.b, lowHere, highHere, there.y),
            behindUnit(left.c, lowHere, highHere, there.z),
            behindUnit(left.d, lowHere, highHere, there.w),
          );
        } else {
          mixed = Units(
            mixedUnit(left.a, lowSums, highSums, i, j.x, own),
            mixedUnit(left.b, lowSums, highSums, i, j.y, own),
            mixedUnit(left.c, lowSums, highSums, i, j.z, own),
            mixedUnit(left.d, lowSums, highSums, i, j.w, own),
          );
        }
        stageUnits(wideRows(local) * WIDE + local % 16u, mixed);
        stageWide(X_UNITS + shortRows(local) * NARROW + unit, right, vec2(1.0));
      }
      workgroupBarrier();
    }
    if (slab < entered) {
      let n = min(slab * (SLAB / 8u) + unit, params.stateSize / 8u - 1u);
      left = loadC(cStart + n);
      right.a = entering[stateStart.x + n];
      right.b = entering[stateStart.y + n];
    } else if (slab < slabs) {
      let j0 = (slab - entered) * SLAB;
      left = loadScores(((scoreStart + min(j0 + wideRows(local), vec4<u32>(q - 1u))) * q + i) / 8u);
      right = loadX(xStart + min(j0 + shortRows(local), vec2<u32>(valid - 1u)) * (params.xStride / 4u));
    }
    if (slab == 0u) {
      // The first operands are on their way while dt and cs arrive.
      if (local < q) {
        let step = sequence * 3u * q + local;
        dt[local] = steps[step];
        cs[local] = (steps[step + q] + steps[step + 2u * q]) * LOG2_E;
      }
      workgroupBarrier();
      lowSums = sumsFrom(i);
      highSums = sumsFrom(i + 4u);
    } else if (slab <= entered) {
      for (var k = 0u; k < SLAB / 8u; k += 2u) {
        multiplyAlongRows(&sums, subgroup / 2u * 32u * NARROW + k, STATE_UNITS + subgroup % 2u * 32u * NARROW + k, NARROW);
      }
    } else if (i0 + subgroup / 2u * 32u + 31u >= (slab - 1u - entered) * SLAB) {
      // Rows before the slab see nothing of it.
      for (var k = 0u; k < SLAB / 16u; k++) {
        multiplyAcrossRows(&sums, k * 16u * WIDE + subgroup / 2u * 4u, WIDE, X_UNITS + k * 16u * NARROW + subgroup % 2u * 4u, NARROW);
      }
    }
  }

  let top = i0 + subgroup / 2u * 32u;
  let column = p0 + subgroup % 2u * 32u;
  if (HAS_GATE || SKIP_ELEMENTS || valid % 16u != 0u) {
    let row = Row(head, first, valid, column);
    show(subgroup, sums.s00, sums.s01);
    writeShown(row, top, local);
    show(subgroup, sums.s10, sums.s11);
    writeShown(row, top + 16u, local);
    return;
  }
  let stride = params.heads * params.headDim / 4u;
  let base = (first + top) * stride + (head * params.headDim + column) / 4u;
  if (top < valid) {
    if (column < params.headDim) { subgroupMatrixStore<row_major>(&y, base, sums.s00, stride); }
    if (column + 16u < params.headDim) { subgroupMatrixStore<row_major>(&y, base + 4u, sums.s01, stride); }
  }
  if (top + 16u < valid) {
    let below = base + 16u * stride;
    if (column < params.headDim) { subgroupMatrixStore<row_major>(&y, below, sums.s10, stride); }
    if (column + 16u < params.headDim) { subgroupMatrixStore<row_major>(&y, below + 4u, sums.s11, stride); }
  }
}
