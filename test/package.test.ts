// The tarball as a user gets it: installed in an empty folder with no compiler on the PATH, and run from ESM, CJS and worker threads.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-package-'));
const project = path.join(folder, 'project');
const bin = path.join(folder, 'bin');
const installed = path.join(project, 'node_modules', 'limbeck');
let tarball = '';

/** npm's settings of the run around this one, and limbeck's own, must not leak into the user's shell. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(npm_|LIMBECK_|VITEST|NODE_OPTIONS|LD_PRELOAD|CUDA|PREBUILDS_ONLY)/i.test(name)),
);
env.PATH = bin;

function npmProgram(): string {
  const found = [process.env.npm_execpath ?? '', ...(process.env.PATH ?? '').split(path.delimiter).map((place) => path.join(place, 'npm'))];
  const program = found.find((place) => place !== '' && existsSync(place));
  if (program === undefined) throw new Error('npm is not on the PATH');
  return realpathSync(program);
}

function run(command: string, args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv; timeout?: number } = {}) {
  const result = spawnSync(command, args, { cwd: project, env, encoding: 'utf8', timeout: 240_000, ...options });
  return { status: result.status, signal: result.signal, stdout: result.stdout ?? '', stderr: result.stderr ?? '' };
}

function node(file: string, source: string, extra: NodeJS.ProcessEnv = {}) {
  writeFileSync(path.join(project, file), source);
  return run(process.execPath, [file], { env: { ...env, ...extra } });
}

beforeAll(() => {
  mkdirSync(project);
  mkdirSync(bin);
  for (const name of ['sh', 'env']) symlinkSync(`/bin/${name}`, path.join(bin, name));
  symlinkSync(process.execPath, path.join(bin, 'node'));
  const packed = run(process.execPath, ['scripts/dist.mjs', '--dev', '--out', folder], { cwd: root, env: process.env });
  expect(packed.status, packed.stdout + packed.stderr).toBe(0);
  tarball = path.join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz')) as string);
  writeFileSync(path.join(project, 'package.json'), '{ "private": true }\n');
  const install = run(process.execPath, [npmProgram(), 'install', '--prefer-offline', '--no-audit', '--no-fund', tarball]);
  expect(install.status, install.stdout + install.stderr).toBe(0);
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Two rows against a teacher, and the same value worked out in double precision. */
const LOSS = `
const student = new Float32Array([1, 2, 3, 0, 0, 0]);
const teacher = new Float32Array([3, 2, 1, 1, 0, -1]);
const softmax = (row) => { const sum = row.reduce((total, x) => total + Math.exp(x), 0); return row.map((x) => Math.exp(x) / sum); };
let expected = 0;
for (let r = 0; r < 2; r += 1) {
  const q = softmax(Array.from(student.subarray(3 * r, 3 * r + 3)));
  const p = softmax(Array.from(teacher.subarray(3 * r, 3 * r + 3)));
  expected += p.reduce((total, x, c) => total + x * Math.log(x / q[c]), 0) / 2;
}
const check = (value) => { if (!(Math.abs(value - expected) <= 1e-6)) throw new Error('loss is ' + value + ', should be ' + expected); };
function lossOfTensors() {
  const x = tensor(student.slice(), { shape: [2, 3], requiresGrad: true });
  const loss = kdLoss(x, tensor(teacher.slice(), { shape: [2, 3] }));
  loss.backward();
  check(loss.item());
  if (!x.grad || !x.grad.data.every(Number.isFinite)) throw new Error('no gradient');
}
function lossOfArrays() {
  const out = { loss: new Float32Array(1).fill(NaN), gradient: new Float32Array(6).fill(NaN) };
  raw.kdLoss(student, teacher, { rows: 2, cols: 3, out });
  check(out.loss[0]);
  if (!out.gradient.every(Number.isFinite)) throw new Error('no gradient');
}
`;
const ESM = `import { tensor, kdLoss } from 'limbeck';\nimport * as raw from 'limbeck/raw';\n${LOSS}`;

describe('the tarball', () => {
  it('has no install script, no gyp file and no emulated device', () => {
    const names = readdirSync(installed, { recursive: true }).map(String);
    expect(names.filter((name) => /binding\.gyp|emulated|\.test\./.test(name))).toEqual([]);
    expect(names.filter((name) => name.endsWith('.node'))).toHaveLength(1);
    const shown = node('manifest.cjs', `console.log(JSON.stringify(require('limbeck/package.json').scripts))`);
    const scripts = JSON.parse(shown.stdout) as Record<string, string>;
    expect(Object.keys(scripts).filter((name) => /install|^prepare$|prebuild/.test(name))).toEqual([]);
  });

  it('computes a loss from ESM', () => {
    const result = node('loss.mjs', `${ESM}\nlossOfTensors();\nlossOfArrays();\nconsole.log('done');`);
    expect(result, result.stderr).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
  });

  it('computes a loss from CJS', () => {
    const imports = `const { tensor, kdLoss } = require('limbeck');\nconst raw = require('limbeck/raw');\n`;
    const result = node('loss.cjs', `${imports}${LOSS}\nlossOfTensors();\nlossOfArrays();\nconsole.log('done');`);
    expect(result, result.stderr).toMatchObject({ status: 0, stdout: 'done\n', stderr: '' });
  });

  it('loads no optional peer by itself, and says which one an adapter lacks', () => {
    for (const [entry, peer] of [
      ['tfjs', '@tensorflow/tfjs-core'],
      ['jax', '@jax-js/jax'],
    ] as const) {
      expect(existsSync(path.join(project, 'node_modules', peer))).toBe(false);
      const esm = node(
        `${entry}.mjs`,
        `import 'limbeck';\nimport 'limbeck/raw';\nawait import('limbeck/${entry}').catch((error) => console.log(error.message));`,
      );
      expect(esm, esm.stderr).toMatchObject({ status: 0 });
      expect(esm.stdout).toContain(`Cannot find package '${peer}'`);
      const cjs = node(`${entry}.cjs`, `try { require('limbeck/${entry}'); } catch (error) { console.log(error.message); }`);
      expect(cjs.stdout).toContain(`Cannot find module '${peer}'`);
    }
  });

  it('computes a loss from worker threads, in parallel and one after the other', () => {
    writeFileSync(
      path.join(project, 'worker.mjs'),
      `${ESM}\nimport { parentPort } from 'node:worker_threads';\nlossOfTensors();\nlossOfArrays();\nparentPort.postMessage('done');`,
    );
    const result = node(
      'workers.mjs',
      `import { Worker } from 'node:worker_threads';
const answer = () => new Promise((resolve, reject) => {
  const worker = new Worker(new URL('./worker.mjs', import.meta.url));
  worker.once('message', resolve);
  worker.once('error', reject);
});
console.log(await answer());
console.log((await Promise.all([answer(), answer(), answer()])).join());
console.log(await answer());`,
    );
    expect(result, result.stderr).toMatchObject({ status: 0, stdout: 'done\ndone,done,done\ndone\n', stderr: '' });
  });

  it('lives on when a worker thread is terminated in the middle of a call', () => {
    writeFileSync(
      path.join(project, 'busy.mjs'),
      `${ESM}
import { parentPort } from 'node:worker_threads';
const big = { rows: 64, cols: 50000 };
const a = new Float32Array(big.rows * big.cols).fill(1);
const out = { loss: new Float32Array(1), gradient: new Float32Array(a.length) };
parentPort.postMessage('started');
for (;;) raw.kdLoss(a, a, { ...big, out });`,
    );
    const result = node(
      'terminate.mjs',
      `import { Worker } from 'node:worker_threads';
import { setTimeout as sleep } from 'node:timers/promises';
${ESM}
for (let i = 0; i < 6; i += 1) {
  const worker = new Worker(new URL('./busy.mjs', import.meta.url));
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await sleep(5 * i);
  await worker.terminate();
}
lossOfTensors();
lossOfArrays();
console.log('alive');`,
    );
    expect(result, result.stderr).toMatchObject({ status: 0, signal: null, stdout: 'alive\n' });
  });

  it('has teachers that need no other package, and say which one some of them need', () => {
    const body = `console.log(vocabulary(['a', 'b']).idOf('b'));
      onnxTeacher('x.onnx').catch(({ code, message }) => console.log(code, message.includes('npm install onnxruntime-node')));`;
    const esm = `import { vocabulary } from 'limbeck/teachers';\nimport { onnxTeacher } from 'limbeck/teachers/onnx';\n${body}`;
    const cjs = `const { vocabulary } = require('limbeck/teachers');\nconst { onnxTeacher } = require('limbeck/teachers/onnx');\n${body}`;
    for (const [file, source] of [
      ['teachers.mjs', esm],
      ['teachers.cjs', cjs],
    ] as const)
      expect(node(file, source)).toMatchObject({ status: 0, stdout: '1\nmissing_package true\n', stderr: '' });
  });

  it('exports to ONNX with the same classes from ESM and CommonJS, and says which package that needs', () => {
    const body = `exportOnnx(new nn.ReLU(), 'x.onnx', { inputShape: [1] }).catch(({ code, message }) =>
      console.log(code, message.includes('npm install onnx-proto')));`;
    for (const [file, source] of [
      ['onnx.mjs', `import { nn } from 'limbeck';\nimport { exportOnnx } from 'limbeck/onnx';\n${body}`],
      ['onnx.cjs', `const { nn } = require('limbeck');\nconst { exportOnnx } = require('limbeck/onnx');\n${body}`],
    ] as const)
      expect(node(file, source)).toMatchObject({ status: 0, stdout: 'missing_package true\n', stderr: '' });
  });

  it('has a working command', () => {
    const result = run(process.execPath, [path.join(project, 'node_modules', '.bin', 'limbeck'), 'info', '--json']);
    expect(result.status, result.stderr).toBe(0);
    const version = (JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }).version;
    expect(JSON.parse(result.stdout)).toMatchObject({ limbeck: version, binary: { loaded: true } });
  });

  it('does what the README says', () => {
    const readme = readFileSync(path.join(installed, 'README.md'), 'utf8');
    const [, source, output] = /```js\n([^`]*)```\n\n```text\n([^`]*)```/.exec(readme) ?? [];
    expect(source).toBeDefined();
    expect(node('readme.mjs', source as string)).toMatchObject({ status: 0, stdout: output, stderr: '' });
  });

  it('imports without a binary, and says how to get one on first use', () => {
    const prebuilds = path.join(installed, 'prebuilds');
    renameSync(prebuilds, `${prebuilds}.away`);
    try {
      const result = node(
        'nothing.mjs',
        `${ESM}\ntry { lossOfArrays(); } catch (error) { console.log(error.name, error.code, error.message.includes('npm run build:native')); }`,
      );
      expect(result, result.stderr).toMatchObject({ status: 0, stdout: 'LimbeckError no_binary true\n' });
    } finally {
      renameSync(`${prebuilds}.away`, prebuilds);
    }
  });

  // What the build below leaves out cannot be missing either.
  it('has every source of the addon', () => {
    const sources = (folder: string): string[] =>
      (readdirSync(path.join(folder, 'native'), { recursive: true }) as string[])
        .filter((name) => /\.\w+$/.test(name) && !/^emulated\b|lanes_test/.test(name))
        .sort();
    expect(sources(installed)).toEqual(sources(root));
    expect(sources(root).length).toBeGreaterThan(200);
  });

  // On one instruction set: the others are the same loops, which took the compiler two thirds of its time.
  it('can be built from source by its user, without a development dependency', () => {
    const prebuilds = path.join(installed, 'prebuilds');
    renameSync(prebuilds, `${prebuilds}.away`);
    try {
      const build = run(process.execPath, [npmProgram(), 'explore', 'limbeck', '--', 'npm', 'run', 'build:native'], {
        env: { ...env, PATH: process.env.PATH, LIMBECK_CUDA: 'OFF', LIMBECK_WITHOUT: 'avx2;avx512' },
        timeout: 900_000,
      });
      expect(build.status, build.stdout + build.stderr).toBe(0);
      const result = node('built.mjs', `${ESM}\nlossOfTensors();\nconsole.log('done');`);
      expect(result, result.stderr).toMatchObject({ status: 0, stdout: 'done\n' });
    } finally {
      rmSync(path.join(installed, 'build'), { recursive: true, force: true });
      renameSync(`${prebuilds}.away`, prebuilds);
    }
  }, 960_000);

  it('has types that every kind of consumer finds', () => {
    const lint = run(process.execPath, ['node_modules/publint/src/cli.js', 'run', tarball, '--strict'], { cwd: root, env: process.env });
    expect(lint.status, lint.stdout + lint.stderr).toBe(0);
    const types = run(process.execPath, ['node_modules/@arethetypeswrong/cli/dist/index.js', tarball, '--format', 'ascii'], {
      cwd: root,
      env: process.env,
    });
    expect(types.status, types.stdout + types.stderr).toBe(0);
  });
});
