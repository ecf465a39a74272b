// Runs vitest on a list of files and turns its report into counts of passed, failed and skipped cases.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

export function testFiles() {
  return readdirSync(path.join(root, 'test'), { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => path.join('test', name))
    .sort();
}

export function line(counts) {
  return `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
}

export function add(total, counts) {
  for (const key of ['passed', 'failed', 'skipped']) total[key] += counts[key];
  return total;
}

// Output that is held back until a program ends has lost its terminal.
const plain = { NO_COLOR: '1', FORCE_COLOR: undefined };

/** Runs a program and gives its output and exit code when it ends. */
export function capture(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...plain, ...env } });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.on('error', (error) => resolve({ output: `${output}${error.message}\n`, status: 1 }));
    child.on('close', (status, signal) => resolve({ output: signal ? `${output}ended by ${signal}\n` : output, status }));
  });
}

export async function runVitest(files, env = {}, args = []) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-test-'));
  const report = path.join(folder, 'report.json');
  try {
    const command = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const { output, status } = await capture(process.execPath, [...command, ...args, ...files], env);
    return { ...countReport(report, status), output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs jobs, as many at a time as half the processors and at least two where there are two, and prints each one's output when it ends. */
export async function runAll(jobs) {
  const results = jobs.map(() => undefined);
  const atOnce = Math.min(os.availableParallelism(), Math.max(2, Math.floor(os.availableParallelism() / 2)));
  let next = 0;
  const lane = async () => {
    while (next < jobs.length) {
      const i = next++;
      const started = performance.now();
      const { output, ...counts } = await jobs[i].run();
      results[i] = counts;
      console.log(`\n--- ${jobs[i].name}, ${((performance.now() - started) / 1000).toFixed(0)} s: ${line(counts)}\n${output.trim()}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return results;
}

function countReport(file, status) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  let report;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return { ...counts, failed: 1 };
  }
  for (const suite of report.testResults) {
    const before = counts.failed;
    for (const test of suite.assertionResults) {
      if (test.status === 'passed') counts.passed += 1;
      else if (test.status === 'failed') counts.failed += 1;
      else counts.skipped += 1;
    }
    // A file that could not be loaded, or whose process died, has no failing case of its own.
    if (suite.status === 'failed' && counts.failed === before) counts.failed += 1;
  }
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}
