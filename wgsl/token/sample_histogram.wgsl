// bins[b, n] = (how many, sum of exp((logit - largest) / temperature)) of the logits whose distance below the largest is in bin n
// Source: histogram selection; sums of whole numbers (64 bits), which atomics add in any order with one result.
// Work: one workgroup a sequence and slice of keys; it adds its bins to the sequence's when done.
// Workgroup memory: 14 KiB (three words of 1024 bins; 256 keys and indices).
// Barriers: between clearing, filling and adding the bins; those of workgroupBest.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::reduce::{betterOf, workgroupBest};
import package::shared::sampling::{binOf, halfBelow, isFiniteKey, keyValue, massOf, positive, BINS, NOTHING};
import package::shared::sampling::{TEMPERATURE, TOP_K, TOP_P};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  vocabSize: u32,
  slices: u32,
  steps: u32,
  records: u32,
  recordWords: u32,
  recordsStride: u32,
  recordSteps: u32,
  settingsOffset: u32,
  settingsStride: u32,
}

override WORKGROUP_SIZE: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, ceil(vocabSize / 4))
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
// (batch, 16), see shared/sampling
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// (batch, recordsStride) words: the records of sample_adjust, whose first word is the largest key of a slice, then the
// bins: all counts, all low words, all high words
@group(0) @binding(3) var<storage, read_write> records: array<atomic<u32>>;
// (batch, 16), see sample_split, which counts up the first word
@group(0) @binding(4) var<storage, read_write> marks: array<u32>;

var<workgroup> binCounts: array<atomic<u32>, BINS>;
var<workgroup> binLows: array<atomic<u32>, BINS>;
var<workgroup> binHighs: array<atomic<u32>, BINS>;

fn fill(key: u32, largest: f32, temperature: f32, weighs: bool) {
  if (!isFiniteKey(key)) { return; }
  let distance = halfBelow(largest, key);
  let bin = binOf(distance);
  atomicAdd(&binCounts[bin], 1u);
  if (!weighs) { return; }
  let mass = massOf(distance, temperature);
  var high = mass.y;
  if (mass.x != 0u && atomicAdd(&binLows[bin], mass.x) > 0xffffffffu - mass.x) { high++; }
  if (high != 0u) { atomicAdd(&binHighs[bin], high); }
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
  if (slice == 0u && local == 0u) { marks[16u * row] = 0u; }
  let setting = params.settingsOffset + row * params.settingsStride;
  let temperature = positive(settings[setting + TEMPERATURE]);
  let topK = settings[setting + TOP_K];
  let topP = positive(settings[setting + TOP_P]);
  let weighs = topP > 0.0 && topP < 1.0;
  let counts = topK > 0u && topK < params.vocabSize;
  // Rows that nothing is looked up for.
  if (!(temperature > 0.0) || !(weighs || counts)) { return; }
  for (var step = 0u; step < BINS / WORKGROUP_SIZE; step++) {
    let bin = step * WORKGROUP_SIZE + local;
    atomicStore(&binCounts[bin], 0u);
    atomicStore(&binLows[bin], 0u);
    atomicStore(&binHighs[bin], 0u);
  }
  let base = row * params.recordsStride;
  var best = NOTHING;
  for (var step = 0u; step < params.recordSteps; step++) {
    let record = step * WORKGROUP_SIZE + local;
    if (record < params.records) {
      best = betterOf(best, vec2<u32>(atomicLoad(&records[base + record * params.recordWords]), record));
    }
  }
  // Its barriers part clearing from filling, too.
  let largestKey = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize).x;
  let quads = (params.vocabSize + 3u) / 4u;
  if (isFiniteKey(largestKey)) {
    let largest = keyValue(largestKey);
    for (var step = 0u; step < params.steps; step++) {
      let quad = (slice * params.steps + step) * WORKGROUP_SIZE + local;
      if (quad < quads) {
        let four = keys[row * quads + quad];
        for (var i = 0u; i < 4u; i++) { fill(four[i], largest, temperature, weighs); }
      }
    }
  }
  workgroupBarrier();
  let bins = base + params.records * params.recordWords;
  for (var step = 0u; step < BINS / WORKGROUP_SIZE; step++) {
    let bin = step * WORKGROUP_SIZE + local;
    let count = atomicLoad(&binCounts[bin]);
    if (count != 0u) {
      atomicAdd(&records[bins + bin], count);
      let low = atomicLoad(&binLows[bin]);
      var high = atomicLoad(&binHighs[bin]);
      if (low != 0u && atomicAdd(&records[bins + BINS + bin], low) > 0xffffffffu - low) { high++; }
      if (high != 0u) { atomicAdd(&records[bins + 2u * BINS + bin], high); }
    }
  }
}
