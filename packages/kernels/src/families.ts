export { rmsNorm } from './norm/rms_norm.ts';
export type { RmsNormInputs, RmsNormOptions } from './norm/rms_norm.ts';
export { ceilingCopy, COPY_TILE } from './ceiling/copy.ts';
export type { CeilingCopyInputs } from './ceiling/copy.ts';
export { ceilingFma, FMA_FLOPS } from './ceiling/fma.ts';
export type { CeilingFmaInputs, CeilingFmaOptions } from './ceiling/fma.ts';
export { ceilingRead, READ_TILE } from './ceiling/read.ts';
export type { CeilingReadInputs } from './ceiling/read.ts';
