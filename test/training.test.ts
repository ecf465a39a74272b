// Distillation as a whole: recipes, metrics, pruning, a run that is interrupted and resumed.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inputTensor, loadData, movedRows, shiftedBatches } from '../src/distill/data.js';
import { parseIdx, readIdx } from '../src/distill/idx.js';
import { agreement, evaluateLogits, meanAndDeviation, predictions } from '../src/distill/metrics.js';
import { magnitudeMasks } from '../src/prune/masks.js';
import { checkRecipe, loadRecipe, overrideRecipe, type Recipe } from '../src/distill/recipe.js';
import type { RunEvent } from '../src/distill/events.js';
import type { Results } from '../src/distill/results.js';
import { Interrupted, runRecipe } from '../src/distill/run.js';
import { compare } from '../src/report/findings.js';
import { schedule } from '../src/optim/index.js';
import { readSafetensors } from '../src/safetensors.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-training-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const digits = resolve('recipes/digits.json');

/** The demo at the size of a test. */
async function smallRecipe(): Promise<Recipe> {
  const recipe = overrideRecipe(await loadRecipe(digits), { quick: true, epochs: 2 });
  recipe.repeats = 2;
  Object.assign(recipe.data, { trainRows: 600, testRows: 300 });
  return recipe;
}

/** All numbers of a run that do not measure time. */
function numbers(results: Results): string {
  return JSON.stringify([results.models, results.captures, results.gallery], (key, value: unknown) =>
    key === 'seconds' ? undefined : value,
  );
}

describe('metrics', () => {
  const logits = Float32Array.from([2, 0, 0, 1, 0, 3, 0, 0]);
  const labels = [0, 1, 1, 1];

  it('accuracy, NLL and ECE follow their formulas', () => {
    const { accuracy, nll, ece, bins } = evaluateLogits(logits, labels, 2);
    expect(accuracy).toBe(0.75);
    const p = (z: number) => 1 / (1 + Math.exp(-z));
    const losses = [-Math.log(p(2)), -Math.log(p(1)), -Math.log(p(3)), -Math.log(0.5)];
    expect(nll).toBeCloseTo(losses.reduce((a, b) => a + b) / 4, 6);
    // Confidences 0.881, 0.731, 0.953 and 0.5, each in a bin of its own; the last row is a tie and goes to class 0.
    expect(ece).toBeCloseTo((1 - p(2) + (1 - p(1)) + (1 - p(3)) + 0.5) / 4, 6);
    expect(bins).toHaveLength(15);
    expect(bins.reduce((sum, bin) => sum + bin.count, 0)).toBe(4);
  });

  it('predictions take the lowest class on ties', () => {
    expect([...predictions(logits, 2)]).toEqual([0, 1, 1, 0]);
    expect(agreement([1, 2, 3], [1, 0, 3])).toBeCloseTo(2 / 3);
    expect(() => agreement([1], [1, 2])).toThrow(RangeError);
  });

  it('mean and deviation', () => {
    expect(meanAndDeviation([1, 2, 3])).toEqual({ mean: 2, deviation: 1 });
    expect(meanAndDeviation([5]).deviation).toBe(0);
  });
});

describe('magnitude pruning', () => {
  it('keeps the largest over all layers, exactly as many as asked', () => {
    const weights = [Float32Array.from([0.1, -5, 0.3, 4]), Float32Array.from([-0.2, 3, 0, 0.1])];
    const masks = magnitudeMasks(weights, 0.5);
    expect(masks.map((m) => [...m])).toEqual([
      [0, 1, 1, 1],
      [0, 1, 0, 0],
    ]);
  });

  it('counts exactly where weights tie, and keeps what was pruned pruned', () => {
    const weights = [new Float32Array(1000).fill(1)];
    const first = magnitudeMasks(weights, 0.5);
    const zeros = (mask: Float32Array) => mask.reduce((n, v) => n + (v === 0 ? 1 : 0), 0);
    expect(zeros(first[0]!)).toBe(500);
    const second = magnitudeMasks(weights, 0.875, first);
    expect(zeros(second[0]!)).toBe(875);
    second[0]!.forEach((v, i) => expect(first[0]![i] === 0 && v === 1).toBe(false));
    expect(() => magnitudeMasks(weights, 1)).toThrow(RangeError);
    expect(() => magnitudeMasks(weights, NaN)).toThrow(RangeError);
  });
});

describe('IDX files', () => {
  const file = Uint8Array.from([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);

  it('reads plain and gzipped files', async () => {
    expect(parseIdx(file)).toEqual({ shape: [2, 3], data: Uint8Array.from([1, 2, 3, 4, 5, 6]) });
    writeFileSync(join(folder, 'x.gz'), gzipSync(file));
    expect((await readIdx(join(folder, 'x'))).shape).toEqual([2, 3]);
  });

  it.each([
    ['truncated', file.subarray(0, 17), 'must have 18 bytes: it has 17'],
    ['empty', new Uint8Array(), 'it has 0 bytes'],
    ['of floats', Uint8Array.from([0, 0, 13, 1, 0, 0, 0, 0]), 'must be 00 00 08'],
    ['without its header', Uint8Array.from([0, 0, 8, 3, 0, 0]), 'must hold every dimension'],
  ])('refuses one that is %s', (_, bytes, text) => {
    expect(() => parseIdx(bytes)).toThrow(text);
  });
});

describe('moved images', () => {
  it('keep their pixels, come from the seed alone, and bring background in', async () => {
    const data = await loadData({ format: 'mnist', trainRows: 50, testRows: 10 });
    const rows = Int32Array.from([3, 7, 3]);
    const batches = shiftedBatches(data, 2, 'cpu');
    const first = batches(rows, 5).data;
    expect(batches(rows, 5).data).toEqual(first);
    expect(batches(rows, 6).data).not.toEqual(first);
    const image = (i: number) => [...first.subarray(i * 784, (i + 1) * 784)].sort();
    // A digit of MNIST lies in the middle 20 × 20 pixels: a move by two loses none of it.
    const still = [...shiftedBatches(data, 0, 'cpu')(rows, 5).data.subarray(0, 784)].sort();
    expect(image(0)).toEqual(still);
    expect(image(2)).toEqual(still);
    expect([...shiftedBatches(data, 0, 'cpu')(rows, 1).data]).toEqual([
      ...inputTensor(data, data.train, 'cpu').data.subarray(3 * 784, 4 * 784),
      ...inputTensor(data, data.train, 'cpu').data.subarray(7 * 784, 8 * 784),
      ...inputTensor(data, data.train, 'cpu').data.subarray(3 * 784, 4 * 784),
    ]);
  });

  it('of a capture are moved by seed and row, whatever batch they are in', async () => {
    const data = await loadData({ format: 'mnist', trainRows: 50, testRows: 10 });
    const move = movedRows(data, 2, 'cpu', 5);
    const [a, b] = [move(Int32Array.from([3, 7, 12])).data, move(Int32Array.from([12, 3])).data];
    expect([...b]).toEqual([...a.subarray(2 * 784), ...a.subarray(0, 784)]);
    expect([...movedRows(data, 2, 'cpu', 6)(Int32Array.from([3, 7, 12])).data]).not.toEqual([...a]);
  });

  it('are seen by students of a file as the teacher saw them, pass by pass, also after a stop', async () => {
    const training = (steps: number) => ({ steps, batchSize: 16, points: 4, optimizer: { kind: 'adamw', learningRate: 0.01 } });
    const top = { kind: 'teacher', from: 'teacher', access: 'topk', k: 3, residual: 'uniform', temperature: 2 };
    const parts = [
      { weight: 1, target: { kind: 'captured', from: 'file', residual: 'uniform' } },
      { weight: 1, target: top },
    ];
    const recipe = {
      name: 'moved',
      repeats: 1,
      data: { format: 'mnist', trainRows: 64, testRows: 32 },
      models: { m: { hidden: [8] } },
      stages: [
        { kind: 'train', name: 'teacher', model: 'm', target: { kind: 'labels' }, training: training(12) },
        { kind: 'capture', name: 'file', from: 'teacher', k: 3, temperature: 2, shift: 3, views: 2 },
        { kind: 'train', name: 'student', model: 'm', target: { kind: 'sum', parts }, training: training(16) },
      ],
    };
    const run = (name: string, more: object = {}) => runRecipe(recipe, { folder: join(folder, name), ...more });
    const { results } = await run('moved');
    expect(results.captures[0]).toMatchObject({ rows: 128, moves: { shift: 3, views: 2 } });
    const { curve } = results.models[1]!;
    expect(curve).toHaveLength(4);
    // The file and the teacher, asked about the image that the student sees, say the same in every pass.
    for (const { numbers } of curve) expect(numbers!['0.loss']).toBeCloseTo(numbers!['1.loss']!, 6);
    const controller = new AbortController();
    const listen = (event: RunEvent) => event.type === 'step' && event.index === 2 && event.step === 7 && controller.abort();
    await expect(run('moved-again', { listen, signal: controller.signal })).rejects.toThrow(Interrupted);
    const again = await run('moved-again', { resume: true });
    expect(again.results.models.map(({ evaluation }) => evaluation)).toEqual(results.models.map(({ evaluation }) => evaluation));
  });
});

describe('schedules', () => {
  it('warm up, fall, and end at the floor', () => {
    const cosine = schedule('cosine', { steps: 110, warmupSteps: 10, floor: 0.1 });
    expect(cosine(0)).toBeCloseTo(1 / 11);
    expect(cosine(10)).toBeCloseTo(1);
    expect(cosine(60)).toBeCloseTo(0.55);
    expect(cosine(110)).toBeCloseTo(0.1);
    expect(schedule('linear', { steps: 10 })(5)).toBeCloseTo(0.5);
    expect(schedule('constant', { steps: 10 })(9)).toBe(1);
    expect(() => schedule('step' as never, { steps: 1 })).toThrow(TypeError);
    expect(() => schedule('cosine', { steps: 0 })).toThrow(RangeError);
  });
});

describe('recipes', () => {
  it('the demo is legal, and its defaults are filled in', async () => {
    const recipe = await loadRecipe(digits);
    expect(recipe.stages.map((s) => s.kind)).toEqual(['train', 'capture', 'train', 'train', 'prune', 'prune']);
    expect(recipe.models['student']).toMatchObject({ dropout: 0, inputDropout: 0 });
  });

  it('overrides seed and epochs', async () => {
    const recipe = overrideRecipe(await loadRecipe(digits), { seed: 7, epochs: 3 });
    expect(recipe.seed).toBe(7);
    expect(recipe.stages.every((s) => !('training' in s) || s.training.epochs === 3)).toBe(true);
  });

  const broken: [string, (recipe: Recipe) => unknown, string][] = [
    ['no stages', (r) => delete (r as Partial<Recipe>).stages, 'stages must be given: it is absent'],
    [
      'no models',
      (r) => delete (r as Partial<Recipe>).models,
      'stages[0].model must name one of the models: it is "teacher", there are none',
    ],
    ['an unknown field', (r) => Object.assign(r, { sed: 1 }), 'the recipe has no field "sed": did you mean "seed"?'],
    ['a name that is a path', (r) => (r.name = '../x'), 'name must hold a name'],
    [
      'a model that is not there',
      (r) => Object.assign(r.stages[2]!, { model: 'studnet' }),
      'stages[2].model must name one of the models: it is "studnet", did you mean "student"?',
    ],
    ['two stages of one name', (r) => (r.stages[3]!.name = 'distilled'), 'stages[3].name must differ'],
    [
      'captured targets of moved images',
      (r) => Object.assign((r.stages[2] as { training: object }).training, { shift: 1 }),
      'stages[2].training.shift must be 0 where the target is captured',
    ],
    ['falling sparsity', (r) => Object.assign(r.stages[4]!, { sparsity: [0.5, 0.4] }), 'stages[4].sparsity must rise'],
    [
      'targets made once from a student of each seed',
      (r) => [Object.assign(r.stages[0]!, { once: false }), Object.assign(r.stages[1]!, { once: true })],
      'stages[1].from must name a stage that runs once',
    ],
    [
      'a misspelt residual',
      (r) => Object.assign((r.stages[2] as { target: object }).target, { residual: 'tailbucket' }),
      'did you mean "tail_bucket"?',
    ],
  ];
  it.each(broken)('refuses %s', async (_, change, text) => {
    const recipe = JSON.parse(readFileSync(digits, 'utf8')) as Recipe;
    change(recipe);
    await expect(checkRecipe(recipe, 'x.json')).rejects.toThrow(text);
    await expect(checkRecipe(recipe, 'x.json')).rejects.toThrow(/^Cannot use recipe x.json: /);
  });

  it.each([null, 3, 'x', [], {}])('refuses %j', async (value) => {
    await expect(checkRecipe(value)).rejects.toThrow(TypeError);
  });
});

describe('comparisons in words', () => {
  const models = (stage: string, accuracies: number[]) =>
    accuracies.map((accuracy, i) => ({ stage, seed: i, evaluation: { accuracy, nll: 1, ece: 0, bins: [] } })) as never;

  it('a win needs every seed and twice the standard error', () => {
    const verdict = (a: number[], b: number[]) => compare(models('a', a), models('b', b)).find((c) => c.name === 'accuracy')!.verdict;
    expect(verdict([0.97, 0.971, 0.972], [0.96, 0.961, 0.962])).toBe('wins');
    expect(verdict([0.96, 0.961, 0.962], [0.97, 0.971, 0.972])).toBe('loses');
    expect(verdict([0.97, 0.95, 0.96], [0.96, 0.961, 0.962])).toBe('undecided');
    expect(verdict([0.97], [0.96])).toBe('undecided');
  });
});

describe('a run', () => {
  let whole: Results;

  it('leaves results, checkpoints, targets and a report', async () => {
    const recipe = await smallRecipe();
    const out = join(folder, 'whole');
    const steps = new Map<number, number>();
    const { results, report } = await runRecipe(recipe, {
      folder: out,
      recipePath: digits,
      listen: (e) => e.type === 'step' && steps.set(e.index, (steps.get(e.index) ?? 0) + 1),
    });
    whole = results;
    expect(results.table.map((row) => [row.stage, row.level, row.seeds])).toEqual([
      ['teacher', undefined, 1],
      ['distilled', undefined, 2],
      ['labels', undefined, 2],
      ['staged', 0, 2],
      ['staged', 1, 2],
      ['staged', 2, 2],
      ['one-shot', 0, 2],
    ]);
    const page = readFileSync(report, 'utf8');
    expect(page).not.toMatch(/(src|href)="(?!data:|#)|https?:\/\/(?!www\.w3\.org)[^\s"'`)]*\.(js|css|png|woff)/);
    for (const row of results.table) expect(page).toContain(row.title);
    for (const model of results.models) {
      const { tensors } = readSafetensors(join(out, model.checkpoint));
      let zeros = 0;
      let weights = 0;
      for (const { shape, data } of tensors.values()) {
        if (shape.length !== 2) continue;
        weights += data.length;
        for (const value of data) if (value === 0) zeros++;
      }
      expect(zeros / weights).toBeCloseTo(model.sparsity, 10);
      if (model.kind === 'prune')
        expect(zeros).toBe(Math.round([0.5, 0.75, 0.875][model.stage === 'staged' ? model.level! : 2]! * weights));
      else expect(zeros).toBe(0);
    }
    const unitSteps = [...steps.values()];
    // Staged and one-shot pruning take the same number of steps, and so do both kinds of student.
    expect(new Set(unitSteps.slice(2, 6)).size).toBe(1);
    expect(new Set(unitSteps.slice(6, 10)).size).toBe(1);
    expect(existsSync(join(out, results.captures[0]!.file))).toBe(true);
    expect(readdirSync(join(out, 'checkpoints')).filter((name) => name.includes('progress') || name.startsWith('.'))).toEqual([]);
  });

  it('gives the same numbers again, and others for another seed', async () => {
    const recipe = await smallRecipe();
    const again = await runRecipe(recipe, { folder: join(folder, 'again'), recipePath: digits });
    expect(numbers(again.results)).toBe(numbers(whole));
    recipe.seed = 11;
    recipe.repeats = 1;
    const other = await runRecipe(recipe, { folder: join(folder, 'other'), recipePath: digits });
    expect(other.results.models[0]!.evaluation.nll).not.toBe(whole.models[0]!.evaluation.nll);
  });

  it('is interrupted anywhere and resumed with the same numbers', async () => {
    const recipe = await smallRecipe();
    const out = join(folder, 'resumed');
    // Mid-epoch in the teacher, while capturing, in a student, and in the second level of a pruning stage.
    const stops = [
      { index: 0, step: 7 },
      { index: 1, step: 1 },
      { index: 3, step: 2 },
      { index: 6, step: 5 },
      { index: 9, step: 9 },
    ];
    let sittings = 0;
    for (;;) {
      const controller = new AbortController();
      const stop = stops[sittings];
      sittings++;
      try {
        const { results } = await runRecipe(recipe, {
          folder: out,
          recipePath: digits,
          resume: sittings > 1,
          signal: controller.signal,
          listen: (event) => {
            if (stop && event.type === 'step' && event.index === stop.index && event.step >= stop.step) controller.abort();
          },
        });
        expect(numbers(results)).toBe(numbers(whole));
        break;
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
      }
      expect(sittings).toBeLessThan(10);
    }
    expect(sittings).toBe(stops.length + 1);
  });

  it('does not start over an unfinished run unasked, nor resume with another recipe', async () => {
    const recipe = await smallRecipe();
    const out = join(folder, 'unfinished');
    const controller = new AbortController();
    await expect(
      runRecipe(recipe, {
        folder: out,
        recipePath: digits,
        signal: controller.signal,
        listen: (e) => e.type === 'step' && controller.abort(),
      }),
    ).rejects.toThrow(Interrupted);
    await expect(runRecipe(recipe, { folder: out, recipePath: digits })).rejects.toThrow(/must not hold an unfinished run.*--resume/);
    const other = { ...recipe, seed: 99 };
    await expect(runRecipe(other, { folder: out, recipePath: digits, resume: true })).rejects.toThrow('recipe.seed was 1, is 99');
  });
});

describe('Ctrl-C', () => {
  /** Starts the small demo as a process and sends SIGINT when a text appears. */
  function interrupted(out: string, text: string): Promise<{ code: number | null; stderr: string }> {
    return new Promise((done, fail) => {
      const child = spawn(process.execPath, [resolve('dist/cli.js'), 'distill', digits, '--quick', '--epochs', '4', '--out', out], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let stderr = '';
      let isSent = false;
      child.stderr.setEncoding('utf8').on('data', (part: string) => {
        stderr += part;
        if (!isSent && stderr.includes(text)) {
          isSent = true;
          child.kill('SIGINT');
        }
      });
      child.on('error', fail);
      child.on('close', (code) => done({ code, stderr }));
    });
  }

  it('leaves whole files and says how to go on', async () => {
    const out = join(folder, 'sigint');
    const { code, stderr } = await interrupted(out, 'Student, distilled, seed 1');
    expect(code).toBe(130);
    expect(stderr).toContain('--resume goes on');
    const state = JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')) as { finished: string[]; isComplete: boolean };
    expect(state.finished).toContain('teacher');
    expect(state.isComplete).toBe(false);
    for (const place of ['checkpoints', 'targets']) {
      for (const name of readdirSync(join(out, place))) {
        expect(name).not.toMatch(/^\./);
        readSafetensors(join(out, place, name));
      }
    }
  });
});
