// What the pages are made of: tokens compared with float64, the text page's words, what a sparse target keeps, loss by stage.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KeptCounter } from '../src/cache/summary.js';
import {
  compareTokens,
  loadRecipe,
  overrideRecipe,
  runRecipe,
  textReport,
  type Results,
  type TokenComparison,
} from '../src/distill/index.js';
import {
  captureTopK,
  denseTarget,
  kdLoss,
  loadTargets,
  logSoftmax,
  memory,
  randn,
  sampleTarget,
  softmax,
  tensor,
  type SparseTarget,
} from '../src/index.js';
import { chartData } from '../src/report/chart-data.js';
import { reportPage } from '../src/report/report.js';

const vocabulary = ['a', 'b', 'c', 'd', 'e'];
const tokens = ['b', ' ', '\n', '</script>', 'a'];
const [rows, cols] = [5, 5];
const teacher = () => randn([rows, cols], { seed: 1 });
const student = () => randn([rows, cols], { seed: 2 });

/** softmax(logits / T) of a row, in double. */
function probabilities(logits: ArrayLike<number>, row: number, temperature: number): number[] {
  const z = Array.from({ length: cols }, (_, c) => logits[row * cols + c]! / temperature);
  const sum = z.reduce((all, each) => all + Math.exp(each), 0);
  return z.map((each) => Math.exp(each) / sum);
}

describe('compareTokens', () => {
  it.each([1, 2])('forward KL and both choices, temperature %i', (temperature) => {
    const [u, z] = [teacher(), student()];
    const found = compareTokens({ tokens, teacher: u, student: z, vocabulary, temperature });
    expect(found.map(({ token }) => token)).toEqual(tokens);
    for (let r = 0; r < rows; r++) {
      const [p, q] = [probabilities(u.data, r, temperature), probabilities(z.data, r, temperature)];
      expect(found[r]!.value).toBeCloseTo(
        p.reduce((sum, each, c) => sum + each * Math.log(each / q[c]!), 0),
        5,
      );
      for (const [choice, each] of [
        [found[r]!.teacher!, p],
        [found[r]!.student!, q],
      ] as const) {
        expect(choice.token).toBe(vocabulary[each.indexOf(Math.max(...each))]);
        expect(choice.probability).toBeCloseTo(Math.max(...each), 6);
      }
    }
  });

  it('the same teacher as probabilities, log-probabilities, in half precision, in double and as its best columns', () => {
    const [u, z] = [teacher(), student()];
    const whole = compareTokens({ tokens, teacher: u, student: z, vocabulary });
    const others: [Partial<TokenComparison>, number][] = [
      [{ teacher: denseTarget({ probs: softmax(u) }) }, 5],
      [{ teacher: denseTarget({ logProbs: logSoftmax(u) }) }, 5],
      [{ teacher: u.cast('float16') }, 2],
      [{ teacher: u.cast('float64'), student: z.cast('float64') }, 5],
      [{ teacher: captureTopK(u, cols - 1), residual: 'tail_bucket' }, 5],
    ];
    for (const [change, places] of others) {
      const found = compareTokens({ tokens, teacher: u, student: z, vocabulary, ...change });
      found.forEach((row, r) => {
        expect(row.value).toBeCloseTo(whole[r]!.value, places);
        expect(row.teacher!.token).toBe(whole[r]!.teacher!.token);
        expect(row.teacher!.probability).toBeCloseTo(whole[r]!.teacher!.probability, places);
      });
    }
  });

  it('drawn weights have no choice; a vocabulary may be a function; a captured temperature is taken over', () => {
    const drawn = compareTokens({ tokens, teacher: sampleTarget(teacher(), 8, { seed: 1 }), student: student(), vocabulary });
    expect(drawn.every((row) => row.teacher === undefined && row.student !== undefined)).toBe(true);
    const captured = captureTopK(teacher(), 2, { temperature: 3 });
    const found = compareTokens({ tokens, teacher: captured, student: student(), vocabulary: (id) => `<${id}>`, residual: 'uniform' });
    const q = probabilities(student().data, 0, 3);
    expect(found[0]!.student!.probability).toBeCloseTo(Math.max(...q), 6);
    expect(found[0]!.student!.token).toMatch(/^<\d>$/);
  });

  it('rows of NaN choose nothing, and nothing is left in memory', () => {
    const z = student();
    z.data[0] = NaN;
    const u = teacher();
    const before = memory().cpu.tensors;
    const [first, second] = compareTokens({ tokens, teacher: u, student: z, vocabulary });
    expect(memory().cpu.tensors).toBe(before);
    expect([first!.value, first!.student]).toEqual([NaN, undefined]);
    expect(second!.student).toBeDefined();
  });

  it.each([
    ['tokens must be an array of strings: it is missing', TypeError, { tokens: undefined }],
    ['tokens[1] must be a string: it is 2', TypeError, { tokens: ['a', 2, 'c', 'd', 'e'] }],
    ['student must have a row for each of the 1 tokens: it has 5', RangeError, { tokens: ['a'] }],
    ['vocabulary must have a word for each of the 5 columns: it has 1', RangeError, { vocabulary: ['a'] }],
    ['vocabulary must be an array of strings or a function: it is 3', TypeError, { vocabulary: 3 }],
    ['student must be a Tensor: it is an array of 1', TypeError, { student: [[1]] }],
    ["'temperatur' is not; did you mean 'temperature'?", TypeError, { temperatur: 2 }],
  ])('%s', (text, kind, change) => {
    const call = () => compareTokens({ tokens, teacher: teacher(), student: student(), vocabulary, ...change } as TokenComparison);
    expect(call).toThrow(kind);
    expect(call).toThrow(text);
  });
});

describe('textReport', () => {
  it('compares, and carries the text unharmed', async () => {
    const html = await textReport({ title: '1 < 2', tokens, teacher: teacher(), student: student(), vocabulary, divergence: 'reverse_kl' });
    expect(html).toContain('<h1>1 &lt; 2</h1>');
    expect(html).toContain('reverse KL');
    expect(html).toContain('&lt;/script&gt;</span>');
    expect(html).toContain('>⏎<br></span>');
    expect(html.match(/<\/script>/g)).toHaveLength(2);
    expect(html.match(/role="option"/g)).toHaveLength(rows);
  });

  it('numbers of one’s own: infinite and NaN are shown as what they are, and not averaged', async () => {
    const values = [1, 3, Infinity, NaN, -1];
    const html = await textReport({ measure: 'gain', rows: values.map((value, i) => ({ token: tokens[i]!, value })) });
    expect(html).toContain('5, 2 of them with a value that is not finite');
    expect(html).toContain('mean 1.000, median 1.000, largest 3.000');
    expect(html).toMatch(/class="v4" data-v="∞"/);
    expect(html).toMatch(/class="v4" data-v="NaN"/);
    expect(html).not.toContain('first choices differ');
  });

  it('equal values, and one token, make a page without a plot', async () => {
    expect(await textReport({ rows: [{ token: 'a', value: 0 }] })).not.toContain('<div data-chart');
  });

  it.each([
    ['a text must have from 1 to 20,000 tokens: it has 0', RangeError, { rows: [] }],
    ['a text must have from 1 to 20,000 tokens: it has 20,001', RangeError, { rows: Array(20_001).fill({ token: 'a', value: 0 }) }],
    ["rows[0].value must be a number: it is '1'", TypeError, { rows: [{ token: 'a', value: '1' }] }],
    ['rows[0].teacher must be { token, probability }: it is an object', TypeError, { rows: [{ token: 'a', value: 1, teacher: {} }] }],
    ['tokens[0] must be a string', TypeError, { rows: [null] }],
    ['title must be a string: it is 1', TypeError, { title: 1, rows: [] }],
    ['options must be among rows', TypeError, { rows: [], tokens: [] }],
    ['must be given: it is missing', TypeError, undefined],
  ])('%s', async (text, kind, options) => {
    const call = textReport(options as never);
    await expect(call).rejects.toThrow(kind);
    await expect(call).rejects.toThrow(text);
  });
});

describe('the report of a run', () => {
  let folder: string;
  let results: Results;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'limbeck-report-'));
    const recipe = overrideRecipe(await loadRecipe(resolve('recipes/digits.json')), { quick: true, epochs: 2 });
    Object.assign(recipe.data, { trainRows: 400, testRows: 200 });
    recipe.repeats = 2;
    ({ results } = await runRecipe(recipe, { folder, recipePath: resolve('recipes/digits.json') }));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('what the sparse target keeps is what is in its file', () => {
    const [capture] = results.captures;
    const target = loadTargets(join(folder, capture!.file)) as SparseTarget;
    const masses = Array.from({ length: capture!.rows }, (_, r) =>
      (target.logProbs!.data as Float32Array).slice(3 * r, 3 * r + 3).reduce((sum, each) => sum + Math.exp(each), 0),
    );
    const { keptMass, entropy, entries } = capture!.kept!;
    expect(keptMass.mean).toBeCloseTo(masses.reduce((sum, each) => sum + each, 0) / masses.length, 6);
    expect(keptMass.mean).toBeCloseTo(1 - capture!.meanTail, 5);
    expect([keptMass.least, keptMass.largest]).toEqual([Math.min(...masses), Math.max(...masses)]);
    for (const { bins } of [keptMass, entropy, entries]) expect(bins.reduce((sum, bin) => sum + bin, 0)).toBe(400);
    expect(entries).toMatchObject({ mean: 3, bins: [400] });
    const html = readFileSync(join(folder, 'report.html'), 'utf8');
    expect(html).toContain(`<h2>What the sparse target keeps</h2>`);
    expect(html).toContain(`Mean ${keptMass.mean.toFixed(3)}, from`);
  });

  it('a row’s entropy counts the tail as one column', () => {
    const counter = new KeptCounter('log_probs', 2);
    counter.add(0, [4, 7], [Math.log(0.5), Math.log(0.25)], [Math.log(0.25)]);
    expect(counter.spreads().entropy.mean).toBeCloseTo(0.5 * Math.log(2) + 0.5 * Math.log(4), 12);
  });

  it('loss by stage: the stages one after another, each where the one before ended', () => {
    const { loss, starts } = chartData(results);
    const { stages } = results.recipe;
    const trained = stages.filter((stage) => stage.kind !== 'capture');
    expect(starts.map(({ number }) => number)).toEqual(['1', '2', '3', '4a', '4b', '4c', '5']);
    expect(starts[0]!.epoch).toBe(0);
    const [last] = results.models.filter(({ stage }) => stage === 'one-shot');
    expect(Math.max(...loss.map(({ epoch }) => epoch))).toBeCloseTo(starts.at(-1)!.epoch + last!.curve.at(-1)!.epoch, 2);
    expect(starts.map(({ epoch }) => epoch)).toEqual([...starts.map(({ epoch }) => epoch)].sort((a, b) => a - b));
    expect(new Set(loss.map(({ series }) => series)).size).toBe(trained.length);
    const distilled = results.models.filter(({ stage }) => stage === 'distilled').map(({ curve }) => curve[0]!.loss);
    const [first] = loss.filter(({ series }) => series === 'Student, distilled');
    expect([first!.low, first!.high]).toEqual([Math.min(...distilled), Math.max(...distilled)]);
  });

  it('a run of an earlier version, without what its targets keep, still has a page', async () => {
    const earlier = { ...results, captures: results.captures.map((capture) => ({ ...capture, kept: undefined })) };
    const html = await reportPage(earlier);
    expect(html).toContain('<h2>Loss by stage</h2>');
    expect(html).not.toContain('What the sparse target keeps');
  });

  it('kdLoss agrees with the page', () => {
    const [u, z] = [tensor([[0, 1]]), tensor([[1, 0]])];
    const [row] = compareTokens({ tokens: ['a'], teacher: u, student: z, vocabulary: ['a', 'b'], temperature: 2 });
    expect(row!.value).toBe(kdLoss(z, u, { temperature: 2, temperatureSquared: false, reduction: 'none' }).data[0]);
  });
});
