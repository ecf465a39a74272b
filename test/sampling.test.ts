// sampleTarget as an estimator: unbiased targets and gradients, the variance its documentation states, the same ids however the rows are cut.
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { captureTopK, loadTargets, sampleTarget, saveTargets, tensor, type SampleMethod, type SparseTarget } from '../src/index.js';
import { angle, equalSize, fullGradient, sparseGradient, zipf } from '../bench/sampling.js';
import { normals, random } from './random.js';
import { softmaxRow } from './reference.js';
import {
  exponential,
  exponentialDraw,
  fma,
  fmaFloat,
  inclusion,
  massBits,
  SAMPLE_METHODS,
  sampleRow,
  scaleOf,
} from './sampling_reference.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-sampling-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const V = 12;
const x = normals(1, V, 1.5);
const p = softmaxRow(x, 1);

/** Dense weights of `rows` rows, all drawn from x. */
function draw(method: SampleMethod, draws: number, rows: number, seed: number, rowOffset = 0): Float64Array[] {
  const logits = tensor(
    Float32Array.from({ length: rows * V }, (_, i) => x[i % V] as number),
    { shape: [rows, V] },
  );
  return dense(sampleTarget(logits, draws, { method, seed, rowOffset }));
}

function dense(target: SparseTarget): Float64Array[] {
  const ids = target.indices.data as Int32Array;
  const weights = target.weights!.data as Float32Array;
  return Array.from({ length: ids.length / target.k }, (_, r) => {
    const row = new Float64Array(target.cols!);
    for (let j = r * target.k; j < (r + 1) * target.k; j++) if (ids[j]! >= 0) row[ids[j]!]! += weights[j]!;
    return row;
  });
}

/**
 * Mean of each column, and how many standard errors it is away from what is expected. An id that all but a few rows hold has a
 * variance that few rows show: ten rows more or less are allowed for.
 */
function zScores(rows: Float64Array[], expected: ArrayLike<number>): number[] {
  return Array.from({ length: V }, (_, i) => {
    const mean = rows.reduce((sum, row) => sum + row[i]!, 0) / rows.length;
    const variance = rows.reduce((sum, row) => sum + (row[i]! - mean) ** 2, 0) / (rows.length - 1);
    const off = Math.max(0, Math.abs(mean - expected[i]!) - (10 * p[i]!) / rows.length);
    return variance < 1e-16 ? (off < 1e-7 ? 0 : Infinity) : off / Math.sqrt(variance / rows.length);
  });
}

/** Standard normal deviate of a χ² value (Wilson and Hilferty). */
function chiSquareDeviate(value: number, freedom: number): number {
  const share = 2 / (9 * freedom);
  return (Math.cbrt(value / freedom) - (1 - share)) / Math.sqrt(share);
}

// One in a million, two-sided, for a single number; the seeds are fixed, so a pass is a pass for good.
const LIMIT = 4.9;

describe('the reference itself', () => {
  test('the fused multiply-add is that of exact integers', () => {
    const next = random(3);
    const number = () => (next() - 0.5) * 2 ** Math.floor(next() * 40 - 20);
    const view = new DataView(new ArrayBuffer(8));
    const exact = (v: number): [bigint, number] => {
      view.setFloat64(0, v);
      const bits = view.getBigUint64(0);
      const exponent = Number((bits >> 52n) & 2047n);
      const mantissa = (bits & ((1n << 52n) - 1n)) | (1n << 52n);
      return [v < 0 ? -mantissa : mantissa, exponent - 1075];
    };
    for (let n = 0; n < 20_000; n++) {
      const [a, b] = [number(), number()];
      const c = n % 3 === 0 ? -a * b * (1 + (next() - 0.5) * 2 ** -50) : number();
      const [ma, ea] = exact(a);
      const [mb, eb] = exact(b);
      const [mc, ec] = exact(c);
      const least = Math.min(ea + eb, ec);
      const sum = ((ma * mb) << BigInt(ea + eb - least)) + (mc << BigInt(ec - least));
      // Number() of a BigInt rounds to nearest even.
      expect(fma(a, b, c)).toBe(Number(sum) * 2 ** least);
    }
  });

  test('of floats, too', () => {
    const next = random(4);
    // In units of 2^-120; rounded to 24 bits, to nearest even.
    for (let n = 0; n < 20_000; n++) {
      const [a, b] = [Math.fround(next() - 0.5), Math.fround(next() - 0.5)];
      const c = Math.fround((next() - 0.5) * 2 ** Math.floor(next() * 60 - 30));
      const unit = 2 ** 60;
      const sum = BigInt(a * unit) * BigInt(b * unit) + BigInt(c * unit * unit);
      const size = sum < 0n ? -sum : sum;
      const drop = BigInt(Math.max(0, size.toString(2).length - 24));
      const [kept, rest] = [size >> drop, size & ((1n << drop) - 1n)];
      const up = drop > 0n && (rest * 2n > 1n << drop || (rest * 2n === 1n << drop && (kept & 1n) === 1n));
      const expected = Number((kept + (up ? 1n : 0n)) << drop) * 2 ** -120 * (sum < 0n ? -1 : 1);
      expect(fmaFloat(a, b, c)).toBe(expected);
    }
  });

  test('weights and masses are e^((x − max)/T) within what the documentation says', () => {
    for (const [max, temperature, cols] of [
      [0, 1, 128_256],
      [16, 2.5, 1000],
      [-3, 0.05, 7],
      [1e4, 700, 2 ** 20],
    ] as const) {
      const k = massBits(cols);
      const scale = scaleOf(max, temperature, k);
      expect([scale.weight(max), scale.mass(max)]).toEqual([1, 1n << BigInt(k)]);
      expect([scale.weight(-Infinity), scale.mass(-Infinity)]).toEqual([0, 0n]);
      const next = random(cols);
      for (let n = 0; n < 5000; n++) {
        const x = Math.fround(max - next() * 80 * temperature);
        const z = (x - max) / temperature;
        const bound = 2 ** -22 - z * 2 ** -24;
        const e = Math.exp(z);
        expect(Math.abs(scale.weight(x) / e - 1)).toBeLessThanOrEqual(bound);
        const short = e * 2 ** k - Number(scale.mass(x));
        expect(Math.abs(short - 0.5)).toBeLessThanOrEqual(0.5 + bound * e * 2 ** k);
      }
    }
  });

  test('its functions are the mathematical ones', () => {
    for (let z = 0; z > -690; z -= 0.37) expect(Math.abs(exponential(z) / Math.exp(z) - 1)).toBeLessThan(1e-15);
    expect([exponential(0), exponential(-690.5), exponential(-Infinity)]).toEqual([1, 0, 0]);
    for (let y = 1e-300; y < 800; y *= 1.37) expect(Math.abs(inclusion(y) / -Math.expm1(-y) - 1)).toBeLessThan(1e-15);
    for (const r of [0n, 1n, 12345n, 1n << 40n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - (1n << 40n), (1n << 64n) - 1n]) {
      const u = Number((1n << 64n) - 1n - r) + 0.5;
      const expected = r < 1n << 62n ? -Math.log1p(-(Number(r) + 0.5) * 2 ** -64) : -Math.log(u * 2 ** -64);
      expect(Math.abs(exponentialDraw(r) / expected - 1)).toBeLessThan(1e-15);
    }
  });

  test('race weights are p/(1 − e^(−pτ)) of the plain softmax', () => {
    const { ids, weights, tau } = sampleRow(x, 1, 5, 'race', 1, 0);
    const largest = Math.max(...p);
    ids.forEach((id, j) => expect(weights[j]! / (p[id]! / -Math.expm1((-p[id]! / largest) * tau))).toBeCloseTo(1, 6));
  });
});

describe('unbiased', () => {
  const rows = 20_000;

  test('with_replacement: the counts are multinomial (χ²), and as far apart as multinomial counts are', () => {
    for (const [draws, seed] of [
      [1, 1],
      [7, 2],
      [50, 3],
    ] as const) {
      const drawn = draw('with_replacement', draws, rows, seed);
      const counts = Array.from({ length: V }, (_, i) => drawn.reduce((sum, row) => sum + row[i]! * draws, 0));
      const all = rows * draws;
      const chiSquare = counts.reduce((sum, count, i) => sum + (count - all * p[i]!) ** 2 / (all * p[i]!), 0);
      expect(Math.abs(chiSquareDeviate(chiSquare, V - 1)), `N ${draws}: χ² ${chiSquare}`).toBeLessThan(LIMIT);
      // Σ over rows of (count − N·p)²/(N·p): mean rows·(V − 1), its own variance from the rows.
      const spread = drawn.map((row) => row.reduce((sum, w, i) => sum + (draws * (w - p[i]!) ** 2) / p[i]!, 0));
      const mean = spread.reduce((sum, value) => sum + value, 0) / rows;
      const error = Math.sqrt(spread.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows / rows);
      expect(Math.abs(mean - (V - 1)) / error, `N ${draws}: spread ${mean}`).toBeLessThan(LIMIT);
    }
  });

  for (const method of SAMPLE_METHODS)
    test(`${method}: E[w] = p, over rows and over seeds (z)`, () => {
      for (const draws of [1, 3, 7, 11]) {
        const z = zScores(draw(method, draws, rows, 10 + draws), p);
        expect(Math.max(...z), `N ${draws}: ${z.map((value) => value.toFixed(1)).join(' ')}`).toBeLessThan(LIMIT);
      }
      const seeds = Array.from({ length: 4000 }, (_, seed) => draw(method, 4, 1, seed)[0]!);
      expect(Math.max(...zScores(seeds, p)), 'over seeds').toBeLessThan(LIMIT);
    });

  for (const method of SAMPLE_METHODS)
    test(`${method}: the averaged gradient Σw·q − w is q − p (z)`, () => {
      const q = softmaxRow(normals(2, V, 1.5), 1);
      const gradients = draw(method, 4, rows, 99).map((w) => {
        const mass = w.reduce((sum, value) => sum + value, 0);
        return q.map((value, i) => mass * value - w[i]!);
      });
      expect(
        Math.max(
          ...zScores(
            gradients,
            q.map((value, i) => value - p[i]!),
          ),
        ),
      ).toBeLessThan(LIMIT);
    });

  test('neighbouring draws, rows and seeds do not know of each other', () => {
    const size = 4000;
    const first = (rowsOf: Float64Array[]) => rowsOf.map((row) => row.findIndex((w) => w > 0));
    const one = first(draw('with_replacement', 1, size, 5));
    for (const [what, other] of [
      ['the next row', one.slice(1)],
      ['the next seed', first(draw('with_replacement', 1, size, 6))],
      ['the tail of the same seed', first(draw('head_tail', 1, size, 5))],
    ] as const) {
      const equal = other.filter((id, i) => id === one[i]).length / other.length;
      const expected = p.reduce((sum, value) => sum + value * value, 0);
      expect(Math.abs(equal - expected) / Math.sqrt((expected * (1 - expected)) / other.length), what).toBeLessThan(LIMIT);
    }
  });

  test('the sum of the weights: 1 with replacement and for head and tail, 1 in expectation for the race', () => {
    for (const method of ['with_replacement', 'head_tail'] as const)
      for (const w of draw(method, 5, 500, 1))
        expect(
          w.reduce((sum, value) => sum + value, 0),
          method,
        ).toBeCloseTo(1, 6);
    const sums = draw('race', 5, rows, 1).map((w) => w.reduce((sum, value) => sum + value, 0));
    const mean = sums.reduce((sum, value) => sum + value, 0) / rows;
    const deviation = Math.sqrt(sums.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows);
    expect(deviation).toBeGreaterThan(0.01);
    expect(Math.abs(mean - 1) / (deviation / Math.sqrt(rows))).toBeLessThan(LIMIT);
  });

  test("the paper's claim: a top-k target's gradient points away from the full one, a sampled one's does not", () => {
    const cols = 4000;
    const teacher = zipf(cols, 0.8, 1);
    const noise = normals(7, cols);
    const probabilities = softmaxRow(teacher, 1);
    const q = softmaxRow(
      teacher.map((value, i) => value + 0.5 * noise[i]!),
      1,
    );
    const full = fullGradient(q, probabilities);
    const k = equalSize(probabilities, 50);
    const top = captureTopK(tensor(teacher, { shape: [1, cols] }), k);
    const ids = top.indices.data as Int32Array;
    const logs = top.logProbs!.data as Float32Array;
    const mass = logs.reduce((sum, value) => sum + Math.exp(value), 0);
    const topK = new Float64Array(cols);
    ids.forEach((id, j) => (topK[id] = Math.exp(logs[j]!) / mass));
    const many = 300;
    const repeated = new Float32Array(many * cols);
    for (let r = 0; r < many; r++) repeated.set(teacher, r * cols);
    const biased = angle(sparseGradient(q, topK), full);
    for (const method of SAMPLE_METHODS) {
      const mean = new Float64Array(cols);
      for (const w of dense(sampleTarget(tensor(repeated, { shape: [many, cols] }), 50, { method, seed: 1 })))
        w.forEach((value, i) => (mean[i]! += value / many));
      expect(biased / angle(sparseGradient(q, mean), full), `${method}, against ${biased} degrees`).toBeGreaterThan(5);
    }
  });
});

describe('reproducible', () => {
  test.each(SAMPLE_METHODS)('%s: the same seed draws the same, parts with their rowOffset draw what the whole does', (method) => {
    const [rows, cols] = [13, 100];
    const values = normals(4, rows * cols, 2);
    const at = (begin: number, end: number) =>
      sampleTarget(tensor(values.slice(begin * cols, end * cols), { shape: [end - begin, cols] }), 9, {
        method,
        seed: 8,
        rowOffset: 1000 + begin,
      });
    const whole = at(0, rows);
    expect(at(0, rows).indices.data).toEqual(whole.indices.data);
    for (const cut of [1, 6, 12]) {
      const parts = [at(0, cut), at(cut, rows)];
      expect(parts.flatMap((part) => [...(part.indices.data as Int32Array)])).toEqual([...(whole.indices.data as Int32Array)]);
      expect(parts.flatMap((part) => [...(part.weights!.data as Float32Array)])).toEqual([...(whole.weights!.data as Float32Array)]);
    }
    const logits = tensor(values, { shape: [rows, cols] });
    expect(sampleTarget(logits, 9, { method }).indices.data).not.toEqual(sampleTarget(logits, 9, { method }).indices.data);
  });

  test.each(SAMPLE_METHODS)('%s: saved and loaded', (method) => {
    const file = path.join(folder, `${method}.safetensors`);
    const temperature = tensor([0.5, 1, 2]);
    const target = sampleTarget(tensor(normals(5, 3 * 20, 2), { shape: [3, 20] }), 30, { method, seed: 1, temperature });
    saveTargets(file, target);
    const loaded = loadTargets(file) as SparseTarget;
    expect([loaded.k, loaded.cols, loaded.logProbs]).toEqual([20, 20, null]);
    expect(loaded.indices.data).toEqual(target.indices.data);
    expect(loaded.weights!.data).toEqual(target.weights!.data);
    expect((loaded.temperature as typeof temperature).data).toEqual(temperature.data);
  });

  test('no rows give no rows', () => {
    expect(sampleTarget(tensor(new Float32Array(0), { shape: [0, 5] }), 3, { seed: 1 }).indices.shape).toEqual([0, 3]);
  });
});
