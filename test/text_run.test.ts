// A run on text: teachers recorded to folders, students of those folders, stopped anywhere and resumed.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkRecipe, loadRecipe, overrideRecipe, type Recipe } from '../src/distill/recipe.js';
import type { Results } from '../src/distill/results.js';
import { Interrupted, runRecipe } from '../src/distill/run.js';
import { readTokenizer } from '../src/text/index.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-text-run-'));
  // A language of its own: two kinds of sentences in two domains.
  for (const [domain, verb] of [
    ['ask', 'asks'],
    ['tell', 'tells'],
  ] as const) {
    mkdirSync(join(folder, 'corpus', domain), { recursive: true });
    const lines = Array.from(
      { length: 1500 },
      (_, i) => `the ${['cat', 'dog', 'hen', 'fox'][(i * 7) % 4]} ${verb} number ${(i * 37) % 1009} of ${(i * 11) % 13}\n`,
    );
    writeFileSync(join(folder, 'corpus', domain, 'a.txt'), lines.join('\n'));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const training = (steps: number) => ({
  steps,
  batchSize: 8,
  points: 2,
  optimizer: { kind: 'adamw', learningRate: 0.01 },
  schedule: { kind: 'cosine', warmup: 0.1 },
});

function recipe(): Promise<Recipe> {
  const student = (name: string, target: object) => ({ kind: 'train', name, model: 'student', target, training: training(20) });
  return checkRecipe({
    name: 'small-text',
    repeats: 1,
    teacher: 'teacher',
    data: { format: 'text', corpus: join(folder, 'corpus'), vocabulary: 320, context: 16, trainTokens: 6400, testTokens: 1600 },
    models: {
      teacher: { kind: 'gpt', layers: 1, heads: 2, width: 16 },
      student: { kind: 'gpt', layers: 1, heads: 1, width: 8 },
    },
    stages: [
      { kind: 'train', name: 'teacher', once: true, model: 'teacher', target: { kind: 'labels' }, training: training(60) },
      { kind: 'capture', name: 'best', from: 'teacher', k: 4, temperature: 2 },
      { kind: 'capture', name: 'race', from: 'teacher', sample: { draws: 6, method: 'race' } },
      { kind: 'capture', name: 'words', from: 'teacher', access: 'text' },
      student('of-best', { kind: 'captured', from: 'best', residual: 'tail_bucket', hardWeight: 0.5 }),
      student('of-race', { kind: 'captured', from: 'race' }),
      student('of-words', { kind: 'captured', from: 'words' }),
    ],
    checks: [
      {
        says: 'words take less than the best',
        value: { stage: 'words', metric: 'bytesPerRow' },
        is: '<',
        than: { stage: 'best', metric: 'bytesPerRow' },
      },
      {
        says: 'three students are as near to the teacher as itself',
        value: { stage: 'of-words', metric: 'klToTeacher' },
        is: '<',
        than: 0,
      },
    ],
  });
}

const numbers = (results: Results): string =>
  JSON.stringify([results.models, results.captures, results.checks], (key, value: unknown) => (key === 'seconds' ? undefined : value));

describe('a run on text', () => {
  let whole: Results;

  it('records, learns from the recordings, and says what a token costs', async () => {
    const out = join(folder, 'whole');
    const { results } = await runRecipe(await recipe(), { folder: out });
    whole = results;
    expect(results.captures.map(({ stage, k, rows, sample, access }) => [stage, k, rows, sample, access])).toEqual([
      ['best', 4, 6400, undefined, 'full'],
      ['race', 6, 6400, 'race', 'full'],
      ['words', 1, 6400, 'with_replacement', 'text'],
    ]);
    for (const { file, bytes, rows, bytesPerRow } of results.captures) {
      expect(readdirSync(join(out, file))).toEqual(['shard-00000.targets']);
      expect(bytesPerRow).toBeCloseTo(bytes / rows, 12);
    }
    expect(readTokenizer(join(out, 'tokenizer.json')).size).toBe(320);
    const teacher = results.models[0]!.evaluation;
    expect(teacher.nll).toBeLessThan(Math.log(320) - 1.5);
    expect(teacher.bitsPerByte).toBeGreaterThan(0);
    for (const { stage, evaluation } of results.models.slice(1)) {
      expect(evaluation.klToTeacher, stage).toBeGreaterThan(0);
      expect(evaluation.nll, stage).toBeLessThan(Math.log(320));
    }
    // A check that must fail does.
    expect(results.checks!.map(({ passed }) => passed)).toEqual([true, false]);
    expect(existsSync(join(out, 'report.html'))).toBe(true);
  });

  it('is stopped while it learns, and resumed with the same numbers', async () => {
    const out = join(folder, 'resumed');
    const stops = [
      { index: 0, step: 33 },
      { index: 4, step: 7 },
      { index: 6, step: 19 },
    ];
    for (let sittings = 0; ; sittings++) {
      expect(sittings).toBeLessThan(10);
      const controller = new AbortController();
      const stop = stops[sittings];
      try {
        const { results } = await runRecipe(await recipe(), {
          folder: out,
          resume: sittings > 0,
          signal: controller.signal,
          listen: (event) => {
            if (stop && event.type === 'step' && event.index === stop.index && event.step >= stop.step) controller.abort();
          },
        });
        expect(numbers(results)).toBe(numbers(whole));
        expect(sittings).toBe(stops.length);
        return;
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
      }
    }
  });
});

describe('recipes on text', () => {
  it.each(['sampled-vs-topk', 'black-box', 'adaspec', 'adakd'])('%s is legal in both sizes, and says what it shows', async (name) => {
    const full = await loadRecipe(resolve(`recipes/${name}.json`));
    expect(full.name).toBe(name);
    expect(full.paper?.id).toMatch(/^arXiv:\d{4}\.\d{5}$/);
    expect(full.shows).toBeTruthy();
    expect(full.checks!.length).toBeGreaterThan(3);
    const quick = await checkRecipe(overrideRecipe(full, { quick: true }));
    const steps = (recipe: Recipe) =>
      recipe.stages.reduce((sum, stage) => sum + ('training' in stage ? (stage.training.steps ?? 0) * stage.training.batchSize : 0), 0);
    expect(quick.repeats).toBeLessThanOrEqual(full.repeats);
    expect(steps(quick)).toBeLessThan(steps(full));
  });
});
