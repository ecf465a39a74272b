// sampleTarget: ids and weights bit for bit as the reference draws them, on every device and instruction set.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { softmaxRow } from '../reference.js';
import { hash, SAMPLE_METHODS, sampleRow, type SampleMethod } from '../sampling_reference.js';
import { FEW_COLS, LARGE_VOCABULARY, ODD_VOCABULARY } from '../sizes.js';
import { codeOf, kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

interface Drawn {
  ids: Int32Array;
  weights: Float32Array;
}

interface Call {
  x: Float32Array;
  rows: number;
  cols: number;
  draws: number;
  method: SampleMethod;
  temperature?: number | Float32Array;
  seed?: number;
  rowOffset?: number;
}

function run(subject: Subject, call: Call, offset = 0): Drawn {
  const { x, rows, cols, draws, method, temperature = 1, seed = 1, rowOffset = 0 } = call;
  return withMemory(subject, (memory) => {
    const slots = Math.min(draws, cols);
    const ids = memory.output(Int32Array, rows * slots, offset);
    const weights = memory.output(Float32Array, rows * slots, offset);
    const perRow = typeof temperature === 'number' ? null : memory.input(temperature);
    const code = codeOf(subject.native, 'sample_method', method);
    kernel(
      subject,
      'sample_target',
      memory.input(x, offset),
      perRow,
      ids,
      weights,
      rows,
      cols,
      draws,
      code,
      typeof temperature === 'number' ? temperature : 1,
      seed,
      rowOffset,
    );
    return { ids: memory.read(ids), weights: memory.read(weights) };
  });
}

function check(subject: Subject, what: string, call: Call): Drawn {
  const { x, rows, cols, draws, method, temperature = 1, seed = 1, rowOffset = 0 } = call;
  const slots = Math.min(draws, cols);
  const result = run(subject, call);
  for (let r = 0; r < rows; r++) {
    const t = typeof temperature === 'number' ? temperature : (temperature[r] as number);
    const expected = sampleRow(x.subarray(r * cols, (r + 1) * cols), t, draws, method, seed, rowOffset + r);
    expectEqual(`${method}, ${what}: ids of row ${r}`, result.ids.slice(r * slots, (r + 1) * slots), expected.ids);
    const weights = result.weights.slice(r * slots, (r + 1) * slots);
    // The payload of a NaN is nobody's business.
    if (expected.weights.some(Number.isNaN)) expectClose(`${method}, ${what}: weights of row ${r}`, weights, expected.weights, 0);
    else expectSameBits(`${method}, ${what}: weights of row ${r}`, weights, expected.weights);
  }
  return result;
}

/** Logits from exact operations alone, with a head: the hashes below hold wherever the tests run. */
export function goldenLogits(seed: number, cols: number): Float32Array {
  const x = uniforms(seed, cols, -12, 12).map((value) => (value * value * value) / 144);
  x[7] = 16;
  x[cols - 1] = 15;
  return x;
}

const total = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0);

/** A row that a race's list has to be made for again: one logit far above all others, or too many of the likely ones side by side. */
export function hardLogits(kind: 'peak' | 'crowd', cols: number): Float32Array {
  return Float32Array.from({ length: cols }, (_, i) => (kind === 'peak' ? (i === 5 ? 24 : (i % 7) / 8) : i < 3000 ? 0 : -30));
}

export const sample_target: CaseFile = {
  op: 'sample_target',
  kernels: ['sample_target'],
  checks: [
    ...SAMPLE_METHODS.map((method) => ({
      name: `${method}: ids and weights of the reference, every width, draws below and above it`,
      run(subject: Subject) {
        for (const cols of [...FEW_COLS, 2, 3, 256, 257])
          for (const draws of new Set([1, 2, 12, cols - 1, cols, cols + 1])) {
            if (draws < 1) continue;
            for (const spread of [0.5, 4])
              check(subject, `V ${cols}, N ${draws}, spread ${spread}`, {
                x: normals(cols + draws, 2 * cols, spread),
                rows: 2,
                cols,
                draws,
                method,
                seed: draws,
              });
          }
      },
    })),
    {
      name: 'temperatures, one for all rows and one per row',
      run(subject) {
        for (const method of SAMPLE_METHODS) {
          for (const temperature of [0.01, 0.7, 3, 1e4])
            check(subject, `T ${temperature}`, { x: normals(3, 400, 3), rows: 2, cols: 200, draws: 9, method, temperature });
          check(subject, 'per row', {
            x: normals(4, 4 * 100, 3),
            rows: 4,
            cols: 100,
            draws: 9,
            method,
            temperature: Float32Array.of(0.05, 1, 2.5, 100),
          });
        }
      },
    },
    {
      name: 'seeds and row numbers up to 2^53',
      run(subject) {
        const x = normals(5, 3 * 33, 2);
        for (const method of SAMPLE_METHODS)
          for (const [seed, rowOffset] of [
            [0, 0],
            [2 ** 53 - 1, 2 ** 33 + 5],
            [2 ** 40 + 1, 2 ** 53 - 4],
          ] as const)
            check(subject, `seed ${seed}, row ${rowOffset}`, { x, rows: 3, cols: 33, draws: 5, method, seed, rowOffset });
      },
    },
    {
      name: 'many draws: more than fit shared memory',
      run(subject) {
        for (const method of SAMPLE_METHODS) {
          check(subject, 'few columns', { x: normals(6, 14, 1), rows: 2, cols: 7, draws: 5000, method });
          check(subject, 'head and tail, few columns', { x: normals(16, 100, 4), rows: 1, cols: 100, draws: 3000, method });
          check(subject, 'head and tail, many columns', { x: normals(17, 3001, 3), rows: 1, cols: 3001, draws: 2500, method });
          check(subject, 'a flat row', { x: normals(7, 3001, 0.1), rows: 1, cols: 3001, draws: 2500, method });
        }
      },
    },
    {
      name: '−inf is never drawn; NaN, +inf and all −inf rows are one NaN weight (traps 4, 18)',
      run(subject) {
        const inf = Infinity;
        const rows = [
          [-inf, -inf, 2, -inf, -inf, 1, -inf, -inf, -inf],
          [-inf, -inf, -inf, -inf, -inf, -inf, -inf, -inf, 3],
          [1, 2, 3, 4, 5, 6, 7, 8, NaN],
          [NaN, 2, 3, 4, 5, 6, 7, 8, 1],
          [1, 2, 3, 4, inf, 6, 7, 8, 1],
          new Array<number>(9).fill(-inf),
          [9, 8, -inf, 6, 5, -inf, 3, 2, 1],
        ];
        for (const method of SAMPLE_METHODS)
          for (const draws of [1, 3, 9, 20]) {
            const { ids, weights } = check(subject, `N ${draws}`, {
              x: Float32Array.from(rows.flat()),
              rows: rows.length,
              cols: 9,
              draws,
              method,
              temperature: 2,
            });
            const slots = Math.min(draws, 9);
            ids.forEach((id, at) => {
              const row = rows[Math.floor(at / slots)] as number[];
              expectTrue('an id is a class or −1', id >= -1 && id < 9);
              expectTrue('−inf was drawn', id === -1 || row[id] !== -inf || Number.isNaN(weights[at]));
              expectTrue('an empty slot weighs nothing', id !== -1 || weights[at] === 0);
            });
          }
      },
    },
    {
      name: 'far apart, equal, offset by 1e4, at the end of the exponent range',
      run(subject) {
        for (const method of SAMPLE_METHODS) {
          check(subject, 'wide', { x: uniforms(8, 2 * 300, -1e4, 1e4), rows: 2, cols: 300, draws: 20, method, temperature: 7 });
          check(subject, 'equal', { x: new Float32Array(2 * 64).fill(3), rows: 2, cols: 64, draws: 8, method });
          check(subject, 'equal, N = V', { x: new Float32Array(64).fill(-3), rows: 1, cols: 64, draws: 64, method });
          check(subject, 'offset', { x: normals(9, 300, 3, 1e4), rows: 1, cols: 300, draws: 20, method });
          check(subject, 'e^-690', { x: Float32Array.of(0, -689, -690, -691, -1000, -3e38, -40), rows: 1, cols: 7, draws: 7, method });
        }
      },
    },
    {
      name: 'sums: counts add to N, head and tail to 1, a race of all is p itself',
      run(subject) {
        const cols = 500;
        const x = normals(10, 3 * cols, 3);
        const slices = (values: Float32Array, slots: number) =>
          Array.from({ length: 3 }, (_, r) => values.subarray(r * slots, (r + 1) * slots));
        for (const row of slices(run(subject, { x, rows: 3, cols, draws: 64, method: 'with_replacement' }).weights, 64)) {
          expectAll('counts', row, (weight) => Number.isInteger(weight * 64), 'a multiple of 1/64');
          expectTrue('they sum to 1', total(row) === 1);
        }
        for (const row of slices(run(subject, { x, rows: 3, cols, draws: 50, method: 'head_tail' }).weights, 50))
          expectClose('head and tail', [total(row)], [1], 1e-6);
        const all = run(subject, { x, rows: 3, cols, draws: cols, method: 'race' });
        slices(all.weights, cols).forEach((row, r) => {
          const p = softmaxRow(x.subarray(r * cols, (r + 1) * cols), 1);
          expectClose('everything kept', row, p, (i) => 1e-7 * (p[i] as number));
        });
      },
    },
    {
      name: `rows of ${ODD_VOCABULARY} and ${LARGE_VOCABULARY}: the reference's ids and weights, by hash`,
      run(subject) {
        const golden: Record<string, string> = {
          'with_replacement 50257': 'f12ef762',
          'race 50257': '45dae0ed',
          'head_tail 50257': '458fe76d',
          'with_replacement 128256': '4d814f68',
          'race 128256': 'a96a50c2',
          'head_tail 128256': '1859a92d',
        };
        for (const [cols, seed] of [
          [ODD_VOCABULARY, 11],
          [LARGE_VOCABULARY, 12],
        ] as const)
          for (const method of SAMPLE_METHODS) {
            const { ids, weights } = run(subject, {
              x: goldenLogits(seed, cols),
              rows: 1,
              cols,
              draws: 50,
              method,
              seed: 2026,
              rowOffset: 77,
            });
            expectEqual(`${method}, V ${cols}`, hash(ids, weights), golden[`${method} ${cols}`]);
          }
      },
    },
    {
      name: `races over ${ODD_VOCABULARY} and ${LARGE_VOCABULARY} columns whose likely ones are few, or all in one place: by hash`,
      run(subject) {
        for (const [kind, cols, draws, golden] of [
          ['peak', ODD_VOCABULARY, 50, '2c1eec39'],
          ['crowd', LARGE_VOCABULARY, 150, '8538c447'],
          ['crowd', ODD_VOCABULARY, 400, '4318617a'],
        ] as const) {
          const { ids, weights } = run(subject, { x: hardLogits(kind, cols), rows: 1, cols, draws, method: 'race', seed: 9 });
          expectEqual(`${kind}, V ${cols}, N ${draws}`, hash(ids, weights), golden);
        }
      },
    },
    {
      name: 'same bits twice, in parts by row number, unaligned, with 1, 2, 5 threads (trap 20)',
      run(subject) {
        const before = subject.native.info().threads;
        const [rows, cols, draws] = [40, 257, 12];
        const x = normals(13, rows * cols, 3);
        try {
          for (const method of SAMPLE_METHODS) {
            subject.native.setThreads(1);
            const whole = run(subject, { x, rows, cols, draws, method, seed: 5, rowOffset: 100 });
            const part = run(subject, { x: x.slice(31 * cols), rows: 9, cols, draws, method, seed: 5, rowOffset: 131 });
            expectSameBits('a part, ids', part.ids, whole.ids.slice(31 * draws));
            expectSameBits('a part, weights', part.weights, whole.weights.slice(31 * draws));
            for (const threads of [1, 2, 5]) {
              subject.native.setThreads(threads);
              const again = run(subject, { x, rows, cols, draws, method, seed: 5, rowOffset: 100 }, threads);
              expectSameBits(`${threads} threads, ids`, again.ids, whole.ids);
              expectSameBits(`${threads} threads, weights`, again.weights, whole.weights);
            }
            const other = run(subject, { x, rows, cols, draws, method, seed: 6, rowOffset: 100 });
            expectTrue('another seed draws others', hash(other.ids) !== hash(whole.ids));
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'what is refused',
      run(subject) {
        const x = normals(14, 8);
        const call = { x, rows: 2, cols: 4, draws: 2, method: 'race' as const };
        expectThrows('no draws', () => run(subject, { ...call, draws: 0 }), RangeError, /draws must be/);
        expectThrows('too many', () => run(subject, { ...call, draws: 2 ** 24 + 1 }), RangeError, /draws must be at most/);
        expectThrows('temperature', () => run(subject, { ...call, temperature: 0 }), RangeError, /temperature must be positive/);
        expectThrows('seed', () => run(subject, { ...call, seed: -1 }), RangeError, /seed must be/);
        const rowTemperature = Float32Array.of(1, -1);
        if (subject.device === 'cpu')
          expectThrows('of a row', () => run(subject, { ...call, temperature: rowTemperature }), RangeError, /in row 1/);
        else expectEqual('of a row', Array.from(run(subject, { ...call, temperature: rowTemperature }).ids.slice(2)), [0, -1]);
      },
    },
    {
      name: 'public function: a target of weights, on disk and by rows',
      async run({ limbeck, device }) {
        const values = normals(15, 4 * 50, 3);
        for (const method of SAMPLE_METHODS) {
          const target = limbeck.sampleTarget(limbeck.tensor(values, { shape: [2, 2, 50], device }), 6, {
            temperature: 2,
            method,
            seed: 3,
            rowOffset: 10,
          });
          const ids = (await target.indices.read()) as Int32Array;
          const weights = (await (target.weights as NonNullable<typeof target.weights>).read()) as Float32Array;
          for (let r = 0; r < 4; r++) {
            const expected = sampleRow(values.subarray(r * 50, (r + 1) * 50), 2, 6, method, 3, 10 + r);
            expectEqual('ids', ids.slice(r * 6, (r + 1) * 6), expected.ids);
            expectSameBits('weights', weights.slice(r * 6, (r + 1) * 6), expected.weights);
          }
          expectTrue(
            'what it says of itself',
            target.temperature === 2 && target.k === 6 && target.cols === 50 && target.logProbs === null && target.tailLogMass === null,
          );
          const part = target.rows([3, 1]);
          expectEqual('rows', Array.from((await part.indices.read()) as Int32Array), [...ids.slice(18), ...ids.slice(6, 12)]);
        }
      },
    },
  ],
  bench: [
    { rows: 64, cols: 32000, k: 50 },
    { rows: 16, cols: 128256, k: 50 },
  ],
};
