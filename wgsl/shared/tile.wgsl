// Register-tiled products of two matrices whose rows run along K. A workgroup of THREADS_M * THREADS_N invocations
// makes a tile of TILE_M * TILE_N sums; K advances by TILE_K. Both operands are staged K-major as vec4s of four rows,
// so that the inner loop reads 1 or 2 vec4s of each for 16, 32 or 64 multiply-adds.
// Staging goes in blocks of four rows: an invocation holds a block in registers, transposes and stores it.

override THREADS_M: u32 = 8u;
override THREADS_N: u32 = 16u;
// Rows and columns of sums of one invocation: 4 or 8. The second four lie 4 * THREADS_M (THREADS_N) further on.
override THREAD_ROWS: u32 = 8u;
override THREAD_COLUMNS: u32 = 4u;

const TILE_K: u32 = 16u;

var<workgroup> tileX: array<vec4<f32>, TILE_K * THREADS_M * THREAD_ROWS / 4u>;
var<workgroup> tileW: array<vec4<f32>, TILE_K * THREADS_N * THREAD_COLUMNS / 4u>;

// Sums of one invocation: element [i][j] of a matrix is row i, column j of its four by four.
struct Sums {
  upperLeft: mat4x4<f32>,
  lowerLeft: mat4x4<f32>,
  upperRight: mat4x4<f32>,
  lowerRight: mat4x4<f32>,
}

// Four rows (one block) of x, four values along K from k.
fn stageX(block: u32, k: u32, rows: mat4x4<f32>) {
  let width = THREADS_M * THREAD_ROWS / 4u;
  let values = transpose(rows);
  for (var i = 0u; i < 4u; i++) { tileX[(k + i) * width + block] = values[i]; }
}

fn stageW(block: u32, k: u32, rows: mat4x4<f32>) {
  let width = THREADS_N * THREAD_COLUMNS / 4u;
  let values = transpose(rows);
  for (var i = 0u; i < 4u; i++) { tileW[(k + i) * width + block] = values[i]; }
}

fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// Adds the staged tiles' products to the sums of the invocation at (m, n).
fn multiplyTiles(sums: ptr<function, Sums>, m: u32, n: u32) {
  let xWidth = THREADS_M * THREAD_ROWS / 4u;
  let wWidth = THREADS_N * THREAD_COLUMNS / 4u;
  for (var k = 0u; k < TILE_K; k++) {
    let upper = tileX[k * xWidth + m];
    let left = tileW[k * wWidth + n];
    (*sums).upperLeft += outer(upper, left);
    if (THREAD_ROWS == 8u) {
      let lower = tileX[k * xWidth + THREADS_M + m];
      (*sums).lowerLeft += outer(lower, left);
      if (THREAD_COLUMNS == 8u) {
        (*sums).lowerRight += outer(lower, tileW[k * wWidth + THREADS_N + n]);
      }
    }
    if (THREAD_COLUMNS == 8u) {
      (*sums).upperRight += outer(upper, tileW[k * wWidth + THREADS_N + n]);
    }
  }
}
