// `npm run bench:prune`: ready models before and after parts are taken out: parameters, operations, and the time of a forward pass here
// and in onnxruntime-node, in turns, with the largest difference of the two programs' logits.
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { info, nn, noGrad, prune, randn, setThreads, tensor, tidy, type Tensor } from '../src/index.js';
import { exportOnnx } from '../src/onnx/index.js';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '15' }, threads: { type: 'string', default: '1' } } });
const number = (name: keyof typeof values): number => {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`Cannot run the bench: --${name} must be a whole number of at least 1: it is ${values[name]}`);
  return value;
};
const [rounds, threads] = [number('rounds'), number('threads')];
setThreads(threads);

const perceptron = new nn.MLP({ inputs: 784, hidden: [800, 800], outputs: 10, seed: 1 });
const images = new nn.CNN({ inputShape: [1, 28, 28], channels: [32, 64], hidden: [128], classes: 10, seed: 2 });
const decoder = new nn.GPT({ vocabulary: 8192, context: 64, layers: 4, heads: 8, width: 256, seed: 3 });
const pixels = randn([128, 784], { seed: 4 });
const tokens = tensor(
  Int32Array.from({ length: 4 * 64 }, (_, i) => (i * 37) % 8192),
  { shape: [4, 64] },
);

/** Several structures one after the other, half of each. */
function halved(model: nn.Model, x: Tensor, structures: readonly prune.Structure[]): nn.Model {
  return structures.reduce<nn.Model>(
    (now, structure) => prune.pruneStep(now, { structure, sparsity: 0.5, method: 'activation', calibration: () => [x] }).model,
    model,
  );
}

const cases: { name: string; model: nn.Model; x: Tensor; rows: string }[] = [
  { name: 'MLP 784-800-800-10', model: perceptron, x: pixels, rows: '128 images' },
  { name: '  half its units', model: halved(perceptron, pixels, ['units']), x: pixels, rows: '' },
  { name: 'CNN 32-64-128', model: images, x: pixels, rows: '128 images' },
  { name: '  half its channels', model: halved(images, pixels, ['channels']), x: pixels, rows: '' },
  { name: '  and half its units', model: halved(images, pixels, ['channels', 'units']), x: pixels, rows: '' },
  { name: 'GPT 4 × 256, 8 heads', model: decoder, x: tokens, rows: '256 tokens' },
  { name: '  half its units', model: halved(decoder, tokens, ['units']), x: tokens, rows: '' },
  { name: '  and half its heads', model: halved(decoder, tokens, ['units', 'heads']), x: tokens, rows: '' },
  { name: '  half its layers', model: halved(decoder, tokens, ['layers']), x: tokens, rows: '' },
  { name: '  half its width', model: halved(decoder, tokens, ['width']), x: tokens, rows: '' },
];

const folder = mkdtempSync(join(tmpdir(), 'limbeck-prune-'));
try {
  const runs = await Promise.all(
    cases.map(async ({ model, x }, i) => {
      model.eval();
      const path = join(folder, `${i}.onnx`);
      await exportOnnx(model, path);
      const session = await InferenceSession.create(path, { intraOpNumThreads: threads, interOpNumThreads: 1 });
      const inputShape = model instanceof nn.CNN ? [x.shape[0]!, ...model.inputShape] : x.shape;
      const input = model.takesIds
        ? new OrtTensor('int64', BigInt64Array.from(x.data as Int32Array, BigInt), inputShape)
        : new OrtTensor('float32', x.data as Float32Array, inputShape);
      const there = async (): Promise<Float32Array> => (await session.run({ input })).logits!.data as Float32Array;
      const here = (): Float32Array => tidy(() => noGrad(() => model.forward(x).data.slice() as Float32Array));
      const [ours, theirs] = [here(), await there()];
      const difference = ours.reduce((most, v, at) => Math.max(most, Math.abs(v - theirs[at]!)), 0);
      return { here, there, difference, bytes: statSync(path).size, times: { here: [] as number[], there: [] as number[] } };
    }),
  );
  for (let round = 0; round < rounds; round++) {
    for (const { here, there, times } of runs) {
      let begin = performance.now();
      here();
      times.here.push(performance.now() - begin);
      begin = performance.now();
      await there();
      times.there.push(performance.now() - begin);
    }
  }
  const median = (list: number[]): number => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]!;
  console.log(`${info().instructionSet}, ${threads} threads, ${rounds} rounds in turns, medians`);
  console.log('model                    parameters   MFLOP/example  file MB  limbeck ms  onnxruntime ms  difference of logits');
  cases.forEach(({ name, model, rows }, i) => {
    const { times, difference, bytes } = runs[i]!;
    const row = [
      name.padEnd(24),
      String(model.parameterCount()).padStart(10),
      (prune.flops(model).total / 1e6).toFixed(2).padStart(14),
      (bytes / 1e6).toFixed(2).padStart(9),
      median(times.here).toFixed(2).padStart(11),
      median(times.there).toFixed(2).padStart(15),
      difference.toExponential(0).padStart(10),
      rows,
    ];
    console.log(row.join(' ').trimEnd());
  });
} finally {
  rmSync(folder, { recursive: true });
}
