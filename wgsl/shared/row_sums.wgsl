// Matrix-vector products by a workgroup whose invocations share the inner dimension: partial sums of ROWS rows of
// weights with X_ROWS rows of x, and their totals. Needs the axis `simd: subgroups(subgroups) | baseline`.
// Workgroup memory: 4 KiB (1 KiB with subgroups).

override WORKGROUP_SIZE: u32 = 64u;
// 1, 2 or 4 each; a workgroup has at least ROWS * X_ROWS invocations.
override ROWS: u32 = 4u;
override X_ROWS: u32 = 1u;
// Loads of each row that are issued before the first is used: 1 or 2.
override AHEAD: u32 = 2u;
// The quads of a load of quants in a row, so that masks and shifts are known when the shader is compiled; without, it is
// quicker to compile (which counts where a CPU does the work).
override UNROLL: bool = true;
// Rows of x are multiplied with a gain, and the sums of their squares are wanted for a norm.
override HAS_NORM: bool = false;

// For each row of x a vector over four rows of weights, and sum(x^2) of the four rows of x.
struct Sums {
  products: mat4x4<f32>,
  squares: vec4<f32>,
}

fn dots(values: vec4<f32>, weights: mat4x4<f32>) -> vec4<f32> {
  var sums = vec4<f32>(dot(weights[0], values), 0.0, 0.0, 0.0);
  if (ROWS > 1u) { sums.y = dot(weights[1], values); }
  if (ROWS > 2u) {
    sums.z = dot(weights[2], values);
    sums.w = dot(weights[3], values);
  }
  return sums;
}

// Adds the products of four values along K: values[m] of row m of x, weights[r] of row r of the weights.
fn addProducts(sums: ptr<function, Sums>, values: mat4x4<f32>, gain: vec4<f32>, weights: mat4x4<f32>) {
  (*sums).products[0] += dots(values[0] * gain, weights);
  if (HAS_NORM) { (*sums).squares.x += dot(values[0], values[0]); }
  if (X_ROWS > 1u) {
    (*sums).products[1] += dots(values[1] * gain, weights);
    if (HAS_NORM) { (*sums).squares.y += dot(values[1], values[1]); }
  }
  if (X_ROWS > 2u) {
    (*sums).products[2] += dots(values[2] * gain, weights);
    (*sums).products[3] += dots(values[3] * gain, weights);
    if (HAS_NORM) { (*sums).squares += vec4<f32>(0.0, 0.0, dot(values[2], values[2]), dot(values[3], values[3])); }
  }
}

// Adds the sums of blocks of quants, whose four rows of weights have these scales.
fn addScaled(sums: ptr<function, Sums>, part: Sums, scales: vec4<f32>) {
  (*sums).products[0] += part.products[0] * scales;
  if (X_ROWS > 1u) { (*sums).products[1] += part.products[1] * scales; }
  if (X_ROWS > 2u) {
    (*sums).products[2] += part.products[2] * scales;
    (*sums).products[3] += part.products[3] * scales;
  }
  if (HAS_NORM) { (*sums).squares += part.squares; }
}

// Totals over the workgroup, for every invocation. Call it in uniform control flow.
fn totalsOf(sums: Sums, local: u32, subgroupSize: u32) -> Sums {
  var totals: Sums;
  totals.products[0] = sumOverWorkgroup(sums.products[0], local, WORKGROUP_SIZE, subgroupSize);
  if (X_ROWS > 1u) { totals.products[1] = sumOverWorkgroup(sums.products[1], local, WORKGROUP_SIZE, subgroupSize); }
  if (X_ROWS > 2u) {
    totals.products[2] = sumOverWorkgroup(sums.products[2], local, WORKGROUP_SIZE, subgroupSize);
    totals.products[3] = sumOverWorkgroup(sums.products[3], local, WORKGROUP_SIZE, subgroupSize);
  }
  if (HAS_NORM) { totals.squares = sumOverWorkgroup(sums.squares, local, WORKGROUP_SIZE, subgroupSize); }
  return totals;
}

// The total of row r of the weights with row m of x. A matrix that is indexed lies in memory, not in registers: taking
// what is wanted by comparisons makes products a quarter faster (f16, 16384 x 4096, H200).
fn productOf(totals: Sums, m: u32, r: u32) -> f32 {
  var row = totals.products[0];
  if (X_ROWS > 1u && m == 1u) { row = totals.products[1]; }
  if (X_ROWS > 2u && m == 2u) { row = totals.products[2]; }
  if (X_ROWS > 2u && m == 3u) { row = totals.products[3]; }
  return pick(row, r);
}

// sum(x^2) of row m of x.
fn squareOf(totals: Sums, m: u32) -> f32 {
  if (X_ROWS == 1u) { return totals.squares.x; }
  return pick(totals.squares, m);
}

fn pick(values: vec4<f32>, index: u32) -> f32 {
  let pair = select(values.xy, values.zw, index >= 2u);
  return select(pair.x, pair.y, index % 2u == 1u);
}

// A workgroup has up to 256 invocations; a subgroup at least 4.
@if(simd_subgroups) const MAX_PARTIALS: u32 = 64u;
@else const MAX_PARTIALS: u32 = 256u;

var<workgroup> rowPartials: array<vec4<f32>, MAX_PARTIALS>;

// Sum over the workgroup's `size` invocations, <= 256, which must all call it; it may be called again at once.
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
