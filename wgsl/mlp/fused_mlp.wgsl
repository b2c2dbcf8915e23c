// y = residual + scale * act(u), and with a gate, in one pass, y = residual + scale * act(g) * u, where
// u[m, n] = sum_k up[n, k] x'[m, k] + upBias[n], g likewise of the gate, x' = x or its RMS norm (times weight + normShift)
// Source: GLU Variants Improve Transformer, arXiv 2002.05202, equations 2 and 6; the down projection is the first form.
// Work: one workgroup a tile; with a gate the left half of the tile is the gate's sums, the right half up's.
// Workgroup memory: 64 (tile rows + tile columns) bytes, up to 16 KiB. Barriers: around the staging of a tile.
// Requirements: none.
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
  gateOffset: u32,
  gateStride: u32,
  gateScales: u32,
  upOffset: u32,
  upStride: u32,
  upScales: u32,
  normOffset: u32,
  gateBiasOffset: u32,
  upBiasOffset: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
  normShift: f32,
  scale: f32,
}

override ACTIVATION: u32 = 0u;
// needs THREAD_COLUMNS = 8
override GATED: bool = false;
override HAS_NORM: bool = false;
override HAS_GATE_BIAS: bool = false;
override HAS_UP_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, K) from xOffset, rows xStride apart; both are multiples of 4 for vector access
@if(access_vector) @group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(1) var<storage, read> x: array<f32>;
// (N, K) from gateOffset, rows gateStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element gateScales
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
// (N, K) from upOffset, rows upStride apart (multiples of 8, of 32 for quants), 16 bytes an element;
// scales from element upScales
@group(0) @binding(3) var<storage, read> up: array<vec4<u32>>;
// (K) from normOffset
@group(0) @binding(4) var<storage, read> normWeight: array<f32>;
// (N)
@group(0) @binding(5) var<storage, read> gateBias: array<f32>;
// (N)
@group(0) @binding(6) var<storage, read> upBias: array<f32>;
// (M, N) from yOffset, rows yStride apart (multiples of 4 for vector access); holds the residual first
@if(access_vector) @group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(7) var<storage, read_write> y: array<f32>;

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

// The gain of k .. k + 3, normWeight + normShift; what stands for values from params.inner on meets zeros of x.
fn loadGain(k: u32) -> vec4<f32> {
  let last = params.normOffset + params.inner - 1u;
  let at = params.normOffset + k;
  let gains = vec4<f32>(normWeight[min(at, last)], normWeight[min(at + 1u, last)], normWeight[min(at + 2u, last)], normWeight[min(at + 3u, last)]);
  return gains + params.normShift;
}

@if(weight_q8 || weight_q4)
fn gateScaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(gate[params.gateScales + block / 8u][block / 2u % 4u], block);
}

@if(weight_q8 || weight_q4)
fn upScaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(up[params.upScales + block / 8u][block / 2u % 4u], block);
}

// One load of each of four rows of the gate or of up; `loads` counts them from the start of the binding.
fn load(fromGate: bool, loads: vec4<u32>) -> Loads {
  var found: Loads;
  if (fromGate) {
    found.w0 = gate[loads.x];
    found.w1 = gate[loads.y];
    found.w2 = gate[loads.z];
    found.w3 = gate[loads.w];
    @if(weight_q8 || weight_q4) found.scales = vec4<f32>(gateScaleAt(loads.x), gateScaleAt(loads.y), gateScaleAt(loads.z), gateScaleAt(loads.w));
    return found;
  }
  found.w0 = up[loads.x];
  found.w1 = up[loads.y];
  found.w2 = up[loads.z];
  found.w3 = up[loads.w];
  @if(weight_q8 || weight_q4) found.scales = vec4<f32>(upScaleAt(loads.x), upScaleAt(loads.y), upScaleAt(loads.z), upScaleAt(loads.w));
  return found;
}

// Four columns of a bias from `column`; what stands for those from params.outputs on is not written.
fn gateBiasAt(column: u32) -> vec4<f32> {
  if (!HAS_GATE_BIAS) { return vec4<f32>(0.0); }
  let at = params.gateBiasOffset + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));
  return vec4<f32>(gateBias[at.x], gateBias[at.y], gateBias[at.z], gateBias[at.w]);
}

fn upBiasAt(column: u32) -> vec4<f32> {
  if (!HAS_UP_BIAS) { return vec4<f32>(0.0); }
  let at = params.upBiasOffset + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.outputs - 1u));
  return vec4<f32>(upBias[at.x], upBias[at.y], upBias[at.z], upBias[at.w]);
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
  let shift = upBiasAt(column);
  for (var i = 0u; i < 4u; i++) { writeRow(row + i, column, activate(ACTIVATION, sums[i] + shift)); }
}

fn writeGated(row: u32, column: u32, gates: mat4x4<f32>, ups: mat4x4<f32>) {
  let gateShift = gateBiasAt(column);
  let shift = upBiasAt(column);
  for (var i = 0u; i < 4u; i++) { writeRow(row + i, column, activate(ACTIVATION, gates[i] + gateShift) * (ups[i] + shift)); }
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
  let wStages = other < THREADS_N * THREAD_COLUMNS / 4u * (TILE_K / VALUES_STAGED);
  let wBlock = other / (TILE_K / VALUES_STAGED);
  let wK = other % (TILE_K / VALUES_STAGED) * VALUES_STAGED;
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
        ws = load(fromGate, (wStarts + at) / VALUES_PER_LOAD);
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
