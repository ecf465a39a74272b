// captureTopK: the k best log-probabilities, the log-mass of all others from those others, and the log-sum-exp.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { captureTopKRow } from '../reference.js';
import { COLS, LARGE_VOCABULARY, ODD_VOCABULARY, TEMPERATURES } from '../sizes.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

interface Captured {
  indices: Int32Array;
  logProbs: Float32Array;
  tailLogMass: Float32Array;
  logSumExp: Float32Array;
}

function run(
  subject: Subject,
  x: Float32Array,
  rows: number,
  cols: number,
  k: number,
  temperature: number | Float32Array,
  offset = 0,
): Captured {
  return withMemory(subject, (memory) => {
    const indices = memory.output(Int32Array, rows * k, offset);
    const logProbs = memory.output(Float32Array, rows * k, offset);
    const tailLogMass = memory.output(Float32Array, rows, offset);
    const logSumExp = memory.output(Float32Array, rows, offset);
    const perRow = typeof temperature === 'number' ? null : memory.input(temperature);
    kernel(
      subject,
      'capture_top_k',
      memory.input(x, offset),
      perRow,
      indices,
      logProbs,
      tailLogMass,
      logSumExp,
      rows,
      cols,
      k,
      typeof temperature === 'number' ? temperature : 1,
    );
    return {
      indices: memory.read(indices),
      logProbs: memory.read(logProbs),
      tailLogMass: memory.read(tailLogMass),
      logSumExp: memory.read(logSumExp),
    };
  });
}

// A logarithm stored in float32: half an ulp of itself, and what the sum of exponentials below it loses.
const close = (value: number): number => 2e-6 * Math.max(1, Math.abs(value));

function check(
  subject: Subject,
  what: string,
  x: Float32Array,
  rows: number,
  cols: number,
  k: number,
  temperature: number | Float32Array,
): Captured {
  const result = run(subject, x, rows, cols, k, temperature);
  for (let r = 0; r < rows; r++) {
    const t = typeof temperature === 'number' ? temperature : (temperature[r] as number);
    const expected = captureTopKRow(x.subarray(r * cols, (r + 1) * cols), k, t);
    expectEqual(`${what}: ids of row ${r}`, Array.from(result.indices.subarray(r * k, (r + 1) * k)), expected.indices);
    expectClose(`${what}: log-probs of row ${r}`, result.logProbs.subarray(r * k, (r + 1) * k), expected.logProbs, (i) =>
      close(expected.logProbs[i] as number),
    );
    expectClose(`${what}: tail of row ${r}`, result.tailLogMass.subarray(r, r + 1), [expected.tailLogMass], close(expected.tailLogMass));
    expectClose(`${what}: log-sum-exp of row ${r}`, result.logSumExp.subarray(r, r + 1), [expected.logSumExp], close(expected.logSumExp));
  }
  return result;
}

const ks = (cols: number): Set<number> => new Set([1, 8, 64, cols - 1, cols].filter((k) => k >= 1 && k <= cols && k <= 300));

export const capture_top_k: CaseFile = {
  op: 'capture_top_k',
  kernels: ['capture_top_k'],
  checks: [
    ...TEMPERATURES.map((temperature) => ({
      name: `temperature ${temperature}, every width and k (traps 15, 18)`,
      run(subject: Subject) {
        for (const cols of COLS)
          for (const k of ks(cols))
            check(
              subject,
              `V ${cols}, k ${k}`,
              normals(cols + k, 2 * cols, Math.min(3 * Math.max(temperature, 0.5), 2500)),
              2,
              cols,
              k,
              temperature,
            );
      },
    })),
    {
      name: 'one temperature per row',
      run(subject) {
        check(subject, 'rows', normals(1, 4 * 300, 3), 4, 300, 9, Float32Array.of(0.05, 1, 2.5, 100));
      },
    },
    {
      name: 'the tail of a confident row, from the ids left out (trap 7)',
      run(subject) {
        const cols = LARGE_VOCABULARY;
        for (const [a, tail] of [
          [20, 2.643e-4],
          [25, 1.781e-6],
          [30, 1.2e-8],
          [40, 5.4e-13],
        ] as const) {
          const x = new Float32Array(cols);
          x[77] = a;
          const result = check(subject, `one logit ${a}`, x, 1, cols, 1, 1);
          expectClose(`tail of ${a}`, [Math.exp(result.tailLogMass[0] as number)], [tail], 0.02 * tail);
        }
        const x = new Float32Array(9);
        x[3] = 200;
        check(subject, 'below the smallest float32 probability', x, 1, 9, 1, 1);
      },
    },
    {
      name: 'the largest logit late in a row, and a tail of every size',
      run(subject) {
        const cols = 4500;
        for (const at of [100, 2100, cols - 1])
          for (const by of [3, 5, 7, 9, 11, 18, 40]) {
            const x = normals(at, 2 * cols, 2);
            x[at] = (x[at] as number) + by;
            check(subject, `column ${at} higher by ${by}`, x, 2, cols, 8, 1.5);
          }
      },
    },
    {
      name: 'k of all classes leaves a tail of −inf (traps 18, 27)',
      run(subject) {
        for (const cols of [1, 2, 33, 300])
          expectAll(
            `V ${cols}`,
            check(subject, `V ${cols}`, normals(1, 2 * cols, 3), 2, cols, cols, 2).tailLogMass,
            (value) => value === -Infinity,
            '−inf',
          );
        expectThrows('k above the width', () => run(subject, normals(1, 5), 1, 5, 6, 1), RangeError, /k must be at most/);
      },
    },
    {
      name: 'ties by the lowest id, −0 equal to +0 (trap 18)',
      run(subject) {
        check(subject, 'all equal', new Float32Array(2 * 1025).fill(3), 2, 1025, 7, 1);
        check(subject, 'zeros', Float32Array.of(-0, 0, -0, 0, 0, -0, -1, -1, 0), 1, 9, 4, 1);
      },
    },
    {
      name: '−inf entries among the best, NaN rows, rows of −inf (traps 4, 18)',
      run(subject) {
        const inf = Infinity;
        const rows = [
          [-inf, -inf, 2, -inf, -inf, 1, -inf, -inf, -inf],
          [-inf, -inf, -inf, -inf, -inf, -inf, -inf, -inf, 3],
          [1, 2, 3, 4, 5, 6, 7, 8, NaN],
          [NaN, 2, 3, 4, 5, 6, 7, 8, 1],
          [1, 2, 3, 4, inf, 6, 7, 8, 1],
          new Array<number>(9).fill(-inf),
          [9, 8, 7, 6, 5, 4, 3, 2, 1],
        ];
        for (const k of [1, 3, 8, 9]) {
          const result = check(subject, `k ${k}`, Float32Array.from(rows.flat()), rows.length, 9, k, 2);
          expectAll('ids', result.indices, (id) => id >= 0 && id < 9, 'a class');
        }
      },
    },
    {
      name: `rows of ${ODD_VOCABULARY} and ${LARGE_VOCABULARY}, offset by 1e4 (traps 5, 19)`,
      run(subject) {
        check(subject, 'odd', normals(2, 2 * ODD_VOCABULARY, 3), 2, ODD_VOCABULARY, 64, 2);
        check(subject, 'large', normals(3, LARGE_VOCABULARY, 3, 1e4), 1, LARGE_VOCABULARY, 100, 1);
        check(subject, 'wide', uniforms(4, 4097, -1e4, 1e4), 1, 4097, 33, 0.05);
      },
    },
    {
      name: 'same bits twice, alone, unaligned, with 1, 2, 5 threads (trap 20)',
      run(subject) {
        const before = subject.native.info().threads;
        const x = normals(4, 41 * 1025, 3);
        try {
          subject.native.setThreads(1);
          const first = run(subject, x, 41, 1025, 7, 2);
          expectSameBits('alone', run(subject, x.slice(40 * 1025), 1, 1025, 7, 2).tailLogMass, first.tailLogMass.slice(40));
          for (const threads of [1, 2, 5]) {
            subject.native.setThreads(threads);
            const again = run(subject, x, 41, 1025, 7, 2, threads);
            expectSameBits(`${threads} threads, log-probs`, again.logProbs, first.logProbs);
            expectSameBits(`${threads} threads, tail`, again.tailLogMass, first.tailLogMass);
            expectSameBits(`${threads} threads, ids`, again.indices, first.indices);
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public function: a target with its temperature',
      async run({ limbeck, device }) {
        const values = normals(8, 4 * 50, 3);
        const target = limbeck.captureTopK(limbeck.tensor(values, { shape: [4, 50], device }), 6, { temperature: 2 });
        const indices = (await target.indices.read()) as Int32Array;
        const logProbs = (await (target.logProbs as NonNullable<typeof target.logProbs>).read()) as Float32Array;
        const tail = (await (target.tailLogMass as NonNullable<typeof target.tailLogMass>).read()) as Float32Array;
        for (let r = 0; r < 4; r++) {
          const expected = captureTopKRow(values.subarray(r * 50, (r + 1) * 50), 6, 2);
          expectEqual('ids', Array.from(indices.subarray(r * 6, (r + 1) * 6)), expected.indices);
          expectClose('log-probs', logProbs.subarray(r * 6, (r + 1) * 6), expected.logProbs, 1e-5);
          expectClose('tail', tail.subarray(r, r + 1), [expected.tailLogMass], 1e-5);
        }
        expectTrue('the temperature is kept', target.temperature === 2);
      },
    },
  ],
  bench: [
    { rows: 64, cols: 32000, k: 64 },
    { rows: 16, cols: 128256, k: 64 },
  ],
};
