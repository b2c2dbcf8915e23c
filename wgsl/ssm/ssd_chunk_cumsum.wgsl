// dt = clamp(softplus(raw + dtBias), low, high); cs[i] = sum_{k <= i} dt[k] A inside each chunk of Q tokens
// Source: Transformers are SSMs, arXiv 2405.21060, section 6; the first of the passes of ssdChunkScan.
// Work: one workgroup a (batch, chunk, head), one invocation a token; tokens past the end get dt = 0.
// Workgroup memory: 2 KiB (256 sums in two parts).
// Barriers: two a doubling step of the scan: all have read before one writes, all have written before one reads.
// Requirements: none.
import package::shared::time_step::{timeStep, logDecay, splitDecay, PADDING_STEP, RESET};

struct Params {
  length: u32,
  chunks: u32,
  heads: u32,
  dtOffset: u32,
  dtStride: u32,
  // S, and where the table begins in steps (with PACKED).
  sequences: u32,
  table: u32,
  low: f32,
  high: f32,
}

override CHUNK: u32 = 128u;
override HAS_BIAS: bool = false;
override SOFTPLUS: bool = true;
override HAS_IDS: bool = false;
// Whether sequences of any lengths follow each other in one row; each then has chunks of its own.
override PACKED: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H), raw, rows of heads dtStride apart
@group(0) @binding(1) var<storage, read> dt: array<f32>;
// (H), negative
@group(0) @binding(2) var<storage, read> A: array<f32>;
// (H)
@group(0) @binding(3) var<storage, read> dtBias: array<f32>;
// (B, L): where it changes another sequence begins; below zero, the token belongs to none
@group(0) @binding(4) var<storage, read> sequenceIds: array<i32>;
// (S + 1): the first token of each sequence, then the end of the last
@group(0) @binding(5) var<storage, read> starts: array<u32>;
// (B, chunks, H, 3, Q): dt, then cs in two parts (see shared/time_step). With PACKED, from params.table on: first token
// and number of tokens of every chunk, then first chunk and number of chunks of every sequence, then the end of the last.
@group(0) @binding(6) var<storage, read_write> steps: array<f32>;

var<workgroup> sums: array<vec2<f32>, 256>;

// A chunk's tokens, and the first of the row or sequence that they belong to.
struct Place {
  opening: u32,
  first: u32,
  valid: u32,
  // Tokens behind the last sequence.
  padding: bool,
}

fn startOf(sequence: u32) -> u32 {
  return min(starts[sequence], params.length);
}

// Chunks of sequence s begin here: in order, with room for all chunks of each, and at most one to spare.
fn firstChunk(sequence: u32) -> u32 {
  return startOf(sequence) / CHUNK + sequence;
}

fn placeOf(index: u32, writes: bool) -> Place {
  if (!PACKED) {
    let row = index / params.chunks * params.length;
    let begin = index % params.chunks * CHUNK;
    return Place(row, row + begin, min(CHUNK, params.length - begin), false);
  }
  // The last sequence whose chunks begin at or before this one; number S stands for the tokens behind the others.
  var sequence = 0u;
  let rounds = 32u - countLeadingZeros(params.sequences);
  for (var round = 0u; round < rounds; round++) {
    let next = sequence + (1u << (rounds - 1u - round));
    if (next <= params.sequences) {
      if (firstChunk(next) <= index) { sequence = next; }
    }
  }
  let begin = startOf(sequence);
  var end = params.length;
  if (sequence < params.sequences) { end = max(begin, startOf(sequence + 1u)); }
  let own = firstChunk(sequence);
  let first = begin + (index - own) * CHUNK;
  let valid = min(CHUNK, end - min(first, end));
  if (writes) {
    steps[params.table + 2u * index] = f32(first);
    steps[params.table + 2u * index + 1u] = f32(valid);
    if (index == 0u) { steps[params.table + 2u * (params.chunks + params.sequences)] = f32(startOf(params.sequences)); }
    if (index == own && sequence < params.sequences) {
      let at = params.table + 2u * (params.chunks + sequence);
      steps[at] = f32(own);
      steps[at + 1u] = f32((end - begin + CHUNK - 1u) / CHUNK);
    }
  }
  return Place(begin, first, valid, sequence == params.sequences);
}

@compute @workgroup_size(CHUNK)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let place = placeOf(workgroup.y, head == 0u && local == 0u);
  let token = place.first + local;
  var step = 0.0;
  var decay = 0.0;
  if (local < place.valid) {
    var raw = dt[params.dtOffset + token * params.dtStride + head];
    if (HAS_BIAS) { raw += dtBias[head]; }
    step = timeStep(raw, SOFTPLUS, params.low, params.high);
    decay = logDecay(step, A[head]);
    var padding = place.padding;
    if (HAS_IDS) {
      let id = sequenceIds[token];
      if (token > place.opening) {
        if (sequenceIds[token - 1u] != id) { decay = RESET; }
      }
      padding = padding || id < 0;
    }
    // Padding adds nothing and forgets nothing.
    if (padding) {
      step = PADDING_STEP;
      decay = 0.0;
    }
  }
  sums[local] = splitDecay(decay);
  workgroupBarrier();
  for (var distance = 1u; distance < CHUNK; distance <<= 1u) {
    var sum = sums[local];
    if (local >= distance) { sum += sums[local - distance]; }
    workgroupBarrier();
    sums[local] = sum;
    workgroupBarrier();
  }
  let at = (workgroup.y * params.heads + head) * 3u * CHUNK + local;
  steps[at] = step;
  steps[at + CHUNK] = sums[local].x;
  steps[at + 2u * CHUNK] = sums[local].y;
}
