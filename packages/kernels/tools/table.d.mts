/** The text of docs/kernels/variants.md, from the shaders and host halves as they are. */
export function variantsTable(): string;
