// `npm test`: the C++ lane test, the tests without a device once, and the device tests on every instruction set and CUDA device there is.
// Arguments: --only <configuration> (repeatable), --list, and any part of a file name to run only those files.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { add, line, root, runVitest, testFiles } from './counts.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string', multiple: true }, list: { type: 'boolean', default: false } },
});

const require = createRequire(import.meta.url);
const info = require(path.join(root, 'build/Release/limbeck.node')).info();
const hasCuda = info.cuda.devices.some((device) => device.usable);

const chosen = testFiles().filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)));
const isDevice = (file) => file.endsWith('.device.test.ts');
const isPackage = (file) => path.basename(file).startsWith('package');
const deviceFiles = chosen.filter(isDevice);

const configurations = [
  { name: 'lanes', run: runLanes },
  { name: 'host', files: chosen.filter((file) => !isDevice(file) && !isPackage(file)), env: {} },
  ...info.instructionSets.map((name) => ({
    name: `cpu/${name}`,
    files: deviceFiles,
    env: { LIMBECK_TEST_DEVICE: 'cpu', LIMBECK_ISA: name },
  })),
  { name: 'cuda/emulated', files: deviceFiles, env: { LIMBECK_TEST_DEVICE: 'cuda', LIMBECK_EMULATE_CUDA: '1' } },
  { name: 'cuda', files: deviceFiles, env: { LIMBECK_TEST_DEVICE: 'cuda' }, isAbsent: !hasCuda },
  { name: 'package', files: chosen.filter(isPackage), env: {} },
];

function runLanes() {
  if (positionals.length > 0) return { passed: 0, failed: 0, skipped: 0 };
  const program = path.join(root, 'build/Release/limbeck_lanes_test');
  if (!existsSync(program)) return { passed: 0, failed: 1, skipped: 0 };
  const result = spawnSync(program, [], { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
  process.stdout.write(result.stdout ?? '');
  const counts = /(\d+) passed, (\d+) failed(?:, (\d+) skipped)?/.exec(result.stdout ?? '');
  if (!counts) return { passed: result.status === 0 ? 1 : 0, failed: result.status === 0 ? 0 : 1, skipped: 0 };
  const failed = Number(counts[2]);
  return { passed: Number(counts[1]), failed: result.status !== 0 && failed === 0 ? 1 : failed, skipped: Number(counts[3] ?? 0) };
}

const total = { passed: 0, failed: 0, skipped: 0 };
const rows = [];
for (const configuration of configurations) {
  const { name, files, env, run, isAbsent } = configuration;
  if (values.list) {
    console.log(`${name}\t${(files ?? []).length} files`);
    continue;
  }
  if (values.only && !values.only.includes(name)) continue;
  if (!run && files.length === 0) continue;
  let counts;
  if (isAbsent) {
    // The emulated device has run these very cases, so their number is known.
    const twin = rows.find((row) => row.name === 'cuda/emulated');
    counts = { passed: 0, failed: 0, skipped: twin ? twin.counts.passed + twin.counts.failed + twin.counts.skipped : 0 };
  } else {
    console.log(`\n--- ${name}`);
    counts = run ? run() : runVitest(files, env);
  }
  const note = isAbsent ? `  (${info.cuda.code}: no CUDA device here)` : '';
  rows.push({ name, counts, note });
  add(total, counts);
}
if (!values.list) {
  console.log('');
  for (const { name, counts, note } of rows) console.log(`${name.padEnd(14)} ${line(counts)}${note}`);
  console.log(line(total));
  process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
}
