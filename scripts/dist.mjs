// `npm run dist`: release build of the addon into prebuilds/, dist/ and the npm tarball, then publint and attw on it.
// --dev takes build/Release as it is, for tests of the tarball; --out DIR says where the tarball goes (the project's root).
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from './counts.mjs';

const { values } = parseArgs({ options: { dev: { type: 'boolean', default: false }, out: { type: 'string', default: root } } });
const limitBytes = 25 * 1024 * 1024;
const stage = path.join(root, 'build-release', 'stage');

function run(command, args, env = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function node(args, env) {
  run(process.execPath, args, env);
}

rmSync(path.join(root, 'prebuilds'), { recursive: true, force: true });
rmSync(stage, { recursive: true, force: true });
mkdirSync(path.join(stage, 'build', 'Release'), { recursive: true });
mkdirSync(values.out, { recursive: true });
if (values.dev) {
  node(['scripts/build.mjs', '--if-needed']);
} else {
  rmSync(path.join(root, 'dist'), { recursive: true, force: true });
  node(['node_modules/tsup/dist/cli-default.js', '--silent']);
}

// prebuildify moves build/Release/*.node away, so it works in a folder of its own and the developer's build stays.
const nodeGyp = path.join(stage, 'node-gyp');
const copy = `cp "${path.join(root, 'build', 'Release', 'limbeck.node')}" "${path.join(stage, 'build', 'Release')}/"`;
const build = `exec "${process.execPath}" "${path.join(root, 'scripts', 'build-native.cjs')}"`;
writeFileSync(nodeGyp, `#!/bin/sh\n${values.dev ? copy : build}\n`, { mode: 0o755 });
copyFileSync(path.join(root, 'package.json'), path.join(stage, 'package.json'));
node(
  [
    'node_modules/prebuildify/bin.js',
    '--napi',
    '--strip',
    '--tag-libc',
    '--name',
    'limbeck',
    '--cwd',
    stage,
    '--out',
    root,
    '--node-gyp',
    nodeGyp,
  ],
  {
    LIMBECK_RELEASE: '1',
    LIMBECK_TESTING: 'OFF',
    LIMBECK_BUILD_DIR: 'build-release',
    LIMBECK_COPY_TO: path.join(stage, 'build', 'Release'),
  },
);

const packed = spawnSync('npm', ['pack', '--json', '--pack-destination', values.out], {
  cwd: root,
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
});
if (packed.status !== 0) process.exit(packed.status ?? 1);
const [{ filename, files, unpackedSize }] = JSON.parse(packed.stdout);
const tarball = path.join(values.out, filename);
const size = statSync(tarball).size;
console.log(`${tarball}: ${(size / 1e6).toFixed(2)} MB, ${(unpackedSize / 1e6).toFixed(2)} MB unpacked, ${files.length} files`);
const unwanted = files.map((file) => file.path).filter((name) => /binding\.gyp$|emulated|lanes_test/.test(name));
if (unwanted.length > 0) {
  console.error(`Cannot publish limbeck: the tarball must not hold ${unwanted.join(', ')}`);
  process.exit(1);
}
if (size > limitBytes) {
  console.error(`Cannot publish limbeck: the tarball must be at most ${limitBytes} bytes: it is ${size}`);
  process.exit(1);
}
if (!values.dev) {
  node(['node_modules/publint/src/cli.js', 'run', tarball, '--strict']);
  node(['node_modules/@arethetypeswrong/cli/dist/index.js', tarball]);
}
