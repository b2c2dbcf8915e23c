// Weight matrices as every kernel stores them: rows of f32, or of f16 or bf16 packed two in a u32 (lower half first).
// One 16-byte load gives VALUES_PER_LOAD consecutive values of a row: unpackLow the first four, unpackHigh the rest.
// Needs the axis `weight: f32 | f16 | bf16`.

@if(weight_f32) const VALUES_PER_LOAD: u32 = 4u;
@else const VALUES_PER_LOAD: u32 = 8u;

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
