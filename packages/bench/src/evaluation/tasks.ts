import { ArgumentError } from '@mambalab/kernels';
import type { Document } from './documents.ts';

/** The right one among continuations of one prompt. */
export interface ChoiceTask {
  readonly kind: 'choice';
  readonly describe?: (document: Document) => string;
  readonly prompt: (document: Document) => string;
  readonly choices: (document: Document) => readonly string[];
  readonly gold: (document: Document) => number;
  readonly metrics: readonly ('acc' | 'acc_norm')[];
  /** Examples are the first ones of their file, not random ones. */
  readonly takesFirst?: boolean;
}

/** The prompt among several that makes one continuation the most probable. */
export interface PromptTask {
  readonly kind: 'prompt';
  readonly prompts: (document: Document) => readonly string[];
  readonly continuation: (document: Document) => string;
  readonly gold: (document: Document) => number;
}

/** What greedy decoding must write, and how probable it is. */
export interface ContinuationTask {
  readonly kind: 'continuation';
  readonly prompt: (document: Document) => string;
  /** With the space before it. */
  readonly target: (document: Document) => string;
}

/** Whole texts, from their beginning. */
export interface TextTask {
  readonly kind: 'text';
  readonly text: (document: Document) => string;
}

export type Task = (ChoiceTask | PromptTask | ContinuationTask | TextTask) & { readonly about: string };

const LETTERS = ['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J'];

/** By name. Texts are those of the lm-evaluation-harness, 0.4.13, so that numbers can be compared. */
export const TASKS: Readonly<Record<string, Task>> = {
  arc: {
    kind: 'choice',
    about: 'ARC, easy or challenge: question, choices { text, label }, answerKey',
    prompt: (document) => `Question: ${document.text('question')}\nAnswer:`,
    ...labelledChoices(),
  },
  blimp: {
    kind: 'choice',
    about: 'BLiMP: sentence_good, sentence_bad',
    prompt: () => '',
    choices: (document) => [document.text('sentence_good'), document.text('sentence_bad')],
    gold: () => 0,
    metrics: ['acc'],
  },
  hellaswag: {
    kind: 'choice',
    about: 'HellaSwag: activity_label, ctx_a, ctx_b, endings, label',
    prompt: (document) =>
      withoutMarks(
        `${document.text('activity_label')}: ${document.text('ctx_a')} ${capitalize(document.text('ctx_b'))}`,
      ),
    choices: (document) => document.texts('endings').map(withoutMarks),
    gold: (document) => document.gold('label', document.texts('endings').length),
    metrics: ['acc', 'acc_norm'],
  },
  lambada: {
    kind: 'continuation',
    about: 'LAMBADA, the last word of a passage: text',
    prompt: (document) => document.text('text').split(' ').slice(0, -1).join(' '),
    target: (document) => ` ${document.text('text').split(' ').at(-1) ?? ''}`,
  },
  mmlu: {
    kind: 'choice',
    about: 'MMLU, the letter of the answer: question, choices, answer, subject',
    describe: (document) => describeSubject('multiple choice questions (with answers)', document),
    prompt: letteredPrompt,
    choices: (document) => lettersOf(document),
    gold: mmluGold,
    metrics: ['acc'],
    takesFirst: true,
  },
  mmlu_text: {
    kind: 'choice',
    about: 'MMLU, the text of the answer, with all choices in the prompt',
    describe: (document) => describeSubject('multiple choice questions (with answers)', document),
    prompt: letteredPrompt,
    choices: (document) => document.texts('choices'),
    gold: mmluGold,
    metrics: ['acc', 'acc_norm'],
    takesFirst: true,
  },
  mmlu_cloze: {
    kind: 'choice',
    about: 'MMLU, the text of the answer, without choices in the prompt',
    describe: (document) => describeSubject('questions (with answers)', document),
    prompt: (document) => `Question: ${strip(document.text('question'))}\nAnswer:`,
    choices: (document) => document.texts('choices'),
    gold: mmluGold,
    metrics: ['acc', 'acc_norm'],
    takesFirst: true,
  },
  multiple_choice: {
    kind: 'choice',
    about: 'any: query, question, context or prompt; choices, endings or options; gold, label, answer or answerKey',
    prompt: (document) => document.text(fieldOf(document, ['query', 'question', 'context', 'prompt'])),
    choices: (document) => genericChoices(document).texts,
    gold: (document) => {
      const { texts, labels } = genericChoices(document);
      return document.gold(fieldOf(document, ['gold', 'label', 'answer', 'answerKey']), texts.length, labels);
    },
    metrics: ['acc', 'acc_norm'],
  },
  openbookqa: {
    kind: 'choice',
    about: 'OpenBookQA: question_stem, choices { text, label }, answerKey',
    prompt: (document) => document.text('question_stem'),
    ...labelledChoices(),
  },
  perplexity: {
    kind: 'text',
    about: 'perplexity of texts by byte and by word: text, or page',
    text: (document) => document.text(fieldOf(document, ['text', 'page'])),
  },
  piqa: {
    kind: 'choice',
    about: 'PIQA: goal, sol1, sol2, label',
    prompt: (document) => `Question: ${document.text('goal')}\nAnswer:`,
    choices: (document) => [document.text('sol1'), document.text('sol2')],
    gold: (document) => document.gold('label', 2),
    metrics: ['acc', 'acc_norm'],
  },
  winogrande: {
    kind: 'prompt',
    about: 'WinoGrande: sentence with _, option1, option2, answer',
    prompts: (document) => {
      const [before] = atBlank(document);
      return [before + document.text('option1'), before + document.text('option2')];
    },
    continuation: (document) => strip(atBlank(document)[1]),
    gold: (document) => document.gold('answer', 2, ['1', '2']),
  },
};

/** @throws ArgumentError for a task that there is not, with the name that was likely meant */
export function taskNamed(name: string, names: readonly string[] = Object.keys(TASKS)): string {
  if (names.includes(name)) return name;
  const [nearest] = names
    .map((known) => ({ known, distance: editDistance(name, known) }))
    .toSorted((a, b) => a.distance - b.distance);
  const isNear = nearest !== undefined && nearest.distance <= Math.max(2, name.length / 3);
  throw new ArgumentError(
    `There is no task '${name}'.`,
    isNear ? `Did you mean '${nearest.known}'? There are ${names.join(', ')}.` : `There are ${names.join(', ')}.`,
  );
}

function labelledChoices(): Pick<ChoiceTask, 'choices' | 'gold' | 'metrics'> {
  return {
    choices: (document) => document.labelled('choices').texts,
    gold: (document) => {
      const { texts, labels } = document.labelled('choices');
      return document.gold('answerKey', texts.length, labels);
    },
    metrics: ['acc', 'acc_norm'],
  };
}

function genericChoices(document: Document): {
  readonly texts: readonly string[];
  readonly labels: readonly string[] | undefined;
} {
  const name = fieldOf(document, ['choices', 'endings', 'options']);
  if (!Array.isArray(document.fields[name])) return document.labelled(name);
  const texts = document.texts(name);
  const gold = document.fields[fieldOf(document, ['gold', 'label', 'answer', 'answerKey'])];
  const isLetter = typeof gold === 'string' && LETTERS.includes(gold.trim());
  return { texts, labels: isLetter ? LETTERS.slice(0, texts.length) : undefined };
}

/** The first of these fields that a document has. */
function fieldOf(document: Document, names: readonly string[]): string {
  return (
    names.find((name) => document.has(name)) ??
    document.refuse(names[0] ?? '', `there, or ${names.slice(1).join(' or ')}`)
  );
}

function lettersOf(document: Document): readonly string[] {
  const { length } = document.texts('choices');
  return length <= LETTERS.length
    ? LETTERS.slice(0, length)
    : document.refuse('choices', `no more than ${LETTERS.length}`);
}

function letteredPrompt(document: Document): string {
  const choices = document.texts('choices').map((choice, index) => `${lettersOf(document)[index] ?? ''}. ${choice}`);
  return `${strip(document.text('question'))}\n${choices.join('\n')}\nAnswer:`;
}

function mmluGold(document: Document): number {
  const letters = lettersOf(document);
  const isLetter = typeof document.fields['answer'] === 'string' && !/^\s*\d+\s*$/.test(document.text('answer'));
  return document.gold('answer', letters.length, isLetter ? letters : undefined);
}

function describeSubject(what: string, document: Document): string {
  const subject = document.has('subject') ? ` about ${document.text('subject').replaceAll('_', ' ')}` : '';
  return `The following are ${what}${subject}.\n\n`;
}

function atBlank(document: Document): readonly [string, string] {
  const sentence = document.text('sentence');
  const at = sentence.indexOf('_');
  return at < 0 ? document.refuse('sentence', 'a sentence with _') : [sentence.slice(0, at), sentence.slice(at + 1)];
}

/** HellaSwag has marks of the pages that it was taken from. */
function withoutMarks(text: string): string {
  const plain = strip(text)
    .replaceAll(' [title]', '. ')
    .replaceAll(/\[.*?\]/g, '');
  return plain.replaceAll('  ', ' ');
}

/** Python's `capitalize`. */
function capitalize(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1).toLowerCase();
}

const strip = (text: string): string => text.trim();

/** Letters to insert, remove or replace. */
function editDistance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...one].entries()) {
    const next = [i + 1];
    for (const [j, against] of [...other].entries()) {
      const replaced = (row[j] ?? 0) + (letter === against ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
