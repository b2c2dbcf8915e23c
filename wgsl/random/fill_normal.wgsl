// y[r, c] = offset + scale z(first + r width + c), z(i) standard normal, by the seed and i alone; of quants, q = round(scale z)
// Source: Box and Muller, 1958, doi 10.1214/aoms/1177706645, on the words of Philox-4x32-10 (see shared/random).
// Work: one invocation the values of a load, four words of y; one Philox block gives four values.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.
//! axis weight: f32 | f16 | bf16 | q8 | q4
import package::shared::narrow::narrow;
import package::shared::random::{philox, exponential};
import package::shared::rows::firstOf;
import package::shared::trigonometry::sinCosOfTurn;
import package::shared::weights::VALUES_PER_LOAD;

struct Params {
  rows: u32,
  // values of a row
  width: u32,
  // loads of a row
  loads: u32,
  // in words
  yOffset: u32,
  yStride: u32,
  yScales: u32,
  blocks: u32,
  // f16 bits of the scale of all blocks
  scaleBits: u32,
  // number of the first value
  firstLow: u32,
  firstHigh: u32,
  seedLow: u32,
  seedHigh: u32,
  offset: f32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;
// first and the width of rows, where there are several, are multiples of 4.
override ALIGNED: bool = false;

// The largest quant; q4 leaves -8 out, so that the mean is 0.
@if(weight_q8) const LARGEST_QUANT: f32 = 127.0;
@if(weight_q4) const LARGEST_QUANT: f32 = 7.0;
// Third word of the counters: those of sample have 0 there.
const STREAM: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
// (rows, width), rows yStride apart, as weights are stored (see shared/weights); scales from word yScales
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

// z(4 block) .. z(4 block + 3)
fn normalsOf(block: vec2<u32>) -> vec4<f32> {
  let words = philox(vec4<u32>(block, STREAM, 0u), vec2<u32>(params.seedLow, params.seedHigh));
  let radii = sqrt(2.0 * vec2<f32>(exponential(words.x), exponential(words.z)));
  return vec4<f32>(radii.x * sinCosOfTurn(words.y).yx, radii.y * sinCosOfTurn(words.w).yx);
}

// z of four values from value `value` of y on.
fn normalsFrom(value: u32) -> vec4<f32> {
  let low = params.firstLow + value;
  let high = params.firstHigh + select(0u, 1u, low < value);
  let block = vec2<u32>((low >> 2u) | (high << 30u), high >> 2u);
  let here = normalsOf(block);
  if (ALIGNED) { return here; }
  let next = normalsOf(vec2<u32>(block.x + 1u, block.y + select(0u, 1u, block.x == 0xffffffffu)));
  switch (low & 3u) {
    case 1u: { return vec4<f32>(here.yzw, next.x); }
    case 2u: { return vec4<f32>(here.zw, next.xy); }
    case 3u: { return vec4<f32>(here.w, next.xyz); }
    default: { return here; }
  }
}

// Quad `quad` of the load that begins with value `start` of y, of which a row has `left` values; zeros behind them.
fn quadOf(start: u32, left: u32, quad: u32) -> vec4<f32> {
  let z = normalsFrom(start + 4u * quad);
  let count = max(left, 4u * quad) - 4u * quad;
  @if(weight_q8 || weight_q4) return firstOf(clamp(round(params.scale * z), vec4<f32>(-LARGEST_QUANT), vec4<f32>(LARGEST_QUANT)), count);
  @if(!(weight_q8 || weight_q4)) return firstOf(params.offset + params.scale * z, count);
}

// The bits of four bf16, the nearest, ties to even, two in a word.
@if(weight_bf16)
fn narrowToBfloat(values: vec4<f32>) -> vec2<u32> {
  let bits = bitcast<vec4<u32>>(values);
  let halves = (bits + 0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))) >> vec4<u32>(16u);
  return halves.xz | (halves.yw << vec2<u32>(16u));
}

@if(weight_f32)
fn wordsOf(start: u32, left: u32) -> vec4<u32> { return bitcast<vec4<u32>>(quadOf(start, left, 0u)); }
@if(weight_f16)
fn wordsOf(start: u32, left: u32) -> vec4<u32> { return vec4<u32>(narrow(quadOf(start, left, 0u)), narrow(quadOf(start, left, 1u))); }
@if(weight_bf16)
fn wordsOf(start: u32, left: u32) -> vec4<u32> { return vec4<u32>(narrowToBfloat(quadOf(start, left, 0u)), narrowToBfloat(quadOf(start, left, 1u))); }
@if(weight_q8)
fn wordsOf(start: u32, left: u32) -> vec4<u32> {
  var words = vec4<u32>();
  for (var quad = 0u; quad < 4u; quad++) {
    let bytes = vec4<u32>(vec4<i32>(quadOf(start, left, quad))) & vec4<u32>(255u);
    words |= bytes << vec4<u32>(8u * quad);
  }
  return words;
}
@if(weight_q4)
fn wordsOf(start: u32, left: u32) -> vec4<u32> {
  var words = vec4<u32>();
  for (var quad = 0u; quad < 8u; quad++) { words |= vec4<u32>(quadOf(start, left, quad) + 8.0) << vec4<u32>(4u * quad); }
  return words;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // Loads may exceed one dimension of the grid (see flatGrid).
  let index = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  let row = index / params.loads;
  let load = index % params.loads;
  if (row >= params.rows) { return; }
  let column = load * VALUES_PER_LOAD;
  // The last block of a row may have loads behind the row's end.
  let left = max(params.width, column) - column;
  let words = wordsOf(row * params.width + column, left);
  let at = params.yOffset + row * params.yStride + 4u * load;
  for (var i = 0u; i < 4u; i++) {
    @if(weight_q8 || weight_q4) y[at + i] = words[i];
    @if(!(weight_q8 || weight_q4)) {
      if (i * (VALUES_PER_LOAD / 4u) < left) { y[at + i] = words[i]; }
    }
  }
  @if(weight_q8 || weight_q4) {
    // Two scales lie in a word, which the first load of the first block writes.
    let block = index / (32u / VALUES_PER_LOAD);
    if (block % 2u == 0u && column % 32u == 0u) {
      y[params.yScales + block / 2u] = params.scaleBits | select(0u, params.scaleBits << 16u, block + 1u < params.blocks);
    }
  }
}
