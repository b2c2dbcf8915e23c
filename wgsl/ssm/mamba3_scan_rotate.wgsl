// qk[t + 1] = (R(turns[t]) (q + qBias), R(turns[t]) (k + kBias)), R turning pairs (2 i, 2 i + 1), i < S; qk[0] = (0, kState)
// Source: state-spaces/mamba, mamba3_siso; the second of the three passes of mamba3Scan.
// Work: LANES invocations a token and head, a pair each at a time; they also take the late part of the own key out of y.
// Workgroup memory: 0.5 KiB (128 partial sums).
// Barriers: between the partial sums of q . k and their total, where a head spans more than one subgroup.
// Requirements: none; subgroups shorten the reduction.
//! axis simd: subgroups(subgroups) | baseline
import package::shared::lane_sums::{LANES, sumOverLanes};
import package::shared::trigonometry::sinCos;
import package::shared::turns::{signedAngle, turned};
@if(simd_subgroups) enable subgroups;

struct Params {
  batch: u32,
  length: u32,
  heads: u32,
  // Heads that share q and k
  group: u32,
  // N, and N with its padding in qk, in pairs
  pairs: u32,
  paddedPairs: u32,
  // S
  rotary: u32,
  qOffset: u32,
  qStride: u32,
  kOffset: u32,
  kStride: u32,
  qBiasOffset: u32,
  kBiasOffset: u32,
  stateOffset: u32,
  stateStride: u32,
}

const WORKGROUP_SIZE: u32 = 128u;
override HAS_STATE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, Hqk, N), tokens qStride apart
@group(0) @binding(1) var<storage, read> q: array<f32>;
// (B, L, Hqk, N), tokens kStride apart
@group(0) @binding(2) var<storage, read> k: array<f32>;
// (H, N)
@group(0) @binding(3) var<storage, read> qBias: array<f32>;
// (H, N)
@group(0) @binding(4) var<storage, read> kBias: array<f32>;
// (B, L, H, S)
@group(0) @binding(5) var<storage, read> turns: array<u32>;
// (B, H, N), sequences stateStride apart: the rotated key before the first token
@group(0) @binding(6) var<storage, read> kState: array<f32>;
// (B, L + 1, H), see mamba3_scan_angles; the last becomes what v counts with in y beside the state
@group(0) @binding(7) var<storage, read_write> coefficients: array<vec4<f32>>;
// (B, L + 1, H, 2, N), N padded with zeros
@group(0) @binding(8) var<storage, read_write> qk: array<vec2<f32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @if(simd_subgroups) @builtin(subgroup_size) subgroupSize: u32,
) {
  @if(!simd_subgroups) let subgroupSize = 1u;
  // Heads of all tokens may exceed one dimension of the grid (see flatGrid).
  let row = (workgroup.y * grid.x + workgroup.x) * (WORKGROUP_SIZE / LANES) + local / LANES;
  let rows = params.batch * (params.length + 1u) * params.heads;
  let head = row % params.heads;
  let entry = row / params.heads;
  let batch = entry / (params.length + 1u);
  let token = entry % (params.length + 1u);
  let width = 2u * params.pairs;
  var sum = 0.0;
  for (var slice = 0u; slice < (params.paddedPairs + LANES - 1u) / LANES; slice++) {
    let pair = slice * LANES + local % LANES;
    if (row < rows && pair < params.paddedPairs) {
      var query = vec2<f32>(0.0);
      var key = vec2<f32>(0.0);
      if (pair < params.pairs && token > 0u) {
        let input = batch * params.length + token - 1u;
        let atQ = params.qOffset + input * params.qStride + head / params.group * width + 2u * pair;
        let atK = params.kOffset + input * params.kStride + head / params.group * width + 2u * pair;
        let qBiasAt = params.qBiasOffset + head * width + 2u * pair;
        let kBiasAt = params.kBiasOffset + head * width + 2u * pair;
        query = vec2<f32>(q[atQ] + qBias[qBiasAt], q[atQ + 1u] + qBias[qBiasAt + 1u]);
        key = vec2<f32>(k[atK] + kBias[kBiasAt], k[atK + 1u] + kBias[kBiasAt + 1u]);
        sum += dot(query, key);
        if (pair < params.rotary) {
          let angle = sinCos(signedAngle(turns[(input * params.heads + head) * params.rotary + pair]));
          query = turned(query, angle);
          key = turned(key, angle);
        }
      } else if (HAS_STATE && pair < params.pairs) {
        let at = params.stateOffset + batch * params.stateStride + head * width + 2u * pair;
        key = vec2<f32>(kState[at], kState[at + 1u]);
      }
      qk[2u * row * params.paddedPairs + pair] = query;
      qk[(2u * row + 1u) * params.paddedPairs + pair] = key;
    }
  }
  let total = sumOverLanes(sum, local, subgroupSize);
  if (row < rows && token > 0u && local % LANES == 0u) {
    let given = coefficients[row];
    coefficients[row] = vec4<f32>(given.xyz, given.w - given.z * total);
  }
}
