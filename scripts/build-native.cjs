#!/usr/bin/env node
// Builds the native addons. Three callers: `npm run build:native`, prebuildify (as its node-gyp), and a consumer without cmake-js.
'use strict';
const { spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const root = path.resolve(__dirname, '..');
const outDir = path.resolve(root, process.env.LIMBECK_BUILD_DIR ?? 'build');

const settings = { LIMBECK_RELEASE: process.env.LIMBECK_RELEASE === '1' ? 'ON' : 'OFF' };
for (const name of ['LIMBECK_CUDA', 'LIMBECK_BLAS', 'LIMBECK_TESTING', 'LIMBECK_SANITIZE', 'LIMBECK_WITHOUT', 'CMAKE_CUDA_ARCHITECTURES', 'CMAKE_PREFIX_PATH']) {
  if (process.env[name]) settings[name] = process.env[name];
}

function run(command, args, extra = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...extra });
  if (result.error) throw new Error(`Cannot build limbeck: ${command} must run: ${result.error.message}`);
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function cmakeJs() {
  try {
    return require.resolve('cmake-js/bin/cmake-js', { paths: [root] });
  } catch {
    return undefined;
  }
}

function headerFolders() {
  const headers = require(require.resolve('node-api-headers', { paths: [root] }));
  const addonApi = require(require.resolve('node-addon-api', { paths: [root] }));
  return [headers.include_dir, addonApi.include_dir].join(';');
}

function build() {
  if (!has('cmake')) {
    throw new Error('Cannot build limbeck: CMake 3.25 or later and a C++20 compiler must be on the PATH: cmake was not found');
  }
  const jobs = process.env.LIMBECK_JOBS ?? String(os.availableParallelism());
  const stampFile = path.join(outDir, '.limbeck-settings');
  const stamp = crypto
    .createHash('sha256')
    .update(JSON.stringify([settings, root, process.env.CUDACXX ?? '', process.env.CXX ?? '']))
    .digest('hex');
  const isConfigured = fs.existsSync(path.join(outDir, 'CMakeCache.txt')) && fs.existsSync(stampFile) && fs.readFileSync(stampFile, 'utf8') === stamp;
  // A cache left by other settings, or by a configure step that failed, must not be trusted.
  if (!isConfigured) for (const file of ['CMakeCache.txt', '.limbeck-settings']) fs.rmSync(path.join(outDir, file), { force: true });

  const tool = cmakeJs();
  const generator = has('ninja') ? ['-G', 'Ninja'] : [];
  if (tool) {
    const common = [tool, '--out', outDir, '--log-level', 'error', ...generator];
    for (const [key, value] of Object.entries(settings)) common.push(`--CD${key}=${value}`);
    if (!isConfigured) run(process.execPath, [...common, 'configure']);
    fs.writeFileSync(stampFile, stamp);
    run(process.execPath, [...common, '--parallel', jobs, 'build']);
  } else {
    fs.mkdirSync(outDir, { recursive: true });
    const defines = Object.entries({
      ...settings,
      CMAKE_BUILD_TYPE: 'Release',
      CMAKE_JS_INC: headerFolders(),
      CMAKE_LIBRARY_OUTPUT_DIRECTORY: path.join(outDir, 'Release'),
    });
    if (!isConfigured) run('cmake', ['-S', root, '-B', outDir, ...generator, ...defines.map(([key, value]) => `-D${key}=${value}`)]);
    fs.writeFileSync(stampFile, stamp);
    run('cmake', ['--build', outDir, '--parallel', jobs]);
  }
}

try {
  build();
  if (process.env.LIMBECK_COPY_TO) {
    const target = path.resolve(root, process.env.LIMBECK_COPY_TO);
    fs.mkdirSync(target, { recursive: true });
    fs.copyFileSync(path.join(outDir, 'Release', 'limbeck.node'), path.join(target, 'limbeck.node'));
  }
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
