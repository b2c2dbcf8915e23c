// The licences of what the published packages install: docs/licences.md lists them.
//   node scripts/licences.mjs          writes the list
//   node scripts/licences.mjs --check  fails where it is not what it would write
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TaskError, isMain, main, readJson, root } from './workspace.mjs';

const packages = ['kernels', 'models', 'bench', 'checkpoints'];
const file = join(root, 'docs', 'licences.md');
/** Licences that ask for no more than to be named. */
const permitted = new Set(['MIT', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', '0BSD']);

/** The licences that all apply: `(A AND B)` are two. A choice (`OR`) is left to be looked at. */
const termsOf = (expression = '') => expression.replace(/[()]/g, '').split(' AND ');

/** The folder in which a package finds a dependency of its own. */
function resolveFrom(folder, name) {
  for (let at = folder; dirname(at) !== at; at = dirname(at)) {
    const candidate = join(at, 'node_modules', name);
    if (existsSync(candidate)) return realpathSync(candidate);
  }
  throw new TaskError(`${name} is not installed, which ${folder} depends on`);
}

/** Every package that an install of ours brings, with those of ours that bring it. */
function dependencies() {
  const found = new Map();
  const visit = (folder, user, seen) => {
    const { dependencies: direct = {}, optionalDependencies = {} } = readJson(join(folder, 'package.json'));
    for (const name of Object.keys({ ...direct, ...optionalDependencies })) {
      if (seen.has(name) || name.startsWith('@mambalab/')) continue;
      seen.add(name);
      const place = resolveFrom(folder, name);
      const { license, version } = readJson(join(place, 'package.json'));
      const entry = found.get(name) ?? { name, version, licence: license, users: new Set() };
      entry.users.add(user);
      found.set(name, entry);
      visit(place, user, seen);
    }
  };
  for (const name of packages) visit(join(root, 'packages', name), name, new Set());
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function render(entries) {
  const rows = entries.map(
    ({ name, version, licence, users }) => `| \`${name}\` | ${version} | ${licence} | ${[...users].join(', ')} |`,
  );
  return `# Licences

mambalab is under the MIT licence, and so are the weights of \`@mambalab/checkpoints\`: their README files say what they were trained on. An install of the packages also brings these, none of which asks for more than to be named. \`webgpu\` (Dawn; Apache-2.0 and BSD-3-Clause) is installed only where it is asked for, as the peer that Node needs.

| package | version tested | licence | for |
| --- | --- | --- | --- |
${rows.join('\n')}

\`node scripts/licences.mjs\` writes this page; \`npm run check\` fails where it is not up to date, or where a licence is none of ${[...permitted].join(', ')}.
`;
}

export function checkLicences() {
  const entries = dependencies();
  const others = entries.filter(({ licence }) => !termsOf(licence).every((term) => permitted.has(term)));
  if (others.length > 0) {
    throw new TaskError(
      `licences that were not looked at: ${others.map((e) => `${e.name} (${e.licence})`).join(', ')}`,
    );
  }
  if (!existsSync(file) || readFileSync(file, 'utf8') !== render(entries)) {
    throw new TaskError('docs/licences.md is not up to date: run node scripts/licences.mjs');
  }
}

if (isMain(import.meta.url)) {
  await main(() => {
    if (process.argv.includes('--check')) checkLicences();
    else writeFileSync(file, render(dependencies()));
  });
}
