/** Storage types of matrices. */
export const STORAGES = ['f32', 'f16', 'bf16', 'q8', 'q4'] as const;

export type Storage = (typeof STORAGES)[number];
