// The command line as a user meets it: help, info, mistyped names, broken recipes, places that cannot be written.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Progress } from '../src/cli/progress.js';
import type { RunEvent } from '../src/distill/events.js';

const cli = resolve('dist/cli.js');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function limbeck(args: string[], environment: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  });
  return { status, stdout, stderr };
}

/** One line on standard error, no stack. */
function expectOneLine(stderr: string): void {
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^limbeck: /);
}

function recipeFile(change: (recipe: Record<string, never>) => void): string {
  const recipe = JSON.parse(readFileSync('recipes/digits.json', 'utf8')) as Record<string, never>;
  change(recipe);
  const path = join(folder, `recipe-${Math.random().toString(36).slice(2)}.json`);
  writeFileSync(path, JSON.stringify(recipe));
  return path;
}

describe('limbeck info', () => {
  it('reports machine and devices as JSON', () => {
    const { status, stdout } = limbeck(['info', '--json']);
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      limbeck: expect.stringMatching(/^\d+\.\d+\.\d+/),
      node: process.versions.node,
      binary: { loaded: true },
    });
    expect(report.cpu.available).toContain(report.cpu.instructionSet);
    expect(report.cpu.threads).toBeGreaterThan(0);
    expect(report.cpu.matrixProduct).toBeTruthy();
    expect(typeof report.cuda.built).toBe('boolean');
    if (!report.cuda.usable) {
      expect(report.cuda.reason).toBeTruthy();
      expect(report.cuda.code).toMatch(/^[a-z_]+$/);
    }
    expect(report.devices[0]).toMatchObject({ device: 'cpu', usable: true });
  });

  it('says the same in lines', () => {
    const { status, stdout } = limbeck(['info']);
    expect(status).toBe(0);
    for (const word of ['limbeck', 'Node', 'CPU', 'threads', 'matrix products', 'CUDA']) expect(stdout).toContain(word);
  });
});

describe('what is mistyped', () => {
  it.each([
    [['inof'], 'info'],
    [['distil', 'recipes/digits.json'], 'distill'],
    [['distill', 'recipes/digits.json', '--sed', '3'], '--seed'],
    [['info', '--jsn'], '--json'],
  ])('%j names the nearest: %s', (args, near) => {
    const { status, stderr } = limbeck(args);
    expect(status).toBe(2);
    expectOneLine(stderr);
    expect(stderr).toContain(near);
  });

  it.each([
    ['--seed', 'one'],
    ['--epochs', '0'],
    ['--device', 'gpu'],
    ['--threads', '-1'],
  ])('%s %s is refused', (flag, value) => {
    const { status, stderr } = limbeck(['distill', 'recipes/digits.json', flag, value]);
    expect(status).toBe(2);
    expectOneLine(stderr);
    expect(stderr).toContain(flag);
  });

  it('prints help and version', () => {
    const help = limbeck(['--help']);
    expect(help.status).toBe(0);
    expect(help.stdout).toContain('distill');
    expect(limbeck(['--version']).stdout.trim()).toMatch(/^\d+\.\d+\.\d+/);
  });
});

describe('broken recipes', () => {
  it.each<[string, (recipe: never) => void, string]>([
    [
      'a misspelt field',
      (r: { stages: { training: Record<string, unknown> }[] }) => (r.stages[0]!.training['epoch'] = 3),
      'stages[0].training has no field "epoch": did you mean "epochs"?',
    ],
    [
      'a misspelt kind',
      (r: { stages: { kind: string }[] }) => (r.stages[0]!.kind = 'trian'),
      'stages[0].kind must be one of the kinds there are: it is "trian": did you mean "train"?',
    ],
    [
      'a stage that is not there',
      (r: { stages: { from: string }[] }) => (r.stages[1]!.from = 'techer'),
      'stages[1].from must name an earlier train or prune stage: it is "techer", did you mean "teacher"?',
    ],
    [
      'a number out of range',
      (r: { stages: { sparsity: number[] }[] }) => (r.stages[4]!.sparsity = [0.5, 1]),
      'stages[4].sparsity[1] must be < 1: it is 1',
    ],
    ['more classes than there are', (r: { stages: { k: number }[] }) => (r.stages[1]!.k = 11), 'must be at most the 10 classes: it is 11'],
  ])('%s', (_, change, text) => {
    const { status, stderr } = limbeck(['distill', recipeFile(change as never), '--quick', '--out', join(folder, 'broken')]);
    expect(status).toBe(1);
    expectOneLine(stderr);
    expect(stderr).toContain(text);
  });

  it('a file that is not there, and one that is not JSON', () => {
    const absent = limbeck(['distill', join(folder, 'absent.json')]);
    expect(absent.status).toBe(1);
    expectOneLine(absent.stderr);
    const path = join(folder, 'text.json');
    writeFileSync(path, '{ "name": ');
    const broken = limbeck(['distill', path]);
    expect(broken.status).toBe(1);
    expectOneLine(broken.stderr);
    expect(broken.stderr).toContain('it must be JSON');
  });

  it('shows the stack with LIMBECK_DEBUG=1', () => {
    expect(limbeck(['distill', join(folder, 'absent.json')], { LIMBECK_DEBUG: '1' }).stderr).toMatch(/\n\s+at /);
  });
});

describe('where results cannot go', () => {
  it('a folder below a file', () => {
    const file = join(folder, 'a-file');
    writeFileSync(file, '');
    const { status, stderr } = limbeck(['distill', 'recipes/digits.json', '--quick', '--out', join(file, 'run')]);
    expect(status).toBe(1);
    expectOneLine(stderr);
    expect(stderr).toContain('part of the path is a file');
  });

  it('a device that is not there', () => {
    const { status, stderr } = limbeck([
      'distill',
      'recipes/digits.json',
      '--quick',
      '--device',
      'cuda:99',
      '--out',
      join(folder, 'no-device'),
    ]);
    expect(status).toBe(1);
    expectOneLine(stderr);
  });
});

describe('progress', () => {
  const unit = { key: 'a', title: 'Student, seed 1', seed: 1, steps: 100 };
  const events: RunEvent[] = [
    {
      type: 'start',
      recipe: { name: 'x' } as never,
      units: [unit],
      finished: 0,
      device: 'cpu',
      reason: 'it was asked for',
      folder: 'runs/x',
      trainRows: 10,
      testRows: 5,
    },
    { type: 'unit', index: 0, unit, step: 0 },
    ...Array.from({ length: 50 }, (_, i): RunEvent => ({ type: 'step', index: 0, step: i + 1, rows: 10, loss: 0.5 })),
    { type: 'epoch', index: 0, epoch: 1, epochs: 2, loss: 0.5, accuracy: 0.9, nll: 0.3 },
  ];

  function shown(isTTY: boolean, columns: number): string {
    let text = '';
    let time = 0;
    const progress = new Progress({ write: (part: string) => (text += part), isTTY, columns }, () => (time += 100), {});
    for (const event of events) progress.listen(event);
    progress.clear();
    return text;
  }

  it('draws a line with rate and time left that fits the terminal', () => {
    for (const columns of [40, 80, 200]) {
      const text = shown(true, columns);

      const frames = text.split('\r').map((frame) => frame.replaceAll(/\u001b\[[0-9;]*[A-Za-z]/g, ''));
      for (const frame of frames.slice(1)) expect(frame.split('\n')[0]!.length).toBeLessThanOrEqual(columns);
      if (columns >= 80) {
        expect(text).toContain('rows/s');
        expect(text).toMatch(/\d:\d\d left/);
      }
    }
  });

  it('writes plain lines into a pipe', () => {
    const text = shown(false, 80);
    expect(text).not.toMatch(/[\r\u001b]/);
    expect(text).toContain('epoch 1/2');
    expect(text).toContain('rows/s');
  });
});
