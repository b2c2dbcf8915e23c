import type { DecodeStage } from './decoder.ts';

const RULES: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

/** The `clean_up_tokenization_spaces` of Hugging Face tokenizers, one rule after the other. */
export function cleanUp(text: string): string {
  return RULES.reduce((result, [search, content]) => result.replaceAll(search, content), text);
}

/** {@link cleanUp} of text that arrives in pieces: a word is held back until the next one begins. */
export function cleanUpStage(): DecodeStage {
  let held = '';
  return {
    push: (piece) => {
      held += piece;
      // Every rule begins with a space and only ever deletes spaces. So none reaches across the front of a space that
      // follows a character other than a space or an apostrophe (the rule " ' " is the only one with an inner space).
      const word = /^[^]*[^ '](?= )/.exec(held)?.[0] ?? '';
      held = held.slice(word.length);
      return word === '' ? [] : [cleanUp(word)];
    },
    flush: () => [cleanUp(held)],
  };
}
