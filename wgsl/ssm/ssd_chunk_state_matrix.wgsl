// S[c, h] = sum_k exp(cs[last] - cs[k]) dt[k] x[k] B[k]^T over the tokens k of chunk c, on matrix units
// Source: as ssm/ssd_chunk_state. Numbers: the decayed x and B are rounded to f16, sums are f32.
// Work: one workgroup a (batch, chunk, head) and tile of 64 values of P x 128 of N; see shared/ssd_matrix.
// Workgroup memory: 27 KiB of operands + 1 KiB of token weights.
// Barriers: around the staging of every 64 tokens, which are loaded to registers while the ones before are multiplied.
// Requirements: f16 matrix units with f32 results and subgroups of 32; P and N in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, WIDE, FOUR, staged, Sums, Units, stageUnits, multiplyAcrossRows
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
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
  bOffset: u32,
  bStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (B, L, G, N), rows of groups bStride apart
@group(0) @binding(2) var<storage, read> B: array<vec4<f32>>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N)
@group(0) @binding(4) var<storage, read_write> states: array<vec4<f32>>;

var<workgroup> weights: array<f32, 256>;

const TILE_P: u32 = 64u;
const TILE_N: u32 = 128u;
// The first unit of B.
const B_UNITS: u32 = SLAB * NARROW;

fn loadX(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]), mat4x4<f32>(x[at.x + 1u], x[at.y + 1u], x[at.z + 1u], x[at.w + 1u]));
}

fn loadB(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(B[at.x], B[at.y], B[at.z], B[at.w]), mat4x4<f32>(B[at.x + 1u], B[at.y + 1u], B[at.z + 1u], B[at.w + 1u]));
}

// Rows of x times the weights of their tokens.
fn weighted(units: Units, w: vec4<f32>) -> Units {
  return Units(
    mat4x4<f32>(units.low[0] * w.x, units.low[1] * w.y, units.low[2] * w.z, units.low[3] * w.w),
    mat4x4<f32>(units.high[0] * w.x, units.high[1] * w.y, units.high[2] * w.z, units.high[3] * w.w),
  );
}

@compute @workgroup_size(MATRIX_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let columnTiles = (params.stateSize + TILE_N - 1u) / TILE_N;
  let p0 = (workgroup.x / columnTiles) * TILE_P;
  let n0 = (workgroup.x % columnTiles) * TILE_N;
  let head = workgroup.y;
  let group = head / (params.heads / params.groups);
  let batch = workgroup.z / params.chunks;
  let start = (workgroup.z % params.chunks) * params.chunkLength;
  let valid = min(params.chunkLength, params.length - start);
  let sequence = workgroup.z * params.heads + head;

  // What lies past the last token, P or N repeats the last one: such tokens have no weight, such sums are not stored.
  let first = batch * params.length + start;
  let xUnit = min(p0 + local % 8u * 8u, params.headDim - 8u);
  let bUnit = min(n0 + local % 16u * 8u, params.stateSize - 8u);
  let xStart = (params.xOffset + first * params.xStride + head * params.headDim + xUnit) / 4u;
  let bStart = (params.bOffset + first * params.bStride + group * params.stateSize + bUnit) / 4u;
  let xRow = local / 8u + FOUR * 16u;
  let bRow = local / 16u + FOUR * 8u;
  let subgroup = local / 32u;
  // Units of a subgroup's first row and column.
  let row = subgroup / 2u * 4u;
  let column = B_UNITS + subgroup % 2u * 8u;
  var sums: Sums;
  // The first slab is on its way while the weights are made.
  let last = vec4<u32>(valid - 1u);
  var xs = loadX(xStart + min(xRow, last) * (params.xStride / 4u));
  var above = loadB(bStart + min(bRow, last) * (params.bStride / 4u));
  var below = loadB(bStart + min(bRow + 32u, last) * (params.bStride / 4u));
  let q = params.chunkLength;
  let step = sequence * 3u * q;
  for (var i = 0u; i < 2u; i++) {
    let k = i * MATRIX_INVOCATIONS + local;
    var weight = 0.0;
    if (k < q) {
      let coarse = steps[step + 2u * q - 1u] - steps[step + q + k];
      let fine = steps[step + 3u * q - 1u] - steps[step + 2u * q + k];
      weight = exp(min(coarse + fine, 0.0)) * steps[step + k];
    }
    weights[k] = weight;
  }

  let slabs = (valid + SLAB - 1u) / SLAB;
  for (var slab = 0u; slab < slabs; slab++) {
    let t = slab * SLAB + xRow;
    // The weights are whole, and the slab before is used up.
    workgroupBarrier();
    stageUnits(xRow * NARROW + local % 8u, weighted(xs, vec4(weights[t.x], weights[t.y], weights[t.z], weights[t.w])));
    stageUnits(B_UNITS + bRow * WIDE + local % 16u, above);
    stageUnits(B_UNITS + (bRow + 32u) * WIDE + local % 16u, below);
    workgroupBarrier();
    if (slab + 1u < slabs) {
      let next = (slab + 1u) * SLAB;
      xs = loadX(xStart + min(next + xRow, last) * (params.xStride / 4u));
      above = loadB(bStart + min(next + bRow, last) * (params.bStride / 4u));
      below = loadB(bStart + min(next + bRow + 32u, last) * (params.bStride / 4u));
    }
    for (var k = 0u; k < SLAB / 16u; k++) {
      multiplyAcrossRows(&sums, row + k * 16u * NARROW, NARROW, column + k * 16u * WIDE, WIDE);
    }
  }

  let p = p0 + subgroup / 2u * 32u;
  let n = n0 + subgroup % 2u * 64u;
  let stride = params.stateSize / 4u;
  let base = (sequence * params.headDim + p) * stride + n / 4u;
  if (p < params.headDim) {
    if (n < params.stateSize) { subgroupMatrixStore<row_major>(&states, base, sums.s00, stride); }
    if (n + 16u < params.stateSize) { subgroupMatrixStore<row_major>(&states, base + 4u, sums.s01, stride); }
    if (n + 32u < params.stateSize) { subgroupMatrixStore<row_major>(&states, base + 8u, sums.s02, stride); }
    if (n + 48u < params.stateSize) { subgroupMatrixStore<row_major>(&states, base + 12u, sums.s03, stride); }
  }
  if (p + 16u < params.headDim) {
    let below = base + 16u * stride;
    if (n < params.stateSize) { subgroupMatrixStore<row_major>(&states, below, sums.s10, stride); }
    if (n + 16u < params.stateSize) { subgroupMatrixStore<row_major>(&states, below + 4u, sums.s11, stride); }
    if (n + 32u < params.stateSize) { subgroupMatrixStore<row_major>(&states, below + 8u, sums.s12, stride); }
    if (n + 48u < params.stateSize) { subgroupMatrixStore<row_major>(&states, below + 12u, sums.s13, stride); }
  }
}
