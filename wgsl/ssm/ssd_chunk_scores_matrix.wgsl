// scores[j, i] = sum_n B[j, n] C[i, n] for tokens j <= i of one chunk, on matrix units
// Source: as ssm/ssd_chunk_scores. Numbers: B and C are f16, sums are f32, scores f16 again.
// Work: one workgroup a (batch, chunk, group) and tile of 64 tokens j x 128 tokens i; tiles above the diagonal or past
//   the end do nothing. See shared/ssd_matrix. Workgroup memory: 27 KiB of operands.
// Barriers: around the staging of every 64 values of N, loaded to registers while the ones before are multiplied, and
//   around the sums, which become f16 by way of workgroup memory.
// Requirements: f16 matrix units with f32 results and subgroups of 32; N and Q in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, SHOWN, staged, Sums, Units, tallRows, shortRows, unitOf, stageUnits, show,
  multiplyAlongRows
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
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, G, N) f16
@group(0) @binding(1) var<storage, read> B: array<vec4<u32>>;
// (B, L, G, N) f16
@group(0) @binding(2) var<storage, read> C: array<vec4<u32>>;
// (B, chunks, G, Q, Q) f16, transposed: i is contiguous; entries with j > i are not defined
@group(0) @binding(3) var<storage, read_write> scores: array<vec4<u32>>;

const TILE_J: u32 = 64u;
const TILE_I: u32 = 128u;
// The first unit of C.
const C_UNITS: u32 = TILE_J * NARROW;

fn unitAt(shown: u32) -> vec4<u32> {
  return unitOf(bitcast<vec4<f32>>(staged[shown]), bitcast<vec4<f32>>(staged[shown + 1u]));
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
  let rowUnits = params.groups * params.stateSize / 8u;
  let from0 = first * rowUnits + group * params.stateSize / 8u;
  let bRow = from0 + min(j0 + shortRows(local), vec2<u32>(valid - 1u)) * rowUnits;
  let cRow = from0 + min(i0 + tallRows(local), vec4<u32>(valid - 1u)) * rowUnits;
  let unit = local % 8u;
  let subgroup = local / 32u;
  let row = subgroup / 4u * 32u;
  let column = subgroup % 4u * 32u;
  var sums: Sums;
  var b0: vec4<u32>;
  var b1: vec4<u32>;
  var cs: Units;
  let slabs = (params.stateSize + SLAB - 1u) / SLAB;
  for (var slab = 0u; slab <= slabs; slab++) {
    if (slab > 0u) {
      workgroupBarrier();
      if ((slab - 1u) * SLAB + unit * 8u >= params.stateSize) {
        b0 = vec4<u32>();
        b1 = vec4<u32>();
      }
      let rows = shortRows(local) * NARROW + unit;
      staged[rows.x] = b0;
      staged[rows.y] = b1;
      stageUnits(C_UNITS + tallRows(local) * NARROW + unit, cs);
      workgroupBarrier();
    }
    if (slab < slabs) {
      let n = min(slab * (SLAB / 8u) + unit, params.stateSize / 8u - 1u);
      b0 = B[bRow.x + n];
      b1 = B[bRow.y + n];
      cs = Units(C[cRow.x + n], C[cRow.y + n], C[cRow.z + n], C[cRow.w + n]);
    }
    if (slab > 0u) {
      for (var k = 0u; k < SLAB / 8u; k += 2u) {
        multiplyAlongRows(&sums, row * NARROW + k, C_UNITS + column * NARROW + k, NARROW);
      }
    }
  }

  let q = params.chunkLength;
  let j = j0 + row + local % 32u / 4u;
  let i = i0 + column + local % 4u * 8u;
  let at = (((workgroup.z * params.groups + group) * q + j) * q + i) / 8u;
  let shown = (subgroup * 16u + local % 32u / 4u) * SHOWN + local % 4u * 2u;
  show(subgroup, sums.s00, sums.s01);
  if (j < q && i < q) { scores[at] = unitAt(shown); }
  if (j + 8u < q && i < q) { scores[at + q] = unitAt(shown + 8u * SHOWN); }
  show(subgroup, sums.s10, sums.s11);
  if (j + 16u < q && i < q) { scores[at + 2u * q] = unitAt(shown); }
  if (j + 24u < q && i < q) { scores[at + 3u * q] = unitAt(shown + 8u * SHOWN); }
}
