// key[b, i] = order of mask(penalties(bias(logits[b, i]))), drawn or written for the filters; records[b, s] = best of a slice
// Source: CTRL, arXiv 1909.05858, section 4.1 (repetition); OpenAI's API reference (presence, frequency, logit bias).
// Work: one workgroup a sequence and slice of 4 * WORKGROUP_SIZE logits, whose recent tokens and biases it looks up.
// Workgroup memory: 11 KiB (1024 counts and places of biases; 256 keys, indices and sums).
// Barriers: between the lookups and their use; those of workgroupBest and workgroupSum.
// Requirements: none; subgroups shorten the reductions.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::random::philox;
import package::shared::reduce::{workgroupBest, workgroupSum};
import package::shared::penalties::{biased, finite, penalized};
import package::shared::sampling::{bestOfQuad, drawnKey, orderedKey, positive, relativeWeight, BINS};
import package::shared::sampling::{FREQUENCY, PRESENCE, REPETITION, SEED, TEMPERATURE, WINDOW};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  vocabSize: u32,
  slices: u32,
  recordPairs: u32,
  recordsStride: u32,
  tops: u32,
  clearSteps: u32,
  logitsOffset: u32,
  logitsStride: u32,
  settingsOffset: u32,
  settingsStride: u32,
  positionOffset: u32,
  advance: u32,
  recentOffset: u32,
  recentStride: u32,
  recentSize: u32,
  biasOffset: u32,
  biasStride: u32,
  biasSize: u32,
  maskOffset: u32,
  maskStride: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_SETTINGS: bool = true;
override HAS_POSITION: bool = true;
override HAS_RECENT: bool = true;
override HAS_BIAS: bool = true;
override HAS_MASK: bool = true;
override FILTERS: bool = true;
override LOGPROBS: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, vocabSize) bits of f32, rows logitsStride apart
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// (batch, 16), see shared/sampling
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// (batch): plus `advance`, the counter of the random numbers
@group(0) @binding(3) var<storage, read> position: array<u32>;
// (batch, 1 + recentSize): how many tokens were appended, then the last of them; token n stands at n % recentSize
@group(0) @binding(4) var<storage, read> recent: array<u32>;
// (batch, biasSize, 2): token and bits of its f32 bias
@group(0) @binding(5) var<storage, read> bias: array<u32>;
// (batch, ceil(vocabSize / 32)): a bit is set where the token is allowed
@group(0) @binding(6) var<storage, read> mask: array<u32>;
// (batch, recordsStride) pairs: for each slice (key, index) of its best, (key of the largest logit, bits of the sum of
// exponentials relative to it), (key, index) of its tops; then the bins of sample_histogram, cleared here
@group(0) @binding(7) var<storage, read_write> records: array<vec2<u32>>;
// (batch, ceil(vocabSize / 4)) keys for the filters, 0 where a token is not allowed
@group(0) @binding(8) var<storage, read_write> keys: array<vec4<u32>>;

// How often each token of the slice is among the recent ones, and the entry of its bias, plus 1.
var<workgroup> counts: array<atomic<u32>, 1024>;
var<workgroup> entries: array<atomic<u32>, 1024>;

fn lookUp(row: u32, setting: u32, first: u32, local: u32) {
  for (var i = 0u; i < 4u; i++) {
    if (HAS_RECENT) { atomicStore(&counts[i * WORKGROUP_SIZE + local], 0u); }
    if (HAS_BIAS) { atomicStore(&entries[i * WORKGROUP_SIZE + local], 0u); }
  }
  workgroupBarrier();
  if (HAS_RECENT) {
    let at = params.recentOffset + row * params.recentStride;
    let appended = recent[at];
    let window = select(params.recentSize, settings[setting + WINDOW], settings[setting + WINDOW] != 0u);
    let held = min(min(appended, window), params.recentSize);
    // The newest first.
    let newest = (appended + params.recentSize - 1u) % params.recentSize;
    let steps = (held + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    for (var step = 0u; step < steps; step++) {
      let age = step * WORKGROUP_SIZE + local;
      if (age < held) {
        let place = newest + select(params.recentSize, 0u, age <= newest) - age;
        let token = recent[at + 1u + place] - first;
        if (token < 4u * WORKGROUP_SIZE) { atomicAdd(&counts[token], 1u); }
      }
    }
  }
  if (HAS_BIAS) {
    let steps = (params.biasSize + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    for (var step = 0u; step < steps; step++) {
      let entry = step * WORKGROUP_SIZE + local;
      if (entry < params.biasSize) {
        let token = bias[params.biasOffset + row * params.biasStride + 2u * entry] - first;
        // The last entry of a token counts.
        if (token < 4u * WORKGROUP_SIZE) { atomicMax(&entries[token], entry + 1u); }
      }
    }
  }
  workgroupBarrier();
}

fn adjustedKey(logit: u32, row: u32, setting: u32, index: u32, place: u32) -> u32 {
  var bits = logit;
  if (HAS_BIAS) {
    let entry = atomicLoad(&entries[place]);
    if (entry > 0u) { bits = biased(bits, bias[params.biasOffset + row * params.biasStride + 2u * entry - 1u]); }
  }
  if (HAS_RECENT) {
    let penalties = vec2<f32>(finite(settings[setting + PRESENCE]), finite(settings[setting + FREQUENCY]));
    bits = penalized(bits, atomicLoad(&counts[place]), positive(settings[setting + REPETITION]), penalties);
  }
  if (HAS_MASK) {
    let word = mask[params.maskOffset + row * params.maskStride + index / 32u];
    if (((word >> (index % 32u)) & 1u) == 0u) { return 0u; }
  }
  return orderedKey(bits);
}

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
  let slice = task % params.slices;
  let quad = slice * WORKGROUP_SIZE + local;
  let setting = params.settingsOffset + row * params.settingsStride;
  if (HAS_RECENT || HAS_BIAS) { lookUp(row, setting, 4u * slice * WORKGROUP_SIZE, local); }
  var raw = vec4<u32>();
  var adjusted = vec4<u32>();
  for (var i = 0u; i < 4u; i++) {
    let index = 4u * quad + i;
    if (index < params.vocabSize) {
      let bits = logits[params.logitsOffset + row * params.logitsStride + index];
      if (LOGPROBS) { raw[i] = orderedKey(bits); }
      adjusted[i] = adjustedKey(bits, row, setting, index, 4u * local + i);
    }
  }
  let base = row * params.recordsStride;
  if (FILTERS) {
    let quads = (params.vocabSize + 3u) / 4u;
    if (quad < quads) { keys[row * quads + quad] = adjusted; }
    for (var step = 0u; step < params.clearSteps; step++) {
      let at = (step * params.slices + slice) * WORKGROUP_SIZE + local;
      if (at < 3u * BINS / 2u) { records[base + params.slices * params.recordPairs + at] = vec2<u32>(); }
    }
  } else if (HAS_SETTINGS) {
    let temperature = positive(settings[setting + TEMPERATURE]);
    if (temperature > 0.0) {
      var counter = 0u;
      if (HAS_POSITION) { counter = position[params.positionOffset + row] + params.advance; }
      let key = vec2<u32>(settings[setting + SEED], settings[setting + SEED + 1u]);
      let noise = philox(vec4<u32>(counter, quad, 0u, 0u), key);
      for (var i = 0u; i < 4u; i++) { adjusted[i] = drawnKey(adjusted[i], temperature, noise[i]); }
    }
  }
  let best = workgroupBest(bestOfQuad(adjusted, 4u * quad), local, WORKGROUP_SIZE, subgroupSize);
  let record = base + slice * params.recordPairs;
  if (local == 0u) { records[record] = best; }
  if (LOGPROBS) {
    var left = raw;
    var largest = 0u;
    for (var top = 0u; top < max(params.tops, 1u); top++) {
      let next = workgroupBest(bestOfQuad(left, 4u * quad), local, WORKGROUP_SIZE, subgroupSize);
      if (top == 0u) { largest = next.x; }
      if (local == 0u && top < params.tops) { records[record + 2u + top] = next; }
      if (next.y / 4u == quad) { left[next.y % 4u] = 0u; }
    }
    var sum = 0.0;
    for (var i = 0u; i < 4u; i++) { sum += relativeWeight(raw[i], largest); }
    sum = workgroupSum(sum, local, WORKGROUP_SIZE, subgroupSize);
    if (local == 0u) { records[record + 1u] = vec2<u32>(largest, bitcast<u32>(sum)); }
  }
}
