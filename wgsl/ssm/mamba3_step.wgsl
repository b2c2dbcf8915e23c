// Longer than most shaders, because it takes all 18 tensors of a step from 8 bindings.
// S = a (S + (1 - w) dt v' k'^T) + w dt v k^T; y = (S q + D v) silu(z), a = exp(adt), w = sigmoid(trap), of one token; q and
// k are turned by the angle after this token, k' and v' are those of the token before
// Source: state-spaces/mamba, mamba3_siso_step.
// Work: one workgroup a head: it turns q and k, then LANES invocations a row of the state, each 4 values (or 1) at a time.
// Workgroup memory: 4.5 KiB: q, k, k' and v', and 128 partial sums.
// Barriers: after q, k, k' and v' are in place; between the partial sums of rows and their totals.
// Requirements: none; the vec4 loads need N and the offset and stride of the state in multiples of 4.
//! axis simd: subgroups(subgroups) | baseline
//! axis load: vec4 | scalar
import package::shared::activations::silu;
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::trigonometry::sinCos;
import package::shared::turns::{turnOf, turnsOf, positiveAngle, signedAngle, sigmoid, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  heads: u32,
  // Heads that share q and k
  group: u32,
  headDim: u32,
  stateSize: u32,
  // S
  rotary: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  vOffset: u32,
  vStride: u32,
  zOffset: u32,
  zStride: u32,
  dtOffset: u32,
  dtStride: u32,
  adtOffset: u32,
  adtStride: u32,
  trapOffset: u32,
  trapStride: u32,
  anglesOffset: u32,
  anglesStride: u32,
  qBiasOffset: u32,
  kBiasOffset: u32,
  skipOffset: u32,
  angleStateOffset: u32,
  angleStateStride: u32,
  stateOffset: u32,
  stateStride: u32,
  kStateOffset: u32,
  kStateStride: u32,
  vStateOffset: u32,
  vStateStride: u32,
}

const WORKGROUP_SIZE: u32 = 128u;
// N and P at most
const MOST: u32 = 256u;
override HAS_SKIP: bool = false;
override HAS_GATE: bool = false;

@if(load_vec4) alias Value = vec4<f32>;
@if(load_scalar) alias Value = f32;
@if(load_vec4) const WIDTH: u32 = 4u;
@if(load_scalar) const WIDTH: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
// q and k, each (B, Hqk, N)
@group(0) @binding(1) var<storage, read> qk: array<f32>;
// v and z (B, H, P), dt, adt and trap (B, H), angles (B, H, S), sequences the stride of each apart: one storage
@group(0) @binding(2) var<storage, read> tokens: array<f32>;
// qBias and kBias (H, N), D (H)
@group(0) @binding(3) var<storage, read> weights: array<f32>;
// (B, H, S), radians
@group(0) @binding(4) var<storage, read_write> angleState: array<f32>;
// (B, H, P, N)
@group(0) @binding(5) var<storage, read_write> state: array<Value>;
// (B, H, N): k' turned, then k turned
@group(0) @binding(6) var<storage, read_write> kState: array<f32>;
// (B, H, P): v', then v
@group(0) @binding(7) var<storage, read_write> vState: array<f32>;
// (B, H, P)
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

var<workgroup> query: array<f32, MOST>;
var<workgroup> key: array<f32, MOST>;
var<workgroup> before: array<f32, MOST>;
var<workgroup> valuesBefore: array<f32, MOST>;

// Turns a pair of q and k, and keeps the key for the next token.
fn turnPair(batch: u32, head: u32, pair: u32, step: f32) {
  let n = 2u * pair;
  let sharedHead = head / params.group * params.stateSize + n;
  let q = params.qOffset + batch * params.qStride + sharedHead;
  let k = params.kOffset + batch * params.kStride + sharedHead;
  let qBias = params.qBiasOffset + head * params.stateSize + n;
  let kBias = params.kBiasOffset + head * params.stateSize + n;
  var one = vec2<f32>(qk[q] + weights[qBias], qk[q + 1u] + weights[qBias + 1u]);
  var two = vec2<f32>(qk[k] + weights[kBias], qk[k + 1u] + weights[kBias + 1u]);
  if (pair < params.rotary) {
    let at = params.angleStateOffset + batch * params.angleStateStride + head * params.rotary + pair;
    let raw = tokens[params.anglesOffset + batch * params.anglesStride + head * params.rotary + pair];
    let turns = turnsOf(angleState[at]) + turnOf(raw, step);
    angleState[at] = positiveAngle(turns);
    let angle = sinCos(signedAngle(turns));
    one = turned(one, angle);
    two = turned(two, angle);
  }
  query[n] = one.x;
  query[n + 1u] = one.y;
  key[n] = two.x;
  key[n + 1u] = two.y;
  let held = params.kStateOffset + batch * params.kStateStride + head * params.stateSize + n;
  before[n] = kState[held];
  before[n + 1u] = kState[held + 1u];
  kState[held] = two.x;
  kState[held + 1u] = two.y;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  let head = workgroup.x;
  let batch = workgroup.y;
  let step = tokens[params.dtOffset + batch * params.dtStride + head];
  // N <= 2 WORKGROUP_SIZE
  if (2u * local < params.stateSize) { turnPair(batch, head, local, step); }
  for (var round = 0u; round < (params.headDim + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; round++) {
    let p = round * WORKGROUP_SIZE + local;
    let held = params.vStateOffset + batch * params.vStateStride + head * params.headDim + p;
    if (p < params.headDim) {
      valuesBefore[p] = vState[held];
      vState[held] = tokens[params.vOffset + batch * params.vStride + head * params.headDim + p];
    }
  }
  let raw = tokens[params.trapOffset + batch * params.trapStride + head];
  let decay = exp(max(tokens[params.adtOffset + batch * params.adtStride + head], -100.0));
  let early = sigmoid(raw) * step;
  let late = sigmoid(-raw) * step * decay;
  workgroupBarrier();

  let rows = WORKGROUP_SIZE / LANES;
  let count = params.stateSize / WIDTH;
  for (var round = 0u; round < (params.headDim + rows - 1u) / rows; round++) {
    let p = round * rows + local / LANES;
    let column = head * params.headDim + p;
    var sum = 0.0;
    var input = 0.0;
    if (p < params.headDim) {
      input = tokens[params.vOffset + batch * params.vStride + column];
      let now = early * input;
      let then = late * valuesBefore[p];
      let stateRow = (params.stateOffset + batch * params.stateStride + column * params.stateSize) / WIDTH;
      for (var slice = 0u; slice < (count + LANES - 1u) / LANES; slice++) {
        let at = slice * LANES + local % LANES;
        let n = at * WIDTH;
        if (at < count) {
          @if(load_vec4) let k = vec4<f32>(key[n], key[n + 1u], key[n + 2u], key[n + 3u]);
          @if(load_vec4) let old = vec4<f32>(before[n], before[n + 1u], before[n + 2u], before[n + 3u]);
          @if(load_scalar) let k = key[n];
          @if(load_scalar) let old = before[n];
          let next = decay * state[stateRow + at] + then * old + now * k;
          state[stateRow + at] = next;
          @if(load_vec4) sum += dot(next, vec4<f32>(query[n], query[n + 1u], query[n + 2u], query[n + 3u]));
          @if(load_scalar) sum += next * query[n];
        }
      }
    }
    var total = sumOverLanes(sum, local, subgroupSize);
    if (p < params.headDim && local % LANES == 0u) {
      if (HAS_SKIP) { total += weights[params.skipOffset + head] * input; }
      if (HAS_GATE) { total *= silu(vec4<f32>(tokens[params.zOffset + batch * params.zStride + column])).x; }
      y[batch * params.heads * params.headDim + column] = total;
    }
  }
}
