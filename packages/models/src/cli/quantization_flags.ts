import { InvalidArgumentError, Option } from 'commander';
import type { Quantization, TensorStorage } from '../surface.ts';

/** Flags of commands that quantize. */
export interface QuantizationFlags {
  /** How scales of q4 are found. */
  readonly method?: 'round' | 'search';
  /** As in `quantization.tensors`. */
  readonly tensor?: Readonly<Record<string, TensorStorage>>;
}

/** The options for {@link QuantizationFlags}. */
export const quantizationOptions = (): readonly Option[] => [
  new Option('--method <method>', 'how scales of q4 are found').choices(['round', 'search']),
  new Option(
    '--tensor <pattern=storage>',
    "a tensor's name or role (head, embedding, ...; * for any characters) and exact, q8 or q4; may be repeated",
  ).argParser(tensorRule),
];

export function quantizationOf({ method, tensor }: QuantizationFlags): { readonly quantization?: Quantization } {
  if (method === undefined && tensor === undefined) return {};
  return {
    quantization: { ...(method !== undefined && { method }), ...(tensor !== undefined && { tensors: tensor }) },
  };
}

function tensorRule(
  text: string,
  before: Readonly<Record<string, TensorStorage>> | undefined,
): Readonly<Record<string, TensorStorage>> {
  const [, pattern, storage] = /^(.+)=(exact|q8|q4)$/.exec(text) ?? [];
  if (pattern === undefined)
    throw new InvalidArgumentError('Give a pattern and what it is stored as, such as head=q8.');
  return { ...before, [pattern]: storage as TensorStorage };
}
