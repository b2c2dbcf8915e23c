// Products on matrix units (16 x 16 x 16, f16 operands, f32 sums) for the passes of ssdChunkScan, by 256 invocations in
// eight subgroups of 32, each with 32 x 32 sums. Operands are staged as rows of units, 8 values of f16 each; rows of 64
// values lie NARROW units apart and rows of 128 WIDE, one more than they need, which spreads them over the banks.
import package::shared::narrow::narrow;

const MATRIX_INVOCATIONS: u32 = 256u;
// Values of the inner dimension that are staged at a time.
const SLAB: u32 = 64u;
const NARROW: u32 = 9u;
const WIDE: u32 = 17u;
// Vectors between rows of shown sums, one more than 32 values need.
const SHOWN: u32 = 9u;

// Rows of units that an invocation stages of a matrix of 128 rows of 64 values, of 64 such rows, of 64 rows of 128 values.
fn tallRows(local: u32) -> vec4<u32> { return local / 8u + vec4<u32>(0u, 32u, 64u, 96u); }
fn shortRows(local: u32) -> vec2<u32> { return local / 8u + vec2<u32>(0u, 32u); }
fn wideRows(local: u32) -> vec4<u32> { return local / 16u + vec4<u32>(0u, 16u, 32u, 48u); }

// 27 KiB: rows of 64 values, 128 of the left and 64 of the right operand, or less.
var<workgroup> staged: array<vec4<u32>, 1728>;

struct Sums {
  s00: subgroup_matrix_result<f32, 16, 16>,
  s01: subgroup_matrix_result<f32, 16, 16>,
  s10: subgroup_matrix_result<f32, 16, 16>,
  s11: subgroup_matrix_result<f32, 16, 16>,
}

// Four units of f16 values, or two units of f32 values (low and high halves), on their way to be staged: in registers
// while the slab before is multiplied.
struct Units {
  a: vec4<u32>,
  b: vec4<u32>,
  c: vec4<u32>,
  d: vec4<u32>,
}

fn unitOf(low: vec4<f32>, high: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(narrow(low), narrow(high));
}

// A unit of f16 values times a factor that is not above 1.
fn scaledUnit(unit: vec4<u32>, factor: f32) -> vec4<u32> {
  return vec4<u32>(
    pack2x16float(unpack2x16float(unit.x) * factor),
    pack2x16float(unpack2x16float(unit.y) * factor),
    pack2x16float(unpack2x16float(unit.z) * factor),
    pack2x16float(unpack2x16float(unit.w) * factor),
  );
}

fn stageUnits(at: vec4<u32>, units: Units) {
  staged[at.x] = units.a;
  staged[at.y] = units.b;
  staged[at.z] = units.c;
  staged[at.w] = units.d;
}

// Two units of f32 values, times a factor each.
fn stageWide(at: vec2<u32>, units: Units, factors: vec2<f32>) {
  staged[at.x] = unitOf(bitcast<vec4<f32>>(units.a) * factors.x, bitcast<vec4<f32>>(units.b) * factors.x);
  staged[at.y] = unitOf(bitcast<vec4<f32>>(units.c) * factors.y, bitcast<vec4<f32>>(units.d) * factors.y);
}

// Shows two results of every subgroup side by side as 16 rows of f32, SHOWN vectors apart, 16 * SHOWN a subgroup.
fn show(subgroup: u32, s0: subgroup_matrix_result<f32, 16, 16>, s1: subgroup_matrix_result<f32, 16, 16>) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN, s0, SHOWN);
  subgroupMatrixStore<row_major>(&staged, subgroup * 16u * SHOWN + 4u, s1, SHOWN);
  workgroupBarrier();
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
}
