// y[m, s, n] = act(sum_k weight[e, n, k] x[m, s, k]), e = indices[m, s], and with a gate, in one pass,
// y[m, s, n] = act(sum_k gate[e, n, k] x[m, s, k]) * sum_k weight[e, n, k] x[m, s, k], for pairs sorted by expert
// Source: Mixtral, arXiv 2401.04088, section 2.1; the gate is GLU Variants Improve Transformer, arXiv 2002.05202.
// Work: one workgroup a tile of one expert's pairs and of outputs; with a gate the left half of the tile is the gate's
//   sums. Which expert's, it finds from the offsets; those that find none return.
// Workgroup memory: 64 (tile rows + tile columns) + 16 bytes, up to 12 KiB. Barriers: around the search and the staging
//   of a tile. Requirements: none.
//! axis weight: f32 | f16 | bf16 | q8 | q4
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::expert_tile::{beginSearch, offerTile, endSearch};
import package::shared::tile::{THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, stageX, stageW, multiplyTiles, placeOf};
import package::shared::weights::{VALUES_PER_LOAD, VALUES_STAGED, Loads, valuesOf, quadAt, blockOf, scaleOf};

struct Params {
  slots: u32,
  experts: u32,
  outputs: u32,
  inner: u32,
  xOffset: u32,
  xStride: u32,
  gateOffset: u32,
  gateStride: u32,
  gateExpertStride: u32,
  gateScales: u32,
  weightOffset: u32,
  weightStride: u32,
  weightExpertStride: u32,
  weightScales: u32,
  yStride: u32,
}

override ACTIVATION: u32 = 0u;
// needs THREAD_COLUMNS = 8
override GATED: bool = false;
// Whether every pair has a row of x of its own, or all of a token one.
override PAIRED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K), or (M, slots, K) where PAIRED, from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (E, N, K) from gateOffset, rows gateStride, experts gateExpertStride apart (multiples of 8, of 32 for quants), 16 bytes
// an element; scales of all experts from element gateScales
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
// (E, N, K) from weightOffset, rows weightStride, experts weightExpertStride apart (multiples of 8, of 32 for quants);
// scales of all experts from element weightScales
@group(0) @binding(3) var<storage, read> weight: array<vec4<u32>>;
// (M slots): pairs sorted by expert
@group(0) @binding(4) var<storage, read> order: array<u32>;
// (E + 1): where each expert's pairs begin
@group(0) @binding(5) var<storage, read> offsets: array<u32>;
// (M, slots, N), rows yStride apart (a multiple of 4)
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

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

// One load of the gate or of the other matrix, counted from the start of its binding, and the scale of its block.
fn wordsAt(fromGate: bool, load: u32) -> vec4<u32> {
  if (fromGate) { return gate[load]; }
  return weight[load];
}

@if(weight_q8 || weight_q4)
fn scaleAt(fromGate: bool, load: u32) -> f32 {
  let block = blockOf(load);
  if (fromGate) { return scaleOf(gate[params.gateScales + block / 8u][block / 2u % 4u], block); }
  return scaleOf(weight[params.weightScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows.
fn load(fromGate: bool, loads: vec4<u32>) -> Loads {
  var found: Loads;
  found.w0 = wordsAt(fromGate, loads.x);
  found.w1 = wordsAt(fromGate, loads.y);
  found.w2 = wordsAt(fromGate, loads.z);
  found.w3 = wordsAt(fromGate, loads.w);
  @if(weight_q8 || weight_q4) {
    found.scales.x = scaleAt(fromGate, loads.x);
    found.scales.y = scaleAt(fromGate, loads.y);
    found.scales.z = scaleAt(fromGate, loads.z);
    found.scales.w = scaleAt(fromGate, loads.w);
  }
  return found;
}

// Writes four values of the tile's row. Rows of y have room for the last four.
fn writeRow(tile: vec3<u32>, row: u32, column: u32, values: vec4<f32>) {
  if (row >= tile.z || column >= params.outputs) { return; }
  y[(order[tile.y + row] * params.yStride + column) / 4u] = values;
}

fn writeBlock(tile: vec3<u32>, row: u32, column: u32, sums: mat4x4<f32>) {
  for (var i = 0u; i < 4u; i++) { writeRow(tile, row + i, column, activate(ACTIVATION, sums[i])); }
}

fn writeGated(tile: vec3<u32>, row: u32, column: u32, gates: mat4x4<f32>, others: mat4x4<f32>) {
  for (var i = 0u; i < 4u; i++) { writeRow(tile, row + i, column, activate(ACTIVATION, gates[i]) * others[i]); }
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  beginSearch(local);
  let threads = THREADS_M * THREADS_N;
  for (var round = 0u; round < (params.experts + threads - 1u) / threads; round++) {
    let expert = round * threads + local;
    if (expert < params.experts) {
      offerTile(workgroup.x, THREADS_M * THREAD_ROWS, expert, offsets[expert], offsets[expert + 1u]);
    }
  }
  // Expert, first of its pairs in the order and number of pairs.
  let tile = endSearch();
  if (tile.z == 0u) { return; }
  let tileColumn = workgroup.y * THREADS_N * select(THREAD_COLUMNS, 4u, GATED);
  // Blocks of x go to the first invocations, blocks of weights to the last ones: with large tiles nobody has both.
  let xStages = local < THREADS_M * THREAD_ROWS / 4u * (TILE_K / 4u);
  let xBlock = local / (TILE_K / 4u);
  let xK = local % (TILE_K / 4u) * 4u;
  let other = threads - 1u - local;
  let wStages = other < THREADS_N * THREAD_COLUMNS / 4u * (TILE_K / VALUES_STAGED);
  let wBlock = other / (TILE_K / VALUES_STAGED);
  let wK = other % (TILE_K / VALUES_STAGED) * VALUES_STAGED;
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let rows = tile.y + min(xBlock * 4u + lanes, vec4<u32>(tile.z - 1u));
  let pairs = vec4<u32>(order[rows.x], order[rows.y], order[rows.z], order[rows.w]);
  let xStarts = params.xOffset + select(pairs / params.slots, pairs, vec4<bool>(PAIRED)) * params.xStride;
  let fromGate = GATED && wBlock < THREADS_N;
  let wRows = min(tileColumn + select(wBlock, wBlock % THREADS_N, GATED) * 4u + lanes, vec4<u32>(params.outputs - 1u));
  let gates = params.gateOffset + tile.x * params.gateExpertStride + wRows * params.gateStride;
  let others = params.weightOffset + tile.x * params.weightExpertStride + wRows * params.weightStride;
  let wStarts = select(others, gates, vec4<bool>(fromGate));
  let place = placeOf(local);

  var sums: Sums;
  var xs: mat4x4<f32>;
  var ws: Loads;
  let steps = (params.inner + TILE_K - 1u) / TILE_K;
  for (var step = 0u; step <= steps; step++) {
    if (step > 0u) {
      workgroupBarrier();
      if (step == steps) {
        // The last tile may reach beyond K: zeros of x meet weights that are finite.
        let k = (step - 1u) * TILE_K + xK;
        xs = mat4x4<f32>(masked(xs[0], k), masked(xs[1], k), masked(xs[2], k), masked(xs[3], k));
      }
      if (xStages) { stageX(xBlock, xK, xs); }
      if (wStages) {
        let quad = quadAt((step - 1u) * TILE_K + wK);
        stageW(wBlock, wK, valuesOf(ws, quad));
        @if(weight_f16 || weight_bf16) stageW(wBlock, wK + 4u, valuesOf(ws, 1u));
      }
      workgroupBarrier();
    }
    if (step < steps) {
      let k = step * TILE_K;
      if (xStages) {
        xs = mat4x4<f32>(loadX(xStarts.x, k + xK), loadX(xStarts.y, k + xK), loadX(xStarts.z, k + xK), loadX(xStarts.w, k + xK));
      }
      if (wStages) {
        let at = min(k + wK, params.inner - 1u);
        ws = load(fromGate, (wStarts + at) / VALUES_PER_LOAD);
      }
    }
    if (step > 0u) { multiplyTiles(&sums, place); }
  }

  let row = place.x * 4u;
  let column = tileColumn + place.y * 4u;
  if (GATED) {
    writeGated(tile, row, column, sums.upperLeft, sums.upperRight);
    if (THREAD_ROWS == 8u) { writeGated(tile, row + 4u * THREADS_M, column, sums.lowerLeft, sums.lowerRight); }
    return;
  }
  writeBlock(tile, row, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(tile, row + 4u * THREADS_M, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(tile, row, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(tile, row + 4u * THREADS_M, column + 4u * THREADS_N, sums.lowerRight); }
}
