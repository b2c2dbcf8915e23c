// Reductions over a workgroup. Every invocation of the workgroup must call them, in uniform control flow, and every
// one gets the result. They may be called again at once: the closing barrier frees the shared memory.

const MAX_INVOCATIONS: u32 = 256u;

var<workgroup> partials: array<f32, MAX_INVOCATIONS>;

// Sum of `value` over the first `size` invocations of the workgroup (all of them), size <= 256.
@if(simd_subgroups)
fn workgroupSum(value: f32, local: u32, size: u32, subgroupSize: u32) -> f32 {
  let within = subgroupAdd(value);
  if (size <= subgroupSize) { return within; }
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

var<workgroup> bestKeys: array<u32, MAX_INVOCATIONS>;
var<workgroup> bestIndices: array<u32, MAX_INVOCATIONS>;

// The larger key; of equal keys the one with the lower index. An entry is (key, index).
fn betterOf(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let second = b.x > a.x || (b.x == a.x && b.y < a.y);
  return select(a, b, second);
}

// The best entry of the first `size` invocations of the workgroup (all of them), size <= 256.
@if(simd_subgroups)
fn workgroupBest(entry: vec2<u32>, local: u32, size: u32, subgroupSize: u32) -> vec2<u32> {
  let key = subgroupMax(entry.x);
  let index = subgroupMin(select(0xffffffffu, entry.y, entry.x == key));
  if (local % subgroupSize == 0u) {
    bestKeys[local / subgroupSize] = key;
    bestIndices[local / subgroupSize] = index;
  }
  workgroupBarrier();
  var best = vec2<u32>(bestKeys[0], bestIndices[0]);
  let count = (size + subgroupSize - 1u) / subgroupSize;
  for (var i = 1u; i < count; i++) { best = betterOf(best, vec2<u32>(bestKeys[i], bestIndices[i])); }
  workgroupBarrier();
  return best;
}
@else
fn workgroupBest(entry: vec2<u32>, local: u32, size: u32, subgroupSize: u32) -> vec2<u32> {
  var best = entry;
  bestKeys[local] = best.x;
  bestIndices[local] = best.y;
  workgroupBarrier();
  var width = size;
  while (width > 1u) {
    let reach = (width + 1u) / 2u;
    if (local + reach < width) {
      best = betterOf(best, vec2<u32>(bestKeys[local + reach], bestIndices[local + reach]));
      bestKeys[local] = best.x;
      bestIndices[local] = best.y;
    }
    workgroupBarrier();
    width = reach;
  }
  best = vec2<u32>(bestKeys[0], bestIndices[0]);
  workgroupBarrier();
  return best;
}
