// The inverse of I + A, A strictly lower triangular of 64 x 64, in place in workgroup memory, by 128 invocations. Only the
// ten blocks of 16 x 16 on and below the diagonal are kept: 10 KiB.
// Forward substitution, never powers of A: their entries grow beyond those of the inverse, which must then cancel.

// vec4s of a block.
const BLOCK: u32 = 64u;
const INVERSE_INVOCATIONS: u32 = 128u;

// Blocks (I, J) with J <= I of A, then of the inverse T; in each, [j][i / 4].
var<workgroup> blocks: array<vec4<f32>, 640>;

fn blockAt(row: u32, column: u32) -> u32 {
  return (row * (row + 1u) / 2u + column) * BLOCK;
}

// One column of a block.
struct Column {
  r0: vec4<f32>,
  r1: vec4<f32>,
  r2: vec4<f32>,
  r3: vec4<f32>,
}

// Takes column j of A, which begins at `at`, times the element j that is now known, from the elements below it.
fn eliminate(x: ptr<function, Column>, at: u32, value: f32) {
  (*x).r0 -= blocks[at] * value;
  (*x).r1 -= blocks[at + 1u] * value;
  (*x).r2 -= blocks[at + 2u] * value;
  (*x).r3 -= blocks[at + 3u] * value;
}

// Column c of the inverse of I + A for the diagonal block at `at`, by forward substitution.
fn invertColumn(at: u32, c: u32) -> Column {
  let unit = vec4<u32>(c);
  let rows = vec4<u32>(0u, 1u, 2u, 3u);
  var x = Column(
    select(vec4(0.0), vec4(1.0), rows == unit),
    select(vec4(0.0), vec4(1.0), rows + 4u == unit),
    select(vec4(0.0), vec4(1.0), rows + 8u == unit),
    select(vec4(0.0), vec4(1.0), rows + 12u == unit),
  );
  for (var j = 0u; j < 4u; j++) { eliminate(&x, at + j * 4u, x.r0[j]); }
  for (var j = 0u; j < 4u; j++) { eliminate(&x, at + 16u + j * 4u, x.r1[j]); }
  for (var j = 0u; j < 4u; j++) { eliminate(&x, at + 32u + j * 4u, x.r2[j]); }
  for (var j = 0u; j < 4u; j++) { eliminate(&x, at + 48u + j * 4u, x.r3[j]); }
  return x;
}

// Rows 4 quad .. 4 quad + 3 of column c of the product of two blocks.
fn multiplyBlocks(a: u32, b: u32, quad: u32, c: u32) -> vec4<f32> {
  var sum = vec4(0.0);
  for (var part = 0u; part < 4u; part++) {
    let values = blocks[b + c * 4u + part];
    let at = a + part * 16u + quad;
    sum += blocks[at] * values.x + blocks[at + 4u] * values.y + blocks[at + 8u] * values.z + blocks[at + 12u] * values.w;
  }
  return sum;
}

// Blocks left of the diagonal in block row `row`: T[row, J] = -T[row, row] sum_{J <= m < row} A[row, m] T[m, J].
fn invertRow(row: u32, local: u32) {
  // One vec4 of a column a unit: 64 units a block, at most two an invocation.
  let quad = local % 4u;
  let c = (local / 4u) % 16u;
  let own = local % 64u;
  var sums = array<vec4<f32>, 2>();
  for (var part = 0u; part < 2u; part++) {
    let column = part * 2u + local / 64u;
    for (var m = column; m < row; m++) {
      sums[part] += multiplyBlocks(blockAt(row, m), blockAt(m, column), quad, c);
    }
  }
  workgroupBarrier();
  for (var part = 0u; part < 2u; part++) {
    let column = part * 2u + local / 64u;
    if (column < row) { blocks[blockAt(row, column) + own] = sums[part]; }
  }
  workgroupBarrier();
  for (var part = 0u; part < 2u; part++) {
    let column = part * 2u + local / 64u;
    if (column < row) { sums[part] = multiplyBlocks(blockAt(row, row), blockAt(row, column), quad, c); }
  }
  workgroupBarrier();
  for (var part = 0u; part < 2u; part++) {
    let column = part * 2u + local / 64u;
    if (column < row) { blocks[blockAt(row, column) + own] = -sums[part]; }
  }
  workgroupBarrier();
}

// A, as the invocations have just written it, becomes T. Every invocation calls it; T is whole when it returns.
fn invertBlocks(local: u32) {
  workgroupBarrier();
  // The four blocks on the diagonal side by side, each column by one invocation.
  let diagonal = blockAt(local / 16u % 4u, local / 16u % 4u);
  let x = invertColumn(diagonal, local % 16u);
  workgroupBarrier();
  if (local < 64u) {
    let at = diagonal + (local % 16u) * 4u;
    blocks[at] = x.r0;
    blocks[at + 1u] = x.r1;
    blocks[at + 2u] = x.r2;
    blocks[at + 3u] = x.r3;
  }
  workgroupBarrier();
  for (var row = 1u; row < 4u; row++) { invertRow(row, local); }
}
