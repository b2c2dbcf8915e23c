// Products on matrix units (16 x 16 x 16, f16 operands, f32 sums) of two matrices whose rows run along K. A workgroup of
// 2 * SIDE subgroups of 32 makes a tile of TILE x TILE sums, TILE = 32 * SIDE; each subgroup SIDE x 2 fragments. K
// advances by 64. Operands are staged as rows of f16, one vec4<u32> of padding each, which spreads rows over banks.
// In steps of 64 every invocation stages four units (8 values) of each operand: rows `stageRow + i * STAGE_STEP`.
// Needs the axis `weight`, of f16 | q8 | q4; quants become f16 while they are staged.
import package::shared::narrow::narrow;
import package::shared::weights::{quadOf};

// 2 or 4
override SIDE: u32 = 2u;

const TILE_K: u32 = 64u;
const UNITS: u32 = TILE_K / 8u;
const STRIDE: u32 = UNITS + 1u;

// Of a tile's rows of x, for a norm: 1 / sqrt(mean square + eps)
var<workgroup> roots: array<f32, 32u * SIDE>;

// x's rows, then the weights'; at the end, 16 x 32 sums of each subgroup.
var<workgroup> staged: array<vec4<u32>, 64u * SIDE * STRIDE>;

struct Sums {
  s00: subgroup_matrix_result<f32, 16, 16>,
  s01: subgroup_matrix_result<f32, 16, 16>,
  s10: subgroup_matrix_result<f32, 16, 16>,
  s11: subgroup_matrix_result<f32, 16, 16>,
  s20: subgroup_matrix_result<f32, 16, 16>,
  s21: subgroup_matrix_result<f32, 16, 16>,
  s30: subgroup_matrix_result<f32, 16, 16>,
  s31: subgroup_matrix_result<f32, 16, 16>,
}

fn stageX(row: u32, unit: u32, low: vec4<f32>, high: vec4<f32>) {
  staged[row * STRIDE + unit] = vec4<u32>(narrow(low), narrow(high));
}

// Eight values of a load, from a quad on.
@if(!(weight_q8 || weight_q4))
fn stageW(row: u32, unit: u32, words: vec4<u32>, quad: u32, scale: f32) {
  staged[(32u * SIDE + row) * STRIDE + unit] = words;
}
@if(weight_q8 || weight_q4)
fn stageW(row: u32, unit: u32, words: vec4<u32>, quad: u32, scale: f32) {
  let low = narrow(quadOf(words, quad) * scale);
  let high = narrow(quadOf(words, quad + 1u) * scale);
  staged[(32u * SIDE + row) * STRIDE + unit] = vec4<u32>(low, high);
}

// Sums over the invocations that stage the same four rows of x, which are neighbours; every invocation calls it, after the
// last multiplication.
fn overUnits(squares: vec4<f32>, local: u32) -> vec4<f32> {
  workgroupBarrier();
  staged[local] = bitcast<vec4<u32>>(squares);
  workgroupBarrier();
  var sums = vec4<f32>(0.0);
  for (var unit = 0u; unit < UNITS; unit++) { sums += bitcast<vec4<f32>>(staged[local / UNITS * UNITS + unit]); }
  return sums;
}

fn leftAt(row: u32, unit: u32) -> subgroup_matrix_left<f16, 16, 16> {
  return subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, row * STRIDE + unit, STRIDE);
}

fn rightAt(row: u32, unit: u32) -> subgroup_matrix_right<f16, 16, 16> {
  return subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, (32u * SIDE + row) * STRIDE + unit, STRIDE);
}

// Adds 16 values along K, from a unit on.
fn multiplyUnits(sums: ptr<function, Sums>, row: u32, column: u32, unit: u32) {
  let b0 = rightAt(column, unit);
  let b1 = rightAt(column + 16u, unit);
  let a0 = leftAt(row, unit);
  (*sums).s00 = subgroupMatrixMultiplyAccumulate(a0, b0, (*sums).s00);
  (*sums).s01 = subgroupMatrixMultiplyAccumulate(a0, b1, (*sums).s01);
  let a1 = leftAt(row + 16u, unit);
  (*sums).s10 = subgroupMatrixMultiplyAccumulate(a1, b0, (*sums).s10);
  (*sums).s11 = subgroupMatrixMultiplyAccumulate(a1, b1, (*sums).s11);
  if (SIDE == 4u) {
    let a2 = leftAt(row + 32u, unit);
    (*sums).s20 = subgroupMatrixMultiplyAccumulate(a2, b0, (*sums).s20);
    (*sums).s21 = subgroupMatrixMultiplyAccumulate(a2, b1, (*sums).s21);
    let a3 = leftAt(row + 48u, unit);
    (*sums).s30 = subgroupMatrixMultiplyAccumulate(a3, b0, (*sums).s30);
    (*sums).s31 = subgroupMatrixMultiplyAccumulate(a3, b1, (*sums).s31);
  }
}

// Adds the staged tiles' products to the sums of a subgroup, whose first row and column of the tile are given.
fn multiplyTiles(sums: ptr<function, Sums>, row: u32, column: u32) {
  multiplyUnits(sums, row, column, 0u);
  multiplyUnits(sums, row, column, 2u);
  multiplyUnits(sums, row, column, 4u);
  multiplyUnits(sums, row, column, 6u);
}

// Fragments are opaque: two of them go through workgroup memory, where every subgroup has a place of its own.
fn showSums(subgroup: u32, left: subgroup_matrix_result<f32, 16, 16>, right: subgroup_matrix_result<f32, 16, 16>) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * STRIDE, left, STRIDE);
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * STRIDE + 4u, right, STRIDE);
  workgroupBarrier();
}

// Four shown sums of a subgroup's row, from column 4 * quad of 32.
fn shownSums(subgroup: u32, row: u32, quad: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(staged[(subgroup * 16u + row) * STRIDE + quad]);
}
