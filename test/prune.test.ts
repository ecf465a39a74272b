// Pruning against brute force on small models: scores, masks, parts taken out, counts, masks through the optimiser.
import { describe, expect, it } from 'vitest';
import { kdLoss, mean, nn, optim, prune, randn, square, tensor, tidy, type Tensor } from '../src/index.js';

function perceptron(...widths: number[]): nn.Sequential {
  const layers: nn.Module[] = [];
  for (let i = 0; i + 1 < widths.length; i++) {
    if (i > 0) layers.push(new nn.ReLU());
    layers.push(new nn.Linear(widths[i]!, widths[i + 1]!, { seed: 100 + i }));
  }
  return new nn.Sequential(...layers);
}

const zeros = (values: ArrayLike<number>): number => Array.from(values).filter((v) => v === 0).length;
const numbers = (x: Tensor): number[] => Array.from(x.data);
const forward = (model: nn.Module, x: Tensor): number[] => tidy(() => numbers(model.forward(x)));
const random = (size: number, seed: number): Float32Array => randn([size], { seed }).data as Float32Array;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, bound = 1e-5): void {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    if (!(error <= bound * Math.max(1, Math.abs(expected[i]!)))) expect.fail(`element ${i}: ${actual[i]} is not ${expected[i]}`);
  }
}

describe('masks', () => {
  const scores = [random(101, 1).map(Math.abs), random(57, 2).map(Math.abs)];

  it.each([0, 0.1, 0.5, 0.83, 0.99])('global: the smallest %f of all, as sorting finds them', (sparsity) => {
    const masks = prune.scoreMasks(scores, { sparsity });
    const all = scores.flatMap((layer, l) => Array.from(layer, (score, i) => ({ score, l, i }))).sort((a, b) => a.score - b.score);
    const count = Math.round(sparsity * 158);
    all.forEach(({ l, i }, rank) => expect(masks[l]![i]).toBe(rank < count ? 0 : 1));
  });

  it('by layer: the same share of each', () => {
    const masks = prune.scoreMasks(scores, { sparsity: 0.4, scope: 'layer' });
    expect(masks.map(zeros)).toEqual([40, 23]);
    masks.forEach((mask, l) => {
      const largestGone = Math.max(...scores[l]!.filter((_, i) => mask[i] === 0));
      expect(scores[l]!.every((score, i) => mask[i] === 0 || score >= largestGone)).toBe(true);
    });
  });

  it('what is pruned stays pruned, more sparsity prunes more, and less brings nothing back', () => {
    let earlier: Float32Array[] | undefined;
    for (const [step, sparsity] of [0.3, 0.6, 0.9].entries()) {
      const next = prune.scoreMasks(
        scores.map((layer, l) => random(layer.length, 10 * step + l).map(Math.abs)),
        { sparsity, earlier },
      );
      earlier?.forEach((mask, l) => mask.forEach((kept, i) => expect(kept === 0 && next[l]![i] === 1).toBe(false)));
      expect(next.map(zeros).reduce((a, b) => a + b)).toBe(Math.round(sparsity * 158));
      earlier = next;
    }
    expect(prune.scoreMasks(scores, { sparsity: 0.5, earlier }).map(zeros)).toEqual(earlier!.map(zeros));
  });

  it('ties go in order, across layers', () => {
    const [a, b] = prune.scoreMasks([new Float32Array(4).fill(2), new Float32Array(4).fill(2)], { sparsity: 0.75 });
    expect([...a!, ...b!]).toEqual([0, 0, 0, 0, 0, 0, 1, 1]);
    expect([...prune.nOfMMask(new Float32Array(8).fill(1), [1, 8], { n: 1, m: 4 })]).toEqual([0, 0, 0, 1, 0, 0, 0, 1]);
  });

  it.each([
    { n: 2, m: 4 },
    { n: 1, m: 4 },
    { n: 4, m: 8 },
    { n: 1, m: 2 },
  ])('$n of $m: exact in every group of inputs, the largest ones', ({ n, m }) => {
    const values = random(3 * 16 * 4, 7).map(Math.abs);
    for (const shape of [
      [12, 16],
      [3, 16, 2, 2],
    ]) {
      const mask = prune.nOfMMask(values, shape, { n, m });
      const stride = shape.length === 2 ? 1 : 4;
      for (let o = 0; o < shape[0]!; o++) {
        for (let place = 0; place < stride; place++) {
          for (let first = 0; first < 16; first += m) {
            const group = Array.from({ length: m }, (_, i) => (o * 16 + first + i) * stride + place);
            const kept = group.filter((i) => mask[i] === 1);
            expect(kept).toHaveLength(n);
            const least = Math.min(...kept.map((i) => values[i]!));
            expect(group.every((i) => mask[i] === 1 || values[i]! <= least)).toBe(true);
          }
        }
      }
    }
  });

  it('n of m with an earlier mask prunes nothing that need not go', () => {
    const values = Float32Array.from([4, 3, 2, 1, 1, 2, 3, 4]);
    const earlier = Float32Array.from([0, 1, 1, 1, 0, 0, 0, 1]);
    expect([...prune.nOfMMask(values, [1, 8], { n: 2, m: 4 }, earlier)]).toEqual([0, 1, 1, 0, 0, 0, 0, 1]);
  });

  it('refuses what it cannot rank', () => {
    expect(() => prune.scoreMasks(scores, { sparsity: 1 })).toThrow(/sparsity must be in \[0, 1\): it is 1/);
    expect(() => prune.scoreMasks(scores, { sparsity: NaN })).toThrow(RangeError);
    expect(() => prune.scoreMasks([Float32Array.from([1, NaN])], { sparsity: 0.5 })).toThrow(/score 1 of layer 0 is NaN/);
    expect(() => prune.scoreMasks([Float32Array.from([1, -1])], { sparsity: 0.5 })).toThrow(RangeError);
    expect(() => prune.scoreMasks(scores, { sparsity: 0.5, earlier: [new Float32Array(101)] })).toThrow(/each of the 2 layers/);
    expect(() => prune.scoreMasks([[1, 2]] as never, { sparsity: 0.5 })).toThrow(TypeError);
    expect(() => prune.nOfMMask(new Float32Array(6), [1, 6], { n: 2, m: 4 })).toThrow(/inputs must be a multiple of m = 4: it is 6/);
    expect(() => prune.nOfMMask(new Float32Array(8), [1, 8], { n: 4, m: 4 })).toThrow(/n must be a whole number in \[1, 3\]/);
  });
});

const batches = (count: number, rows: number, inputs: number): Tensor[] =>
  Array.from({ length: count }, (_, i) => randn([rows, inputs], { seed: 500 + i }));
const squared = (model: nn.Module, x: Tensor): Tensor => mean(square(model.forward(x)));

describe('importance of weights', () => {
  const model = perceptron(6, 5, 3);
  const [first, , last] = model.layers as [nn.Linear, nn.ReLU, nn.Linear];
  const calibration = batches(3, 4, 6);

  it('magnitude is |w|', () => {
    const scores = prune.weightScores(model);
    expect([...scores.keys()]).toEqual(['layers.0.weight', 'layers.2.weight']);
    expect([...scores.get('layers.0.weight')!]).toEqual(numbers(first.weight).map(Math.abs));
  });

  it('activation is |w| times the norm of its input over all rows', () => {
    const scores = prune.weightScores(model, { method: 'activation', calibration: () => calibration });
    const hidden = calibration.map((x) => tidy(() => numbers(model.layers[1]!.forward(first.forward(x)))));
    const rows = hidden.flatMap((values) => [0, 1, 2, 3].map((r) => values.slice(5 * r, 5 * r + 5)));
    const expected = numbers(last.weight).map((w, at) => Math.abs(w) * Math.hypot(...rows.map((row) => row[at % 5]!)));
    expectClose(scores.get('layers.2.weight')!, expected);
  });

  it('gradient is the first-order change of the loss, and does not depend on how rows are divided', () => {
    const loss = squared;
    const scores = prune.weightScores(model, { method: 'gradient', calibration: () => calibration, loss });
    const all = tensor(Float32Array.from(calibration.flatMap(numbers)), { shape: [12, 6] });
    const whole = prune.weightScores(model, { method: 'gradient', calibration: () => [all], loss });
    for (const [name, values] of scores) expectClose(values, whole.get(name)!);
    const at = (): number => tidy(() => loss(model, all).item());
    const data = last.weight.data;
    Array.from(data).forEach((w, i) => {
      const step = 1e-2;
      data[i] = w + step;
      const above = at();
      data[i] = w - step;
      const slope = (above - at()) / (2 * step);
      data[i] = w;
      expect(Math.abs(whole.get('layers.2.weight')![i]! - Math.abs(w * slope))).toBeLessThan(1e-3);
    });
    expect(model.parameters().every((parameter) => parameter.grad === null)).toBe(true);
  });

  it('leaves the model as it was', () => {
    model.train();
    prune.weightScores(model, { method: 'activation', calibration: () => calibration });
    expect(model.training).toBe(true);
    expect(model.modules().next().value).toEqual(['', model]);
    for (const [, module] of model.modules()) expect(Object.hasOwn(module, 'forward')).toBe(false);
    const broken = { method: 'activation', calibration: () => [randn([2, 7], { seed: 1 })] } as const;
    expect(() => prune.weightScores(model, broken)).toThrow();
    for (const [, module] of model.modules()) expect(Object.hasOwn(module, 'forward')).toBe(false);
  });

  it('asks for what a method needs', () => {
    expect(() => prune.weightScores(model, { method: 'activation' })).toThrow(/calibration must be a function/);
    expect(() => prune.weightScores(model, { method: 'activation', calibration: () => [] })).toThrow(/calibration must give a batch/);
    expect(() => prune.weightScores(model, { method: 'gradient', calibration: () => calibration })).toThrow(/loss must be a function/);
    expect(() => prune.weightScores(model, { method: 'weight' as 'magnitude' })).toThrow(
      /method must be 'magnitude', 'activation' or 'gradient'/,
    );
    expect(() => prune.weightScores(model, { parameters: ['layers.1.weight'] })).toThrow(/parameters must be among layers.0.weight/);
    expect(() => prune.weightScores({} as nn.Module)).toThrow(/model must be a Module/);
  });
});

describe('importance of units', () => {
  const model = perceptron(6, 5, 4, 3);
  const [first, , second, , third] = model.layers as [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear];
  const calibration = batches(2, 8, 6);

  it('magnitude is the norm of all weights that make or read the unit', () => {
    const scores = prune.partScores(model, 'units');
    expect([...scores.keys()]).toEqual(['layers.0', 'layers.2']);
    const expected = Array.from({ length: 4 }, (_, u) =>
      Math.hypot(
        ...numbers(second.weight).slice(5 * u, 5 * u + 5),
        numbers(second.bias!)[u]!,
        ...numbers(third.weight).filter((_, i) => i % 4 === u),
      ),
    );
    expectClose(scores.get('layers.2')!, expected);
  });

  it('activation is the mean size of what the next layer reads', () => {
    const scores = prune.partScores(model, 'units', { method: 'activation', calibration: () => calibration });
    const hidden = calibration.flatMap((x) => tidy(() => numbers(model.layers[1]!.forward(first.forward(x)))));
    const expected = Array.from({ length: 5 }, (_, u) => hidden.filter((_, i) => i % 5 === u).reduce((a, b) => a + Math.abs(b), 0) / 16);
    expectClose(scores.get('layers.0')!, expected);
  });

  it('gradient is the first-order change of the loss when the unit fades', () => {
    const scores = prune.partScores(model, 'units', { method: 'gradient', calibration: () => calibration, loss: squared });
    const at = (): number => calibration.reduce((sum, x) => sum + tidy(() => squared(model, x).item()), 0) / 2;
    for (let u = 0; u < 5; u++) {
      const weights = numbers(first.weight);
      const biases = numbers(first.bias!);
      const scaled = (factor: number): number => {
        for (let i = 6 * u; i < 6 * u + 6; i++) first.weight.data[i] = weights[i]! * factor;
        first.bias!.data[u] = biases[u]! * factor;
        return at();
      };
      const slope = (scaled(1.01) - scaled(0.99)) / 0.02;
      scaled(1);
      expect(Math.abs(scores.get('layers.0')![u]! - Math.abs(slope))).toBeLessThan(1e-3);
    }
  });
});

describe('parts taken out', () => {
  const x = randn([7, 6], { seed: 3 });

  it('a model without some units gives what the masked one gives, and is smaller', () => {
    const model = perceptron(6, 5, 4, 3);
    const kept = new Map([
      ['layers.0', [0, 2, 3]],
      ['layers.2', [1, 3]],
    ]);
    const { model: smaller } = prune.keepParts(model, 'units', kept);
    const before = forward(model, x);
    const masked = perceptron(6, 5, 4, 3);
    prune.applyMasks(masked, prune.partMasks(model, 'units', kept));
    expectClose(forward(smaller, x), forward(masked, x), 1e-6);
    expect(smaller.parameterCount()).toBe(6 * 3 + 3 + 3 * 2 + 2 + 2 * 3 + 3);
    expect(forward(model, x)).toEqual(before);
    expect([...smaller.namedParameters()].map(([name]) => name)).toEqual([...model.namedParameters()].map(([name]) => name));
    expect(smaller.parameters().every((parameter) => parameter.requiresGrad)).toBe(true);
    expect(forward(smaller, x)).not.toEqual(before);
  });

  it('units that contribute nothing leave no trace', () => {
    const model = perceptron(6, 8, 3);
    const [first, , last] = model.layers as [nn.Linear, nn.ReLU, nn.Linear];
    for (const u of [1, 4, 5]) {
      for (let i = 0; i < 6; i++) first.weight.data[6 * u + i] = 0;
      first.bias!.data[u] = 0;
      for (let o = 0; o < 3; o++) last.weight.data[8 * o + u] = 0;
    }
    const { model: smaller, report } = prune.pruneStep(model, { structure: 'units', sparsity: 3 / 8 });
    expect(report.kept).toEqual({ 'layers.0': [0, 2, 3, 6, 7] });
    expectClose(forward(smaller, x), forward(model, x), 1e-6);
  });

  it('nested Sequentials, dropout and missing biases', () => {
    const inner = new nn.Sequential(new nn.Linear(6, 5, { seed: 1, bias: false }), new nn.ReLU(), new nn.Dropout(0.5, { seed: 2 }));
    const model = new nn.Sequential(inner, new nn.Linear(5, 2, { seed: 3 })).eval();
    const kept = new Map([['layers.0.layers.0', [1, 4]]]);
    const { model: smaller } = prune.keepParts(model, 'units', kept);
    expect(smaller.training).toBe(false);
    const expected = forward(smaller, x);
    prune.applyMasks(model, prune.partMasks(model, 'units', kept));
    expectClose(expected, forward(model, x), 1e-6);
  });

  it('shares of the first size: stage after stage', () => {
    const model = perceptron(6, 16, 3);
    const first = prune.pruneStep(model, { structure: 'units', sparsity: 0.5 });
    expect(first.report.after).toBe(8);
    const second = prune.pruneStep(first.model, { structure: 'units', sparsity: 0.75, original: first.report.original });
    expect([second.report.before, second.report.after]).toEqual([8, 4]);
    expect(second.report.original).toEqual({ 'layers.0': 16 });
    expect(second.report.parameters).toEqual({ before: 6 * 8 + 8 + 8 * 3 + 3, after: 6 * 4 + 4 + 4 * 3 + 3 });
    expect(() => prune.pruneStep(model, { structure: 'units', sparsity: 0.99 })).toThrow(/sparsity must leave a part of layers.0/);
  });

  it('over all layers: by scores relative to their layer, at least one part of each stays', () => {
    const model = perceptron(6, 10, 10, 3);
    // A layer whose units all matter alike, and one where a single unit matters.
    const second = (model.layers[2] as nn.Linear).weight.data;
    for (let i = 0; i < 90; i++) second[i]! *= 1e-3;
    const { report } = prune.pruneStep(model, { structure: 'units', sparsity: 0.5, scope: 'global' });
    expect(report.after).toBe(10);
    expect(report.kept['layers.0']!.length).toBeGreaterThan(report.kept['layers.2']!.length);
    expect(report.kept['layers.2']).toContain(9);
    const extreme = prune.pruneStep(model, { structure: 'units', sparsity: 0.9, scope: 'global' });
    expect(Object.values(extreme.report.kept).map((parts) => parts.length)).toEqual([1, 1]);
    expect(() => prune.pruneStep(model, { structure: 'units', sparsity: 0.95, scope: 'global' })).toThrow(/each of the 2 groups/);
  });

  it('masks of weights are cut along', () => {
    const model = perceptron(6, 5, 3);
    const { masks: earlier } = prune.pruneStep(model, { sparsity: 0.5 });
    const { model: smaller, masks } = prune.pruneStep(model, { structure: 'units', sparsity: 0.4, earlier });
    for (const [name, parameter] of smaller.namedParameters()) {
      const mask = masks.get(name);
      if (!name.endsWith('weight')) continue;
      expect(mask).toHaveLength(parameter.size);
      expect(numbers(parameter).every((w, i) => (w === 0) === (mask![i] === 0))).toBe(true);
    }
  });

  it('says which models have which parts', () => {
    const model = perceptron(6, 5, 3);
    expect(() => prune.partScores(model, 'heads')).toThrow(/the model must have heads that can be taken out/);
    expect(() => prune.partScores(new nn.Linear(2, 2), 'units')).toThrow(/units that can be taken out/);
    expect(() => prune.keepParts(model, 'units', new Map([['layers.2', [0]]]))).toThrow(/groups must be among layers.0: it is 'layers.2'/);
    expect(() => prune.keepParts(model, 'units', new Map([['layers.0', [1, 1]]]))).toThrow(/rising, at least one: they are 1, 1/);
    expect(() => prune.keepParts(model, 'units', new Map([['layers.0', []]]))).toThrow(/there is none/);
    expect(() => prune.keepParts(model, 'units', new Map([['layers.0', [5]]]))).toThrow(/below 5/);
    expect(() => prune.pruneStep(model, { structure: 'unit' as 'units', sparsity: 0.5 })).toThrow(/did you mean 'units'/);
    expect(() => prune.pruneStep(model, { structure: '2:4' as 'units' })).toThrow(
      /structure must say n of m as { n: 2, m: 4 }: it is '?2:4/,
    );
    expect(() => prune.pruneStep(model, { sparsty: 0.5 } as never)).toThrow(/options must be among .*'sparsty' is not/);
    expect(() => prune.pruneStep(model, {})).toThrow(/sparsity must be a number/);
  });
});

describe('steps', () => {
  it('weights: as many as asked, over stages', () => {
    const model = perceptron(12, 8, 4);
    let earlier: prune.Masks | null = null;
    for (const sparsity of [0.5, 0.75, 0.875]) {
      const { masks, report, model: same }: prune.Pruned<nn.Module> = prune.pruneStep(model, { sparsity, earlier });
      expect(same).toBe(model);
      expect(report.after).toBe(128 - sparsity * 128);
      expect(prune.parameterCount(model).sparsity).toBe(sparsity);
      expect(report.nonZero.after).toBe(report.after + 12);
      earlier = masks;
    }
  });

  it('2:4 leaves layers whose inputs do not divide, and says so', () => {
    const model = perceptron(12, 6, 4);
    const structure = { n: 2, m: 4 };
    const { masks, report } = prune.pruneStep(model, { structure });
    expect(report.skipped).toEqual(['layers.2.weight']);
    expect(zeros(masks.get('layers.0.weight')!)).toBe(36);
    expect(report).toMatchObject({ before: 96, after: 60, nonZero: { before: 106, after: 70 } });
    expect(() => prune.pruneStep(model, { structure, sparsity: 0.5 })).toThrow(/sparsity must be left out/);
    expect(() => prune.pruneStep(model, { structure: { n: 2, m: 5 } })).toThrow(/a multiple of m = 5 inputs: none has/);
  });

  it.each(['sgd', 'adamw'] as const)('pruned weights are exactly 0 through steps of %s, saved and resumed', (kind) => {
    const x = randn([16, 12], { seed: 8 });
    const teacher = randn([16, 4], { seed: 9 });
    const build = (model: nn.Module): optim.Optimizer =>
      kind === 'sgd'
        ? new optim.SGD(model.parameters(), { learningRate: 0.1, momentum: 0.9, weightDecay: 0.1 })
        : new optim.AdamW(model.parameters(), { learningRate: 0.05, weightDecay: 0.1 });
    const steps = (model: nn.Module, optimizer: optim.Optimizer, count: number): void => {
      for (let i = 0; i < count; i++) {
        tidy(() => kdLoss(model.forward(x), teacher).backward());
        optimizer.step();
        optimizer.zeroGrad();
      }
    };
    const model = perceptron(12, 8, 4);
    const optimizer = build(model);
    // Momentum is there before the mask is.
    steps(model, optimizer, 3);
    const { masks } = prune.pruneStep(model, { sparsity: 0.75 });
    prune.setMasks(optimizer, model, masks);
    steps(model, optimizer, 3);
    const resumed = perceptron(12, 8, 4);
    resumed.loadStateDict(model.stateDict());
    const second = build(resumed);
    second.loadStateDict(optimizer.stateDict());
    prune.setMasks(second, resumed, masks);
    steps(model, optimizer, 3);
    steps(resumed, second, 3);
    for (const [name, parameter] of model.namedParameters()) {
      const mask = masks.get(name);
      if (mask) expect(numbers(parameter).every((w, i) => (w === 0) === (mask[i] === 0))).toBe(true);
      expect(numbers(parameter)).toEqual(resumed.stateDict()[name] && Array.from(resumed.stateDict()[name]!.data));
    }
    expect(() => prune.setMasks(optimizer, model, new Map([['weight', new Float32Array(1)]]))).toThrow(/'weight' is none/);
    expect(() => prune.applyMasks(model, new Map([['layers.0.weight', new Float32Array(1)]]))).toThrow(/must have 96 entries/);
  });
});

describe('counts', () => {
  it('parameters and operations by hand', () => {
    const model = perceptron(12, 8, 4);
    prune.pruneStep(model, { sparsity: 0.5, parameters: ['layers.0.weight'] });
    const count = prune.parameterCount(model);
    expect([count.parameters, count.nonZero]).toEqual([12 * 8 + 8 + 8 * 4 + 4, 48 + 8 + 32 + 4]);
    expect(count.byParameter['layers.0.weight']).toEqual({ parameters: 96, nonZero: 48 });
    expect(prune.flops(model, [1, 12])).toEqual({
      total: 2 * (96 + 32),
      nonZero: 2 * (48 + 32),
      byLayer: { 'layers.0': { total: 192, nonZero: 96 }, 'layers.2': { total: 64, nonZero: 64 } },
    });
    expect(prune.flops(model, [5, 12]).total).toBe(10 * 128);
    expect(() => prune.flops({} as nn.Module, [1, 2])).toThrow(TypeError);
  });
});
