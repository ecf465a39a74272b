// Parts taken out of every ready model: the smaller one gives what the masked one gives; scores against what the features say.
import { describe, expect, it } from 'vitest';
import { attention, mean, nn, noGrad, prune, randn, square, tensor, tidy, type Tensor } from '../src/index.js';

const numbers = (x: Tensor): number[] => Array.from(x.data);
const average = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, bound = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    if (!(error <= bound * Math.max(1, Math.abs(expected[i]!)))) expect.fail(`element ${i}: ${actual[i]} is not ${expected[i]}`);
  }
}

/** Weights of a size that makes every part count, biases and norms too. */
function shaken<M extends nn.Module>(model: M): M {
  let seed = 1;
  for (const parameter of model.parameters()) {
    const noise = randn(parameter.shape, { seed: seed++ }).data;
    const { data } = parameter;
    for (let i = 0; i < data.length; i++) data[i]! += 0.3 * noise[i]!;
  }
  return model;
}

const mlp = (): nn.MLP => new nn.MLP({ inputs: 10, hidden: [8, 6], outputs: 4, activation: 'gelu', dropout: 0.2, seed: 1 });
const cnn = (): nn.CNN => new nn.CNN({ inputShape: [2, 9, 8], channels: [4, 6], hidden: [5], classes: 3, seed: 2 });
const flat = (): nn.CNN => new nn.CNN({ inputShape: [1, 4, 4], channels: [4], classes: 3, seed: 3 });
const gpt = (tied = true): nn.GPT =>
  new nn.GPT({ vocabulary: 11, context: 6, layers: 3, heads: 2, width: 8, headWidth: 3, mlpWidth: 10, tied, seed: 4 });
const chain = (): nn.Sequential =>
  new nn.Sequential(
    new nn.Conv2d(1, 6, { padding: 1, seed: 5 }),
    new nn.SiLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(6, 4, { bias: false, seed: 6 }),
    new nn.ReLU(),
    new nn.Flatten(),
    new nn.Linear(16, 7, { seed: 7 }),
    new nn.Tanh(),
    new nn.Linear(7, 3, { seed: 8 }),
  );
const ids = (): Tensor =>
  tensor(
    Int32Array.from({ length: 18 }, (_, i) => (7 * i + 3) % 11),
    { shape: [3, 6] },
  );
const images = (...shape: number[]): Tensor => randn([3, ...shape], { seed: 9 });

interface Case {
  name: string;
  make: () => nn.Module;
  x: () => Tensor;
  structures: prune.Structure[];
}

const cases: Case[] = [
  { name: 'MLP', make: mlp, x: () => images(10), structures: ['units'] },
  { name: 'CNN', make: cnn, x: () => images(2, 9, 8), structures: ['channels', 'units'] },
  { name: 'CNN without hidden layers', make: flat, x: () => images(1, 4, 4), structures: ['channels'] },
  { name: 'GPT', make: gpt, x: ids, structures: ['units', 'heads', 'layers'] },
  { name: 'GPT with an output layer', make: () => gpt(false), x: ids, structures: ['units', 'heads', 'layers'] },
  { name: 'Sequential', make: chain, x: () => images(1, 8, 8), structures: ['channels', 'units'] },
  {
    name: 'MLP with exits',
    make: () => new nn.MultiExit(mlp(), { exits: [0, 1], seed: 10 }),
    x: () => images(10),
    structures: ['units'],
  },
  {
    name: 'CNN with exits',
    make: () => new nn.MultiExit(cnn(), { exits: [1, 2], seed: 11 }),
    x: () => images(2, 9, 8),
    structures: ['channels', 'units'],
  },
  { name: 'GPT with exits', make: () => new nn.MultiExit(gpt(), { exits: [1], seed: 12 }), x: ids, structures: ['units', 'heads'] },
  { name: 'MLP with two heads', make: () => new nn.DualHead(mlp(), { seed: 13 }), x: () => images(10), structures: ['units'] },
  { name: 'CNN with two heads', make: () => new nn.DualHead(flat(), { seed: 14 }), x: () => images(1, 4, 4), structures: ['channels'] },
  { name: 'GPT with two heads', make: () => new nn.DualHead(gpt(), { seed: 15 }), x: ids, structures: ['units', 'heads', 'layers'] },
];

const all = cases.flatMap(({ structures, ...rest }) => structures.map((structure) => ({ ...rest, structure })));

/** Logits of every head. */
function outputs(model: nn.Module, x: Tensor): number[] {
  return tidy(() =>
    noGrad(() => {
      if (!(model instanceof nn.Model)) return numbers(model.forward(x));
      const { logits, exits = [] } = model.forwardWithFeatures(x);
      return [logits, ...exits].flatMap(numbers);
    }),
  );
}

describe.each(all)('$structure of $name', ({ make, x, structure }) => {
  const model = shaken(make()).eval();
  const scores = prune.partScores(model, structure);
  // Every second part, from the second on.
  const kept = new Map([...scores].map(([group, own]) => [group, Array.from(own, (_, i) => i).filter((i) => i % 2 === 1)]));

  it('taken out or held at zero, the outputs are the same', () => {
    const before = outputs(model, x());
    const masks = prune.partMasks(model, structure, kept);
    const { model: smaller, masks: cut } = prune.keepParts(model, structure, kept, { masks });
    expect(outputs(model, x())).toEqual(before);
    const masked = make().eval();
    masked.loadStateDict(model.stateDict());
    prune.applyMasks(masked, masks);
    const expected = outputs(masked, x());
    expectClose(outputs(smaller, x()), expected);
    expect(expected.some((value, i) => Math.abs(value - before[i]!) > 1e-3)).toBe(true);
    // What is masked is what goes.
    expect([...cut.values()].every((mask) => mask.every((entry) => entry === 1))).toBe(true);
    expect(smaller.constructor).toBe(model.constructor);
    expect(smaller.training).toBe(false);
    expect(smaller.parameterCount()).toBeLessThan(model.parameterCount());
    expect(prune.flops(smaller, x().shape).total).toBeLessThan(prune.flops(model, x().shape).total);
  });

  it('no group is without effect', () => {
    const before = outputs(model, x());
    for (const group of kept.keys()) {
      const { model: smaller } = prune.keepParts(model, structure, new Map([[group, kept.get(group)!]]));
      expect(outputs(smaller, x()).some((value, i) => Math.abs(value - before[i]!) > 1e-4)).toBe(true);
      expect(smaller.parameterCount()).toBeLessThan(model.parameterCount());
    }
  });

  it('a ready model can be built again from its config', () => {
    const { model: smaller } = prune.keepParts(model, structure, kept);
    if (!(smaller instanceof nn.Model)) return;
    const again = nn.build(JSON.parse(JSON.stringify(smaller.config)) as nn.ModelConfig, { seed: 99 }).eval();
    again.loadStateDict(smaller.stateDict());
    expect(outputs(again, x())).toEqual(outputs(smaller, x()));
  });

  it('every method gives each part a score', () => {
    for (const method of ['activation', 'gradient'] as const) {
      const found = prune.partScores(model, structure, {
        method,
        calibration: () => [x()],
        loss: (of, batch) => mean(square(of.forward(batch))),
      });
      expect([...found].map(([group, own]) => [group, own.length])).toEqual([...scores].map(([group, own]) => [group, own.length]));
      for (const own of found.values()) expect(own.every((score) => score >= 0 && Number.isFinite(score))).toBe(true);
      const different = [...found.values()].some((own) => new Set(own).size > 1);
      expect(different || [...found.values()].every((own) => own.length === 1)).toBe(true);
    }
  });
});

describe('scores of activations', () => {
  it('heads: the mean norm of what each gives', () => {
    const model = shaken(gpt()).eval();
    const scores = prune.partScores(model, 'heads', { method: 'activation', calibration: () => [ids()] });
    const { qkv } = noGrad(() => model.forwardWithFeatures(ids(), { attention: true }));
    qkv!.forEach((each, b) => {
      const values = numbers(attention(each, { heads: 2 }));
      const norms = [0, 1].map((head) =>
        average(Array.from({ length: 18 }, (_, row) => Math.hypot(...values.slice(6 * row + 3 * head, 6 * row + 3 * head + 3)))),
      );
      expectClose(scores.get(`blocks.${b}.attention`)!, norms);
    });
  });

  it('layers: 1 − cosine of what goes in and what comes out', () => {
    const model = shaken(gpt()).eval();
    const scores = prune.partScores(model, 'layers', { method: 'activation', calibration: () => [ids(), ids()] }).get('blocks')!;
    const { features } = noGrad(() => model.forwardWithFeatures(ids()));
    for (const b of [1, 2]) {
      const [before, after] = [numbers(features[b - 1]!), numbers(features[b]!)];
      const rows = Array.from({ length: 18 }, (_, row) => {
        const [a, z] = [before.slice(8 * row, 8 * row + 8), after.slice(8 * row, 8 * row + 8)];
        return 1 - a.reduce((sum, v, i) => sum + v * z[i]!, 0) / (Math.hypot(...a) * Math.hypot(...z));
      });
      expect(scores[b]).toBeCloseTo(average(rows), 5);
    }
    // A block that adds nothing matters nothing.
    prune.applyMasks(model, prune.partMasks(model, 'layers', new Map([['blocks', [0, 2]]])));
    const without = prune.partScores(model, 'layers', { method: 'activation', calibration: () => [ids()] }).get('blocks')!;
    expect(without[1]).toBeCloseTo(0, 6);
    expect(Math.min(without[0]!, without[2]!)).toBeGreaterThan(1e-3);
    expect(
      prune.pruneStep(model, { structure: 'layers', sparsity: 1 / 3, method: 'activation', calibration: () => [ids()] }).report.kept,
    ).toEqual({
      blocks: [0, 2],
    });
  });

  it('channels: the mean size of what the next layer reads', () => {
    const model = shaken(cnn()).eval();
    const x = images(2, 9, 8);
    const scores = prune.partScores(model, 'channels', { method: 'activation', calibration: () => [x] });
    const { features } = noGrad(() => model.forwardWithFeatures(x));
    for (const [i, name] of ['convolutions.0', 'convolutions.1'].entries()) {
      const [, channels, height, width] = features[i]!.shape as [number, number, number, number];
      const values = numbers(features[i]!);
      const expected = Array.from({ length: channels }, (_, c) =>
        average(values.filter((_v, at) => Math.floor(at / (height * width)) % channels === c).map(Math.abs)),
      );
      expectClose(scores.get(name)!, expected);
    }
  });

  it('weights of a convolution: |w| times the norm of its channel', () => {
    const model = shaken(cnn()).eval();
    const x = images(2, 9, 8);
    const scores = prune.weightScores(model, { method: 'activation', calibration: () => [x], parameters: ['convolutions.0.weight'] });
    const values = numbers(x);
    const norms = [0, 1].map((c) => Math.hypot(...values.filter((_, at) => Math.floor(at / 72) % 2 === c)));
    const expected = numbers(model.convolutions[0]!.weight).map((w, at) => Math.abs(w) * norms[Math.floor(at / 9) % 2]!);
    expectClose(scores.get('convolutions.0.weight')!, expected);
  });
});

describe('width of a GPT', () => {
  const small = shaken(
    new nn.GPT({ vocabulary: 11, context: 6, layers: 2, heads: 2, width: 6, headWidth: 4, mlpWidth: 5, tied: false, seed: 4 }),
  ).eval();

  /** The same function with every channel twice, of which only the first is read. */
  function doubled(): nn.GPT {
    const model = new nn.GPT({ ...small.config, width: 12, seed: 5 }).eval();
    const state = model.stateDict();
    for (const [name, { shape, data }] of Object.entries(small.stateDict())) {
      const { shape: wide, data: into } = state[name]!;
      const isRead = /(qkv|up|head)\.weight$/.test(name);
      const cols = shape[shape.length - 1]!;
      const wideCols = wide[wide.length - 1]!;
      for (let i = 0; i < into.length; i++) {
        const row = Math.floor(i / wideCols);
        const col = i % wideCols;
        if (wide.length === 1) into[i] = data[i % cols]!;
        else into[i] = isRead && col >= cols ? 0 : data[(row % shape[0]!) * cols + (col % cols)]!;
      }
    }
    model.loadStateDict(state);
    return model;
  }

  it('channels that nobody reads, of the same mean and variance, can go', () => {
    const model = doubled();
    const expected = outputs(small, ids());
    expectClose(outputs(model, ids()), expected);
    const { model: smaller } = prune.keepParts(model, 'width', new Map([['width', [0, 1, 2, 3, 4, 5]]]));
    expectClose(outputs(smaller, ids()), expected);
    expect(smaller.config).toEqual(small.config);
    const groups = prune.partScores(model, 'width');
    const gone = prune.pruneStep(model, { structure: 'width', sparsity: 0.5 });
    expect([...groups.keys()]).toEqual(['width']);
    expect(gone.report.kept).toEqual({ width: [0, 1, 2, 3, 4, 5] });
  });

  it('exits and second heads go along', () => {
    for (const model of [new nn.MultiExit(gpt(), { exits: [0, 2], seed: 1 }), new nn.DualHead(gpt(), { seed: 2 })]) {
      const { model: smaller } = prune.pruneStep<nn.Model>(model, {
        structure: 'width',
        sparsity: 0.5,
        method: 'activation',
        calibration: () => [ids()],
      });
      expect(smaller.forwardWithFeatures(ids()).features.every(({ shape }) => shape[2] === 4)).toBe(true);
    }
  });
});

describe('masks of weights', () => {
  it('convolutions and blocks are pruned, embeddings and output layers are not', () => {
    for (const make of [cnn, () => gpt(false)]) {
      const model = make();
      const { masks } = prune.pruneStep(model, { sparsity: 0.6 });
      expect([...masks.keys()].some((name) => /tokens|positions|head|norm/.test(name))).toBe(false);
      const total = [...masks.values()].reduce((sum, mask) => sum + mask.length, 0);
      expect([...masks.values()].reduce((sum, mask) => sum + mask.filter((v) => v === 0).length, 0)).toBe(Math.round(0.6 * total));
    }
    const { masks, report } = prune.pruneStep(cnn(), { structure: { n: 2, m: 4 } });
    expect(report.skipped).toEqual(['convolutions.0.weight', 'output.weight']);
    expect([...masks.keys()]).toEqual(['convolutions.1.weight', 'hidden.0.weight']);
  });

  it('says what a model has', () => {
    expect(() => prune.partScores(gpt(), 'channels')).toThrow(/must have channels .* a GPT, which has units, heads, layers, width/);
    expect(() => prune.partScores(new nn.MultiExit(gpt(), { exits: [0] }), 'layers')).toThrow(/which has units, heads, width/);
    expect(() => prune.partScores(new nn.Residual(new nn.Linear(2, 2)), 'units')).toThrow(/of which nothing can be taken out/);
  });
});

describe('operations', () => {
  it('of a convolutional network, by hand', () => {
    expect(prune.flops(cnn()).byLayer).toEqual({
      'convolutions.0': { total: 2 * 72 * 9 * 2 * 4, nonZero: 2 * 72 * 9 * 2 * 4 },
      'convolutions.1': { total: 2 * 16 * 9 * 4 * 6, nonZero: 2 * 16 * 9 * 4 * 6 },
      'hidden.0': { total: 2 * 24 * 5, nonZero: 2 * 24 * 5 },
      output: { total: 2 * 15, nonZero: 2 * 15 },
    });
  });

  it('of a GPT, by hand', () => {
    const { total, byLayer } = prune.flops(gpt());
    const perToken = 8 * 18 + 6 * 8 + 2 * 8 * 10;
    const pairs = 21 * 2 * 6;
    expect(byLayer['head']!.total).toBe(2 * 6 * 8 * 11);
    expect(byLayer['blocks.1.attention']!.total).toBe(2 * pairs);
    expect(total).toBe(2 * (3 * (6 * perToken + pairs) + 6 * 8 * 11));
    expect(prune.flops(gpt(), [4, 6]).total).toBe(4 * total);
    expect(() => prune.flops(chain())).toThrow(/inputShape must be given/);
  });
});
