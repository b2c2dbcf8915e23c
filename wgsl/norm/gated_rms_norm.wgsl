// u = x * act(z); y[r, g, i] = u[r, g, i] / sqrt(mean_i(u[r, g, i]^2) + eps) * weight[g, i]; or norm(x) * weight * act(z)
// Source: Dao and Gu, arXiv 2405.21060, section 7; state-spaces/mamba, RMSNormGated (norm_before_gate, group_size).
// Work: one workgroup WORKGROUP_SIZE / LANES slices, a row's group each; its lanes keep it in registers between the passes.
// Workgroup memory: 1 KiB of partial sums, 0.25 KiB with subgroups.
// Barriers: those of sumOverLanes; none where a slice is no wider than a subgroup.
// Requirements: none; subgroups shorten the reduction; 16-byte loads where widths, offsets and strides allow them.
//! axis simd: subgroups(subgroups) | baseline
//! axis access: vector | scalar
import package::shared::row_lanes::{WORKGROUP_SIZE, LANES, STEPS, Element, Four, hasElement, sigmoid, squareOf, squareOfFour, sumOverLanes};
@if(simd_subgroups) enable subgroups;

// Width, offsets and strides count Elements: four values for vector access.
struct Params {
  // rows * groups
  slices: u32,
  groups: u32,
  width: u32,
  // values of a slice
  channels: u32,
  xOffset: u32,
  xStride: u32,
  zOffset: u32,
  zStride: u32,
  yStride: u32,
  eps: f32,
}

override HAS_WEIGHT: bool = true;
override NORM_BEFORE_GATE: bool = false;
// act: z * sigmoid(z), or sigmoid(z)
override SILU: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, groups * width), rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Element>;
// (rows, groups * width), rows zStride apart: the gate before its activation
@group(0) @binding(2) var<storage, read> z: array<Element>;
// (groups * width)
@group(0) @binding(3) var<storage, read> weight: array<Element>;
// (rows, groups * width), rows yStride apart
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

// Where a slice lies: the first element of its group, and the elements that this invocation may touch.
struct Slice {
  row: u32,
  start: u32,
  width: u32,
  lane: u32,
}

// Element `step` of a lane from x, or from z; 0 where the slice has none.
fn loadX(slice: Slice, step: u32) -> Element {
  let i = step * LANES + slice.lane;
  if (!hasElement(i, step, slice.width)) { return Element(); }
  return x[params.xOffset + slice.row * params.xStride + slice.start + i];
}

fn loadZ(slice: Slice, step: u32) -> Element {
  let i = step * LANES + slice.lane;
  if (!hasElement(i, step, slice.width)) { return Element(); }
  return z[params.zOffset + slice.row * params.zStride + slice.start + i];
}

fn loadFourX(slice: Slice, step: u32) -> Four {
  return Four(loadX(slice, step), loadX(slice, step + 1u), loadX(slice, step + 2u), loadX(slice, step + 3u));
}

fn loadFourZ(slice: Slice, step: u32) -> Four {
  return Four(loadZ(slice, step), loadZ(slice, step + 1u), loadZ(slice, step + 2u), loadZ(slice, step + 3u));
}

fn gate(value: Element, z: Element) -> Element {
  if (SILU) { return value * (z * sigmoid(z)); }
  return value * sigmoid(z);
}

fn gateFour(value: Four, z: Four) -> Four {
  return Four(gate(value.a, z.a), gate(value.b, z.b), gate(value.c, z.c), gate(value.d, z.d));
}

fn store(slice: Slice, step: u32, scaled: Element, z: Element) {
  let i = step * LANES + slice.lane;
  if (!hasElement(i, step, slice.width)) { return; }
  var value = scaled;
  if (HAS_WEIGHT) { value *= weight[slice.start + i]; }
  if (NORM_BEFORE_GATE) { value = gate(value, z); }
  y[slice.row * params.yStride + slice.start + i] = value;
}

fn storeFour(slice: Slice, step: u32, value: Four, scale: f32, z: Four) {
  store(slice, step, value.a * scale, z.a);
  store(slice, step + 1u, value.b * scale, z.b);
  store(slice, step + 2u, value.c * scale, z.c);
  store(slice, step + 3u, value.d * scale, z.d);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let first = (workgroup.y * grid.x + workgroup.x) * (WORKGROUP_SIZE / LANES);
  if (first >= params.slices) { return; }
  let index = first + local / LANES;
  // Lanes without a slice take part in the sums with nothing.
  let width = select(0u, params.width, index < params.slices);
  let slice = Slice(index / params.groups, index % params.groups * params.width, width, local % LANES);
  let steps = (params.width + LANES - 1u) / LANES;
  var low = Four();
  var high = Four();
  // The gate, where it comes last: loaded with x, so that both are in flight together.
  var lowZ = Four();
  var highZ = Four();
  var squares = 0.0;
  if (STEPS > 0u) {
    low = loadFourX(slice, 0u);
    lowZ = loadFourZ(slice, 0u);
    if (STEPS > 4u) {
      high = loadFourX(slice, 4u);
      highZ = loadFourZ(slice, 4u);
    }
    if (!NORM_BEFORE_GATE) {
      low = gateFour(low, lowZ);
      if (STEPS > 4u) { high = gateFour(high, highZ); }
    }
    squares = squareOfFour(low) + squareOfFour(high);
  } else {
    for (var step = 0u; step < steps; step++) {
      var value = loadX(slice, step);
      if (!NORM_BEFORE_GATE) { value = gate(value, loadZ(slice, step)); }
      squares += squareOf(value);
    }
  }
  let scale = inverseSqrt(sumOverLanes(squares, local, subgroupSize) / f32(params.channels) + params.eps);
  if (STEPS > 0u) {
    storeFour(slice, 0u, low, scale, lowZ);
    if (STEPS > 4u) { storeFour(slice, 4u, high, scale, highZ); }
  } else {
    for (var step = 0u; step < steps; step++) {
      var value = loadX(slice, step);
      let gateValue = loadZ(slice, step);
      if (!NORM_BEFORE_GATE) { value = gate(value, gateValue); }
      store(slice, step, value * scale, gateValue);
    }
  }
}
