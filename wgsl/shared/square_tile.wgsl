// A 64 x 64 tile of a matrix product, DEPTH of the inner dimension at a time, by 128 invocations: each has 8 rows and 4
// columns in registers and reads 3 vectors of workgroup memory for 32 multiply-adds.
// Row i of invocation `local` is tileRow(local, i); its columns begin at tileColumn(local).

const TILE: u32 = 64u;
const DEPTH: u32 = 16u;
const TILE_INVOCATIONS: u32 = 128u;
const QUADS: u32 = 16u;

// [inner][row / 4] and [inner][column / 4], 4 KiB each
var<workgroup> left: array<vec4<f32>, 256>;
var<workgroup> right: array<vec4<f32>, 256>;

struct Tile {
  r0: vec4<f32>,
  r1: vec4<f32>,
  r2: vec4<f32>,
  r3: vec4<f32>,
  r4: vec4<f32>,
  r5: vec4<f32>,
  r6: vec4<f32>,
  r7: vec4<f32>,
}

fn tileRow(local: u32, i: u32) -> u32 {
  return (i / 4u) * 32u + (local / QUADS) * 4u + i % 4u;
}

fn tileColumn(local: u32) -> u32 {
  return (local % QUADS) * 4u;
}

// Writes 4 consecutive rows (or columns) `quad` at one inner index.
fn setLeft(inner: u32, quad: u32, value: vec4<f32>) {
  left[inner * QUADS + quad] = value;
}

fn setRight(inner: u32, quad: u32, value: vec4<f32>) {
  right[inner * QUADS + quad] = value;
}

// Writes 4 rows, each given as 4 consecutive inner values from `inner`.
fn setLeftTransposed(inner: u32, quad: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
  left[inner * QUADS + quad] = vec4(v0.x, v1.x, v2.x, v3.x);
  left[(inner + 1u) * QUADS + quad] = vec4(v0.y, v1.y, v2.y, v3.y);
  left[(inner + 2u) * QUADS + quad] = vec4(v0.z, v1.z, v2.z, v3.z);
  left[(inner + 3u) * QUADS + quad] = vec4(v0.w, v1.w, v2.w, v3.w);
}

fn setRightTransposed(inner: u32, quad: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) {
  right[inner * QUADS + quad] = vec4(v0.x, v1.x, v2.x, v3.x);
  right[(inner + 1u) * QUADS + quad] = vec4(v0.y, v1.y, v2.y, v3.y);
  right[(inner + 2u) * QUADS + quad] = vec4(v0.z, v1.z, v2.z, v3.z);
  right[(inner + 3u) * QUADS + quad] = vec4(v0.w, v1.w, v2.w, v3.w);
}

// tile += left^T right over the DEPTH inner indices now in workgroup memory. Every invocation calls it, and the memory
// is free again when it returns.
fn multiplyTile(tile: ptr<function, Tile>, local: u32) {
  workgroupBarrier();
  let row = local / QUADS;
  let column = local % QUADS;
  for (var k = 0u; k < DEPTH; k++) {
    let upper = left[k * QUADS + row];
    let lower = left[k * QUADS + 8u + row];
    let values = right[k * QUADS + column];
    (*tile).r0 += upper.x * values;
    (*tile).r1 += upper.y * values;
    (*tile).r2 += upper.z * values;
    (*tile).r3 += upper.w * values;
    (*tile).r4 += lower.x * values;
    (*tile).r5 += lower.y * values;
    (*tile).r6 += lower.z * values;
    (*tile).r7 += lower.w * values;
  }
  workgroupBarrier();
}
