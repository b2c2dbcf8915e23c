// order = all pairs m * k + s, sorted by indices[m, s] and then by themselves; offsets[e] = pairs of experts before e
// Source: counting sort (Knuth, The Art of Computer Programming 3, algorithm 5.2D).
// Work: one workgroup an expert, which looks at all pairs twice: it counts its own and those of experts before it, then
//   places its own. Invocations have runs of neighbouring pairs, so that no atomics are needed and the order is stable.
// Workgroup memory: 8 WORKGROUP_SIZE bytes. Barriers: around the steps of the sums over invocations.
// Requirements: none.

struct Params {
  pairs: u32,
  experts: u32,
}

override WORKGROUP_SIZE: u32 = 128u;

@group(0) @binding(0) var<uniform> params: Params;
// (M, k), its last vector filled up with anything
@group(0) @binding(1) var<storage, read> indices: array<vec4<u32>>;
// (M, k)
@group(0) @binding(2) var<storage, read_write> order: array<u32>;
// (experts + 1)
@group(0) @binding(3) var<storage, read_write> offsets: array<u32>;

// Pairs of this expert and of those before it, over all invocations up to one.
var<workgroup> sums: array<vec2<u32>, WORKGROUP_SIZE>;

fn countOf(flags: vec4<bool>) -> u32 {
  let ones = select(vec4<u32>(0u), vec4<u32>(1u), flags);
  return ones.x + ones.y + ones.z + ones.w;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let expert = workgroup.x;
  let quads = (params.pairs + 3u) / 4u;
  let run = (quads + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  var counts = vec2<u32>(0u);
  for (var i = 0u; i < run; i++) {
    let quad = local * run + i;
    if (quad < quads) {
      let values = indices[quad];
      let inside = quad * 4u + lanes < vec4<u32>(params.pairs);
      counts += vec2<u32>(countOf(inside & (values == vec4<u32>(expert))), countOf(inside & (values < vec4<u32>(expert))));
    }
  }
  sums[local] = counts;
  workgroupBarrier();
  for (var distance = 1u; distance < WORKGROUP_SIZE; distance <<= 1u) {
    var before = vec2<u32>(0u);
    if (local >= distance) { before = sums[local - distance]; }
    workgroupBarrier();
    sums[local] += before;
    workgroupBarrier();
  }
  let first = sums[WORKGROUP_SIZE - 1u].y;
  var place = first + sums[local].x - counts.x;
  for (var i = 0u; i < run; i++) {
    let quad = local * run + i;
    if (quad < quads) {
      let values = indices[quad];
      for (var lane = 0u; lane < 4u; lane++) {
        let pair = quad * 4u + lane;
        if (pair < params.pairs && values[lane] == expert) {
          order[place] = pair;
          place += 1u;
        }
      }
    }
  }
  if (local == 0u) {
    offsets[expert] = first;
    let all = sums[WORKGROUP_SIZE - 1u];
    if (expert == params.experts - 1u) { offsets[params.experts] = all.x + all.y; }
  }
}
