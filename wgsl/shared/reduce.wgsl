// Reductions over a workgroup. Every invocation of the workgroup must call them, in uniform control flow, and every
// one gets the result. They may be called again at once: the closing barrier frees the shared memory.

const MAX_INVOCATIONS: u32 = 256u;

var<workgroup> partials: array<f32, MAX_INVOCATIONS>;

// Sum of `value` over the first `size` invocations of the workgroup (all of them), size <= 256.
@if(simd_subgroups)
fn workgroupSum(value: f32, local: u32, size: u32, subgroupSize: u32) -> f32 {
  let within = subgroupAdd(value);
  let lane = local % subgroupSize;
  if (lane == 0u) { partials[local / subgroupSize] = within; }
  workgroupBarrier();
  // Invocations are numbered subgroup by subgroup here, as on every driver in use; the count is small.
  var total = 0.0;
  let count = (size + subgroupSize - 1u) / subgroupSize;
  for (var i = 0u; i < count; i++) { total += partials[i]; }
  workgroupBarrier();
  return total;
}
@else
fn workgroupSum(value: f32, local: u32, size: u32, subgroupSize: u32) -> f32 {
  partials[local] = value;
  workgroupBarrier();
  var width = size;
  while (width > 1u) {
    let half = (width + 1u) / 2u;
    if (local + half < width) { partials[local] += partials[local + half]; }
    workgroupBarrier();
    width = half;
  }
  let total = partials[0];
  workgroupBarrier();
  return total;
}
