// Sums over a workgroup of four values at once: the partial dot products of four outputs, or of four rows.
// Every invocation must call it, in uniform control flow, and every one gets the result. It may be called again at
// once. Needs the axis `simd: subgroups(subgroups) | baseline`. Workgroup memory: 4 KiB (1 KiB with subgroups).

// A workgroup has up to 256 invocations; a subgroup at least 4.
@if(simd_subgroups) const MAX_PARTIALS: u32 = 64u;
@else const MAX_PARTIALS: u32 = 256u;

var<workgroup> rowPartials: array<vec4<f32>, MAX_PARTIALS>;

// size: invocations of the workgroup, <= 256
@if(simd_subgroups)
fn sumOverWorkgroup(value: vec4<f32>, local: u32, size: u32, subgroupSize: u32) -> vec4<f32> {
  let within = subgroupAdd(value);
  if (size <= subgroupSize) { return within; }
  if (local % subgroupSize == 0u) { rowPartials[local / subgroupSize] = within; }
  workgroupBarrier();
  // Invocations are numbered subgroup by subgroup, as on every driver in use; the count is small.
  var total = vec4<f32>(0.0);
  let count = (size + subgroupSize - 1u) / subgroupSize;
  for (var i = 0u; i < count; i++) { total += rowPartials[i]; }
  workgroupBarrier();
  return total;
}
@else
fn sumOverWorkgroup(value: vec4<f32>, local: u32, size: u32, subgroupSize: u32) -> vec4<f32> {
  rowPartials[local] = value;
  workgroupBarrier();
  var width = size;
  while (width > 1u) {
    let upper = (width + 1u) / 2u;
    if (local + upper < width) { rowPartials[local] += rowPartials[local + upper]; }
    workgroupBarrier();
    width = upper;
  }
  let total = rowPartials[0];
  workgroupBarrier();
  return total;
}
