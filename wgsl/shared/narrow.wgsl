// f16 has no room above LARGEST: what is larger becomes it.

const LARGEST: f32 = 65504.0;

// Four values as f16, two in a word.
fn narrow(values: vec4<f32>) -> vec2<u32> {
  let bounded = clamp(values, vec4<f32>(-LARGEST), vec4<f32>(LARGEST));
  return vec2<u32>(pack2x16float(bounded.xy), pack2x16float(bounded.zw));
}
