// Calls every public function with random arguments, most of them wrong, in a process of its own: node fuzz-calls.mjs <folder of dist> <seed> <calls>.
// Ends with one line of JSON: the calls made and the throws that were not as documented.
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [dist, seed, calls] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const limbeck = await import(pathToFileURL(path.join(dist, 'index.js')).href);
const raw = await import(pathToFileURL(path.join(dist, 'raw.js')).href);

let state = seed >>> 0;
function next() {
  state = (state + 0x6d2b79f5) >>> 0;
  let t = state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(next() * n);
const pick = (list) => list[below(list.length)];

// Sizes are small, or so large that no machine has them: nothing here may take more than 256 MB.
const numbers = [
  0,
  1,
  2,
  3,
  5,
  7,
  16,
  33,
  -1,
  -0,
  0.5,
  1.5,
  -2.5,
  1e-3,
  1000,
  2 ** 48,
  -(2 ** 31),
  2 ** 53,
  2 ** 53 - 1,
  1e300,
  -1e300,
  5e-324,
  NaN,
  Infinity,
  -Infinity,
];
const extents = [0, 1, 1, 2, 2, 3, 4, 5, 8, 16, 33, 100, -1, 1.5, NaN, 2 ** 50, 2 ** 53, '2', null];
const names = [
  'cpu',
  'cuda',
  'cuda:3',
  'auto',
  'gpu',
  'float32',
  'float16',
  'bfloat16',
  'float64',
  'int32',
  'uint8',
  'mean',
  'sum',
  'none',
  'rows',
  'weights',
  'forward_kl',
  'reverse_kl',
  'renormalize',
  'truncate',
  'tail_bucket',
  'uniform',
  'label',
  'sampled',
  'power',
  'uniform_mix',
  '',
  'x',
  '__proto__',
  'constructor',
  'a.safetensors',
  'no/such/folder/file',
  '\u0000',
  'é'.repeat(200),
];
const optionNames = [
  'shape',
  'dtype',
  'device',
  'requiresGrad',
  'temperature',
  'temperatureSquared',
  'divergence',
  'residual',
  'labels',
  'hardWeight',
  'labelSmoothing',
  'ignoreIndex',
  'unlabelledIndex',
  'rowWeights',
  'cols',
  'rows',
  'rowStride',
  'reduction',
  'denominator',
  'seed',
  'axis',
  'keepDims',
  'retainGraph',
  'as',
  'indices',
  'probs',
  'logProbs',
  'logits',
  'weights',
  'tailLogMass',
  'target',
  'weight',
  'out',
  'loss',
  'gradient',
  'operator',
  'method',
  't',
  'lr',
  'momentum',
  'kind',
  'beta',
  'alpha',
  'assistant',
  'lambda',
  'transposeA',
  'nonsense',
];

const live = [];
function keep(value) {
  if (value === null || typeof value !== 'object') return;
  const kinds = [limbeck.Tensor, limbeck.SparseTarget, limbeck.DenseTarget, limbeck.nn.Module, limbeck.optim.Optimizer];
  if (kinds.some((kind) => value instanceof kind)) {
    if (live.length < 60) live.push(value);
    else live[below(60)] = value;
  }
}

const shape = () => Array.from({ length: below(4) }, () => (next() < 0.9 ? pick(extents.slice(0, 12)) : pick(extents)));
function fitting() {
  const rows = pick([1, 2, 3, 5]);
  const cols = pick([1, 2, 5, 16, 33]);
  return limbeck.tensor(
    Float32Array.from({ length: rows * cols }, () => (next() < 0.03 ? pick(numbers) : next() * 8 - 4)),
    { shape: [rows, cols], requiresGrad: next() < 0.3 },
  );
}
function typed() {
  const type = pick([
    Float32Array,
    Float32Array,
    Float64Array,
    Int32Array,
    Uint8Array,
    Uint16Array,
    Int16Array,
    BigInt64Array,
    Uint8ClampedArray,
  ]);
  const array = new type(pick([0, 1, 2, 4, 10, 33, 66, 100]));
  if (type === BigInt64Array) return array;
  for (let i = 0; i < array.length; i++) array[i] = next() < 0.05 ? pick(numbers) : next() * 6 - 2;
  if (next() < 0.05) structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}
function nested(depth) {
  if (depth === 0 || next() < 0.3) return next() < 0.95 ? next() * 4 - 1 : pick(numbers);
  const entries = Array.from({ length: below(4) }, () => nested(depth - 1));
  return entries;
}
function options(depth) {
  const made = {};
  for (let i = below(5); i > 0; i--) made[pick(optionNames)] = argument(depth - 1);
  return made;
}
const hostile = [
  () =>
    new Proxy(
      {},
      {
        get: () => {
          throw new TypeError('Cannot be read: a trap');
        },
      },
    ),
  () => ({
    get temperature() {
      throw new RangeError('Cannot be read: a getter');
    },
  }),
  () => Object.create(null),
  () => ({ valueOf: () => 3 }),
  () => new Date(0),
  () => new Map([[1, 2]]),
  () => Symbol('s'),
  () => 12n,
  () => new ArrayBuffer(8),
  () => new DataView(new ArrayBuffer(8)),
  () => new SharedArrayBuffer(8),
  () => new Float32Array(new SharedArrayBuffer(64)),
  () => Promise.resolve(1),
  () => async () => 1,
  () => {
    const ring = [];
    ring.push(ring);
    return ring;
  },
];
function argument(depth = 2) {
  const kind = next();
  if (kind < 0.22) return live.length > 0 && next() < 0.6 ? pick(live) : fitting();
  if (kind < 0.34) return pick(numbers);
  if (kind < 0.42) return pick(names);
  if (kind < 0.52) return typed();
  if (kind < 0.6) return shape();
  if (kind < 0.66) return nested(3);
  if (kind < 0.86) return depth > 0 ? options(depth) : undefined;
  if (kind < 0.9) return pick([null, undefined, true, false]);
  if (kind < 0.93)
    return pick([
      () => 1,
      () => fitting(),
      () => {
        throw new RangeError('Cannot go on: a callback');
      },
      (x) => x,
    ]);
  return pick(hostile)();
}

// Half of the calls begin with what the function wants, so that deeper checks are reached.
function argumentsOf(name) {
  const count = below(5);
  const args = Array.from({ length: count }, () => argument());
  if (next() < 0.5) {
    const teacher = fitting();
    if (/Loss$|crossEntropy|rowHellinger|argmaxInTopK/.test(name))
      args.splice(0, 2, teacher, next() < 0.5 ? limbeck.tensor(new Float32Array(teacher.size), { shape: [...teacher.shape] }) : argument());
    else if (/captureTopK|topK|sampleTarget/.test(name)) args.splice(0, 2, teacher.detach(), below(6));
    else args[0] = teacher;
  }
  return args;
}

const skipped = /^(setThreads)$/;
const functions = [];
for (const [prefix, module] of [
  ['', limbeck],
  ['raw.', raw],
  ['nn.', limbeck.nn],
  ['optim.', limbeck.optim],
  ['distill.', limbeck.distill],
])
  for (const [name, value] of Object.entries(module))
    if (typeof value === 'function' && !skipped.test(name) && !(value.prototype instanceof Error)) functions.push([prefix + name, value]);

function documented(error) {
  const isKind = error instanceof TypeError || error instanceof RangeError || error instanceof limbeck.LimbeckError;
  // V8 has messages of its own that begin so.
  const isOurs =
    typeof error.message === 'string' &&
    error.message.startsWith('Cannot ') &&
    !/^Cannot (read (properties|private)|set propert|write private|convert |destructure|mix BigInt|assign to read|redefine|perform %|access '|create property|use 'in')/.test(
      error.message,
    );
  return isKind && isOurs;
}

const wrong = new Map();
const called = new Map();
function note(what, error) {
  if (documented(error)) return;
  const line = `${what}: ${error instanceof Error ? `${error.name}: ${String(error.message).slice(0, 160)} | ${String(error.stack).split('\n')[1]?.trim()}` : String(error)}`;
  wrong.set(line, (wrong.get(line) ?? 0) + 1);
}

process.on('unhandledRejection', (error) => note('unhandled rejection', error));
const isClass = (value) => /^class\b/.test(Function.prototype.toString.call(value));
const began = Date.now();
for (let i = 0; i < calls; i++) {
  let what;
  let run;
  if (next() < 0.3 && live.length > 0) {
    const object = pick(live);
    const methods = new Set();
    for (let at = Object.getPrototypeOf(object); at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at))
      for (const name of Object.getOwnPropertyNames(at)) methods.add(name);
    methods.delete('constructor');
    const method = pick([...methods]);
    what = `${object.constructor.name}.${method}`;
    run = () => {
      const value = object[method];
      return typeof value === 'function' ? value.apply(object, argumentsOf(method)) : value;
    };
  } else {
    const [name, value] = pick(functions);
    what = name;
    run = () => (isClass(value) ? Reflect.construct(value, argumentsOf(name)) : value(...argumentsOf(name)));
  }
  if (process.env.FUZZ_TRACE) process.stderr.write(`${i} ${what}\n`);
  called.set(what, (called.get(what) ?? 0) + 1);
  try {
    let result = run();
    if (result instanceof Promise) result = await result;
    keep(result);
    if (
      result !== null &&
      typeof result === 'object' &&
      !Array.isArray(result) &&
      !(result instanceof limbeck.Tensor) &&
      !ArrayBuffer.isView(result)
    )
      for (const each of Object.values(result)) keep(each);
  } catch (error) {
    note(what, error);
  }
  if (i % 500 === 0) limbeck.setDevice('cpu');
}
await new Promise((resolve) => setTimeout(resolve, 50));
console.log(
  JSON.stringify({
    calls,
    functions: called.size,
    milliseconds: Date.now() - began,
    wrong: [...wrong].map(([line, count]) => `${count}× ${line}`),
  }),
);
