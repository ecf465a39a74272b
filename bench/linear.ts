// `npm run bench:linear`: linearKdLoss beside kdLoss of whole logits, forward and gradients: time in turns, and the peak of live memory; --dtype for half types, --scratch for scratchBytes.
import { parseArgs } from 'node:util';
import { captureTopK, info, kdLoss, linear, linearKdLoss, memory, randn, sparseTarget, tensor, tidy, type Tensor } from '../src/index.js';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '1024' },
    inputs: { type: 'string', default: '256' },
    cols: { type: 'string', default: '32000' },
    k: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '7' },
    dtype: { type: 'string', default: 'float32' },
    scratch: { type: 'string' },
  },
});
const number = (name: keyof typeof values): number => {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`Cannot run the bench: --${name} must be a whole number of at least 1: it is ${values[name]}`);
  return value;
};
const [rows, inputs, cols, k, rounds] = [number('rows'), number('inputs'), number('cols'), number('k'), number('rounds')];

const { dtype } = values;
if (dtype !== 'float32' && dtype !== 'float16' && dtype !== 'bfloat16')
  throw new RangeError(`Cannot run the bench: --dtype must be float32, float16 or bfloat16: it is ${dtype}`);
const operand = (shape: number[], seed: number): Tensor => {
  const x = randn(shape, { seed, dtype });
  x.requiresGrad = true;
  return x;
};
const hidden = operand([rows, inputs], 1);
const weight = operand([cols, inputs], 2);
// A few rows at a time: the peak that counts is that of the losses.
const captured = (() => {
  const parts = Array.from({ length: rows }, (_, r) => tidy(() => captureTopK(randn([1, cols], { seed: 3 + r }), k)));
  const indices = new Int32Array(rows * k);
  const logProbs = new Float32Array(rows * k);
  parts.forEach((part, r) => {
    indices.set(part.indices.data as Int32Array, r * k);
    logProbs.set(part.logProbs!.data as Float32Array, r * k);
    part.dispose();
  });
  return { indices, logProbs };
})();
const target = sparseTarget({
  indices: tensor(captured.indices, { shape: [rows, k] }),
  logProbs: tensor(captured.logProbs, { shape: [rows, k] }),
  cols,
});
const options = { residual: 'tail_bucket' } as const;

const ways: [string, () => Tensor][] = [
  // The one that needs less goes first: the peak never falls.
  [
    'linearKdLoss',
    () => linearKdLoss(hidden, weight, target, { ...options, scratchBytes: values.scratch === undefined ? undefined : number('scratch') }),
  ],
  ['kdLoss(linear)', () => kdLoss(linear(hidden, weight), target, options)],
];

function run(loss: () => Tensor): number {
  const begin = performance.now();
  tidy(() => loss().backward());
  const time = performance.now() - begin;
  hidden.zeroGrad();
  weight.zeroGrad();
  return time;
}

const before = memory().cpu.bytes;
const peaks = ways.map(([, loss]) => {
  run(loss);
  return (memory().cpu.peakBytes - before) / 1e6;
});
const times = ways.map((): number[] => []);
for (let round = 0; round < rounds; round++) ways.forEach(([, loss], i) => times[i]!.push(run(loss)));

const median = (list: number[]): number => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]!;
const machine = info();
console.log(
  `${rows} rows, ${inputs} inputs, ${cols} columns, k ${k}, ${dtype}; ${machine.instructionSet}, ${machine.threads} threads, ${rounds} rounds in turns`,
);
ways.forEach(([name], i) => {
  const list = times[i]!;
  const middle = median(list);
  console.log(
    `${name.padEnd(15)} ${middle.toFixed(0)} ms (${list[0]!.toFixed(0)} to ${list[list.length - 1]!.toFixed(0)}), ${peaks[i]!.toFixed(0)} MB at the peak above operands and target`,
  );
});
