export { rmsNorm } from './norm/rms_norm.ts';
export type { RmsNormInputs, RmsNormOptions } from './norm/rms_norm.ts';
