// `npm run bundle:gpu`: one self-unpacking archive that tests and times limbeck on a GPU host with a driver and nothing else.
// --emulated adds the emulated device; with --check it is then unpacked and run on that device, on a small selection, as a test of the bundle itself.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'tsup';
import { root } from './counts.mjs';

const { values } = parseArgs({ options: { emulated: { type: 'boolean', default: false }, check: { type: 'boolean', default: false } } });
const limitBytes = 60 * 1024 * 1024;
const { version, dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const output = path.join(root, 'bundle');
const stage = path.join(output, 'stage');

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

rmSync(output, { recursive: true, force: true });
mkdirSync(path.join(stage, 'build', 'Release'), { recursive: true });
run(process.execPath, ['scripts/build.mjs', '--if-needed']);

// The addon: for the H100 and H200 by name, and PTX for every other card. With --emulated and --check the one at hand will do.
let addons = path.join(root, 'build', 'Release');
if (!values.check) {
  const env = {
    ...process.env,
    LIMBECK_BUILD_DIR: 'build-bundle',
    LIMBECK_CUDA: 'ON',
    LIMBECK_TESTING: 'OFF',
    CMAKE_CUDA_ARCHITECTURES: '90a-real;75-virtual',
  };
  run(process.execPath, ['scripts/build-native.cjs'], { env });
  addons = path.join(root, 'build-bundle', 'Release');
}
cpSync(path.join(addons, 'limbeck.node'), path.join(stage, 'build', 'Release', 'limbeck.node'));
if (values.emulated)
  cpSync(path.join(root, 'build', 'Release', 'limbeck_emulated.node'), path.join(stage, 'build', 'Release', 'limbeck_emulated.node'));

const node = path.join(stage, 'node');
cpSync(realpathSync(process.execPath), node);
chmodSync(node, 0o755);
for (const file of [node, path.join(stage, 'build', 'Release', 'limbeck.node')]) spawnSync('strip', [file], { stdio: 'ignore' });

// What dist/ needs at run time; the headers are for building.
function copyPackage(name) {
  const to = path.join(stage, 'node_modules', name);
  if (existsSync(to)) return;
  const from = path.join(root, 'node_modules', name);
  cpSync(from, to, { recursive: true });
  for (const needed of Object.keys(JSON.parse(readFileSync(path.join(from, 'package.json'), 'utf8')).dependencies ?? {}))
    copyPackage(needed);
}
for (const name of Object.keys(dependencies)) if (!/^node-(addon-api|api-headers)$/.test(name)) copyPackage(name);
cpSync(path.join(root, 'dist'), path.join(stage, 'dist'), { recursive: true });
cpSync(path.join(root, 'package.json'), path.join(stage, 'package.json'));
cpSync(path.join(root, 'scripts', 'gpu-bundle', 'peers.py'), path.join(stage, 'peers.py'));
await build({
  config: false,
  entry: { main: path.join(root, 'scripts', 'gpu-bundle', 'main.ts') },
  format: ['esm'],
  target: 'node20',
  outDir: path.join(stage, 'run'),
  external: Object.keys(dependencies),
  splitting: false,
  silent: true,
  dts: false,
});

const tar = execFileSync('tar', ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '-cf', '-', '-C', stage, '.'], {
  maxBuffer: 1 << 30,
});
const head = readFileSync(path.join(root, 'scripts', 'gpu-bundle', 'launch.sh'), 'utf8');
const lines = head.split('\n').length;
const archive = path.join(output, `limbeck-gpu-${version}.sh`);
writeFileSync(archive, Buffer.concat([Buffer.from(head.replace('@LINES@', String(lines))), gzipSync(tar, { level: 9 })]), { mode: 0o755 });
rmSync(stage, { recursive: true, force: true });
const size = statSync(archive).size;
console.log(`${archive}: ${(size / 1e6).toFixed(1)} MB`);
if (size > limitBytes) {
  console.error(`Cannot bundle limbeck: the archive must be at most ${limitBytes} bytes: it is ${size}`);
  process.exit(1);
}

if (values.check) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-bundle-'));
  try {
    const device = values.emulated ? ['--emulated'] : [];
    run('sh', [archive, ...device, '--check', '--out', folder], { cwd: folder, env: { PATH: '/usr/bin:/bin', TMPDIR: folder } });
    for (const name of ['tests.json', 'bench.json']) JSON.parse(readFileSync(path.join(folder, name), 'utf8'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
