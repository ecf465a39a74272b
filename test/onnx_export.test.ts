// Models written as ONNX files give the same logits in ONNX Runtime, at any batch size.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { add, LimbeckError, nn, prune, randn, scale, tensor, type Tensor } from '../src/index.js';
import { exportOnnx, onnxTranslation, type ExportOnnxOptions, type OnnxBuilder, type OnnxValue } from '../src/onnx/index.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-onnx-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function runFile(file: string, x: Tensor): Promise<Record<string, { data: number[]; dims: readonly number[] }>> {
  const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  try {
    const feed =
      x.dtype === 'int32'
        ? new ort.Tensor('int64', BigInt64Array.from(x.data as Int32Array, BigInt), [...x.shape])
        : new ort.Tensor('float32', x.data as Float32Array, [...x.shape]);
    const results = await session.run({ input: feed });
    return Object.fromEntries(
      Object.entries(results).map(([name, { data, dims }]) => [name, { data: Array.from(data as Float32Array), dims }]),
    );
  } finally {
    await session.release();
  }
}

function expectNear(got: { data: number[]; dims: readonly number[] }, wanted: Tensor, what: string): void {
  expect(got.dims, what).toEqual(wanted.shape);
  const values = wanted.data;
  const worst = got.data.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i]!)), 0);
  expect(worst <= 1e-4, `${what}: largest difference ${worst}`).toBe(true);
  // Logits that are all the same would agree with anything.
  expect(Math.max(...values) - Math.min(...values), what).toBeGreaterThan(1e-2);
}

let files = 0;
/** Exports and compares on batches of one size and of another. */
async function expectSame(model: nn.Module, batches: Tensor[], options?: ExportOnnxOptions): Promise<string> {
  model.eval();
  const file = join(folder, `model-${files++}.onnx`);
  const { outputs, bytes } = await exportOnnx(model, file, options);
  expect(statSync(file).size).toBe(bytes);
  for (const x of batches) {
    const got = await runFile(file, x);
    const own = model instanceof nn.Model ? model.forwardWithFeatures(x) : { logits: model.forward(x), exits: undefined };
    expect(Object.keys(got).sort()).toEqual(outputs.map(({ name }) => name).sort());
    expectNear(got['logits']!, own.logits, 'logits');
    if (own.exits === undefined) continue;
    const prefix = model instanceof nn.DualHead ? 'head' : 'exit';
    const heads = model instanceof nn.DualHead ? own.exits : own.exits.slice(0, -1);
    expect(outputs).toHaveLength(1 + heads.length);
    for (const [i, head] of heads.entries()) expectNear(got[`${prefix}_${i}`]!, head, `${prefix} ${i}`);
  }
  return file;
}

/** Weights far from their beginning, so that nothing is near 0 by itself. */
function stirred<M extends nn.Module>(model: M): M {
  let seed = 100;
  for (const parameter of model.parameters()) {
    const noise = randn(parameter.shape, { seed: seed++ }).data;
    parameter.data.forEach((value, i) => (parameter.data[i] = value + 0.3 * noise[i]!));
  }
  return model;
}

const image = (batch: number): Tensor => randn([batch, 2, 9, 8], { seed: batch });
const ids = (batch: number, tokens: number, vocabulary = 13): Tensor =>
  tensor(
    Int32Array.from({ length: batch * tokens }, (_, i) => (i * 7 + batch) % vocabulary),
    { shape: [batch, tokens] },
  );
const gptOptions = { vocabulary: 13, context: 6, width: 8, layers: 2, heads: 2, mlpWidth: 10 };

describe('the same logits in ONNX Runtime', () => {
  it.each(['relu', 'gelu', 'silu', 'tanh'] as const)('MLP with %s, dropout left out', async (activation) => {
    const model = new nn.MLP({ inputs: 6, hidden: [9, 5], outputs: 4, activation, dropout: 0.4, inputDropout: 0.2, seed: 1 });
    await expectSame(stirred(model), [randn([1, 6], { seed: 1 }), randn([7, 6], { seed: 2 })]);
  });

  it('MLP on examples of more dimensions', async () => {
    await expectSame(new nn.MLP({ inputs: 6, hidden: [], outputs: 4, seed: 1 }), [randn([3, 2, 3], { seed: 1 })], { inputShape: [2, 3] });
  });

  it('CNN, on images and on rows', async () => {
    const model = stirred(new nn.CNN({ inputShape: [2, 9, 8], channels: [3, 4], hidden: [6], classes: 5, dropout: 0.1, seed: 1 }));
    await expectSame(model, [image(1), image(3)]);
    await expectSame(model, [image(2).reshape([2, 144])], { inputShape: [144] });
  });

  it.each([true, false])('GPT at every length, tied: %s', async (tied) => {
    const model = stirred(new nn.GPT({ ...gptOptions, dropout: 0.1, tied, seed: 1 }));
    const file = await expectSame(model, [ids(1, 6), ids(3, 6), ids(2, 1), ids(1, 4)]);
    // One embedding, not two, where it is shared.
    const { graph } = onnxProto.onnx.ModelProto.decode(readFileSync(file)) as never as { graph: { initializer: { name: string }[] } };
    expect(graph.initializer.filter(({ name }) => name === 'tokens.weight' || name === 'head.weight')).toHaveLength(tied ? 1 : 2);
  });

  it('what pruning leaves: a GPT with blocks of different shapes, heads of another width', async () => {
    const blocks = [{ heads: 1, headWidth: 4, mlpWidth: 5 }, { heads: 3, headWidth: 2, mlpWidth: 1 }]; // prettier-ignore
    await expectSame(stirred(new nn.GPT({ vocabulary: 13, context: 6, width: 8, blocks, seed: 1 })), [ids(2, 5)]);
  });

  it('exits and second heads, on every kind of model', async () => {
    const cnn = (): nn.CNN => new nn.CNN({ inputShape: [2, 9, 8], channels: [3, 4], hidden: [6], classes: 5, seed: 1 });
    const gpt = (): nn.GPT => new nn.GPT({ ...gptOptions, seed: 1 });
    const mlp = (): nn.MLP => new nn.MLP({ inputs: 6, hidden: [9, 5], outputs: 4, seed: 1 });
    await expectSame(stirred(new nn.MultiExit(cnn(), { exits: [0, 1, 2], seed: 2 })), [image(2)]);
    await expectSame(stirred(new nn.MultiExit(gpt(), { exits: [0], seed: 2 })), [ids(2, 3)]);
    await expectSame(stirred(new nn.MultiExit(mlp(), { exits: [0], seed: 2 })), [randn([2, 6], { seed: 1 })]);
    await expectSame(stirred(new nn.DualHead(gpt(), { alpha: 0.3, beta: 2, seed: 2 })), [ids(2, 3)]);
    for (const alpha of [0, 1])
      await expectSame(stirred(new nn.DualHead(mlp(), { alpha, beta: 3, seed: 2 })), [randn([2, 6], { seed: 1 })]);
  });

  it('every layer, put together by hand', async () => {
    const body = new nn.Sequential(
      new nn.Conv2d(2, 4, { size: 3, stride: 2, padding: 1, bias: false, seed: 1 }),
      new nn.GELU(),
      new nn.Residual(new nn.Conv2d(4, 4, { padding: 1, seed: 2 })),
      new nn.AvgPool2d(2, { stride: 1 }),
      new nn.Residual(new nn.Conv2d(4, 3, { size: 1, seed: 3 }), { shortcut: new nn.Conv2d(4, 3, { size: 1, bias: false, seed: 4 }) }),
    );
    const pooled = new nn.Sequential(body, new nn.GlobalAvgPool2d(), new nn.RMSNorm(3, { epsilon: 0.01 }), new nn.Linear(3, 4, { seed: 5 }));
    await expectSame(stirred(pooled), [image(1), image(4)], { inputShape: [2, 9, 8] });
    const flat = new nn.Sequential(body, new nn.MaxPool2d(3, { stride: 1 }), new nn.Flatten(), new nn.Dropout(0.5), new nn.Linear(6, 4, { seed: 6 }));
    await expectSame(stirred(flat), [image(2)], { sample: image(1) });
    const tokens = new nn.Sequential(
      new nn.Embedding(13, 8, { seed: 1 }),
      new nn.LayerNorm(8, { bias: false, epsilon: 0.01 }),
      new nn.CausalSelfAttention({ width: 8, heads: 3, headWidth: 2, bias: false, seed: 2 }),
      new nn.Linear(8, 5, { bias: false, seed: 3 }),
    );
    await expectSame(stirred(tokens), [ids(1, 4), ids(2, 6)], { sample: ids(1, 4), dynamic: [1] });
  }); // prettier-ignore

  it('with newer operators', async () => {
    await expectSame(stirred(new nn.GPT({ ...gptOptions, seed: 1 })), [ids(2, 3)], { opset: 21 });
    await expectSame(stirred(new nn.CNN({ inputShape: [2, 9, 8], channels: [3], classes: 5, seed: 1 })), [image(2)], { opset: 21 });
  });

  const pruned: [prune.Structure, () => nn.Model, (batch: number) => Tensor][] = [
    ['units', () => new nn.MLP({ inputs: 6, hidden: [9, 8], outputs: 4, seed: 1 }), (batch) => randn([batch, 6], { seed: batch })],
    ['channels', () => new nn.CNN({ inputShape: [2, 9, 8], channels: [4, 6], hidden: [6], classes: 5, seed: 1 }), image],
    ['heads', () => new nn.GPT({ ...gptOptions, heads: 4, seed: 1 }), (batch) => ids(batch, 5)],
    ['layers', () => new nn.GPT({ ...gptOptions, layers: 4, seed: 1 }), (batch) => ids(batch, 5)],
    ['units', () => new nn.GPT({ ...gptOptions, seed: 1 }), (batch) => ids(batch, 5)],
    ['width', () => new nn.GPT({ ...gptOptions, seed: 1 }), (batch) => ids(batch, 5)],
    ['units', () => new nn.DualHead(new nn.MLP({ inputs: 6, hidden: [9, 8], outputs: 4, seed: 1 }), { seed: 2 }), (batch) => randn([batch, 6], { seed: batch })],
  ]; // prettier-ignore
  it.each(pruned)('half of the %s taken out, in a smaller file', async (structure, make, batch) => {
    const whole = stirred(make());
    const { model } = prune.pruneStep(whole, { structure, sparsity: 0.5, method: 'magnitude' });
    const [large, small] = [await expectSame(whole, [batch(2)]), await expectSame(model, [batch(1), batch(3)])].map(
      (file) => statSync(file).size,
    );
    expect(small!).toBeLessThan(large!);
    expect(model.parameterCount()).toBeLessThan(whole.parameterCount());
  });

  it('masked weights, which stay 0', async () => {
    const model = stirred(new nn.MLP({ inputs: 6, hidden: [9], outputs: 4, seed: 1 }));
    const weight = (model.layers[0] as nn.Linear).weight.data;
    weight.forEach((_, i) => i % 2 === 0 && (weight[i] = 0));
    await expectSame(model, [randn([2, 6], { seed: 1 })]);
  });
});

describe("modules of one's own", () => {
  class Doubled extends nn.Module {
    inner = new nn.Linear(3, 3, { seed: 1 });
    override forward(x: Tensor): Tensor {
      return add(scale(this.inner.forward(x), 2), x);
    }
  }

  class Translated extends Doubled {
    [onnxTranslation](builder: OnnxBuilder, x: OnnxValue): OnnxValue {
      const inner = builder.module('inner', this.inner, x);
      return builder.node('Add', [builder.node('Mul', [inner, builder.constant([2], [])], inner.shape), x], inner.shape);
    }
  }

  it('translate themselves', async () => {
    await expectSame(new nn.Sequential(new nn.Linear(2, 3, { seed: 2 }), new Translated()), [randn([3, 2], { seed: 1 })], {
      inputShape: [2],
    });
  });

  it('may call their parameters what the file calls its input and output', async () => {
    class Shift extends nn.Module {
      input = tensor([0.5, -1, 2], { requiresGrad: true });
      logits = tensor([3], { requiresGrad: true });
      override forward(x: Tensor): Tensor {
        return add(add(x, this.input), this.logits);
      }
      [onnxTranslation](builder: OnnxBuilder, x: OnnxValue): OnnxValue {
        const shifted = builder.node('Add', [x, builder.weight(this.input)], x.shape);
        return builder.node('Add', [shifted, builder.weight(this.logits)], x.shape);
      }
    }
    await expectSame(new Shift(), [randn([2, 3], { seed: 1 })], { inputShape: [3] });
  });

  it('are refused by name where they do not', async () => {
    const model = new nn.Sequential(new nn.ReLU(), new Doubled());
    const attempt = exportOnnx(model, join(folder, 'refused.onnx'), { inputShape: [3] });
    await expect(attempt).rejects.toThrow(/Cannot export a model: every module must be one of limbeck.nn or have a method \[onnxTranslation\]\(builder, x\): 'layers.1' is a Doubled/); // prettier-ignore
    class Wider extends nn.MLP {}
    await expect(exportOnnx(new nn.MultiExit(new Wider({ inputs: 1, hidden: [1], outputs: 1 }), { exits: [0] }), join(folder, 'refused.onnx'))).rejects.toThrow(/'model' is a Wider/); // prettier-ignore
    expect(readdirSync(folder).filter((name) => /refused/.test(name))).toEqual([]);
  });
});

describe('the file', () => {
  it('carries metadata, names and dynamic dimensions, and is the same each time', async () => {
    const model = new nn.GPT({ ...gptOptions, seed: 1 });
    const [a, b] = [join(folder, 'a.onnx'), join(folder, 'b.onnx')];
    const { input } = await exportOnnx(model, a, { metadata: { stage: 'student' } });
    expect(input).toEqual({ name: 'input', shape: ['batch', 'tokens'], type: 'int64' });
    await exportOnnx(model, b, { metadata: { stage: 'student' } });
    expect(readFileSync(a).equals(readFileSync(b))).toBe(true);
    const decoded = onnxProto.onnx.ModelProto.decode(readFileSync(a)) as never as {
      producerName: string;
      metadataProps: { key: string; value: string }[];
      graph: { input: { type: { tensorType: { shape: { dim: { dimParam?: string }[] } } } }[] };
    };
    expect(decoded.producerName).toBe('limbeck');
    expect(decoded.metadataProps.map(({ key, value }) => [key, value])).toEqual([['stage', 'student']]);
    expect(decoded.graph.input[0]!.type.tensorType.shape.dim.map(({ dimParam }) => dimParam)).toEqual(['batch', 'tokens']);
  });

  it('is smaller by what was pruned', async () => {
    const size = async (hidden: number): Promise<number> =>
      (await exportOnnx(new nn.MLP({ inputs: 64, hidden: [hidden], outputs: 10 }), join(folder, 'size.onnx'))).bytes;
    expect((await size(64)) - (await size(32))).toBeGreaterThanOrEqual(4 * 32 * (64 + 1 + 10));
  });

  it.each<[string, () => [nn.Module, string?, ExportOnnxOptions?], RegExp]>([
    ['something that is no module', () => [{} as never], /model must be a Module/],
    ['no path', () => [new nn.ReLU(), ''], /path must be a string/],
    ['a layer without the shape of its input', () => [new nn.ReLU()], /inputShape or a sample must be given/],
    ['an input of another width', () => [new nn.Sequential(new nn.Linear(3, 2)), undefined, { inputShape: [4] }], /'layers.0' must get 3 columns: it gets shape \[batch, 4\]/], // prettier-ignore
    ['old operators', () => [new nn.ReLU(), undefined, { inputShape: [4], opset: 12 }], /opset must be a whole number in \[17, 21\]/],
    ['metadata that is no text', () => [new nn.ReLU(), undefined, { inputShape: [1], metadata: { a: 1 } as never }], /metadata must be an object of strings/], // prettier-ignore
    ['a shape twice', () => [new nn.ReLU(), undefined, { inputShape: [1], sample: randn([1, 1]) }], /inputShape must be left out/],
    ['a dimension there is none of', () => [new nn.ReLU(), undefined, { inputShape: [1], dynamic: [2] }], /dynamic\[0\]/],
    ['a folder that is not there', () => [new nn.ReLU(), join(tmpdir(), 'limbeck-nowhere', 'x.onnx'), { inputShape: [1] }], /its folder must exist/], // prettier-ignore
  ])('refuses %s', async (_, argumentsOf, words) => {
    const [model, path = join(folder, 'never.onnx'), options] = argumentsOf();
    const error: unknown = await exportOnnx(model, path, options).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toMatch(words);
    expect(error instanceof TypeError || error instanceof RangeError || error instanceof LimbeckError).toBe(true);
    expect(readdirSync(folder).filter((name) => /never|tmp/.test(name))).toEqual([]);
  });
});
