// What an RMS norm makes of four rows of x, four values along K of each.

fn squaresOf(rows: mat4x4<f32>) -> vec4<f32> {
  return vec4<f32>(dot(rows[0], rows[0]), dot(rows[1], rows[1]), dot(rows[2], rows[2]), dot(rows[3], rows[3]));
}

fn timesGain(rows: mat4x4<f32>, gain: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(rows[0] * gain, rows[1] * gain, rows[2] * gain, rows[3] * gain);
}

fn timesRoots(rows: mat4x4<f32>, roots: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(rows[0] * roots.x, rows[1] * roots.y, rows[2] * roots.z, rows[3] * roots.w);
}
