// Bias and variance over the seeds of a run, and that checks can ask for them.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { distill } from '../src/index.js';

const folder = mkdtempSync(join(tmpdir(), 'limbeck-prune-recipes-'));
afterAll(() => rmSync(folder, { recursive: true }));

const training = { epochs: 1, batchSize: 50, optimizer: { kind: 'adamw', learningRate: 0.01 } };
const target = { kind: 'teacher', from: 'teacher', access: 'probs', temperature: 2 };
const check = (says: string, metric: string, is: string, than: unknown, extra: object = {}) => ({
  says,
  value: { stage: 'pruned', metric, ...extra },
  is,
  than,
});
const recipe = {
  name: 'spread',
  seed: 3,
  repeats: 3,
  data: { format: 'mnist', trainRows: 300, testRows: 120 },
  models: { teacher: { hidden: [12] }, student: { hidden: [6] } },
  stages: [
    { kind: 'train', name: 'teacher', once: true, model: 'teacher', target: { kind: 'labels' }, training },
    { kind: 'train', name: 'dense', model: 'student', target, training },
    { kind: 'prune', name: 'pruned', from: 'dense', sparsity: [0.5, 0.9], target, training: { ...training, epochs: 2 } },
  ],
  checks: [
    check('sums', 'kl', 'within', { stage: 'pruned', metric: 'klToTeacher' }),
    check('level', 'squaredBias', '>', { stage: 'pruned', metric: 'variance', level: 0 }, { level: 0 }),
    check('cannot hold', 'klVariance', '<', 0),
  ].map((each) => (each.is === 'within' ? { ...each, plus: 1e-5 } : each)),
};

describe('a run over several seeds', () => {
  let results: distill.Results;
  beforeAll(async () => {
    ({ results } = await distill.runRecipe(recipe, { folder }));
  }, 60_000);

  it('has bias and variance of every stage and level against the teacher', () => {
    const spreads = results.spreads!;
    expect(spreads.map(({ stage, level, seeds }) => [stage, level, seeds])).toEqual([
      ['dense', undefined, 3],
      ['pruned', 0, 3],
      ['pruned', 1, 3],
    ]);
    for (const { stage, level, kl, klBias, klVariance, squaredBias, variance, squaredError } of spreads) {
      const models = results.models.filter((each) => each.stage === stage && (level === undefined || each.level === level));
      const mean = models.reduce((sum, each) => sum + each.evaluation.klToTeacher! / 3, 0);
      expect(kl).toBeCloseTo(mean, 5);
      expect(klBias + klVariance).toBeCloseTo(kl, 10);
      expect(squaredBias + variance).toBeCloseTo(squaredError, 10);
      expect(variance).toBeGreaterThan(1e-3);
    }
  });

  it('checks can ask for them, and fail', () => {
    const passed = Object.fromEntries(results.checks!.map((each) => [each.says, each.passed]));
    expect(passed).toEqual({ sums: true, level: true, 'cannot hold': false });
  });
});
