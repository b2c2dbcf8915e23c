// y[t, i] = scale * table[tokens[t], i], and 0 where tokens[t] is not below the size of the vocabulary
// Source: torch.nn.functional.embedding.
// Work: one invocation eight values of a row, workgroups over all rows.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; packed tables are unpacked with core WGSL.
//! axis table: f32 | f16 | bf16

// An octet is eight consecutive values of a row.
struct Params {
  rows: u32,
  octets: u32,
  quads: u32,
  vocabSize: u32,
  tableOffset: u32,
  tableStride: u32,
  tokensOffset: u32,
  tokensWidth: u32,
  tokensStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
// (vocabSize, 8 * octets), rows tableStride octets apart
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;
// (rows / tokensWidth, tokensWidth), rows tokensStride apart
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
// (rows, 4 * quads)
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@if(table_f16)
fn unpackQuad(low: u32, high: u32) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(low), unpack2x16float(high));
}
@if(table_bf16)
fn unpackQuad(low: u32, high: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
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
    @if(table_f32) first = bitcast<vec4<f32>>(table[2u * at]);
    @if(table_f32) second = bitcast<vec4<f32>>(table[2u * at + 1u]);
    @if(!table_f32) let packed = table[at];
    @if(!table_f32) first = unpackQuad(packed.x, packed.y);
    @if(!table_f32) second = unpackQuad(packed.z, packed.w);
  }
  // The last octet of a row may reach beyond the row of y.
  let quad = 2u * octet;
  y[row * params.quads + quad] = first * params.scale;
  if (quad + 1u < params.quads) { y[row * params.quads + quad + 1u] = second * params.scale; }
}
