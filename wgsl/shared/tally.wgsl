// Tallies: how many logits and how much mass, as (count, low word, high word), and where a running tally reaches a goal.
import package::shared::random::multiplyWide;

fn addWide(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn lessWide(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }

// The share of a mass that top-p asks for, at least one unit: every goal is reached by something.
fn goalOf(mass: vec2<u32>, topP: f32) -> vec2<u32> {
  // Exact for a fraction of 2^-8 and more, which has no bits below 2^-32.
  let fraction = u32(topP * 0x1p32f);
  let low = multiplyWide(mass.x, fraction).x;
  let high = multiplyWide(mass.y, fraction);
  let goal = addWide(vec2<u32>(high.y, high.x), vec2<u32>(low, 0u));
  return select(goal, vec2<u32>(1u, 0u), goal.x == 0u && goal.y == 0u);
}

fn addTally(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> { return vec3<u32>(a.x + b.x, addWide(a.yz, b.yz)); }

// A goal is a mass, or a count in its first word.
fn reaches(tally: vec3<u32>, goal: vec2<u32>, byMass: bool) -> bool {
  if (byMass) { return !lessWide(tally.yz, goal); }
  return tally.x >= goal.x;
}

var<workgroup> runningTallies: array<vec3<u32>, 256>;

struct Prefix {
  before: vec3<u32>,
  total: vec3<u32>,
}

// The sums of the tallies of the invocations before this one, and of all. For every invocation of the workgroup, in
// uniform control flow, as openCrossing and foundCrossing.
fn tallyPrefix(tally: vec3<u32>, local: u32, size: u32) -> Prefix {
  runningTallies[local] = tally;
  workgroupBarrier();
  for (var reach = 1u; reach < size; reach *= 2u) {
    var sum = runningTallies[local];
    if (local >= reach) { sum = addTally(runningTallies[local - reach], sum); }
    workgroupBarrier();
    runningTallies[local] = sum;
    workgroupBarrier();
  }
  var prefix = Prefix(vec3<u32>(), runningTallies[size - 1u]);
  if (local > 0u) { prefix.before = runningTallies[local - 1u]; }
  workgroupBarrier();
  return prefix;
}

const NOWHERE: u32 = 0xffffffffu;

// Where a running tally reaches its goal: the place, the tally before it, and that of the place alone.
struct Crossing {
  place: u32,
  before: vec3<u32>,
  at: vec3<u32>,
}

var<workgroup> crossing: Crossing;

// Begins a search, whose crossing is at no place until one is claimed.
fn openCrossing(local: u32) {
  workgroupBarrier();
  if (local == 0u) { crossing = Crossing(NOWHERE, vec3<u32>(), vec3<u32>()); }
  workgroupBarrier();
}

// Takes a place if it is the one where the tally reaches the goal.
fn claimCrossing(place: u32, before: vec3<u32>, at: vec3<u32>, goal: vec2<u32>, byMass: bool) {
  if (!reaches(before, goal, byMass) && reaches(addTally(before, at), goal, byMass)) {
    crossing = Crossing(place, before, at);
  }
}

fn foundCrossing() -> Crossing {
  workgroupBarrier();
  return crossing;
}
