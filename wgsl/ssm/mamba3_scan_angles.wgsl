// turns[t] = turns[t - 1] + pi tanh(angles[t]) dt[t]; coefficients of every token: exp(adt), its key's scale, D
// Source: state-spaces/mamba, mamba3_siso: angle_dt, and its scan as one SSD, where a key counts with
//   sigmoid(trap[t]) dt[t] + (1 - sigmoid(trap[t + 1])) dt[t + 1]; the first of the three passes of mamba3Scan.
// Work: one workgroup 32 angles of a head over all tokens; of a tile an invocation adds 16, then what is before them.
// Workgroup memory: 4 WORKGROUP_SIZE bytes (sums of the runs of 16).
// Barriers: between the sums of runs and their prefixes, and before the next sums.
// Requirements: none.
import package::shared::turns::{turnOf, turnsOf, positiveAngle, sigmoid};

struct Params {
  length: u32,
  heads: u32,
  // S
  rotary: u32,
  anglesOffset: u32,
  anglesStride: u32,
  dtOffset: u32,
  dtStride: u32,
  adtOffset: u32,
  adtStride: u32,
  trapOffset: u32,
  trapStride: u32,
  stateOffset: u32,
  stateStride: u32,
  skipOffset: u32,
}

override WORKGROUP_SIZE: u32 = 256u;
const ANGLES: u32 = 32u;
// Tokens that one invocation adds: their loads are all on their way at once
const RUN: u32 = 16u;
override HAS_STATE: bool = false;
override HAS_SKIP: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, S), raw, tokens anglesStride apart
@group(0) @binding(1) var<storage, read> angles: array<f32>;
// (B, L, H), tokens dtStride apart
@group(0) @binding(2) var<storage, read> dt: array<f32>;
// (B, L, H): A dt, tokens adtStride apart
@group(0) @binding(3) var<storage, read> adt: array<f32>;
// (B, L, H), raw, tokens trapStride apart
@group(0) @binding(4) var<storage, read> trap: array<f32>;
// (H) from skipOffset
@group(0) @binding(5) var<storage, read> D: array<f32>;
// (B, H, S), sequences stateStride apart: radians before the first token (where HAS_STATE), then after the last
@group(0) @binding(6) var<storage, read_write> angleState: array<f32>;
// (B, L, H, S)
@group(0) @binding(7) var<storage, read_write> turns: array<u32>;
// (B, L + 1, H): decay, scale of the key, its part that counts from the next token on, D. The first row is what the
// token before this call has: only the third is set.
@group(0) @binding(8) var<storage, read_write> coefficients: array<vec4<f32>>;

var<workgroup> runSums: array<u32, WORKGROUP_SIZE>;

fn turnAt(row: u32, head: u32, angle: u32) -> u32 {
  let raw = angles[params.anglesOffset + row * params.anglesStride + head * params.rotary + angle];
  return turnOf(raw, dt[params.dtOffset + row * params.dtStride + head]);
}

// What the key of the token before `row` adds with it: (1 - sigmoid(trap)) dt.
fn lateScale(row: u32, head: u32) -> f32 {
  let raw = trap[params.trapOffset + row * params.trapStride + head];
  return sigmoid(-raw) * dt[params.dtOffset + row * params.dtStride + head];
}

// Writes the coefficients of token - 1, for token from 0 (what was before this call) to L.
fn writeCoefficients(batch: u32, head: u32, token: u32) {
  let row = batch * params.length + token;
  var late = 0.0;
  if (token < params.length) { late = lateScale(row, head); }
  var result = vec4<f32>(0.0, 0.0, late, 0.0);
  if (token > 0u) {
    let own = row - 1u;
    let decay = exp(max(adt[params.adtOffset + own * params.adtStride + head], -100.0));
    let early = sigmoid(trap[params.trapOffset + own * params.trapStride + head]);
    result.x = decay;
    result.y = early * dt[params.dtOffset + own * params.dtStride + head] + late;
    if (HAS_SKIP) { result.w = D[params.skipOffset + head]; }
  }
  coefficients[(batch * (params.length + 1u) + token) * params.heads + head] = result;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.y;
  let batch = workgroup.z;
  let angle = workgroup.x * ANGLES + local % ANGLES;
  let inside = angle < params.rotary;
  let run = local / ANGLES;
  let runs = WORKGROUP_SIZE / ANGLES;
  let tileTokens = RUN * runs;
  let held = params.stateOffset + batch * params.stateStride + head * params.rotary + angle;
  var carried = 0u;
  if (HAS_STATE && inside) { carried = turnsOf(angleState[held]); }
  for (var tile = 0u; tile < params.length / tileTokens + 1u; tile++) {
    let first = tile * tileTokens;
    if (workgroup.x == 0u && local < tileTokens && first + local <= params.length) {
      writeCoefficients(batch, head, first + local);
    }
    let start = first + run * RUN;
    var moves = array<u32, RUN>();
    var sum = 0u;
    for (var i = 0u; i < RUN; i++) {
      if (inside && start + i < params.length) {
        moves[i] = turnAt(batch * params.length + start + i, head, angle);
        sum += moves[i];
      }
    }
    runSums[local] = sum;
    workgroupBarrier();
    var before = carried;
    for (var other = 0u; other < runs; other++) {
      let others = runSums[other * ANGLES + local % ANGLES];
      if (other < run) { before += others; }
      carried += others;
    }
    for (var i = 0u; i < RUN; i++) {
      let row = batch * params.length + start + i;
      before += moves[i];
      if (inside && start + i < params.length) { turns[(row * params.heads + head) * params.rotary + angle] = before; }
    }
    workgroupBarrier();
  }
  if (inside && run == 0u) { angleState[held] = positiveAngle(carried); }
}
