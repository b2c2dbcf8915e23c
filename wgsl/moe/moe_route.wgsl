// indices[m, s] = the expert whose choice[m, e] has rank s; weights[m, s] = scale * w[m, s] / (sum_s w[m, s] + eps)
//   w = score of the expert, score = softmax_e(logits) or sigmoid(logits), choice = score + bias; or w = softmax_s(logits)
// Source: Mixtral, arXiv 2401.04088, section 2.1; groups and bias: DeepSeek-V3, arXiv 2412.19437, equations 12 to 16.
// Work: one workgroup a token. Experts are ranked in blocks (the groups, where there are any), then the first of each
//   block among themselves: an expert's rank is the number of better ones, so that no step waits for another.
// Workgroup memory: 8 EXPERTS + 8 candidates + 4 blocks + 128 + 3072 bytes, up to 12.2 KiB.
// Barriers: around the reductions, and after keys, candidates, groups and chosen experts are written.
// Requirements: none; subgroups shorten the reductions.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::ordered::{finiteBits, orderedKey, valueOfKey};
import package::shared::reduce::{workgroupBest, workgroupSum};
@if(simd_subgroups) enable subgroups;

struct Params {
  tokens: u32,
  logitsOffset: u32,
  logitsStride: u32,
  biasOffset: u32,
  eps: f32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 64u;
override EXPERTS: u32 = 64u;
override TOP_K: u32 = 8u;
// Experts of a block, blocks, and candidates that a block sends to the last ranking.
override BLOCK: u32 = 64u;
override BLOCKS: u32 = 1u;
override CANDIDATES: u32 = 8u;
// Blocks whose experts may be chosen: those with the largest sums of their two best choices.
override TOP_BLOCKS: u32 = 1u;
// 0: softmax over all experts, 1: sigmoid, 2: softmax over the chosen ones
override SCORING: u32 = 0u;
override NORMALIZE: bool = false;
override HAS_BIAS: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (M, EXPERTS) bits of f32, rows logitsStride apart: a compiler may assume that floats are never NaN, not bits
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// (EXPERTS) from biasOffset
@group(0) @binding(2) var<storage, read> bias: array<f32>;
// (M, TOP_K)
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;
// (M, TOP_K)
@group(0) @binding(4) var<storage, read_write> weights: array<f32>;

const SOFTMAX: u32 = 0u;
const SIGMOID: u32 = 1u;
const SOFTMAX_OF_CHOSEN: u32 = 2u;
const LARGEST_EXPONENT: f32 = 87.0;

// Order of the experts' choices, and what their weights are made of.
var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> scores: array<f32, EXPERTS>;
// Experts and keys of the first of each block; a key of 0 stands for nobody.
var<workgroup> candidates: array<u32, BLOCKS * CANDIDATES>;
var<workgroup> candidateKeys: array<u32, BLOCKS * CANDIDATES>;
var<workgroup> blockKeys: array<u32, BLOCKS>;
var<workgroup> chosen: array<u32, TOP_K>;

fn roundsOf(count: u32) -> u32 { return (count + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; }

fn choiceOf(expert: u32) -> f32 {
  var choice = scores[expert];
  if (HAS_BIAS) { choice += bias[params.biasOffset + expert]; }
  return choice;
}

// exp(x) of x <= 0 without what a compiler may assume away
fn expDown(x: f32) -> f32 { return exp(max(x, -LARGEST_EXPONENT)); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Tokens may exceed one dimension of the grid (see flatGrid).
  let token = workgroup.y * grid.x + workgroup.x;
  if (token >= params.tokens) { return; }
  let start = params.logitsOffset + token * params.logitsStride;

  var largest = 0.0;
  var total = 1.0;
  if (SCORING == SOFTMAX) {
    var best = 0u;
    for (var round = 0u; round < roundsOf(EXPERTS); round++) {
      let expert = round * WORKGROUP_SIZE + local;
      if (expert < EXPERTS) { best = max(best, orderedKey(finiteBits(logits[start + expert]))); }
    }
    largest = valueOfKey(workgroupBest(vec2<u32>(best, 0u), local, WORKGROUP_SIZE, subgroupSize).x);
    var sum = 0.0;
    for (var round = 0u; round < roundsOf(EXPERTS); round++) {
      let expert = round * WORKGROUP_SIZE + local;
      if (expert < EXPERTS) { sum += expDown(bitcast<f32>(finiteBits(logits[start + expert])) - largest); }
    }
    total = workgroupSum(sum, local, WORKGROUP_SIZE, subgroupSize);
  }
  for (var round = 0u; round < roundsOf(EXPERTS); round++) {
    let expert = round * WORKGROUP_SIZE + local;
    if (expert < EXPERTS) {
      let bits = finiteBits(logits[start + expert]);
      let logit = bitcast<f32>(bits);
      if (SCORING == SOFTMAX) { scores[expert] = expDown(logit - largest) / total; }
      if (SCORING == SIGMOID) { scores[expert] = 1.0 / (1.0 + exp(min(-logit, LARGEST_EXPONENT))); }
      if (SCORING == SOFTMAX_OF_CHOSEN) { scores[expert] = logit; }
      // Without a bias, logits have the order of their scores, and no two of them round to one value.
      keys[expert] = orderedKey(select(bits, finiteBits(bitcast<u32>(choiceOf(expert))), HAS_BIAS));
    }
  }
  for (var round = 0u; round < roundsOf(BLOCKS * CANDIDATES); round++) {
    let candidate = round * WORKGROUP_SIZE + local;
    if (candidate < BLOCKS * CANDIDATES) { candidateKeys[candidate] = 0u; }
  }
  workgroupBarrier();

  for (var round = 0u; round < roundsOf(EXPERTS); round++) {
    let expert = round * WORKGROUP_SIZE + local;
    if (expert < EXPERTS) {
      let block = expert / BLOCK;
      let key = keys[expert];
      var rank = 0u;
      // Of equal ones the first is better.
      for (var other = block * BLOCK; other < min((block + 1u) * BLOCK, EXPERTS); other++) {
        rank += u32(keys[other] > key || (keys[other] == key && other < expert));
      }
      if (rank < CANDIDATES) {
        candidates[block * CANDIDATES + rank] = expert;
        candidateKeys[block * CANDIDATES + rank] = key;
      }
    }
  }
  workgroupBarrier();

  if (TOP_BLOCKS < BLOCKS) {
    for (var round = 0u; round < roundsOf(BLOCKS); round++) {
      let block = round * WORKGROUP_SIZE + local;
      if (block < BLOCKS) {
        let first = block * CANDIDATES;
        let sum = choiceOf(candidates[first]) + choiceOf(candidates[first + 1u]);
        blockKeys[block] = orderedKey(finiteBits(bitcast<u32>(sum)));
      }
    }
    workgroupBarrier();
    for (var round = 0u; round < roundsOf(BLOCKS); round++) {
      let block = round * WORKGROUP_SIZE + local;
      if (block < BLOCKS) {
        var rank = 0u;
        for (var other = 0u; other < BLOCKS; other++) {
          rank += u32(blockKeys[other] > blockKeys[block] || (blockKeys[other] == blockKeys[block] && other < block));
        }
        if (rank >= TOP_BLOCKS) {
          for (var i = 0u; i < CANDIDATES; i++) { candidateKeys[block * CANDIDATES + i] = 0u; }
        }
      }
    }
    workgroupBarrier();
  }

  // Among equal keys, candidates stand in the order of their experts.
  for (var round = 0u; round < roundsOf(BLOCKS * CANDIDATES); round++) {
    let candidate = round * WORKGROUP_SIZE + local;
    if (candidate < BLOCKS * CANDIDATES && candidateKeys[candidate] != 0u) {
      let key = candidateKeys[candidate];
      var rank = candidate;
      if (BLOCKS > 1u) {
        rank = 0u;
        for (var other = 0u; other < BLOCKS * CANDIDATES; other++) {
          rank += u32(candidateKeys[other] > key || (candidateKeys[other] == key && other < candidate));
        }
      }
      if (rank < TOP_K) { chosen[rank] = candidates[candidate]; }
    }
  }
  workgroupBarrier();

  var sum = 0.0;
  if (SCORING == SOFTMAX_OF_CHOSEN) {
    largest = scores[chosen[0]];
    for (var slot = 0u; slot < TOP_K; slot++) { sum += expDown(scores[chosen[slot]] - largest); }
  } else if (NORMALIZE) {
    for (var slot = 0u; slot < TOP_K; slot++) { sum += scores[chosen[slot]]; }
    sum += params.eps;
  } else {
    sum = 1.0;
  }
  for (var round = 0u; round < roundsOf(TOP_K); round++) {
    let slot = round * WORKGROUP_SIZE + local;
    if (slot < TOP_K) {
      var weight = scores[chosen[slot]];
      if (SCORING == SOFTMAX_OF_CHOSEN) { weight = expDown(weight - largest); }
      indices[token * TOP_K + slot] = chosen[slot];
      weights[token * TOP_K + slot] = params.scale * weight / sum;
    }
  }
}
