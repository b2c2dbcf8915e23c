// Weight matrices as every kernel stores them: rows of f32; of f16 or bf16, two in a u32 (lower half first); or of quants
// (q8, q4) in blocks of 32 that share an f16 scale, with the scales behind the quants in the same binding.
// One 16-byte load gives VALUES_PER_LOAD consecutive values of a row, four of them a quad. Quad j of a load of quants is
// byte j (q8, signed) or nibble j (q4, less 8) of each of its words; a value is a quant times the scale of its block.
// docs/architecture.md has the layout. Needs the axis `weight`, any of f32 | f16 | bf16 | q8 | q4.

@if(weight_f32) const VALUES_PER_LOAD: u32 = 4u;
@if(weight_f16 || weight_bf16) const VALUES_PER_LOAD: u32 = 8u;
@if(weight_q8) const VALUES_PER_LOAD: u32 = 16u;
@if(weight_q4) const VALUES_PER_LOAD: u32 = 32u;

const QUADS: u32 = VALUES_PER_LOAD / 4u;

// Values that an invocation stages of one load: all, but of quants only a quad, so that many share the unpacking.
@if(weight_f16 || weight_bf16) const VALUES_STAGED: u32 = 8u;
@if(!(weight_f16 || weight_bf16)) const VALUES_STAGED: u32 = 4u;

// One load of each of four rows, and the scales of the blocks that they lie in.
struct Loads {
  w0: vec4<u32>,
  w1: vec4<u32>,
  w2: vec4<u32>,
  w3: vec4<u32>,
  scales: vec4<f32>,
}

@if(weight_f32)
fn unpackLow(words: vec4<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(words); }
@if(weight_f16)
fn unpackLow(words: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)); }
@if(weight_bf16)
fn unpackLow(words: vec4<u32>) -> vec4<f32> { return widen(words.xy); }

@if(weight_f16)
fn unpackHigh(words: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)); }
@if(weight_bf16)
fn unpackHigh(words: vec4<u32>) -> vec4<f32> { return widen(words.zw); }

// bf16 is the upper half of an f32.
@if(weight_bf16)
fn widen(words: vec2<u32>) -> vec4<f32> {
  let low = bitcast<vec2<f32>>(words << vec2<u32>(16u));
  let high = bitcast<vec2<f32>>(words & vec2<u32>(0xffff0000u));
  return vec4<f32>(low.x, high.x, low.y, high.y);
}

// A quad of a load, without the scale where there is one.
@if(weight_f32)
fn quadOf(words: vec4<u32>, quad: u32) -> vec4<f32> { return unpackLow(words); }
@if(weight_f16 || weight_bf16)
fn quadOf(words: vec4<u32>, quad: u32) -> vec4<f32> {
  if (quad == 0u) { return unpackLow(words); }
  return unpackHigh(words);
}
// Quants become floats without a conversion: bits at `place` of the mantissa of 2^(23 - place) add just their number to it.
// With a literal quad that is an `and-or` and a subtraction for each, and a shift for every second (fourth) of them.
@if(weight_q8)
fn quadOf(words: vec4<u32>, quad: u32) -> vec4<f32> {
  let place = quad % 2u * 8u;
  let power = (150u - place) << 23u;
  let bytes = words >> vec4<u32>(quad / 2u * 16u);
  // The sign bit is turned round: 128 is added, as a number without sign.
  let sums = (bytes & vec4<u32>(255u << place)) ^ vec4<u32>(power | (128u << place));
  return bitcast<vec4<f32>>(sums) - (bitcast<f32>(power) + 128.0);
}
@if(weight_q4)
fn quadOf(words: vec4<u32>, quad: u32) -> vec4<f32> {
  let place = quad % 4u * 4u;
  let power = (150u - place) << 23u;
  let nibbles = words >> vec4<u32>(quad / 4u * 16u);
  let sums = (nibbles & vec4<u32>(15u << place)) | vec4<u32>(power);
  return bitcast<vec4<f32>>(sums) - (bitcast<f32>(power) + 8.0);
}

// A quad of each of four rows, without the scales.
fn quadsOf(loads: Loads, quad: u32) -> mat4x4<f32> {
  return mat4x4<f32>(quadOf(loads.w0, quad), quadOf(loads.w1, quad), quadOf(loads.w2, quad), quadOf(loads.w3, quad));
}

// A quad of each of four rows.
fn valuesOf(loads: Loads, quad: u32) -> mat4x4<f32> {
  let quads = quadsOf(loads, quad);
  @if(!(weight_q8 || weight_q4)) return quads;
  @if(weight_q8 || weight_q4) {
    let scales = loads.scales;
    return mat4x4<f32>(quads[0] * scales.x, quads[1] * scales.y, quads[2] * scales.z, quads[3] * scales.w);
  }
}

// The quad that an invocation stages first, of the load that holds value k of a row.
@if(weight_q8 || weight_q4)
fn quadAt(k: u32) -> u32 { return k / 4u % QUADS; }
@if(!(weight_q8 || weight_q4))
fn quadAt(k: u32) -> u32 { return 0u; }

// Number of the block of a load. Scales lie two in a word, so eight in an element of the binding.
@if(weight_q8 || weight_q4)
fn blockOf(load: u32) -> u32 { return load / (32u / VALUES_PER_LOAD); }

// The scale of a block, out of the word that holds it and a neighbour's.
fn scaleOf(word: u32, block: u32) -> f32 { return unpack2x16float(word >> (block % 2u * 16u)).x; }

// Quads that neighbouring invocations, each at a load of its own, skip at first and take up at the end: at any time they
// read x from all banks of a cache, where equal quads of loads of 16 or 32 values would lie in the same few.
@if(weight_q8 || weight_q4)
fn turnOf(load: u32) -> u32 { return load / (8u / QUADS) % QUADS; }
@if(!(weight_q8 || weight_q4))
fn turnOf(load: u32) -> u32 { return 0u; }

// Loads whose quad `turn` is their first, that before it their last.
@if(weight_q8 || weight_q4)
fn turned(loads: Loads, turn: u32) -> Loads {
  let right = vec4<u32>(turn * (32u / QUADS));
  let left = (32u - right) % 32u;
  return Loads(
    (loads.w0 >> right) | (loads.w0 << left),
    (loads.w1 >> right) | (loads.w1 << left),
    (loads.w2 >> right) | (loads.w2 << left),
    (loads.w3 >> right) | (loads.w3 << left),
    loads.scales,
  );
}
@if(!(weight_q8 || weight_q4))
fn turned(loads: Loads, turn: u32) -> Loads { return loads; }
