// The command line as a user meets it: help, info, mistyped names, broken recipes, places that cannot be written.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { methodsText, oneText, primitivesText, selectMethods } from '../src/cli/methods.js';
import { Progress } from '../src/cli/progress.js';
import type { RunEvent } from '../src/distill/events.js';
import { primitives } from '../src/methods/index.js';

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

describe('limbeck methods', () => {
  it('lists both lists whole into a pipe, one row a line, nothing cut', () => {
    const { status, stdout } = limbeck(['methods']);
    expect(status).toBe(0);
    expect(stdout).not.toContain('…');
    expect(stdout).not.toMatch(/\u001b/);
    const rows = stdout.split('\n').filter((line) => /^[AB]\d/.test(line));
    expect(rows).toHaveLength(247);
    expect(stdout).toContain('List A: 41 papers. List B: 215 entries in 206 rows, and 218 in 14 groups: 433 entries.');
    const [, ...counts] = /247 methods: (\d+) run here, (\d+) in part, (\d+) not yet, (\d+) need none/.exec(stdout)!;
    expect(counts.map(Number).reduce((a, b) => a + b)).toBe(247);
  });

  it('narrows down by primitive, list, what runs and words', () => {
    const found = (...args: string[]) =>
      JSON.parse(limbeck(['methods', ...args, '--json']).stdout) as {
        methods: { name: string; list: string; runs: string; primitives: string[] }[];
        counts: Record<string, number>;
      };
    for (const { primitives } of found('--primitive', 'rkl').methods) expect(primitives).toContain('RKL');
    const papers = found('--list', 'A');
    expect(papers.methods).toHaveLength(41);
    for (const runs of ['yes', 'partly', 'no', 'outside']) {
      const { methods, counts } = found('--list', 'A', '--runs', runs);
      expect(methods).toHaveLength(papers.counts[runs]!);
      expect(counts[runs]).toBe(methods.length);
    }
    expect(found('speculative', 'decoding').methods.map(({ name }) => name)).toContain('TempSpec');
  });

  it.each([
    [['TAID'], 'TAID, 2025 (list A, entry 27)', 'INTERP'],
    [['B130'], 'Sparse Logit Sampling (RS-KD), 2025', "sampleTarget(teacherLogits, draws, { method: 'race', seed })"],
    [['hinton', 'kd'], 'Hinton KD, 2015 (list B, entry 7)', 'crossEntropy(student, labels)'],
    [['b94'], 'Minitron', 'entries 92,94–97'],
    [['IS'], 'IS', 'runs here'],
  ])('%j shows one in full, with the calls', (words, ...texts) => {
    const { status, stdout } = limbeck(['methods', ...words]);
    expect(status).toBe(0);
    for (const text of texts) expect(stdout).toContain(text);
    expect(stdout.split('\n').length).toBeLessThan(50);
  });

  it('lists the primitives', () => {
    const { status, stdout } = limbeck(['methods', '--primitives']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^FKL +yes +122 /m);
    expect(JSON.parse(limbeck(['methods', '--primitives', '--json']).stdout)).toHaveLength(27);
  });

  it.each([
    [['methods', 'Hintn'], 1, "did you mean 'Hinton'"],
    [['methods', '--primitive', 'RKLL'], 1, "did you mean 'RKL'"],
    [['methods', '--runs', 'maybe'], 2, '--runs'],
    [['methods', 'TAID', '--primitives'], 1, '--primitives'],
  ])('%j is refused', (args, code, text) => {
    const { status, stderr } = limbeck(args);
    expect(status).toBe(code);
    expectOneLine(stderr);
    expect(stderr).toContain(text);
  });

  it('fits every terminal, and gives up columns from the right', () => {
    const all = selectMethods([], {});
    const calls = new Set(primitives.flatMap((primitive) => primitive.calls));
    for (const columns of [40, 60, 80, 100, 132, 200]) {
      for (const text of [methodsText(all, columns), primitivesText(columns)])
        for (const line of text.split('\n')) expect([...line].length, line).toBeLessThanOrEqual(columns);
      for (const method of all.methods)
        for (const line of oneText(method, columns).split('\n'))
          if (!calls.has(line.trim())) expect([...line].length, line).toBeLessThanOrEqual(columns);
    }
    expect(methodsText(all, 60)).not.toContain('what is distilled');
    expect(methodsText(all, 120)).toContain('what is distilled');
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
      'stages[1].from must name an earlier train, prune, recursion or mutual stage: it is "techer", did you mean "teacher"?',
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
