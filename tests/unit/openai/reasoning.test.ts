import { describe, expect, it } from 'vitest';
import { ReasoningSplitter } from '../../../packages/models/src/openai/reasoning.ts';

/** Both parts of a text that comes in pieces. */
function split(pieces: readonly string[], isOpen: boolean): { reasoning: string; text: string } {
  const splitter = new ReasoningSplitter(isOpen);
  const parts = [...pieces.map((piece) => splitter.push(piece)), splitter.flush()];
  return {
    reasoning: parts.map(({ reasoning }) => reasoning).join(''),
    text: parts.map(({ text }) => text).join(''),
  };
}

describe('thoughts', () => {
  it.each([
    ['<think>\nA cat? < 3.\n</think>\n\nYes <b>.', false, 'A cat? < 3.', 'Yes <b>.'],
    [' \n<think>deep</think>no', false, 'deep', 'no'],
    ['deep\n</think> no ', true, 'deep', 'no '],
    ['no thought <think>at all</think>', false, '', 'no thought <think>at all</think>'],
    ['<thin', false, '', '<thin'],
    ['<think>cut  \n', false, 'cut', ''],
    ['<think></think>\n\n', false, '', ''],
    ['', false, '', ''],
  ])('are taken out of %j', (whole, isOpen, reasoning, text) => {
    for (let size = 1; size <= whole.length + 1; size++) {
      const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, at) =>
        whole.slice(at * size, (at + 1) * size),
      );
      expect([size, split(pieces, isOpen)]).toEqual([size, { reasoning, text }]);
    }
  });

  it('are handed out as they come', () => {
    const splitter = new ReasoningSplitter(false);
    const parts = ['<think>', 'one ', 'two', '</thi', 'nk>', 'three'].map((piece) => splitter.push(piece));
    expect(parts.map(({ reasoning, text }) => `${reasoning}|${text}`)).toEqual([
      '|',
      'one|',
      ' two|',
      '|',
      '|',
      '|three',
    ]);
  });
});
