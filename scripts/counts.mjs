// Runs vitest on a list of files and turns its report into counts of passed, failed and skipped cases.
import { spawnSync } from 'node:child_process';
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

export function runVitest(files, env = {}, args = []) {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-test-'));
  const report = path.join(folder, 'report.json');
  try {
    const command = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=dot', '--reporter=json', `--outputFile.json=${report}`];
    const result = spawnSync(process.execPath, [...command, ...args, ...files], {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...env },
    });
    return countReport(report, result.status);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
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
