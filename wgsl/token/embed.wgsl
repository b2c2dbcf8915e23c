// y[t, i] = scale * table[tokens[t] - firstToken, i] + positions[position[b] + l, i] for token l of sequence b; 0 stands for
// a row that the table has not, for which y may be left as it is, and for one that positions has not
// Source: torch.nn.functional.embedding; learned positions are those of GPT-2.
// Work: one invocation eight values of a row, workgroups over all rows.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; packed and quantized tables are unpacked with core WGSL.
//! axis weight: f32 | f16 | bf16 | q8 | q4
import package::shared::weights::{VALUES_PER_LOAD, QUADS, quadOf, blockOf, scaleOf};

// An octet is eight consecutive values of a row.
struct Params {
  rows: u32,
  octets: u32,
  quads: u32,
  vocabSize: u32,
  firstToken: u32,
  tableOffset: u32,
  tableStride: u32,
  tableScales: u32,
  tokensOffset: u32,
  tokensWidth: u32,
  tokensStride: u32,
  // tokens of one sequence
  length: u32,
  capacity: u32,
  positionsOffset: u32,
  positionsStride: u32,
  positionOffset: u32,
  // in quads
  yOffset: u32,
  yStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;
override HAS_POSITIONS: bool = false;
// Rows of tokens that the table has not stay as they are; otherwise they begin at 0.
override KEEPS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (vocabSize, 8 * octets), rows tableStride octets apart, 16 bytes an element; scales from element tableScales
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
// (rows / tokensWidth, tokensWidth), rows tokensStride apart
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
// (capacity, 8 * octets), rows positionsStride octets apart, from positionsOffset octets on
@group(0) @binding(3) var<storage, read> positions: array<vec4<f32>>;
// (rows / length) tokens consumed before these
@group(0) @binding(4) var<storage, read> position: array<u32>;
// (rows, 4 * quads), rows yStride apart
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

// The scale of the block of a load.
@if(weight_q8 || weight_q4)
fn scaleAt(load: u32) -> f32 {
  let block = blockOf(load);
  return scaleOf(table[params.tableScales + block / 8u][block / 2u % 4u], block);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  let row = index / params.octets;
  let octet = index % params.octets;
  if (row >= params.rows) { return; }
  let token = tokens[params.tokensOffset + row / params.tokensWidth * params.tokensStride + row % params.tokensWidth];
  var first = vec4<f32>();
  var second = vec4<f32>();
  // A token below the first wraps round to a large number.
  let entry = token - params.firstToken;
  if (KEEPS && entry >= params.vocabSize) { return; }
  if (entry < params.vocabSize) {
    let at = params.tableOffset + entry * params.tableStride + octet;
    @if(weight_f32) first = quadOf(table[2u * at], 0u);
    @if(weight_f32) second = quadOf(table[2u * at + 1u], 0u);
    @if(!weight_f32) {
      let load = at * 8u / VALUES_PER_LOAD;
      let words = table[load];
      let quad = 2u * at % QUADS;
      first = quadOf(words, quad);
      second = quadOf(words, quad + 1u);
      @if(weight_q8 || weight_q4) {
        let scale = scaleAt(load);
        first *= scale;
        second *= scale;
      }
    }
  }
  first *= params.scale;
  second *= params.scale;
  if (HAS_POSITIONS) {
    let consumed = position[params.positionOffset + row / params.length];
    let l = row % params.length;
    if (consumed < params.capacity && l < params.capacity - consumed) {
      let at = 2u * (params.positionsOffset + (consumed + l) * params.positionsStride + octet);
      first += positions[at];
      second += positions[at + 1u];
    }
  }
  // The last octet of a row may reach beyond the row of y.
  let quad = 2u * octet;
  let at = params.yOffset + row * params.yStride + quad;
  y[at] = first;
  if (quad + 1u < params.quads) { y[at + 1u] = second; }
}
