// Layers and ready models: gradients against finite differences, names, configs, states, errors.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linear, nn, randn, softmax, tensor, tidy, writeSafetensors, type Tensor } from '../src/index.js';
import { deriveSeed } from '../src/nn/seed.js';
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
    for (const activation of [new nn.ReLU(), new nn.GELU(), new nn.SiLU(), new nn.Tanh()])
      expectModuleGradients(toFloat64(new nn.Sequential(new nn.Linear(3, 4, { seed: 1 }), activation)), input(4, 3));
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

  it('LayerNorm with and without bias, RMSNorm', () => {
    const moved = <M extends nn.Module>(module: M): M => {
      toFloat64(module).parameters().forEach((parameter, i) => parameter.data.forEach((_, j) => (parameter.data[j] = 0.5 + i - 0.3 * j))); // prettier-ignore
      return module;
    };
    expectModuleGradients(moved(new nn.LayerNorm(4)), input(2, 3, 4));
    expectModuleGradients(moved(new nn.LayerNorm(4, { bias: false, epsilon: 0.1 })), input(3, 4));
    expectModuleGradients(moved(new nn.RMSNorm(4, { epsilon: 0.1 })), input(3, 4));
  });

  it('Conv2d and the poolings', () => {
    expectModuleGradients(toFloat64(new nn.Conv2d(2, 3, { padding: 1, seed: 1 })), input(2, 2, 4, 3));
    expectModuleGradients(toFloat64(new nn.Conv2d(2, 2, { size: 2, stride: 2, bias: false, seed: 1 })), input(1, 2, 5, 4));
    const under = (pool: nn.Module): nn.Module => toFloat64(new nn.Sequential(new nn.Conv2d(1, 2, { size: 2, seed: 1 }), pool));
    for (const pool of [new nn.MaxPool2d(2), new nn.MaxPool2d(3, { stride: 1 }), new nn.AvgPool2d(2), new nn.GlobalAvgPool2d()])
      expectModuleGradients(under(pool), input(2, 1, 5, 5));
  });

  it('CausalSelfAttention, also with heads of another width', () => {
    const options = { width: 4, deviation: 0.5, seed: 1 };
    expectModuleGradients(toFloat64(new nn.CausalSelfAttention({ ...options, heads: 2 })), input(2, 3, 4));
    expectModuleGradients(toFloat64(new nn.CausalSelfAttention({ ...options, heads: 3, headWidth: 1, bias: false })), input(1, 3, 4));
  });

  it('CNN', () => {
    const model = new nn.CNN({ inputShape: [1, 5, 4], channels: [2, 2], hidden: [3], classes: 2, seed: 3 });
    expectModuleGradients(toFloat64(model), input(2, 20));
  });

  it.each([true, false])('GPT, tied: %s', (tied) => {
    const model = new nn.GPT({ vocabulary: 5, context: 4, width: 4, layers: 2, heads: 2, mlpWidth: 3, tied, seed: 3 });
    // At their beginning the weights are small enough to hide a wrong derivative.
    for (const parameter of toFloat64(model).parameters())
      parameter.data.forEach((value, i) => (parameter.data[i] = 15 * value + 0.01 * i));
    for (const ids of [
      [[1, 0, 4, 1]],
      [
        [2, 2, 3],
        [0, 1, 4],
      ],
    ]) {
      // prettier-ignore
      const x = tensor(ids, { dtype: 'int32' });
      expectModuleGradients(model, x);
    }
  });

  it.each(['gelu', 'silu', 'relu', 'tanh'] as const)('MLP with %s', (activation) => {
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
    const linear = (i: number, from: number, to: number) => new nn.Linear(from, to, { seed: deriveSeed(7, 'linear', i) });
    const drop = (at: number, share: number) => new nn.Dropout(share, { seed: deriveSeed(7, 'dropout', at) });
    const before = new nn.Sequential(drop(0, 0.1), linear(0, 4, 6), new nn.ReLU(), drop(3, 0.25), linear(1, 6, 5), new nn.ReLU(), drop(6, 0.25), linear(2, 5, 3)); // prettier-ignore
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

describe('CNN', () => {
  it('takes images and rows, and gives each stage and hidden layer', () => {
    const model = new nn.CNN({ inputShape: [2, 9, 8], channels: [3, 4], hidden: [6], classes: 5, seed: 1 });
    const x = randn([2, 2, 9, 8], { seed: 1 });
    const { logits, features, hidden } = model.forwardWithFeatures(x);
    expect(features.map(({ shape }) => shape)).toEqual([[2, 3, 4, 4], [2, 4, 2, 2], [2, 6]]); // prettier-ignore
    expect(model.featureShapes).toEqual([[3, 4, 4], [4, 2, 2], [6]]);
    expect(model.featureWidths).toEqual([3, 4, 6]);
    expect(hidden.shape).toEqual([2, 6]);
    expect(rows(model.forward(x.reshape([2, 144])))).toEqual(rows(logits));
  });

  it('finds a pattern wherever it lies: equal logits for shifted images under global pooling', () => {
    const model = new nn.Sequential(new nn.Conv2d(1, 3, { padding: 1, seed: 1 }), new nn.ReLU(), new nn.GlobalAvgPool2d());
    const image = (at: number): Tensor => tensor(Float32Array.from({ length: 81 }, (_, i) => (i === at || i === at + 10 ? 1 : 0)), { shape: [1, 1, 9, 9] }); // prettier-ignore
    const [a, b] = [20, 40].map((at) => rows(model.forward(image(at)))) as [number[], number[]];
    a.forEach((value, i) => expect(value).toBeCloseTo(b[i]!, 6));
  });
});

describe('GPT', () => {
  const small = (): nn.GPT => new nn.GPT({ vocabulary: 11, context: 6, width: 8, layers: 2, heads: 2, mlpWidth: 12, seed: 4 });
  const ids = (...numbers: number[]): Tensor => tensor(Int32Array.from(numbers), { shape: [1, numbers.length] });

  it('begins as GPT-2 does: N(0, 0.02²), and smaller into the residual stream', () => {
    const model = new nn.GPT({ vocabulary: 50, context: 8, width: 48, layers: 8, heads: 4, seed: 1 });
    const deviation = (x: Tensor): number => Math.sqrt(rows(x).reduce((sum, value) => sum + value * value, 0) / x.size);
    const { up, down, attention } = model.blocks[3]!;
    for (const weight of [model.tokens.weight, up.weight, attention.qkv.weight]) expect(deviation(weight) / 0.02).toBeCloseTo(1, 1);
    for (const weight of [down.weight, attention.projection.weight]) expect(deviation(weight) / (0.02 / 4)).toBeCloseTo(1, 1);
    expect(deviation(up.bias!)).toBe(0);
    expect(model.parameterCount()).toBe(50 * 48 + 8 * 48 + 8 * (4 * 48 + 48 * 144 + 144 + 48 * 48 + 48 + 2 * 48 * 192 + 192 + 48) + 2 * 48);
  });

  it('sees no later token, and every earlier one', () => {
    const model = small();
    const logits = (...numbers: number[]): number[] => rows(model.forward(ids(...numbers)));
    const [a, b] = [logits(1, 2, 3, 4, 5, 6), logits(1, 2, 3, 9, 5, 6)];
    expect(a.slice(0, 33)).toEqual(b.slice(0, 33));
    for (let token = 3; token < 6; token++) expect(a.slice(11 * token, 11 * token + 11)).not.toEqual(b.slice(11 * token, 11 * token + 11));
    logits(1, 2, 3).forEach((value, i) => expect(value).toBeCloseTo(a[i]!, 5));
  });

  it('gives blocks, what the output layer reads, and queries, keys and values where asked', () => {
    const model = small();
    const output = model.forwardWithFeatures(ids(1, 2, 3), { attention: true });
    expect(output.features.map(({ shape }) => shape)).toEqual([[1, 3, 8], [1, 3, 8]]); // prettier-ignore
    expect(output.qkv!.map(({ shape }) => shape)).toEqual([[1, 3, 24], [1, 3, 24]]); // prettier-ignore
    expect(rows(linear(output.hidden, model.outputWeight))).toEqual(rows(output.logits));
    expect(model.forwardWithFeatures(ids(1)).qkv).toBeUndefined();
  });

  it('takes blocks of different shapes, as pruning leaves them', () => {
    const blocks = [{ heads: 1, headWidth: 4, mlpWidth: 5 }, { heads: 3, headWidth: 2, mlpWidth: 1 }]; // prettier-ignore
    const model = new nn.GPT({ vocabulary: 11, context: 6, width: 8, blocks, seed: 4 });
    expect(model.config.blocks).toEqual(blocks);
    expect(model.blocks[0]!.attention.qkv.weight.shape).toEqual([12, 8]);
    expect(model.forward(ids(1, 2)).shape).toEqual([1, 2, 11]);
  });

  it('drops in training alone', () => {
    const model = new nn.GPT({ vocabulary: 11, context: 6, width: 8, layers: 1, heads: 2, dropout: 0.3, seed: 4 });
    expect(rows(model.forward(ids(1, 2, 3)))).not.toEqual(rows(model.forward(ids(1, 2, 3))));
    model.eval();
    expect(rows(model.forward(ids(1, 2, 3)))).toEqual(rows(model.forward(ids(1, 2, 3))));
  });

  it('generates what its logits say, longer than its context too', () => {
    const model = small();
    for (const parameter of model.parameters()) parameter.data.forEach((value, i) => (parameter.data[i] = 20 * value));
    const greedy = model.generate([1, 2], { tokens: 9, temperature: 0 });
    expect([...greedy.slice(0, 2)]).toEqual([1, 2]);
    for (let at = 2; at < 11; at++) {
      const before = greedy.slice(Math.max(0, at - 6), at);
      const last = rows(model.forward(ids(...before))).slice(-11);
      expect(greedy[at]).toBe(last.indexOf(Math.max(...last)));
    }
    expect(model.generate([1, 2], { tokens: 9, topK: 1, seed: 3 })).toEqual(greedy);
    const one = model.generate([1, 2], { tokens: 9, seed: 3 });
    expect(model.generate([1, 2], { tokens: 9, seed: 3 })).toEqual(one);
    expect(model.training).toBe(true);

    // Frequencies of one drawn token against softmax(logits / 2): 4 standard deviations of a binomial.
    const p = rows(softmax(model.forward(ids(1, 2)), { temperature: 2 })).slice(-11);
    const counts = new Array<number>(11).fill(0);
    for (let seed = 0; seed < 600; seed++) counts[model.generate([1, 2], { tokens: 1, temperature: 2, seed })[2]!]!++;
    counts.forEach((count, i) => expect(Math.abs(count - 600 * p[i]!)).toBeLessThanOrEqual(4 * Math.sqrt(600 * p[i]! * (1 - p[i]!)) + 1));
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
  cnn: () => new nn.CNN({ inputShape: [1, 4, 5], channels: [3, 2], hidden: [4], classes: 3, dropout: 0.2, seed: 1 }),
  gpt: () => new nn.GPT({ vocabulary: 7, context: 4, width: 6, blocks: [{ heads: 2, headWidth: 3, mlpWidth: 5 }, { heads: 1, headWidth: 2, mlpWidth: 4 }], dropout: 0.1, tied: false, seed: 1 }), // prettier-ignore
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
    expect(model.inputShape.length).toBe(x.shape.length - 1);
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

it.each(['cnn', 'gpt'])('exits and a second head on a %s', (kind) => {
  const x = kind === 'gpt' ? tensor(Int32Array.from([1, 2, 3, 0]), { shape: [2, 2] }) : randn([2, 20], { seed: 3 });
  const exits = new nn.MultiExit(models[kind]!(), { exits: [0, 1], seed: 2 }).eval().forwardWithFeatures(x);
  expect(exits.exits!.map(({ shape }) => shape)).toEqual(Array.from({ length: 3 }, () => exits.logits.shape));
  const dual = new nn.DualHead(models[kind]!(), { seed: 2 }).eval().forwardWithFeatures(x);
  expect(dual.exits!.map(({ shape }) => shape)).toEqual(Array.from({ length: 2 }, () => dual.logits.shape));
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
    ['a GPT whose heads do not divide its width', () => new nn.GPT({ vocabulary: 3, context: 2, width: 8, layers: 1, heads: 3 }), RangeError, 'width must be a multiple of heads (3)'],
    ['a GPT of blocks and layers', () => new nn.GPT({ vocabulary: 3, context: 2, width: 8, layers: 1, blocks: [{ heads: 1, mlpWidth: 1 }] }), TypeError, 'layers must be left out'],
    ['a block without an mlpWidth', () => new nn.GPT({ vocabulary: 3, context: 2, width: 8, blocks: [{ heads: 1 } as never] }), TypeError, 'blocks[0].mlpWidth'],
    ['a sequence beyond the context', () => models['gpt']!().forward(tensor(new Int32Array(5), { shape: [1, 5] })), RangeError, '1 to 4 tokens: it has 5'],
    ['a sequence without a batch', () => models['gpt']!().forward(tensor(new Int32Array(5))), RangeError, 'ids must have shape [batch, tokens]'],
    ['a beginning of nothing', () => (models['gpt']!() as nn.GPT).generate([], { tokens: 1 }), TypeError, 'at least one token'],
    ['a token there is none of', () => (models['gpt']!() as nn.GPT).generate([7], { tokens: 1 }), RangeError, 'ids[0]'],
    ['a CNN whose image is too small', () => new nn.CNN({ inputShape: [1, 3, 8], channels: [1, 1], classes: 2 }), RangeError, 'at least 4 × 4'],
    ['images of another size', () => models['cnn']!().forward(randn([1, 1, 5, 4])), RangeError, 'x must have shape [images, 1, 4, 5]'],
    ['padding of a whole window', () => new nn.Conv2d(1, 1, { size: 2, padding: 2 }), RangeError, 'padding'],
    ['a field that a kind has not', () => nn.build({ kind: 'dual_head', model: { kind: 'mlp', inputs: 1, hidden: [1], outputs: 1 }, gamma: 1 } as never), TypeError, "'gamma' is not"],
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
