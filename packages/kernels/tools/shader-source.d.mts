export interface ShaderSource {
  readonly path: string;
  readonly name: string;
  readonly text: string;
}

export interface ShaderAxis {
  readonly axis: string;
  readonly choices: readonly { readonly choice: string; readonly requires: readonly string[] }[];
}

export function readShaders(root: string): ShaderSource[];
export function isShared(name: string): boolean;
export function parseDirectives(
  name: string,
  text: string,
): {
  axes: ShaderAxis[];
  constants: string[];
  requires: string[];
  unroll: string[];
};
export function isFeature(need: string): boolean;
export function allVariants(axes: readonly ShaderAxis[]): Record<string, string>[];
export function conditionsOf(
  axes: readonly ShaderAxis[],
  variant: Readonly<Record<string, string>>,
): Record<string, boolean>;
