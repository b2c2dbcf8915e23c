// y[m, n] = residual[m, n] + scale * act(sum_k x[m, k] g[k] weight[n, k] / sqrt(mean_k(x[m, k]^2) + eps) + bias[n])
// Source: the linear layer of a checkpoint, on matrix units; the root, and g = normWeight + normShift, only with a norm.
// Numbers: x g and dequantized weights are rounded to f16, with +-65504 for what lies beyond; sums are f32.
// Work: one workgroup of 2 * SIDE subgroups a tile of (32 * SIDE)^2 outputs; M tiles run fastest, as in linear/matmul.
// Workgroup memory: 9344 * SIDE bytes. Barriers: around the staging of a tile, and of every strip of sums at the end.
// Requirements: f16 matrix units with f32 results and subgroups of 32.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=37376
//! axis weight: f16 | q8 | q4
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::matrix_tile::{SIDE, TILE_K, UNITS, Sums, stageX, stageW, multiplyTiles, showSums, shownSums, roots, overUnits};
import package::shared::norm_rows::{squaresOf, timesGain};
import package::shared::weights::{VALUES_PER_LOAD, QUADS, Loads, blockOf, scaleOf};
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

struct Params {
  rows: u32,
  outputs: u32,
  inner: u32,
  xOffset: u32,
  xStride: u32,
  weightOffset: u32,
  weightStride: u32,
  weightScales: u32,
  normOffset: u32,
  biasOffset: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
  normShift: f32,
  scale: f32,
}

override ACTIVATION: u32 = 0u;
override HAS_NORM: bool = false;
override HAS_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (N, K) from weightOffset, rows weightStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element weightScales
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
// (K) from normOffset: g
@group(0) @binding(3) var<storage, read> normWeight: array<f32>;
// (N)
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// (M, N) from yOffset, rows yStride apart (multiples of 4 for vector access); holds the residual first
@if(access_vector) @group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(5) var<storage, read_write> y: array<f32>;

// x[k .. k + 3] of the row from `start`; what lies behind the row's end may be anything and is masked when it is staged.
fn loadX(start: u32, k: u32) -> vec4<f32> {
  let last = params.inner - 1u;
  @if(access_vector) return x[(start + min(k, last)) / 4u];
  @if(access_scalar) return vec4<f32>(x[start + min(k, last)], x[start + min(k + 1u, last)], x[start + min(k + 2u, last)], x[start + min(k + 3u, last)]);
}

// Zero from params.inner on.
fn masked(values: vec4<f32>, k: u32) -> vec4<f32> {
  return select(vec4<f32>(0.0), values, vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.inner));
}

// The gain of k .. k + 3, normWeight + normShift; what stands for values from params.inner on meets zeros of x.
fn loadGain(k: u32) -> vec4<f32> {
  let last = params.normOffset + params.inner - 1u;
  let at = params.normOffset + k;
  let gains = vec4<f32>(normWeight[min(at, last)], normWeight[min(at + 1u, last)], normWeight[min(at + 2u, last)], normWeight[min(at + 3u, last)]);
  return gains + params.normShift;
}

@if(weight_q8 || weight_q4)
fn scaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(weight[params.weightScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows; `loads` counts them from the start of the binding.
fn load(loads: vec4<u32>) -> Loads {
  var found: Loads;
  found.w0 = weight[loads.x];
  found.w1 = weight[loads.y];
  found.w2 = weight[loads.z];
  found.w3 = weight[loads.w];
  @if(weight_q8 || weight_q4) found.scales = vec4<f32>(scaleAt(loads.x), scaleAt(loads.y), scaleAt(loads.z), scaleAt(loads.w));
  return found;
}

fn writeRow(row: u32, column: u32, sums: vec4<f32>) {
  if (row >= params.rows || column >= params.outputs) { return; }
  let last = params.outputs - 1u;
  var values = sums;
  if (HAS_BIAS) {
    let at = params.biasOffset + column;
    let end = params.biasOffset + last;
    values += vec4<f32>(bias[at], bias[min(at + 1u, end)], bias[min(at + 2u, end)], bias[min(at + 3u, end)]);
  }
  values = params.scale * activate(ACTIVATION, values);
  let at = params.yOffset + row * params.yStride + column;
  @if(access_vector) {
    if (column + 3u <= last) {
      if (HAS_RESIDUAL) { values += y[at / 4u]; }
      y[at / 4u] = values;
      return;
    }
  }
  for (var i = 0u; i < min(4u, params.outputs - column); i++) {
    @if(access_vector) {
      if (HAS_RESIDUAL) { values[i] += y[at / 4u][i]; }
      y[at / 4u][i] = values[i];
    }
    @if(access_scalar) {
      if (HAS_RESIDUAL) { values[i] += y[at + i]; }
      y[at + i] = values[i];
    }
  }
}

// Writes the shown sums of a subgroup, a strip of 16 rows by 32 columns, from a row of the tile on.
fn writeShown(tileRow: u32, row: u32, column: u32, local: u32) {
  for (var i = 0u; i < 4u; i++) {
    let m = i * 4u + local % 32u / 8u;
    let quad = local % 8u;
    var sums = shownSums(local / 32u, m, quad);
    if (HAS_NORM) { sums *= roots[row + m]; }
    writeRow(tileRow + row + m, column + quad * 4u, sums);
  }
}

@compute @workgroup_size(64, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tileRow = workgroup.x * 32u * SIDE;
  let tileColumn = workgroup.y * 32u * SIDE;
  let unit = local % UNITS;
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  // Rows beyond the last one repeat it; their sums are not written.
  let xRows = min(tileRow + local / UNITS + lanes * 8u * SIDE, vec4<u32>(params.rows - 1u));
  let xStarts = params.xOffset + xRows * params.xStride;
  let wRows = min(tileColumn + local / UNITS + lanes * 8u * SIDE, vec4<u32>(params.outputs - 1u));
  let wStarts = params.weightOffset + wRows * params.weightStride;
  let subgroup = local / 32u;
  let row = subgroup / SIDE * 16u * SIDE;
  let column = subgroup % SIDE * 32u;

  var sums: Sums;
  var low: mat4x4<f32>;
  var high: mat4x4<f32>;
  var gains: mat2x4<f32>;
  var squares: vec4<f32>;
  var ws: Loads;
  let tiles = (params.inner + TILE_K - 1u) / TILE_K;
  for (var tile = 0u; tile <= tiles; tile++) {
    if (tile > 0u) {
      let k = (tile - 1u) * TILE_K + unit * 8u;
      workgroupBarrier();
      if (tile == tiles) {
        // The last tile may reach beyond K: zeros of x meet weights and gains that are finite.
        low = mat4x4<f32>(masked(low[0], k), masked(low[1], k), masked(low[2], k), masked(low[3], k));
        high = mat4x4<f32>(masked(high[0], k + 4u), masked(high[1], k + 4u), masked(high[2], k + 4u), masked(high[3], k + 4u));
      }
      if (HAS_NORM) {
        squares += squaresOf(low) + squaresOf(high);
        low = timesGain(low, gains[0]);
        high = timesGain(high, gains[1]);
      }
      let quad = k / 4u % QUADS;
      stageX(local / UNITS, unit, low[0], high[0]);
      stageW(local / UNITS, unit, ws.w0, quad, ws.scales.x);
      stageX(local / UNITS + 8u * SIDE, unit, low[1], high[1]);
      stageW(local / UNITS + 8u * SIDE, unit, ws.w1, quad, ws.scales.y);
      stageX(local / UNITS + 16u * SIDE, unit, low[2], high[2]);
      stageW(local / UNITS + 16u * SIDE, unit, ws.w2, quad, ws.scales.z);
      stageX(local / UNITS + 24u * SIDE, unit, low[3], high[3]);
      stageW(local / UNITS + 24u * SIDE, unit, ws.w3, quad, ws.scales.w);
      workgroupBarrier();
    }
    if (tile < tiles) {
      let k = tile * TILE_K + unit * 8u;
      let at = min(k, params.inner - 1u);
      low = mat4x4<f32>(loadX(xStarts.x, k), loadX(xStarts.y, k), loadX(xStarts.z, k), loadX(xStarts.w, k));
      high = mat4x4<f32>(loadX(xStarts.x, k + 4u), loadX(xStarts.y, k + 4u), loadX(xStarts.z, k + 4u), loadX(xStarts.w, k + 4u));
      if (HAS_NORM) { gains = mat2x4<f32>(loadGain(k), loadGain(k + 4u)); }
      ws = load((wStarts + at) / VALUES_PER_LOAD);
    }
    if (tile > 0u) { multiplyTiles(&sums, row, column); }
  }

  if (HAS_NORM) {
    let totals = overUnits(squares, local);
    if (unit == 0u) {
      for (var i = 0u; i < 4u; i++) {
        roots[local / UNITS + i * 8u * SIDE] = inverseSqrt(totals[i] / f32(params.inner) + params.eps);
      }
    }
  }
  // The barriers of showSums make them known.
  showSums(subgroup, sums.s00, sums.s01);
  writeShown(tileRow, row, tileColumn + column, local);
  showSums(subgroup, sums.s10, sums.s11);
  writeShown(tileRow, row + 16u, tileColumn + column, local);
  if (SIDE == 4u) {
    showSums(subgroup, sums.s20, sums.s21);
    writeShown(tileRow, row + 32u, tileColumn + column, local);
    showSums(subgroup, sums.s30, sums.s31);
    writeShown(tileRow, row + 48u, tileColumn + column, local);
  }
}
