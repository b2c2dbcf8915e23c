// bests[b, s] = best draw of the logits in slice s that top-k, top-p and min-p keep whatever lies inside the bins where they
// end; list[b] = the logits of those bins, marks[b] = where they are
// Source: histogram selection; Gumbel-max, arXiv 1411.0030, section 2.
// Work: one workgroup a sequence and slice of keys, each of which finds the ends of its sequence in the bins.
// Workgroup memory: 6 KiB (256 tallies, keys and indices).
// Barriers: those of workgroupBest, tallyPrefix and the searches.
// Requirements: none; subgroups shorten the reductions.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::random::philox;
import package::shared::reduce::{betterOf, workgroupBest};
import package::shared::sampling::{bestOfQuad, binOf, drawnKey, halfBelow, isFiniteKey, keyValue, minPReach, positive};
import package::shared::sampling::{BINS, MIN_P, NOTHING, SEED, TEMPERATURE, TOP_K, TOP_P};
import package::shared::tally::{addTally, addWide, claimCrossing, foundCrossing, goalOf, openCrossing, tallyPrefix};
import package::shared::tally::{Crossing, NOWHERE};
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
  capacity: u32,
  settingsOffset: u32,
  settingsStride: u32,
  positionOffset: u32,
  advance: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_POSITION: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, ceil(vocabSize / 4))
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
// (batch, 16), see shared/sampling
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// (batch): plus `advance`, the counter of the random numbers
@group(0) @binding(3) var<storage, read> position: array<u32>;
// (batch, recordsStride) words, see sample_histogram
@group(0) @binding(4) var<storage, read> records: array<u32>;
// (batch, 16): 0 length of the list; 1 largest key; 2 how many logits are in the bins below, or 0 if nothing is left to
// find; 3 bin where top-k ends, 4 how many it keeps of it, 5 and 6 mass before it; 7 and 8 first and last bin where top-p
// may end, 9 and 10 mass before the first
@group(0) @binding(5) var<storage, read_write> marks: array<atomic<u32>>;
// (batch, capacity) indices, in any order; not used where there are more
@group(0) @binding(6) var<storage, read_write> list: array<u32>;
// (batch, slices) key and index
@group(0) @binding(7) var<storage, read_write> bests: array<vec2<u32>>;

// (count, low and high word of the mass) of a bin.
fn binTally(bins: u32, bin: u32) -> vec3<u32> {
  return vec3<u32>(records[bins + bin], records[bins + BINS + bin], records[bins + 2u * BINS + bin]);
}

fn findBin(bins: u32, before: vec3<u32>, goal: vec2<u32>, byMass: bool, local: u32) -> Crossing {
  openCrossing(local);
  var running = before;
  for (var i = 0u; i < BINS / WORKGROUP_SIZE; i++) {
    let bin = local * (BINS / WORKGROUP_SIZE) + i;
    let tally = binTally(bins, bin);
    claimCrossing(bin, running, tally, goal, byMass);
    running = addTally(running, tally);
  }
  return foundCrossing();
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
  let setting = params.settingsOffset + row * params.settingsStride;
  let temperature = positive(settings[setting + TEMPERATURE]);
  let topK = settings[setting + TOP_K];
  let topP = positive(settings[setting + TOP_P]);
  let byMass = topP > 0.0 && topP < 1.0;
  let byCount = topK > 0u && topK < params.vocabSize;

  let base = row * params.recordsStride;
  var best = NOTHING;
  for (var step = 0u; step < params.recordSteps; step++) {
    let record = step * WORKGROUP_SIZE + local;
    if (record < params.records) { best = betterOf(best, vec2<u32>(records[base + record * params.recordWords], record)); }
  }
  let largestKey = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize).x;

  // Bins before `first` are kept, those from `first` to `last` are in doubt, as is all of the bin where top-k ends: the
  // mass that top-p takes its share of depends on it.
  var ends = Crossing(NOWHERE, vec3<u32>(), vec3<u32>());
  var low = ends;
  var high = ends;
  var doubtful = 0u;
  if (temperature > 0.0 && (byMass || byCount)) {
    let bins = base + params.records * params.recordWords;
    var sum = vec3<u32>();
    for (var i = 0u; i < BINS / WORKGROUP_SIZE; i++) {
      sum = addTally(sum, binTally(bins, local * (BINS / WORKGROUP_SIZE) + i));
    }
    let prefix = tallyPrefix(sum, local, WORKGROUP_SIZE);
    // Where top-k ends, then where top-p may; one place that searches, since compilers copy functions.
    for (var search = 0u; search < 3u; search++) {
      if (search > 0u && !byMass) { continue; }
      // No count reaches the goal of a top-k that is off, which therefore ends nowhere.
      var goal = vec2<u32>(select(0xffffffffu, topK, byCount), 0u);
      if (search == 1u) { goal = goalOf(ends.before.yz, topP); }
      if (search == 2u) { goal = goalOf(addWide(ends.before.yz, ends.at.yz), topP); }
      let found = findBin(bins, prefix.before, goal, search > 0u, local);
      if (search == 0u) {
        ends = found;
        // Without an end, what is before it is everything.
        if (ends.place == NOWHERE) { ends.before = prefix.total; }
        low = ends;
      } else if (search == 1u) {
        low = found;
      }
      high = found;
    }
    if (high.place != NOWHERE) { doubtful = high.before.x + high.at.x - low.before.x; }
    if (ends.place != NOWHERE && ends.place != high.place) { doubtful += ends.at.x; }
  }
  let at = 16u * row;
  if (slice == 0u && local == 0u) {
    let found = array<u32, 10>(largestKey, doubtful, ends.place, topK - ends.before.x, ends.before.y, ends.before.z,
      low.place, high.place, low.before.y, low.before.z);
    for (var i = 0u; i < 10u; i++) { atomicStore(&marks[at + 1u + i], found[i]); }
  }

  let isFinite = isFiniteKey(largestKey);
  let largest = keyValue(select(0x80000000u, largestKey, isFinite));
  let reach = minPReach(positive(settings[setting + MIN_P]), temperature, largestKey);
  let seed = vec2<u32>(settings[setting + SEED], settings[setting + SEED + 1u]);
  var counter = 0u;
  if (HAS_POSITION) { counter = position[params.positionOffset + row] + params.advance; }
  let quads = (params.vocabSize + 3u) / 4u;
  best = NOTHING;
  for (var step = 0u; step < params.steps; step++) {
    let quad = (slice * params.steps + step) * WORKGROUP_SIZE + local;
    if (quad >= quads) { continue; }
    var four = keys[row * quads + quad];
    for (var i = 0u; i < 4u; i++) {
      if (!isFinite || !isFiniteKey(four[i])) { continue; }
      let distance = halfBelow(largest, four[i]);
      let bin = binOf(distance);
      if (doubtful <= params.capacity && ((bin >= low.place && bin <= high.place) || bin == ends.place)) {
        list[row * params.capacity + atomicAdd(&marks[at], 1u)] = 4u * quad + i;
      }
      if (bin >= low.place || distance > reach) { four[i] = 0u; }
    }
    if (all(four == vec4<u32>())) { continue; }
    var noise = vec4<u32>();
    if (temperature > 0.0) { noise = philox(vec4<u32>(counter, quad, 0u, 0u), seed); }
    for (var i = 0u; i < 4u; i++) { four[i] = drawnKey(four[i], temperature, noise[i]); }
    best = betterOf(best, bestOfQuad(four, 4u * quad));
  }
  best = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize);
  if (local == 0u) { bests[task] = best; }
}
