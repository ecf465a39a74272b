// Training on a device: modules, optimisers, masks, memory that does not grow. The device is LIMBECK_TEST_DEVICE.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { crossEntropy, gatherRows, memory, tensor, tidy, type Device, type Tensor } from '../src/index.js';
import { AdamW, clipGradNorm, gradNorm, SGD, type Optimizer } from '../src/optim/index.js';
import type { Module } from '../src/nn/index.js';
import { Dropout, Linear, ReLU, Sequential } from '../src/nn/index.js';
import { magnitudeMasks } from '../src/prune/masks.js';
import { loadRecipe, overrideRecipe } from '../src/distill/recipe.js';
import { runRecipe } from '../src/distill/run.js';
import type { DataSource } from '../src/distill/source.js';
import type { MlpSpec } from '../src/distill/spec.js';
import { stageLoss } from '../src/distill/stage_loss/index.js';
import { Trainer } from '../src/distill/trainer.js';
import { readSafetensors } from '../src/safetensors.js';

const device = (process.env['LIMBECK_TEST_DEVICE'] ?? 'cpu') as Device;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-training-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const xorInputs = () =>
  tensor(
    [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ],
    { device },
  );
const xorLabels = Int32Array.from([0, 1, 1, 0]);

function perceptron(seed = 1, hidden = 16): Sequential {
  return new Sequential(new Linear(2, hidden, { seed, device }), new ReLU(), new Linear(hidden, 2, { seed: seed + 1, device }));
}

/** Trains on XOR and gives the last loss. */
function trainXor(model: Module, optimizer: Optimizer, steps: number): number {
  const x = xorInputs();
  let last = NaN;
  for (let i = 0; i < steps; i++) {
    last = tidy(() => {
      const loss = crossEntropy(model.forward(x), xorLabels);
      loss.backward();
      return loss.item();
    });
    optimizer.step();
    optimizer.zeroGrad();
  }
  x.dispose();
  return last;
}

async function values(parameters: Iterable<Tensor>): Promise<number[][]> {
  return Promise.all([...parameters].map(async (p) => [...(await p.read())]));
}

describe(`training on ${device}`, () => {
  it('learns XOR with SGD and with AdamW', () => {
    const sgdModel = perceptron();
    const sgd = trainXor(sgdModel, new SGD(sgdModel.parameters(), { learningRate: 0.2, momentum: 0.9, nesterov: true }), 150);
    expect(sgd < 0.02, `loss ${sgd}`).toBe(true);
    const adamModel = perceptron();
    const adam = trainXor(adamModel, new AdamW(adamModel.parameters(), { learningRate: 0.03, weightDecay: 0 }), 150);
    expect(adam < 0.02, `loss ${adam}`).toBe(true);
  });

  it('the same seed gives the same bits', async () => {
    const run = async () => {
      const model = perceptron(5);
      trainXor(model, new AdamW(model.parameters(), { learningRate: 0.01 }), 10);
      return values(model.parameters());
    };
    expect(await run()).toEqual(await run());
  });

  it('weights are Kaiming-uniform', async () => {
    const { weight, bias } = new Linear(600, 50, { seed: 3, device });
    const bound = Math.sqrt(6 / 600);
    const w = (await weight.read()) as Float32Array;
    expect(Math.max(...w) < bound && Math.min(...w) > -bound).toBe(true);
    const variance = w.reduce((sum, v) => sum + v * v, 0) / w.length;
    expect(Math.abs(variance / (bound ** 2 / 3) - 1) < 0.03).toBe(true);
    expect(bias!.shape).toEqual([50]);
  });

  it.each(['sgd', 'adamw'] as const)('%s holds masked weights and their momentum at exactly zero', async (kind) => {
    const model = perceptron(9);
    const parameters = model.parameters();
    const optimizer =
      kind === 'sgd'
        ? new SGD(parameters, { learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 })
        : new AdamW(parameters, { learningRate: 0.05 });
    trainXor(model, optimizer, 5);
    const weights = parameters.filter((p) => p.shape.length === 2);
    const masks = magnitudeMasks(
      (await values(weights)).map((w) => Float32Array.from(w)),
      0.5,
    );
    weights.forEach((w, i) => optimizer.setMask(w, tensor(masks[i]!, { shape: w.shape, device })));
    const check = async () => {
      for (const [i, w] of (await values(weights)).entries()) w.forEach((v, j) => expect(v === 0).toBe(masks[i]![j] === 0));
    };
    await check();
    trainXor(model, optimizer, 20);
    await check();
    const state = optimizer.stateDict();
    parameters.forEach((p, index) => {
      const mask = masks[weights.indexOf(p)];
      if (!mask) return;
      for (const [name, stored] of Object.entries(state)) {
        if (name.startsWith(`${index}.`)) stored.data.forEach((v, j) => mask[j] === 0 && expect(v).toBe(0));
      }
    });
  });

  it('refuses masks that do not fit', () => {
    const model = perceptron();
    const optimizer = new SGD(model.parameters(), { learningRate: 0.1 });
    const [weight] = model.parameters();
    expect(() => optimizer.setMask(weight!, tensor([1, 0], { device }))).toThrow(RangeError);
    expect(() => optimizer.setMask(weight!, tensor(new Float32Array(32).fill(0.5), { shape: [16, 2], device }))).toThrow('0 and 1 only');
    expect(() => optimizer.setMask(tensor([1], { device }), null)).toThrow('must belong to this optimiser');
  });

  it('clips by the norm of all gradients', async () => {
    const model = perceptron();
    tidy(() => crossEntropy(model.forward(xorInputs()), xorLabels).backward());
    const before = await values(model.parameters().map((p) => p.grad!));
    const norm = Math.sqrt(before.flat().reduce((sum, v) => sum + v * v, 0));
    const given = clipGradNorm(model.parameters(), norm / 4);
    expect(Math.abs(given / norm - 1) < 1e-5).toBe(true);
    expect(Math.abs((gradNorm(model.parameters()) * 4) / norm - 1) < 1e-5).toBe(true);
    expect(clipGradNorm(model.parameters(), norm)).toBeCloseTo(norm / 4, 5);
  });

  it('dropout drops in training only, differently at each call', async () => {
    const dropout = new Dropout(0.5, { seed: 4 });
    const x = tensor(new Float32Array(1000).fill(1), { device });
    const first = (await dropout.forward(x).read()) as Float32Array;
    const second = (await dropout.forward(x).read()) as Float32Array;
    expect([...first]).not.toEqual([...second]);
    const zeros = first.filter((v) => v === 0).length;
    expect(zeros > 400 && zeros < 600).toBe(true);
    first.forEach((v) => expect(v === 0 || v === 2).toBe(true));
    dropout.eval();
    expect([...(await dropout.forward(x).read())]).toEqual([...(await x.read())]);
  });

  it('saves and loads; what does not fit changes nothing', async () => {
    const model = perceptron(1);
    const other = perceptron(2);
    const path = join(folder, 'model.safetensors');
    model.save(path);
    other.load(path);
    expect(await values(other.parameters())).toEqual(await values(model.parameters()));
    const wider = perceptron(3, 17);
    const before = await values(wider.parameters());
    expect(() => wider.load(path)).toThrow(expect.objectContaining({ code: 'bad_file' }));
    expect(await values(wider.parameters())).toEqual(before);
    writeFileSync(path, 'no tensors');
    expect(() => other.load(path)).toThrow(expect.objectContaining({ code: 'bad_file' }));
  });

  it('a trainer goes on from its file with the same bits, and its memory does not grow', async () => {
    const rows = 64;
    const inputs = tensor(
      Float32Array.from({ length: rows * 2 }, (_, i) => Math.sin(i * 12.9898) * 2),
      { shape: [rows, 2], device },
    );
    const labels = Int32Array.from({ length: rows }, (_, i) => (Math.sin(i * 2 * 12.9898) > 0 ? 1 : 0));
    const of = (rows: Int32Array) => ({
      input: gatherRows(inputs, tensor(rows, { device })),
      labels: Int32Array.from(rows, (row) => labels[row]!),
    });
    const source: DataSource = {
      kind: 'custom',
      trainRows: rows,
      testRows: rows,
      rowsEach: 1,
      cols: 2,
      inputShape: [2],
      batch: of,
      test: (from, count) => of(Int32Array.from({ length: count }, (_, i) => from + i)),
      dispose: () => undefined,
    };
    const start = () => {
      const model = new Sequential(
        new Linear(2, 8, { seed: 1, device }),
        new ReLU(),
        new Dropout(0.3, { seed: 2 }),
        new Linear(8, 2, { seed: 3, device }),
      );
      const spec = { kind: 'labels', labelSmoothing: 0 } as const;
      const loss = stageLoss({ spec, device, seed: 1, rows, cols: 2, captured: () => ({ rows: () => expect.fail('there is no file') }) });
      const trainer = new Trainer({
        students: [{ name: 'student', model, loss }],
        source,
        training: {
          epochs: 4,
          batchSize: 24,
          accumulate: 1,
          points: 10,
          optimizer: { kind: 'adamw', learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 },
          schedule: { kind: 'cosine', warmup: 0.1, floor: 0 },
          clipNorm: 1,
          shift: 0,
        },
        steps: 12,
        seed: 7,
      });
      return { model, trainer };
    };
    const whole = start();
    const losses: number[] = [];
    const bytes: number[] = [];
    const tensors: number[] = [];
    while (!whole.trainer.isDone) {
      losses.push(whole.trainer.takeStep().loss);
      const live = memory()[device]!;
      bytes.push(live.bytes);
      tensors.push(live.tensors);
    }
    expect(new Set(bytes).size).toBe(1);
    expect(new Set(tensors).size).toBe(1);

    const first = start();
    const path = join(folder, 'place.safetensors');
    for (let i = 0; i < 5; i++) first.trainer.takeStep();
    first.trainer.save(path, {});
    const second = start();
    second.trainer.restore(readSafetensors(path));
    const rest: number[] = [];
    while (!second.trainer.isDone) rest.push(second.trainer.takeStep().loss);
    expect(rest).toEqual(losses.slice(5));
    expect(await values(second.model.parameters())).toEqual(await values(whole.model.parameters()));
  });

  it('a whole recipe runs, and leaves nothing behind', async () => {
    const recipe = overrideRecipe(await loadRecipe('recipes/digits.json'), { quick: true, epochs: 1 });
    recipe.repeats = 1;
    Object.assign(recipe.data, { trainRows: 128, testRows: 40 });
    recipe.models = Object.fromEntries(
      Object.entries(recipe.models).map(([name, model]) => [name, { ...(model as MlpSpec), hidden: [8] }]),
    );
    const before = memory()[device]!;
    const { results } = await runRecipe(recipe, { device, folder: join(folder, 'run'), recipePath: 'recipes/digits.json' });
    expect(results.machine.device).toBe(device);
    expect(results.models).toHaveLength(7);
    for (const { evaluation, sparsity, stage, level } of results.models) {
      expect(Number.isFinite(evaluation.nll)).toBe(true);
      if (level !== undefined) expect(Math.abs(sparsity - [0.5, 0.75, 0.875][stage === 'staged' ? level : 2]!) < 1e-3).toBe(true);
    }
    const after = memory()[device]!;
    // What earlier tests left may be collected meanwhile.
    expect(after.bytes).toBeLessThanOrEqual(before.bytes);
    expect(after.tensors).toBeLessThanOrEqual(before.tensors);
  });

  it('everything can be given back', () => {
    const before = memory()[device]!;
    tidy(() => {
      const model = perceptron();
      const optimizer = new AdamW(model.parameters(), { learningRate: 0.01 });
      trainXor(model, optimizer, 3);
      optimizer.dispose();
      model.dispose();
    });
    const after = memory()[device]!;
    expect(after.bytes).toBe(before.bytes);
    expect(after.tensors).toBe(before.tensors);
  });
});
