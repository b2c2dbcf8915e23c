// Which expert's tile a workgroup works on, where pairs (token, slot) are sorted by expert. Tiles are numbered so that
// offsets alone tell: those of expert e begin at floor(offsets[e] / size) + e, which leaves as many as it needs.
// Workgroup memory: 16 bytes.

// Expert, first of its pairs in the order, number of pairs.
var<workgroup> tileFound: vec3<u32>;

// Every invocation calls it once, before the offers.
fn beginSearch(local: u32) {
  if (local == 0u) { tileFound = vec3<u32>(0u); }
  workgroupBarrier();
}

// Takes tile `number`, of up to `size` pairs, if it belongs to this expert, whose pairs are begin .. end - 1.
fn offerTile(number: u32, size: u32, expert: u32, begin: u32, end: u32) {
  let first = begin / size + expert;
  if (number < first) { return; }
  let start = begin + (number - first) * size;
  if (start < end) { tileFound = vec3<u32>(expert, start, min(size, end - start)); }
}

// What was found, the same for every invocation; no pairs if nobody's tile has this number.
fn endSearch() -> vec3<u32> { return workgroupUniformLoad(&tileFound); }
