// Layers and ready models: gradients against finite differences, names, configs, states, errors.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nn, randn, softmax, tensor, tidy, writeSafetensors, type Tensor } from '../src/index.js';
import { buildModel } from '../src/distill/model.js';
import { expectGradients, expectModuleGradients, toFloat64 } from './finite_differences.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-nn-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const input = (...shape: number[]): Tensor => randn(shape, { seed: 5, dtype: 'float64', requiresGrad: true });
const rows = (x: Tensor): number[] => Array.from(x.data);
const weights = (model: nn.Module): Record<string, number[]> =>
  Object.fromEntries([...model.namedParameters()].map(([name, parameter]) => [name, rows(parameter)]));

const leaves = (model: nn.Module, taken: (name: string) => boolean): Record<string, Tensor> =>
  Object.fromEntries([...model.namedParameters()].filter(([name]) => taken(name)));

describe('gradients against float64 finite differences', () => {
  it('Linear, with and without bias, and as normal numbers', () => {
    expectModuleGradients(toFloat64(new nn.Linear(3, 2, { seed: 1 })), input(4, 3));
    expectModuleGradients(toFloat64(new nn.Linear(3, 2, { seed: 1, bias: false, deviation: 0.5 })), input(2, 2, 3));
  });

  it('Embedding, with an id that comes twice', () => {
    expectModuleGradients(toFloat64(new nn.Embedding(4, 3, { seed: 1 })), tensor(Int32Array.from([1, 3, 1, 0]), { shape: [2, 2] }));
  });

  it('Flatten and Residual, with and without a shortcut', () => {
    expectModuleGradients(toFloat64(new nn.Sequential(new nn.Flatten(), new nn.Linear(6, 2, { seed: 1 }))), input(2, 3, 2));
    expectModuleGradients(toFloat64(new nn.Residual(new nn.Sequential(new nn.Linear(3, 3, { seed: 1 }), new nn.Tanh()))), input(2, 3));
    const shortcut = new nn.Linear(3, 2, { seed: 2 });
    expectModuleGradients(toFloat64(new nn.Residual(new nn.Linear(3, 2, { seed: 1 }), { shortcut })), input(2, 3));
  });

  it.each(['relu', 'tanh'] as const)('MLP with %s', (activation) => {
    const model = new nn.MLP({ inputs: 3, hidden: [4, 3], outputs: 2, activation, seed: 2 });
    expectModuleGradients(toFloat64(model), input(3, 3));
  });

  it('MultiExit: every head reaches the part they share', () => {
    const model = toFloat64(new nn.MultiExit(new nn.MLP({ inputs: 3, hidden: [4, 3], outputs: 2, seed: 2 }), { exits: [0, 1], seed: 3 }));
    const x = input(3, 3);
    const first = model.forwardWithFeatures(x);
    expect(first.exits).toHaveLength(3);
    expect(first.exits![2]).toBe(first.logits);
    for (const exit of [0, 1]) {
      const reached = ['model.layers.0.', ...(exit === 1 ? ['model.layers.2.'] : []), `heads.${exit}.`];
      expectGradients({ ...leaves(model, (name) => reached.some((start) => name.startsWith(start))), x }, () => model.forwardWithFeatures(x).exits![exit]!); // prettier-ignore
    }
  });

  it.each([0, 0.3, 1])('DualHead with alpha %d', (alpha) => {
    const model = toFloat64(new nn.DualHead(new nn.MLP({ inputs: 3, hidden: [4], outputs: 3, seed: 2 }), { alpha, beta: 2, seed: 3 }));
    const unused = alpha === 0 ? 'model.layers.2.' : alpha === 1 ? 'second.' : '?';
    const x = input(3, 3);
    expectGradients({ ...leaves(model, (name) => !name.startsWith(unused)), x }, () => model.forward(x));
  });
});

describe('MLP', () => {
  it('has the weights, names and dropped elements of the perceptrons that recipes have built so far', () => {
    const spec = { hidden: [6, 5], dropout: 0.25, inputDropout: 0.1 };
    const before = buildModel(spec as never, 4, 3, 7, 'cpu');
    const model = new nn.MLP({ inputs: 4, outputs: 3, ...spec, seed: 7 });
    expect(weights(model)).toEqual(weights(before));
    const x = randn([8, 4], { seed: 1 });
    expect(rows(model.forward(x))).toEqual(rows(before.forward(x)));
    expect(Object.keys(model.stateDict())).toEqual(['layers.1.weight', 'layers.1.bias', 'layers.4.weight', 'layers.4.bias', 'layers.7.weight', 'layers.7.bias']); // prettier-ignore
  });

  it('gives each hidden layer after its activation, and what its output layer reads', () => {
    const model = new nn.MLP({ inputs: 4, hidden: [6, 5], outputs: 3, seed: 1 }).eval();
    const { logits, features, hidden } = model.forwardWithFeatures(randn([2, 2, 2], { seed: 1 }));
    expect([logits, ...features, hidden].map((x) => x.shape)).toEqual([[2, 3], [2, 6], [2, 5], [2, 5]]); // prettier-ignore
    expect(model.featureWidths).toEqual([6, 5]);
    expect(Math.min(...features.flatMap(rows))).toBe(0);
    expect(rows(model.forward(randn([2, 4], { seed: 1 })))).toEqual(rows(logits));
  });

  it('is a linear classifier without hidden layers', () => {
    const model = new nn.MLP({ inputs: 4, hidden: [], outputs: 3, seed: 1 });
    expect(model.forwardWithFeatures(randn([2, 4], { seed: 1 })).features).toEqual([]);
    expect(model.config).toMatchObject({ inputs: 4, hidden: [], outputs: 3 });
  });
});

describe('DualHead', () => {
  it('predicts the mixture of both heads', () => {
    const model = new nn.DualHead(new nn.MLP({ inputs: 3, hidden: [4], outputs: 3, seed: 2 }), { alpha: 0.3, beta: 2, seed: 3 });
    const { logits, exits } = model.forwardWithFeatures(randn([5, 3], { seed: 4 }));
    const [p, first, second] = [softmax(logits), softmax(exits![0]!), softmax(exits![1]!, { temperature: 2 })].map(rows);
    p!.forEach((value, i) => expect(value).toBeCloseTo(0.3 * first![i]! + 0.7 * second![i]!, 6));
  });
});

/** One small model of each kind. */
const models: Record<string, () => nn.Model> = {
  mlp: () => new nn.MLP({ inputs: 4, hidden: [5, 3], outputs: 3, activation: 'tanh', dropout: 0.2, inputDropout: 0.1, seed: 1 }),
  multi_exit: () => new nn.MultiExit(new nn.MLP({ inputs: 4, hidden: [5, 3], outputs: 3, seed: 1 }), { exits: [1], seed: 2 }),
  dual_head: () => new nn.DualHead(new nn.MLP({ inputs: 4, hidden: [5], outputs: 3, seed: 1 }), { alpha: 0.25, beta: 3, seed: 2 }),
};

describe.each(Object.keys(models))('every ready model: %s', (kind) => {
  const sample = (model: nn.Model): Tensor =>
    model.takesIds ? tensor(Int32Array.from([1, 2, 3, 0, 2, 1]), { shape: [2, 3] }) : randn([2, ...model.inputShape], { seed: 3 });

  it('says its config, which builds one of the same shapes and dropout', () => {
    const model = models[kind]!();
    const config = JSON.parse(JSON.stringify(model.config)) as nn.ModelConfig;
    expect(config.kind).toBe(kind);
    const again = nn.build(config, { seed: 9 });
    expect(again.config).toEqual(config);
    expect([...again.namedParameters()].map(([name, { shape }]) => [name, shape])).toEqual(
      [...model.namedParameters()].map(([name, { shape }]) => [name, shape]),
    );
    expect(weights(again)).toEqual(weights(nn.build(config, { seed: 9 })));
    expect(weights(again)).not.toEqual(weights(nn.build(config, { seed: 10 })));
  });

  it('says the shapes of what it computes', () => {
    const model = models[kind]!().eval();
    const x = sample(model);
    const { logits, features, hidden, exits } = model.forwardWithFeatures(x);
    expect(logits.shape.at(-1)).toBe(model.outputs);
    expect(hidden.shape.at(-1)).toBe(model.hiddenWidth);
    expect(features.map(({ shape }) => shape.at(-1))).toEqual(model.featureShapes.map((shape) => shape.at(-1)));
    for (const exit of exits ?? []) expect(exit.shape).toEqual(logits.shape);
    expect(rows(model.forward(x))).toEqual(rows(logits));
  });

  it('is saved with its config and loaded from the file alone', () => {
    const model = models[kind]!().eval();
    const file = join(folder, `${kind}.safetensors`);
    model.save(file, { note: 'kept' });
    const again = nn.load(file).eval();
    expect(again.config).toEqual(model.config);
    const x = sample(model);
    expect(rows(again.forward(x))).toEqual(rows(model.forward(x)));
  });
});

describe('errors', () => {
  const linear = (): nn.Linear => new nn.Linear(3, 2, { seed: 1 });

  it.each<[string, () => unknown, new (...args: never[]) => Error, string]>([
    ['a Linear without outputs', () => new nn.Linear(3, 0), RangeError, 'Cannot make a Linear: outputs must be a whole number in [1, 2147483648]: it is 0'],
    ['an unknown option', () => new nn.Linear(3, 2, { sede: 1 } as never), TypeError, "'sede' is not; did you mean 'seed'?"],
    ['a deviation of 0', () => new nn.Linear(3, 2, { deviation: 0 }), RangeError, 'deviation must be positive and finite'],
    ['ids that are floats', () => new nn.Embedding(3, 2).forward(tensor([1, 2])), TypeError, 'int32'],
    ['an id outside', () => new nn.Embedding(3, 2).forward(tensor(Int32Array.from([3]))), RangeError, 'in [0, 3)'],
    ['a Flatten of a vector', () => new nn.Flatten().forward(tensor([1])), RangeError, 'x must have at least two dimensions'],
    ['a Residual that changes the shape', () => new nn.Residual(linear()).forward(randn([1, 3])), RangeError, 'must keep the shape [1, 3]'],
    ['a Residual of a function', () => new nn.Residual((() => 1) as never), TypeError, 'inner must be a Module'],
    ['an MLP without options', () => new nn.MLP(undefined as never), TypeError, 'Cannot make an MLP'],
    ['an MLP with a hidden layer of 0', () => new nn.MLP({ inputs: 1, hidden: [0], outputs: 1 }), RangeError, 'hidden[0]'],
    ['an unknown activation', () => new nn.MLP({ inputs: 1, hidden: [1], outputs: 1, activation: 'rleu' as never }), RangeError, "did you mean 'relu'?"],
    ['rows of another width', () => new nn.MLP({ inputs: 4, hidden: [], outputs: 1 }).forward(randn([2, 3])), RangeError, 'x must have 4 columns'],
    ['an exit there is no feature for', () => new nn.MultiExit(new nn.MLP({ inputs: 1, hidden: [1], outputs: 1 }), { exits: [1] }), RangeError, 'exits[0]'],
    ['exits that descend', () => new nn.MultiExit(new nn.MLP({ inputs: 1, hidden: [1, 1], outputs: 1 }), { exits: [1, 0] }), RangeError, 'exits must ascend'],
    ['heads on heads', () => new nn.DualHead(models['multi_exit']!()), TypeError, 'the model must have one head'],
    ['heads on a layer', () => new nn.DualHead(linear() as never), TypeError, 'must be a ready one'],
    ['a kind nobody knows', () => nn.build({ kind: 'mpl' } as never), RangeError, "did you mean 'mlp'?"],
  ])('%s', (_, call, type, words) => {
    expect(() => tidy(call as () => unknown)).toThrow(type);
    expect(() => tidy(call as () => unknown)).toThrow(words);
  }); // prettier-ignore

  it('a file without a config, or with weights of another shape', () => {
    const file = join(folder, 'bare.safetensors');
    new nn.Linear(2, 2, { seed: 1 }).save(file);
    expect(() => nn.load(file)).toThrow(/bare.safetensors: it must have been written by a ready model's save\(\)/);
    const model = models['mlp']!();
    writeSafetensors(file, { ...model.stateDict(), 'layers.1.bias': { dtype: 'float32', shape: [1], data: new Float32Array(1) } }, { 'limbeck.config': JSON.stringify(model.config) }); // prettier-ignore
    expect(() => nn.load(file)).toThrow(/its tensors must fit its config: .*'layers.1.bias' must be float32 of shape \[5\]/);
    writeSafetensors(file, model.stateDict(), { 'limbeck.config': '{"kind":' });
    expect(() => nn.load(file)).toThrow(/must be the config of a model/);
  });
});
