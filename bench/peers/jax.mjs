// jax-js with its WebAssembly back end: jit and valueAndGrad. An array is used up by its use; x.ref keeps one more reference.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { TEMPERATURE as T } from './data.mjs';
import { serve, sumAbs, sumOf, sumSquares } from './serve.mjs';

const require = createRequire(`${process.argv[3]}/package.json`);
const {
  init,
  numpy: np,
  nn,
  lax,
  jit,
  valueAndGrad,
  blockUntilReady,
  defaultDevice,
} = await import(pathToFileURL(require.resolve('@jax-js/jax')).href);
await init('wasm');
defaultDevice('wasm');

const forwardKl = (student, teacher) => {
  const lp = nn.logSoftmax(teacher.mul(1 / T), -1);
  const lq = nn.logSoftmax(student.mul(1 / T), -1);
  return np
    .exp(lp.ref)
    .mul(lp.sub(lq))
    .sum(-1)
    .mean()
    .mul(T * T);
};
const sparseLoss = (student, ids, probs) => {
  const lq = nn.logSoftmax(student.mul(1 / T), -1);
  return probs.ref
    .mul(np.log(probs).sub(np.takeAlongAxis(lq, ids, -1)))
    .sum(-1)
    .mean()
    .mul(T * T);
};

serve({
  name: 'jax-js (wasm)',
  isAsync: true,
  prepare: async ({ rows, cols, k, student, teacher, ids, probs }) => {
    const place = (values, shape, options) => np.array(values, options).reshape(shape);
    const inputs = {
      student: place(student, [rows, cols]),
      teacher: place(teacher, [rows, cols]),
      probs: place(probs, [rows, k]),
      ids: place(ids, [rows, k], { dtype: np.int32 }),
    };
    await blockUntilReady(Object.values(inputs));
    return inputs;
  },
  release: (inputs) => Object.values(inputs).forEach((array) => array.dispose()),
  variants: (task, { student, teacher, probs, ids }, { k }) => {
    const one = (make, read, number) => ({
      jit: {
        run: async () => {
          const out = make();
          await blockUntilReady(out);
          for (const array of out) array.dispose();
        },
        check: async () => {
          const out = make();
          for (const array of out) if (array !== out[read]) array.dispose();
          return number(await out[read].data());
        },
      },
    });
    if (task === 'dense forward_kl') {
      const f = jit(valueAndGrad(forwardKl));
      return one(() => f(student.ref, teacher.ref), 1, sumAbs);
    }
    if (task === 'sparse renormalize') {
      const f = jit(valueAndGrad(sparseLoss));
      return one(() => f(student.ref, ids.ref, probs.ref), 1, sumAbs);
    }
    if (task === 'softmax') {
      const f = jit((x) => nn.softmax(x.mul(1 / T), -1));
      return one(() => [f(teacher.ref)], 0, sumSquares);
    }
    if (task === 'top-k') {
      const f = jit((x) => lax.topK(x, k, -1));
      return one(() => f(teacher.ref), 1, sumOf);
    }
    return undefined;
  },
});
