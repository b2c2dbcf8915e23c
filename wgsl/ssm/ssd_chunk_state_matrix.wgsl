// S[c, h] = sum_k exp(cs[last] - cs[k]) dt[k] x[k] B[k]^T over the tokens k of chunk c, on matrix units
// Source: as ssm/ssd_chunk_state. Numbers: the decayed x is rounded to f16, B is f16, sums are f32.
// Work: one workgroup a (batch, chunk, head) and tile of 64 values of P x 128 of N; see shared/ssd_matrix.
// Workgroup memory: 27 KiB of operands + 1 KiB of token weights.
// Barriers: around the staging of every 64 tokens, which are loaded to registers while the 128 before are multiplied.
// Requirements: f16 matrix units with f32 results and subgroups of 32; P and N in multiples of 16.
//! requires shader-f16, subgroups, chromium-experimental-subgroup-matrix
//! requires matrix:f16:16x16x16:f32, subgroupSize=32, maxComputeWorkgroupStorageSize>=32768
import package::shared::ssd_matrix::{
  MATRIX_INVOCATIONS, SLAB, NARROW, WIDE, staged, Sums, Units, shortRows, wideRows, stageUnits, stageWide,
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
  heads: u32,
  headDim: u32,
  groups: u32,
  stateSize: u32,
  xOffset: u32,
  xStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), rows of heads xStride apart
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// (B, L, G, N) f16
@group(0) @binding(2) var<storage, read> B: array<vec4<u32>>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step)
@group(0) @binding(3) var<storage, read> steps: array<f32>;
// (B, chunks, H, P, N)
@group(0) @binding(4) var<storage, read_write> states: array<vec4<f32>>;

var<workgroup> weights: array<f32, 256>;

const TILE_P: u32 = 64u;
const TILE_N: u32 = 128u;
// The first unit of B.
const B_UNITS: u32 = SLAB * NARROW;

fn loadX(at: vec2<u32>) -> Units {
  return Units(bitcast<vec4<u32>>(x[at.x]), bitcast<vec4<u32>>(x[at.x + 1u]), bitcast<vec4<u32>>(x[at.y]), bitcast<vec4<u32>>(x[at.y + 1u]));
}

fn loadB(at: vec4<u32>) -> Units {
  return Units(B[at.x], B[at.y], B[at.z], B[at.w]);
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
  let bUnit = min(n0 / 8u + local % 16u, params.stateSize / 8u - 1u);
  let xStart = (params.xOffset + first * params.xStride + head * params.headDim + xUnit) / 4u;
  let rowUnits = params.groups * params.stateSize / 8u;
  let bStart = first * rowUnits + group * params.stateSize / 8u + bUnit;
  let xRow = shortRows(local);
  let bRow = wideRows(local);
  let xLast = vec2<u32>(valid - 1u);
  let bLast = vec4<u32>(valid - 1u);
  let subgroup = local / 32u;
  // Units of a subgroup's first row and column.
  let row = subgroup / 4u * 4u;
  let column = B_UNITS + subgroup % 4u * 4u;
  var sums: Sums;
  // The first two slabs are on their way while the weights are made.
  var xs = loadX(xStart + min(xRow, xLast) * (params.xStride / 4u));
  var bs = loadB(bStart + min(bRow, bLast) * rowUnits);
  var nextXs = loadX(xStart + min(SLAB + xRow, xLast) * (params.xStride / 4u));
  var nextBs = loadB(bStart + min(SLAB + bRow, bLast) * rowUnits);
  let q = params.chunkLength;
  let step = sequence * 3u * q;
  var weight = 0.0;
  if (local < q) {
    let coarse = steps[step + 2u * q - 1u] - steps[step + q + local];
    let fine = steps[step + 3u * q - 1u] - steps[step + 2u * q + local];
    weight = exp(min(coarse + fine, 0.0)) * steps[step + local];
  }
  weights[local] = weight;

  let slabs = (valid + SLAB - 1u) / SLAB;
  for (var slab = 0u; slab < slabs; slab++) {
    let t = slab * SLAB + xRow;
    // The weights are whole, and the slab before is used up.
    workgroupBarrier();
    stageWide(xRow * NARROW + local % 8u, xs, vec2(weights[t.x], weights[t.y]));
    stageUnits(B_UNITS + bRow * WIDE + local % 16u, bs);
    workgroupBarrier();
    xs = nextXs;
    bs = nextBs;
    if (slab + 2u < slabs) {
      let next = (slab + 2u) * SLAB;
      nextXs = loadX(xStart + min(next + xRow, xLast) * (params.xStride / 4u));
      nextBs = loadB(bStart + min(next + bRow, bLast) * rowUnits);
    }
    for (var k = 0u; k < SLAB / 16u; k++) {
      multiplyAcrossRows(&sums, row + k * 16u * NARROW, NARROW, column + k * 16u * WIDE, WIDE);
    }
  }

  let p = p0 + subgroup / 4u * 32u;
  let n = n0 + subgroup % 4u * 32u;
  let stride = params.stateSize / 4u;
  let base = (sequence * params.headDim + p) * stride + n / 4u;
  if (p < params.headDim) {
    if (n < params.stateSize) { subgroupMatrixStore<row_major>(&states, base, sums.s00, stride); }
    if (n + 16u < params.stateSize) { subgroupMatrixStore<row_major>(&states, base + 4u, sums.s01, stride); }
  }
  if (p + 16u < params.headDim) {
    let below = base + 16u * stride;
    if (n < params.stateSize) { subgroupMatrixStore<row_major>(&states, below, sums.s10, stride); }
    if (n + 16u < params.stateSize) { subgroupMatrixStore<row_major>(&states, below + 4u, sums.s11, stride); }
  }
}
