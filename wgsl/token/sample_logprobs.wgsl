// logprob[b] = log softmax(logits[b])[token[b]]; topTokens[b], topLogprobs[b] = the largest of them, the lowest index first on ties
// Source: OpenAI's API reference (logprobs, top_logprobs): the distribution of the model, before any setting.
// Work: one workgroup a sequence, which merges the sorted tops of the slices, a few slices an invocation.
// Workgroup memory: 11 KiB (2048 heads; 256 keys, indices and sums).
// Barriers: those of workgroupBest and workgroupSum.
// Requirements: none; subgroups shorten the reductions.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::reduce::{betterOf, workgroupBest, workgroupSum};
import package::shared::sampling::{isFiniteKey, keyValue, orderedKey, relativeWeight, MINUS_INFINITY_KEY, NOTHING};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  vocabSize: u32,
  slices: u32,
  steps: u32,
  recordPairs: u32,
  recordsStride: u32,
  tops: u32,
  logitsOffset: u32,
  logitsStride: u32,
  tokenOffset: u32,
  logprobOffset: u32,
  topTokensOffset: u32,
  topTokensStride: u32,
  topLogprobsOffset: u32,
  topLogprobsStride: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override SLICE_WORKGROUP_SIZE: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, vocabSize) bits of f32, rows logitsStride apart
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// (batch)
@group(0) @binding(2) var<storage, read> token: array<u32>;
// (batch, recordsStride) pairs, see sample_adjust
@group(0) @binding(3) var<storage, read> records: array<vec2<u32>>;
// (batch) bits of f32: -Infinity is a value here
@group(0) @binding(4) var<storage, read_write> logprob: array<u32>;
// (batch, tops)
@group(0) @binding(5) var<storage, read_write> topTokens: array<u32>;
// (batch, tops) bits of f32
@group(0) @binding(6) var<storage, read_write> topLogprobs: array<u32>;

const MINUS_INFINITY_BITS: u32 = 0xff800000u;

// Bits of the logarithm of the probability of a logit.
fn logProbability(key: u32, largest: u32, logSum: f32) -> u32 {
  if (key <= MINUS_INFINITY_KEY) { return MINUS_INFINITY_BITS; }
  if (key == largest) { return bitcast<u32>(-logSum); }
  if (!isFiniteKey(largest)) { return MINUS_INFINITY_BITS; }
  return bitcast<u32>(keyValue(key) - keyValue(largest) - logSum);
}

// How many tops of each slice are taken; a slice belongs to one invocation.
var<workgroup> heads: array<u32, 2048>;

// The best that is left of the slices of an invocation.
fn headOf(row: u32, local: u32) -> vec2<u32> {
  var best = NOTHING;
  for (var step = 0u; step < params.steps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices && heads[slice] < params.tops) {
      let at = row * params.recordsStride + slice * params.recordPairs + 2u + heads[slice];
      best = betterOf(best, records[at]);
    }
  }
  return best;
}

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
  let base = row * params.recordsStride;
  for (var step = 0u; step < params.steps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices) { heads[slice] = 0u; }
  }
  var best = NOTHING;
  for (var step = 0u; step < params.steps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices) {
      best = betterOf(best, vec2<u32>(records[base + slice * params.recordPairs + 1u].x, slice));
    }
  }
  let largest = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize).x;
  var sum = 0.0;
  for (var step = 0u; step < params.steps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices) {
      let part = records[base + slice * params.recordPairs + 1u];
      sum += relativeWeight(part.x, largest) * bitcast<f32>(part.y);
    }
  }
  // At least the largest itself, wherever the logarithm is used.
  let logSum = max(log(max(workgroupSum(sum, local, WORKGROUP_SIZE, subgroupSize), 1.0)), 0.0);
  if (local == 0u) {
    let chosen = token[params.tokenOffset + row];
    var key = 0u;
    if (chosen < params.vocabSize) {
      key = orderedKey(logits[params.logitsOffset + row * params.logitsStride + chosen]);
    }
    logprob[params.logprobOffset + row] = logProbability(key, largest, logSum);
  }
  var mine = headOf(row, local);
  for (var top = 0u; top < params.tops; top++) {
    let next = workgroupBest(mine, local, WORKGROUP_SIZE, subgroupSize);
    if (local == 0u) {
      topTokens[params.topTokensOffset + row * params.topTokensStride + top] = next.y;
      let bits = logProbability(next.x, largest, logSum);
      topLogprobs[params.topLogprobsOffset + row * params.topLogprobsStride + top] = bits;
    }
    // Only who had it looks for another one.
    if (next.x != 0u && next.y == mine.y) {
      heads[next.y / (4u * SLICE_WORKGROUP_SIZE)]++;
      mine = headOf(row, local);
    }
  }
}
