// y[r, i] = x[r, i] / sqrt(mean_i(x[r, i]^2) + eps) * (weight[i] + weightOffset); or of residual + x, kept in residual;
// or added to y
// Source: Zhang and Sennrich, arXiv 1910.07467, equation 4; the 1 + w form is Gemma's and Qwen3-Next's, the sum Gemma 3's.
// Work: one workgroup WORKGROUP_SIZE / LANES rows; a row's lanes keep it in registers between squares and scaling.
// Workgroup memory: 1 KiB of partial sums, 0.25 KiB with subgroups.
// Barriers: those of sumOverLanes; none where a row is no wider than a subgroup.
// Requirements: none; subgroups shorten the reduction; 16-byte loads where widths, offsets and strides allow them.
//! axis simd: subgroups(subgroups) | baseline
//! axis access: vector | scalar
import package::shared::row_lanes::{WORKGROUP_SIZE, LANES, STEPS, Element, Four, hasElement, squareOf, squareOfFour, sumOverLanes};
@if(simd_subgroups) enable subgroups;

// Width, offsets and strides count Elements: four values for vector access.
struct Params {
  rows: u32,
  width: u32,
  // values of a row
  channels: u32,
  xOffset: u32,
  xStride: u32,
  residualOffset: u32,
  residualStride: u32,
  yOffset: u32,
  yStride: u32,
  eps: f32,
  weightOffset: f32,
}

override HAS_WEIGHT: bool = true;
override HAS_RESIDUAL: bool = false;
// y is added to; otherwise it begins at 0.
override ADDS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Element>;
// (width)
@group(0) @binding(2) var<storage, read> weight: array<Element>;
// (rows, width), rows residualStride apart: becomes residual + x
@group(0) @binding(3) var<storage, read_write> residual: array<Element>;
// (rows, width) from yOffset, rows yStride apart
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

// An element of what is normalised; 0 where the row has none.
fn load(row: u32, i: u32, step: u32, width: u32) -> Element {
  if (!hasElement(i, step, width)) { return Element(); }
  let value = x[params.xOffset + row * params.xStride + i];
  if (!HAS_RESIDUAL) { return value; }
  return residual[params.residualOffset + row * params.residualStride + i] + value;
}

fn loadFour(row: u32, lane: u32, step: u32, width: u32) -> Four {
  return Four(
    load(row, step * LANES + lane, step, width),
    load(row, (step + 1u) * LANES + lane, step + 1u, width),
    load(row, (step + 2u) * LANES + lane, step + 2u, width),
    load(row, (step + 3u) * LANES + lane, step + 3u, width),
  );
}

fn keep(row: u32, i: u32, step: u32, width: u32, value: Element) {
  if (hasElement(i, step, width)) { residual[params.residualOffset + row * params.residualStride + i] = value; }
}

fn keepFour(row: u32, lane: u32, step: u32, width: u32, value: Four) {
  keep(row, step * LANES + lane, step, width, value.a);
  keep(row, (step + 1u) * LANES + lane, step + 1u, width, value.b);
  keep(row, (step + 2u) * LANES + lane, step + 2u, width, value.c);
  keep(row, (step + 3u) * LANES + lane, step + 3u, width, value.d);
}

fn store(row: u32, i: u32, step: u32, width: u32, scaled: Element) {
  if (!hasElement(i, step, width)) { return; }
  var value = scaled;
  if (HAS_WEIGHT) { value *= weight[i] + params.weightOffset; }
  var at = row * params.yStride + i;
  if (ADDS) {
    at += params.yOffset;
    value += y[at];
  }
  y[at] = value;
}

fn storeFour(row: u32, lane: u32, step: u32, width: u32, value: Four, scale: f32) {
  store(row, step * LANES + lane, step, width, value.a * scale);
  store(row, (step + 1u) * LANES + lane, step + 1u, width, value.b * scale);
  store(row, (step + 2u) * LANES + lane, step + 2u, width, value.c * scale);
  store(row, (step + 3u) * LANES + lane, step + 3u, width, value.d * scale);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Rows may exceed one dimension of the grid (see flatGrid).
  let firstRow = (workgroup.y * grid.x + workgroup.x) * (WORKGROUP_SIZE / LANES);
  if (firstRow >= params.rows) { return; }
  let row = firstRow + local / LANES;
  let lane = local % LANES;
  // Lanes without a row take part in the sums with nothing.
  let width = select(0u, params.width, row < params.rows);
  let steps = (params.width + LANES - 1u) / LANES;
  var low = Four();
  var high = Four();
  var squares = 0.0;
  if (STEPS > 0u) {
    low = loadFour(row, lane, 0u, width);
    if (STEPS > 4u) { high = loadFour(row, lane, 4u, width); }
    squares = squareOfFour(low) + squareOfFour(high);
    if (HAS_RESIDUAL) {
      keepFour(row, lane, 0u, width, low);
      if (STEPS > 4u) { keepFour(row, lane, 4u, width, high); }
    }
  } else {
    for (var step = 0u; step < steps; step++) {
      let value = load(row, step * LANES + lane, step, width);
      if (HAS_RESIDUAL) { keep(row, step * LANES + lane, step, width, value); }
      squares += squareOf(value);
    }
  }
  let scale = inverseSqrt(sumOverLanes(squares, local, subgroupSize) / f32(params.channels) + params.eps);
  if (STEPS > 0u) {
    storeFour(row, lane, 0u, width, low, scale);
    if (STEPS > 4u) { storeFour(row, lane, 4u, width, high, scale); }
  } else {
    for (var step = 0u; step < steps; step++) {
      let i = step * LANES + lane;
      if (i < width) {
        var value = x[params.xOffset + row * params.xStride + i];
        if (HAS_RESIDUAL) { value = residual[params.residualOffset + row * params.residualStride + i]; }
        store(row, i, step, width, value * scale);
      }
    }
  }
}
