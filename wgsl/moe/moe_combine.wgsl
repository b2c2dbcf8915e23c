// y[m, n] = residual[m, n] + scale * sum_s weights[m, s] rows[m, s, n]
// Source: Mixtral, arXiv 2401.04088, section 2.1: the weighted sum of a token's experts, slot by slot in their order.
// Work: one invocation four outputs of a token.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.
//! axis access: vector | scalar

struct Params {
  tokens: u32,
  slots: u32,
  outputs: u32,
  rowsStride: u32,
  weightsOffset: u32,
  yOffset: u32,
  yStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, slots, N), rows rowsStride apart (a multiple of 4)
@group(0) @binding(1) var<storage, read> rows: array<vec4<f32>>;
// (M, slots) from weightsOffset
@group(0) @binding(2) var<storage, read> weights: array<f32>;
// (M, N) from yOffset, rows yStride apart (multiples of 4 for vector access); holds the residual first
@if(access_vector) @group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@if(access_scalar) @group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Quads may exceed one dimension of the grid (see flatGrid).
  let quads = (params.outputs + 3u) / 4u;
  let quad = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  if (quad >= params.tokens * quads) { return; }
  let token = quad / quads;
  let column = quad % quads * 4u;
  var sum = vec4<f32>(0.0);
  for (var slot = 0u; slot < params.slots; slot++) {
    let pair = token * params.slots + slot;
    sum += weights[params.weightsOffset + pair] * rows[(pair * params.rowsStride + column) / 4u];
  }
  sum *= params.scale;
  let at = params.yOffset + token * params.yStride + column;
  let count = min(4u, params.outputs - column);
  @if(access_vector) {
    if (count == 4u) {
      if (HAS_RESIDUAL) { sum += y[at / 4u]; }
      y[at / 4u] = sum;
      return;
    }
  }
  for (var i = 0u; i < count; i++) {
    @if(access_vector) {
      if (HAS_RESIDUAL) { sum[i] += y[at / 4u][i]; }
      y[at / 4u][i] = sum[i];
    }
    @if(access_scalar) {
      if (HAS_RESIDUAL) { sum[i] += y[at + i]; }
      y[at + i] = sum[i];
    }
  }
}
