// Builds the native addons and dist/; with --if-needed, only what is out of date.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const ifNeeded = process.argv.includes('--if-needed');
const outputs = [
  'index.js',
  'index.cjs',
  'raw.js',
  'raw.cjs',
  'index.d.ts',
  'index.d.cts',
  'raw.d.ts',
  'raw.d.cts',
  'onnx.js',
  'onnx.cjs',
  'onnx.d.ts',
  'onnx.d.cts',
  'teachers/index.js',
  'teachers/index.cjs',
  'teachers/index.d.ts',
  'teachers/index.d.cts',
  'teachers/onnx.js',
  'teachers/onnx.cjs',
  'teachers/onnx.d.ts',
  'teachers/onnx.d.cts',
  'cli.js',
  'report-client.js',
];

function run(...args) {
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function modified(file) {
  return statSync(path.join(root, file), { throwIfNoEntry: false })?.mtimeMs;
}

function isDistFresh() {
  const built = outputs.map((name) => modified(`dist/${name}`));
  if (built.includes(undefined)) return false;
  const oldest = Math.min(...built);
  const sources = readdirSync(path.join(root, 'src'), { recursive: true }).map((name) => `src/${name}`);
  return [...sources, 'tsup.config.ts', 'tsconfig.json', 'package.json'].every((name) => modified(name) <= oldest);
}

run('scripts/build-native.cjs');
if (!ifNeeded || !isDistFresh()) {
  rmSync(path.join(root, 'dist'), { recursive: true, force: true });
  run('node_modules/tsup/dist/cli-default.js', '--silent');
}
