import { ArgumentError } from '@mambalab/kernels';

/**
 * Which layers of a hybrid are Mamba (`M`), attention (`*`) and feed-forward (`-`): Megatron's allocation, by which the
 * hybrids of arXiv 2406.07887 were laid out. Attention is spread evenly between runs of Mamba layers; feed-forward
 * layers then replace Mamba layers evenly, the last ones first.
 *
 * `allocateHybridLayers(56, 0.08, 0.5)` is the paper's 8B hybrid, `allocateHybridLayers(48, 0.08, 0.5)` its small one.
 *
 * @param layers number of layers, at least 1
 * @param attentionRatio part of the layers that is attention, from 0 to 1
 * @param mlpRatio part of the layers that is feed-forward, from 0 to 1
 * @returns one letter a layer
 * @throws ArgumentError if an argument is outside its range, or attention and feed-forward need more layers than there
 *   are
 */
export function allocateHybridLayers(layers: number, attentionRatio: number, mlpRatio: number): string {
  if (!Number.isInteger(layers) || layers < 1) {
    throw new ArgumentError(`'layers' is ${layers}.`, 'Give a whole number of layers, at least 1.');
  }
  for (const [name, ratio] of Object.entries({ attentionRatio, mlpRatio })) {
    if (!(ratio >= 0 && ratio <= 1)) throw new ArgumentError(`'${name}' is ${ratio}.`, 'Give a part from 0 to 1.');
  }
  const attentionLayers = roundHalfToEven(layers * attentionRatio);
  const mlpLayers = roundHalfToEven(layers * mlpRatio);
  if (attentionRatio + mlpRatio > 1 || attentionLayers + mlpLayers > layers) {
    throw new ArgumentError(
      `'attentionRatio' ${attentionRatio} and 'mlpRatio' ${mlpRatio} ask for ${attentionLayers} + ${mlpLayers} layers ` +
        `of ${layers}.`,
      'Give ratios that leave room for each other.',
    );
  }
  const letters = Array.from({ length: layers }, () => 'M');
  spread(letters, '*', (layers - attentionLayers) / (attentionLayers + 1));
  if (mlpLayers > 0) spread(letters, '-', (layers - attentionLayers - mlpLayers) / mlpLayers);
  return letters.join('');
}

/** Puts a letter in the place of a Mamba layer wherever `run` of them, on average, have gone by. */
function spread(letters: string[], letter: string, run: number): void {
  let left = run;
  letters.forEach((other, index) => {
    if (other !== 'M') return;
    if (left < 0.5) {
      letters[index] = letter;
      left += run;
    } else {
      left -= 1;
    }
  });
}

/** Python's `round`: halves go to the even neighbour. */
function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
