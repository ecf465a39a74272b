// Optimisers against their formulas in double, accumulation, masks, averages of weights, schedules. What runs on devices is in optim.device.test.ts.
import { describe, expect, it } from 'vitest';
import { crossEntropy, memory, nn, optim, randn, readSafetensors, tensor, tidy, writeSafetensors, type Tensor } from '../src/index.js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const numbers = (x: Tensor): number[] => [...x.data] as number[];
const make = (seed: number, size = 12): Tensor => randn([size], { seed, requiresGrad: true });

/** Gives a parameter a gradient: the loss is its dot product with it. */
function give(parameter: Tensor, gradient: readonly number[]): void {
  parameter.backward(tensor(Float32Array.from(gradient), { shape: parameter.shape }));
}

const model = (seed = 1) => new nn.Sequential(new nn.Linear(5, 8, { seed }), new nn.ReLU(), new nn.Linear(8, 3, { seed: seed + 1 }));
const inputs = randn([12, 5], { seed: 90 });
const labels = Int32Array.from({ length: 12 }, (_, i) => i % 3);

const makers = {
  sgd: (parameters: Tensor[]) => new optim.SGD(parameters, { learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 }),
  adamw: (parameters: Tensor[]) => new optim.AdamW(parameters, { learningRate: 0.01, weightDecay: 0.1 }),
  lion: (parameters: Tensor[]) => new optim.Lion(parameters, { learningRate: 0.01, weightDecay: 0.1 }),
};
const kinds = Object.keys(makers) as (keyof typeof makers)[];

/** Rows from..to of the batch; the loss is their sum over 12, so that parts add up to the mean of all. */
function learn(from = 0, to = 12, trained: nn.Module): void {
  tidy(() => {
    const x = tensor((inputs.data as Float32Array).subarray(from * 5, to * 5), { shape: [to - from, 5] });
    crossEntropy(trained.forward(x), labels.subarray(from, to), { denominator: 12 }).backward();
  });
}

describe('Lion', () => {
  it.each([0, 0.3])('follows its formula with weight decay %d', (weightDecay) => {
    const p = make(1);
    const optimizer = new optim.Lion([p], { learningRate: 0.02, beta1: 0.8, beta2: 0.95, weightDecay });
    const want = numbers(p);
    const momentum = want.map(() => 0);
    for (let step = 0; step < 5; step++) {
      const g = numbers(randn([12], { seed: 10 + step }));
      give(p, g);
      optimizer.step({ gradientScale: 0.5 });
      optimizer.zeroGrad();
      want.forEach((w, i) => {
        const own = 0.5 * g[i]!;
        want[i] = w - 0.02 * (Math.sign(0.8 * momentum[i]! + 0.2 * own) + weightDecay * w);
        momentum[i] = 0.95 * momentum[i]! + 0.05 * own;
      });
    }
    numbers(p).forEach((value, i) => expect(Math.abs(value - want[i]!)).toBeLessThan(1e-6));
    const [, stored] = Object.entries(optimizer.stateDict()).find(([name]) => name.endsWith('momentum'))!;
    momentum.forEach((value, i) => expect(Math.abs(stored.data[i]! - value)).toBeLessThan(1e-6));
  });

  it('a weight without gradient and momentum does not move; one whose gradient is NaN shows it', () => {
    const p = tensor([1, 2, 3], { requiresGrad: true });
    const optimizer = new optim.Lion([p], { learningRate: 0.1 });
    give(p, [0, NaN, 5]);
    optimizer.step();
    expect(numbers(p)).toEqual([1, NaN, Math.fround(3 - Math.fround(0.1))]);
  });

  it('refuses what cannot be', () => {
    const p = make(1);
    expect(() => new optim.Lion([p], { learningRate: -1 })).toThrow(RangeError);
    expect(() => new optim.Lion([p], { learningRate: 1, beta2: 1 })).toThrow('Cannot make Lion: beta2 must be in [0, 1): it is 1');
    expect(() => new optim.Lion([p], { learningRate: 1, epsilon: 1e-8 } as never)).toThrow(TypeError);
    expect(() => new optim.SGD([p], { lr: 1 } as never)).toThrow("'lr' is not; did you mean 'learningRate'?");
    expect(() => new optim.SGD([p], { learningRate: 1, nesterov: 'yes' } as never)).toThrow('nesterov must be true or false');
    expect(() => new optim.SGD([tensor(new Float64Array(1), { requiresGrad: true })], { learningRate: 1 })).toThrow('must be float32');
    const sgd = new optim.SGD([p], { learningRate: 1 });
    expect(() => sgd.step({ gradientscale: 2 } as never)).toThrow("did you mean 'gradientScale'?");
    expect(() => sgd.step(null as never)).toThrow('Cannot step: options must be an object: it is null');
    expect(() => sgd.setMask(p, 5 as never)).toThrow('Cannot set a mask: the mask must be a Tensor: it is 5');
    expect(() => sgd.loadStateDict(null as never)).toThrow('Cannot load an optimiser: the state must be an object: it is null');
    expect(() => sgd.loadStateDict({ steps: { data: ['x'] } } as never)).toThrow("'steps' must be a number: it is 'x'");
  });
});

describe.each(kinds)('%s', (kind) => {
  it('accumulated micro-batches make the step of one large batch', () => {
    const [whole, parts] = [model(), model()];
    const [a, b] = [makers[kind](whole.parameters()), makers[kind](parts.parameters())];
    // Lion knows the sign alone, and that of a sum of roundings may differ: the gradients are compared there, too.
    for (let step = 0; step < 3; step++) {
      learn(0, 12, whole);
      for (const [from, to] of [
        [0, 4],
        [4, 8],
        [8, 12],
      ] as const)
        learn(from, to, parts);
      whole.parameters().forEach((p, i) => {
        const other = numbers(parts.parameters()[i]!.grad!);
        numbers(p.grad!).forEach((g, j) => expect(Math.abs(g - other[j]!)).toBeLessThan(1e-6));
      });
      for (const optimizer of [a, b]) {
        optimizer.step();
        optimizer.zeroGrad();
      }
    }
    const other = parts.parameters().map(numbers);
    whole.parameters().forEach((p, i) => numbers(p).forEach((v, j) => expect(Math.abs(v - other[i]![j]!)).toBeLessThan(1e-5)));
  });

  it('gradientScale 1/k makes a mean of k sums, whatever the momentum', () => {
    const [once, twice] = [make(3), make(3)];
    const [a, b] = [makers[kind]([once]), makers[kind]([twice])];
    for (let step = 0; step < 3; step++) {
      const g = numbers(randn([12], { seed: 20 + step }));
      give(once, g);
      for (let k = 0; k < 4; k++) give(twice, g);
      a.step();
      b.step({ gradientScale: 1 / 4 });
      a.zeroGrad();
      b.zeroGrad();
    }
    expect(numbers(twice)).toEqual(numbers(once));
  });

  it('state goes through a file and back; the next steps have the same bits', () => {
    const folder = mkdtempSync(join(tmpdir(), 'limbeck-optim-'));
    try {
      const [a, b] = [model(5), model(7)];
      const one = makers[kind](a.parameters());
      for (let i = 0; i < 4; i++) {
        learn(0, 12, a);
        one.step();
        one.zeroGrad();
      }
      const file = join(folder, 'state.safetensors');
      writeSafetensors(file, one.stateDict());
      b.loadStateDict(a.stateDict());
      const two = makers[kind](b.parameters());
      two.loadStateDict(Object.fromEntries(readSafetensors(file).tensors));
      expect(two.steps).toBe(4);
      expect(two.stateDict()).toEqual(one.stateDict());
      for (const [trained, optimizer] of [
        [a, one],
        [b, two],
      ] as const) {
        for (let i = 0; i < 3; i++) {
          learn(0, 12, trained);
          optimizer.step();
          optimizer.zeroGrad();
        }
      }
      expect(b.stateDict()).toEqual(a.stateDict());
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('a state that does not fit is refused', () => {
    const optimizer = makers[kind]([make(1)]);
    expect(() => optimizer.loadStateDict({})).toThrow("the state must hold 'steps'");
    expect(() => optimizer.loadStateDict({ steps: { dtype: 'float64', shape: [1], data: new Float64Array([1]) } })).toThrow(
      "the state must hold '0.",
    );
    const pair = makers[kind]([make(1), make(2, 3)]);
    const before = pair.stateDict();
    const half = Object.fromEntries(
      Object.entries(makers[kind]([make(1), make(2, 4)]).stateDict()).map(([name, entry]) => [
        name,
        { ...entry, data: entry.data.map(() => 7) },
      ]),
    );
    expect(() => pair.loadStateDict(half)).toThrow('with 3 elements: it holds 4');
    expect(pair.stateDict()).toEqual(before);
  });

  it('steps leave no tensors behind', () => {
    const trained = model(9);
    const optimizer = makers[kind](trained.parameters());
    const count = () => Object.values(memory()).reduce((total, { tensors }) => total + tensors, 0);
    const ema = new optim.EMA(trained, { decay: 0.9 });
    const step = () => {
      learn(0, 12, trained);
      optimizer.step();
      optimizer.zeroGrad();
      ema.update();
      ema.during(() => undefined);
    };
    step();
    const before = count();
    for (let i = 0; i < 5; i++) step();
    expect(count()).toBe(before);
  });
});

describe('clipping', () => {
  it('counts the norm after gradientScale', () => {
    const p = tensor([0, 0], { requiresGrad: true });
    give(p, [6, 8]);
    expect(optim.clipGradNorm([p], 10, { gradientScale: 0.5 })).toBe(5);
    expect(numbers(p.grad!)).toEqual([6, 8]);
    expect(optim.clipGradNorm([p], 1, { gradientScale: 0.5 })).toBe(5);
    expect(numbers(p.grad!)).toEqual([Math.fround(6 * Math.fround(0.2)), Math.fround(8 * Math.fround(0.2))]);
    expect(() => optim.clipGradNorm([p], 1, { gradientScale: 0 })).toThrow(RangeError);
  });

  it('counts and scales a parameter that is listed twice once', () => {
    const [p, q] = [tensor([0, 0], { requiresGrad: true }), tensor([0], { requiresGrad: true })];
    give(p, [2, 3]);
    give(q, [6]);
    expect(optim.gradNorm([p, q, p])).toBe(7);
    expect(optim.clipGradNorm([p, q, p], 7)).toBe(7);
    expect(optim.clipGradNorm([p, q, p], 3.5)).toBe(7);
    expect([...numbers(p.grad!), ...numbers(q.grad!)]).toEqual([1, 1.5, 3]);
  });
});

describe('EMA', () => {
  it('follows its formula, with warm-up too', () => {
    for (const warmup of [false, true]) {
      const p = make(1, 4);
      const ema = new optim.EMA([p], { decay: 0.6, warmup });
      const want = numbers(p);
      for (let n = 0; n < 8; n++) {
        (p.data as Float32Array).set(numbers(randn([4], { seed: 30 + n })));
        const decay = warmup ? Math.min(0.6, (1 + n) / (10 + n)) : 0.6;
        expect(ema.nextDecay).toBe(decay);
        ema.update();
        numbers(p).forEach((v, i) => (want[i] = decay * want[i]! + (1 - decay) * v));
      }
      expect(ema.updates).toBe(8);
      [...ema.stateDict()['average.0']!.data].forEach((v, i) => expect(Math.abs(v - want[i]!)).toBeLessThan(1e-6));
    }
  });

  it('weights that stay have exactly themselves as average; decay 0 follows', () => {
    const p = make(2);
    const still = new optim.EMA([p], { decay: 0.9999 });
    for (let i = 0; i < 50; i++) still.update();
    expect([...still.stateDict()['average.0']!.data]).toEqual(numbers(p));
    const follows = new optim.EMA([p], { decay: 0 });
    (p.data as Float32Array).fill(2);
    follows.update();
    expect([...follows.stateDict()['average.0']!.data]).toEqual(numbers(p));
  });

  it('swaps in and out bit for bit, and comes back after an error', () => {
    const trained = model(3);
    const ema = new optim.EMA(trained, { decay: 0.5 });
    const begun = trained.stateDict();
    const optimizer = makers.sgd(trained.parameters());
    learn(0, 12, trained);
    optimizer.step();
    ema.update();
    const own = trained.stateDict();
    const averages = ema.during(() => trained.stateDict());
    const half = (name: string, i: number) => (begun[name]!.data[i]! + own[name]!.data[i]!) / 2;
    for (const [name, { data }] of Object.entries(averages)) data.forEach((v, i) => expect(v).toBeCloseTo(half(name, i), 6));
    expect(trained.stateDict()).toEqual(own);
    expect(() =>
      ema.during(() => {
        throw new Error('no');
      }),
    ).toThrow('no');
    expect(trained.stateDict()).toEqual(own);
    expect(() => ema.during(async () => undefined)).toThrow('fn must be synchronous');
    expect(trained.stateDict()).toEqual(own);
    ema.swap();
    expect(() => ema.update()).toThrow('the model must have its own weights: it has the averages');
    expect(() => ema.stateDict()).toThrow(RangeError);
    ema.swap();
    const copy = model(4);
    ema.applyTo(copy);
    expect(copy.stateDict()).toEqual(averages);
    expect(() => ema.applyTo([copy.parameters()[0]!])).toThrow('the target must have 4 parameters: it has 1');
    expect(() => ema.applyTo(new nn.Sequential(new nn.Linear(5, 8), new nn.Linear(8, 4)))).toThrow(RangeError);
  });

  it('state goes out and in; what does not fit changes nothing', () => {
    const trained = model(5);
    const ema = new optim.EMA(trained, { decay: 0.9, warmup: true });
    (trained.parameters()[0]!.data as Float32Array).fill(1);
    ema.update();
    const state = ema.stateDict();
    expect(Object.keys(state)).toContain('average.layers.0.weight');
    const other = new optim.EMA(model(6), { decay: 0.9, warmup: true });
    const before = other.stateDict();
    const broken = { ...state, 'average.layers.2.bias': { dtype: 'float32' as const, shape: [2], data: new Float32Array(2) } };
    expect(() => other.loadStateDict(broken)).toThrow("the state must hold 'average.layers.2.bias' of shape [3]: its shape is [2]");
    expect(other.stateDict()).toEqual(before);
    other.loadStateDict(state);
    expect(other.stateDict()).toEqual(state);
    expect(other.nextDecay).toBe(2 / 11);
  });

  it('refuses what cannot be averaged', () => {
    expect(() => new optim.EMA(model(), { decay: 1 })).toThrow('Cannot make an EMA: decay must be in [0, 1): it is 1');
    expect(() => new optim.EMA([], { decay: 0.9 })).toThrow('there must be a parameter: there is none');
    expect(() => new optim.EMA([tensor(new Float64Array(2))], { decay: 0.9 })).toThrow("parameter '0' must be float32: it is float64");
    expect(() => new optim.EMA(model(), undefined as never)).toThrow(TypeError);
  });
});

describe('schedules', () => {
  const steps = 100;
  it.each(optim.scheduleKinds)('%s stays in [0, 1], rises in the warm-up and reaches 1', (kind) => {
    const factor = optim.schedule(kind, { steps, warmupSteps: 10 });
    const values = Array.from({ length: steps + 5 }, (_, step) => factor(step));
    expect(values.every((v) => v >= 0 && v <= 1)).toBe(true);
    for (let i = 1; i < 10; i++) expect(values[i]!).toBeGreaterThan(values[i - 1]!);
    expect(values[10]).toBeCloseTo(1, 12);
    for (let i = 11; i < steps; i++) expect(values[i]!).toBeLessThanOrEqual(values[i - 1]!);
    const raised = optim.schedule(kind, { steps, warmupSteps: 10, floor: 0.2 });
    for (let i = 10; i < steps + 5; i++) expect(raised(i)).toBeGreaterThanOrEqual(0.2);
  });

  it('have the values of their formulas', () => {
    const root = optim.schedule('inverse_square_root', { steps, warmupSteps: 9 });
    expect(root(9)).toBe(1);
    expect(root(39)).toBeCloseTo(0.5, 12);
    const stable = optim.schedule('warmup_stable_decay', { steps, warmupSteps: 5, decaySteps: 19, floor: 0.1 });
    expect([stable(5), stable(80)]).toEqual([1, 1]);
    expect(stable(90)).toBeCloseTo(0.1 + 0.9 * 0.5, 12);
    expect(stable(100)).toBeCloseTo(0.1, 12);
    expect(optim.schedule('warmup_stable_decay', { steps: 95 })(84)).toBe(1);
    expect(optim.schedule('warmup_stable_decay', { steps: 95 })(85)).toBeCloseTo(10 / 11, 12);
    const cycle = optim.schedule('one_cycle', { steps, warmupSteps: 30 });
    expect(cycle(0)).toBe(1 / 25);
    expect(cycle(15)).toBeCloseTo((1 + 1 / 25) / 2, 12);
    expect(cycle(65)).toBeCloseTo(0.5, 12);
    expect(cycle(100)).toBeCloseTo(0, 12);
  });

  it('refuse what does not fit', () => {
    expect(() => optim.schedule('cosine', { steps, decaySteps: 3 })).toThrow(
      "decaySteps must be left out unless the kind is 'warmup_stable_decay'",
    );
    expect(() => optim.schedule('warmup_stable_decay', { steps, warmupSteps: 90, decaySteps: 20 })).toThrow('from 0 to 10: it is 20');
    expect(() => optim.schedule('cosinus' as never, { steps })).toThrow(TypeError);
  });
});
