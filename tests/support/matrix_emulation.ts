import type { Capabilities, Device } from '@mambalab/kernels';

// Matrix units in software, so that shaders that use them run in the suite on a device without any. A result is split
// among the 32 invocations of a subgroup, eight values each; of a left operand each has the row that it needs. A right
// operand is only a note of where its values lie, read when it is multiplied: a shader must not write there in between,
// which ours never do.

/** Values of a 16 x 16 result that an invocation holds: half a row. */
const HELD = 8;

/** Words of an element of the arrays that matrices are loaded from and stored to, by its WGSL type. */
const WORDS: Readonly<Record<string, number>> = { 'vec4<u32>': 4, 'vec2<u32>': 2, u32: 1, 'vec4<f32>': 4, f32: 1 };

interface Memory {
  readonly name: string;
  /** The word number `w` of the array, in WGSL. */
  readonly word: string;
  readonly words: number;
  readonly float: boolean;
}

function memoryOf(code: string, name: string): Memory {
  const type = new RegExp(`var<[^>]*>\\s*${name}\\s*:\\s*array<((?:vec\\d<)?\\w+>?)`).exec(code)?.[1] ?? '';
  const words = WORDS[type];
  if (words === undefined) throw new Error(`matrices in '${name}', an array of '${type}', are not emulated`);
  return {
    name,
    words,
    word: words === 1 ? `${name}[w]` : `${name}[w / ${words}u][w % ${words}u]`,
    float: type.includes('f32'),
  };
}

const LOAD = /subgroupMatrixLoad<subgroup_matrix_(left|right)<f16, 16, 16>, (row|col)_major>\(&(\w+), /g;
const RESULT = /subgroupMatrixLoad<subgroup_matrix_result<f32, 16, 16>, row_major>\(&(\w+), /g;
const STORE = /subgroupMatrixStore<row_major>\(&(\w+), /g;

/** The text with plain arithmetic in place of matrix units. Operands are f16, results f32, all 16 x 16. */
export function emulateMatrixUnits(code: string): string {
  if (!code.includes('subgroupMatrix')) return code;
  const memories = (pattern: RegExp, group: number): Memory[] =>
    [...new Set([...code.matchAll(pattern)].map((match) => match[group] ?? ''))].map((name) => memoryOf(code, name));
  const loaded = memories(LOAD, 3);
  const reads = loaded.map(
    ({ word, float }, id) => `case ${id}u: { word = ${float ? `bitcast<u32>(${word})` : word}; }`,
  );
  const loads = loaded.flatMap(({ name, words }, id) => {
    const offset = `${id}u, offset * ${2 * words}u`;
    const stride = `stride * ${2 * words}u`;
    return [
      `fn right_row_${name}(offset: u32, stride: u32) -> vec4<u32> { return vec4<u32>(${offset}, ${stride}, 1u); }`,
      `fn right_col_${name}(offset: u32, stride: u32) -> vec4<u32> { return vec4<u32>(${offset}, 1u, ${stride}); }`,
      `fn left_row_${name}(offset: u32, stride: u32) -> array<f32, 16> { return rowOf(vec4<u32>(${offset}, ${stride}, 1u)); }`,
      `fn left_col_${name}(offset: u32, stride: u32) -> array<f32, 16> { return rowOf(vec4<u32>(${offset}, 1u, ${stride})); }`,
    ];
  });
  const place = (words: number): string =>
    `let w = (offset + laneOfUnit / 2u * stride) * ${words}u + laneOfUnit % 2u * ${HELD}u + i;`;
  const stores = memories(STORE, 1).map(
    ({ name, word, words, float }) => `fn store_${name}(offset: u32, m: array<f32, ${HELD}>, stride: u32) {
  for (var i = 0u; i < ${HELD}u; i++) {
    ${place(words)}
    ${word} = ${float ? 'm[i]' : 'bitcast<u32>(m[i])'};
  }
}`,
  );
  const results = memories(RESULT, 1).map(
    ({ name, word, words, float }) => `fn result_${name}(offset: u32, stride: u32) -> array<f32, ${HELD}> {
  var m: array<f32, ${HELD}>;
  for (var i = 0u; i < ${HELD}u; i++) {
    ${place(words)}
    m[i] = ${float ? word : `bitcast<f32>(${word})`};
  }
  return m;
}`,
  );
  // Half `place.y + row * place.z + column * place.w` of memory number `place.x`.
  const products = `var<private> laneOfUnit: u32;
fn operandAt(place: vec4<u32>, row: u32, column: u32) -> f32 {
  let half_ = place.y + row * place.z + column * place.w;
  let w = half_ / 2u;
  var word = 0u;
  switch (place.x) { ${reads.join(' ')} default: { } }
  return unpack2x16float(word)[half_ % 2u];
}
fn rowOf(place: vec4<u32>) -> array<f32, 16> {
  var row: array<f32, 16>;
  for (var k = 0u; k < 16u; k++) { row[k] = operandAt(place, laneOfUnit / 2u, k); }
  return row;
}
fn productOf(a: array<f32, 16>, b: vec4<u32>, c: array<f32, ${HELD}>) -> array<f32, ${HELD}> {
  var sums = c;
  for (var k = 0u; k < 16u; k++) {
    for (var i = 0u; i < ${HELD}u; i++) { sums[i] += a[k] * operandAt(b, k, laneOfUnit % 2u * ${HELD}u + i); }
  }
  return sums;
}
fn scaledResult(m: array<f32, ${HELD}>, factor: f32) -> array<f32, ${HELD}> {
  var scaled = m;
  for (var i = 0u; i < ${HELD}u; i++) { scaled[i] *= factor; }
  return scaled;
}`;
  const text = code
    .replace(/^enable (?:f16|chromium_experimental_subgroup_matrix);\n/gm, '')
    .replace(/^diagnostic\(off, ?chromium\.subgroup_matrix_uniformity\);\n/gm, '')
    .replace(LOAD, '$1_$2_$3(')
    .replace(RESULT, 'result_$1(')
    .replace(STORE, 'store_$1(')
    .replace(/subgroupMatrixMultiplyAccumulate\(/g, 'productOf(')
    .replace(/subgroupMatrixScalarMultiply\(/g, 'scaledResult(')
    .replace(/subgroup_matrix_left<f16, 16, 16>/g, 'array<f32, 16>')
    .replace(/subgroup_matrix_right<f16, 16, 16>/g, 'vec4<u32>')
    .replace(/subgroup_matrix_result<f32, 16, 16>/g, `array<f32, ${HELD}>`)
    .replace(/(@compute[^{]*\blocal: u32[^{]*\{)/, '$1\n laneOfUnit = local % 32u;');
  const left = /subgroup_?[mM]atrix\w*/.exec(text)?.[0];
  if (left !== undefined) throw new Error(`${left} is not emulated`);
  return `${text}\n${products}\n${[...loads, ...stores, ...results].join('\n')}\n`;
}

/**
 * A device that now says that it has matrix units, and emulates them. It also says that it has the given bytes of
 * workgroup memory, as devices with units do; shapes that really need more than it has fail.
 */
export function withMatrixUnits(device: Device, workgroupMemory: number): Device {
  const { capabilities } = device;
  const emulated: Capabilities = {
    ...capabilities,
    features: new Set([...capabilities.features, 'shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix']),
    subgroupSize: { min: 32, max: 32 },
    subgroupMatrix: [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }],
    limits: { ...capabilities.limits, maxComputeWorkgroupStorageSize: workgroupMemory },
  };
  const { gpu } = device;
  const createShaderModule = gpu.createShaderModule.bind(gpu);
  gpu.createShaderModule = (descriptor) =>
    createShaderModule({ ...descriptor, code: emulateMatrixUnits(descriptor.code) });
  Object.defineProperty(device, 'capabilities', { value: emulated });
  return device;
}
