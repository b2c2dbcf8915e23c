// y[i] = sum_{k, c} v[k, c], where v[k, c] = x[i] + (k + c) / 8 at first, then ITERATIONS times v = v * scale + shift
// Source: none; it measures how many f32 multiply-adds a device does from registers.
// Work: one invocation a value: 32 chains (8 vectors) that do not depend on each other, so that latency is hidden.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.

struct Params {
  count: u32,
  scale: f32,
  shift: f32,
}

const WORKGROUP_SIZE: u32 = 256u;
// Steps that one turn of the loop does, so that counting costs little beside the arithmetic.
const STEPS: u32 = 4u;
override ITERATIONS: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
// (count)
@group(0) @binding(1) var<storage, read> x: array<f32>;
// (count)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let i = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  if (i >= params.count) { return; }
  let scale = vec4<f32>(params.scale);
  let shift = vec4<f32>(params.shift);
  var v0 = x[i] + vec4<f32>(0.0, 0.125, 0.25, 0.375);
  var v1 = v0 + 0.125;
  var v2 = v0 + 0.25;
  var v3 = v0 + 0.375;
  var v4 = v0 + 0.5;
  var v5 = v0 + 0.625;
  var v6 = v0 + 0.75;
  var v7 = v0 + 0.875;
  for (var turn = 0u; turn < ITERATIONS / STEPS; turn++) {
    for (var step = 0u; step < STEPS; step++) {
      v0 = fma(v0, scale, shift);
      v1 = fma(v1, scale, shift);
      v2 = fma(v2, scale, shift);
      v3 = fma(v3, scale, shift);
      v4 = fma(v4, scale, shift);
      v5 = fma(v5, scale, shift);
      v6 = fma(v6, scale, shift);
      v7 = fma(v7, scale, shift);
    }
  }
  y[i] = dot(((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)), vec4<f32>(1.0));
}
