// y[m, f] = addend[m, f] + scale * act(gate[m, f]) * x[m, f]; one gate[m] for a whole row; or added to y
// Source: GLU Variants Improve Transformer, arXiv 2002.05202, equation 5, its two products given; one gate a row is that of
//   Qwen3-Next's shared expert.
// Work: one invocation an element, workgroups over all rows.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; 16-byte loads where widths, offsets and strides allow them.
//! axis load: vec4 | scalar
import package::shared::activations::activate;

// Everything counts values; offsets, strides and the width are multiples of 4 for vec4 loads.
struct Params {
  rows: u32,
  width: u32,
  xOffset: u32,
  xStride: u32,
  gateOffset: u32,
  gateStride: u32,
  addendOffset: u32,
  addendStride: u32,
  yOffset: u32,
  yStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;
override ACTIVATION: u32 = 0u;
override HAS_GATE: bool = false;
// The gate is (rows, 1), its offset and stride any number.
override ROW_GATE: bool = false;
override HAS_ADDEND: bool = false;
override HAS_RESIDUAL: bool = false;

@if(load_vec4) alias Element = vec4<f32>;
@else alias Element = f32;
@if(load_vec4) const VALUES: u32 = 4u;
@else const VALUES: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width) from xOffset, rows xStride apart
@group(0) @binding(1) var<storage, read> x: array<Element>;
// (rows, width) or (rows, 1) from gateOffset, rows gateStride apart
@group(0) @binding(2) var<storage, read> gate: array<Element>;
// (rows, width) from addendOffset, rows addendStride apart
@group(0) @binding(3) var<storage, read> addend: array<Element>;
// (rows, width) from yOffset, rows yStride apart; holds the residual first
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

// The gate of element i of a row, before its activation.
fn gateAt(row: u32, i: u32) -> vec4<f32> {
  let at = params.gateOffset + row * params.gateStride;
  if (ROW_GATE) {
    @if(load_vec4) return vec4<f32>(gate[at / 4u][at % 4u]);
    @if(load_scalar) return vec4<f32>(gate[at]);
  }
  @if(load_vec4) return gate[at / 4u + i];
  @if(load_scalar) return vec4<f32>(gate[at + i]);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Elements may exceed one dimension of the grid (see flatGrid).
  let index = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  let elements = params.width / VALUES;
  let row = index / elements;
  let i = index % elements;
  if (row >= params.rows) { return; }
  var value = x[(params.xOffset + row * params.xStride) / VALUES + i] * params.scale;
  if (HAS_GATE) {
    let factor = activate(ACTIVATION, gateAt(row, i));
    @if(load_vec4) value *= factor;
    @if(load_scalar) value *= factor.x;
  }
  if (HAS_ADDEND) { value += addend[(params.addendOffset + row * params.addendStride) / VALUES + i]; }
  let at = (params.yOffset + row * params.yStride) / VALUES + i;
  if (HAS_RESIDUAL) { value += y[at]; }
  y[at] = value;
}
