import { mamba3Scan, type Mamba3Inputs, type Mamba3Options, type Mamba3Result } from './mamba3_scan.ts';

/** As `Mamba3Options`, for one token. */
export type Mamba3StepOptions = Omit<Mamba3Options, 'length'>;

/** One token of `mamba3Scan`: the same shapes without L. Source: `mamba3_siso_step` of state-spaces/mamba. */
export function mamba3Step(inputs: Mamba3Inputs, options: Mamba3StepOptions): Mamba3Result {
  return mamba3Scan(inputs, { ...options, length: 1 });
}
