// Rows whose length is no multiple of four, read four values at a time.

// The first `count` of four values, and zeros: what a row has left at its end.
fn firstOf(value: vec4<f32>, count: u32) -> vec4<f32> {
  return select(vec4(0.0), value, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count));
}
