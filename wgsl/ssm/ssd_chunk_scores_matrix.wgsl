// scores[j, i] = sum_n B[j, n] C[i, n] for tokens j <= i of one chunk, on matrix units
// Source: as ssm/ssd_chunk_scores. Numbers: B and C are rounded to f16, sums are f32.
// Work: one workgroup a (batch, chunk, group) and tile of 64 tokens j x 128 tokens i; tiles above the diagonal or past
//   the end do nothing. See shared/ssd_matrix. Workgroup memory: 27 KiB of operands.
// Barriers: around the staging of every 64 values of N, loaded to registers while the ones before are multiplied.
// Requirements: f16 matrix units with f32 results and subgroups of 32; N and Q in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, FOUR, staged, Sums, Units, stageUnits, multiplyAlongRows
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
  groups: u32,
  stateSize: u32,
  bOffset: u32,
  bStride: u32,
  cOffset: u32,
  cStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, G, N), rows of groups bStride apart
@group(0) @binding(1) var<storage, read> B: array<vec4<f32>>;
// (B, L, G, N), rows of groups cStride apart
@group(0) @binding(2) var<storage, read> C: array<vec4<f32>>;
// (B, chunks, G, Q, Q), transposed: i is contiguous; entries with j > i are not defined
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<f32>>;

const TILE_J: u32 = 64u;
const TILE_I: u32 = 128u;
// The first unit of C.
const C_UNITS: u32 = TILE_J * NARROW;

fn loadB(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(B[at.x], B[at.y], B[at.z], B[at.w]), mat4x4<f32>(B[at.x + 1u], B[at.y + 1u], B[at.z + 1u], B[at.w + 1u]));
}

fn loadC(at: vec4<u32>) -> Units {
  return Units(mat4x4<f32>(C[at.x], C[at.y], C[at.z], C[at.w]), mat4x4<f32>(C[at.x + 1u], C[at.y + 1u], C[at.z + 1u], C[at.w + 1u]));
}

@compute @workgroup_size(MATRIX_INVOCATIONS)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let columnTiles = (params.chunkLength + TILE_I - 1u) / TILE_I;
  let j0 = (workgroup.x / columnTiles) * TILE_J;
  let i0 = (workgroup.x % columnTiles) * TILE_I;
  let group = workgroup.y;
  let batch = workgroup.z / params.chunks;
  let start = (workgroup.z % params.chunks) * params.chunkLength;
  let valid = min(params.chunkLength, params.length - start);
  if (j0 >= i0 + TILE_I || i0 >= valid) { return; }

  // Tokens past the last one repeat it: nobody reads their scores. Past N, B is zero and C repeats.
  let first = batch * params.length + start;
  let bStart = (params.bOffset + first * params.bStride + group * params.stateSize) / 4u;
  let cStart = (params.cOffset + first * params.cStride + group * params.stateSize) / 4u;
  let tokens = local / 8u + FOUR * 16u;
  let last = vec4<u32>(valid - 1u);
  let bRow = bStart + min(j0 + tokens, last) * (params.bStride / 4u);
  let cRow = cStart + min(i0 + tokens, last) * (params.cStride / 4u);
  let cRowBelow = cStart + min(i0 + tokens + 64u, last) * (params.cStride / 4u);
  let unit = local % 8u;
  let subgroup = local / 32u;
  let row = subgroup / 2u * 32u;
  let column = subgroup % 2u * 64u;
  var sums: Sums;
  var bs: Units;
  var above: Units;
  var below: Units;
  let slabs = (params.stateSize + SLAB - 1u) / SLAB;
  for (var slab = 0u; slab <= slabs; slab++) {
    if (slab > 0u) {
      workgroupBarrier();
      if ((slab - 1u) * SLAB + unit * 8u >= params.stateSize) { bs = Units(); }
      stageUnits(tokens * NARROW + unit, bs);
      stageUnits(C_UNITS + tokens * NARROW + unit, above);
      stageUnits(C_UNITS + (tokens + 64u) * NARROW + unit, below);
      workgroupBarrier();
    }
    if (slab < slabs) {
      let n = min(slab * SLAB + unit * 8u, params.stateSize - 8u) / 4u;
      bs = loadB(bRow + n);
      above = loadC(cRow + n);
      below = loadC(cRowBelow + n);
    }
    if (slab > 0u) {
      for (var k = 0u; k < SLAB / 8u; k += 2u) {
        multiplyAlongRows(&sums, row * NARROW + k, C_UNITS + column * NARROW + k, NARROW);
      }
    }
  }

  let q = params.chunkLength;
  let stride = q / 4u;
  let j = j0 + row;
  let i = i0 + column;
  let base = ((workgroup.z * params.groups + group) * q + j) * stride + i / 4u;
  if (j < q) {
    if (i < q) { subgroupMatrixStore<row_major>(&scores, base, sums.s00, stride); }
    if (i + 16u < q) { subgroupMatrixStore<row_major>(&scores, base + 4u, sums.s01, stride); }
    if (i + 32u < q) { subgroupMatrixStore<row_major>(&scores, base + 8u, sums.s02, stride); }
    if (i + 48u < q) { subgroupMatrixStore<row_major>(&scores, base + 12u, sums.s03, stride); }
  }
  if (j + 16u < q) {
    let below = base + 16u * stride;
    if (i < q) { subgroupMatrixStore<row_major>(&scores, below, sums.s10, stride); }
    if (i + 16u < q) { subgroupMatrixStore<row_major>(&scores, below + 4u, sums.s11, stride); }
    if (i + 32u < q) { subgroupMatrixStore<row_major>(&scores, below + 8u, sums.s12, stride); }
    if (i + 48u < q) { subgroupMatrixStore<row_major>(&scores, below + 12u, sums.s13, stride); }
  }
}
