// The pipeline: every kind of stage, checks that can fail, names that are wrong, rules of acceptance, and runs killed anywhere.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crossEntropy, gatherRows, nn, tensor } from '../src/index.js';
import { evaluateChecks, stageValues } from '../src/distill/checks.js';
import {
  checkRecipe,
  Interrupted,
  loadRecipe,
  overrideRecipe,
  runRecipe,
  type CheckSpec,
  type CustomParts,
  type DataSource,
  type ModelResult,
  type RecipeData,
} from '../src/distill/index.js';
import { stageLevels } from '../src/distill/spec.js';
import { readSafetensors } from '../src/safetensors.js';
import { distil, numbersOf, resultsIn } from './killed.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-pipeline-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Points in the plane, each with the class of the third of the circle that it lies in. */
function points(rows: number): DataSource {
  const x = Float32Array.from({ length: 2 * rows }, (_, i) => Math.sin((i + 1) * 12.9898) * 2);
  const labels = Int32Array.from({ length: rows }, (_, i) =>
    Math.floor(((Math.atan2(x[2 * i + 1]!, x[2 * i]!) / Math.PI + 1) / 2) * 2.999),
  );
  const inputs = tensor(x, { shape: [rows, 2] });
  const of = (chosen: Int32Array) => ({
    input: gatherRows(inputs, tensor(chosen)),
    labels: Int32Array.from(chosen, (row) => labels[row]!),
  });
  return {
    kind: 'custom',
    trainRows: rows - 32,
    testRows: 32,
    rowsEach: 1,
    cols: 3,
    inputShape: [2],
    batch: (chosen) => of(chosen),
    test: (from, count) => of(Int32Array.from({ length: count }, (_, i) => rows - 32 + from + i)),
    dispose: () => inputs.dispose(),
  };
}

const custom: CustomParts = { data: { points: () => points(160) } };
const training = (steps: number, more: object = {}) => ({
  steps,
  batchSize: 16,
  points: 2,
  optimizer: { kind: 'adamw', learningRate: 0.02 },
  ...more,
});
const labels = { kind: 'labels' };
const fromTeacher = { kind: 'teacher', from: 'teacher', temperature: 2 };
const teacher = { kind: 'train', name: 'teacher', once: true, model: 'large', target: labels, training: training(60) };

function recipe(stages: object[], more: object = {}): RecipeData {
  return {
    name: 'points',
    seed: 3,
    repeats: 2,
    data: { format: 'custom', name: 'points' },
    models: { large: { hidden: [32], dropout: 0.1 }, small: { hidden: [8] } },
    stages,
    ...more,
  };
}

let runs = 0;
const run = (data: RecipeData, parts: CustomParts = custom) => runRecipe(data, { folder: join(folder, `run-${runs++}`), custom: parts });

const everyKind = recipe(
  [
    teacher,
    { kind: 'train', name: 'kd', model: 'small', target: { ...fromTeacher, hardWeight: 0.2 }, training: training(12, { accumulate: 2, clipNorm: 1, ema: { decay: 0.9 } }) },
    { kind: 'capture', name: 'drawn', from: 'teacher', sample: { draws: 4 }, once: false },
    { kind: 'train', name: 'taid', model: 'small', target: { kind: 'teacher', from: 'teacher', taid: {} }, training: training(10) },
    { kind: 'train', name: 'on', from: 'kd', target: { kind: 'captured', from: 'drawn' }, training: training(8, { optimizer: { kind: 'lion', learningRate: 0.003 } }) },
    { kind: 'prune', name: 'thin', from: 'kd', sparsity: { to: 0.75, levels: 3 }, target: fromTeacher, training: training(9) },
    { kind: 'prune', name: 'few', from: 'teacher', once: false, structure: 'units', method: 'activation', sparsity: [0.25, 0.5], target: fromTeacher, training: training(8) },
    { kind: 'recursion', name: 'again', from: 'kd', generations: 3, anchor: 0.25, target: fromTeacher, training: training(6) },
    { kind: 'mutual', name: 'pair', models: ['small', 'small'], target: { kind: 'sum', parts: [{ weight: 1, target: labels }, { weight: 1, target: { kind: 'teacher', from: 'peers' } }] }, training: training(8) },
  ],
  { repeats: 1 },
); // prettier-ignore

describe('stages', () => {
  it('every kind gives its results, and a stopped run goes on with the same numbers', { timeout: 60_000 }, async () => {
    const { results: whole } = await run(everyKind);
    expect(whole.models.map(({ key }) => key)).toEqual([
      'teacher', 'kd-3', 'taid-3', 'on-3', 'thin-3-level1', 'thin-3-level2', 'thin-3-level3', 'few-3-level1', 'few-3-level2',
      'again-g1-3', 'again-g2-3', 'again-g3-3', 'pair-1-3', 'pair-2-3',
    ]); // prettier-ignore
    const of = (key: string) => whole.models.find((m) => m.key === key)!;
    expect(['thin-3-level1', 'thin-3-level2', 'thin-3-level3'].map((key) => of(key).sparsity)).toEqual([0.525, 0.725, 0.75]);
    // Units are gone from the model, not zero in it.
    expect(of('few-3-level1').parameters).toBe(2 * 24 + 24 + 24 * 3 + 3);
    expect(of('few-3-level2').parameters).toBe(2 * 16 + 16 + 16 * 3 + 3);
    expect(of('few-3-level2').flops).toBeLessThan(of('teacher').flops!);
    expect(of('pair-1-3').evaluation.nll).not.toBe(of('pair-2-3').evaluation.nll);
    expect(whole.captures.map(({ sample, k, once }) => [sample, k, once])).toEqual([['with_replacement', 3, false]]);
    expect(of('teacher').evaluation.klToTeacher).toBeUndefined();
    expect(of('kd-3').evaluation.klToTeacher).toBeGreaterThan(0);

    // Stopped after each of these steps in turn, in one folder: between any two steps of any kind of stage.
    const stops = [[0, 31], [1, 3], [1, 11], [2, 1], [3, 5], [4, 2], [5, 4], [5, 9], [6, 3], [6, 6], [7, 1], [8, 6], [9, 4], [10, 3], [10, 8]]; // prettier-ignore
    const out = join(folder, 'stopped');
    let sittings = 0;
    for (;;) {
      const controller = new AbortController();
      const stop = stops[sittings];
      sittings++;
      try {
        const { results } = await runRecipe(everyKind, {
          folder: out,
          custom,
          resume: sittings > 1,
          signal: controller.signal,
          listen: (event) => {
            if (stop && event.type === 'step' && event.index === stop[0] && event.step >= stop[1]!) controller.abort();
          },
        });
        expect(numbersOf(results)).toBe(numbersOf(whole));
        break;
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
      }
      expect(sittings).toBeLessThan(30);
    }
    expect(sittings).toBe(stops.length + 1);
    const log = readFileSync(join(out, 'log.jsonl'), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as { event: string; unit?: string }); // prettier-ignore
    expect(log.filter(({ event }) => event === 'start')).toHaveLength(sittings);
    expect(log.filter(({ event }) => event === 'model').map(({ unit }) => unit)).toEqual(expect.arrayContaining(['again-g2-3', 'pair-3']));
    expect(log.at(-1)!.event).toBe('end');
  });

  it('batches whose gradients are added up make the step of one large batch', async () => {
    const stage = (name: string, batchSize: number, accumulate: number) => ({ kind: 'train', name, model: 'small', target: labels, training: training(6, { batchSize, accumulate, optimizer: { kind: 'sgd', learningRate: 0.1 } }) }); // prettier-ignore
    const { results } = await run(recipe([stage('whole', 48, 1), stage('parts', 16, 3)], { repeats: 1 }));
    const [whole, parts] = results.models;
    expect(parts!.evaluation.nll).toBeCloseTo(whole!.evaluation.nll, 5);
    expect(parts!.steps).toBe(whole!.steps);
  });

  it('a generation learns from the one before, and the anchor holds it to the teacher', async () => {
    const stage = (name: string, anchor: number) => ({ kind: 'recursion', name, from: 'weak', generations: 3, anchor, model: 'small', target: fromTeacher, training: training(150) }); // prettier-ignore
    const weak = { kind: 'train', name: 'weak', model: 'small', target: labels, training: training(3) };
    const { results } = await run(recipe([teacher, weak, stage('free', 0), stage('held', 0.5)]));
    const kl = (name: string, level: number) => [...stageValues(results, name, 'klToTeacher', level).values()];
    kl('held', -1).forEach((value, i) => expect(value).toBeLessThan(kl('free', -1)[i]! / 2));
    expect(kl('held', 1)).toEqual([...stageValues(results, 'held-g2', 'klToTeacher').values()]);
    expect(results.models.filter(({ of }) => of === 'held').map(({ generation, seed }) => [generation, seed])).toEqual([[1, 3], [2, 3], [3, 3], [1, 4], [2, 4], [3, 4]]); // prettier-ignore
  });

  it('a student that is not accepted leaves the one before in its place', async () => {
    const thin = (name: string, acceptIf: object) => ({ kind: 'prune', name, from: 'kd', sparsity: [0.9], target: fromTeacher, training: training(1), acceptIf }); // prettier-ignore
    const kd = { kind: 'train', name: 'kd', model: 'small', target: fromTeacher, training: training(80) };
    const { results } = await run(
      recipe([
        teacher,
        kd,
        thin('strict', { metric: 'nll', is: '<', than: 'before' }),
        thin('mild', { metric: 'nll', is: '<', than: 'before', times: 1000 }),
        thin('other', { metric: 'klToTeacher', is: '<=', than: { stage: 'kd', metric: 'klToTeacher' }, plus: 100 }),
        { kind: 'train', name: 'on', from: 'strict', target: fromTeacher, training: training(1) },
      ]),
    );
    const of = (name: string) => results.models.filter(({ stage }) => stage === name);
    expect(of('strict').map((m) => m.accepted)).toEqual([false, false]);
    expect(of('strict').map((m) => m.evaluation)).toEqual(of('kd').map((m) => m.evaluation));
    expect(of('strict').map((m) => m.checkpoint)).toEqual(of('kd').map((m) => m.checkpoint));
    for (const { candidate, evaluation } of of('strict')) expect(candidate!.nll).toBeGreaterThan(evaluation.nll);
    expect([...of('mild'), ...of('other')].map((m) => m.accepted)).toEqual([true, true, true, true]);
    expect(of('mild').every((m) => Math.abs(m.sparsity - 0.9) < 1e-9)).toBe(true);
    expect(of('on').every((m) => m.sparsity === 0)).toBe(true);
  });

  it('a schedule of sparsity is spelt out', () => {
    const levels = (sparsity: object) =>
      stageLevels({ structure: 'unstructured', sparsity: sparsity as never }).map((s) => Number(s.toFixed(4)));
    expect(levels({ to: 0.8, levels: 4, curve: 'linear' })).toEqual([0.2, 0.4, 0.6, 0.8]);
    expect(levels({ to: 0.8, levels: 2 })).toEqual([0.7, 0.8]);
    expect(levels({ to: 0.875, levels: 3, curve: 'geometric' })).toEqual([0.5, 0.75, 0.875]);
    expect(stageLevels({ structure: { n: 2, m: 4 } })).toEqual([0.5]);
  });
});

describe('checks', () => {
  const model = (stage: string, seed: number, nll: number, more: Partial<ModelResult> = {}) =>
    ({
      stage,
      key: `${stage}-${seed}`,
      seed,
      once: false,
      evaluation: { nll, accuracy: 1 - nll, ece: 0, bins: [] },
      curve: [],
      ...more,
    }) as unknown as ModelResult;
  const numbersOf = {
    models: [model('a', 1, 0.1), model('a', 2, 0.3), model('b', 1, 0.2), model('b', 2, 0.25), model('teacher', 1, 0.05, { once: true }), model('p', 1, 0.4, { level: 0 }), model('p', 1, 0.6, { level: 1 })],
    captures: [{ stage: 'file', bytes: 1000, once: true } as never],
    probes: [{ stage: 'exact', values: { ratio: 0.74 } } as never],
  }; // prettier-ignore
  const check = (part: Partial<CheckSpec>) => {
    const base = { says: 'x', is: '<', than: 1, times: 1, plus: 0, everySeed: false, sizes: ['full'] } as unknown as CheckSpec;
    return evaluateChecks([{ ...base, ...part }], 'full', numbersOf)[0]!;
  };
  const nll = (stage: string, more: object = {}) => ({ stage, metric: 'nll', ...more }) as CheckSpec['value'];

  it.each<[string, Partial<CheckSpec>, boolean, number]>([
    ['a mean', { value: nll('a'), than: 0.2001 }, true, 0.2],
    ['a mean that is not', { value: nll('a'), than: 0.1999 }, false, 0.2],
    ['the largest', { value: nll('a', { statistic: 'max' }), is: '<=', than: 0.3 }, true, 0.3],
    ['a median', { value: nll('a', { statistic: 'median' }), is: '>=', than: 0.2 }, true, 0.2],
    ['a deviation', { value: nll('a', { statistic: 'deviation' }), is: 'within', than: 0.1414, plus: 1e-4 }, true, Math.SQRT1_2 / 5],
    ['a standard error', { value: nll('a', { statistic: 'error' }), is: 'within', than: 0.1, plus: 1e-9 }, true, 0.1],
    ['another stage, times and plus', { value: nll('a'), is: '<', than: nll('b'), times: 0.8, plus: 0.03 }, true, 0.2],
    ['every seed', { value: nll('a'), than: nll('b'), everySeed: true }, false, 0.3],
    ['every seed against one model for all', { value: nll('a'), is: '>', than: nll('teacher'), everySeed: true }, true, 0.1],
    ['a difference for each seed', { value: nll('a', { minus: { stage: 'b' }, statistic: 'max' }), is: 'within', than: 0.05, plus: 1e-9 }, true, 0.05],
    ['a ratio of two levels', { value: nll('p', { dividedBy: { level: 0 } }), is: 'within', than: 1.5, plus: 1e-9 }, true, 1.5],
    ['an earlier level', { value: nll('p', { level: 0 }), than: 0.41 }, true, 0.4],
    ['a value of a probe', { value: { stage: 'exact', metric: 'ratio' }, than: 0.75 }, true, 0.74],
    ['a number of a capture', { value: { stage: 'file', metric: 'bytes' }, is: '>', than: 2000 }, false, 1000],
  ])('%s', (_, part, passed, value) => {
    const found = check(part);
    expect(found.passed).toBe(passed);
    expect(found.value).toBeCloseTo(value, 9);
  }); // prettier-ignore

  it.each<[string, Partial<CheckSpec>, string]>([
    ['a metric that is misspelt', { value: { stage: 'a', metric: 'acuracy' } }, 'did you mean "accuracy"?'],
    ['a value that the probe has not', { value: { stage: 'exact', metric: 'ration' } }, 'did you mean "ratio"?'],
    ['a stage without a result', { value: nll('none') }, 'stage "none" must have a result'],
    ['a level that is not there', { value: nll('p', { level: 2 }) }, 'from -2 to 1: it is 2'],
    ['a metric that nobody measured', { value: { stage: 'a', metric: 'klToTeacher' } }, 'must have a number "klToTeacher"'],
  ])('%s fails and says so', (_, part, text) => {
    const found = check(part);
    expect(found.passed).toBe(false);
    expect(found.text).toContain(text);
  });

  it('NaN holds of nothing, and a check of the other size is left out', () => {
    const broken = { ...numbersOf, models: [model('a', 1, NaN)] };
    const one = (is: string) =>
      ({ says: 'x', value: nll('a'), is, than: 1, times: 1, plus: 5, everySeed: false, sizes: ['full'] }) as CheckSpec;
    for (const is of ['<', '<=', '>', '>=', 'within']) expect(evaluateChecks([one(is)], 'full', broken)[0]!.passed).toBe(false);
    expect(evaluateChecks([one('<')], 'quick', broken)).toEqual([]);
  });

  it('a run reports the check that was broken on purpose', async () => {
    const stages = [teacher, { kind: 'train', name: 'kd', model: 'small', target: fromTeacher, training: training(60) }];
    const value = { stage: 'kd', metric: 'klToTeacher' };
    const checks = [
      { says: 'The student comes near', value, is: '<', than: 1 },
      { says: 'The student is the teacher', value, is: '<', than: 0 },
    ];
    const { results, report } = await run(recipe(stages, { checks }));
    expect(results.checks!.map(({ passed }) => passed)).toEqual([true, false]);
    expect(results.checks![1]!.text).toMatch(/^klToTeacher of kd 0\.\d+ < 0$/);
    const page = readFileSync(report, 'utf8');
    for (const { says } of checks) expect(page).toContain(says);
  });
});

describe('what is wrong with a recipe', () => {
  const kd = { kind: 'train', name: 'kd', model: 'small', target: fromTeacher, training: training(1) };
  it.each<[string, object[], object, string]>([
    ['a teacher that is misspelt', [teacher, { ...kd, target: { ...fromTeacher, from: 'teachr' } }], {}, 'stages[1].target.from must name an earlier train, prune, recursion or mutual stage: it is "teachr", did you mean "teacher"?'],
    ['a teacher that comes later', [{ ...kd }, teacher], {}, 'stages[0].target.from must name an earlier'],
    ['a student of two origins', [teacher, { ...kd, from: 'teacher' }], {}, 'stages[1] must have either model (a student that starts afresh) or from (one that goes on): it has both'],
    ['neither epochs nor steps', [{ ...teacher, training: { batchSize: 8, optimizer: { kind: 'sgd', learningRate: 1 } } }], {}, 'stages[0].training must have either epochs or steps: it has neither'],
    ['a kind of stage', [{ ...teacher, kind: 'trian' }], {}, 'stages[0].kind must be one of the kinds there are: it is "trian": did you mean "train"?'],
    ['a model of a mutual stage', [{ kind: 'mutual', name: 'm', models: ['small', 'smal'], target: labels, training: training(1) }], {}, 'stages[0].models[1] must name one of the models: it is "smal", did you mean "small"?'],
    ['peers of nobody', [teacher, { ...kd, target: { kind: 'teacher', from: 'peers' } }], {}, 'must not be "peers" outside of a mutual stage'],
    ['an anchor for labels', [teacher, { kind: 'recursion', name: 'r', from: 'teacher', generations: 2, anchor: 0.5, target: labels, training: training(1) }], {}, 'stages[1].anchor must stand with a target of kind "teacher"'],
    ['a name that a generation has', [teacher, { ...kd, name: 'r-g1' }, { kind: 'recursion', name: 'r', from: 'kd2', generations: 2, target: labels, training: training(1) }], {}, 'stages[2].name must differ from the other stages\' names: it is "r-g1" again'],
    ['targets for each seed learnt once', [{ ...teacher, once: false }, { kind: 'capture', name: 'c', from: 'teacher', k: 2 }, { ...kd, once: true, target: { kind: 'captured', from: 'c', residual: 'tail_bucket' } }], {}, 'stages[2].target.from must name a stage that runs once, as "kd" does: "c" runs for each seed'],
    ['k and draws', [teacher, { kind: 'capture', name: 'c', from: 'teacher', k: 2, sample: { draws: 3 } }], {}, 'stages[1] must have either k or sample: it has both'],
    ['a residual for draws', [teacher, { kind: 'capture', name: 'c', from: 'teacher', sample: { draws: 3 } }, { ...kd, target: { kind: 'captured', from: 'c', residual: 'tail_bucket' } }], {}, 'residual must be "sampled" or left out for targets of draws'],
    ['n of m with n = m', [teacher, { kind: 'prune', name: 'p', from: 'teacher', structure: { n: 4, m: 4 }, target: labels, training: training(1) }], {}, 'stages[1].structure.n must be less than m: they are 4 and 4'],
    ['a share of n of m', [teacher, { kind: 'prune', name: 'p', from: 'teacher', structure: { n: 2, m: 4 }, sparsity: [0.5], target: labels, training: training(1) }], {}, 'stages[1].sparsity must be left out for n of m'],
    ['acceptance with nothing to fall back to', [{ ...teacher, acceptIf: { metric: 'nll', is: '<', than: 1 } }], {}, 'stages[0].acceptIf must have a student to fall back to'],
    ['a check of no stage', [teacher], { checks: [{ says: 'x', value: { stage: 'techer', metric: 'nll' }, is: '<', than: 1 }] }, 'checks[0].value.stage must name a stage: it is "techer", did you mean "teacher"?'],
    ['a check of a constant', [teacher], { checks: [{ says: 'x', value: 1, is: '<', than: 2 }] }, 'checks[0].value must name a stage and a metric: it is 1'],
    ['a metric that is misspelt', [teacher, kd], { checks: [{ says: 'x', value: { stage: 'kd', metric: 'nll' }, is: '<', than: { stage: 'kd', metric: 'klToTeachr' } }] }, 'checks[0].than.metric must be a number of stage "kd", which has accuracy, nll, perplexity, ece, brier, klToTeacher, agreement, bitsPerByte, parameters, nonZero, sparsity, flops, flopsNonZero, seconds, steps, loss, squaredError, squaredBias, variance, kl, klBias, klVariance'],
    ['a metric of the other stage', [teacher, kd], { checks: [{ says: 'x', value: { stage: 'kd', metric: 'nll', minus: { metric: 'acuracy' } }, is: '<', than: 1 }] }, 'checks[0].value.minus.metric must be a number of stage "kd"'],
    ['a distance of the teacher to itself', [teacher, kd], { checks: [{ says: 'x', value: { stage: 'teacher', metric: 'klToTeacher' }, is: '<', than: 1 }] }, 'it is "klToTeacher"'],
    ['a variance over one seed', [teacher, kd], { repeats: 1, checks: [{ says: 'x', value: { stage: 'kd', metric: 'variance' }, is: '<', than: 1 }] }, 'it is "variance"'],
    ['a number that another loss logs', [teacher, kd], { checks: [{ says: 'x', value: { stage: 'kd', metric: 't' }, is: '<', than: 1 }] }, 'it is "t"'],
    ['a number of a capture', [teacher, { kind: 'capture', name: 'c', from: 'teacher', k: 2 }], { checks: [{ says: 'x', value: { stage: 'c', metric: 'byte' }, is: '<', than: 1 }] }, 'stage "c", which has bytes, rows, cols, k, temperature, meanTail, seconds: it is "byte", did you mean "bytes"?'],
    ['a number of a probe', [{ kind: 'probe', name: 'p', probe: 'hinton_gradient' }], { checks: [{ says: 'x', value: { stage: 'p', metric: 'plainratio' }, is: '<', than: 1 }] }, 'did you mean "plainRatio"?'],
    ['a level that is not there', [teacher, { kind: 'prune', name: 'p', from: 'teacher', sparsity: [0.5, 0.6], target: labels, training: training(2) }], { checks: [{ says: 'x', value: { stage: 'p', metric: 'nll', level: 2 }, is: '<', than: 1 }] }, 'checks[0].value.level must be from -2 to 1 for stage "p": it is 2'],
    ['a metric of acceptance', [teacher, { kind: 'prune', name: 'p', from: 'teacher', sparsity: [0.5], target: labels, training: training(2), acceptIf: { metric: 'nl', is: '<', than: 'before' } }], {}, 'stages[1].acceptIf.metric must be a number of stage "p"'],
    ['a field of a check', [teacher], { checks: [{ says: 'x', value: { stage: 'teacher', metrik: 'nll' }, is: '<', than: 1 }] }, 'checks[0].value has no field "metrik": did you mean "metric"?'],
    ['a stage of the quick size', [teacher], { quick: { stages: { techer: {} } } }, 'quick.stages has no place for "techer": did you mean "teacher"?'],
    ['a field of the quick size', [teacher], { quick: { stages: { teacher: { training: { stepps: 3 } } } } }, 'at its quick size: stages[0].training has no field "stepps": did you mean "steps"?'],
    ['n of m as one word', [teacher, { kind: 'prune', name: 'p', from: 'teacher', structure: '2:4', target: labels, training: training(2) }], {}, 'channels, width, or an object { n, m }: it is "2:4"'],
    ['teachers as bare names', [teacher, { ...kd, target: { kind: 'teacher', from: ['teacher'] } }], {}, 'stages[1].target.from[0] must be an object { name, weight }: it is "teacher"'],
    ['two fields at once', [teacher, { ...kd, training: { ...training(2), optimizer: { kind: 'adam' } } }], {}, 'learningRate must be given: it is absent; stages[1].training.optimizer.kind must be one of the kinds there are: it is "adam"'],
    ['shift of what are no images', [{ ...teacher, training: training(1, { shift: 2 }) }], {}, 'stages[0].training.shift must be 0 where the data are no images'],
    ['moved images of a capture that has none', [teacher, { kind: 'capture', name: 'c', from: 'teacher', k: 2, shift: 1 }], {}, 'stages[1].shift must be 0 where the data are no images: it is 1'],
    ['views of images that stay', [teacher, { kind: 'capture', name: 'c', from: 'teacher', k: 2, views: 2 }], {}, 'stages[1].views must be 1 where no image is moved (shift 0): it is 2'],
    ['training without data', [teacher], { data: undefined }, 'data must be given where a stage trains'],
    ['a main teacher that is not there', [teacher], { teacher: 'none' }, 'teacher must name an earlier'],
  ])('%s', async (_, stages, more, text) => {
    await expect(checkRecipe(JSON.parse(JSON.stringify(recipe(stages, more))))).rejects.toThrow(text);
    await expect(checkRecipe(JSON.parse(JSON.stringify(recipe(stages, more))))).rejects.toThrow(TypeError);
  }); // prettier-ignore

  it.each<[string, RecipeData, CustomParts, string]>([
    ['data', recipe([teacher]), {}, 'custom.data must hold "points": it holds none'],
    ['a model', recipe([teacher], { models: { large: { kind: 'custom', name: 'own' } } }), custom, 'models.large.name must be one of custom.models: it is "own"'],
    ['a probe', { name: 'x', stages: [{ kind: 'probe', name: 'p', probe: 'hinton_gradien' }] }, {}, 'stages[0].probe must name a probe: it is "hinton_gradien", did you mean "hinton_gradient"?'],
    ['a value of a probe of the program', { name: 'x', stages: [{ kind: 'probe', name: 'p', probe: 'own' }], checks: [{ says: 'x', value: { stage: 'p', metric: 'valeu' }, is: '<', than: 1 }] }, { probes: { own: { name: 'own', says: '', source: '', options: {}, values: { value: '' }, run: () => ({ values: { value: 1 } }) } } }, 'checks[0].value.metric must be a number of stage "p", which has value: it is "valeu", did you mean "value"?'],
    ['an option of a probe', { name: 'x', stages: [{ kind: 'probe', name: 'p', probe: 'hinton_gradient', options: { rowz: 1 } }] }, {}, 'stages[0].options has no field "rowz"'],
  ])('%s that is called by a wrong name', async (_, data, parts, text) => {
    const out = join(folder, `never-${runs++}`);
    await expect(runRecipe(data, { folder: out, custom: parts })).rejects.toThrow(text);
    expect(existsSync(out)).toBe(false);
  }); // prettier-ignore

  it('the recipes of the guide are legal', async () => {
    const guide = readFileSync('docs/guides/recipes.md', 'utf8');
    const blocks = [...guide.matchAll(/^```json\n([\s\S]*?)^```$/gm)].map(([, text]) => JSON.parse(text!) as object);
    expect(blocks.length).toBeGreaterThan(0);
    for (const block of blocks) await checkRecipe(block);
  });

  it('every recipe of the package is legal, has a paper or is the demo, and checks that name what there is', async () => {
    const files = readdirSync('recipes').filter((name) => name.endsWith('.json') && name !== 'recipe.schema.json');
    for (const file of files) {
      const checked = await loadRecipe(join('recipes', file));
      expect(checked.name).toBe(file.replace('.json', ''));
      expect([file, checked.shows, checked.quick]).not.toContain(undefined);
      if (checked.name !== 'digits') expect(checked.paper?.title, file).toBeDefined();
      expect(checked.checks!.length, file).toBeGreaterThan(0);
    }
  });

  it('the quick size takes the place of what it names, and steps that of epochs', async () => {
    const checked = await checkRecipe(
      recipe([teacher, { kind: 'train', name: 'kd', model: 'small', target: fromTeacher, training: { epochs: 9, batchSize: 16, optimizer: { kind: 'sgd', learningRate: 0.1 } } }], {
        quick: { repeats: 1, steps: 7, models: { large: { hidden: [4] } }, stages: { kd: { training: { steps: 5 } } } },
      }),
    ); // prettier-ignore
    const quick = overrideRecipe(checked, { quick: true });
    expect(quick).toMatchObject({ size: 'quick', repeats: 1, models: { large: { kind: 'mlp', hidden: [4] } } });
    expect(quick.stages.map((stage) => 'training' in stage && [stage.training.steps, stage.training.epochs])).toEqual([[7, undefined], [5, undefined]]); // prettier-ignore
    expect(checked.size).toBe('full');
  });
});

describe('parts written in TypeScript', () => {
  it('models, losses, targets and probes are called by name', async () => {
    const parts: CustomParts = {
      ...custom,
      models: { narrow: ({ source, seed, device, options }) => new nn.MLP({ inputs: 2, hidden: [options['width'] as number], outputs: source.cols, seed, device }) },
      losses: {
        plain: () => ({
          of: ({ logits }, { labels: own }) => crossEntropy(logits, own),
          parameters: () => [],
          state: () => ({}),
          restore: () => undefined,
          words: () => ({}),
          restoreWords: () => undefined,
          numbers: () => ({ answer: 42 }),
          dispose: () => undefined,
        }),
      },
      probes: { half: { name: 'half', says: 'One half', source: '', options: { of: { says: '', default: 1 } }, values: { value: '' }, run: ({ of }) => ({ values: { value: (of as number) / 2 } }) } },
    }; // prettier-ignore
    const stages = [
      { kind: 'train', name: 'own', model: 'tiny', target: { kind: 'custom', loss: 'plain' }, training: training(4) },
      { kind: 'train', name: 'same', model: 'tiny', target: labels, training: training(4) },
      { kind: 'probe', name: 'exact', probe: 'half', options: { of: 5 } },
    ];
    const checks = [
      { says: 'One half of five', value: { stage: 'exact', metric: 'value' }, is: 'within', than: 2.5, plus: 0 },
      { says: 'A loss logs its numbers', value: { stage: 'own', metric: 'answer' }, is: 'within', than: 42, plus: 0 },
    ];
    const { results } = await run(
      recipe(stages, { models: { tiny: { kind: 'custom', name: 'narrow', options: { width: 5 } } }, repeats: 1, checks }),
      parts,
    );
    const [own, same] = results.models;
    expect(own!.parameters).toBe(2 * 5 + 5 + 5 * 3 + 3);
    expect(own!.evaluation).toEqual(same!.evaluation);
    expect(results.checks!.map(({ passed }) => passed)).toEqual([true, true]);
    expect(results.probes![0]).toMatchObject({ stage: 'exact', values: { value: 2.5 }, options: { of: 5 } });
  });
});

describe('a run that is killed', () => {
  const digits = {
    name: 'killed',
    seed: 5,
    repeats: 1,
    data: { format: 'mnist', trainRows: 256, testRows: 64 },
    models: { large: { hidden: [24], dropout: 0.2 }, small: { hidden: [12] } },
    stages: everyKind.stages.map((stage) => {
      const { training: own } = stage as { training?: object };
      return own ? { ...stage, training: { ...own, batchSize: 32, points: 6 } } : stage;
    }),
    checks: [{ says: 'Never so', value: { stage: 'kd', metric: 'accuracy' }, is: '>', than: 2 }],
  };

  it(
    'goes on after kill −9 with the same numbers, from any stage; the check that fails makes the exit code 1',
    { timeout: 120_000 },
    async () => {
      const path = join(folder, 'killed.json');
      writeFileSync(path, JSON.stringify(digits));
      const limbeck = (out: string, args: string[], text?: string, times?: number) => distil(path, out, args, text, times);
      const whole = join(folder, 'kill-whole');
      const first = await limbeck(whole, []);
      expect(first.code).toBe(1);
      expect(first.stdout).toContain('✗ Never so: accuracy of kd');
      const out = join(folder, 'kill-parts');
      const points: [string, number][] = [['step 20/60', 1], ['kd, seed 5:', 1], ['taid, seed 5: 10', 1], ['step ', 8], ['few, seed 5: 8', 1], ['again, generation 2, seed 5: 6', 1], ['pair, seed 5: 8', 1]]; // prettier-ignore
      for (const [text, times] of points) expect((await limbeck(out, ['--resume'], text, times)).code).toBe(null);
      expect((await limbeck(out, ['--resume'])).code).toBe(1);
      expect(numbersOf(resultsIn(out))).toBe(numbersOf(resultsIn(whole)));
      for (const line of readFileSync(join(out, 'log.jsonl'), 'utf8').trimEnd().split('\n')) JSON.parse(line);
      for (const { checkpoint } of resultsIn(out).models) readSafetensors(join(out, checkpoint));
    },
  );
});
