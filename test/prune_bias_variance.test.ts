// Bias and variance over seeds, against their definitions.
import { describe, expect, it } from 'vitest';
import { distill, randn } from '../src/index.js';

const rows = 5;
const cols = 4;
const logits = (seed: number): Float32Array => randn([rows * cols], { seed }).data as Float32Array;
const softmax = (z: Float32Array, row: number): number[] => {
  const values = Array.from(z.slice(row * cols, (row + 1) * cols), Math.exp);
  const sum = values.reduce((a, b) => a + b);
  return values.map((v) => v / sum);
};
const kl = (p: number[], q: number[]): number => p.reduce((sum, v, i) => sum + v * Math.log(v / q[i]!), 0);
const average = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe('bias and variance', () => {
  const teacher = logits(1);
  const students = [2, 3, 4, 5].map(logits);
  const found = distill.biasVariance(teacher, students, cols);
  const each = (of: (p: number[], qs: number[][]) => number): number =>
    average(
      Array.from({ length: rows }, (_, row) =>
        of(
          softmax(teacher, row),
          students.map((z) => softmax(z, row)),
        ),
      ),
    );

  it('add up to the error, in squares and in KL', () => {
    expect(found.squaredError).toBeCloseTo(
      each((p, qs) => average(qs.map((q) => q.reduce((sum, v, i) => sum + (v - p[i]!) ** 2, 0)))),
      12,
    );
    expect(found.kl).toBeCloseTo(
      each((p, qs) => average(qs.map((q) => kl(p, q)))),
      6,
    );
    expect(found.klBias + found.klVariance).toBeCloseTo(found.kl, 12);
  });

  it('are the distance of the mean, and from the mean', () => {
    const geometric = (qs: number[][]): number[] => {
      const means = qs[0]!.map((_, c) => Math.exp(average(qs.map((q) => Math.log(q[c]!)))));
      const sum = means.reduce((a, b) => a + b);
      return means.map((v) => v / sum);
    };
    expect(found.klBias).toBeCloseTo(
      each((p, qs) => kl(p, geometric(qs))),
      6,
    );
    expect(found.klVariance).toBeCloseTo(
      each((_, qs) => average(qs.map((q) => kl(geometric(qs), q)))),
      6,
    );
    const sampleVariance = (values: number[]): number => values.reduce((s, v) => s + (v - average(values)) ** 2, 0) / (values.length - 1);
    expect(found.variance).toBeCloseTo(
      each((_, qs) => qs[0]!.reduce((sum, _v, c) => sum + sampleVariance(qs.map((q) => q[c]!)), 0)),
      6,
    );
  });

  it('students that agree have no variance, and those around the teacher no bias', () => {
    const same = distill.biasVariance(teacher, [students[0]!, students[0]!], cols);
    expect(same.variance).toBeCloseTo(0, 12);
    expect(same.klVariance).toBeCloseTo(0, 12);
    expect(same.squaredBias).toBeGreaterThan(0.01);
    const around = [0.1, -0.1].map((shift) => teacher.map((z, i) => z + (i % 2 === 0 ? shift : -shift)));
    const bias = distill.biasVariance(teacher, around, cols);
    expect(Math.abs(bias.klBias)).toBeLessThan(1e-6);
    expect(bias.klVariance).toBeGreaterThan(1e-3);
  });

  it('refuses what cannot be compared', () => {
    expect(() => distill.biasVariance(teacher, [students[0]!], cols)).toThrow(/at least two students: there is one/);
    expect(() => distill.biasVariance(teacher, [students[0]!, logits(1).slice(1)], cols)).toThrow(/those of student 1 19/);
    expect(() => distill.biasVariance([1] as never, students, cols)).toThrow(TypeError);
  });
});
