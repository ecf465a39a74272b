// Runs of a GPT on text and of a CNN on images, killed in the middle of a stage and gone on with: the same numbers afterwards.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { distil, numbersOf, resultsIn } from './killed.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-killed-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const training = (steps: number, more: object = {}) => ({
  steps,
  batchSize: 8,
  points: 4,
  optimizer: { kind: 'adamw', learningRate: 0.01 },
  ...more,
});
const once = { kind: 'train', name: 'teacher', once: true, model: 'teacher', target: { kind: 'labels' } };
const taught = { kind: 'teacher', from: 'teacher', temperature: 2 };

/** Kills a run when each of the texts was said, goes on to its end, and compares with one that was left alone. */
async function compare(name: string, recipe: object, points: readonly string[]): Promise<string> {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify({ name, seed: 3, repeats: 1, ...recipe }));
  const [whole, parts] = [join(folder, `${name}-whole`), join(folder, `${name}-parts`)];
  const first = await distil(path, whole, []);
  expect(first.code, first.stderr).toBe(0);
  for (const text of points) expect((await distil(path, parts, ['--resume'], text)).code, text).toBe(null);
  expect((await distil(path, parts, ['--resume'])).code).toBe(0);
  expect(numbersOf(resultsIn(parts))).toBe(numbersOf(resultsIn(whole)));
  return parts;
}

describe('after kill −9', () => {
  it('a GPT on text, with dropout, a recording, and rows drawn by domain', { timeout: 120_000 }, async () => {
    for (const [domain, verb] of [['ask', 'asks'], ['tell', 'tells']] as const) {
      mkdirSync(join(folder, 'corpus', domain), { recursive: true });
      const lines = Array.from({ length: domain === 'ask' ? 600 : 1200 }, (_, i) => `the ${['cat', 'dog', 'hen', 'fox'][(i * 7) % 4]} ${verb} number ${(i * 37) % 1009} of ${(i * 11) % 13}\n`);
      writeFileSync(join(folder, 'corpus', domain, 'a.txt'), lines.join('\n'));
    } // prettier-ignore
    const out = await compare(
      'gpt',
      {
        data: { format: 'text', corpus: 'corpus', vocabulary: 300, context: 16, trainTokens: 4800, testTokens: 800 },
        models: {
          teacher: { kind: 'gpt', layers: 1, heads: 2, width: 16, dropout: 0.1 },
          student: { kind: 'gpt', layers: 1, heads: 1, width: 8, dropout: 0.1 },
        },
        stages: [
          { ...once, training: training(40) },
          { kind: 'capture', name: 'drawn', from: 'teacher', sample: { draws: 4 } },
          { kind: 'train', name: 'kd', model: 'student', target: { kind: 'captured', from: 'drawn' }, training: training(24) },
          { kind: 'train', name: 'ddk', from: 'kd', target: taught, training: training(40, { domains: { every: 3, rows: 4, weights: { ask: 1 } } }) },
        ],
        checks: [{ says: 'The other domain is drawn too', value: { stage: 'ddk', metric: 'domain.tell' }, is: '>', than: 0.04 }],
      },
      ['step 20/40', 'step 12/24', 'step 30/40'],
    ); // prettier-ignore
    const log = readFileSync(join(out, 'log.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as { event: string; unit?: string; step?: number; weights?: Record<string, number> }); // prettier-ignore
    const measured = log.filter(({ event }) => event === 'domains');
    // Some steps were taken twice, and measured alike.
    expect(new Set(measured.map(({ step }) => step))).toEqual(new Set([3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39]));
    const byStep = new Map(measured.map(({ step, weights }) => [step, weights]));
    for (const { step, weights } of measured) {
      expect(weights).toEqual(byStep.get(step));
      expect(weights!['ask']! + weights!['tell']!).toBeCloseTo(1, 9);
    }
    const { domains } = resultsIn(out).models.at(-1)!;
    // A domain may have no test rows.
    expect(Object.keys(domains!)).toContain('ask');
    for (const { klToTeacher } of Object.values(domains!)) expect(klToTeacher).toBeGreaterThan(0);
  });

  it('a CNN on moved images, with dropout and pruned channels', { timeout: 120_000 }, async () => {
    await compare(
      'cnn',
      {
        data: { format: 'mnist', trainRows: 320, testRows: 200 },
        models: { teacher: { kind: 'cnn', channels: [4, 6], dropout: 0.2 }, student: { kind: 'cnn', channels: [2, 4], dropout: 0.1 } },
        stages: [
          { ...once, training: training(60, { shift: 2 }) },
          { kind: 'train', name: 'kd', model: 'student', target: taught, training: training(80, { shift: 1, ema: { decay: 0.9 } }) },
          { kind: 'prune', name: 'thin', from: 'kd', structure: 'channels', sparsity: [0.25, 0.5], target: taught, training: training(80) },
        ],
      },
      ['step 15/60', 'step 50/80'],
    ); // prettier-ignore
  });
});
