// y[m, n] = residual[m, n] + scale * act(sum_k x[m, k] up[n, k]), and with a gate, in one pass,
// y[m, n] = residual[m, n] + scale * act(sum_k x[m, k] gate[n, k]) * sum_k x[m, k] up[n, k]
// Source: GLU Variants Improve Transformer, arXiv 2002.05202, equations 2 and 6; the down projection is the first form.
// Work: one workgroup a tile; with a gate the left half of the tile is the gate's sums, the right half up's.
// Workgroup memory: 64 (tile rows + tile columns) bytes, up to 16 KiB. Barriers: around the staging of a tile.
// Requirements: none.
//! axis weight: f32 | f16 | bf16
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::tile::{THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, stageX, stageW, multiplyTiles, placeOf};
import package::shared::weights::{VALUES_PER_LOAD, unpackLow, unpackHigh};

struct Params {
  rows: u32,
  outputs: u32,
  inner: u32,
  xOffset: u32,
  xStride: u32,
  gateOffset: u32,
  gateStride: u32,
  upOffset: u32,
  upStride: u32,
  yOffset: u32,
  yStride: u32,
  scale: f32,
}

override ACTIVATION: u32 = 0u;
// needs THREAD_COLUMNS = 8
override GATED: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (N, K) from gateOffset, rows gateStride apart (multiples of 8), 16 bytes an element
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
// (N, K) from upOffset, rows upStride apart (multiples of 8), 16 bytes an element
@group(0) @binding(3) var<storage, read> up: array<vec4<u32>>;
// (M, N) from yOffset, rows yStride apart (multiples of 4 for vector access); holds the residual first
@if(access_vector) @group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(4) var<storage, read_write> y: array<f32>;

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

// One load of the gate or of up.
fn loadWeight(fromGate: bool, at: u32) -> vec4<u32> {
  if (fromGate) { return gate[at / VALUES_PER_LOAD]; }
  return up[at / VALUES_PER_LOAD];
}

// Writes scale * sums, which are activated already.
fn writeRow(row: u32, column: u32, sums: vec4<f32>) {
  if (row >= params.rows || column >= params.outputs) { return; }
  let last = params.outputs - 1u;
  var values = sums;
  values *= params.scale;
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

fn writeBlock(row: u32, column: u32, sums: mat4x4<f32>) {
  for (var i = 0u; i < 4u; i++) { writeRow(row + i, column, activate(ACTIVATION, sums[i])); }
}

fn writeGated(row: u32, column: u32, gates: mat4x4<f32>, ups: mat4x4<f32>) {
  for (var i = 0u; i < 4u; i++) { writeRow(row + i, column, activate(ACTIVATION, gates[i]) * ups[i]); }
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tileRow = workgroup.x * THREADS_M * THREAD_ROWS;
  let tileColumn = workgroup.y * THREADS_N * select(THREAD_COLUMNS, 4u, GATED);
  // Blocks of x go to the first invocations, blocks of weights to the last ones: with large tiles nobody has both.
  let xStages = local < THREADS_M * THREAD_ROWS / 4u * (TILE_K / 4u);
  let xBlock = local / (TILE_K / 4u);
  let xK = local % (TILE_K / 4u) * 4u;
  let other = THREADS_M * THREADS_N - 1u - local;
  let wStages = other < THREADS_N * THREAD_COLUMNS / 4u * (TILE_K / VALUES_PER_LOAD);
  let wBlock = other / (TILE_K / VALUES_PER_LOAD);
  let wK = other % (TILE_K / VALUES_PER_LOAD) * VALUES_PER_LOAD;
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let xRows = min(tileRow + xBlock * 4u + lanes, vec4<u32>(params.rows - 1u));
  let xStarts = params.xOffset + xRows * params.xStride;
  let fromGate = GATED && wBlock < THREADS_N;
  let wRows = min(tileColumn + select(wBlock, wBlock % THREADS_N, GATED) * 4u + lanes, vec4<u32>(params.outputs - 1u));
  let wStarts = select(params.upOffset + wRows * params.upStride, params.gateOffset + wRows * params.gateStride, vec4<bool>(fromGate));
  let place = placeOf(local);

  var sums: Sums;
  var xs: mat4x4<f32>;
  var w0: vec4<u32>;
  var w1: vec4<u32>;
  var w2: vec4<u32>;
  var w3: vec4<u32>;
  let tiles = (params.inner + TILE_K - 1u) / TILE_K;
  for (var tile = 0u; tile <= tiles; tile++) {
    if (tile > 0u) {
      workgroupBarrier();
      if (tile == tiles) {
        // The last tile may reach beyond K: zeros of x meet weights that are finite.
        let k = (tile - 1u) * TILE_K + xK;
        xs = mat4x4<f32>(masked(xs[0], k), masked(xs[1], k), masked(xs[2], k), masked(xs[3], k));
      }
      if (xStages) { stageX(xBlock, xK, xs); }
      if (wStages) {
        stageW(wBlock, wK, mat4x4<f32>(unpackLow(w0), unpackLow(w1), unpackLow(w2), unpackLow(w3)));
        @if(!weight_f32) stageW(wBlock, wK + 4u, mat4x4<f32>(unpackHigh(w0), unpackHigh(w1), unpackHigh(w2), unpackHigh(w3)));
      }
      workgroupBarrier();
    }
    if (tile < tiles) {
      let k = tile * TILE_K;
      if (xStages) {
        xs = mat4x4<f32>(loadX(xStarts.x, k + xK), loadX(xStarts.y, k + xK), loadX(xStarts.z, k + xK), loadX(xStarts.w, k + xK));
      }
      if (wStages) {
        let at = min(k + wK, params.inner - 1u);
        w0 = loadWeight(fromGate, wStarts.x + at);
        w1 = loadWeight(fromGate, wStarts.y + at);
        w2 = loadWeight(fromGate, wStarts.z + at);
        w3 = loadWeight(fromGate, wStarts.w + at);
      }
    }
    if (tile > 0u) { multiplyTiles(&sums, place); }
  }

  let row = tileRow + place.x * 4u;
  let column = tileColumn + place.y * 4u;
  if (GATED) {
    writeGated(row, column, sums.upperLeft, sums.upperRight);
    if (THREAD_ROWS == 8u) { writeGated(row + 4u * THREADS_M, column, sums.lowerLeft, sums.lowerRight); }
    return;
  }
  writeBlock(row, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(row + 4u * THREADS_M, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(row, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(row + 4u * THREADS_M, column + 4u * THREADS_N, sums.lowerRight); }
}
