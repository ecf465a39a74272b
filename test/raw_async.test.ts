// raw.kdLossAsync: the numbers of the synchronous call, an event loop that goes on, several at once, and arrays, workers and processes that go.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { captureTopK, sampleTarget, tensor } from '../src/index.js';
import { native } from '../src/native.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';

const built = pathToFileURL(path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../dist/raw.js')).href;
const rows = 6;
const cols = 50;
const student = normals(1, rows * cols, 3);
const teacher = normals(2, rows * cols, 3);
const labels = Int32Array.from([3, 49, -100, 0, 7, 1]);

function shared<A extends Float32Array | Int32Array | Uint16Array | Float64Array>(array: A): A {
  const type = array.constructor as new (buffer: SharedArrayBuffer) => A;
  const copy = new type(new SharedArrayBuffer(array.byteLength));
  copy.set(array);
  return copy;
}

const detach = (array: Float32Array): void => void structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });

/** Both forms of one call, whose results must be the same bits. */
async function expectSame(
  x: raw.Stored,
  target: raw.RawTeacher,
  options: Omit<raw.RawKdLossOptions, 'rows' | 'cols' | 'out'>,
  length = rows * cols,
): Promise<void> {
  const type = x.constructor as new (length: number) => Float32Array;
  const sync = raw.kdLoss(x, target, { ...options, rows, cols, out: { gradient: new type(length).fill(7) } });
  const plain = await raw.kdLossAsync(x, target, { ...options, rows, cols, out: { gradient: new type(length).fill(7) } });
  const place = await raw.kdLossAsync(shared(x), target, { ...options, rows, cols, out: { gradient: shared(new type(length).fill(7)) } });
  for (const result of [plain, place]) {
    expect([...result.loss]).toEqual([...sync.loss]);
    expect([...result.gradient!]).toEqual([...sync.gradient!]);
  }
  expect(sync.loss.every(Number.isFinite)).toBe(true);
}

describe('the numbers of the synchronous call', () => {
  test('dense targets of every kind and type', async () => {
    await expectSame(student, teacher, { temperature: 2 });
    await expectSame(student, teacher, { divergence: 'jensen_shannon', reduction: 'none' });
    await expectSame(Float64Array.from(student), Float64Array.from(teacher), { reduction: 'sum' });
    const probs = raw.softmax(teacher.slice(), { rows, cols });
    await expectSame(student, { probs }, { temperature: Float32Array.from([1, 2, 3, 4, 5, 6]) });
    const bits = new Uint16Array(teacher.length).map((_, i) => 0x3c00 + (i % 300));
    await expectSame(bits, teacher, { dtype: 'bfloat16' });
    await expectSame(bits, bits, { dtype: 'float16' });
  });

  test('labels and weights', async () => {
    const rowWeights = Float32Array.from([1, 0.5, 2, 0, 1, 3]);
    await expectSame(student, teacher, { labels, hardWeight: 0.3, labelSmoothing: 0.1, rowWeights, denominator: 'weights' });
    await expectSame(student, teacher, { labels: [...labels], hardWeight: 1 });
    const options = { rows, cols, out: { gradient: new Float32Array(rows * cols) } };
    const sync = raw.crossEntropy(student, labels, { ...options, out: { gradient: new Float32Array(rows * cols) } });
    const result = await raw.crossEntropyAsync(student, shared(labels), options);
    expect(result.loss[0]).toBe(sync.loss[0]);
    expect([...options.out.gradient]).toEqual([...sync.gradient!]);
  });

  test('sparse targets', async () => {
    const captured = captureTopK(tensor(teacher, { shape: [rows, cols] }), 6, { temperature: 2 });
    const target = {
      indices: captured.indices.data as Int32Array,
      logProbs: shared(captured.logProbs!.data as Float32Array),
      tailLogMass: captured.tailLogMass!.data as Float32Array,
      temperature: 2,
    };
    await expectSame(student, target, { residual: 'tail_bucket' });
    await expectSame(student, target, { residual: 'renormalize', temperature: 3 });
    const sampled = sampleTarget(tensor(teacher, { shape: [rows, cols] }), 8, { seed: 4 });
    await expectSame(student, { indices: sampled.indices.data as Int32Array, weights: sampled.weights!.data as Float32Array }, {});
  });

  test('rows with space between them: it stays', async () => {
    const wide = normals(3, rows * 60);
    await expectSame(wide, teacher, { rowStride: 60, teacherRowStride: cols, gradientRowStride: 55 }, rows * 55);
    const gradient = new Float32Array(rows * 55).fill(7);
    const pending = raw.kdLossAsync(wide, teacher, {
      rows,
      cols,
      rowStride: 60,
      teacherRowStride: cols,
      gradientRowStride: 55,
      out: { gradient },
    });
    gradient[52] = 8;
    await pending;
    expect([gradient[50], gradient[52], gradient[54]]).toEqual([7, 8, 7]);
  });

  test('the arrays of out come back, and the gradient may be the student’s memory', async () => {
    const expected = raw.kdLoss(student, teacher, { rows, cols, out: { gradient: new Float32Array(rows * cols) } });
    for (const array of [student.slice(), shared(student)]) {
      const loss = new Float32Array(1);
      const result = await raw.kdLossAsync(array, teacher, { rows, cols, out: { loss, gradient: array } });
      expect(result.loss).toBe(loss);
      expect(result.gradient).toBe(array);
      expect([...array]).toEqual([...expected.gradient!]);
    }
    expect((await raw.kdLossAsync(student, teacher, { rows, cols })).gradient).toBe(undefined);
    expect((await raw.kdLossAsync(new Float32Array(), new Float32Array(), { rows: 0, cols })).loss[0]).toBe(0);
  });

  test('inputs are those of the call: writing to a copied one afterwards changes nothing', async () => {
    const x = student.slice();
    const expected = raw.kdLoss(x, teacher, { rows, cols });
    const pending = raw.kdLossAsync(x, teacher, { rows, cols });
    x.fill(NaN);
    expect((await pending).loss[0]).toBe(expected.loss[0]);
  });
});

describe('the event loop', () => {
  test('goes on while large calls run, several at once', async () => {
    const size = { rows: 64, cols: 100_000 };
    const big = shared(new Float32Array(size.rows * size.cols).map((_, i) => Math.sin(i)));
    const other = shared(big.map((x) => -x));
    const one = { ...size, divergence: 'jensen_shannon', out: { gradient: shared(new Float32Array(big.length)) } } as const;
    const two = { ...size, divergence: 'reverse_kl', out: { gradient: shared(new Float32Array(big.length)) } } as const;
    const expected = [raw.kdLoss(big, other, one).loss[0], raw.kdLoss(big, other, two).loss[0]];
    let running = true;
    let ticks = 0;
    let longest = 0;
    const ticking = (async () => {
      for (let last = performance.now(); running; ticks++) {
        await sleep(1);
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
    })();
    const begin = performance.now();
    for (let round = 0; round < 4; round++) {
      const results = await Promise.all([raw.kdLossAsync(big, other, one), raw.kdLossAsync(big, other, two)]);
      expect(results.map(({ loss }) => loss[0])).toEqual(expected);
    }
    const took = performance.now() - begin;
    running = false;
    await ticking;
    // Had the calls been made on this thread, there would be one tick for each of the four rounds.
    expect(ticks).toBeGreaterThan(8);
    expect(longest).toBeLessThan(took / 2);
  });
});

describe('what is wrong rejects', () => {
  test('arguments, by name', async () => {
    await expect(raw.kdLossAsync(student, teacher.subarray(1), { rows, cols })).rejects.toThrow(
      'Cannot compute raw.kdLossAsync: teacher must hold 300 elements: it holds 299',
    );
    await expect(raw.kdLossAsync([1] as never, teacher, { rows, cols })).rejects.toThrow(TypeError);
    await expect(raw.kdLossAsync(student, teacher, undefined as never)).rejects.toThrow('options must give rows and cols');
    await expect(raw.crossEntropyAsync(student, [1, 2, 3, 4, 5, 60], { rows, cols })).rejects.toThrow(RangeError);
  });

  test('an array of out that was taken away meanwhile; inputs may go', async () => {
    const gradient = new Float32Array(rows * cols);
    const x = student.slice();
    const pending = raw.kdLossAsync(x, teacher, { rows, cols, out: { gradient } });
    detach(x);
    detach(gradient);
    await expect(pending).rejects.toThrow(
      'Cannot compute raw.kdLossAsync: out.gradient must still hold 300 elements when the loss is there: it holds 0',
    );
  });

  test('the addon itself takes no memory that could be taken away', () => {
    const call = native().kernelsAsync.fill;
    expect(() => call(new Float32Array(4), 4, 1)).toThrow('y must lie in a SharedArrayBuffer to be used asynchronously');
  });
});

/** Runs a script in a process of its own and gives back what it printed. It must end by itself with status 0. */
function run(script: string): string {
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', timeout: 50_000 });
  expect(`${child.signal} ${child.status} ${child.stderr}`).toBe('null 0 ');
  return child.stdout.trim();
}

describe('an environment that goes', () => {
  const busy = `
    import { parentPort } from 'node:worker_threads';
    const { kdLossAsync } = await import(${JSON.stringify(built)});
    const size = { rows: 64, cols: 50000 };
    const shared = () => new Float32Array(new SharedArrayBuffer(4 * size.rows * size.cols)).map(Math.random);
    const [a, b] = [shared(), shared()];
    parentPort?.postMessage('running');
    const calls = () => [kdLossAsync(a, b, { ...size, out: { gradient: a } }), kdLossAsync(new Float32Array(a), b, size)];
  `;

  test('a worker ended in the middle of calls, again and again', () => {
    const output = run(`
      import { Worker } from 'node:worker_threads';
      const code = ${JSON.stringify(`${busy}\nfor (;;) await Promise.all(calls());`)};
      for (let i = 0; i < 12; i++) {
        const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
        await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
        await new Promise((resolve) => setTimeout(resolve, i * 7));
        await worker.terminate();
      }
      const { kdLossAsync } = await import(${JSON.stringify(built)});
      console.log((await kdLossAsync(new Float32Array(4), new Float32Array(4), { rows: 2, cols: 2 })).loss[0]);
    `);
    expect(output).toBe('0');
  });

  test('a process that leaves with calls under way', () => {
    expect(run(`${busy}\nvoid calls(); setTimeout(() => { console.log('leaving'); process.exit(0); }, 5);`)).toBe('leaving');
  });

  test('a process that has nothing left but a call waits for it', () => {
    expect(run(`${busy}\nvoid calls()[1].then(({ loss }) => console.log(loss[0] > 0));`)).toBe('true');
  });
});
