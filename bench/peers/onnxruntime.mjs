// onnxruntime-node: graphs built here. It has no autograd, so a gradient is the closed form written as a graph. Outputs are made once.
import { createRequire } from 'node:module';
import { TEMPERATURE as T } from './data.mjs';
import { serve, sumAbs, sumOf, sumSquares } from './serve.mjs';

const require = createRequire(`${process.argv[3]}/package.json`);
const { onnx } = require('onnx-proto');
const ort = require('onnxruntime-node');

const FLOAT = 1;
const INT64 = 7;
const value = (name, elemType, dims) => ({
  name,
  type: { tensorType: { elemType, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } },
});
const scalar = (name, number) => ({ name, dataType: FLOAT, dims: [], floatData: [number] });
const whole = (name, numbers) => ({ name, dataType: INT64, dims: [numbers.length], int64Data: numbers });
const integer = (name, i) => ({ name, type: 2, i });
const node = (opType, input, output, attribute = []) => ({ opType, input, output, attribute });
const axis = [integer('axis', -1)];
const total = [integer('keepdims', 0)];

function model(nodes, input, output, initializer) {
  const graph = { name: 'g', node: nodes, input, output, initializer };
  return onnx.ModelProto.encode(onnx.ModelProto.create({ irVersion: 8, opsetImport: [{ domain: '', version: 17 }], graph })).finish();
}

const mean = (of) => [
  node('ReduceSum', [of, 'last'], ['row'], total),
  node('ReduceMean', ['row'], ['all'], total),
  node('Mul', ['all', 'squared'], ['loss']),
];

const graphs = {
  softmax: ({ rows, cols }) =>
    model(
      [node('Mul', ['teacher', 'inverse'], ['a']), node('Softmax', ['a'], ['out'], axis)],
      [value('teacher', FLOAT, [rows, cols])],
      [value('out', FLOAT, [rows, cols])],
      [scalar('inverse', 1 / T)],
    ),
  'dense forward_kl': ({ rows, cols }) =>
    model(
      [
        node('Mul', ['student', 'inverse'], ['a']),
        node('Mul', ['teacher', 'inverse'], ['b']),
        node('LogSoftmax', ['a'], ['lq'], axis),
        node('LogSoftmax', ['b'], ['lp'], axis),
        node('Exp', ['lp'], ['p']),
        node('Sub', ['lp', 'lq'], ['d']),
        node('Mul', ['p', 'd'], ['pd']),
        ...mean('pd'),
        node('Exp', ['lq'], ['q']),
        node('Sub', ['q', 'p'], ['g']),
        node('Mul', ['g', 'slope'], ['out']),
      ],
      [value('student', FLOAT, [rows, cols]), value('teacher', FLOAT, [rows, cols])],
      [value('loss', FLOAT, []), value('out', FLOAT, [rows, cols])],
      [scalar('inverse', 1 / T), scalar('squared', T * T), scalar('slope', T / rows), whole('last', [-1])],
    ),
  'top-k': ({ rows, cols, k }) =>
    model(
      [node('TopK', ['teacher', 'k'], ['values', 'best'], [...axis, integer('largest', 1), integer('sorted', 1)])],
      [value('teacher', FLOAT, [rows, cols])],
      [value('values', FLOAT, [rows, k]), value('best', INT64, [rows, k])],
      [whole('k', [k])],
    ),
  'sparse renormalize': ({ rows, cols, k }) =>
    model(
      [
        node('Mul', ['student', 'inverse'], ['a']),
        node('LogSoftmax', ['a'], ['lq'], axis),
        node('GatherElements', ['lq', 'ids'], ['l'], axis),
        node('Log', ['probs'], ['lp']),
        node('Sub', ['lp', 'l'], ['d']),
        node('Mul', ['probs', 'd'], ['pd']),
        ...mean('pd'),
        node('Exp', ['lq'], ['q']),
        node('Mul', ['q', 'slope'], ['g']),
        node('Mul', ['probs', 'minus'], ['u']),
        node('ScatterElements', ['g', 'ids', 'u'], ['out'], [...axis, { name: 'reduction', type: 3, s: Buffer.from('add') }]),
      ],
      [value('student', FLOAT, [rows, cols]), value('probs', FLOAT, [rows, k]), value('ids', INT64, [rows, k])],
      [value('loss', FLOAT, []), value('out', FLOAT, [rows, cols])],
      [scalar('inverse', 1 / T), scalar('squared', T * T), scalar('slope', T / rows), scalar('minus', -T / rows), whole('last', [-1])],
    ),
};

const options = { intraOpNumThreads: 2, interOpNumThreads: 1, graphOptimizationLevel: 'all', executionProviders: ['cpu'] };
const tensor = (values, dims) => new ort.Tensor('float32', values, dims);

serve({
  name: `onnxruntime-node ${require('onnxruntime-node/package.json').version}`,
  isAsync: true,
  prepare: ({ rows, cols, k, student, teacher, ids, probs }, sets) => ({
    sets: Array.from({ length: sets }, () => ({
      student: tensor(student.slice(), [rows, cols]),
      teacher: tensor(teacher.slice(), [rows, cols]),
    })),
    sparse: { probs: tensor(probs, [rows, k]), ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [rows, k]) },
    out: tensor(new Float32Array(rows * cols), [rows, cols]),
    loss: tensor(new Float32Array(1), []),
    values: tensor(new Float32Array(rows * k), [rows, k]),
    best: new ort.Tensor('int64', new BigInt64Array(rows * k), [rows, k]),
  }),
  variants: async (task, { sets, sparse, out, loss, values, best }, data) => {
    if (graphs[task] === undefined) return undefined;
    const bytes = graphs[task](data);
    const session = await ort.InferenceSession.create(bytes, options);
    const fetches = { softmax: { out }, 'top-k': { values, best } }[task] ?? { loss, out };
    const feeds = sets.map(({ student, teacher }) =>
      task.startsWith('sparse') ? { student, ...sparse } : task.startsWith('dense') ? { student, teacher } : { teacher },
    );
    const check = () => (task === 'softmax' ? sumSquares(out.data) : task === 'top-k' ? sumOf(best.data) : sumAbs(out.data));
    return { graph: { run: (set) => session.run(feeds[set], fetches), check, close: () => session.release() } };
  },
});
