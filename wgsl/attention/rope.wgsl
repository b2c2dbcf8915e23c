// y[b, l, h] = x[b, l, h] with its pairs turned by (position[b] + l) f[pair]; values from rotaryDim on are copied
// Source: RoFormer, arXiv 2104.09864, equation 34; apply_rotary_pos_emb with rotate_half, or GPT-J's interleaved form.
// Work: one invocation two neighbouring values of HEADS_EACH heads of one token, which share their angles.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none.
import package::shared::rotary::rotaryTurn;
import package::shared::trigonometry::sinCos;

struct Params {
  tokens: u32,
  length: u32,
  xOffset: u32,
  xStride: u32,
}

override HEADS: u32 = 8u;
override HEAD_DIM: u32 = 64u;
override ROTARY_DIM: u32 = 64u;
override HEADS_EACH: u32 = 4u;
override INTERLEAVED: bool = false;
override HAS_POSITION: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens xStride apart
@group(0) @binding(1) var<storage, read> x: array<f32>;
// (rotaryDim / 2), radians a token
@group(0) @binding(2) var<storage, read> inverseFrequencies: array<f32>;
// (B), tokens before this call
@group(0) @binding(3) var<storage, read> position: array<u32>;
// (B, L, H, P)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (workgroup.y * grid.x + workgroup.x) * 256u + local;
  let groups = (HEADS + HEADS_EACH - 1u) / HEADS_EACH;
  let token = index / (groups * (HEAD_DIM / 2u));
  if (token >= params.tokens) { return; }
  let rest = index % (groups * (HEAD_DIM / 2u));
  let firstHead = rest / (HEAD_DIM / 2u) * HEADS_EACH;
  let e = rest % (HEAD_DIM / 2u) * 2u;
  let rotates = e < ROTARY_DIM;
  let turn0 = rotaryTurn(min(e, ROTARY_DIM - 1u), ROTARY_DIM, INTERLEAVED);
  let turn1 = rotaryTurn(min(e + 1u, ROTARY_DIM - 1u), ROTARY_DIM, INTERLEAVED);
  var angle0 = vec2<f32>(0.0, 1.0);
  var angle1 = angle0;
  if (rotates) {
    var at = token % params.length;
    if (HAS_POSITION) { at += position[token / params.length]; }
    angle0 = sinCos(f32(at) * inverseFrequencies[turn0.pair]);
    angle1 = sinCos(f32(at) * inverseFrequencies[turn1.pair]);
  }
  for (var n = 0u; n < HEADS_EACH; n++) {
    let head = firstHead + n;
    if (head >= HEADS) { break; }
    let start = params.xOffset + token * params.xStride + head * HEAD_DIM;
    var values = vec2<f32>(x[start + e], x[start + e + 1u]);
    if (rotates) {
      let partners = vec2<f32>(turn0.sign * x[start + turn0.partner], turn1.sign * x[start + turn1.partner]);
      values = values * vec2<f32>(angle0.y, angle1.y) + partners * vec2<f32>(angle0.x, angle1.x);
    }
    let written = (token * HEADS + head) * HEAD_DIM + e;
    y[written] = values.x;
    y[written + 1u] = values.y;
  }
}
