import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT: string = fileURLToPath(new URL('../../', import.meta.url));

/** Paths below the root of the repository, with forward slashes. */
export function filesIn(folder: string, ending: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)).split('\\').join('/'))
    .filter((path) => !/\/(?:node_modules|dist|generated)\//.test(path))
    .sort();
}

export function readText(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** TypeScript or WGSL without its comments. Quoted text stays, also where it looks like a comment. */
export function withoutComments(text: string): string {
  return text.replace(/(['"`])(?:\\.|(?!\1)[^\\])*\1|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (found) =>
    /^['"`]/.test(found) ? found : ' ',
  );
}

/** What a file imports: package names as they are, relative paths from the root of the repository. */
export function importsOf(path: string): string[] {
  const code = withoutComments(readText(path));
  const statements = /\b(?:import|export)\b[^'"`;]*?\bfrom\s*(['"])([^'"]+)\1|\bimport\s*\(?\s*(['"])([^'"]+)\3/g;
  return Array.from(code.matchAll(statements), (match) => match[2] ?? match[4] ?? '').map((name) =>
    name.startsWith('.') ? join(dirname(path), name).split('\\').join('/') : name,
  );
}

/** Shaders that are one part of a kernel, with the stem of that kernel. */
export const PASSES: Readonly<Record<string, string>> = {
  'conv/causal_conv1d_states': 'conv/causal_conv1d',
  'linear/matmul_matrix': 'linear/matmul',
  'mlp/fused_mlp_matrix': 'mlp/fused_mlp',
  'attention/flash_attention_matrix': 'attention/flash_attention',
  'ssm/ssd_chunk_output_matrix': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_scores_matrix': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_state_matrix': 'ssm/ssd_chunk_scan',
  'attention/attention_combine': 'attention/attention_step',
  'moe/moe_combine': 'moe/moe_mlp',
  'moe/moe_mlp_down': 'moe/moe_mlp',
  'moe/moe_sort': 'moe/moe_route',
  'attention/append_heads': 'attention/rope_append',
  'attention/attention_terms': 'attention/flash_attention',
  'delta/delta_chunk_gates': 'delta/gated_delta_rule',
  'delta/delta_chunk_output': 'delta/gated_delta_rule',
  'delta/delta_chunk_scores': 'delta/gated_delta_rule',
  'delta/delta_chunk_solve': 'delta/gated_delta_rule',
  'delta/delta_chunk_state': 'delta/gated_delta_rule',
  'delta/gated_delta_step_join': 'delta/gated_delta_step',
  'mlp/fused_mlp_step': 'mlp/fused_mlp',
  'ssm/join_rows': 'ssm/selective_scan',
  'ssm/mamba2_output_step': 'ssm/mamba2_decode_step',
  'ssm/mamba2_project_step': 'ssm/mamba2_decode_step',
  'ssm/mamba2_update_step': 'ssm/mamba2_decode_step',
  'ssm/mamba3_scan_angles': 'ssm/mamba3_scan',
  'ssm/mamba3_scan_rotate': 'ssm/mamba3_scan',
  'ssm/selective_scan_carry': 'ssm/selective_scan',
  'ssm/selective_scan_states': 'ssm/selective_scan',
  'ssm/ssd_chunk_carry': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_halves': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_cumsum': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_output': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_scores': 'ssm/ssd_chunk_scan',
  'ssm/ssd_chunk_state': 'ssm/ssd_chunk_scan',
  'ssm/ssd_scan_loop': 'ssm/ssd_chunk_scan',
  'token/sample_adjust': 'token/sample',
  'token/sample_histogram': 'token/sample',
  'token/sample_logprobs': 'token/sample',
  'token/sample_resolve': 'token/sample',
  'token/sample_slices': 'token/sample',
  'token/sample_split': 'token/sample',
};

/** Comment lines that a shader begins with. */
export function headerOf(text: string): string[] {
  const lines = text.split('\n');
  const end = lines.findIndex((line) => !/^\/\/(?!!)/.test(line));
  return lines.slice(0, end < 0 ? lines.length : end);
}

/** Names of the `read_write` bindings that a shader neither assigns to, nor changes atomically, nor hands on. */
export function unwrittenBindings(text: string): string[] {
  const code = withoutComments(text);
  return Array.from(code.matchAll(/var\s*<\s*storage\s*,\s*read_write\s*>\s*(\w+)/g), (match) => match[1] ?? '').filter(
    (name) => {
      const assigned = new RegExp(`(?<![\\w.])${name}\\b[^;={}]*?(?:[-+*/%&|^]|<<|>>)?=(?!=)`);
      const handed = new RegExp(`&\\s*${name}\\b`);
      const counted = new RegExp(`(?<![\\w.])${name}\\b[^;={}]*?(?:\\+\\+|--)`);
      return ![assigned, handed, counted].some((pattern) => pattern.test(code));
    },
  );
}
