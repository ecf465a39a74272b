// softmax and logSoftmax with temperature, forward and backward.
import { expectAll, expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { logSoftmaxBackwardRow, logSoftmaxRow, softmaxBackwardRow } from '../reference.js';
import { COLS, FEW_COLS, LARGE_VOCABULARY, ODD_VOCABULARY, TEMPERATURES } from '../sizes.js';
import { kernel, withMemory, type CaseFile, type Check, type Subject } from '../subject.js';

// float32 exp of an argument a is off by |a|·2^-24 and a few ulp: 2e-6 near the maximum, growing with depth.
const BOUND = 2e-6;

export function runSoftmax(
  subject: Subject,
  x: Float32Array | Float64Array,
  rows: number,
  cols: number,
  temperature: number | Float32Array,
  isLog: boolean,
  offset = 0,
): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => Float32Array, rows * cols, offset);
    const perRow = typeof temperature === 'number' ? null : memory.input(temperature);
    kernel(
      subject,
      'softmax',
      memory.input(x as Float32Array, offset),
      perRow,
      y,
      rows,
      cols,
      typeof temperature === 'number' ? temperature : 1,
      isLog,
    );
    return memory.read(y);
  });
}

function runBackward(
  subject: Subject,
  y: Float32Array,
  g: Float32Array,
  rows: number,
  cols: number,
  temperature: number | Float32Array,
  isLog: boolean,
): Float32Array {
  return withMemory(subject, (memory) => {
    const out = memory.output(Float32Array, rows * cols);
    const perRow = typeof temperature === 'number' ? null : memory.input(temperature);
    kernel(
      subject,
      'softmax_backward',
      memory.input(y),
      memory.input(g),
      perRow,
      out,
      rows,
      cols,
      typeof temperature === 'number' ? temperature : 1,
      isLog,
    );
    return memory.read(out);
  });
}

function checkForward(
  subject: Subject,
  what: string,
  x: Float32Array | Float64Array,
  rows: number,
  cols: number,
  temperature: number | Float32Array,
  bound = BOUND,
): void {
  const expected = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++)
    expected.set(
      logSoftmaxRow(x.subarray(r * cols, (r + 1) * cols), typeof temperature === 'number' ? temperature : (temperature[r] as number)),
      r * cols,
    );
  const logs = runSoftmax(subject, x, rows, cols, temperature, true);
  expectClose(`${what}: log`, logs, expected, (i) => bound * Math.max(1, Math.abs(expected[i] as number)));
  const probs = runSoftmax(subject, x, rows, cols, temperature, false);
  expectClose(`${what}: probs`, probs, expected.map(Math.exp), (i) => {
    const log = expected[i] as number;
    return (log === -Infinity ? 0 : bound * Math.exp(log) * Math.max(1, Math.abs(log) / 4)) + 1.2e-38;
  });
}

function checkBackward(
  subject: Subject,
  what: string,
  x: Float32Array,
  rows: number,
  cols: number,
  temperature: number | Float32Array,
): void {
  const g = normals(rows * cols + 1, rows * cols);
  for (const isLog of [false, true]) {
    const y = new Float32Array(rows * cols);
    const expected = new Float64Array(rows * cols);
    const scale = new Float64Array(rows * cols);
    for (let r = 0; r < rows; r++) {
      const t = typeof temperature === 'number' ? temperature : (temperature[r] as number);
      const row = logSoftmaxRow(x.subarray(r * cols, (r + 1) * cols), t);
      y.set(isLog ? row : row.map(Math.exp), r * cols);
      const exact = y.subarray(r * cols, (r + 1) * cols);
      const upstream = g.subarray(r * cols, (r + 1) * cols);
      expected.set((isLog ? logSoftmaxBackwardRow : softmaxBackwardRow)(exact, upstream, t), r * cols);
      // Σ|g| bounds what the row sum can lose; each product then rounds once.
      const total = upstream.reduce((most, value) => most + Math.abs(value), 0) / Math.sqrt(cols);
      for (let i = 0; i < cols; i++)
        scale[r * cols + i] =
          (isLog ? Math.abs(upstream[i] as number) + Math.exp(exact[i] as number) * (total + 1) : (exact[i] as number) * 8) / t;
    }
    expectClose(
      `${what}: ${isLog ? 'log' : 'probs'}`,
      runBackward(subject, y, g, rows, cols, temperature, isLog),
      expected,
      (i) => 3e-6 * (scale[i] as number) + 1.2e-38,
    );
  }
}

const checks: Check[] = [
  ...TEMPERATURES.map((temperature) => ({
    name: `temperature ${temperature}, every width (trap 15)`,
    run(subject: Subject) {
      for (const cols of COLS)
        for (const spread of [3, Math.min(3 * temperature, 2000)])
          checkForward(subject, `V ${cols}, spread ${spread}`, normals(cols, 3 * cols, spread), 3, cols, temperature);
    },
  })),
  {
    name: `rows of ${ODD_VOCABULARY} and ${LARGE_VOCABULARY} (trap 19)`,
    run(subject) {
      checkForward(subject, 'odd', normals(1, 3 * ODD_VOCABULARY, 4), 3, ODD_VOCABULARY, 1.5);
      checkForward(subject, 'large', normals(2, LARGE_VOCABULARY, 4), 1, LARGE_VOCABULARY, 1);
    },
  },
  {
    name: 'one temperature per row',
    run(subject) {
      for (const cols of FEW_COLS)
        checkForward(subject, `V ${cols}`, normals(cols, 4 * cols, 3), 4, cols, Float32Array.of(0.05, 1, 2.5, 100));
    },
  },
  {
    name: 'offsets of 1e4 and logits of ±1e5 (trap 5)',
    run(subject) {
      for (const cols of FEW_COLS) {
        checkForward(subject, `V ${cols}, offset`, normals(cols, 2 * cols, 2, 1e4), 2, cols, 1);
        checkForward(subject, `V ${cols}, huge`, uniforms(cols, 2 * cols, -1e5, 1e5), 2, cols, 1);
      }
    },
  },
  {
    name: 'masks of −inf, NaN, +inf, nothing but −inf (trap 4)',
    run(subject) {
      const inf = Infinity;
      const rows = [
        [-inf, -inf, -inf, -inf, 1, 2, 3, 4, 5],
        [1, 2, 3, 4, -inf, -inf, -inf, -inf, -inf],
        [-inf, -inf, -inf, 5, -inf, -inf, -inf, -inf, -inf],
        [2, 2, 2, 2, 2, 2, 2, 2, 2],
        [NaN, 1, 2, 3, 4, 5, 6, 7, 8],
        [1, 2, 3, 4, 5, 6, 7, 8, NaN],
        [1, 2, inf, 4, 5, 6, 7, 8, 9],
        new Array<number>(9).fill(-inf),
        [0, 0, 0, 0, 0, 0, 0, 0, 1],
      ];
      for (const temperature of [0.01, 1, 7.3])
        checkForward(subject, `T ${temperature}`, Float32Array.from(rows.flat()), rows.length, 9, temperature);
      for (const cols of [257, 1025, 4097]) {
        const x = normals(cols, 3 * cols, 3);
        x.fill(-inf, 0, cols >> 1);
        x.fill(-inf, cols + (cols >> 1), 2 * cols);
        x.fill(-inf, 2 * cols, 3 * cols - 1);
        checkForward(subject, `V ${cols}`, x, 3, cols, 1);
      }
    },
  },
  {
    name: 'backward, every width, each temperature',
    run(subject) {
      for (const cols of COLS) checkBackward(subject, `V ${cols}`, normals(cols, 3 * cols, 3), 3, cols, 1);
      for (const temperature of [0.05, 2, 1e3])
        for (const cols of FEW_COLS)
          checkBackward(subject, `V ${cols}, T ${temperature}`, normals(cols, 3 * cols, 3), 3, cols, temperature);
      checkBackward(subject, 'per row', normals(3, 4 * 33, 3), 4, 33, Float32Array.of(0.05, 1, 2.5, 100));
      checkBackward(subject, 'odd', normals(4, 2 * ODD_VOCABULARY, 3), 2, ODD_VOCABULARY, 1);
    },
  },
  {
    name: 'backward of a NaN row is NaN all through',
    run(subject) {
      for (const isLog of [false, true]) {
        const y = runSoftmax(subject, Float32Array.of(1, NaN, 3, 1, 2, 3), 2, 3, 1, isLog);
        const g = runBackward(subject, y, Float32Array.of(1, 2, 3, 1, 2, 3), 2, 3, 1, isLog);
        expectAll('row 0', g.subarray(0, 3), Number.isNaN, 'NaN');
        expectAll('row 1', g.subarray(3), Number.isFinite, 'finite');
      }
    },
  },
  {
    name: 'same bits twice, alone, unaligned and with 1, 2, 5 threads (trap 20)',
    run(subject) {
      const before = subject.native.info().threads;
      try {
        for (const cols of [33, 1025]) {
          const x = normals(cols, 67 * cols, 3);
          subject.native.setThreads(1);
          const first = runSoftmax(subject, x, 67, cols, 2, false);
          expectSameBits('twice', runSoftmax(subject, x, 67, cols, 2, false), first);
          expectSameBits('alone', runSoftmax(subject, x.slice(66 * cols), 1, cols, 2, false), first.slice(66 * cols));
          for (const offset of [1, 3]) expectSameBits(`offset ${offset}`, runSoftmax(subject, x, 67, cols, 2, false, offset), first);
          for (const threads of [2, 5]) {
            subject.native.setThreads(threads);
            expectSameBits(`${threads} threads`, runSoftmax(subject, x, 67, cols, 2, false), first);
          }
        }
      } finally {
        subject.native.setThreads(before);
      }
    },
  },
  {
    name: 'float64 in float64 on the CPU, refused on CUDA',
    run(subject) {
      const x = Float64Array.from(normals(1, 3 * 33, 3));
      if (subject.device === 'cpu') checkForward(subject, 'float64', x, 3, 33, 2, 1e-13);
      else expectThrows('float64', () => runSoftmax(subject, x, 3, 33, 2, false), TypeError, /float32/);
    },
  },
  {
    name: 'over its own input: the same bits, also where a row has its largest late, or -inf',
    run(subject) {
      for (const cols of [17, 300, 4500]) {
        const x = normals(cols, 4 * cols, 3);
        x[2 * cols - 1] = 60;
        x.fill(-Infinity, 2 * cols + 3, 2 * cols + 9);
        x[3 * cols + 5] = NaN;
        for (const isLog of [false, true]) {
          const own = withMemory(subject, (memory) => {
            const y = memory.input(x);
            kernel(subject, 'softmax', y, null, y, 4, cols, 0.5, isLog);
            return memory.read(y as ReturnType<typeof memory.output>);
          });
          expectSameBits(`V ${cols}, ${isLog ? 'logarithms' : 'probabilities'}`, own, runSoftmax(subject, x, 4, cols, 0.5, isLog));
        }
      }
    },
  },
  {
    name: 'public functions: values, gradient with an upstream of its own, leading dimensions',
    async run({ limbeck, device }) {
      const values = normals(5, 2 * 3 * 17, 2);
      for (const isLog of [false, true]) {
        const x = limbeck.tensor(values.slice(), { shape: [2, 3, 17], device, requiresGrad: true });
        const y = (isLog ? limbeck.logSoftmax : limbeck.softmax)(x, { temperature: 2.5 });
        expectTrue('shape', y.shape.join() === '2,3,17');
        const upstream = normals(6, values.length);
        y.backward(limbeck.tensor(upstream, { shape: [2, 3, 17], device }));
        const out = await y.read();
        const gradient = await (x.grad as NonNullable<typeof x.grad>).read();
        for (let r = 0; r < 6; r++) {
          const row = logSoftmaxRow(values.subarray(r * 17, (r + 1) * 17), 2.5);
          const exact = isLog ? row : row.map(Math.exp);
          const g = upstream.subarray(r * 17, (r + 1) * 17);
          expectClose('forward', (out as Float32Array).subarray(r * 17, (r + 1) * 17), exact, 1e-5);
          expectClose(
            'gradient',
            (gradient as Float32Array).subarray(r * 17, (r + 1) * 17),
            (isLog ? logSoftmaxBackwardRow : softmaxBackwardRow)(exact, g, 2.5),
            1e-5,
          );
        }
      }
    },
  },
];

export const softmax: CaseFile = {
  op: 'softmax',
  kernels: ['softmax', 'softmax_backward'],
  checks,
  bench: [
    { rows: 512, cols: 1000 },
    { rows: 64, cols: 32000 },
    { rows: 16, cols: 128256 },
  ],
};
