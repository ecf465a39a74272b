// TensorFlow.js with its WebAssembly back end (SIMD; in Node it turns its threads off). valueAndGrad for gradients.
import { createRequire } from 'node:module';
import path from 'node:path';
import { TEMPERATURE as T } from './data.mjs';
import { serve, sumAbs, sumOf, sumSquares } from './serve.mjs';

const require = createRequire(`${process.argv[3]}/package.json`);
console.warn = () => {};
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}/wasm-out/`);
if (!(await tf.setBackend('wasm'))) throw new Error('the WebAssembly back end does not start');
await tf.ready();

const forwardKl = (student, teacher) =>
  tf.tidy(() => {
    const lp = tf.logSoftmax(teacher.div(T));
    const lq = tf.logSoftmax(student.div(T));
    return tf
      .exp(lp)
      .mul(lp.sub(lq))
      .sum(-1)
      .mean()
      .mul(T * T);
  });

// There is no gather along an axis with a gradient: gatherND, and the gradient by hand.
function sparseLoss(places, probs, rows, cols) {
  return tf.customGrad((student, save) => {
    const lq = tf.logSoftmax(student.div(T));
    const loss = probs
      .mul(tf.log(probs).sub(tf.gatherND(lq, places).reshape(probs.shape)))
      .sum(-1)
      .mean()
      .mul(T * T);
    save([lq]);
    const gradFunc = (upstream, [saved]) =>
      tf
        .exp(saved)
        .mul(probs.sum(-1, true))
        .sub(tf.scatterND(places, probs.reshape([-1]), [rows, cols]))
        .mul(T / rows)
        .mul(upstream);
    return { value: loss, gradFunc };
  });
}

serve({
  name: `tfjs ${tf.version.tfjs} (wasm)`,
  prepare: ({ rows, cols, k, student, teacher, ids, probs }, sets) => {
    const places = new Int32Array(2 * rows * k);
    ids.forEach((id, i) => places.set([Math.floor(i / k), id], 2 * i));
    return {
      sets: Array.from({ length: Math.min(sets, 4) }, () => ({
        student: tf.tensor(student, [rows, cols]),
        teacher: tf.tensor(teacher, [rows, cols]),
      })),
      probs: tf.tensor(probs, [rows, k]),
      places: tf.tensor(places, [rows * k, 2], 'int32'),
    };
  },
  release: (inputs) => tf.dispose(inputs),
  variants: (task, { sets, probs, places }, { rows, cols, k }) => {
    const one = (run, check) => {
      const at = (set) => run(sets[set % sets.length]);
      return {
        ops: {
          run: (set) => tf.dispose(at(set)),
          check: () => {
            const out = at(0);
            const number = check(out);
            tf.dispose(out);
            return number;
          },
        },
      };
    };
    const gradient = (f) =>
      one(
        (set) => tf.valueAndGrad((student) => f(student, set))(set.student),
        ({ grad }) => sumAbs(grad.dataSync()),
      );
    if (task === 'dense forward_kl') return gradient((student, set) => forwardKl(student, set.teacher));
    if (task === 'sparse renormalize') {
      const loss = sparseLoss(places, probs, rows, cols);
      return gradient((student) => loss(student));
    }
    if (task === 'softmax')
      return one(
        (set) => tf.tidy(() => tf.softmax(set.teacher.div(T))),
        (y) => sumSquares(y.dataSync()),
      );
    if (task === 'top-k')
      return one(
        (set) => tf.topk(set.teacher, k, true),
        ({ indices }) => sumOf(indices.dataSync()),
      );
    return undefined;
  },
});
