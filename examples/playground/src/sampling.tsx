import type { GenerateOptions } from '@mambalab/models';
import type { VNode } from 'preact';

export interface SamplingFields {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** Empty is random. */
  readonly seed: string;
}

export const DEFAULT_SAMPLING: SamplingFields = { maxTokens: 128, temperature: 0.7, topP: 1, seed: '' };

export function optionsOf({ maxTokens, temperature, topP, seed }: SamplingFields): GenerateOptions {
  return { maxTokens, temperature, topP, ...(seed !== '' && { seed: Number(seed) }) };
}

interface SamplingInputsProps {
  readonly fields: SamplingFields;
  readonly onChange: (fields: SamplingFields) => void;
}

export function SamplingInputs({ fields, onChange }: SamplingInputsProps): VNode {
  const number =
    (name: 'maxTokens' | 'temperature' | 'topP') =>
    ({ currentTarget }: { readonly currentTarget: HTMLInputElement }): void =>
      onChange({ ...fields, [name]: currentTarget.valueAsNumber });
  return (
    <div class="options">
      <label>
        Tokens
        <input type="number" min="1" step="1" required value={fields.maxTokens} onInput={number('maxTokens')} />
      </label>
      <label>
        Temperature
        <input type="number" min="0" step="any" required value={fields.temperature} onInput={number('temperature')} />
      </label>
      <label>
        Top p
        <input type="number" min="0" max="1" step="any" required value={fields.topP} onInput={number('topP')} />
      </label>
      <label>
        Seed
        <input
          type="number"
          min="0"
          step="1"
          placeholder="random"
          value={fields.seed}
          onInput={({ currentTarget }) => onChange({ ...fields, seed: currentTarget.value })}
        />
      </label>
    </div>
  );
}
