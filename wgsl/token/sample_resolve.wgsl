// token[b] = index of the best draw among bests[b] and those logits in doubt that top-k, top-p and min-p keep; position[b] += 1
// Source: radix selection on keys, eight bits a pass; Gumbel-max, arXiv 1411.0030, section 2.
// Work: one workgroup a sequence; it looks at the list of sample_split, or at all keys where that was too long.
// Workgroup memory: 13 KiB (1024 keys, three words of 256 digits, 256 tallies, 256 keys and indices).
// Barriers: between clearing, filling and searching the digits; those of workgroupBest and tallyPrefix.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::random::philox;
import package::shared::reduce::{betterOf, workgroupBest};
import package::shared::sampling::{binOf, drawnKey, halfBelow, isFiniteKey, keyValue, massOf, minPReach, positive};
import package::shared::sampling::{MIN_P, NOTHING, SEED, TEMPERATURE, TOP_P};
import package::shared::tally::{addTally, addWide, claimCrossing, foundCrossing, goalOf, openCrossing, tallyPrefix};
import package::shared::tally::NOWHERE;
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  vocabSize: u32,
  slices: u32,
  bestSteps: u32,
  capacity: u32,
  settingsOffset: u32,
  settingsStride: u32,
  positionOffset: u32,
  advance: u32,
  tokenOffset: u32,
  recentOffset: u32,
  recentStride: u32,
  recentSize: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HAS_POSITION: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (batch, 4 * ceil(vocabSize / 4))
@group(0) @binding(1) var<storage, read> keys: array<u32>;
// (batch, 16), see shared/sampling
@group(0) @binding(2) var<storage, read> settings: array<u32>;
// (batch, 16), see sample_split
@group(0) @binding(3) var<storage, read> marks: array<u32>;
// (batch, capacity) indices
@group(0) @binding(4) var<storage, read> list: array<u32>;
// (batch, slices) key and index
@group(0) @binding(5) var<storage, read> bests: array<vec2<u32>>;
// (batch)
@group(0) @binding(6) var<storage, read_write> token: array<u32>;
// (batch): plus `advance`, the counter of the random numbers
@group(0) @binding(7) var<storage, read_write> position: array<u32>;
// (batch, 1 + recentSize), see sample_adjust
@group(0) @binding(8) var<storage, read_write> recent: array<u32>;

const CACHE: u32 = 1024u;
const DIGITS: u32 = 256u;

var<workgroup> cache: array<u32, CACHE>;
var<workgroup> digitCounts: array<atomic<u32>, DIGITS>;
var<workgroup> digitLows: array<atomic<u32>, DIGITS>;
var<workgroup> digitHighs: array<atomic<u32>, DIGITS>;

// The sequence that this workgroup is at.
var<private> row: u32;
var<private> candidates: u32;
var<private> isListed: bool;
var<private> largest: f32;
var<private> temperature: f32;

fn indexOf(candidate: u32) -> u32 {
  if (isListed) { return list[row * params.capacity + candidate]; }
  return candidate;
}

fn storedKey(candidate: u32) -> u32 {
  return keys[row * 4u * ((params.vocabSize + 3u) / 4u) + indexOf(candidate)];
}

fn keyOf(candidate: u32) -> u32 {
  if (candidates <= CACHE) { return cache[candidate]; }
  return storedKey(candidate);
}

fn addDigit(digit: u32, tally: vec3<u32>) {
  if (tally.x == 0u) { return; }
  atomicAdd(&digitCounts[digit], tally.x);
  var high = tally.z;
  if (tally.y != 0u && atomicAdd(&digitLows[digit], tally.y) > 0xffffffffu - tally.y) { high++; }
  if (high != 0u) { atomicAdd(&digitHighs[digit], high); }
}

fn digitTally(digit: u32) -> vec3<u32> {
  return vec3<u32>(atomicLoad(&digitCounts[digit]), atomicLoad(&digitLows[digit]), atomicLoad(&digitHighs[digit]));
}

// A key and the tally of those that are at least as large.
struct Threshold {
  key: u32,
  tally: vec3<u32>,
}

// The largest key with which a running tally, `before` at first, reaches the goal, among those from `least` up in the
// bins from `bins.x` to `bins.y`; its digits are found from the highest.
fn threshold(bins: vec2<u32>, least: u32, before: vec3<u32>, goal: vec2<u32>, byMass: bool, local: u32) -> Threshold {
  var key = 0u;
  var above = before;
  var at = vec3<u32>();
  let steps = (candidates + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
  for (var level = 0u; level < 4u; level++) {
    let shift = 24u - 8u * level;
    let decided = ~(0xffffffffu >> (8u * level));
    for (var step = 0u; step < DIGITS / WORKGROUP_SIZE; step++) {
      atomicStore(&digitCounts[step * WORKGROUP_SIZE + local], 0u);
      atomicStore(&digitLows[step * WORKGROUP_SIZE + local], 0u);
      atomicStore(&digitHighs[step * WORKGROUP_SIZE + local], 0u);
    }
    openCrossing(local);
    // What falls on one digit in a row is added at once: high digits are mostly equal, and so are ties.
    var digit = 0u;
    var run = vec3<u32>();
    for (var step = 0u; step < steps; step++) {
      let candidate = step * WORKGROUP_SIZE + local;
      if (candidate >= candidates) { break; }
      let found = keyOf(candidate);
      if (!isFiniteKey(found) || found < least || (found & decided) != key) { continue; }
      let distance = halfBelow(largest, found);
      let bin = binOf(distance);
      if (bin < bins.x || bin > bins.y) { continue; }
      // Larger keys come first.
      let next = 255u - ((found >> shift) & 255u);
      if (next != digit) {
        addDigit(digit, run);
        digit = next;
        run = vec3<u32>();
      }
      run = addTally(run, vec3<u32>(1u, massOf(distance, temperature)));
    }
    addDigit(digit, run);
    workgroupBarrier();
    let own = local * (DIGITS / WORKGROUP_SIZE);
    var sum = vec3<u32>();
    for (var i = 0u; i < DIGITS / WORKGROUP_SIZE; i++) { sum = addTally(sum, digitTally(own + i)); }
    var running = addTally(above, tallyPrefix(sum, local, WORKGROUP_SIZE).before);
    for (var i = 0u; i < DIGITS / WORKGROUP_SIZE; i++) {
      let tally = digitTally(own + i);
      claimCrossing(own + i, running, tally, goal, byMass);
      running = addTally(running, tally);
    }
    let crossing = foundCrossing();
    // A goal that the rounding of another pass left out of reach ends at the lowest digit.
    if (crossing.place != NOWHERE) {
      key |= (255u - crossing.place) << shift;
      above = crossing.before;
      at = crossing.at;
    }
  }
  return Threshold(key, addTally(above, at));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let sequence = workgroup.y * grid.x + workgroup.x;
  if (sequence >= params.batch) { return; }
  let setting = params.settingsOffset + sequence * params.settingsStride;
  let mark = 16u * sequence;
  row = sequence;
  temperature = positive(settings[setting + TEMPERATURE]);
  var best = NOTHING;
  for (var step = 0u; step < params.bestSteps; step++) {
    let slice = step * WORKGROUP_SIZE + local;
    if (slice < params.slices) { best = betterOf(best, bests[sequence * params.slices + slice]); }
  }
  if (marks[mark + 2u] != 0u) {
    largest = keyValue(marks[mark + 1u]);
    isListed = marks[mark + 2u] <= params.capacity;
    candidates = select(params.vocabSize, marks[mark + 2u], isListed);
    let steps = (candidates + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    if (candidates <= CACHE) {
      for (var step = 0u; step < steps; step++) {
        let candidate = step * WORKGROUP_SIZE + local;
        if (candidate < candidates) { cache[candidate] = storedKey(candidate); }
      }
    }
    workgroupBarrier();
    let ends = marks[mark + 3u];
    let bins = vec2<u32>(marks[mark + 7u], marks[mark + 8u]);
    var mass = vec2<u32>(marks[mark + 5u], marks[mark + 6u]);
    var least = 0u;
    let topP = positive(settings[setting + TOP_P]);
    // Top-k by counts, then top-p by the mass that it left; one place that searches, since compilers copy functions.
    for (var search = 0u; search < 2u; search++) {
      let byMass = search == 1u;
      if (select(ends == NOWHERE, !(topP > 0.0 && topP < 1.0), byMass)) { continue; }
      let before = select(vec3<u32>(), vec3<u32>(0u, marks[mark + 9u], marks[mark + 10u]), byMass);
      let goal = select(vec2<u32>(marks[mark + 4u], 0u), goalOf(mass, topP), byMass);
      let found = threshold(select(vec2<u32>(ends), bins, byMass), least, before, goal, byMass, local);
      least = max(least, found.key);
      mass = addWide(mass, found.tally.yz);
    }
    let reach = minPReach(positive(settings[setting + MIN_P]), temperature, marks[mark + 1u]);
    var counter = 0u;
    if (HAS_POSITION) { counter = position[params.positionOffset + sequence] + params.advance; }
    let seed = vec2<u32>(settings[setting + SEED], settings[setting + SEED + 1u]);
    for (var step = 0u; step < steps; step++) {
      let candidate = step * WORKGROUP_SIZE + local;
      if (candidate >= candidates) { break; }
      let key = keyOf(candidate);
      if (!isFiniteKey(key) || key < least) { continue; }
      let distance = halfBelow(largest, key);
      let bin = binOf(distance);
      if (bin < bins.x || bin > bins.y || distance > reach) { continue; }
      let index = indexOf(candidate);
      let noise = philox(vec4<u32>(counter, index / 4u, 0u, 0u), seed);
      best = betterOf(best, vec2<u32>(drawnKey(key, temperature, noise[index % 4u]), index));
    }
  }
  best = workgroupBest(best, local, WORKGROUP_SIZE, subgroupSize);
  if (local == 0u) {
    token[params.tokenOffset + sequence] = best.y;
    if (params.advance != 0u) { position[params.positionOffset + sequence] += params.advance; }
    if (params.recentSize != 0u && best.y != NOTHING.y) {
      let at = params.recentOffset + sequence * params.recentStride;
      recent[at + 1u + recent[at] % params.recentSize] = best.y;
      recent[at] += 1u;
    }
  }
}
