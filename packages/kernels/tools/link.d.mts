import type { ShaderAxis, ShaderSource } from './shader-source.mjs';

export interface ShaderInterface {
  readonly bindings: readonly {
    readonly name: string;
    readonly index: number;
    readonly access: string;
    readonly scalar: string;
  }[];
  readonly paramsBinding: number | undefined;
  readonly paramsSize: number;
  readonly params: Readonly<Record<string, { readonly type: string; readonly offset: number }>>;
  readonly overrides: Readonly<
    Record<string, { readonly type: string; readonly default: number | boolean | undefined }>
  >;
}

/** @throws Error if an import, a condition or a name does not resolve */
export function linkVariant(
  shader: ShaderSource,
  sources: Readonly<Record<string, string>>,
  axes: readonly ShaderAxis[],
  variant: Readonly<Record<string, string>>,
): Promise<string>;

/** @throws Error that names the shader if its interface is not one that host code can be written for */
export function reflect(name: string, code: string): ShaderInterface;
