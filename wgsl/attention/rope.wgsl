// y[b, l, h] = x[b, l, h] with its pairs turned by (position[b] + l) f[pair] and scaled; values from rotaryDim on are copied
// Source: RoFormer, arXiv 2104.09864, equation 34; apply_rotary_pos_emb with rotate_half, or GPT-J's interleaved form.
// Work: one invocation the same 4 pairs (or 1) of HEADS_EACH heads of one token, which share their angles.
// Workgroup memory: none.
// Barriers: none.
// Requirements: none; the vector form needs rotaryDim in multiples of 8, P, offset and stride in multiples of 4.
//! axis access: vector | scalar
import package::shared::trigonometry::sinCos;

// Offset and stride count Elements: four values for vector access.
struct Params {
  tokens: u32,
  length: u32,
  xOffset: u32,
  xStride: u32,
  scale: f32,
}

override WORKGROUP_SIZE: u32 = 256u;
override HEADS: u32 = 8u;
// Elements of a head, and those of them that rotate.
override HEAD_WIDTH: u32 = 16u;
override ROTARY_WIDTH: u32 = 16u;
// 1, 2 or 4
override HEADS_EACH: u32 = 4u;
override INTERLEAVED: bool = false;
override HAS_POSITION: bool = true;

@if(access_vector) alias Element = vec4<f32>;
@else alias Element = f32;

@group(0) @binding(0) var<uniform> params: Params;
// (B, L, H, P), tokens xStride apart
@group(0) @binding(1) var<storage, read> x: array<Element>;
// (rotaryDim / 2), radians a token
@group(0) @binding(2) var<storage, read> inverseFrequencies: array<Element>;
// (B), tokens before this call
@group(0) @binding(3) var<storage, read> position: array<u32>;
// (B, L, H, P)
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

// Two elements of a head: the first and second values of pairs, or values that do not rotate.
struct Both {
  a: Element,
  b: Element,
}

// The elements that an invocation has in a head; the last of those that do not rotate may be alone.
struct Place {
  a: u32,
  b: u32,
  alone: bool,
}

@if(access_vector)
fn sinesOf(angles: Element) -> Both {
  var sines = Element();
  var cosines = Element();
  for (var i = 0u; i < 4u; i++) {
    let turn = sinCos(angles[i]);
    sines[i] = turn.x;
    cosines[i] = turn.y;
  }
  return Both(sines, cosines);
}
@else
fn sinesOf(angle: Element) -> Both {
  let turn = sinCos(angle);
  return Both(turn.x, turn.y);
}

// Neighbouring pairs as first and second values, and back.
@if(access_vector) fn split(v: Both) -> Both { return Both(vec4(v.a.xz, v.b.xz), vec4(v.a.yw, v.b.yw)); }
@else fn split(v: Both) -> Both { return v; }
@if(access_vector) fn join(v: Both) -> Both { return Both(vec4(v.a.x, v.b.x, v.a.y, v.b.y), vec4(v.a.z, v.b.z, v.a.w, v.b.w)); }
@else fn join(v: Both) -> Both { return v; }

fn load(token: u32, head: u32, place: Place) -> Both {
  if (head >= HEADS) { return Both(); }
  let start = params.xOffset + token * params.xStride + head * HEAD_WIDTH;
  return Both(x[start + place.a], x[start + place.b]);
}

fn store(token: u32, head: u32, place: Place, rotates: bool, values: Both, turn: Both) {
  if (head >= HEADS) { return; }
  var written = values;
  if (rotates) {
    var pairs = values;
    if (INTERLEAVED) { pairs = split(values); }
    pairs = Both(pairs.a * turn.b - pairs.b * turn.a, pairs.b * turn.b + pairs.a * turn.a);
    written = pairs;
    if (INTERLEAVED) { written = join(pairs); }
  }
  let start = (token * HEADS + head) * HEAD_WIDTH;
  y[start + place.a] = written.a;
  if (!place.alone) { y[start + place.b] = written.b; }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let index = (workgroup.y * grid.x + workgroup.x) * WORKGROUP_SIZE + local;
  let units = (HEAD_WIDTH + 1u) / 2u;
  let groups = (HEADS + HEADS_EACH - 1u) / HEADS_EACH;
  let token = index / (groups * units);
  if (token >= params.tokens) { return; }
  let head = index / units % groups * HEADS_EACH;
  let unit = index % units;
  let rotates = unit < ROTARY_WIDTH / 2u;
  var place = Place(unit, unit + ROTARY_WIDTH / 2u, false);
  if (INTERLEAVED || !rotates) {
    let last = HEAD_WIDTH - 1u;
    place = Place(2u * unit, min(2u * unit + 1u, last), 2u * unit == last);
  }
  // Loaded together, to be in flight together while the angles are made.
  let first = load(token, head, place);
  var second = Both();
  var third = Both();
  var fourth = Both();
  if (HEADS_EACH > 1u) { second = load(token, head + 1u, place); }
  if (HEADS_EACH > 2u) {
    third = load(token, head + 2u, place);
    fourth = load(token, head + 3u, place);
  }
  var turn = Both();
  if (rotates) {
    var at = token % params.length;
    if (HAS_POSITION) { at += position[token / params.length]; }
    turn = sinesOf(f32(at) * inverseFrequencies[unit]);
    turn = Both(turn.a * params.scale, turn.b * params.scale);
  }
  store(token, head, place, rotates, first, turn);
  if (HEADS_EACH > 1u) { store(token, head + 1u, place, rotates, second, turn); }
  if (HEADS_EACH > 2u) {
    store(token, head + 2u, place, rotates, third, turn);
    store(token, head + 3u, place, rotates, fourth, turn);
  }
}
