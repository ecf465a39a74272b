// The contract of DESIGN.md 4 and 4.1: names, defaults, and every refusal word for word.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import * as limbeck from '../src/index.js';
import {
  add,
  captureTopK,
  crossEntropy,
  denseTarget,
  devices,
  full,
  info,
  interpolateTarget,
  kdLoss,
  LimbeckError,
  linearKdLoss,
  logSoftmax,
  memory,
  mul,
  noGrad,
  ones,
  randn,
  sampleTarget,
  setDevice,
  setThreads,
  soften,
  softmax,
  sparseTarget,
  sum,
  Tensor,
  tensor,
  tidy,
  topK,
  zeros,
  type Device,
} from '../src/index.js';
import type { Divergence } from '../src/losses/divergences.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';
import { logSoftmaxRow, rowLossReference, softmaxRow } from './reference.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

const rows = (count: number, cols: number, seed = 1) => tensor(normals(seed, count * cols), { shape: [count, cols] });
const student = () => rows(3, 4);
const teacher = () => rows(3, 4, 2);
const sparse = (temperature = 1) => captureTopK(teacher(), 2, { temperature });
const vector = (...values: number[]) => tensor(Float32Array.from(values));

/** What a call is refused with: the class, its code, the message. */
function refused(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof LimbeckError) return `LimbeckError ${error.code}: ${error.message}`;
    if (error instanceof TypeError) return `TypeError: ${error.message}`;
    if (error instanceof RangeError) return `RangeError: ${error.message}`;
    return `undocumented ${String(error)}`;
  }
  return 'nothing';
}

function refusals(list: Record<string, [() => unknown, string]>): void {
  for (const [what, [fn, expected]] of Object.entries(list)) test(what, () => expect(refused(fn)).toBe(expected));
}

const plain = (call: object): string => JSON.stringify(call);

describe('names', () => {
  test('everything the contract names is exported', () => {
    for (const name of [
      'tensor',
      'zeros',
      'ones',
      'full',
      'randn',
      'tidy',
      'noGrad',
      'memory',
      'setThreads',
      'devices',
      'setDevice',
      'softmax',
      'logSoftmax',
      'topK',
      'soften',
      'denseTarget',
      'captureTopK',
      'sampleTarget',
      'sparseTarget',
      'mixTargets',
      'interpolateTarget',
      'saveTargets',
      'loadTargets',
      'kdLoss',
      'crossEntropy',
      'linearKdLoss',
    ])
      expect(typeof limbeck[name as keyof typeof limbeck], name).toBe('function');
    for (const name of ['kdLoss', 'crossEntropy'] as const) expect(typeof raw[name], name).toBe('function');
    for (const name of ['nn', 'optim'] as const) expect(typeof limbeck[name], name).toBe('object');
    for (const name of ['Module', 'Linear', 'ReLU', 'Dropout', 'Sequential']) expect(limbeck.nn, name).toHaveProperty(name);
    for (const name of ['SGD', 'AdamW']) expect(limbeck.optim, name).toHaveProperty(name);
  });

  test('a tensor has what the contract says', () => {
    const x = tensor([[1, 2, 3]], { requiresGrad: true });
    expect([[...x.shape], x.dtype, x.device, x.size, x.requiresGrad, x.grad]).toEqual([[1, 3], 'float32', 'cpu', 3, true, null]);
    for (const name of ['read', 'item', 'to', 'cast', 'reshape', 'detach', 'clone', 'backward', 'zeroGrad', 'dispose'] as const)
      expect(typeof x[name], name).toBe('function');
    expect(typeof x[Symbol.dispose]).toBe('function');
  });

  test('limbeck/raw has no tensors and needs none', () => {
    expect(Object.keys(raw)).not.toContain('tensor');
  });
});

describe('linearKdLoss refuses', () => {
  const hidden = () => rows(3, 2);
  const weight = () => rows(4, 2, 5);
  const start = 'Cannot compute linearKdLoss:';
  refusals({
    'hidden of another kind': [
      () => linearKdLoss([[1]] as never, weight(), teacher()),
      `TypeError: ${start} hidden must be a Tensor: it is an array of 1`,
    ],
    'hidden of integers': [
      () => linearKdLoss(hidden().cast('int32'), weight(), teacher()),
      `TypeError: ${start} hidden must be float32, float16, bfloat16 or float64: it is int32`,
    ],
    'a weight of other inputs': [
      () => linearKdLoss(hidden(), rows(4, 3), teacher()),
      `RangeError: ${start} weight must have shape [cols, 2] for hidden [3, 2]: it has [4, 3]`,
    ],
    'a weight of three dimensions': [
      () => linearKdLoss(hidden(), zeros([4, 2, 1]), teacher()),
      `RangeError: ${start} weight must have two dimensions: its shape is [4, 2, 1]`,
    ],
    'a weight of another dtype': [
      () => linearKdLoss(hidden(), weight().cast('float64'), teacher()),
      `TypeError: ${start} weight must be float32 like hidden: it is float64; cast() converts`,
    ],
    'a bias of another length': [
      () => linearKdLoss(hidden(), weight(), teacher(), { bias: vector(1, 2, 3) }),
      `RangeError: ${start} bias must have shape [4] like the rows of weight: it has [3]`,
    ],
    'no target': [
      () => linearKdLoss(hidden(), weight(), undefined as never),
      `TypeError: ${start} target must be { hidden, weight } of the teacher, a Tensor of its logits, or made by denseTarget, captureTopK, sampleTarget or sparseTarget: it is missing`,
    ],
    'a typed array for a target': [
      () => linearKdLoss(hidden(), weight(), new Float32Array(12) as never),
      `TypeError: ${start} target must be { hidden, weight } of the teacher, a Tensor of its logits, or made by denseTarget, captureTopK, sampleTarget or sparseTarget: it is a Float32Array`,
    ],
    'a teacher of other rows': [
      () => linearKdLoss(hidden(), weight(), rows(2, 4)),
      `RangeError: ${start} the teacher must have the rows of hidden, shape [3]: it has [2]`,
    ],
    'a teacher of other columns': [
      () => linearKdLoss(hidden(), weight(), rows(3, 5)),
      `RangeError: ${start} the teacher must have shape [3, 4] like student: it has [3, 5]`,
    ],
    'a sparse target of other rows': [
      () => linearKdLoss(rows(2, 2), weight(), sparse(), { residual: 'tail_bucket' }),
      `RangeError: ${start} the target must have 2 rows like hidden: it has 3`,
    ],
    'a sparse target of other columns': [
      () => linearKdLoss(hidden(), rows(5, 2), sparse(), { residual: 'tail_bucket' }),
      `LimbeckError wrong_target: ${start} the student must have the 4 columns the target was taken from: it has 5; option 'cols' leaves padding out`,
    ],
    'a sparse target without a residual': [
      () => linearKdLoss(hidden(), weight(), sparse()),
      `TypeError: ${start} residual must be given with a sparse target ('tail_bucket' keeps the mass outside its entries): it is missing`,
    ],
    "a teacher's layer that requires grad": [
      () => linearKdLoss(hidden(), weight(), { hidden: hidden(), weight: tensor([[1, 2]], { requiresGrad: true }) }),
      `TypeError: ${start} the teacher must not require grad: it does; pass it through detach()`,
    ],
    "a teacher's layer of other columns": [
      () => linearKdLoss(hidden(), weight(), { hidden: hidden(), weight: rows(5, 2) }),
      `RangeError: ${start} the teacher's weight must have 4 rows like weight: it has 5`,
    ],
    "a teacher's layer without a weight": [
      () => linearKdLoss(hidden(), weight(), { hidden: hidden() } as never),
      `TypeError: ${start} the teacher's weight must be a Tensor: it is missing`,
    ],
    'logits that require grad': [
      () => linearKdLoss(hidden(), weight(), tensor([[1, 2, 3, 4]], { requiresGrad: true })),
      `TypeError: ${start} the teacher must not require grad: it does; pass it through detach()`,
    ],
    'scratch for less than a row': [
      () => linearKdLoss(hidden(), weight(), teacher(), { scratchBytes: 7 }),
      `RangeError: ${start} scratchBytes must hold what one row needs, 80 bytes: it is 7`,
    ],
    'an option nobody reads': [
      () => linearKdLoss(hidden(), weight(), teacher(), { scratchbytes: 7 } as never),
      `TypeError: ${start} options must be among labelSmoothing, ignoreIndex, unlabelledIndex, reduction, denominator, rowWeights, cols, divergence, assistant, temperatureSquared, residual, hardWeight, temperature, labels, bias, scratchBytes: 'scratchbytes' is not; did you mean 'scratchBytes'?`,
    ],
    'a temperature for other rows': [
      () => linearKdLoss(hidden(), weight(), teacher(), { temperature: vector(1, 2) }),
      `RangeError: ${start} temperature must have shape [3], one for each row: it has [2]`,
    ],
    'labels for other rows': [
      () => linearKdLoss(hidden(), weight(), teacher(), { labels: [1] }),
      `RangeError: ${start} labels must have shape [3], one for each row: there are 1`,
    ],
  });
});

describe('divergences by name, with their default and other parameters (DESIGN.md 4.1)', () => {
  const rows = 3;
  const cols = 4;
  const z = normals(1, rows * cols);
  const u = normals(2, rows * cols);
  const mean = (of: (p: number, q: number) => number): number => {
    let total = 0;
    for (let r = 0; r < rows; r++) {
      const q = softmaxRow(z.subarray(r * cols, (r + 1) * cols), 1);
      const p = softmaxRow(u.subarray(r * cols, (r + 1) * cols), 1);
      for (let i = 0; i < cols; i++) total += of(p[i] as number, q[i] as number);
    }
    return total / rows;
  };
  const kl = (x: number, y: number): number => x * Math.log(x / y);
  const js = (beta: number) => (p: number, q: number) =>
    beta * kl(p, beta * p + (1 - beta) * q) + (1 - beta) * kl(q, beta * p + (1 - beta) * q);
  const expected: [Divergence, (p: number, q: number) => number][] = [
    ['forward_kl', kl],
    ['reverse_kl', (p, q) => kl(q, p)],
    ['symmetric_kl', (p, q) => (kl(p, q) + kl(q, p)) / 2],
    ['jensen_shannon', js(0.5)],
    [{ kind: 'jensen_shannon', beta: 0.2 }, js(0.2)],
    ['skew_forward_kl', (p, q) => kl(p, 0.1 * p + 0.9 * q)],
    [{ kind: 'skew_forward_kl', alpha: 0.3 }, (p, q) => kl(p, 0.3 * p + 0.7 * q)],
    ['skew_reverse_kl', (p, q) => kl(q, 0.1 * q + 0.9 * p)],
    [{ kind: 'skew_reverse_kl', alpha: 0.3 }, (p, q) => kl(q, 0.3 * q + 0.7 * p)],
    ['total_variation', (p, q) => Math.abs(p - q) / 2],
    ['squared_hellinger', (p, q) => (Math.sqrt(p) - Math.sqrt(q)) ** 2 / 2],
    ['soft_cross_entropy', (p, q) => -p * Math.log(q)],
  ];
  for (const [divergence, formula] of expected)
    test(JSON.stringify(divergence), () => {
      const student = tensor(z.slice(), { shape: [rows, cols], requiresGrad: true });
      const loss = kdLoss(student, tensor(u.slice(), { shape: [rows, cols] }), { divergence });
      loss.backward();
      const want = mean(formula);
      expect(Math.abs(loss.item() - want) <= 1e-5 * Math.max(want, 1e-3)).toBe(true);
      // Softmax does not see a constant: the gradient of a row sums to 0.
      for (let r = 0; r < rows; r++) {
        const sum = (student.grad!.data as Float32Array).subarray(r * cols, (r + 1) * cols).reduce((a, b) => a + b, 0);
        expect(Math.abs(sum) <= 1e-6).toBe(true);
      }
    });
});

test('a target of weights: soft cross-entropy −Σ w ln q, gradient (Σw)·q − w, whatever the sum; no residual is needed', () => {
  const logits = [1, -0.5, 2, 0];
  const student = tensor([logits], { requiresGrad: true });
  const q = softmaxRow(logits, 1);
  for (const options of [{}, { residual: 'sampled' as const }]) {
    student.zeroGrad();
    const loss = kdLoss(student, sparseTarget({ indices: [[2, 0, 2]], weights: [[0.5, 0.25, 0.5]] }), options);
    loss.backward();
    expect(loss.item()).toBeCloseTo(-Math.log(q[2] as number) - 0.25 * Math.log(q[0] as number), 5);
    const w = [0.25, 0, 1, 0];
    w.forEach((each, i) => expect((student.grad!.data as Float32Array)[i]).toBeCloseTo(1.25 * (q[i] as number) - each, 5));
  }
});

describe('defaults', () => {
  const at = (call: Parameters<typeof rowLossReference>[0]) => rowLossReference({ ...call, reduction: 'mean' }).loss;
  const call = { rows: 3, cols: 4, student: normals(1, 12), teacher: normals(2, 12), target: 'logits' as const };

  test('kdLoss: forward KL, temperature 1, T² on, mean over rows, no labels', () => {
    expect(kdLoss(student(), teacher()).item()).toBeCloseTo(at(call), 6);
    expect(kdLoss(student(), teacher(), { temperature: 3 }).item()).toBeCloseTo(
      at({ ...call, temperature: 3, temperatureSquared: true }),
      6,
    );
  });

  test('ignoreIndex is −100; with hardWeight 0 labels only select rows', () => {
    const labels = Int32Array.of(0, -100, 3);
    expect(kdLoss(student(), teacher(), { labels }).item()).toBeCloseTo(at({ ...call, labels }), 6);
    expect(kdLoss(student(), teacher(), { labels: [0, 0, 0] }).item()).toBe(kdLoss(student(), teacher()).item());
  });

  test('a sparse target brings its temperature', () => {
    const own = kdLoss(student(), sparse(2), { residual: 'truncate' }).item();
    expect(own).toBe(kdLoss(student(), sparse(2), { residual: 'truncate', temperature: 2 }).item());
  });

  test('a name of a divergence is the divergence with its defaults', () => {
    expect(kdLoss(student(), teacher(), { divergence: 'forward_kl' }).item()).toBe(
      kdLoss(student(), teacher(), { divergence: { kind: 'forward_kl' } }).item(),
    );
  });

  test('softmax and soften at temperature 1; uniform_mix with ε = 1 − 1/T', () => {
    const values = normals(1, 4);
    expect([...softmax(tensor(values)).data]).toEqual([...softmax(tensor(values), { temperature: 1 }).data]);
    const probs = softmaxRow(values, 1);
    const x = tensor(Float32Array.from(probs));
    expect([...soften(x).data]).toEqual([...x.data]);
    soften(x, { operator: 'uniform_mix', temperature: 4 }).data.forEach((value, i) =>
      expect(value).toBeCloseTo(0.25 * (probs[i] as number) + 0.75 / 4, 6),
    );
    const softer = softmaxRow(Float64Array.from(probs, Math.log), 2);
    soften(x, { temperature: 2 }).data.forEach((value, i) => expect(value).toBeCloseTo(softer[i] as number, 6));
  });

  test('tensors: float32 for numbers, the dtype of a typed array, zeros, ones, full', () => {
    expect([
      tensor([1]).dtype,
      tensor(1).dtype,
      tensor(new Float64Array(1)).dtype,
      tensor(new Int32Array(1)).dtype,
      tensor(new Uint8Array(1)).dtype,
    ]).toEqual(['float32', 'float32', 'float64', 'int32', 'uint8']);
    expect([...zeros([2]).data, ...ones([2]).data, ...full([2], 7).data]).toEqual([0, 0, 1, 1, 7, 7]);
    expect([...randn([5], { seed: 3 }).data]).toEqual([...randn([5], { seed: 3 }).data]);
    expect([...tensor(5).shape]).toEqual([]);
    expect([...tensor([[[1], [2]]]).shape]).toEqual([1, 2, 1]);
  });
});

describe('tensors', () => {
  test('a typed array is not copied on the CPU, and data is the live array', () => {
    const values = new Float32Array(4);
    const x = tensor(values, { shape: [2, 2] });
    expect(x.data).toBe(values);
    values[3] = 9;
    expect(x.reshape([4]).data[3]).toBe(9);
  });

  test('half types are their bits, in and out, and read({ as }) gives numbers', async () => {
    const half = tensor([1, -2, 0.5, 65504, 6e-8, Infinity, NaN], { dtype: 'float16' });
    expect(half.data).toBeInstanceOf(Uint16Array);
    expect([...half.data].slice(0, 6)).toEqual([0x3c00, 0xc000, 0x3800, 0x7bff, 0x0001, 0x7c00]);
    expect([...(await half.read({ as: 'float32' }))].slice(0, 4)).toEqual([1, -2, 0.5, 65504]);
    expect([...tensor([1, -2, 0.5, 3.1415927], { dtype: 'bfloat16' }).data]).toEqual([0x3f80, 0xc000, 0x3f00, 0x4049]);
    expect([...(await tensor(Uint16Array.of(0x3c00, 0x7e00), { dtype: 'float16' }).read({ as: 'float64' }))]).toEqual([1, NaN]);
    // Ties go to even.
    expect([...tensor([2049, 2051, 1.00390625, 1.01171875], { dtype: 'float16' }).data].slice(0, 2)).toEqual([0x6800, 0x6802]);
    expect([...tensor([1.00390625, 1.01171875], { dtype: 'bfloat16' }).data]).toEqual([0x3f80, 0x3f82]);
  });

  test('cast rounds floats and truncates to integers', () => {
    expect([...tensor([1.9, -1.9, 3]).cast('int32').data]).toEqual([1, -1, 3]);
    expect(tensor(Float64Array.of(1 / 3)).cast('float32').data[0]).toBe(Math.fround(1 / 3));
    expect(refused(() => tensor([300]).cast('uint8'))).toMatch(
      /^RangeError: Cannot cast a tensor: every element must fit uint8: element 0 is 300$/,
    );
  });

  test('read is a copy, item waits, empty tensors are tensors', async () => {
    const x = tensor([1, 2]);
    const copy = await x.read();
    copy[0] = 5;
    expect(x.data[0]).toBe(1);
    expect(sum(x).item()).toBe(3);
    expect(softmax(tensor(new Float32Array(0), { shape: [0, 5] })).size).toBe(0);
    expect(kdLoss(tensor(new Float32Array(0), { shape: [0, 5] }), tensor(new Float32Array(0), { shape: [0, 5] })).item()).toBe(0);
    expect((await zeros([0]).read()).length).toBe(0);
  });

  refusals({
    'data of strings': [() => tensor(['a'] as never), "TypeError: Cannot make a tensor: data must hold numbers: it is 'a'"],
    'ragged arrays': [
      () => tensor([[1, 2], [3]]),
      'RangeError: Cannot make a tensor: nested arrays must have equal lengths: one has 1 entries, another 2',
    ],
    'a shape that does not fit': [
      () => tensor([1, 2, 3], { shape: [2, 2] }),
      'RangeError: Cannot make a tensor: shape [2, 2] must hold as many elements as the data (3): it holds 4',
    ],
    'a negative extent': [() => zeros([-1]), 'RangeError: Cannot make zeros: shape[0] must be a whole number of at least 0: it is -1'],
    'a misspelt option': [
      () => tensor([1], { requireGrad: true } as never),
      "TypeError: Cannot make a tensor: options must be among shape, dtype, device, requiresGrad: 'requireGrad' is not; did you mean 'requiresGrad'?",
    ],
    'a dtype that is none': [
      () => tensor([1], { dtype: 'float8' as never }),
      "RangeError: Cannot make a tensor: dtype must be 'float32', 'float16', 'bfloat16', 'float64', 'int32' or 'uint8': it is 'float8'",
    ],
    'a device that is none': [
      () => tensor([1], { device: 'tpu' as never }),
      "RangeError: Cannot make a tensor: device must be 'cpu', 'cuda' or 'cuda:<number>': it is 'tpu'",
    ],
    'bits without their dtype': [
      () => tensor(new Uint16Array(2) as never),
      "TypeError: Cannot make a tensor: a Uint16Array needs dtype 'float16' or 'bfloat16': it is a Uint16Array",
    ],
    'an integer that requires grad': [
      () => tensor(new Int32Array(1), { requiresGrad: true }),
      "TypeError: Cannot set requiresGrad: the tensor must be of a floating dtype: it is 'int32'",
    ],
    'item of two': [() => tensor([1, 2]).item(), 'RangeError: Cannot get an item: the tensor must have one element: its shape is [2]'],
    'reshape to another size': [
      () => tensor([1, 2, 3]).reshape([2, 2]),
      'RangeError: Cannot reshape: shape must hold 3 elements: it is [2, 2]',
    ],
    'adding shapes that do not meet': [
      () => add(tensor([1, 2, 3]), tensor([1, 2])),
      'RangeError: Cannot compute add: b must have the shape of a [3], of one of its rows or columns, or one element: it has [2]',
    ],
    'adding dtypes that differ': [
      () => add(tensor([1]), tensor(new Float64Array(1))),
      'TypeError: Cannot compute add: b must be float32 like a: it is float64; cast() converts',
    ],
    'adding half types': [
      () => add(tensor([1], { dtype: 'float16' }), 1),
      'TypeError: Cannot compute add: a must be float32 or float64: it is float16; cast() converts',
    ],
    'softmax of integers': [
      () => softmax(tensor([1], { dtype: 'int32' })),
      'TypeError: Cannot compute softmax: x must be float32, float16, bfloat16 or float64: it is int32',
    ],
    'topK of float64': [
      () => topK(tensor([1], { dtype: 'float64' }), 1),
      'TypeError: Cannot compute topK: x must be float32, float16 or bfloat16: it is float64; cast() converts',
    ],
    'temperature 0': [
      () => softmax(tensor([1]), { temperature: 0 }),
      'RangeError: Cannot compute softmax: temperature must be positive and finite: it is 0',
    ],
    'temperature −1 (trap 15)': [
      () => logSoftmax(tensor([1]), { temperature: -1 }),
      'RangeError: Cannot compute logSoftmax: temperature must be positive and finite: it is -1',
    ],
    'temperature NaN': [
      () => softmax(tensor([1]), { temperature: NaN }),
      'RangeError: Cannot compute softmax: temperature must be positive and finite: it is NaN',
    ],
    'a temperature of text': [
      () => softmax(tensor([1]), { temperature: '2' as never }),
      "TypeError: Cannot compute softmax: temperature must be a number or a Tensor with one for each row: it is '2'",
    ],
    'uniform_mix below 1': [
      () => soften(tensor([1]), { operator: 'uniform_mix', temperature: 0.5 }),
      "RangeError: Cannot compute soften: temperature must be at least 1 for 'uniform_mix': it is 0.5",
    ],
    'k above the classes (trap 27)': [
      () => topK(student(), 5),
      'RangeError: Cannot compute topK: k must be at most the number of columns (4): it is 5',
    ],
    'k of a half': [() => topK(student(), 1.5), 'RangeError: Cannot compute topK: k must be a whole number of at least 0: it is 1.5'],
    'an object that only looks like one': [
      () => softmax(Object.create(Tensor.prototype) as Tensor),
      'TypeError: Cannot compute softmax: x must be a Tensor: it is a Tensor',
    ],
    'a Tensor made by hand': [
      () => Reflect.construct(Tensor, []),
      'TypeError: Cannot construct a Tensor: tensor(...) must be used: new Tensor was',
    ],
  });
});

describe('targets', () => {
  refusals({
    'ids that are no whole numbers': [
      () => sparseTarget({ indices: [[0, 0.7]], logProbs: [[-1, -2]] }),
      'RangeError: Cannot make a sparse target: indices must be whole numbers: one is 0.7',
    ],
    'k above the vocabulary (trap 27)': [
      () => captureTopK(teacher(), 5),
      'RangeError: Cannot capture a target: k must be at most the number of columns (4): it is 5',
    ],
    'temperature of 0': [
      () => captureTopK(teacher(), 2, { temperature: 0 }),
      'RangeError: Cannot capture a target: temperature must be positive and finite: it is 0',
    ],
    'temperatures of the wrong length': [
      () => captureTopK(teacher(), 2, { temperature: vector(1, 2) }),
      'RangeError: Cannot capture a target: temperature must have shape [3], one for each row: it has [2]',
    ],
    'a teacher that requires grad': [
      () => captureTopK(tensor([[1, 2]], { requiresGrad: true }), 1),
      'TypeError: Cannot capture a target: teacherLogits must not require grad: it does; pass it through detach()',
    ],
    'no draws': [
      () => sampleTarget(teacher(), 0),
      'RangeError: Cannot sample a target: draws must be a whole number in [1, 16777216]: it is 0',
    ],
    'half a draw': [
      () => sampleTarget(teacher(), 2.5),
      'RangeError: Cannot sample a target: draws must be a whole number in [1, 16777216]: it is 2.5',
    ],
    'an unknown way to draw': [
      () => sampleTarget(teacher(), 2, { method: 'head-tail' as never }),
      "RangeError: Cannot sample a target: method must be 'with_replacement', 'race' or 'head_tail': it is 'head-tail'; did you mean 'head_tail'?",
    ],
    'a seed below 0': [
      () => sampleTarget(teacher(), 2, { seed: -1 }),
      'RangeError: Cannot sample a target: seed must be a whole number of at least 0: it is -1',
    ],
    'rows beyond 2^53': [
      () => sampleTarget(teacher(), 2, { rowOffset: 2 ** 53 - 2 }),
      'RangeError: Cannot sample a target: rowOffset + rows must be at most 2^53 − 1: rowOffset is 9007199254740990',
    ],
    'a sampled row at temperature 0': [
      () => sampleTarget(teacher(), 2, { temperature: 0 }),
      'RangeError: Cannot sample a target: temperature must be positive and finite: it is 0',
    ],
    'sampling a teacher that requires grad': [
      () => sampleTarget(tensor([[1, 2]], { requiresGrad: true }), 1),
      'TypeError: Cannot sample a target: teacherLogits must not require grad: it does; pass it through detach()',
    ],
    'a dense target of two kinds': [
      () => denseTarget({ probs: teacher(), logits: teacher() } as never),
      'TypeError: Cannot make a dense target: exactly one of logits, probs, logProbs must be given: there are logits and probs',
    ],
    'a dense target of nothing': [
      () => denseTarget({} as never),
      'TypeError: Cannot make a dense target: exactly one of logits, probs, logProbs must be given: there is none',
    ],
    'a dense target that requires grad': [
      () => denseTarget({ logits: tensor([[1]], { requiresGrad: true }) }),
      'TypeError: Cannot make a dense target: logits must not require grad: it does; pass it through detach()',
    ],
    'a sparse target without indices': [
      () => sparseTarget({ probs: [[1]] } as never),
      'TypeError: Cannot make a sparse target: indices must be given: it is missing',
    ],
    'a sparse target of another shape': [
      () => sparseTarget({ indices: [[1, 2]], probs: [[1]] }),
      'RangeError: Cannot make a sparse target: probs must have the shape of the indices [1, 2]: it has [1, 1]',
    ],
    'negative probabilities': [
      () => sparseTarget({ indices: [[1]], probs: [[-0.5]] }),
      'RangeError: Cannot make a sparse target: probs must not be negative: entry 0 is -0.5',
    ],
    'a tail beside weights': [
      () => sparseTarget({ indices: [[1]], weights: [[1]], tailLogMass: [-1] }),
      'TypeError: Cannot make a sparse target: tailLogMass must not be given with weights: it is',
    ],
    'a tail of more than all there is': [
      () => sparseTarget({ indices: [[1], [2]], probs: [[0.5], [0.5]], tailLogMass: [-1, 0.5] }),
      'RangeError: Cannot make a sparse target: tailLogMass must be the logarithm of at most 1: entry 1 is 0.5',
    ],
  });

  test('a missing tail is ln(−expm1(lse(logProbs))), in double; up to 1e-3 too much is no tail, above is refused', () => {
    const tail = (probs: number[]) =>
      sparseTarget({ indices: [probs.map((_, i) => i)], probs: [probs], cols: 9 }).tailLogMass?.data[0] as number;
    expect(tail([0.5, 0.25])).toBeCloseTo(Math.log(0.25), 6);
    // float32 log-probabilities of ½ make 1 − 2e-9.
    expect(tail([0.5, 0.5])).toBeLessThan(-18);
    expect(tail([0.5, 0.5005])).toBe(-Infinity);
    expect(refused(() => tail([0.6, 0.6]))).toMatch(
      /^RangeError: Cannot find the tail of a sparse target: the probabilities of a row must sum to at most 1: they sum to 1.2000000\d* in row 0$/,
    );
    const exact = sparseTarget({ indices: [[0]], logProbs: [[-1e-7]] }).tailLogMass?.data[0] as number;
    expect(exact).toBeCloseTo(Math.log(-Math.expm1(Math.fround(-1e-7))), 5);
  });
});

describe('values', () => {
  test('a target captured at temperatures of its rows keeps its digits at another one', () => {
    const captured = Float32Array.of(1e4, 1e3, 0.5);
    const [z, u] = [normals(5, 3 * 15, 3), normals(6, 3 * 15, 3)];
    const at = (from: number, to: number) => tensor(z.slice(15 * from, 15 * to), { shape: [to - from, 15], requiresGrad: true });
    const target = captureTopK(tensor(u, { shape: [3, 15] }), 15, { temperature: tensor(captured) });
    for (const divergence of ['forward_kl', 'reverse_kl'] as const) {
      const student = at(0, 3);
      const losses = kdLoss(student, target, { residual: 'renormalize_both', temperature: 1, divergence, reduction: 'none' });
      losses.backward(ones([3]));
      for (let r = 0; r < 3; r++) {
        // The same stored numbers in float64: p^(Tc/T), renormalised over the entries; all 15 columns are listed.
        const logs = Array.from(target.logProbs!.data.subarray(15 * r, 15 * r + 15), (x: number) => x * captured[r]!);
        const logP = logSoftmaxRow(Float64Array.from(logs), 1);
        const ids = target.indices.data.subarray(15 * r, 15 * r + 15);
        const logQ = logSoftmaxRow(
          Float64Array.from(ids, (id: number) => z[15 * r + id]!),
          1,
        );
        const [of, to] = divergence === 'forward_kl' ? [logP, logQ] : [logQ, logP];
        const expected = of.reduce((sum, log, i) => sum + Math.exp(log) * (log - to[i]!), 0);
        expect(Math.abs(losses.data[r]! - expected) / Math.max(expected, 1e-3)).toBeLessThan(1e-5);
        if (divergence === 'forward_kl')
          ids.forEach((id: number, j: number) =>
            expect(Math.abs(student.grad!.data[15 * r + id]! - (Math.exp(logQ[j]!) - Math.exp(logP[j]!)))).toBeLessThan(1e-5),
          );
      }
    }
  });

  test('adaptive_kl at the ends of an interpolation, with columns that both sides exclude', () => {
    const z = tensor([[0, 1, -Infinity, 2]]);
    const u = tensor([[3, 0, -Infinity, 1]]);
    const alone = kdLoss(z, u, { divergence: 'adaptive_kl' }).item();
    expect(alone).toBeGreaterThan(0);
    expect(kdLoss(z, interpolateTarget(z, u, { t: 1 }), { divergence: 'adaptive_kl' }).item()).toBe(alone);
    expect(kdLoss(z, interpolateTarget(z, u, { t: 0 }), { divergence: 'adaptive_kl' }).item()).toBe(0);
  });

  test('raw: a gradient between the rows of the student and the teacher', () => {
    const memory = new Float32Array(2 * 12).fill(NaN);
    const student = normals(1, 8);
    const teacher = normals(2, 8);
    for (let r = 0; r < 2; r++) {
      memory.set(student.subarray(4 * r, 4 * r + 4), 12 * r);
      memory.set(teacher.subarray(4 * r, 4 * r + 4), 12 * r + 4);
    }
    const gradient = memory.subarray(8);
    const strides = { rowStride: 12, teacherRowStride: 12, gradientRowStride: 12 };
    raw.kdLoss(memory, memory.subarray(4), { rows: 2, cols: 4, ...strides, out: { gradient } });
    const plain = raw.kdLoss(student, teacher, { rows: 2, cols: 4, out: { gradient: new Float32Array(8) } }).gradient!;
    expect(Array.from(plain.subarray(0, 4))).toEqual(Array.from(gradient.subarray(0, 4)));
    expect(Array.from(plain.subarray(4, 8))).toEqual(Array.from(gradient.subarray(12, 16)));
  });
});

describe('kdLoss refuses', () => {
  const wide = () => rows(3, 5);
  refusals({
    'a parameter that is null': [
      () => kdLoss(student(), teacher(), { divergence: { kind: 'jensen_shannon', beta: null as never } }),
      'TypeError: Cannot compute kdLoss: divergence.beta must be a number: it is null',
    ],
    'options that are still a promise': [
      () => kdLoss(student(), teacher(), Promise.resolve({ temperature: 2 }) as never),
      'TypeError: Cannot compute kdLoss: options must be an object that holds them: it is a Promise',
    ],
    'options in a map': [
      () => kdLoss(student(), teacher(), new Map([['temperature', 2]]) as never),
      'TypeError: Cannot compute kdLoss: options must be an object that holds them: it is a Map',
    ],
    'a student that is no tensor': [
      () => kdLoss([1] as never, teacher()),
      'TypeError: Cannot compute kdLoss: student must be a Tensor: it is [1]',
    ],
    'a target that is none': [
      () => kdLoss(student(), {} as never),
      'TypeError: Cannot compute kdLoss: target must be a Tensor of teacher logits or made by denseTarget, interpolateTarget, captureTopK, sampleTarget or sparseTarget: it is an object',
    ],
    'a teacher of another width': [
      () => kdLoss(student(), wide()),
      'RangeError: Cannot compute kdLoss: the teacher must have shape [3, 4] like student: it has [3, 5]',
    ],
    'a teacher of other rows': [
      () => kdLoss(student(), rows(2, 4)),
      'RangeError: Cannot compute kdLoss: the teacher must have shape [3, 4] like student: it has [2, 4]',
    ],
    'a teacher of another dtype (trap 23)': [
      () => kdLoss(student(), teacher().cast('float64')),
      'TypeError: Cannot compute kdLoss: the teacher must be float32, float16 or bfloat16 for a float32 student: it is float64; cast() converts',
    ],
    'a float64 teacher of a half student (trap 23)': [
      () => kdLoss(student().cast('bfloat16'), teacher().cast('float64')),
      'TypeError: Cannot compute kdLoss: the teacher must be float32, float16 or bfloat16 for a bfloat16 student: it is float64; cast() converts',
    ],
    'an upstream gradient of the dtype of a half student': [
      () => {
        const x = student().cast('bfloat16');
        x.requiresGrad = true;
        kdLoss(x, teacher()).backward(tensor([1], { shape: [], dtype: 'bfloat16' }));
      },
      'TypeError: Cannot run backward: grad must be float32 on cpu like the tensor: it is bfloat16 on cpu',
    ],
    'a teacher that requires grad': [
      () => kdLoss(student(), tensor(normals(1, 12), { shape: [3, 4], requiresGrad: true })),
      'TypeError: Cannot compute kdLoss: the teacher must not require grad: it does; pass it through detach()',
    ],
    'temperatures that require grad': [
      () => kdLoss(student(), teacher(), { temperature: tensor([1, 2, 3], { requiresGrad: true }) }),
      'TypeError: Cannot compute kdLoss: temperature must not require grad: it does; pass it through detach()',
    ],
    'weights that require grad': [
      () => kdLoss(student(), teacher(), { rowWeights: tensor([1, 2, 3], { requiresGrad: true }) }),
      'TypeError: Cannot compute kdLoss: rowWeights must not require grad: it does; pass it through detach()',
    ],
    'temperature 0 (trap 15)': [
      () => kdLoss(student(), teacher(), { temperature: 0 }),
      'RangeError: Cannot compute kdLoss: temperature must be positive and finite: it is 0',
    ],
    'temperature −2 (trap 15)': [
      () => kdLoss(student(), teacher(), { temperature: -2 }),
      'RangeError: Cannot compute kdLoss: temperature must be positive and finite: it is -2',
    ],
    'a row temperature of 0 (trap 15)': [
      () => kdLoss(student(), teacher(), { temperature: vector(1, 0, 1) }),
      'RangeError: Cannot compute kdLoss: temperature must be positive and finite in each row: it is 0 in row 1',
    ],
    'a residual with a dense target': [
      () => kdLoss(student(), teacher(), { residual: 'truncate' }),
      "TypeError: Cannot compute kdLoss: residual must not be given with a dense target: it is 'truncate'",
    ],
    'no residual with a sparse target': [
      () => kdLoss(student(), sparse()),
      "TypeError: Cannot compute kdLoss: residual must be given with a sparse target ('tail_bucket' keeps the mass outside its entries): it is missing",
    ],
    'a mistyped residual': [
      () => kdLoss(student(), sparse(), { residual: 'tail_buckt' as never }),
      "RangeError: Cannot compute kdLoss: residual must be 'renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform', 'label' or 'sampled': it is 'tail_buckt'; did you mean 'tail_bucket'?",
    ],
    'sampled for probabilities': [
      () => kdLoss(student(), sparse(), { residual: 'sampled' }),
      "TypeError: Cannot compute kdLoss: residual must not be 'sampled' for a target of probabilities: it is 'sampled'",
    ],
    'another residual for weights': [
      () => kdLoss(student(), sparseTarget({ indices: [[0], [0], [0]], weights: [[1], [1], [1]] }), { residual: 'truncate' }),
      "TypeError: Cannot compute kdLoss: residual must be 'sampled' for a target of weights, or left out: it is 'truncate'",
    ],
    'reverse KL with renormalize': [
      () => kdLoss(student(), sparse(), { divergence: 'reverse_kl', residual: 'renormalize' }),
      "RangeError: Cannot compute kdLoss: divergence must be finite where the teacher is 0 with residual 'renormalize': it is 'reverse_kl'",
    ],
    'symmetric KL with renormalize': [
      () => kdLoss(student(), sparse(), { divergence: 'symmetric_kl', residual: 'renormalize' }),
      "RangeError: Cannot compute kdLoss: divergence must be finite where the teacher is 0 with residual 'renormalize': it is 'symmetric_kl'",
    ],
    'total variation with truncate': [
      () => kdLoss(student(), sparse(), { divergence: 'total_variation', residual: 'truncate' }),
      "RangeError: Cannot compute kdLoss: divergence must be 'forward_kl' or 'soft_cross_entropy' with residual 'truncate': it is 'total_variation'",
    ],
    'another temperature than captured': [
      () => kdLoss(student(), sparse(2), { residual: 'tail_bucket', temperature: 3 }),
      "RangeError: Cannot compute kdLoss: temperature must be 2, which it was captured at, with residual 'tail_bucket': it is 3",
    ],
    'a temperature of null': [
      () => kdLoss(student(), teacher(), { temperature: null as never }),
      'TypeError: Cannot compute kdLoss: temperature must be a number or a Tensor with one for each row: it is null',
    ],
    'a mistyped divergence': [
      () => kdLoss(student(), teacher(), { divergence: 'forward_lk' as never }),
      "RangeError: Cannot compute kdLoss: divergence must be 'forward_kl', 'reverse_kl', 'symmetric_kl', 'jensen_shannon', 'skew_forward_kl', 'skew_reverse_kl', 'total_variation', 'squared_hellinger', 'soft_cross_entropy' or 'adaptive_kl': it is 'forward_lk'; did you mean 'forward_kl'?",
    ],
    'a parameter of another divergence': [
      () => kdLoss(student(), teacher(), { divergence: { kind: 'jensen_shannon', alpha: 0.5 } as never }),
      "TypeError: Cannot compute kdLoss: options must be among kind, beta: 'alpha' is not",
    ],
    'a parameter outside [0, 1]': [
      () => kdLoss(student(), teacher(), { divergence: { kind: 'jensen_shannon', beta: 1.5 } }),
      'RangeError: Cannot compute kdLoss: divergence.beta must be in [0, 1]: it is 1.5',
    ],
    'a mistyped option': [
      () => kdLoss(student(), teacher(), { temperatre: 2 } as never),
      "TypeError: Cannot compute kdLoss: options must be among labelSmoothing, ignoreIndex, unlabelledIndex, reduction, denominator, rowWeights, cols, divergence, assistant, temperatureSquared, residual, hardWeight, temperature, labels: 'temperatre' is not; did you mean 'temperature'?",
    ],
    'a mistyped reduction': [
      () => kdLoss(student(), teacher(), { reduction: 'batchmean' as never }),
      "RangeError: Cannot compute kdLoss: reduction must be 'mean', 'sum' or 'none': it is 'batchmean'",
    ],
    'a denominator of 0': [
      () => kdLoss(student(), teacher(), { denominator: 0 }),
      'RangeError: Cannot compute kdLoss: denominator must be positive and finite: it is 0',
    ],
    'a hard weight without labels': [
      () => kdLoss(student(), teacher(), { hardWeight: 0.5 }),
      'TypeError: Cannot compute kdLoss: labels must be given with hardWeight 0.5: it is missing',
    ],
    'a hard weight above 1': [
      () => kdLoss(student(), teacher(), { hardWeight: 1.5, labels: [0, 0, 0] }),
      'RangeError: Cannot compute kdLoss: hardWeight must be in [0, 1]: it is 1.5',
    ],
    'smoothing below 0': [
      () => kdLoss(student(), teacher(), { labelSmoothing: -0.1 }),
      'RangeError: Cannot compute kdLoss: labelSmoothing must be in [0, 1]: it is -0.1',
    ],
    'too few labels': [
      () => kdLoss(student(), teacher(), { labels: [0, 1] }),
      'RangeError: Cannot compute kdLoss: labels must have shape [3], one for each row: there are 2',
    ],
    'labels of a half': [
      () => kdLoss(student(), teacher(), { labels: [0, 1.5, 2] }),
      'RangeError: Cannot compute kdLoss: labels must be whole numbers that fit int32: label 1 is 1.5',
    ],
    'labels beyond int32': [
      () => kdLoss(student(), teacher(), { labels: BigInt64Array.of(0n, 2n ** 40n, 1n) }),
      'RangeError: Cannot compute kdLoss: labels must fit int32: label 1 is 1099511627776',
    ],
    'labels that are floats': [
      () => kdLoss(student(), teacher(), { labels: vector(0, 1, 2) }),
      'TypeError: Cannot compute kdLoss: labels must be int32: it is float32; cast() converts',
    ],
    'a label outside the classes': [
      () => kdLoss(student(), teacher(), { labels: [0, 4, 1], hardWeight: 0.5 }),
      'RangeError: Cannot compute kdLoss: labels must be in [0, 4): label 1 is 4',
    ],
    'too few weights': [
      () => kdLoss(student(), teacher(), { rowWeights: vector(1, 2) }),
      'RangeError: Cannot compute kdLoss: rowWeights must have shape [3], one for each row: it has [2]',
    ],
    'columns above the width': [
      () => kdLoss(student(), teacher(), { cols: 5 }),
      'RangeError: Cannot compute kdLoss: cols must be a whole number in [1, 4]: it is 5',
    ],
    'a target of other columns': [
      () => kdLoss(rows(3, 6), sparse(), { residual: 'truncate' }),
      "LimbeckError wrong_target: Cannot compute kdLoss: the student must have the 4 columns the target was taken from: it has 6; option 'cols' leaves padding out",
    ],
    'a target of other rows': [
      () => kdLoss(rows(2, 4), sparse(), { residual: 'truncate' }),
      'RangeError: Cannot compute kdLoss: the target must have 2 rows like student: it has 3',
    ],
    'duplicate ids (trap 17)': [
      () => kdLoss(rows(1, 4), sparseTarget({ indices: [[2, 2]], probs: [[0.5, 0.5]] }), { residual: 'truncate' }),
      'RangeError: Cannot compute kdLoss: indices of a row must differ: row 0 holds 2 twice',
    ],
    'an id outside the vocabulary (trap 17)': [
      () => kdLoss(rows(1, 4), sparseTarget({ indices: [[2, 4]], probs: [[0.5, 0.5]] }), { residual: 'truncate' }),
      'RangeError: Cannot compute kdLoss: indices must be in [-1, 4): slot 1 of row 0 holds 4',
    ],
    'more slots than classes (trap 27)': [
      () => kdLoss(rows(1, 2), sparseTarget({ indices: [[0, 1, -1]], probs: [[0.5, 0.5, 0]] }), { residual: 'truncate' }),
      "RangeError: Cannot compute kdLoss: the target must have at most 2 entries a row, the student's columns: it has 3",
    ],
    'too much probability': [
      () => kdLoss(rows(1, 4), sparseTarget({ indices: [[0, 1]], probs: [[0.6, 0.6]] }), { residual: 'tail_bucket' }),
      'RangeError: Cannot compute kdLoss: the probabilities of a row must sum to at most 1: row 0 sums to 1.2',
    ],
    'softened probabilities that are none': [
      () => kdLoss(rows(1, 2), denseTarget({ probs: tensor([[0.5, 0.2]]) }), { temperature: 2 }),
      'RangeError: Cannot compute kdLoss: the probabilities of a row must sum to 1 within 1e-3 at a temperature other than 1: they sum to 0.699999988079071 in row 0',
    ],
    "residual 'label' without labels": [
      () => kdLoss(student(), sparse(), { residual: 'label' }),
      "TypeError: Cannot compute kdLoss: labels must be given with residual 'label': it is missing",
    ],
    "residual 'label' with rows that may have none": [
      () => kdLoss(student(), sparse(), { residual: 'label', labels: [0, 1, 2], unlabelledIndex: -1 }),
      "TypeError: Cannot compute kdLoss: unlabelledIndex must not be given with residual 'label', which needs the label of every row: it is -1",
    ],
    'a student without columns': [
      () => kdLoss(zeros([3, 0]), zeros([3, 0])),
      'RangeError: Cannot compute kdLoss: student must have at least 1 column: its shape is [3, 0]',
    ],
  });

  test('probabilities of another mass are used as given at temperature 1', () => {
    expect(refused(() => kdLoss(rows(1, 2), denseTarget({ probs: tensor([[0.5, 0.2]]) })))).toBe('nothing');
  });
});

describe('crossEntropy and raw.kdLoss refuse', () => {
  refusals({
    'no labels': [
      () => crossEntropy(student(), undefined as never),
      'TypeError: Cannot compute crossEntropy: labels must be given: it is missing',
    ],
    'an option of kdLoss': [
      () => crossEntropy(student(), [0, 1, 2], { temperature: 2 } as never),
      "TypeError: Cannot compute crossEntropy: options must be among labelSmoothing, ignoreIndex, unlabelledIndex, reduction, denominator, rowWeights, cols: 'temperature' is not",
    ],
    'a label outside': [
      () => crossEntropy(student(), [0, 1, 9]),
      'RangeError: Cannot compute crossEntropy: labels must be in [0, 4): label 2 is 9',
    ],
    'raw: no options': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), undefined as never),
      'TypeError: Cannot compute raw.kdLoss: options must give rows and cols: it is missing',
    ],
    'raw: a plain array': [
      () => raw.kdLoss([1, 2] as never, normals(2, 2), { rows: 1, cols: 2 }),
      'TypeError: Cannot compute raw.kdLoss: student must be a Float32Array, Float64Array or Uint16Array: it is [1, 2]',
    ],
    'raw: too short': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 3 }),
      'RangeError: Cannot compute raw.kdLoss: student must hold 6 elements: it holds 4',
    ],
    'raw: a stride below the columns (trap 19)': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 2, rowStride: 1 }),
      'RangeError: Cannot compute raw.kdLoss: rowStride must be a whole number of at least 2: it is 1',
    ],
    'a stride of a gradient that nobody asked for': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 2, gradientRowStride: 'x' as never }),
      "TypeError: Cannot compute raw.kdLoss: gradientRowStride must be a number: it is 'x'",
    ],
    'a half type of floats that is none': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 2, dtype: 'half' as never }),
      "RangeError: Cannot compute raw.kdLoss: dtype must be 'float16' or 'bfloat16': it is 'half'",
    ],
    'a log that is neither': [
      () => raw.softmax(normals(1, 4), { rows: 2, cols: 2, log: 'yes' as never }),
      "TypeError: Cannot compute raw.softmax: log must be true or false: it is 'yes'",
    ],
    'raw: an output too short': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 2, out: { gradient: new Float32Array(3) } }),
      'RangeError: Cannot compute raw.kdLoss: out.gradient must hold 4 elements: it holds 3',
    ],
    'raw: bits of a half type that is not named': [
      () => raw.kdLoss(new Uint16Array(4), normals(2, 4), { rows: 2, cols: 2 }),
      "TypeError: Cannot compute raw.kdLoss: dtype must be 'float16' or 'bfloat16': it is missing",
    ],
    'raw: a half type that is none': [
      () => raw.softmax(new Uint16Array(4), { rows: 2, cols: 2, dtype: 'half' as never }),
      "RangeError: Cannot compute raw.softmax: dtype must be 'float16' or 'bfloat16': it is 'half'",
    ],
    'raw: a teacher of bits beside a student of numbers': [
      () => raw.kdLoss(normals(2, 4), new Uint16Array(4), { rows: 2, cols: 2 }),
      "TypeError: Cannot compute raw.kdLoss: teacherDtype must be 'float16' or 'bfloat16': it is missing",
    ],
    'raw: a gradient of numbers for a student of bits': [
      () => raw.kdLoss(new Uint16Array(4), normals(2, 4), { rows: 2, cols: 2, dtype: 'float16', out: { gradient: normals(1, 4) } }),
      'TypeError: Cannot compute raw.kdLoss: out.gradient must be a Uint16Array: it is a Float32Array',
    ],
    'raw: a wider teacher (trap 23)': [
      () => raw.kdLoss(normals(2, 4), new Float64Array(4), { rows: 2, cols: 2 }),
      'TypeError: Cannot compute raw.kdLoss: teacher must not be a Float64Array for a student of another type: it is a Float64Array',
    ],
    'raw: a gradient half over the student': [
      () => {
        const memory = normals(1, 12);
        return raw.kdLoss(memory, normals(2, 8), { rows: 2, cols: 4, out: { gradient: memory.subarray(1) } });
      },
      'RangeError: Cannot compute raw.kdLoss: out.gradient must not lie over student, unless row by row: it begins 4 bytes from it, rows 4 and 4 elements apart',
    ],
    'raw: a gradient over the student with another stride': [
      () => {
        const memory = normals(1, 12);
        return raw.kdLoss(memory, normals(2, 8), { rows: 2, cols: 4, gradientRowStride: 5, out: { gradient: memory } });
      },
      'RangeError: Cannot compute raw.kdLoss: out.gradient must not lie over student, unless row by row: it begins 0 bytes from it, rows 5 and 4 elements apart',
    ],
    'raw: a gradient over the teacher': [
      () => {
        const memory = normals(1, 8);
        return raw.kdLoss(normals(2, 8), memory, { rows: 2, cols: 4, out: { gradient: memory } });
      },
      'RangeError: Cannot compute raw.kdLoss: out.gradient must not lie over teacher: it begins 0 bytes from it, rows 4 and 4 elements apart',
    ],
    'raw: a k that is null': [
      () =>
        raw.kdLoss(
          normals(1, 4),
          { indices: Int32Array.of(0), logProbs: Float32Array.of(-1), k: null as never },
          {
            rows: 1,
            cols: 4,
            residual: 'tail_bucket',
          },
        ),
      'TypeError: Cannot compute raw.kdLoss: teacher.k must be a number: it is null',
    ],
    'raw: an output of another dtype': [
      () => raw.kdLoss(normals(1, 4), normals(2, 4), { rows: 2, cols: 2, out: { gradient: new Float64Array(4) } }),
      'TypeError: Cannot compute raw.kdLoss: out.gradient must be a Float32Array: it is a Float64Array',
    ],
  });
});

describe('autograd', () => {
  const graph = () => {
    const x = tensor(normals(1, 12), { shape: [3, 4], requiresGrad: true });
    return { x, loss: kdLoss(x, teacher()) };
  };

  test('grad accumulates until zeroGrad', () => {
    const { x, loss } = graph();
    loss.backward();
    const once = [...(x.grad as Tensor).data];
    kdLoss(x, teacher()).backward();
    (x.grad as Tensor).data.forEach((value, i) => expect(value).toBeCloseTo(2 * (once[i] as number), 6));
    x.zeroGrad();
    expect(x.grad).toBe(null);
  });

  test('a gradient someone holds is not written again', () => {
    const { x, loss } = graph();
    loss.backward();
    const held = x.grad as Tensor;
    const before = [...held.data];
    x.zeroGrad();
    kdLoss(x, teacher()).backward();
    expect([...held.data]).toEqual(before);
  });

  test('in-place rules: no operation overwrites an input', () => {
    const values = normals(1, 12);
    const copy = [...values];
    const x = tensor(values, { shape: [3, 4], requiresGrad: true });
    const y = mul(softmax(x), logSoftmax(x));
    kdLoss(add(x, y), teacher(), { labels: [0, 1, 2], hardWeight: 0.5 }).backward();
    expect([...values]).toEqual(copy);
    const upstream = tensor(new Float32Array(12).fill(2), { shape: [3, 4] });
    softmax(x).backward(upstream);
    expect([...upstream.data]).toEqual(new Array(12).fill(2));
  });

  test('a gradient reaches a tensor used twice, through reshape, clone, cast and sums', () => {
    const x = tensor(Float32Array.of(1, 2, 3, 4), { requiresGrad: true });
    sum(mul(x.reshape([2, 2]).clone(), x.cast('float64').cast('float32').reshape([2, 2]))).backward();
    expect([...(x.grad as Tensor).data]).toEqual([2, 4, 6, 8]);
  });

  test('detach, noGrad and constants want no gradient', () => {
    const { x } = graph();
    expect([x.detach().requiresGrad, noGrad(() => mul(x, 2)).requiresGrad, mul(teacher(), 2).requiresGrad, mul(x, 2).requiresGrad]).toEqual(
      [false, false, false, true],
    );
  });

  refusals({
    'backward twice': [
      () => {
        const { loss } = graph();
        loss.backward();
        loss.backward();
      },
      'LimbeckError graph_freed: Cannot run backward: the graph must be there: kdLoss was freed by an earlier backward(); give that one { retainGraph: true }',
    ],
    'backward of a constant': [
      () => sum(teacher()).backward(),
      'TypeError: Cannot run backward: the tensor must depend on one that requires grad: it does not',
    ],
    'backward of many without a gradient': [
      () => mul(graph().x, 2).backward(),
      'RangeError: Cannot run backward: grad must be given for a tensor of more than one element: its shape is [3, 4]',
    ],
    'a gradient of another shape': [
      () => graph().loss.backward(vector(1, 2)),
      'RangeError: Cannot run backward: grad must have shape [] like the tensor: it has [2]',
    ],
    'a gradient that is a number': [
      () => graph().loss.backward(3 as never),
      'TypeError: Cannot run backward: grad must be a Tensor: it is 3',
    ],
    'tidy of a promise': [
      () => tidy(async () => Promise.resolve(1)),
      'TypeError: Cannot run tidy: fn must be synchronous: it gave back a Promise',
    ],
  });
});

describe('memory', () => {
  test('tidy, dispose and using give tensors back; the result of tidy lives', () => {
    const before = memory().cpu.tensors;
    const kept = tidy(() => {
      const a = mul(ones([10]), 2);
      return mul(a, 3);
    });
    expect(memory().cpu.tensors - before).toBe(1);
    expect(kept.data[0]).toBe(6);
    kept.dispose();
    expect(memory().cpu.tensors - before).toBe(0);
    const a = zeros([5]);
    expect(memory().cpu.tensors - before).toBe(1);
    a[Symbol.dispose]();
    expect(memory().cpu.tensors - before).toBe(0);
  });

  test('bytes count shared memory once', () => {
    const before = memory().cpu.bytes;
    const a = zeros([100]);
    const b = a.reshape([10, 10]);
    expect(memory().cpu.bytes - before).toBe(400);
    a.dispose();
    expect(memory().cpu.bytes - before).toBe(400);
    b.dispose();
    expect(memory().cpu.bytes - before).toBe(0);
  });

  test('what a loss keeps for backward survives tidy, and goes with backward', () => {
    const x = tensor(normals(1, 12), { shape: [3, 4], requiresGrad: true });
    const loss = tidy(() => kdLoss(mul(x, 2), teacher()));
    loss.backward();
    expect(x.grad).not.toBe(null);
  });
});

describe('devices', () => {
  const script = (body: string, env: Record<string, string> = {}): string => {
    const built = pathToFileURL(path.join(root, 'dist/index.js')).href;
    const child = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', `const limbeck = await import(${JSON.stringify(built)});\n${body}`],
      { encoding: 'utf8', env: { ...process.env, ...env }, cwd: root },
    );
    expect(`${child.signal} ${child.status}\n${child.stderr}`).toBe('null 0\n');
    return child.stdout.trim();
  };
  const hasCuda = devices().some((device) => device.device !== 'cpu' && device.usable);

  test("'auto' says what it took and why; 'cpu' is always there", () => {
    const choice = setDevice('auto');
    expect(['cpu', 'cuda']).toContain(choice.device.split(':')[0]);
    expect(choice.reason.length).toBeGreaterThan(5);
    if (!hasCuda) expect(choice).toMatchObject({ device: 'cpu', reason: expect.stringMatching(/^CUDA cannot be used: .+/) as string });
    expect(setDevice('cpu').device).toBe('cpu');
    expect(devices()[0]).toMatchObject({ device: 'cpu', usable: true });
  });

  test("'cuda' where it cannot be used throws with the reason and a stable code", () => {
    if (hasCuda) return;
    const code = info().cuda.code;
    expect(['not_built', 'no_driver', 'driver_too_old', 'no_device', 'unsupported_architecture']).toContain(code);
    for (const fn of [
      () => setDevice('cuda'),
      () => tensor([1], { device: 'cuda' }),
      () => student().to('cuda' as Device),
      () => zeros([2], { device: 'cuda:0' }),
    ])
      expect(refused(fn)).toMatch(new RegExp(`^LimbeckError ${code}: Cannot .+: cuda must be usable: .+`));
  });

  test('data of a CUDA tensor says to read it; tensors of two devices do not meet', () => {
    const output = script(
      `const x = limbeck.tensor([[1, 2]], { device: 'cuda' });
       const message = (fn) => { try { fn(); return 'nothing'; } catch (error) { return error.constructor.name + ' ' + (error.code ?? '') + ': ' + error.message; } };
       console.log(message(() => x.data));
       console.log(message(() => limbeck.kdLoss(x, limbeck.tensor([[1, 2]]))));
       console.log(message(() => limbeck.add(x, limbeck.tensor([[1, 2]]))));
       console.log((await x.read()).join(), limbeck.softmax(x).device, limbeck.setDevice('auto').device, limbeck.sum(x).item());
       console.log(message(() => limbeck.tensor([1], { device: 'cuda:7' })));`,
      { LIMBECK_EMULATE_CUDA: '1' },
    ).split('\n');
    expect(output).toEqual([
      'TypeError : Cannot get data: the tensor must be on the cpu: it is on cuda; use await tensor.read()',
      "LimbeckError wrong_device: Cannot compute kdLoss: the teacher must be on cuda like student: it is on cpu; to('cuda') moves it",
      "LimbeckError wrong_device: Cannot compute add: b must be on cuda like a: it is on cpu; to('cuda') moves it",
      '1,2 cuda cuda 3',
      'LimbeckError no_device: Cannot make a tensor: cuda:7 must be there: there is one CUDA device',
    ]);
  });

  test('importing never throws where there is no binary; the first use says the cure', () => {
    const output = script(
      `try { limbeck.tensor([1]); limbeck.softmax(limbeck.tensor([1, 2])); console.log('nothing'); } catch (error) { console.log(error.constructor.name, error.code, error.message.includes('Cure:'), error.message.split('\\n')[0]); }`,
      { LIMBECK_ADDON_DIR: '/nowhere' },
    );
    expect(output).toMatch(/^LimbeckError no_binary true Cannot load limbeck: there must be a binary for this platform \(.+\)$/);
  });

  test('an instruction set by name; one that is not there is said', () => {
    for (const name of info().instructionSets)
      expect(script('console.log(limbeck.info().instructionSet)', { LIMBECK_ISA: name })).toBe(name);
    expect(script('console.log(typeof limbeck.info().instructionSetError)', { LIMBECK_ISA: 'quantum' })).toBe('string');
  });

  test('threads from the environment and by call', () => {
    expect(script('console.log(limbeck.info().threads)', { LIMBECK_THREADS: '3' })).toBe('3');
    const before = info().threads;
    setThreads(2);
    expect(info().threads).toBe(2);
    setThreads(before);
    expect(refused(() => setThreads(0))).toBe('RangeError: Cannot set the threads: threads must be a whole number in [1, 256]: it is 0');
    expect(refused(() => setThreads('2' as never))).toBe("TypeError: Cannot set the threads: threads must be a number: it is '2'");
  });
});

test('the log-softmax of the reference and of the library agree on the README example', () => {
  const values = Float32Array.of(1, 2, 3);
  logSoftmax(tensor(values)).data.forEach((value, i) => expect(value).toBeCloseTo(logSoftmaxRow(values, 1)[i] as number, 6));
  expect(plain(info().instructionSets)).toContain(info().instructionSet);
});
