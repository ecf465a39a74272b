// limbeck/jax: losses and gradients are the contract's, valueAndGrad is jax-js's own, nothing leaks, and what jax-js does not let through.
import { defaultDevice, grad, init, jit, nn, numpy as np, tree, valueAndGrad as ofJax, vmap, type Array as JaxArray } from '@jax-js/jax';
import { beforeAll, describe, expect, test } from 'vitest';
import { crossEntropy, fromJax, kdLoss, lossOp, valueAndGrad, type JaxKdLossOptions, type JaxLoss } from '../src/adapters/jax.js';
import { captureTopK, dkdLoss, memory, tensor } from '../src/index.js';
import { divergenceNames } from '../src/losses/divergences.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';

const rows = 5;
const cols = 37;
const student = normals(1, rows * cols, 3) as Float32Array<ArrayBuffer>;
const teacher = normals(2, rows * cols, 3) as Float32Array<ArrayBuffer>;
const labels = Int32Array.from([3, 36, -100, 0, 7]);

beforeAll(async () => {
  await init('wasm');
  defaultDevice('wasm');
});

const array = (values: Float32Array<ArrayBuffer>, shape = [rows, cols]): JaxArray => np.array(values, { shape });
const numbers = (x: JaxArray): Float32Array => x.dataSync() as Float32Array;

function expectContract(
  { loss, gradient }: JaxLoss,
  options: Omit<raw.RawKdLossOptions, 'rows' | 'cols' | 'out'>,
  target: raw.RawTeacher = Float64Array.from(teacher),
): void {
  const exact = Float64Array.from(student);
  const out = { loss: new Float64Array(1), gradient: new Float64Array(exact.length) };
  raw.kdLoss(exact, target, { ...options, rows, cols, out });
  expect(loss.shape).toEqual([]);
  expect(gradient.shape).toEqual([rows, cols]);
  expect(Math.abs(numbers(loss)[0]! - out.loss[0]!)).toBeLessThanOrEqual(1e-5 * Math.max(Math.abs(out.loss[0]!), 1e-3));
  const largest = out.gradient.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  expect(largest).toBeGreaterThan(1e-4);
  const g = numbers(gradient);
  for (let i = 0; i < exact.length; i++) expect(Math.abs(g[i]! - out.gradient[i]!)).toBeLessThanOrEqual(1e-5 * largest);
}

describe('loss and gradient', () => {
  test.each(divergenceNames.filter((name) => name !== 'adaptive_kl'))('%s of logits', (divergence) => {
    const options = { divergence, temperature: 2 };
    expectContract(kdLoss(array(student), array(teacher), options), options);
  });

  test('labels, weights and temperatures of rows', () => {
    const rowWeights = Float32Array.from([1, 0.5, 2, 0, 1]);
    const temperature = Float32Array.from([1, 2, 3, 4, 0.5]);
    const same = { hardWeight: 0.3, labelSmoothing: 0.1, denominator: 'weights' } as const;
    const options: JaxKdLossOptions = {
      ...same,
      labels: np.array(labels, { dtype: np.int32 }),
      rowWeights: array(rowWeights, [rows]),
      temperature: array(temperature, [rows]),
    };
    expectContract(kdLoss(array(student), { logits: array(teacher) }, options), { ...same, labels, rowWeights, temperature });
  });

  test('sparse targets: parts of jax-js, parts as arrays, and limbeck’s own', () => {
    const captured = captureTopK(tensor(teacher, { shape: [rows, cols] }), 6);
    const parts = {
      indices: captured.indices.data as Int32Array<ArrayBuffer>,
      logProbs: captured.logProbs!.data as Float32Array<ArrayBuffer>,
      tailLogMass: captured.tailLogMass!.data as Float32Array,
    };
    const nested = {
      ...parts,
      indices: np.array(parts.indices, { shape: [rows, 6], dtype: np.int32 }),
      logProbs: array(parts.logProbs, [rows, 6]),
    };
    for (const target of [captured, nested])
      expectContract(kdLoss(array(student), target, { residual: 'tail_bucket' }), { residual: 'tail_bucket' }, parts);
  });

  test('row losses, cross-entropy, any loss of limbeck', () => {
    const { loss, gradient } = kdLoss(array(student), array(teacher), { reduction: 'none' });
    expect(loss.shape).toEqual([rows]);
    const sum = kdLoss(array(student), array(teacher), { reduction: 'sum' });
    expect([...numbers(gradient)]).toEqual([...numbers(sum.gradient)]);
    expect(numbers(loss).reduce((a, b) => a + b)).toBeCloseTo(numbers(sum.loss)[0]!, 4);

    const exact = { loss: new Float64Array(1), gradient: new Float64Array(rows * cols) };
    raw.crossEntropy(Float64Array.from(student), labels, { rows, cols, out: exact });
    const hard = crossEntropy(array(student), np.array(labels, { dtype: np.int32 }));
    expect(numbers(hard.loss)[0]).toBeCloseTo(exact.loss[0]!, 5);
    numbers(hard.gradient).forEach((g, i) => expect(g).toBeCloseTo(exact.gradient[i]!, 6));

    const own = tensor(student.slice(), { shape: [rows, cols], requiresGrad: true });
    const some = Int32Array.from([3, 36, 1, 0, 7]);
    dkdLoss(own, tensor(teacher, { shape: [rows, cols] }), some, { beta: 2 }).backward();
    const through = lossOp((x) => dkdLoss(x, fromJax(array(teacher)), some, { beta: 2 }))(array(student));
    expect([...numbers(through.gradient)]).toEqual([...own.grad!.data]);
  });
});

describe('valueAndGrad', () => {
  type Layer = { weight: JaxArray; bias: JaxArray };
  const layer = (): Layer => ({ weight: array(normals(5, 8 * cols) as Float32Array<ArrayBuffer>, [8, cols]), bias: np.zeros([cols]) });
  const inputs = (): JaxArray => array(normals(6, rows * 8) as Float32Array<ArrayBuffer>, [rows, 8]);
  const model = ({ weight, bias }: Layer, x: JaxArray): JaxArray => nn.relu(np.matmul(x, weight)).add(bias);
  const inOperations = (parameters: Layer, x: JaxArray, u: JaxArray): JaxArray => {
    const lp = nn.logSoftmax(u.mul(0.5), -1);
    const lq = nn.logSoftmax(model(parameters, x).mul(0.5), -1);
    return np.exp(lp.ref).mul(lp.sub(lq)).sum(-1).mean().mul(4);
  };

  test.each(['plain', 'jit'])('is what jax-js makes of the loss in its own operations: %s', (kind) => {
    const step = valueAndGrad(kind === 'jit' ? jit(model) : model, (logits) => kdLoss(logits, array(teacher), { temperature: 2 }));
    const [loss, gradient] = step(layer(), inputs());
    const [value, expected] = ofJax(inOperations)(layer(), inputs(), array(teacher));
    expect(numbers(loss)[0]).toBeCloseTo(numbers(value)[0]!, 4);
    for (const name of ['weight', 'bias'] as const) {
      expect(gradient[name].shape).toEqual(expected[name].shape);
      const wanted = numbers(expected[name]);
      numbers(gradient[name]).forEach((g, i) => expect(g).toBeCloseTo(wanted[i]!, 5));
    }
  });

  test('by another argument', () => {
    const step = valueAndGrad(model, (logits) => kdLoss(logits, array(teacher)), { argnum: 1 });
    const [, gradient] = step(layer(), inputs());
    expect(gradient.shape).toEqual([rows, 8]);
    gradient.dispose();
  });

  test('steps leave no memory behind, after errors neither', () => {
    const parameters = layer();
    const x = inputs();
    const u = array(teacher);
    const step = valueAndGrad(model, (logits) => kdLoss(logits, u.ref, { temperature: 2 }));
    const wrong = valueAndGrad(model, (logits) => kdLoss(logits, x.ref));
    const once = (): void => {
      const [loss, gradient] = step(tree.ref(parameters), x.ref);
      loss.dispose();
      tree.dispose(gradient);
      expect(() => wrong(tree.ref(parameters), x.ref)).toThrow(RangeError);
    };
    once();
    const { tensors } = memory().cpu;
    for (let i = 0; i < 10; i++) once();
    expect(memory().cpu.tensors).toBe(tensors);
    for (const each of [parameters.weight, parameters.bias, x, u]) expect(each.refCount).toBe(1);
  });

  test('a student comes to its teacher', () => {
    let weight = np.zeros([8, cols]);
    const step = valueAndGrad(
      (w: JaxArray, x: JaxArray) => np.matmul(x, w),
      (logits) => kdLoss(logits, array(teacher)),
    );
    const losses: number[] = [];
    for (let i = 0; i < 200; i++) {
      const [loss, gradient] = step(weight.ref, inputs());
      losses.push(loss.item() as number);
      weight = weight.sub(gradient.mul(0.5));
    }
    // Eight inputs can tell five rows apart.
    expect(losses[199]!).toBeLessThan(0.05 * losses[0]!);
  });
});

describe('what stands in the way', () => {
  test('inside grad, jit and vmap there are no numbers, and it says so', () => {
    const inside = (x: JaxArray): JaxArray => {
      expect('dataSync' in x).toBe(false);
      return kdLoss(x, array(teacher)).loss;
    };
    const words = /^Cannot compute kdLoss: student must be a jax-js array outside of grad, jit and vmap, .* valueAndGrad of limbeck\/jax/;
    expect(() => grad(inside)(array(student))).toThrow(words);
    expect(() => jit(inside)(array(student))).toThrow(words);
    expect(() => vmap(inside)(array(student))).toThrow(words);
  });

  test('jax-js exports no way to give a function a gradient of its own', async () => {
    // Should this fail, there is one now: kdLoss can be differentiated by jax-js itself.
    const { lax, ...jax } = await import('@jax-js/jax');
    const names = [...Object.keys(jax), ...Object.keys(lax)];
    expect(names.filter((name) => /custom|callback|defjvp|defvjp|primitive/i.test(name))).toEqual([]);
  });
});

describe('what it refuses', () => {
  test('wrong kinds and shapes, by name', () => {
    expect(() => kdLoss(student as unknown as JaxArray, array(teacher))).toThrow(
      'Cannot compute kdLoss: student must be a jax-js array: it is a Float32Array',
    );
    expect(() => kdLoss(np.zeros([2, 3], { dtype: np.int32 }), array(teacher))).toThrow('student must be float32: it is int32');
    expect(() => kdLoss(array(student), np.zeros([rows, cols + 1]))).toThrow(
      'Cannot compute kdLoss: the teacher must have shape [5, 37] like student: it has [5, 38]',
    );
    expect(() => kdLoss(array(student), array(teacher), { temprature: 1 } as JaxKdLossOptions)).toThrow("did you mean 'temperature'?");
    expect(() => crossEntropy(array(student), [1, 2])).toThrow(RangeError);
    expect(() => lossOp(1 as never)).toThrow('Cannot make a jax-js loss: loss must be a function: it is 1');
    expect(() => valueAndGrad(1 as never, () => kdLoss(array(student), array(teacher)))).toThrow('model must be a function: it is 1');
  });
});
