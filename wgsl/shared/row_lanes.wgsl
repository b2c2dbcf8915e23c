// Rows that LANES neighbouring invocations of a workgroup share: lane l has the elements l, LANES + l, 2 LANES + l, ...
// Up to eight of them (STEPS) stay in registers between the passes over a row; they have names, since not every compiler
// unrolls loops over an array. Needs the axes `simd: subgroups(subgroups) | baseline` and `access: vector | scalar`.
// Workgroup memory: 1 KiB, 0.25 KiB with subgroups.

// At most 256; a multiple of LANES.
override WORKGROUP_SIZE: u32 = 256u;
// A power of two.
override LANES: u32 = 256u;
// Elements of a lane that registers keep, 1 to 8; 0: the row is read again.
override STEPS: u32 = 0u;
// Every lane of every workgroup has all its STEPS elements.
override EXACT: bool = false;

@if(access_vector) alias Element = vec4<f32>;
@else alias Element = f32;
@if(access_vector) const VALUES: u32 = 4u;
@else const VALUES: u32 = 1u;

struct Four {
  a: Element,
  b: Element,
  c: Element,
  d: Element,
}

@if(access_vector) fn sumOf(v: Element) -> f32 { return dot(v, vec4<f32>(1.0)); }
@else fn sumOf(v: Element) -> f32 { return v; }

@if(access_vector) fn squareOf(v: Element) -> f32 { return dot(v, v); }
@else fn squareOf(v: Element) -> f32 { return v * v; }

fn sumOfFour(v: Four) -> f32 { return sumOf(v.a + v.b + v.c + v.d); }
fn squareOfFour(v: Four) -> f32 { return squareOf(v.a) + squareOf(v.b) + squareOf(v.c) + squareOf(v.d); }

// The bound keeps exp finite.
fn sigmoid(v: Element) -> Element { return 1.0 / (1.0 + exp(min(-v, Element(80.0)))); }

// Whether a row of `width` elements has element i, which belongs to this step of a lane.
fn hasElement(i: u32, step: u32, width: u32) -> bool {
  if (STEPS == 0u) { return i < width; }
  return step < STEPS && (EXACT || i < width);
}

// Invocations are numbered subgroup by subgroup, as on every driver in use; a subgroup has at least 4.
@if(simd_subgroups) const MAX_PARTIALS: u32 = 64u;
@else const MAX_PARTIALS: u32 = 256u;

var<workgroup> lanePartials: array<f32, MAX_PARTIALS>;

// Sum over the lanes of a row, for each of them. Every invocation of the workgroup calls it, and may do so again at once.
@if(simd_subgroups)
fn sumOverLanes(value: f32, local: u32, subgroupSize: u32) -> f32 {
  var sum = value;
  let together = min(LANES, subgroupSize);
  for (var bit = 0u; (1u << bit) < together; bit++) { sum += subgroupShuffleXor(sum, 1u << bit); }
  if (LANES > subgroupSize) {
    if (local % subgroupSize == 0u) { lanePartials[local / subgroupSize] = sum; }
    workgroupBarrier();
    let subgroups = LANES / subgroupSize;
    let first = local / LANES * subgroups;
    sum = 0.0;
    for (var i = 0u; i < subgroups; i++) { sum += lanePartials[first + i]; }
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
  let sum = lanePartials[local / LANES * LANES];
  workgroupBarrier();
  return sum;
}
