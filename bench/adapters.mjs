// `npm run bench:adapters`: a distillation loss with its gradient inside tfjs and jax-js, ours through the adapter and the same loss in
// their own operations, in turns; ratios are taken within a round.
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import * as jax from '@jax-js/jax';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import * as ofJax from 'limbeck/jax';
import * as ofTfjs from 'limbeck/tfjs';
import { median } from './peers/serve.mjs';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '9' } } });
const rounds = Number(values.rounds);
const T = 2;
const SHAPES = [
  [256, 10],
  [256, 1000],
  [256, 32_000],
];
console.warn = () => {};

const random = (size, seed) => Float32Array.from({ length: size }, (_, i) => 4 * Math.sin(12.9898 * (i + 1) + seed * 78.233));

/** Medians of each way's milliseconds, and of the ratio to the first within a round. */
async function inTurns(ways) {
  const names = Object.keys(ways);
  const times = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = -2; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const start = performance.now();
      let calls = 0;
      do {
        await ways[name]();
        calls++;
      } while (performance.now() - start < 150);
      if (round >= 0) times[name].push((performance.now() - start) / calls);
    }
  }
  return names.map((name) => ({
    name,
    ms: median(times[name]),
    ratio: median(times[name].map((ms, round) => ms / times[names[0]][round])),
  }));
}

function report(where, [rows, cols], results) {
  for (const { name, ms, ratio } of results)
    console.log(
      `${where.padEnd(12)} [${rows}, ${cols}]`.padEnd(28),
      name.padEnd(25),
      `${ms.toPrecision(3)} ms`.padStart(10),
      `×${ratio.toPrecision(3)}`.padStart(8),
    );
}

const inOperations = (student, teacher) => {
  const lp = tf.logSoftmax(teacher.div(T));
  const lq = tf.logSoftmax(student.div(T));
  return tf
    .exp(lp)
    .mul(lp.sub(lq))
    .sum(-1)
    .mean()
    .mul(T * T);
};

const require = createRequire(import.meta.url);
setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}/wasm-out/`);
for (const backend of ['wasm', 'cpu']) {
  await tf.setBackend(backend);
  // Its cpu back end takes ten seconds a step for the largest.
  for (const [rows, cols] of backend === 'cpu' ? SHAPES.slice(0, 2) : SHAPES) {
    const student = tf.tensor(random(rows * cols, 1), [rows, cols]);
    const teacher = tf.tensor(random(rows * cols, 2), [rows, cols]);
    const labels = Int32Array.from({ length: rows }, (_, r) => (r * 7) % cols);
    const read = (f) => () => {
      const { value, grad } = tf.valueAndGrad(f)(student);
      value.dataSync();
      tf.dispose([value, grad]);
    };
    const pairs = [
      {
        'limbeck kdLoss': read((x) => ofTfjs.kdLoss(x, teacher, { temperature: T })),
        'tfjs operations': read((x) => inOperations(x, teacher)),
      },
      {
        'limbeck crossEntropy': read((x) => ofTfjs.crossEntropy(x, labels)),
        'tfjs softmaxCrossEntropy': read((x) => tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(labels, 'int32'), cols), x)),
      },
    ];
    for (const ways of pairs) report(`tfjs ${backend}`, [rows, cols], await inTurns(ways));
    tf.dispose([student, teacher]);
  }
}

const { numpy: np, nn, jit, valueAndGrad, blockUntilReady } = jax;
await jax.init('wasm');
jax.defaultDevice('wasm');
const ofOperations = jit(
  valueAndGrad((student, teacher) => {
    const lp = nn.logSoftmax(teacher.mul(1 / T), -1);
    const lq = nn.logSoftmax(student.mul(1 / T), -1);
    return np
      .exp(lp.ref)
      .mul(lp.sub(lq))
      .sum(-1)
      .mean()
      .mul(T * T);
  }),
);
for (const [rows, cols] of SHAPES) {
  const student = np.array(random(rows * cols, 1), { shape: [rows, cols] });
  const teacher = np.array(random(rows * cols, 2), { shape: [rows, cols] });
  await blockUntilReady([student, teacher]);
  const done = async (arrays) => {
    await blockUntilReady(arrays);
    for (const array of arrays) array.dispose();
  };
  const ways = {
    'limbeck kdLoss': () => {
      const { loss, gradient } = ofJax.kdLoss(student.ref, teacher.ref, { temperature: T });
      return done([loss, gradient]);
    },
    'jax-js jit operations': () => done(ofOperations(student.ref, teacher.ref)),
  };
  report('jax-js wasm', [rows, cols], await inTurns(ways));
  student.dispose();
  teacher.dispose();
}
