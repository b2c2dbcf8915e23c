// A GPU for machines without one (Linux x64): SwiftShader's Vulkan driver and a headless Chromium, both taken from the
// npm package @sparticuz/chromium and unpacked under .cache/. Nothing is installed on the system.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress } from 'node:zlib';
import { TaskError, cache, isMain, main, readJson, root, say } from './workspace.mjs';

const source = join(root, 'node_modules', '@sparticuz', 'chromium');

/**
 * Unpacks the software GPU once and says how to use it.
 * `vulkanEnv` starts a Node process whose Dawn finds SwiftShader; `chromium` starts a browser with the same adapter.
 */
export async function prepareSoftwareGpu() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new TaskError(
      `the software GPU exists for Linux x64 only, this is ${process.platform} ${process.arch}: ` +
        'a GPU with its driver is needed, and MAMBALAB_CHROMIUM=<path of a Chromium> for the browser tests',
    );
  }
  const folder = join(cache, 'software-gpu', readJson(join(source, 'package.json')).version);
  if (!existsSync(folder)) await unpack(folder);

  const executablePath = join(folder, 'chromium');
  const icd = join(folder, 'vk_swiftshader_icd.json');
  return {
    vulkanEnv: { LD_LIBRARY_PATH: libraryPath(folder), VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd },
    chromium: { executablePath, env: chromiumEnv(executablePath, join(folder, 'lib')) },
  };
}

/** Unpacks beside the destination, then renames: a folder under its final name is always whole. */
async function unpack(folder) {
  say('unpacking the software GPU (once)');
  mkdirSync(join(folder, '..'), { recursive: true });
  const work = mkdtempSync(`${folder}.`);
  try {
    const chromium = join(work, 'chromium');
    await decompress('chromium.br', chromium);
    chmodSync(chromium, 0o755);
    for (const archive of ['swiftshader.tar', 'al2023.tar']) {
      const tar = join(work, archive);
      await decompress(`${archive}.br`, tar);
      const { status, error, stderr } = spawnSync('tar', ['-xf', tar, '-C', work], { encoding: 'utf8' });
      if (status !== 0) throw new TaskError(`tar could not unpack ${archive}: ${error?.message ?? stderr.trim()}`);
      rmSync(tar);
    }
    renameSync(work, folder);
  } catch (error) {
    // Another process may have been faster; its folder is as good as ours.
    if (!existsSync(folder)) throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const decompress = (name, destination) =>
  pipeline(createReadStream(join(source, 'bin', name)), createBrotliDecompress(), createWriteStream(destination));

const libraryPath = (...folders) => [...folders, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);

/** The environment in which this Chromium finds its shared libraries: the system's own, or the packed set. */
function chromiumEnv(executable, packedLibraries) {
  if (missingLibraries(executable, {}).length === 0) return {};
  const env = { LD_LIBRARY_PATH: libraryPath(packedLibraries) };
  const missing = missingLibraries(executable, env);
  if (missing.length > 0)
    throw new TaskError(`Chromium needs shared libraries that this system lacks: ${missing.join(', ')}`);
  return env;
}

function missingLibraries(executable, env) {
  const { stdout } = spawnSync('ldd', [executable], { encoding: 'utf8', env: { ...process.env, ...env } });
  return (stdout ?? '').split('\n').flatMap((line) => /^\s*(\S+) => not found/.exec(line)?.[1] ?? []);
}

// The prefix tells the answer from whatever else a driver prints.
const probeScript = `
  import { create, globals } from 'webgpu';
  Object.assign(globalThis, globals);
  const adapter = await create([]).requestAdapter();
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter?.info ?? {};
  const answer = adapter ? { vendor, architecture, device, description, isFallbackAdapter } : null;
  process.stdout.write('adapter: ' + JSON.stringify(answer) + '\\n', () => process.exit(0));
`;

/** Asks a fresh Node process, started with \`env\`, for its WebGPU adapter; null where it has none. */
function probeAdapter(env) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', probeScript], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
  const line = /^adapter: (.*)$/m.exec(stdout ?? '')?.[1];
  return {
    adapter: line === undefined ? null : JSON.parse(line),
    detail: (stderr ?? '').trim() || `exit code ${status}`,
  };
}

const isSoftware = ({ vendor, architecture, device, description, isFallbackAdapter }) =>
  isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test([vendor, architecture, device, description].join(' '));

/**
 * Chooses the GPU for Node: `{ kind, adapter, env }`, where `env` is what the process must be started with.
 * MAMBALAB_GPU=software takes SwiftShader even beside a real GPU; MAMBALAB_GPU=system takes whatever the system offers,
 * a software driver too (llvmpipe, say). Without it: a real GPU if there is one, SwiftShader otherwise.
 */
export async function gpuEnvironment() {
  const wish = process.env.MAMBALAB_GPU;
  if (wish !== undefined && wish !== 'software' && wish !== 'system') {
    throw new TaskError(`MAMBALAB_GPU is '${wish}': 'software', 'system' or nothing is expected`);
  }
  if (wish !== 'software') {
    const { adapter, detail } = probeAdapter({});
    const others = wish === 'system' || process.platform !== 'linux';
    if (adapter && (others || !isSoftware(adapter))) return { kind: 'system', adapter, env: {} };
    if (others) throw new TaskError(`this system offers no WebGPU adapter: ${detail}`);
  }
  const { vulkanEnv: env } = await prepareSoftwareGpu();
  const { adapter, detail } = probeAdapter(env);
  if (!adapter) throw new TaskError(`no WebGPU adapter, neither a GPU nor the software driver SwiftShader: ${detail}`);
  return { kind: 'software', adapter, env };
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const { kind, adapter, env } = await gpuEnvironment();
    console.log(JSON.stringify({ kind, adapter, env }, null, 2));
  });
}
