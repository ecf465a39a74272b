// TensorFlow.js with its WebAssembly back end: the perceptron of ours.ts with tf.train.adam. One task a line, see ours.ts.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);
console.warn = () => {};
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
wasm.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/package.json'))}/wasm-out/`);
if (!(await tf.setBackend('wasm'))) throw new Error('the WebAssembly back end does not start');
await tf.ready();

const T = 4;
const HARD = 0.5;
const BATCH = 128;

function read(task) {
  const file = readFileSync(path.join(process.argv[2], `${task}.safetensors`));
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString());
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(
        ([
          name,
          {
            dtype,
            shape,
            data_offsets: [from, to],
          },
        ]) => {
          const bytes = file.subarray(8 + headerBytes + from, 8 + headerBytes + to);
          const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
          return [name, { shape, values: dtype === 'I32' ? new Int32Array(buffer) : new Float32Array(buffer) }];
        },
      ),
  );
}

const tensorOf = ({ values, shape }) => tf.tensor(values, shape, values instanceof Int32Array ? 'int32' : 'float32');

function mlp() {
  const data = read('mlp');
  const [x, teacher, labels] = [data.x, data.teacher, data.labels].map(tensorOf);
  const order = data.order.values;
  const classes = data.teacher.shape[1];
  let w = [];
  let optimizer;
  const lossOf = (rows) => {
    const hidden = tf.relu(tf.add(tf.matMul(tf.gather(x, rows), w[0], false, true), w[1]));
    const z = tf.add(tf.matMul(hidden, w[2], false, true), w[3]);
    const lp = tf.logSoftmax(tf.gather(teacher, rows).div(T));
    const lq = tf.logSoftmax(z.div(T));
    const soft = tf.exp(lp).mul(lp.sub(lq)).sum(-1).mean();
    const hard = tf.neg(tf.oneHot(tf.gather(labels, rows), classes).toFloat().mul(tf.logSoftmax(z)).sum(-1).mean());
    return soft.mul((1 - HARD) * T * T).add(hard.mul(HARD));
  };
  return {
    reset: () => {
      tf.dispose(w);
      optimizer?.dispose();
      w = ['layers.0.weight', 'layers.0.bias', 'layers.2.weight', 'layers.2.bias'].map((name) =>
        tf.variable(tensorOf(data[`model.${name}`])),
      );
      optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
    },
    run: () => {
      const losses = [];
      for (let from = 0; from < order.length; from += BATCH) {
        losses.push(
          tf.tidy(() => {
            const rows = tf.tensor1d(order.slice(from, from + BATCH), 'int32');
            return optimizer.minimize(() => lossOf(rows), true, w).dataSync()[0];
          }),
        );
      }
      return losses;
    },
  };
}

const makers = { mlp };
const tasks = {};
console.log(`@${JSON.stringify({ ready: `tfjs ${tf.version.tfjs} (wasm)` })}`);
createInterface({ input: process.stdin }).on('line', (line) => {
  let reply;
  try {
    const { task: name } = JSON.parse(line);
    if (makers[name] === undefined) reply = { variants: {} };
    else {
      const task = (tasks[name] ??= makers[name]());
      task.reset();
      const cpu = process.cpuUsage();
      const begin = performance.now();
      const losses = task.run();
      const ms = performance.now() - begin;
      const { user, system } = process.cpuUsage(cpu);
      reply = { variants: { ops: { ms, cpu: (user + system) / 1000, losses } } };
    }
  } catch (error) {
    reply = { error: String(error?.message ?? error).split('\n')[0] };
  }
  console.log(`@${JSON.stringify(reply)}`);
});
