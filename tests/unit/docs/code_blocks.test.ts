import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { expect, it } from 'vitest';
import type { CodeBlock } from '../../support/markdown.ts';
import { codeBlocks, pagesOfRepository } from '../../support/markdown.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

// What blocks take for granted, as the text around them says.
const context = `
import type { Device as KernelDevice, HostTensor } from '@mambalab/kernels';
import type { Model as LanguageModel, ModelSource, Session as TextSession } from '@mambalab/models';
import type * as models from '@mambalab/models';
import type { FlexibleSchema, ToolSet } from 'ai';
declare global {
  const loadModel: typeof models.loadModel;
  const model: LanguageModel;
  const smallerModel: LanguageModel;
  const session: TextSession;
  const source: ModelSource;
  const device: KernelDevice;
  const signal: AbortSignal, abortSignal: AbortSignal;
  const onProgress: (progress: models.LoadProgress) => void;
  const messages: { role: 'user'; content: string }[];
  const schema: FlexibleSchema<unknown>;
  const tools: ToolSet;
  const output: HTMLElement;
  const token: string;
  const folder: string;
  const x: HostTensor, dt: HostTensor, A: HostTensor, B: HostTensor, C: HostTensor;
}
`;

/** What the compiler says about blocks, each as a module of its own, with the sources of the packages. */
function problemsOf(blocks: readonly CodeBlock[]): string[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const folder = join(root, 'tests/unit/docs');
  const contextFile = join(folder, 'context.d.ts');
  const files = new Map([[contextFile, context]]);
  const names = new Map<string, CodeBlock>();
  for (const [index, block] of blocks.entries()) {
    const name = join(folder, `block-${index}.ts`);
    names.set(name, block);
    files.set(name, `${block.code}\nexport {};\n`);
  }
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => files.has(name) || fileExists(name);
  host.readFile = (name) => files.get(name) ?? readFile(name);
  host.getSourceFile = (name, languageVersion, ...rest) => {
    const text = files.get(name);
    if (text === undefined) return getSourceFile(name, languageVersion, ...rest);
    return ts.createSourceFile(name, text, languageVersion);
  };
  // Blocks are programs, not libraries: their exports need no types written out.
  const program = ts.createProgram(
    [...files.keys()],
    { ...options, isolatedDeclarations: false, declaration: false },
    host,
  );
  return [...names].flatMap(([name, { place }]) => {
    const file = program.getSourceFile(name);
    const found = [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)];
    return found.map(({ messageText }) => `${place}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`);
  });
}

it('every block of TypeScript in README and docs compiles', { timeout: 60_000 }, () => {
  const blocks = pagesOfRepository().flatMap(codeBlocks);
  expect(blocks.map(({ place }) => place.split(':')[0])).toEqual(
    expect.arrayContaining(['README.md', 'docs/loading.md']),
  );
  const wrong = { place: 'wrong:1', code: 'model.generate(1);\nmodel.missing();', isRunnable: false };
  const problems = problemsOf([...blocks, wrong]);
  // The last block shows that mistakes are found.
  expect(problems.filter((problem) => problem.startsWith('wrong:1'))).toHaveLength(2);
  expect(problems.filter((problem) => !problem.startsWith('wrong:1'))).toEqual([]);
});
