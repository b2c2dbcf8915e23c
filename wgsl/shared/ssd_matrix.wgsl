// Products on matrix units (16 x 16 x 16, f16 operands, f32 sums) for the passes of ssdChunkScan, by 128 invocations in
// four subgroups of 32, each with 32 x 64 sums. Operands are staged as rows of units, 8 values of f16 each; rows of 64
// values lie NARROW units apart and rows of 128 WIDE, one more than they need, which spreads them over the banks.
import package::shared::narrow::narrow;

const MATRIX_INVOCATIONS: u32 = 128u;
// Values of the inner dimension that are staged at a time.
const SLAB: u32 = 64u;
const NARROW: u32 = 9u;
const WIDE: u32 = 17u;
const FOUR: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

// 27 KiB: rows of 64 values, 128 of the left and 64 of the right operand, or less.
var<workgroup> staged: array<vec4<u32>, 1728>;

struct Sums {
  s00: subgroup_matrix_result<f32, 16, 16>,
  s01: subgroup_matrix_result<f32, 16, 16>,
  s02: subgroup_matrix_result<f32, 16, 16>,
  s03: subgroup_matrix_result<f32, 16, 16>,
  s10: subgroup_matrix_result<f32, 16, 16>,
  s11: subgroup_matrix_result<f32, 16, 16>,
  s12: subgroup_matrix_result<f32, 16, 16>,
  s13: subgroup_matrix_result<f32, 16, 16>,
}

fn stageUnit(at: u32, low: vec4<f32>, high: vec4<f32>) {
  staged[at] = vec4<u32>(narrow(low), narrow(high));
}

// Four units on their way to be staged: in registers while the slab before is multiplied.
struct Units {
  low: mat4x4<f32>,
  high: mat4x4<f32>,
}

fn stageUnits(at: vec4<u32>, units: Units) {
  stageUnit(at.x, units.low[0], units.high[0]);
  stageUnit(at.y, units.low[1], units.high[1]);
  stageUnit(at.z, units.low[2], units.high[2]);
  stageUnit(at.w, units.low[3], units.high[3]);
}

// Adds 16 values along K: rows of both operands run along K, from the units a and b, `stride` units apart.
fn multiplyAlongRows(sums: ptr<function, Sums>, a: u32, b: u32, stride: u32) {
  let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, a, stride);
  let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, a + 16u * stride, stride);
  let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, b, stride);
  (*sums).s00 = subgroupMatrixMultiplyAccumulate(a0, b0, (*sums).s00);
  (*sums).s10 = subgroupMatrixMultiplyAccumulate(a1, b0, (*sums).s10);
  let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, b + 16u * stride, stride);
  (*sums).s01 = subgroupMatrixMultiplyAccumulate(a0, b1, (*sums).s01);
  (*sums).s11 = subgroupMatrixMultiplyAccumulate(a1, b1, (*sums).s11);
  let b2 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, b + 32u * stride, stride);
  (*sums).s02 = subgroupMatrixMultiplyAccumulate(a0, b2, (*sums).s02);
  (*sums).s12 = subgroupMatrixMultiplyAccumulate(a1, b2, (*sums).s12);
  let b3 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, col_major>(&staged, b + 48u * stride, stride);
  (*sums).s03 = subgroupMatrixMultiplyAccumulate(a0, b3, (*sums).s03);
  (*sums).s13 = subgroupMatrixMultiplyAccumulate(a1, b3, (*sums).s13);
}

// Adds 16 values along K: both operands are staged with K from row to row.
fn multiplyAcrossRows(sums: ptr<function, Sums>, a: u32, aStride: u32, b: u32, bStride: u32) {
  let a0 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&staged, a, aStride);
  let a1 = subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, col_major>(&staged, a + 2u, aStride);
  let b0 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&staged, b, bStride);
  (*sums).s00 = subgroupMatrixMultiplyAccumulate(a0, b0, (*sums).s00);
  (*sums).s10 = subgroupMatrixMultiplyAccumulate(a1, b0, (*sums).s10);
  let b1 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&staged, b + 2u, bStride);
  (*sums).s01 = subgroupMatrixMultiplyAccumulate(a0, b1, (*sums).s01);
  (*sums).s11 = subgroupMatrixMultiplyAccumulate(a1, b1, (*sums).s11);
  let b2 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&staged, b + 4u, bStride);
  (*sums).s02 = subgroupMatrixMultiplyAccumulate(a0, b2, (*sums).s02);
  (*sums).s12 = subgroupMatrixMultiplyAccumulate(a1, b2, (*sums).s12);
  let b3 = subgroupMatrixLoad<subgroup_matrix_right<f16, 16, 16>, row_major>(&staged, b + 6u, bStride);
  (*sums).s03 = subgroupMatrixMultiplyAccumulate(a0, b3, (*sums).s03);
  (*sums).s13 = subgroupMatrixMultiplyAccumulate(a1, b3, (*sums).s13);
}
