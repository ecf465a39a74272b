// limbeck bench as a user runs it, on the CPU and on the emulated device: what is measured, what is skipped, and what the file holds. No time is judged.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BenchReport, BenchTiming } from '../src/bench/losses.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-bench-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function bench(args: string[], environment: NodeJS.ProcessEnv = {}) {
  const json = join(folder, 'bench.json');
  rmSync(json, { force: true });
  const { status, stdout, stderr } = spawnSync(process.execPath, [resolve('dist/cli.js'), 'bench', ...args, '--json', json], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  return { status, stdout, stderr, report: existsSync(json) ? (JSON.parse(readFileSync(json, 'utf8')) as BenchReport) : undefined };
}

const TASKS = [
  'forward_kl, loss and gradient',
  'sparse forward_kl, loss and gradient',
  'sparse forward_kl, loss alone',
  'captureTopK',
  'sampleTarget, with replacement',
  'softmax',
];
const LINEAR = 'linear, sparse forward_kl, gradients';
const DENSE = ['reverse_kl', 'jensen_shannon', 'skew_forward_kl', 'total_variation'].map((name) => `${name}, loss and gradient`);
const emulated = { LIMBECK_EMULATE_CUDA: '1' };
const isEmulatedBuilt = existsSync('build/Release/limbeck_emulated.node');

/** Rates follow from bytes and times, and every line is a row of the table. */
function expectConsistent(report: BenchReport, stdout: string): void {
  for (const line of report.lines as BenchTiming[]) {
    expect(line.milliseconds).toBeGreaterThan(0);
    expect(line.samples).toBeGreaterThanOrEqual(5);
    expect(line.gigabytesPerSecond).toBeCloseTo(line.bytes / line.milliseconds / 1e6, 9);
    expect(line.shareOfCopy).toBeCloseTo(line.gigabytesPerSecond / report.copyGigabytesPerSecond, 9);
    const behind = line.task === LINEAR ? '  \\d+ inputs, .* .FLOP/s, scratch [\\d.]+ (bytes|[kMG]B)' : '';
    expect(stdout).toMatch(new RegExp(`^${line.task} +${line.dtype} +${line.rows} +${line.cols} .* \\d+ %${behind}$`, 'm'));
  }
}

describe('limbeck bench', () => {
  it('quick on the CPU: a table and a file of the same numbers', () => {
    const { status, stdout, report } = bench([
      '--device',
      'cpu',
      '--quick',
      '--rows',
      '3',
      '--cols',
      '40,300',
      '--k',
      '5',
      '--seconds',
      '0.001',
    ]);
    expect(status).toBe(0);
    expect(report).toMatchObject({ device: 'cpu', emulated: false, clock: 'host' });
    expect(report!.copyGigabytesPerSecond).toBeGreaterThan(0);
    const wanted = [40, 300].flatMap((cols) =>
      ['bfloat16', 'float32'].flatMap((dtype) => [...TASKS, ...(cols === 40 ? [LINEAR] : [])].map((task) => [task, dtype, cols])),
    );
    expect(report!.lines.map(({ task, dtype, cols }) => [task, dtype, cols])).toEqual(wanted);
    expectConsistent(report!, stdout);
    const bytes = Object.fromEntries(report!.lines.slice(-6).map((line) => [line.task, (line as BenchTiming).bytes]));
    const matrix = 4 * 3 * 300;
    expect(bytes).toEqual({
      'forward_kl, loss and gradient': 3 * matrix + 4 * 3,
      'sparse forward_kl, loss and gradient': 2 * matrix + 8 * 3 * 5 + 8 * 3,
      'sparse forward_kl, loss alone': matrix + 8 * 3 * 5 + 8 * 3,
      captureTopK: matrix + 8 * 3 * 5 + 8 * 3,
      'sampleTarget, with replacement': matrix + 8 * 3 * 50,
      softmax: 2 * matrix,
    });
    // In one chunk: the logits of three rows and little more are made.
    const linear = report!.lines.filter(({ task }) => task === LINEAR) as BenchTiming[];
    for (const { dtype, inputs, flops, scratchBytes, bytes } of linear) {
      const width = dtype === 'float32' ? 4 : 2;
      expect({ inputs, flops }).toEqual({ inputs: 64, flops: 6 * 3 * 40 * 64 });
      expect(bytes).toBe(2 * width * 64 * (3 + 40) + 8 * 3 * 5 + 8 * 3);
      expect(scratchBytes).toBeGreaterThanOrEqual(width * 3 * 40);
      expect(scratchBytes).toBeLessThan(width * 3 * 40 + 200);
    }
    expect(stdout).not.toContain('EMULATED');
  });

  it.skipIf(!isEmulatedBuilt)('on the emulated device: every divergence, times from events, and a word that they mean nothing', () => {
    const { status, stdout, report } = bench(
      ['--device', 'cuda', '--rows', '1', '--cols', '100', '--dtypes', 'float16', '--seconds', '0.001'],
      emulated,
    );
    expect(status).toBe(0);
    expect(report).toMatchObject({ device: 'cuda', emulated: true, clock: 'events' });
    expect(report!.lines.map(({ task }) => task)).toEqual([TASKS[0], ...DENSE, ...TASKS.slice(1), LINEAR]);
    expectConsistent(report!, stdout);
    expect(stdout.match(/EMULATED/g)).toHaveLength(2);
  });

  it.skipIf(!isEmulatedBuilt)('skips what the memory does not hold, and says so', () => {
    const args = ['--device', 'cuda', '--rows', '4096', '--cols', '262144', '--dtypes', 'float32', '--seconds', '0.001'];
    const { status, stdout, report } = bench(args, emulated);
    expect(status).toBe(0);
    expect(report!.lines).toHaveLength(TASKS.length + DENSE.length);
    for (const line of report!.lines)
      expect(line).toMatchObject({ skipped: expect.stringMatching(/^\d+\.0 GiB are needed and 3\.6 GiB are there$/) });
    expect(stdout).toContain('skipped: 12.0 GiB are needed');
  });

  it('refuses what it cannot do before it measures', () => {
    for (const [args, message] of [
      [['--cols', '0'], "argument '0' is invalid. It must be a whole number from 1 to"],
      [['--dtypes', 'float64'], 'It must name float32, bfloat16 or float16'],
      [['--device', 'tpu'], 'It must be auto, cpu, cuda or cuda:<number>'],
    ] as const) {
      const { status, stderr } = bench([...args]);
      expect(status).toBe(2);
      expect(stderr).toContain(message);
    }
    const { status, stderr } = spawnSync(process.execPath, [resolve('dist/cli.js'), 'bench', '--device', 'cpu', '--json', join(folder, 'no', 'x')], { encoding: 'utf8' }); // prettier-ignore
    expect(status).toBe(1);
    expect(stderr).toMatch(/^limbeck: Cannot write .*x: its folder must exist: it does not\n$/);
  });
});
