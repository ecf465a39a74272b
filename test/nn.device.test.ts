// Ready models on a device: logits, features and gradients are those of the same model in float64. The device is LIMBECK_TEST_DEVICE.
import { describe, expect, it } from 'vitest';
import { add, memory, mul, nn, randn, sum, tensor, tidy, type Device, type Tensor } from '../src/index.js';
import { toFloat64 } from './finite_differences.js';

const device = (process.env['LIMBECK_TEST_DEVICE'] ?? 'cpu') as Device;

const image = randn([2, 40], { seed: 1 });
const ids = tensor(Int32Array.from([1, 5, 12, 0, 3, 3, 7, 2]), { shape: [2, 4] });
const configs: [string, nn.ModelConfig, Tensor][] = [
  ['MLP', { kind: 'mlp', inputs: 40, hidden: [9, 5], outputs: 4, activation: 'silu' }, image],
  ['CNN', { kind: 'cnn', inputShape: [1, 5, 8], channels: [3, 4], hidden: [6], classes: 4 }, image],
  ['GPT', { kind: 'gpt', vocabulary: 13, context: 6, width: 8, blocks: [{ heads: 2, mlpWidth: 10 }, { heads: 1, headWidth: 3, mlpWidth: 5 }] }, ids],
  ['MultiExit', { kind: 'multi_exit', model: { kind: 'gpt', vocabulary: 13, context: 4, width: 8, layers: 1, heads: 2 }, exits: [0] }, ids],
  ['DualHead', { kind: 'dual_head', model: { kind: 'mlp', inputs: 40, hidden: [6], outputs: 4, activation: 'gelu' }, alpha: 0.3, beta: 2 }, image],
]; // prettier-ignore

/** Every output weighted by fixed numbers, added up: reaches all parameters. */
function objective({ logits, features, exits = [] }: nn.ModelOutput): Tensor {
  return [logits, ...features, ...exits]
    .map((x, i) => sum(mul(x, randn(x.shape, { seed: i, dtype: 'float32', device: x.device }).cast(x.dtype))))
    .reduce((total, part) => add(total, part));
}

async function near(got: Tensor, wanted: Tensor, what: string): Promise<void> {
  expect(got.shape, what).toEqual(wanted.shape);
  const values = await got.read();
  const scale = Math.max(...Array.from(wanted.data, Math.abs), 1e-3);
  values.forEach((value, i) => {
    const error = Math.abs(value - wanted.data[i]!);
    expect(error <= 1e-4 * scale, `${what}[${i}] is ${value}, in float64 ${wanted.data[i]}`).toBe(true);
  });
}

/** Embeddings and heads begin near 0; gradients should not. */
function stirred(config: nn.ModelConfig, on: Device): nn.Model {
  const model = nn.build(config, { seed: 1 });
  model.parameters().forEach((parameter, p) => {
    const noise = randn(parameter.shape, { seed: p }).data;
    parameter.data.forEach((value, i) => (parameter.data[i] = value + 0.3 * noise[i]!));
  });
  const placed = nn.build(config, { seed: 2, device: on });
  placed.loadStateDict(model.stateDict());
  return placed;
}

describe.each(configs)('%s', (_, config, batch) => {
  it('computes what float64 does, and its gradients', async () => {
    const model = stirred(config, device);
    const exact = toFloat64(stirred(config, 'cpu'));
    const x = batch.to(device);
    const ours = model.forwardWithFeatures(x);
    const theirs = exact.forwardWithFeatures(batch.dtype === 'int32' ? batch : batch.cast('float64'));
    await near(ours.logits, theirs.logits, 'logits');
    await near(ours.hidden, theirs.hidden, 'hidden');
    for (const [i, feature] of ours.features.entries()) await near(feature, theirs.features[i]!, `feature ${i}`);
    for (const [i, exit] of (ours.exits ?? []).entries()) await near(exit, theirs.exits![i]!, `exit ${i}`);
    objective(ours).backward();
    objective(theirs).backward();
    const wanted = new Map(exact.namedParameters());
    for (const [name, parameter] of model.namedParameters()) await near(parameter.grad!, wanted.get(name)!.grad!, `∂/∂${name}`);
    model.dispose();
  });

  it('leaves nothing behind after a step', () => {
    const model = stirred(config, device);
    const x = batch.to(device);
    const step = (): void => {
      tidy(() => objective(model.forwardWithFeatures(x)).backward());
      for (const parameter of model.parameters()) parameter.zeroGrad();
    };
    step();
    const before = memory()[device]!;
    for (let i = 0; i < 3; i++) step();
    // Less is possible: what an earlier test left is collected when the engine pleases.
    expect(memory()[device]!.tensors).toBeLessThanOrEqual(before.tensors);
    expect(memory()[device]!.bytes).toBeLessThanOrEqual(before.bytes);
    model.dispose();
  });
});

it('a GPT on a device generates what one on the CPU does', () => {
  const [, config] = configs[2]!;
  const [a, b] = [stirred(config, device) as nn.GPT, stirred(config, 'cpu') as nn.GPT];
  expect(a.generate([1, 2], { tokens: 8, temperature: 0 })).toEqual(b.generate([1, 2], { tokens: 8, temperature: 0 }));
});

describe(`a linear layer, its activation and dropout on ${device}`, () => {
  type Made = { out: number[]; gradients: number[][]; offset: number };

  /** Loss and gradients of the layers, in one pass or one after the other. */
  async function run(layers: nn.Module[], together: boolean): Promise<Made> {
    const x = randn([6, 5], { seed: 3, device, requiresGrad: true });
    const out = together ? new nn.Sequential(...layers).forward(x) : layers.reduce((value, layer) => layer.forward(value), x as Tensor);
    out.backward(randn(out.shape, { seed: 4, device }));
    const parameters = layers.flatMap((layer) => layer.parameters());
    const gradients = await Promise.all([x, ...parameters].map(async (each) => [...(await each.grad!.read())]));
    const drop = layers.find((layer) => layer instanceof nn.Dropout);
    for (const each of parameters) each.zeroGrad();
    return { out: [...(await out.read())], gradients, offset: drop?.offset ?? 0 };
  }

  const activations = { none: () => [], relu: () => [new nn.ReLU()], gelu: () => [new nn.GELU()], silu: () => [new nn.SiLU()], tanh: () => [new nn.Tanh()] }; // prettier-ignore

  it.each(Object.keys(activations) as (keyof typeof activations)[])('%s: one pass has the bits of one after the other', async (name) => {
    for (const bias of [true, false])
      for (const probability of [0, 0.4])
        for (const training of [true, false]) {
          const layers = (): nn.Module[] => {
            const drop = new nn.Dropout(probability, { seed: 2 });
            // In the middle of its sequence, not at a counter's beginning.
            drop.offset = 7;
            return [new nn.Linear(5, 9, { bias, seed: 1, device }), ...activations[name](), drop].map((each) => each.train(training));
          };
          const [together, apart] = [await run(layers(), true), await run(layers(), false)];
          expect(together).toEqual(apart);
          expect(together.offset).toBe(training && probability > 0 ? 7 + 54 : 7);
          expect(together.out.some((v) => v !== 0)).toBe(true);
        }
  });

  it('is left to the layers where one is of a class of its own', async () => {
    class Doubled extends nn.Linear {
      override forward(x: Tensor): Tensor {
        return mul(super.forward(x), 2);
      }
    }
    class Half extends nn.ReLU {
      override forward(x: Tensor): Tensor {
        return mul(super.forward(x), 0.5);
      }
    }
    const layers = (): nn.Module[] => [new Doubled(5, 4, { seed: 1, device }), new nn.ReLU(), new nn.Linear(4, 3, { seed: 2, device }), new Half()]; // prettier-ignore
    expect(await run(layers(), true)).toEqual(await run(layers(), false));
  });
});

describe(`GPT on ${device}`, () => {
  it('continues a text with the tokens that the whole text gives, within its context and beyond', async () => {
    const { vocabulary, context } = { vocabulary: 13, context: 10 };
    const blocks = [
      { heads: 2, mlpWidth: 10 },
      { heads: 1, headWidth: 3, mlpWidth: 5 },
    ];
    const model = stirred({ kind: 'gpt', vocabulary, context, width: 8, blocks, dropout: 0.5 }, device) as nn.GPT;
    for (const start of [[3], [1, 5, 0, 2], [4, 4, 1, 0, 9, 8, 7, 2, 2, 1]]) {
      const live = memory()[device === 'cpu' ? 'cpu' : 'cuda']!.tensors;
      const text = model.generate(start, { tokens: 8, temperature: 0 });
      expect(memory()[device === 'cpu' ? 'cpu' : 'cuda']!.tensors).toBe(live);
      model.eval();
      for (let at = start.length; at < text.length; at++) {
        const before = text.slice(Math.max(0, at - context), at);
        const logits = await model.forward(tensor(before, { shape: [1, before.length], device })).read();
        const last = [...logits.slice(-vocabulary)];
        expect(text[at], `token ${at} of ${text.join(' ')}`).toBe(last.indexOf(Math.max(...last)));
      }
      model.train();
      expect(model.generate(start, { tokens: 8, topK: 1, seed: 2 })).toEqual(text);
    }
  });
});
