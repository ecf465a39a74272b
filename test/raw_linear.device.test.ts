// linearKdLoss of limbeck/raw: the bits of the main module's on typed arrays and descriptors, written where `out` says and nowhere else.
import { describe, expect, test } from 'vitest';
import { captureTopK, linearKdLoss, memory, tensor, tidy, type Device, type LinearKdLossOptions, type Tensor } from '../src/index.js';
import { decode } from '../src/dtypes.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';
import { toBits } from './half.js';

const device = (process.env.LIMBECK_TEST_DEVICE ?? 'cpu') as Device;
const [rows, cols, inputs, k] = [7, 21, 6, 4];
const size = { rows, cols, inputs };
const values = {
  hidden: normals(1, rows * inputs),
  weight: normals(2, cols * inputs),
  bias: normals(3, cols),
  teacher: normals(4, rows * cols, 2),
  rowWeights: Float32Array.of(1, 2, 0, 1, 1, 0.5, 3),
  labels: Int32Array.of(0, 20, -100, 3, 3, -100, 1),
};
type Name = 'hidden' | 'weight' | 'bias';
const shapes: Record<Name, number[]> = { hidden: [rows, inputs], weight: [cols, inputs], bias: [cols] };
const out = { hidden: 'gradientHidden', weight: 'gradientWeight', bias: 'gradientBias' } as const;

const put = (data: Float32Array | Int32Array | Uint16Array, shape: number[], dtype?: 'bfloat16'): Tensor =>
  tensor(data.slice(), { shape, device, ...(dtype === undefined ? {} : { dtype }) });
const bits = (x: Float32Array): Uint16Array => new Uint16Array(toBits(x, 'bfloat16').buffer);
const stored = (name: Name, isHalf: boolean): Float32Array | Uint16Array => (isHalf ? bits(values[name]) : values[name].slice());

/** Loss and gradients of the main module, as they are stored. */
async function wanted(target: Parameters<typeof linearKdLoss>[2], options: LinearKdLossOptions, isHalf: boolean) {
  const operand = (name: Name): Tensor => {
    const x = put(stored(name, isHalf), shapes[name], isHalf ? 'bfloat16' : undefined);
    x.requiresGrad = true;
    return x;
  };
  const [hidden, weight, bias] = [operand('hidden'), operand('weight'), operand('bias')];
  const loss = linearKdLoss(hidden, weight, target, { ...options, bias });
  loss.backward(loss.shape.length === 0 ? undefined : put(new Float32Array(rows).fill(1), [rows]));
  const gradient = async (x: Tensor): Promise<number[]> => [...(await x.grad!.read())];
  return { loss: [...(await loss.read())], hidden: await gradient(hidden), weight: await gradient(weight), bias: await gradient(bias) };
}

const captured = (): ReturnType<typeof captureTopK> => captureTopK(put(values.teacher, [rows, cols]), k, { temperature: 2 });

// Chunks of two rows and of all; rows that do not count; every reduction.
const calls: [string, LinearKdLossOptions][] = [
  ['mean', {}],
  ['short chunks, sum', { reduction: 'sum', scratchBytes: 400 }],
  ['labels, none', { labels: values.labels, hardWeight: 0.3, reduction: 'none' }],
  ['labels, short chunks', { labels: values.labels, hardWeight: 0.3, scratchBytes: 600 }],
  ['blocks kept', { scratchBytes: 1100 }],
];

describe.each([false, true])(`on ${device}, half types: %s`, (isHalf) => {
  const dtype = isHalf ? ({ dtype: 'bfloat16' } as const) : {};

  test.each(calls)('descriptors: %s', async (_, options) => {
    const target = captured();
    const expected = await wanted(target, { ...options, residual: 'tail_bucket' }, isHalf);
    const lossLike = put(new Float32Array(expected.loss.length), [expected.loss.length]);
    const there = Object.fromEntries(
      (['hidden', 'weight', 'bias'] as const).flatMap((name) => {
        const x = put(stored(name, isHalf), shapes[name], dtype.dtype);
        const g = put(stored(name, isHalf), shapes[name], dtype.dtype);
        return [[name, x], [out[name], g]] as const; // prettier-ignore
      }),
    ) as Record<Name | (typeof out)[Name], Tensor>;
    const described = <T extends Record<string, Tensor>>(from: T) =>
      Object.fromEntries(Object.entries(from).map(([name, x]) => [name, raw.toDLPack(x)])) as Record<keyof T, raw.DLPack>;
    const { indices, logProbs, tailLogMass } = target;
    const parts = { ...described({ indices, logProbs: logProbs!, tailLogMass: tailLogMass! }), temperature: 2 };
    const { hidden, weight, bias, ...gradients } = described(there);
    const before = memory()[device]!.tensors;
    const result = raw.linearKdLoss(hidden, weight, parts, {
      ...(options as object),
      residual: 'tail_bucket',
      bias,
      out: { ...gradients, loss: raw.toDLPack(lossLike) },
    });
    expect(memory()[device]!.tensors).toBe(before);
    expect(result.gradientWeight).toBe(gradients.gradientWeight);
    expect([...(await lossLike.read())]).toEqual(expected.loss);
    for (const name of ['hidden', 'weight', 'bias'] as const) expect([...(await there[out[name]].read())], name).toEqual(expected[name]);
    // The memory of hidden takes its gradient; a loss comes back as an array.
    const short = raw.linearKdLoss(hidden, weight, parts, { ...(options as object), residual: 'tail_bucket', bias, out: { gradientHidden: hidden } }); // prettier-ignore
    expect([...(short.loss as Float32Array)]).toEqual(expected.loss);
    expect(Object.keys(short).sort()).toEqual(['gradientHidden', 'loss']);
    expect([...(await there.hidden.read())]).toEqual(expected.hidden);
  });

  test.skipIf(device !== 'cpu').each(calls)('typed arrays: %s', async (_, options) => {
    const given = { ...(options as object), ...size, ...dtype, temperature: 2, residual: 'tail_bucket' } as const;
    const target = captured();
    const { indices, logProbs, tailLogMass } = target;
    const arrays = { indices: indices.data as Int32Array, logProbs: logProbs!.data as Float32Array, tailLogMass: tailLogMass!.data as Float32Array }; // prettier-ignore
    const rowWeights = put(values.rowWeights, [rows]);
    const expected = await wanted(target, { ...options, residual: 'tail_bucket', rowWeights }, isHalf);
    const [hidden, weight, bias] = [stored('hidden', isHalf), stored('weight', isHalf), stored('bias', isHalf)];
    const Type = hidden.constructor as Float32ArrayConstructor;
    // Two rows of padding behind, which nobody reads or writes.
    const padded = new Type((cols + 2) * inputs).fill(isHalf ? 0x7fc0 : NaN);
    padded.set(weight);
    const places = { gradientHidden: new Type(rows * inputs), gradientWeight: new Type(padded.length).fill(7), gradientBias: new Type(cols), loss: new Float32Array(rows) }; // prettier-ignore
    const result = raw.linearKdLoss(hidden, padded, arrays, { ...given, bias, rowWeights: values.rowWeights, out: places });
    expect(result).toEqual(places);
    expect([...places.loss.subarray(0, expected.loss.length)]).toEqual(expected.loss);
    expect([...places.gradientHidden]).toEqual(expected.hidden);
    expect([...places.gradientWeight]).toEqual([...expected.weight, ...Array.from({ length: 2 * inputs }, () => 7)]);
    expect([...places.gradientBias]).toEqual(expected.bias);
    const own = hidden.slice();
    raw.linearKdLoss(own, weight, arrays, { ...given, bias, rowWeights: values.rowWeights, out: { gradientHidden: own } });
    expect([...own]).toEqual(expected.hidden);
    // With the weight's, too, at any address: what is gathered in several walks still reads hidden.
    const again = hidden.slice();
    const ofWeight = new Type(weight.length + 1).subarray(1);
    raw.linearKdLoss(again, weight, arrays, { ...given, bias, rowWeights: values.rowWeights, out: { gradientHidden: again, gradientWeight: ofWeight } }); // prettier-ignore
    expect([...again]).toEqual(expected.hidden);
    const [close, exact] = [ofWeight, expected.weight].map((x) => [...x].map((v) => (isHalf ? decode('bfloat16', v) : v)));
    close!.forEach((v, i) => expect(Math.abs(v - exact![i]!), String(i)).toBeLessThanOrEqual(2 ** -7 * Math.abs(exact![i]!)));
  });
});

test.skipIf(device !== 'cpu')('dense teachers, one by its last layer, half types of another kind, float64', async () => {
  const own = { hidden: normals(8, rows * 3), weight: normals(9, cols * 3), bias: normals(10, cols) };
  const layer = { hidden: put(own.hidden, [rows, 3]), weight: put(own.weight, [cols, 3]), bias: put(own.bias, [cols]) };
  const { hidden, weight, bias, teacher } = values;
  const loss = (target: Parameters<typeof raw.linearKdLoss>[2], more: object = {}): number[] =>
    [...(raw.linearKdLoss(hidden, weight, target, { ...size, bias, ...more }).loss as Float32Array)]; // prettier-ignore
  expect(loss(own)).toEqual((await wanted(layer, {}, false)).loss);
  const logits = put(teacher, [rows, cols]);
  const options = { divergence: 'reverse_kl', temperature: 3 } as const;
  const expected = (await wanted(logits, options, false)).loss;
  expect(loss(teacher, options)).toEqual(expected);
  expect(loss({ logits: teacher }, options)).toEqual(expected);
  const half = tensor(bits(teacher), { shape: [rows, cols], dtype: 'bfloat16' });
  expect(loss(bits(teacher), { teacherDtype: 'bfloat16' })).toEqual((await wanted(half, {}, false)).loss);
  const wide = [hidden, weight, teacher, bias].map((x) => Float64Array.from(x)) as [Float64Array, Float64Array, Float64Array, Float64Array];
  const double = raw.linearKdLoss(wide[0], wide[1], wide[2], { ...size, bias: wide[3], ...options, out: { gradientWeight: new Float64Array(cols * inputs) } }); // prettier-ignore
  expect(double.loss).toBeInstanceOf(Float64Array);
  expect((double.loss as Float64Array)[0]).toBeCloseTo(expected[0]!, 5);
  tidy(() => {
    const nothing = raw.linearKdLoss(new Float32Array(), weight, new Float32Array(), { ...size, rows: 0, out: { gradientWeight: new Float32Array(cols * inputs).fill(1) } }); // prettier-ignore
    expect([nothing.loss, nothing.gradientWeight]).toEqual([Float32Array.of(0), new Float32Array(cols * inputs)]);
  });
});

test.skipIf(device !== 'cpu')('refuses what does not meet, and memory that is read and written', () => {
  const { hidden, weight, bias, teacher } = values;
  const call =
    (more: object, x: unknown = hidden, w: unknown = weight, u: unknown = teacher) =>
    () =>
      raw.linearKdLoss(x as Float32Array, w as Float32Array, u as Float32Array, { ...size, ...more });
  const both = new Float32Array(cols * inputs + rows * inputs);
  const refused: [() => unknown, string][] = [
    [call({}, [1]), 'TypeError: Cannot compute raw.linearKdLoss: hidden must be a Float32Array, Float64Array or Uint16Array: it is [1]'],
    [call({}, hidden, weight.subarray(1)), 'RangeError: Cannot compute raw.linearKdLoss: weight must hold 126 elements: it holds 125'],
    [call({ inputs: undefined }), 'TypeError: Cannot compute raw.linearKdLoss: inputs must be a number: it is missing'],
    [call({ rowStride: 30 }), "TypeError: Cannot compute raw.linearKdLoss: options must be among"], // prettier-ignore
    [call({}, hidden, weight, { weight: weight.subarray(1), hidden }), 'RangeError: Cannot compute raw.linearKdLoss: teacher.weight must hold inputs for each of 21 columns: it holds 125'], // prettier-ignore
    [
      call({ out: { gradientBias: bias } }),
      'TypeError: Cannot compute raw.linearKdLoss: out.gradientBias must not be given without bias: it is',
    ],
    [
      call({ out: { gradientWeight: weight } }),
      'RangeError: Cannot compute raw.linearKdLoss: out.gradientWeight must not share memory with weight: it does',
    ],
    [call({ out: { gradientHidden: both, gradientWeight: both.subarray(40) } }), 'RangeError: Cannot compute raw.linearKdLoss: out.gradientWeight must not share memory with out.gradientHidden: it does'], // prettier-ignore
    [call({ out: { gradientHidden: new Float64Array(rows * inputs) } }), 'TypeError: Cannot compute raw.linearKdLoss: out.gradientHidden must be float32 on cpu: it is float64 on cpu'], // prettier-ignore
    [call({ scratchBytes: 3 }), 'RangeError: Cannot compute raw.linearKdLoss: scratchBytes must hold what one row needs'],
    [call({ residual: 'truncate' }, hidden, weight, { indices: new Int32Array(5), logProbs: new Float32Array(5) }), 'RangeError: Cannot compute raw.linearKdLoss: teacher.indices must hold k entries for each of 7 rows: it holds 5'], // prettier-ignore
    [call({}, hidden, weight, { data: hidden, shape: [rows, inputs], dtype: { code: 2, bits: 32 }, device: { type: 1, id: 0 } }), 'RangeError: Cannot compute raw.linearKdLoss: teacher must have shape [7, 21]: it has [7, 6]'], // prettier-ignore
  ];
  for (const [run, message] of refused) {
    let said = 'nothing';
    try {
      run();
    } catch (error) {
      said = String(error);
    }
    expect(said.slice(0, message.length)).toBe(message);
  }
});
