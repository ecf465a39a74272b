// `npm test`: the C++ lane test, the tests without a device once, and the device tests on every instruction set and CUDA device there is.
// Arguments: --only <configuration> (repeatable), --list, and any part of a file name to run only those files.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { add, capture, line, root, runAll, runVitest, testFiles } from './counts.mjs';

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

// Longest first, so that two processes end together.
const configurations = [
  { name: 'host', files: chosen.filter((file) => !isDevice(file) && !isPackage(file)), env: {} },
  { name: 'cuda/emulated', files: deviceFiles, env: { LIMBECK_TEST_DEVICE: 'cuda', LIMBECK_EMULATE_CUDA: '1' } },
  { name: 'cuda', files: deviceFiles, env: { LIMBECK_TEST_DEVICE: 'cuda' }, isAbsent: !hasCuda },
  ...info.instructionSets.map((name) => ({
    name: `cpu/${name}`,
    files: deviceFiles,
    env: { LIMBECK_TEST_DEVICE: 'cpu', LIMBECK_ISA: name },
  })),
  { name: 'package', files: chosen.filter(isPackage), env: {} },
  { name: 'lanes', run: runLanes },
];

async function runLanes() {
  const program = path.join(root, 'build/Release/limbeck_lanes_test');
  if (!existsSync(program)) return { passed: 0, failed: 1, skipped: 0, output: `${program} was not built` };
  const { output, status } = await capture(program, []);
  const counts = /(\d+) passed, (\d+) failed(?:, (\d+) skipped)?/.exec(output);
  if (!counts) return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0, output };
  const failed = Number(counts[2]);
  return { passed: Number(counts[1]), failed: status !== 0 && failed === 0 ? 1 : failed, skipped: Number(counts[3] ?? 0), output };
}

const wanted = configurations.filter(
  ({ name, files, run }) => (values.only ? values.only.includes(name) : true) && (run ? positionals.length === 0 : files.length > 0),
);
if (values.list) {
  for (const { name, files } of wanted) console.log(`${name}${files ? `\t${files.length} files` : ''}`);
} else {
  const jobs = wanted
    .filter(({ isAbsent }) => !isAbsent)
    .map(({ name, files, env, run }) => ({ name, run: run ?? (() => runVitest(files, env)) }));
  const counts = await runAll(jobs);
  const rows = jobs.map(({ name }, i) => ({ name, counts: counts[i], note: '' }));
  if (wanted.some(({ isAbsent }) => isAbsent)) {
    // The emulated device has run these very cases, so their number is known.
    const twin = rows.find((row) => row.name === 'cuda/emulated')?.counts ?? { passed: 0, failed: 0, skipped: 0 };
    const skipped = twin.passed + twin.failed + twin.skipped;
    rows.push({ name: 'cuda', counts: { passed: 0, failed: 0, skipped }, note: `  (${info.cuda.code}: no CUDA device here)` });
  }
  const total = { passed: 0, failed: 0, skipped: 0 };
  console.log('');
  for (const { name, counts, note } of rows) {
    add(total, counts);
    console.log(`${name.padEnd(14)} ${line(counts)}${note}`);
  }
  console.log(line(total));
  process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
}
