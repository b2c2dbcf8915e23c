import { readShaders, parseDirectives } from './shader-source.mjs';
import { linkVariant } from './link.mjs';
const s = readShaders('wgsl');
const sh = s.find((x) => x.name === process.argv[2]);
const { axes } = parseDirectives(sh.name, sh.text);
console.log(
  (await linkVariant(sh, Object.fromEntries(s.map((x) => [x.path, x.text])), axes, JSON.parse(process.argv[3])))
    .split('\n')
    .map((l, i) => `${i + 1} ${l}`)
    .join('\n'),
);
