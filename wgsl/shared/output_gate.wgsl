// The gate of an output: its values are multiplied with sigmoid(gate). The exponent is clamped: no infinity arises.

fn gateFactor(gate: vec4<f32>) -> vec4<f32> {
  return 1.0 / (1.0 + exp(min(-gate, vec4<f32>(87.0))));
}
