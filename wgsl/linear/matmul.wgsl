// y[m, n] = residual[m, n] + scale * act(sum_k x[m, k] g[k] weight[n, k] / sqrt(mean_k(x[m, k]^2) + eps) + bias[n])
// Source: the linear layer of a checkpoint; the root, and g = normWeight + normShift, only with a norm (RMS norm).
// Work: one workgroup a tile of TILE_M * TILE_N outputs; M tiles run fastest, so that neighbours share weights in L2.
// Workgroup memory: 64 (TILE_M + TILE_N) bytes: 16 KiB at 128 * 128, 8 KiB at 64 * 64.
// Barriers: before a tile is staged (the last one has been read) and after (it is whole). The next tile is loaded to
//   registers while this one is multiplied. A norm's sums of squares are shared at the end. Requirements: none.
//! axis weight: f32 | f16 | bf16 | q8 | q4
//! axis access: vector | scalar
import package::shared::activations::activate;
import package::shared::norm_rows::{squaresOf, timesGain, timesRoots};
import package::shared::tile::{THREADS_M, THREADS_N, THREAD_ROWS, THREAD_COLUMNS, TILE_K, Sums, stageX, stageW, multiplyTiles, placeOf, shareSquares, rootsOf};
import package::shared::weights::{VALUES_PER_LOAD, VALUES_STAGED, Loads, valuesOf, quadAt, blockOf, scaleOf};

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

// g[k .. k + 3] + normShift; what stands for values from params.inner on meets zeros of x.
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

fn writeBlock(row: u32, column: u32, sums: mat4x4<f32>) {
  writeRow(row, column, sums[0]);
  writeRow(row + 1u, column, sums[1]);
  writeRow(row + 2u, column, sums[2]);
  writeRow(row + 3u, column, sums[3]);
}

@compute @workgroup_size(THREADS_N, THREADS_M)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let tileRow = workgroup.x * THREADS_M * THREAD_ROWS;
  let tileColumn = workgroup.y * THREADS_N * THREAD_COLUMNS;
  // Blocks of x go to the first invocations, blocks of weights to the last ones: with large tiles nobody has both.
  let xStages = local < THREADS_M * THREAD_ROWS / 4u * (TILE_K / 4u);
  let xBlock = local / (TILE_K / 4u);
  let xK = local % (TILE_K / 4u) * 4u;
  let other = THREADS_M * THREADS_N - 1u - local;
  let wStages = other < THREADS_N * THREAD_COLUMNS / 4u * (TILE_K / VALUES_STAGED);
  let wBlock = other / (TILE_K / VALUES_STAGED);
  let wK = other % (TILE_K / VALUES_STAGED) * VALUES_STAGED;
  // Rows beyond the last one repeat it; their sums are not written.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let xRows = min(tileRow + xBlock * 4u + lanes, vec4<u32>(params.rows - 1u));
  let xStarts = params.xOffset + xRows * params.xStride;
  let wRows = min(tileColumn + wBlock * 4u + lanes, vec4<u32>(params.outputs - 1u));
  let wStarts = params.weightOffset + wRows * params.weightStride;
  let place = placeOf(local);

  var sums: Sums;
  var xs: mat4x4<f32>;
  var gain: vec4<f32>;
  var squares: vec4<f32>;
  var ws: Loads;
  let tiles = (params.inner + TILE_K - 1u) / TILE_K;
  for (var tile = 0u; tile <= tiles; tile++) {
    if (tile > 0u) {
      workgroupBarrier();
      if (tile == tiles) {
        // The last tile may reach beyond K: zeros of x meet weights that are finite.
        let k = (tile - 1u) * TILE_K + xK;
        xs = mat4x4<f32>(masked(xs[0], k), masked(xs[1], k), masked(xs[2], k), masked(xs[3], k));
      }
      if (xStages) {
        if (HAS_NORM) {
          squares += squaresOf(xs);
          xs = timesGain(xs, gain);
        }
        stageX(xBlock, xK, xs);
      }
      if (wStages) {
        let quad = quadAt((tile - 1u) * TILE_K + wK);
        stageW(wBlock, wK, valuesOf(ws, quad));
        @if(weight_f16 || weight_bf16) stageW(wBlock, wK + 4u, valuesOf(ws, 1u));
      }
      workgroupBarrier();
    }
    if (tile < tiles) {
      let k = tile * TILE_K;
      if (xStages) {
        xs = mat4x4<f32>(loadX(xStarts.x, k + xK), loadX(xStarts.y, k + xK), loadX(xStarts.z, k + xK), loadX(xStarts.w, k + xK));
        if (HAS_NORM) { gain = loadGain(k + xK); }
      }
      if (wStages) {
        let at = min(k + wK, params.inner - 1u);
        ws = load((wStarts + at) / VALUES_PER_LOAD);
      }
    }
    if (tile > 0u) { multiplyTiles(&sums, place); }
  }

  if (HAS_NORM) {
    shareSquares(xStages, xBlock, xK, squares);
    let upper = rootsOf(place.x, params.inner, params.eps);
    let lower = rootsOf(select(place.x, THREADS_M + place.x, THREAD_ROWS == 8u), params.inner, params.eps);
    sums.upperLeft = timesRoots(sums.upperLeft, upper);
    sums.lowerLeft = timesRoots(sums.lowerLeft, lower);
    sums.upperRight = timesRoots(sums.upperRight, upper);
    sums.lowerRight = timesRoots(sums.lowerRight, lower);
  }
  let row = tileRow + place.x * 4u;
  let column = tileColumn + place.y * 4u;
  writeBlock(row, column, sums.upperLeft);
  if (THREAD_ROWS == 8u) { writeBlock(row + 4u * THREADS_M, column, sums.lowerLeft); }
  if (THREAD_COLUMNS == 8u) { writeBlock(row, column + 4u * THREADS_N, sums.upperRight); }
  if (THREAD_ROWS == 8u && THREAD_COLUMNS == 8u) { writeBlock(row + 4u * THREADS_M, column + 4u * THREADS_N, sums.lowerRight); }
}
