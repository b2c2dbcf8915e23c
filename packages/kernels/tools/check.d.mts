/** Compiles shaders without a GPU. Close it when done. */
export interface ShaderChecker {
  /** @throws Error with the compiler's messages if the text is wrong or needs more than `requires` */
  check(label: string, code: string, requires: readonly string[]): Promise<void>;
  close(): void;
}

export function openChecker(): Promise<ShaderChecker>;
