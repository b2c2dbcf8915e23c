// Sums over neighbouring invocations of a workgroup of up to 128. Needs the axis `simd: subgroups(subgroups) | baseline`.
// Workgroup memory: 0.5 KiB.

// Invocations that have one sum: a power of two up to 32, no more than the workgroup has.
override LANES: u32 = 32u;

const MAX_INVOCATIONS: u32 = 128u;

var<workgroup> lanePartials: array<f32, MAX_INVOCATIONS>;

// Sum over the LANES invocations of a row; every invocation of the workgroup calls it, and may call it again at once.
@if(simd_subgroups)
fn sumOverLanes(value: f32, local: u32, subgroupSize: u32) -> f32 {
  var sum = value;
  let width = min(LANES, subgroupSize);
  for (var mask = 1u; mask < width; mask <<= 1u) { sum += subgroupShuffleXor(sum, mask); }
  if (LANES > subgroupSize) {
    // Invocations are numbered subgroup by subgroup, as on every driver in use.
    lanePartials[local] = sum;
    workgroupBarrier();
    let first = (local / LANES) * LANES;
    sum = 0.0;
    for (var lane = 0u; lane < LANES; lane += width) { sum += lanePartials[first + lane]; }
    workgroupBarrier();
  }
  return sum;
}
@else
fn sumOverLanes(value: f32, local: u32, subgroupSize: u32) -> f32 {
  lanePartials[local] = value;
  workgroupBarrier();
  for (var distance = LANES / 2u; distance > 0u; distance >>= 1u) {
    if (local % LANES < distance) { lanePartials[local] += lanePartials[local + distance]; }
    workgroupBarrier();
  }
  let sum = lanePartials[(local / LANES) * LANES];
  workgroupBarrier();
  return sum;
}
