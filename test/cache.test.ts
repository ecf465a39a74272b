// The target cache: what comes back is what was written within the stated error, in the stated bytes; damage is found, and hashes must meet.
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  captureTopK,
  hashOf,
  kdLoss,
  LimbeckError,
  nn,
  optim,
  randn,
  sampleTarget,
  sparseTarget,
  TargetCache,
  TargetCacheWriter,
  tensor,
  type SparseTarget,
  type TargetCacheOptions,
  type TargetCacheWriterOptions,
} from '../src/index.js';
import { BitWriter, idBits, readIds, writeIds } from '../src/cache/bits.js';
import { random } from './random.js';

let root: string;
let folders = 0;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'limbeck-cache-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const folder = (): string => join(root, String(folders++));

async function written(target: SparseTarget, options: TargetCacheWriterOptions = {}, at = folder()): Promise<string> {
  const writer = await TargetCacheWriter.open(at, options);
  try {
    await writer.append(target);
    await writer.finish();
  } finally {
    await writer.close();
  }
  return at;
}

async function cached(
  target: SparseTarget,
  options: TargetCacheWriterOptions = {},
  reading: TargetCacheOptions = {},
): Promise<SparseTarget> {
  const cache = await TargetCache.open(await written(target, options), reading);
  const back = await cache.rows(0, target.indices.shape[0]!);
  await cache.close();
  return back;
}

/** Logits with the steep head that language models have. */
function teacherLogits(rows: number, cols: number, seed = 1, spread = 3) {
  const logits = randn([rows, cols], { seed });
  const x = logits.data as Float32Array;
  for (let i = 0; i < x.length; i++) x[i]! *= spread;
  return logits;
}

const numbers = (tensor: { data: ArrayLike<number> } | null): number[] => Array.from(tensor!.data);

/** The one error an attempt must end with. */
async function refusal(attempt: Promise<unknown>): Promise<LimbeckError> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as LimbeckError;
}

describe('ids in bits', () => {
  it.each([1, 2, 7, 1000, 32_000, 128_256, 2 ** 18, 2 ** 20, 2 ** 24])('come back for %i columns, in the bits said', (cols) => {
    const next = random(cols);
    for (const count of [1, 2, 3, 12, 64, 200]) {
      const bits = new BitWriter(new Uint8Array(4 * 200 + 8));
      bits.write(5, 3);
      const ids = Int32Array.from({ length: count }, () => Math.floor(next() * cols));
      if (count > 2) [ids[0], ids[1]] = [0, cols - 1];
      ids.sort();
      writeIds(bits, ids, count, cols);
      expect(bits.at - 3).toBe(idBits(count, cols));
      if (count <= cols) expect(bits.at - 3).toBeLessThanOrEqual(count * Math.ceil(2 + Math.log2(cols / count)));
      const back = new Int32Array(count);
      expect(readIds(bits.bytes, 3, back, count, cols)).toBe(true);
      expect(back).toEqual(ids);
    }
  });

  it('are refused where the bits are none', () => {
    expect(readIds(new Uint8Array(100), 0, new Int32Array(4), 4, 1000)).toBe(false);
    // 1023 of 1000.
    expect(readIds(new Uint8Array([255, 0b101, 0, 0, 0]), 0, new Int32Array(1), 1, 1000)).toBe(false);
  });
});

describe('log-probabilities', () => {
  it.each([
    [8, 32_000],
    [16, 32_000],
    [8, 2 ** 18],
    [4, 1000],
    [12, 500],
    [8, 2 ** 20],
  ])('at %i bits of %i columns: ids and tail exact, values within the step, mass and tail one', async (bits, cols) => {
    const k = 64;
    const rows = cols > 2 ** 19 ? 8 : 150;
    const target = captureTopK(teacherLogits(rows, cols), k, { temperature: 1.5 });
    const back = await cached(target, { bits });
    expect(back.cols).toBe(cols);
    expect(back.temperature).toBe(1.5);
    expect(numbers(back.tailLogMass)).toEqual(numbers(target.tailLogMass));
    for (let r = 0; r < rows; r++) {
      const before = new Map<number, number>();
      for (let j = 0; j < k; j++) before.set(target.indices.data[r * k + j]!, target.logProbs!.data[r * k + j]!);
      const values = [...before.values()];
      const bound = (1.008 * (Math.max(...values) - Math.min(...values))) / (2 ** bits - 2) + 1e-6;
      let mass = Math.exp(back.tailLogMass!.data[r]!);
      for (let j = 0; j < k; j++) {
        const id = back.indices.data[r * k + j]!;
        const value = back.logProbs!.data[r * k + j]!;
        expect(Math.abs(value - before.get(id)!)).toBeLessThanOrEqual(bound);
        before.delete(id);
        mass += Math.exp(value);
        if (j > 0) expect(value).toBeLessThanOrEqual(back.logProbs!.data[r * k + j - 1]!);
      }
      expect(before.size).toBe(0);
      expect(Math.abs(mass - 1)).toBeLessThan(3e-6);
    }
  });

  it('keep the order of captureTopK where values are told apart', async () => {
    const target = captureTopK(tensor([[0, 5, 1, 4, 2, 3]]), 5);
    expect(numbers((await cached(target)).indices)).toEqual([1, 3, 5, 4, 2]);
  });

  it('hold short and empty rows, zeros, certain rows, and rows of NaN', async () => {
    const none = -Infinity;
    const target = sparseTarget({
      indices: [
        [3, -1, 7, -1],
        [-1, -1, -1, -1],
        [9, 0, 4, 2],
        [5, 6, -1, -1],
        [1, 2, 3, 4],
        [8, -1, -1, -1],
      ],
      logProbs: [
        [-2, none, -1, none],
        [none, none, none, none],
        [-0.5, none, -4, none],
        [none, none, none, none],
        [-1, NaN, -3, -2],
        [0, 0, 0, 0],
      ],
      tailLogMass: [Math.log(1 - Math.exp(-2) - Math.exp(-1)), 0, Math.log(1 - Math.exp(-0.5) - Math.exp(-4)), 0, -1, none],
      cols: 10,
    });
    const back = await cached(target, { bits: 16 });
    expect(numbers(back.indices)).toEqual([7, 3, -1, -1, -1, -1, -1, -1, 9, 4, 0, 2, 5, 6, -1, -1, 0, -1, -1, -1, 8, -1, -1, -1]);
    const values = numbers(back.logProbs);
    const expected = [
      -1,
      -2,
      none,
      none,
      none,
      none,
      none,
      none,
      -0.5,
      -4,
      none,
      none,
      none,
      none,
      none,
      none,
      NaN,
      none,
      none,
      none,
      0,
      none,
      none,
      none,
    ];
    values.forEach((value, i) =>
      Number.isFinite(expected[i]!) ? expect(value).toBeCloseTo(expected[i]!, 4) : expect(value).toBe(expected[i]),
    );
    expect(numbers(back.tailLogMass).map((tail) => Number.isNaN(tail))).toEqual([false, false, false, false, true, false]);
    expect(back.tailLogMass!.data[5]).toBe(none);
    const student = randn([6, 10], { seed: 2 });
    const losses = (of: SparseTarget) => numbers(kdLoss(student, of, { residual: 'tail_bucket', reduction: 'none' }));
    losses(back).forEach((loss, r) => (r === 4 ? expect(loss).toBeNaN() : expect(loss).toBeCloseTo(losses(target)[r]!, 3)));
  });

  it('have temperatures by row', async () => {
    const temperature = tensor([1, 2, 0.25]);
    const target = captureTopK(randn([3, 20], { seed: 3 }), 4, { temperature });
    const back = await cached(target);
    expect(numbers(back.temperature as typeof temperature)).toEqual([1, 2, 0.25]);
    expect(numbers(back.indices)).toEqual(numbers(target.indices));
  });
});

describe('weights', () => {
  it('of draws with replacement come back bit for bit', async () => {
    for (const draws of [1, 7, 50, 64, 1000]) {
      const target = sampleTarget(teacherLogits(40, 5000), draws, { seed: 4 });
      const back = await cached(target, { draws });
      expect(numbers(back.indices)).toEqual(numbers(target.indices));
      expect(numbers(back.weights)).toEqual(numbers(target.weights));
    }
  });

  it.each(['race', 'head_tail'] as const)('of %s come back within the step, and on average as they were', async (method) => {
    const rows = 4000;
    const draws = 12;
    const target = sampleTarget(teacherLogits(rows, 200), draws, { method, seed: 5 });
    const bits = 7;
    const back = await cached(target, { bits });
    expect(numbers(back.indices)).toEqual(numbers(target.indices));
    let sum = 0;
    let squares = 0;
    let count = 0;
    let wrong = 0;
    for (let r = 0; r < rows; r++) {
      const before: number[] = [];
      for (let j = r * draws; j < (r + 1) * draws; j++) if (target.indices.data[j]! >= 0) before.push(target.weights!.data[j]!);
      const octaves = Math.log2(Math.max(...before) / Math.min(...before)) + 0.75;
      const bound = 2 ** (octaves / (2 ** bits - 1)) - 1;
      before.forEach((weight, j) => {
        const error = back.weights!.data[r * draws + j]! / weight - 1;
        if (!(Math.abs(error) <= bound + 1e-6)) wrong++;
        sum += error;
        squares += error * error;
        count++;
      });
    }
    expect(wrong).toBe(0);
    // Five standard errors: a bias of a tenth of a step would be twenty.
    const deviation = Math.sqrt(squares / count);
    expect(count).toBeGreaterThan(20_000);
    expect(Math.abs(sum / count)).toBeLessThan((5 * deviation) / Math.sqrt(count));
    expect(deviation).toBeLessThan(0.03);
  });

  it('are the same in every capture of the same rows, wherever the shard begins', async () => {
    const target = sampleTarget(teacherLogits(300, 200), 12, { method: 'race', seed: 6 });
    const [one, two] = [await written(target), folder()];
    for (const [shard, from, to] of [
      [0, 0, 130],
      [1, 130, 300],
    ] as const) {
      const rows = Int32Array.from({ length: to - from }, (_, i) => from + i);
      await written(target.rows(rows), { shard, firstRow: from }, two);
    }
    const [a, b] = await Promise.all([TargetCache.open(one), TargetCache.open(two)]);
    expect(numbers((await a.rows(0, 300)).weights)).toEqual(numbers((await b.rows(0, 300)).weights));
    await a.close();
    await b.close();
  });

  it('that are no counts, or out of reach, are refused', async () => {
    const weights = (values: number[]) => sparseTarget({ indices: [values.map((_, i) => i)], weights: [values], cols: 10 });
    await expect(written(weights([0.3, 0.7]), { draws: 4 })).rejects.toThrow(/counts of 4 draws.*row 0 has 0\.3/);
    await expect(written(weights([1e30, 1e-30]))).rejects.toThrow(RangeError);
    await expect(written(weights([Infinity]))).rejects.toThrow(RangeError);
    const odd = await cached(weights([3, 0, 1e-9, NaN]));
    expect(numbers(odd.weights)[0]).toBeNaN();
    expect(numbers((await cached(weights([3, 0, 1e-9]))).indices)).toEqual([0, 2, -1]);
  });
});

describe('bytes of a token', () => {
  const rows = 2048;
  /** Rows of k distinct ids spread over all columns. */
  function spread(cols: number, k: number, isWeights: boolean): SparseTarget {
    const next = random(k);
    const indices = new Int32Array(rows * k);
    const values = new Float32Array(rows * k);
    for (let r = 0; r < rows; r++) {
      for (let j = 0; j < k; j++) {
        indices[r * k + j] = Math.floor(((j + next()) * cols) / k);
        values[r * k + j] = isWeights ? (0.02 + next()) / k : -Math.log(k) - 8 * next();
      }
    }
    const parts = { indices: tensor(indices, { shape: [rows, k] }), cols };
    const shaped = tensor(values, { shape: [rows, k] });
    return isWeights ? sparseTarget({ ...parts, weights: shaped }) : sparseTarget({ ...parts, logProbs: shaped });
  }

  it.each([
    [2 ** 18, 64, false, 216],
    [2 ** 20, 64, false, 232],
    [2 ** 18, 12, true, 38],
    [2 ** 20, 12, true, 41],
  ])('V = %i, %i entries: weights %s, at most %i', async (cols, k, isWeights, most) => {
    const cache = await TargetCache.open(await written(spread(cols, k, isWeights)));
    expect(cache.bytes / cache.size).toBeLessThanOrEqual(most);
    await cache.close();
  });

  it('of 12 ids in 50 draws with replacement: at most 36', async () => {
    const { indices } = spread(2 ** 18, 12, true);
    const slots = new Int32Array(rows * 50).fill(-1);
    const weights = new Float32Array(rows * 50);
    for (let r = 0; r < rows; r++)
      for (let j = 0; j < 12; j++) {
        slots[r * 50 + j] = indices.data[r * 12 + j]!;
        weights[r * 50 + j] = (j === 0 ? 17 : 3) / 50;
      }
    const target = sparseTarget({
      indices: tensor(slots, { shape: [rows, 50] }),
      weights: tensor(weights, { shape: [rows, 50] }),
      cols: 2 ** 18,
    });
    const cache = await TargetCache.open(await written(target, { draws: 50 }));
    expect(cache.bytes / cache.size).toBeLessThanOrEqual(36);
    expect(numbers((await cache.rows(0, rows)).weights)).toEqual([...weights]);
    await cache.close();
  });
});

describe('reading by row', () => {
  it('gives any rows in any order, with shards in any order, and with no memory to hold blocks', async () => {
    const rows = 500;
    const target = captureTopK(teacherLogits(rows, 300), 8);
    const at = folder();
    for (const [shard, from, to] of [
      [2, 0, 37],
      [0, 37, 300],
      [1, 300, 500],
    ] as const) {
      const writer = await TargetCacheWriter.open(at, { shard, firstRow: from, bits: 16, blockRows: 16 });
      for (let row = from; row < to; row += 7) {
        await writer.append(target.rows(Int32Array.from({ length: Math.min(7, to - row) }, (_, i) => row + i)));
        // Short blocks in between.
        if (row % 5 === 0) await writer.flush();
      }
      expect(writer.rows).toBe(to - from);
      expect(await writer.finish()).toMatchObject({ rows: to - from });
    }
    for (const cacheBytes of [0, 5000, undefined]) {
      const cache = await TargetCache.open(at, { cacheBytes });
      expect(cache.ranges).toEqual([[0, 500]]);
      expect(cache.shards.map(({ rows }) => rows)).toEqual([37, 263, 200]);
      const ids = Int32Array.from({ length: 400 }, (_, i) => (i * 197) % rows);
      for (const picked of [ids, [499, 0, 0, 499], []]) {
        const back = await cache.gather(picked);
        expect(numbers(back.indices)).toEqual(picked.length === 0 ? [] : numbers(target.rows(Int32Array.from(picked)).indices));
      }
      expect(numbers((await cache.rows(30, 310)).indices)).toEqual(numbers(target.indices).slice(30 * 8, 310 * 8));
      await expect(cache.gather([1, 500])).rejects.toThrow('rows must be among 0 to 499: number 1 is 500');
      await expect(cache.gather([-1])).rejects.toThrow(RangeError);
      await expect(cache.gather([0.5])).rejects.toThrow(RangeError);
      await expect(cache.rows(3, 2)).rejects.toThrow(RangeError);
      await expect(cache.gather('12' as never)).rejects.toThrow(TypeError);
      expect(await cache.verify()).toMatchObject({ rows });
      await cache.close();
      await expect(cache.gather([0])).rejects.toThrow('it is closed');
    }
  });

  it('says which rows are missing', async () => {
    const target = captureTopK(randn([10, 30], { seed: 1 }), 3);
    const at = await written(target, { shard: 0, firstRow: 0 });
    await written(target, { shard: 1, firstRow: 20 }, at);
    const cache = await TargetCache.open(at);
    expect(cache.ranges).toEqual([
      [0, 10],
      [20, 30],
    ]);
    await expect(cache.rows(5, 21)).rejects.toThrow('rows must be among 0 to 9, 20 to 29: number 5 is 10');
    await cache.close();
  });
});

describe('what does not belong together', () => {
  const target = captureTopK(randn([10, 30], { seed: 1 }), 3);

  it('is told by the hash of inputs and vocabulary', async () => {
    const [inputs, words] = [hashOf(new Int32Array([1, 2, 3])), hashOf(['a', 'b'])];
    const at = await written(target, { inputHash: inputs, vocabularyHash: words });
    const attempts: [TargetCacheOptions, RegExp][] = [
      [{}, /inputHash must be given.*null looks at it/],
      [{ inputHash: inputs }, /vocabularyHash must be given/],
      [
        { inputHash: hashOf(new Int32Array([1, 2, 4])), vocabularyHash: words },
        /its inputs must be those of inputHash sha256:.*they were sha256:/,
      ],
      [{ inputHash: null, vocabularyHash: hashOf(['b', 'a']) }, /its vocabulary must be/],
    ];
    for (const [options, message] of attempts) {
      const error = await refusal(TargetCache.open(at, options));
      expect(error).toMatchObject({ code: 'wrong_target', message: expect.stringMatching(message) });
    }
    await (await TargetCache.open(at, { inputHash: inputs, vocabularyHash: words })).close();
    await (await TargetCache.open(at, { inputHash: null, vocabularyHash: null })).close();
    const without = await refusal(TargetCache.open(await written(target), { inputHash: inputs }));
    expect(without).toMatchObject({ code: 'wrong_target', message: expect.stringContaining('captured without a hash') });
  });

  it('hashes tell data apart by kind, order and length', () => {
    const all = [
      hashOf('ab', 'c'),
      hashOf('a', 'bc'),
      hashOf(['ab', 'c']),
      hashOf('1'),
      hashOf(1),
      hashOf([1]),
      hashOf(new Float32Array([1])),
      hashOf(new Int32Array([1])),
      hashOf(tensor([1])),
      hashOf(tensor([[1]])),
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(hashOf(new Int32Array([1, 2]))).toBe(hashOf(new Int32Array([0, 1, 2]).subarray(1)));
    expect(() => hashOf()).toThrow(TypeError);
    expect(() => hashOf({} as never)).toThrow(TypeError);
  });

  it('is refused row by row, and leaves nothing behind', async () => {
    const writer = await TargetCacheWriter.open(folder(), { blockRows: 2 });
    const bad: [object, RegExp][] = [
      [{ indices: [[1, 30]], logProbs: [[-1, -2]], cols: 30 }, /ids must be in \[0, 30\): row 0 has 30/],
      [{ indices: [[1], [-2]], logProbs: [[-1], [-1]], cols: 30 }, /row 1 has -2/],
      [{ indices: [[4, 4]], logProbs: [[-1, -2]], cols: 30 }, /must differ: row 0 has 4 twice/],
      [{ indices: [[4, 5]], logProbs: [[-0.1, -0.2]], tailLogMass: [-1], cols: 30 }, /at most 1: it is 2\.09\d+ in row 0/],
      [{ indices: [[4, 5]], logProbs: [[0.5, -3]], cols: 30 }, /sum to/],
      [{ indices: [[4]], logProbs: [[-0.1]], tailLogMass: [0], cols: 30 }, /at most 1/],
    ];
    for (const [parts, message] of bad) await expect(writer.append(sparseTarget(parts as never))).rejects.toThrow(message);
    expect(writer.rows).toBe(0);
    await expect(writer.finish()).rejects.toThrow('rows must have been appended');
    await writer.append(target);
    await expect(writer.append(sparseTarget({ indices: [[31]], logProbs: [[-1]], cols: 40 }))).rejects.toMatchObject({
      code: 'wrong_target',
    });
    await expect(writer.append(captureTopK(randn([1, 30], { seed: 1 }), 3, { temperature: 2 }))).rejects.toThrow(/temperature is 1 and 2/);
    await expect(writer.append(captureTopK(randn([1, 30], { seed: 1 }), 4))).rejects.toThrow(/at most the shard's 3 slots/);
    await expect(writer.append(sampleTarget(randn([1, 30], { seed: 1 }), 3))).rejects.toThrow(/kind is log_probs and weights/);
    await expect(writer.append({} as never)).rejects.toThrow(TypeError);
    expect(writer.rows).toBe(10);
    await writer.append(captureTopK(randn([1, 30], { seed: 2 }), 2));
    expect(await writer.finish()).toMatchObject({ rows: 11 });
    await expect(writer.append(target)).rejects.toThrow('it is closed');
  });

  it('options are checked', async () => {
    const at = folder();
    await expect(TargetCacheWriter.open(7 as never)).rejects.toThrow(TypeError);
    await expect(TargetCacheWriter.open(at, { bits: 3 })).rejects.toThrow('bits must be a whole number in [4, 16]: it is 3');
    await expect(TargetCacheWriter.open(at, { bits: 8, draws: 8 })).rejects.toThrow(TypeError);
    await expect(TargetCacheWriter.open(at, { resume: true, fresh: true })).rejects.toThrow(TypeError);
    await expect(TargetCacheWriter.open(at, { inputhash: 'x' } as never)).rejects.toThrow("did you mean 'inputHash'?");
    await expect(TargetCache.open(at, { hash: 'x' } as never)).rejects.toThrow(TypeError);
    expect(await refusal(TargetCache.open(at))).toMatchObject({ code: 'bad_file' });
    const writer = await TargetCacheWriter.open(at);
    await expect(writer.append(sparseTarget({ indices: [[3]], logProbs: [[-1]] }))).rejects.toThrow('cols must be given');
    expect(await refusal(TargetCache.open(at))).toMatchObject({ code: 'bad_file', message: expect.stringContaining('unfinished: true') });
    await writer.close();
  });
});

describe('writing', () => {
  const target = captureTopK(randn([100, 50], { seed: 9 }), 5);
  const part = (from: number, to: number) => target.rows(Int32Array.from({ length: to - from }, (_, i) => from + i));

  it('goes on where it stopped, to the same bytes', async () => {
    const whole = await written(target, { blockRows: 8 });
    const at = folder();
    let writer = await TargetCacheWriter.open(at, { blockRows: 8, resume: true });
    await writer.append(part(0, 40));
    await writer.close();
    await expect(TargetCacheWriter.open(at)).rejects.toMatchObject({ code: 'unfinished_shard' });
    await expect(TargetCacheWriter.open(at, { resume: true, inputHash: 'x' })).rejects.toMatchObject({ code: 'wrong_target' });
    await expect(TargetCacheWriter.open(at, { resume: true, bits: 9 })).rejects.toThrow('bits is 8 and 9');
    writer = await TargetCacheWriter.open(at, { resume: true });
    expect([writer.rows, writer.safeRows]).toEqual([40, 40]);
    await expect(writer.append(captureTopK(randn([1, 60], { seed: 9 }), 5))).rejects.toMatchObject({ code: 'wrong_target' });
    await writer.append(part(40, 100));
    expect(writer.safeRows).toBe(96);
    await writer.finish();
    expect(readdirSync(at)).toEqual(['shard-00000.targets']);
    expect(readFileSync(join(at, 'shard-00000.targets')).equals(readFileSync(join(whole, 'shard-00000.targets')))).toBe(true);
    await expect(TargetCacheWriter.open(at)).rejects.toMatchObject({ code: 'finished_shard' });
    const finished = await TargetCacheWriter.open(at, { resume: true });
    expect([finished.isFinished, finished.rows]).toEqual([true, 100]);
    await expect(finished.append(target)).rejects.toThrow('must not be finished');
    // A fresh one takes the place of the old only when it is finished.
    const fresh = await TargetCacheWriter.open(at, { fresh: true });
    await fresh.append(part(0, 3));
    const cache = await TargetCache.open(at, { unfinished: true });
    expect(cache.size).toBe(100);
    await fresh.finish();
    expect(numbers((await cache.rows(0, 100)).indices)).toEqual(numbers(target.indices));
    await cache.close();
    const again = await TargetCache.open(at);
    expect(again.size).toBe(3);
    await again.close();
  });

  it('drops a block that was cut off, and nothing else', async () => {
    const at = folder();
    const writer = await TargetCacheWriter.open(at, { blockRows: 8 });
    await writer.append(target);
    await writer.close();
    const path = join(at, 'shard-00000.part');
    const bytes = readFileSync(path);
    for (let cut = 0; cut < 160; cut++) {
      writeFileSync(path, bytes.subarray(0, bytes.length - cut));
      const resumed = await TargetCacheWriter.open(at, { resume: true });
      expect(resumed.rows % 8 === 0 || resumed.rows === 100).toBe(true);
      expect(resumed.rows).toBeGreaterThanOrEqual(cut === 0 ? 100 : cut < 60 ? 96 : 72);
      await resumed.close();
    }
    // Cut anywhere in the header, it starts over.
    writeFileSync(path, bytes.subarray(0, 100));
    const over = await TargetCacheWriter.open(at, { resume: true });
    expect(over.rows).toBe(0);
    await over.append(target);
    await over.finish();
    // Zeros where a block should be are the machine's end; other bytes are damage, and nothing is cut.
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(300)]));
    const zeros = await TargetCacheWriter.open(at, { fresh: true });
    await zeros.close();
    rmSync(join(at, 'shard-00000.targets'));
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(300)]));
    const resumed = await TargetCacheWriter.open(at, { resume: true });
    expect(resumed.rows).toBe(100);
    await resumed.close();
    writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(300, 7)]));
    await expect(TargetCacheWriter.open(at, { resume: true })).rejects.toMatchObject({ code: 'bad_file' });
    expect(readFileSync(path).length).toBe(bytes.length + 300);
    expect(existsSync(`${path}.lock`)).toBe(false);
  });

  it('is one writer for a shard, and a dead one does not count', async () => {
    const at = folder();
    const writer = await TargetCacheWriter.open(at);
    expect(await refusal(TargetCacheWriter.open(at, { resume: true }))).toMatchObject({
      code: 'in_use',
      message: expect.stringContaining(String(process.pid)),
    });
    const other = await TargetCacheWriter.open(at, { shard: 1, firstRow: 100 });
    await Promise.all([writer.append(target), other.append(target)]);
    await Promise.all([writer.finish(), other.finish()]);
    writeFileSync(join(at, 'shard-00002.part.lock'), '999999999 elsewhere 0\n');
    expect(await refusal(TargetCacheWriter.open(at, { shard: 2 }))).toMatchObject({ code: 'in_use' });
    writeFileSync(join(at, 'shard-00002.part.lock'), '');
    await (await TargetCacheWriter.open(at, { shard: 2 })).close();
    const cache = await TargetCache.open(at);
    expect(cache.size).toBe(200);
    await cache.close();
  });

  it('shows whole blocks to readers on the way', async () => {
    const at = folder();
    const writer = await TargetCacheWriter.open(at, { blockRows: 8 });
    await writer.append(part(0, 20));
    const cache = await TargetCache.open(at, { unfinished: true });
    expect([cache.size, writer.rows, writer.safeRows]).toEqual([16, 20, 16]);
    await writer.append(part(20, 60));
    expect(cache.size).toBe(16);
    await cache.refresh();
    expect(cache.size).toBe(56);
    await writer.append(part(60, 100));
    await writer.finish();
    await cache.refresh();
    expect([cache.size, cache.shards[0]!.finished]).toEqual([100, true]);
    expect(numbers((await cache.rows(0, 100)).indices)).toEqual(numbers(target.indices));
    await cache.close();
  });

  it('says where it cannot be written', async () => {
    writeFileSync(join(root, 'file'), '');
    for (const place of [join(root, 'file'), join(root, 'file', 'below')])
      expect(await refusal(TargetCacheWriter.open(place))).toMatchObject({
        code: 'bad_file',
        message: expect.stringContaining('Cannot write'),
      });
    // A full disk, where the system has one to offer.
    if (!existsSync('/dev/full')) return;
    const at = folder();
    const writer = await TargetCacheWriter.open(at);
    await writer.close();
    rmSync(join(at, 'shard-00000.part'));
    (await import('node:fs')).symlinkSync('/dev/full', join(at, 'shard-00000.part'));
    const full = await TargetCacheWriter.open(at, { fresh: true, blockRows: 8 });
    expect(await refusal(full.append(target))).toMatchObject({ code: 'bad_file', message: expect.stringContaining('ENOSPC') });
    await expect(full.append(target)).rejects.toMatchObject({ code: 'bad_file' });
    await expect(full.finish()).rejects.toMatchObject({ code: 'bad_file' });
    await full.close();
    expect(readdirSync(at)).toEqual(['shard-00000.part']);
  });

  it('two shards of the same rows, or of different captures, are refused', async () => {
    const at = await written(target);
    await written(part(0, 5), { shard: 1, firstRow: 99 }, at);
    expect(await refusal(TargetCache.open(at))).toMatchObject({
      code: 'bad_file',
      message: expect.stringContaining('rows 0 to 99, and this begins at 99'),
    });
    rmSync(join(at, 'shard-00001.targets'));
    await written(part(0, 5), { shard: 1, firstRow: 100, bits: 9 }, at);
    expect(await refusal(TargetCache.open(at))).toMatchObject({ code: 'bad_file', message: expect.stringContaining('bits is 8 and 9') });
  });
});

describe('damage', () => {
  /** Opens and reads everything. */
  async function readAll(at: string): Promise<void> {
    const cache = await TargetCache.open(at, { inputHash: null });
    try {
      await cache.verify();
      await cache.rows(0, cache.size);
    } finally {
      await cache.close();
    }
  }

  it.each(['log_probs', 'weights', 'counts'])('of any byte is found: %s', async (kind) => {
    const logits = randn([20, 40], { seed: 1 });
    const target =
      kind === 'log_probs' ? captureTopK(logits, 4) : sampleTarget(logits, 4, { method: kind === 'weights' ? 'race' : undefined, seed: 1 });
    const at = await written(target, { blockRows: 8, inputHash: 'x', ...(kind === 'counts' ? { draws: 4 } : {}) });
    const path = join(at, 'shard-00000.targets');
    const bytes = readFileSync(path);
    await readAll(at);
    for (let place = 0; place < bytes.length; place++) {
      const flipped = Buffer.from(bytes);
      flipped[place]! ^= 1 << (place % 8);
      writeFileSync(path, flipped);
      const error = await refusal(readAll(at));
      expect(error, `byte ${place}`).toBeInstanceOf(LimbeckError);
      expect(error.code).toBe('bad_file');
      expect(error.message).toContain('shard-00000.targets');
    }
  });

  it('by truncation is found at every length', async () => {
    const at = await written(captureTopK(randn([20, 40], { seed: 1 }), 4), { blockRows: 8, inputHash: 'x' });
    const path = join(at, 'shard-00000.targets');
    for (let size = readFileSync(path).length - 1; size >= 0; size--) {
      truncateSync(path, size);
      const error = await refusal(readAll(at));
      expect(error).toBeInstanceOf(LimbeckError);
      expect(error.code).toBe('bad_file');
    }
  });

  it('and other files are refused', async () => {
    const at = await written(captureTopK(randn([3, 40], { seed: 1 }), 4), { inputHash: 'x' });
    const path = join(at, 'shard-00000.targets');
    for (const bytes of [Buffer.from('PK\x03\x04 a zip file, or so it says'), Buffer.alloc(1000), Buffer.alloc(1000, 255)]) {
      writeFileSync(path, bytes);
      expect(await refusal(readAll(at))).toMatchObject({
        code: 'bad_file',
        message: expect.stringContaining('must be a shard of a target cache'),
      });
    }
  });
});

describe('training from a cache', () => {
  it('has the loss and the gradient of the target in memory, within what the bits allow', async () => {
    const [rows, cols, k] = [64, 1000, 32];
    const target = captureTopK(teacherLogits(rows, cols), k, { temperature: 2 });
    for (const [bits, bound] of [
      [8, 2e-3],
      [16, 1e-5],
    ] as const) {
      const back = await cached(target, { bits });
      for (const residual of ['tail_bucket', 'renormalize', 'uniform'] as const) {
        const run = (of: SparseTarget) => {
          const student = randn([rows, cols], { seed: 8, requiresGrad: true });
          const loss = kdLoss(student, of, { residual });
          loss.backward();
          return { loss: loss.item(), gradient: student.grad!.data };
        };
        const [a, b] = [run(target), run(back)];
        expect(Math.abs(a.loss - b.loss)).toBeLessThan(bound * a.loss);
        let difference = 0;
        let size = 0;
        for (let i = 0; i < a.gradient.length; i++) {
          difference += (a.gradient[i]! - b.gradient[i]!) ** 2;
          size += a.gradient[i]! ** 2;
        }
        expect(Math.sqrt(difference / size)).toBeLessThan(5 * bound);
      }
    }
  });

  it('ends where training from memory ends', async () => {
    const [rows, inputs, cols] = [512, 16, 50];
    const x = randn([rows, inputs], { seed: 1 });
    const teacher = new nn.Linear(inputs, cols, { seed: 2 });
    for (const parameter of teacher.parameters()) (parameter.data as Float32Array).forEach((value, i, all) => (all[i] = 4 * value));
    const target = captureTopK(teacher.forward(x).detach(), 8);
    const at = await written(target, { inputHash: hashOf(x) });
    const cache = await TargetCache.open(at, { inputHash: hashOf(x) });
    let first = 0;
    const train = async (batchTarget: (ids: Int32Array) => Promise<SparseTarget> | SparseTarget) => {
      const student = new nn.Linear(inputs, cols, { seed: 3 });
      const optimizer = new optim.AdamW(student.parameters(), { learningRate: 0.03, weightDecay: 0 });
      let last = 0;
      for (let step = 0; step < 120; step++) {
        const ids = Int32Array.from({ length: 64 }, (_, i) => (step * 64 + i * 37) % rows);
        const batch = tensor(Float32Array.from([...ids].flatMap((id) => [...x.data.subarray(id * inputs, (id + 1) * inputs)])), {
          shape: [64, inputs],
        });
        const loss = kdLoss(student.forward(batch), await batchTarget(ids), { residual: 'tail_bucket' });
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        last = loss.item();
        if (step === 0) first = last;
      }
      return last;
    };
    const fromMemory = await train((ids) => target.rows(ids));
    const fromDisk = await train((ids) => cache.gather(ids));
    await cache.close();
    expect(fromMemory).toBeLessThan(first / 10);
    expect(Math.abs(fromDisk - fromMemory)).toBeLessThan(0.02 * fromMemory);
  });
});
