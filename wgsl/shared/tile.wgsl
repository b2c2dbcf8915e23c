// Register-tiled products of two matrices whose rows run along K. A workgroup of THREADS_M * THREADS_N invocations
// makes a tile of TILE_M * TILE_N sums; K advances by TILE_K. Both operands are staged K-major as vec4s of four rows,
// so that the inner loop reads 1 or 2 vec4s of each for 16, 32 or 64 multiply-adds.
// Staging goes in blocks of four rows: an invocation holds a block in registers, transposes and stores it.
// Where rows are long enough, blocks are swapped within groups of eight, differently for every four k, so that
// invocations that store the same block at several k use different banks.

override THREADS_M: u32 = 8u;
override THREADS_N: u32 = 16u;
// Rows and columns of sums of one invocation: 4 or 8. The second four lie 4 * THREADS_M (THREADS_N) further on.
override THREAD_ROWS: u32 = 8u;
override THREAD_COLUMNS: u32 = 4u;

// Four values along K in a row: a third faster on an H200, slower to compile (which counts where a CPU does the work).
override UNROLL: bool = true;

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

// What is added (by exclusive or) to the number of a block at k.
fn swap(width: u32, k: u32) -> u32 { return select(0u, k / 4u * 2u, width % 8u == 0u); }

// Row and column of an invocation: 32 in sequence make a square of four by eight, which read few different blocks.
fn placeOf(local: u32) -> vec2<u32> {
  if (THREADS_M % 4u != 0u || THREADS_N % 8u != 0u) { return vec2<u32>(local / THREADS_N, local % THREADS_N); }
  let square = local / 32u;
  let across = THREADS_N / 8u;
  return vec2<u32>(square / across * 4u + local % 32u / 8u, square % across * 8u + local % 8u);
}

// Four rows (one block) of x, four values along K from k.
fn stageX(block: u32, k: u32, rows: mat4x4<f32>) {
  let width = THREADS_M * THREAD_ROWS / 4u;
  let values = transpose(rows);
  let at = k * width + (block ^ swap(width, k));
  tileX[at] = values[0];
  tileX[at + width] = values[1];
  tileX[at + 2u * width] = values[2];
  tileX[at + 3u * width] = values[3];
}

fn stageW(block: u32, k: u32, rows: mat4x4<f32>) {
  let width = THREADS_N * THREAD_COLUMNS / 4u;
  let values = transpose(rows);
  let at = k * width + (block ^ swap(width, k));
  tileW[at] = values[0];
  tileW[at + width] = values[1];
  tileW[at + 2u * width] = values[2];
  tileW[at + 3u * width] = values[3];
}

// One block at one k, for operands whose memory runs along rows.
fn putX(block: u32, k: u32, rows: vec4<f32>) {
  let width = THREADS_M * THREAD_ROWS / 4u;
  tileX[k * width + (block ^ swap(width, k))] = rows;
}

fn putW(block: u32, k: u32, rows: vec4<f32>) {
  let width = THREADS_N * THREAD_COLUMNS / 4u;
  tileW[k * width + (block ^ swap(width, k))] = rows;
}

fn addOuter(sums: ptr<function, mat4x4<f32>>, a: vec4<f32>, b: vec4<f32>) {
  (*sums)[0] += a.x * b;
  (*sums)[1] += a.y * b;
  (*sums)[2] += a.z * b;
  (*sums)[3] += a.w * b;
}

// Adds the products of one k, whose swaps are given.
fn multiplyOne(sums: ptr<function, Sums>, place: vec2<u32>, k: u32, swapX: u32, swapW: u32) {
  let x = k * (THREADS_M * THREAD_ROWS / 4u);
  let w = k * (THREADS_N * THREAD_COLUMNS / 4u);
  let upper = tileX[x + (place.x ^ swapX)];
  let left = tileW[w + (place.y ^ swapW)];
  addOuter(&(*sums).upperLeft, upper, left);
  if (THREAD_ROWS == 8u) {
    let lower = tileX[x + ((THREADS_M + place.x) ^ swapX)];
    addOuter(&(*sums).lowerLeft, lower, left);
    if (THREAD_COLUMNS == 8u) { addOuter(&(*sums).lowerRight, lower, tileW[w + ((THREADS_N + place.y) ^ swapW)]); }
  }
  if (THREAD_COLUMNS == 8u) { addOuter(&(*sums).upperRight, upper, tileW[w + ((THREADS_N + place.y) ^ swapW)]); }
}

// Adds the staged tiles' products to the sums of the invocation at a row and column.
fn multiplyTiles(sums: ptr<function, Sums>, place: vec2<u32>) {
  let xWidth = THREADS_M * THREAD_ROWS / 4u;
  let wWidth = THREADS_N * THREAD_COLUMNS / 4u;
  let step = select(1u, 4u, UNROLL);
  for (var round = 0u; round < TILE_K / step; round++) {
    let k = round * step;
    let swapX = swap(xWidth, k);
    let swapW = swap(wWidth, k);
    multiplyOne(sums, place, k, swapX, swapW);
    if (UNROLL) {
      multiplyOne(sums, place, k + 1u, swapX, swapW);
      multiplyOne(sums, place, k + 2u, swapX, swapW);
      multiplyOne(sums, place, k + 3u, swapX, swapW);
    }
  }
}

// As multiplyTiles for the lower rows alone, where the upper ones are known to add nothing.
fn multiplyLowerTiles(sums: ptr<function, Sums>, place: vec2<u32>) {
  let xWidth = THREADS_M * THREAD_ROWS / 4u;
  let wWidth = THREADS_N * THREAD_COLUMNS / 4u;
  for (var k = 0u; k < TILE_K; k++) {
    let lower = tileX[k * xWidth + ((THREADS_M + place.x) ^ swap(xWidth, k))];
    let w = k * wWidth;
    let swapW = swap(wWidth, k);
    addOuter(&(*sums).lowerLeft, lower, tileW[w + (place.y ^ swapW)]);
    if (THREAD_COLUMNS == 8u) { addOuter(&(*sums).lowerRight, lower, tileW[w + ((THREADS_N + place.y) ^ swapW)]); }
  }
}

// Leaves the sums of squares that each invocation found in the rows of x that it staged where rootsOf finds them. Every
// invocation calls it, after the last multiplication.
fn shareSquares(stages: bool, block: u32, k: u32, squares: vec4<f32>) {
  workgroupBarrier();
  if (stages) { tileX[block * (TILE_K / 4u) + k / 4u] = squares; }
  workgroupBarrier();
}

// 1 / sqrt(mean square + eps) of the four rows of a block.
fn rootsOf(block: u32, inner: u32, eps: f32) -> vec4<f32> {
  var total = vec4<f32>(0.0);
  for (var part = 0u; part < TILE_K / 4u; part++) { total += tileX[block * (TILE_K / 4u) + part]; }
  return inverseSqrt(total / f32(inner) + eps);
}
