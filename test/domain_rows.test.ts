// Rows drawn by domain in a stage: what is set aside is never drawn, weights follow DDK's rule, and all of it goes on from its state.
import { describe, expect, it } from 'vitest';
import { DomainRows } from '../src/distill/domain_rows.js';
import { checkRecipe, runRecipe, type DataSource, type RecipeData } from '../src/distill/index.js';
import { nn, softmax, tensor, type Tensor } from '../src/index.js';

const rows = 60;
const cols = 3;
/** A third of the rows belong to 'rare'. */
const domainOf = Uint8Array.from({ length: rows }, (_, row) => (row % 3 === 0 ? 1 : 0));
const labelOf = (row: number) => (row * 7) % cols;
const inputOf = (chosen: Int32Array) =>
  tensor(
    Float32Array.from({ length: 2 * chosen.length }, (_, i) => Math.sin(2 * chosen[i >> 1]! + (i & 1))),
    { shape: [chosen.length, 2] },
  );
const source: DataSource = {
  kind: 'custom',
  trainRows: rows,
  testRows: 6,
  rowsEach: 1,
  cols,
  inputShape: [2],
  domains: ['common', 'rare'],
  trainDomains: domainOf,
  testDomains: Uint8Array.from([0, 1, 0, 1, 0, 1]),
  batch: (chosen) => ({ input: inputOf(chosen), labels: Int32Array.from(chosen, labelOf) }),
  test: (from, count) => {
    const chosen = Int32Array.from({ length: count }, (_, i) => from + i);
    return { input: inputOf(chosen), labels: Int32Array.from(chosen, labelOf) };
  },
  dispose: () => undefined,
};
const aside = [0, 1].map((domain) => Array.from({ length: rows }, (_, row) => row).filter((row) => domainOf[row] === domain).slice(-4)); // prettier-ignore
const spec = { every: 5, alpha: 0.8, rows: 4 };
const taught = new nn.MLP({ inputs: 2, hidden: [4], outputs: cols, seed: 3 });
const make = () => new DomainRows({ source, spec, seed: 9, teacher: (input) => ({ logits: taught.forward(input), features: [] }) });

/** e^mean(−ln q(label)) over the rows of a domain that are set aside, in double. */
function perplexity(model: { forward(x: Tensor): Tensor }, domain: number): number {
  const chosen = Int32Array.from(aside[domain]!);
  const q = softmax(model.forward(inputOf(chosen))).data as Float32Array;
  return Math.exp(-chosen.reduce((sum, row, i) => sum + Math.log(q[i * cols + labelOf(row)]!), 0) / chosen.length);
}

describe('rows by domain', () => {
  it('the last of each domain are never drawn, all others are, by their shares', () => {
    const drawn = make();
    const seen = new Set<number>();
    let rare = 0;
    for (let i = 0; i < 50; i++) {
      for (const row of drawn.draw(8)) {
        seen.add(row);
        rare += domainOf[row]!;
      }
    }
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: rows }, (_, row) => row).filter((row) => !aside.flat().includes(row))); // prettier-ignore
    expect(rare / 400).toBeGreaterThan(0.22);
    expect(rare / 400).toBeLessThan(0.4);
  });

  it('weights follow the ratio of perplexities, and a state goes on', () => {
    const one = make();
    const student = new nn.MLP({ inputs: 2, hidden: [3], outputs: cols, dropout: 0.5, seed: 4 });
    one.draw(13);
    const r = [36 / 52, 16 / 52];
    const { weights, student: found, teacher } = one.measure(student);
    expect(student.training).toBe(true);
    student.eval();
    const ratios = [0, 1].map((domain) => perplexity(student, domain) / perplexity(taught, domain));
    const psi = ratios.map((ratio, d) => r[d]! * Math.exp(ratio));
    ['common', 'rare'].forEach((name, d) => {
      expect(found[name]).toBeCloseTo(perplexity(student, d), 5);
      expect(teacher[name]).toBeCloseTo(perplexity(taught, d), 5);
      expect(weights[name]).toBeCloseTo((0.8 * psi[d]!) / (psi[0]! + psi[1]!) + 0.2 / 2, 6);
    });
    expect([0, 4, 5, 6, 10].map((step) => one.isDue(step))).toEqual([false, false, true, false, true]);
    const two = make();
    two.restore(JSON.parse(JSON.stringify(one.state())) as ReturnType<DomainRows['state']>);
    expect(two.numbers()).toEqual(one.numbers());
    expect([...two.draw(30)]).toEqual([...one.draw(30)]);
  });
});

describe('what is refused of a recipe', () => {
  const training = (domains?: object) => ({ steps: 2, batchSize: 4, optimizer: { kind: 'sgd', learningRate: 0.1 }, ...(domains ? { domains } : {}) }); // prettier-ignore
  const recipe = (domains: object, more: object = {}): RecipeData => ({
    name: 'domains',
    repeats: 1,
    data: { format: 'custom', name: 'points' },
    models: { m: { hidden: [4] } },
    stages: [
      { kind: 'train', name: 'teacher', model: 'm', target: { kind: 'labels' }, training: training() },
      { kind: 'train', name: 'kd', model: 'm', target: { kind: 'teacher', from: 'teacher' }, training: training(domains) },
    ],
    ...more,
  });
  it.each<[string, RecipeData, string]>([
    ['pictures', recipe({ every: 1 }, { data: { format: 'mnist' } }), 'stages[1].training.domains must be left out where the data have no domains'],
    ['no teacher before it', recipe({ every: 1, teacher: 'kd' }), 'stages[1].training.domains.teacher must name an earlier train, prune, recursion or mutual stage: it is "kd"'],
    ['a misspelt field', recipe({ every: 1, alfa: 1 }), 'has no field "alfa": did you mean "alpha"?'],
    ['weights of 0', recipe({ every: 1, weights: { rare: 0 } }), 'must give at least one domain a weight above 0'],
  ])('%s', async (_, data, text) => {
    await expect(checkRecipe(data)).rejects.toThrow(text);
  }); // prettier-ignore

  it.each<[string, RecipeData, string]>([
    ['a domain that is not there', recipe({ every: 1, weights: { rar: 1 } }), 'training.domains.weights of stage "kd" must be of domains: "rar" is none, did you mean "rare"?'],
    ['more rows than there are', recipe({ every: 1, rows: 20 }), 'training.domains.rows of stage "kd" must leave rows of every domain: it is 20, and "rare" has 20 training rows'],
  ])('%s, once the data are known', async (_, data, text) => {
    await expect(runRecipe(data, { folder: 'never/written', custom: { data: { points: () => source } } })).rejects.toThrow(text);
  }); // prettier-ignore
});
