// token[b] = index of max_s partials[b, s], the lowest index on ties, 0xffffffff if no logit can be chosen; position[b] += 1
// Source: the second half of sample_slices and of sample_adjust.
// Work: one workgroup a sequence, invocations stride over the slices.
// Workgroup memory: 2 KiB (256 keys and indices).
// Barriers: those of workgroupBest, between its entries and their best.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::reduce::{betterOf, workgroupBest};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  slices: u32,
  steps: u32,
  recordPairs: u32,
  recordsStride: u32,
  tokenOffset: u32,
  positionOffset: u32,
  recentOffset: u32,
  recentStride: u32,
  recentSize: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override ADVANCE: bool = true;
override APPEND: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, slices) key and index, recordPairs apart, rows recordsStride apart
@group(0) @binding(1) var<storage, read> partials: array<vec2<u32>>;
// (batch)
@group(0) @binding(2) var<storage, read_write> token: array<u32>;
// (batch)
@group(0) @binding(3) var<storage, read_write> position: array<u32>;
// (batch, 1 + recentSize), see sample_adjust
@group(0) @binding(4) var<storage, read_write> recent: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= params.batch) { return; }
  var best = vec2<u32>(0u, 0xffffffffu);
  for (var step = 0u; step < params.steps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices) {
      best = betterOf(best, partials[row * params.recordsStride + slice * params.recordPairs]);
    }
  }
  best = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize);
  if (local == 0u) {
    token[params.tokenOffset + row] = best.y;
    if (ADVANCE) { position[params.positionOffset + row] += 1u; }
    if (APPEND && best.y != 0xffffffffu) {
      let at = params.recentOffset + row * params.recentStride;
      recent[at + 1u + recent[at] % params.recentSize] = best.y;
      recent[at] += 1u;
    }
  }
}
