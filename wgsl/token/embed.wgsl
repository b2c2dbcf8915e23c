// y[t, i] = scale * table[tokens[t], i], and 0 where tokens[t] is not below the size of the vocabulary
// Source: torch.nn.functional.embedding.
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
  tableOffset: u32,
  tableStride: u32,
  tableScales: u32,
  tokensOffset: u32,
  tokensWidth: u32,
  tokensStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (vocabSize, 8 * octets), rows tableStride octets apart, 16 bytes an element; scales from element tableScales
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
// (rows / tokensWidth, tokensWidth), rows tokensStride apart
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
// (rows, 4 * quads)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

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
  if (token < params.vocabSize) {
    let at = params.tableOffset + token * params.tableStride + octet;
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
  // The last octet of a row may reach beyond the row of y.
  let quad = 2u * octet;
  y[row * params.quads + quad] = first * params.scale;
  if (quad + 1u < params.quads) { y[row * params.quads + quad + 1u] = second * params.scale; }
}
