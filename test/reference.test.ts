// The float64 references against finite differences, against other forms of the same formula, and against known values.
import { describe, expect, test } from 'vitest';
import { denseCall, probabilities, sparseCall } from './cases/row_loss.js';
import { expectClose } from './compare.js';
import { gaussian, integers, normals, random, uniforms } from './random.js';
import {
  captureTopKRow,
  logSoftmaxRow,
  logSumExp,
  phi,
  rowLossReference,
  softmaxBackwardRow,
  softmaxRow,
  logSoftmaxBackwardRow,
  sum,
  topKRow,
  unary,
  type LossCall,
} from './reference.js';

/** Central difference of f along a random direction, beside the gradient's. */
function alongDirection(seed: number, x: Float64Array, f: (x: Float64Array) => number, gradient: ArrayLike<number>): [number, number] {
  const next = random(seed);
  const direction = x.map(() => gaussian(next));
  const step = 1e-6;
  const at = (sign: number): number => f(x.map((value, i) => value + sign * step * (direction[i] as number)));
  return [(at(1) - at(-1)) / (2 * step), sum(direction.map((d, i) => d * (gradient[i] as number)))];
}

const calls: Record<string, LossCall> = {
  logits: denseCall(1, 3, 17, { temperature: 2 }),
  'logits, no T²': denseCall(1, 3, 17, { temperature: 2.5, temperatureSquared: false }),
  'temperature per row': denseCall(1, 3, 17, { rowTemperature: Float32Array.of(0.5, 1, 4) }),
  'probs of mass 0.9': { ...denseCall(2, 3, 17), target: 'probs', teacher: probabilities(normals(5, 51), 3, 17, 0.9) },
  'probs by power': { ...denseCall(2, 3, 17, { temperature: 3 }), target: 'probs', teacher: probabilities(normals(5, 51), 3, 17) },
  'log-probs of mass 1.3': {
    ...denseCall(2, 3, 17),
    target: 'log_probs',
    teacher: probabilities(normals(5, 51), 3, 17, 1.3).map(Math.log),
  },
  renormalize: sparseCall(3, 3, 17, 5, { residual: 'renormalize', temperature: 2 }),
  'renormalize, retempered': sparseCall(3, 3, 17, 5, { residual: 'renormalize', captured: 1, temperature: 2 }),
  truncate: sparseCall(3, 3, 17, 5, { residual: 'truncate', temperature: 2 }),
  tail_bucket: sparseCall(3, 3, 17, 5, { residual: 'tail_bucket', temperature: 2 }),
  'tail_bucket, tail from the log-probs': sparseCall(3, 3, 17, 5, { residual: 'tail_bucket', noTail: true }),
  'mixed with labels': denseCall(4, 4, 17, {
    labels: Int32Array.of(1, -100, 3, -5),
    unlabelledIndex: -5,
    hardWeight: 0.3,
    labelSmoothing: 0.1,
    temperature: 2,
    rowWeights: Float32Array.of(1, 1, 2, 0.5),
  }),
  'labels alone': { ...denseCall(4, 4, 17), target: 'none', labels: integers(1, 4, 0, 17), hardWeight: 1 },
};

describe('row loss', () => {
  for (const [name, call] of Object.entries(calls))
    for (const reduction of ['sum', 'mean'] as const)
      test(`${name}, ${reduction}: the gradient is the derivative`, () => {
        const at = (student: Float64Array): number => rowLossReference({ ...call, student, reduction, denominator: 'weights' }).loss;
        const x = Float64Array.from(call.student);
        const [difference, analytic] = alongDirection(
          9,
          x,
          at,
          rowLossReference({ ...call, student: x, reduction, denominator: 'weights' }).gradient,
        );
        expect(Math.abs(difference - analytic)).toBeLessThanOrEqual(1e-7 * (1 + Math.abs(analytic)));
      });

  test('φ is e^d − 1 − d', () => {
    for (const d of [-3, -0.31, -0.3, -1e-3, 0, 1e-9, 1e-3, 0.29, 0.31, 2]) {
      const exact = d === 0 ? 0 : Math.abs(d) < 1e-5 ? (d * d) / 2 + (d * d * d) / 6 : Math.expm1(d) - d;
      expect(Math.abs(phi(d) - exact)).toBeLessThanOrEqual(1e-10 * exact + 2e-16 * Math.abs(d));
    }
  });

  test('forward KL by φ is Σ p ln(p/q)', () => {
    for (const temperature of [0.5, 1, 3]) {
      const call = denseCall(6, 1, 300, { temperature, temperatureSquared: false });
      const logP = logSoftmaxRow(call.teacher as Float32Array, temperature);
      const logQ = logSoftmaxRow(call.student, temperature);
      expectClose('direct', [rowLossReference(call).loss], [sum(logP.map((p, i) => Math.exp(p) * (p - (logQ[i] as number))))], 1e-13);
    }
  });

  test('tail_bucket of a target with all ids is the dense loss', () => {
    const dense = denseCall(7, 3, 17, { temperature: 2 });
    const sparse = sparseCall(7, 3, 17, 17, { temperature: 2, residual: 'tail_bucket' });
    expectClose('loss', rowLossReference(sparse).rowLoss, rowLossReference(dense).rowLoss, 1e-5);
    expectClose('gradient', rowLossReference(sparse).gradient, rowLossReference(dense).gradient, 1e-5);
  });

  test('the traps with published numbers', () => {
    const loss = (student: number[], teacher: number[]): number =>
      rowLossReference({
        rows: 1,
        cols: student.length,
        target: 'logits',
        student: Float64Array.from(student),
        teacher: Float64Array.from(teacher),
      }).loss;
    expect(loss([0, 0, 0], [0, 0, -Infinity])).toBeCloseTo(Math.log(1.5), 12);
    expect(loss([0, 100, 0], [100, 0, 0])).toBeCloseTo(100, 9);
    expect(loss([-Infinity, 0, 1], [0, 0, 0])).toBe(Infinity);
    expect(loss([0, 0, -Infinity], [0, 1, -Infinity])).toBeGreaterThan(0);
    const truncated = rowLossReference({
      rows: 1,
      cols: 3,
      student: Float64Array.of(Math.log(0.7), Math.log(0.2), Math.log(0.1)),
      target: 'sparse_log_probs',
      residual: 'truncate',
      k: 1,
      indices: Int32Array.of(0),
      values: Float32Array.of(Math.log(0.5)),
    });
    expect(truncated.loss).toBeCloseTo(-0.1682, 4);
  });
});

describe('softmax', () => {
  test('backward is the derivative', () => {
    const x = Float64Array.from(normals(1, 20));
    const g = normals(2, 20);
    const dot = (y: Float64Array): number => sum(y.map((value, i) => value * (g[i] as number)));
    const [probs, probsGradient] = alongDirection(3, x, (at) => dot(softmaxRow(at, 2)), softmaxBackwardRow(softmaxRow(x, 2), g, 2));
    const [logs, logsGradient] = alongDirection(3, x, (at) => dot(logSoftmaxRow(at, 2)), logSoftmaxBackwardRow(logSoftmaxRow(x, 2), g, 2));
    expect(Math.abs(probs - probsGradient)).toBeLessThanOrEqual(1e-8);
    expect(Math.abs(logs - logsGradient)).toBeLessThanOrEqual(1e-7);
  });

  test('log-sum-exp of nothing, of −inf, of NaN', () => {
    expect(logSumExp([])).toBe(-Infinity);
    expect(logSumExp([-Infinity, -Infinity])).toBe(-Infinity);
    expect(logSumExp([0, NaN])).toBeNaN();
    expect(logSumExp([1000, 1000])).toBeCloseTo(1000 + Math.LN2, 12);
  });
});

describe('selection', () => {
  test('NaN first, then by value, ties by id', () => {
    expect(topKRow([1, NaN, 3, 3, -0, 0, NaN], 7)).toEqual([1, 6, 2, 3, 0, 4, 5]);
  });

  test('captured mass and tail make 1', () => {
    const x = uniforms(1, 50, -5, 5);
    const captured = captureTopKRow(x, 7, 2);
    expect(Math.exp(captured.tailLogMass) + sum(captured.logProbs.map(Math.exp))).toBeCloseTo(1, 12);
  });
});

describe('unary', () => {
  for (const [name, { forward, slope, domain }] of Object.entries(unary))
    test(`${name}: the slope is the derivative`, () => {
      for (const x of uniforms(4, 20, ...domain)) {
        if (Math.abs(x) < 1e-3) continue;
        const difference = (forward(x + 1e-6, 0.37) - forward(x - 1e-6, 0.37)) / 2e-6;
        expect(Math.abs(difference - slope(x, forward(x, 0.37), 0.37))).toBeLessThanOrEqual(1e-4 * (1 + Math.abs(difference)));
      }
    });
});
