import type { Capabilities } from './capabilities.ts';
import { hasRequirement } from './capabilities.ts';
import { ArgumentError } from './errors.ts';
import { unrollLoops } from './unroll.ts';

/** WGSL types that a field of `Params` may have. */
export type ParamType = 'u32' | 'i32' | 'f32';

/** One storage binding of a shader. */
export interface ShaderBinding<Name extends string = string> {
  readonly name: Name;
  readonly index: number;
  readonly access: 'read' | 'read_write';
  /** Scalar type of the elements in each variant, in the order of `Shader.variants`. */
  readonly scalars: readonly string[];
}

/** One linked text of a shader. */
export interface ShaderVariant {
  /** Choice on every axis. */
  readonly choices: Readonly<Record<string, string>>;
  readonly code: string;
}

/** One choice on an axis, with the device requirements it brings. */
export interface AxisChoice<Choice extends string = string> {
  readonly choice: Choice;
  /** As {@link hasRequirement} reads them. */
  readonly requires: readonly string[];
}

/**
 * What the build step derives from one `.wgsl` file: everything that host code may know of it.
 *
 * The type parameters make a wrong or missing binding, parameter, override, constant or choice a type error.
 */
export interface Shader<
  Bindings extends string = string,
  Params extends string = string,
  Overrides extends string = string,
  Constants extends string = string,
  Axes extends Readonly<Record<string, string>> = Readonly<Record<string, string>>,
> {
  /** Path below `wgsl/` without its ending, such as `ssm/ssd_step`. */
  readonly name: string;
  readonly bindings: readonly ShaderBinding<Bindings>[];
  readonly paramsBinding: number | undefined;
  readonly paramsSize: number;
  readonly params: Readonly<Record<Params, { readonly type: ParamType; readonly offset: number }>>;
  readonly overrides: Readonly<
    Record<Overrides, { readonly type: string; readonly default: number | boolean | undefined }>
  >;
  /** Link-time constants: declarations whose value is set when the pipeline is made (array sizes need this). */
  readonly constants: Readonly<Record<Constants, { readonly declaration: string; readonly type: string }>>;
  /** Variables of loops, up to a constant of the text, that are written out on hardware. */
  readonly unroll?: readonly string[];
  /** What the device must have for any variant. */
  readonly requires: readonly string[];
  /** Axes of variation; on each, choices stand best first and the last needs nothing. */
  readonly axes: { readonly [A in keyof Axes]: readonly AxisChoice<Axes[A]>[] };
  readonly variants: readonly ShaderVariant[];
}

/** The axes of a shader as choices that a caller fixes; the others are chosen by capabilities. */
export type FixedChoices<S> = S extends Shader<string, string, string, string, infer Axes> ? Partial<Axes> : never;

/** Choices that override the automatic ones wherever a shader has that axis, such as `{ simd: 'baseline' }`. */
export type ForcedChoices = Readonly<Record<string, string>>;

/**
 * The choice on every axis of a shader: what the caller fixed, else what is forced, else the first that the device
 * can run.
 *
 * @throws ArgumentError if the shader, or a fixed or forced choice, needs what the device lacks, or does not exist.
 */
export function chooseVariant(
  shader: Shader,
  capabilities: Capabilities,
  fixed: Readonly<Record<string, string | undefined>>,
  forced: ForcedChoices,
): { readonly index: number; readonly choices: Readonly<Record<string, string>> } {
  const lacking = shader.requires.filter((need) => !hasRequirement(capabilities, need));
  if (lacking.length > 0) {
    throw new ArgumentError(
      `${shader.name} needs ${lacking.join(', ')}, which this device lacks.`,
      'Leave the choice to the library, or use a device that has it.',
    );
  }
  const choices: Record<string, string> = {};
  for (const [axis, options] of Object.entries(shader.axes)) {
    const wanted = fixed[axis] ?? forced[axis];
    const usable = options.filter((option) => option.requires.every((need) => hasRequirement(capabilities, need)));
    // A forced axis is a preference over many shaders: one that does not know the choice keeps its own.
    const known = wanted !== undefined && options.some((option) => option.choice === wanted);
    if (wanted !== undefined && !known && fixed[axis] !== undefined) {
      throw new ArgumentError(
        `${shader.name} has no choice '${wanted}' on its axis '${axis}'.`,
        `Use one of: ${options.map((option) => option.choice).join(', ')}.`,
      );
    }
    const chosen = known ? usable.find((option) => option.choice === wanted) : usable[0];
    if (chosen === undefined) {
      const needs = options.find((option) => option.choice === wanted)?.requires ?? [];
      throw new ArgumentError(
        `${shader.name}: the choice '${wanted ?? axis}' needs ${needs.join(', ')}, which this device lacks.`,
        'Leave the choice to the library, or use a device that has it.',
      );
    }
    choices[axis] = chosen.choice;
  }
  const index = shader.variants.findIndex((variant) =>
    Object.entries(choices).every(([axis, choice]) => variant.choices[axis] === choice),
  );
  if (index < 0) {
    throw new ArgumentError(`${shader.name} has no variant ${JSON.stringify(choices)}.`, 'Rebuild the shader modules.');
  }
  return { index, choices };
}

/**
 * The text of a variant with its link-time constants set.
 *
 * @param unrolled whether to write out the loops that the shader wants so: better on hardware, slow to compile for a CPU
 */
export function specialize(
  shader: Shader,
  variant: number,
  constants: Readonly<Record<string, number>>,
  unrolled: boolean = false,
): string {
  let code = shader.variants[variant]?.code ?? '';
  for (const [name, value] of Object.entries(constants)) {
    const constant = shader.constants[name];
    if (constant === undefined) {
      throw new ArgumentError(`${shader.name} has no constant '${name}'.`, 'Declare it in the shader.');
    }
    const suffix = constant.type === 'f32' ? 'f' : constant.type === 'u32' ? 'u' : '';
    code = code.replace(constant.declaration, `const ${name}: ${constant.type} = ${value}${suffix};`);
  }
  return unrolled && shader.unroll !== undefined ? unrollLoops(code, shader.unroll) : code;
}
