// partials[b, s] = (key, index) of max over i in slice s of logits[b, i] + temperature * gumbel(b, i); gumbel = -log(-log(u))
// Source: Gumbel-max, Maddison, Tarlow and Minka, arXiv 1411.0030, section 2; u from Philox-4x32-10 (see shared/random).
// Work: one workgroup a sequence and slice of 4 * WORKGROUP_SIZE logits; one Philox block gives the numbers of four.
// Workgroup memory: 2 KiB (256 keys and indices).
// Barriers: those of workgroupBest, between its entries and their best.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::random::philox;
import package::shared::reduce::{betterOf, workgroupBest};
import package::shared::sampling::{drawnKey, orderedKey, positive, NOTHING, SEED, TEMPERATURE};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  vocabSize: u32,
  slices: u32,
  logitsOffset: u32,
  logitsStride: u32,
  settingsOffset: u32,
  settingsStride: u32,
  positionOffset: u32,
  advance: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_SETTINGS: bool = true;
override HAS_POSITION: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, vocabSize) bits of f32, rows logitsStride apart: a compiler may assume that floats are never NaN, not bits
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// (batch, 4 or more): bits of the temperature, low and high word of the seed
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// (batch): plus `advance`, the counter of the random numbers
@group(0) @binding(3) var<storage, read> position: array<u32>;
// (batch, slices, 2) key and index
@group(0) @binding(4) var<storage, read_write> partials: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let task = workgroup.y * grid.x + workgroup.x;
  if (task >= params.batch * params.slices) { return; }
  let row = task / params.slices;
  let quad = (task % params.slices) * WORKGROUP_SIZE + local;
  var temperature = 0.0;
  var noise = vec4<u32>();
  if (HAS_SETTINGS) {
    let at = params.settingsOffset + row * params.settingsStride;
    // Negative, NaN and infinite temperatures count as 0.
    temperature = positive(settings[at + TEMPERATURE]);
    if (temperature > 0.0) {
      var counter = 0u;
      if (HAS_POSITION) { counter = position[params.positionOffset + row] + params.advance; }
      noise = philox(vec4<u32>(counter, quad, 0u, 0u), vec2<u32>(settings[at + SEED], settings[at + SEED + 1u]));
    }
  }
  var best = NOTHING;
  for (var i = 0u; i < 4u; i++) {
    let index = 4u * quad + i;
    if (index < params.vocabSize) {
      let bits = logits[params.logitsOffset + row * params.logitsStride + index];
      let key = drawnKey(orderedKey(bits), temperature, noise[i]);
      if (key != 0u) { best = betterOf(best, vec2<u32>(key, index)); }
    }
  }
  best = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize);
  if (local == 0u) { partials[task] = best; }
}
