// Metrics over logits against numbers worked out by hand, and what they refuse.
import { describe, expect, it } from 'vitest';
import { kdLoss, randn, tensor } from '../src/index.js';
import * as distill from '../src/distill/index.js';

const { Evaluator, accuracy, bitsPerByte, brier, ece, evaluateLogits, klToTeacher, nll, perplexity, topOneAgreement } = distill;

/** Logits of rows of probabilities. */
const logs = (...rows: number[][]) => Float64Array.from(rows.flat(), Math.log);

// Probabilities of three classes; labels 0, 2, 1: right with 0.7, wrong with 0.2, right with 0.5.
const probs = [
  [0.7, 0.2, 0.1],
  [0.6, 0.2, 0.2],
  [0.25, 0.5, 0.25],
];
const logits = logs(...probs);
const labels = [0, 2, 1];
const likelihood = -(Math.log(0.7) + Math.log(0.2) + Math.log(0.5)) / 3;

describe('metrics of labels', () => {
  it('follow their formulas', () => {
    expect(accuracy(logits, labels)).toBe(2 / 3);
    expect(nll(logits, labels)).toBeCloseTo(likelihood, 14);
    expect(perplexity(logits, labels)).toBeCloseTo((0.7 * 0.2 * 0.5) ** (-1 / 3), 13);
    const scores = [0.3 ** 2 + 0.2 ** 2 + 0.1 ** 2, 0.6 ** 2 + 0.2 ** 2 + 0.8 ** 2, 0.25 ** 2 + 0.5 ** 2 + 0.25 ** 2];
    expect(brier(logits, labels)).toBeCloseTo((scores[0]! + scores[1]! + scores[2]!) / 3, 14);
    // Four bins: (½, ¾] holds the first two rows with confidence 1.3 and one right, (¾, 1] the third.
    const coarse = ece(logs([0.7, 0.3], [0.6, 0.4], [0.9, 0.1]), [0, 1, 0], { bins: 4 });
    expect(coarse).toBeCloseTo(Math.abs(1 - 1.3) / 3 + 0.1 / 3, 14);
    expect(bitsPerByte(logits, labels, { bytes: 6 })).toBeCloseTo(-Math.log2(0.7 * 0.2 * 0.5) / 6, 14);
  });

  it('read tensors of every floating dtype, with leading dimensions', () => {
    const values = Float32Array.from([2, 0, -1, 0, 1, 0.5, -0.5, 0, 3, 1, 1, 0]);
    const own = [0, 1, 2, 1];
    const wanted = evaluateLogits(values, own, 3);
    for (const dtype of ['float32', 'float64', 'float16', 'bfloat16'] as const) {
      const x = tensor(values, { shape: [2, 2, 3] }).cast(dtype);
      expect(nll(x, tensor(Int32Array.from(own), { shape: [2, 2] }))).toBe(wanted.nll);
      expect(accuracy(x, own)).toBe(wanted.accuracy);
    }
  });

  it('leave ignored rows out', () => {
    const more = Float64Array.from([...logits, 50, 0, NaN]);
    expect(nll(more, [...labels, -100])).toBe(nll(logits, labels));
    expect(brier(more, [...labels, 7], { ignoreIndex: 7 })).toBe(brier(logits, labels));
    expect(evaluateLogits(more, [...labels, -100], 3)).toEqual(evaluateLogits(logits, labels, 3));
    expect(evaluateLogits(more, [...labels, -100], 3).rows).toBe(3);
  });

  it('are exact for logits far from zero, and infinite where the label is impossible', () => {
    expect(nll(Float64Array.from([1e4, 1e4 - 1]), [1])).toBeCloseTo(Math.log(1 + Math.E), 12);
    expect(nll(Float64Array.from([0, -Infinity]), [1])).toBe(Infinity);
    expect(perplexity(Float64Array.from([0, 0, 0, 0]), [3])).toBeCloseTo(4, 14);
  });

  it('a row that is no distribution is wrong, and no mean hides it', () => {
    for (const bad of [NaN, Infinity]) {
      const found = evaluateLogits(Float32Array.from([bad, 0, 3, 0]), [0, 0], 2);
      expect(found.accuracy).toBe(0.5);
      for (const value of [found.nll, found.brier, found.ece, found.perplexity]) expect(value).toBeNaN();
    }
  });
});

describe('metrics beside a teacher', () => {
  const student = logs([0.5, 0.5], [0.9, 0.1]);
  const teacher = logs([0.75, 0.25], [0.2, 0.8]);

  it('follow their formulas', () => {
    const first = 0.75 * Math.log(1.5) + 0.25 * Math.log(0.5);
    const second = 0.2 * Math.log(0.2 / 0.9) + 0.8 * Math.log(8);
    expect(klToTeacher(student, teacher, { cols: 2 })).toBeCloseTo((first + second) / 2, 14);
    // Ties go to the lowest class: the first row agrees.
    expect(topOneAgreement(student, teacher, { cols: 2 })).toBe(0.5);
    expect(klToTeacher(student, teacher, { cols: 2, labels: [0, -100] })).toBeCloseTo(first, 14);
  });

  it('the KL divergence is that of kdLoss at any temperature', () => {
    const q = randn([40, 33], { seed: 1 });
    const p = randn([40, 33], { seed: 2 });
    for (const temperature of [0.5, 1, 4]) {
      const loss = kdLoss(q, p, { temperature, temperatureSquared: false }).item();
      expect(Math.abs(klToTeacher(q, p, { temperature }) / loss - 1)).toBeLessThan(1e-5);
    }
  });

  it('keeps its digits where both are nearly equal', () => {
    // Two outcomes, p = ½ ± δ/2 to second order: KL = δ²/8 for logits 0 and δ.
    const near = klToTeacher(Float64Array.from([1e-9, 0]), Float64Array.from([0, 0]), { cols: 2 });
    expect(Math.abs(near / (1e-18 / 8) - 1)).toBeLessThan(1e-6);
    expect(klToTeacher(student, student, { cols: 2 })).toBe(0);
  });

  it('is infinite where the student excludes what the teacher says, and 0 where both do', () => {
    expect(klToTeacher(Float64Array.from([0, -Infinity]), Float64Array.from([0, 0]), { cols: 2 })).toBe(Infinity);
    expect(klToTeacher(Float64Array.from([0, -Infinity]), Float64Array.from([3, -Infinity]), { cols: 2 })).toBe(0);
    expect(klToTeacher(Float64Array.from([0, 0]), Float64Array.from([0, -Infinity]), { cols: 2 })).toBeCloseTo(Math.LN2, 14);
  });
});

describe('Evaluator', () => {
  it('gives in batches what one call gives', () => {
    const q = randn([30, 7], { seed: 3 });
    const p = randn([30, 7], { seed: 4 });
    const own = Int32Array.from({ length: 30 }, (_, i) => (i % 8 === 7 ? -100 : i % 7));
    const whole = evaluateLogits(q, own, 7, { teacher: p, bytes: 55 });
    const evaluator = new Evaluator({ cols: 7 });
    for (const [from, to] of [
      [0, 11],
      [11, 30],
    ] as const) {
      const part = (x: typeof q) => (x.data as Float32Array).slice(from * 7, to * 7);
      evaluator.add(part(q), own.subarray(from, to), part(p));
    }
    expect(evaluator.result({ bytes: 55 })).toEqual(whole);
    expect(whole.rows).toBe(27);
    expect(whole.klToTeacher).toBeCloseTo(klToTeacher(q, p, { labels: own }), 14);
    expect(whole.topOneAgreement).toBeCloseTo(topOneAgreement(q, p, { labels: own }), 14);
    expect(whole.bitsPerByte).toBeCloseTo((whole.nll * 27) / 55 / Math.LN2, 14);
    expect(whole.perplexity).toBe(Math.exp(whole.nll));
  });

  it('a refused batch adds nothing', () => {
    const evaluator = new Evaluator({ cols: 2 });
    expect(() => evaluator.add(Float32Array.from([0, 1, 2, 3]), [0, 2])).toThrow(
      'Cannot evaluate: every label must be a class below 2 or -100: one is 2',
    );
    expect(evaluator.rows).toBe(0);
    expect(() => evaluator.result()).toThrow('Cannot evaluate: there must be a row that is not ignored: there is none');
  });

  it('refuses a teacher for some batches only', () => {
    const evaluator = new Evaluator({ cols: 2 });
    evaluator.add(Float32Array.from([0, 1]), [0]);
    evaluator.add(Float32Array.from([0, 1]), [0], Float32Array.from([1, 0]));
    expect(() => evaluator.result()).toThrow('every batch must have a teacher, or none: 1 of 2 rows have one');
  });
});

describe('what is refused', () => {
  it.each<[string, () => unknown, string | RegExp]>([
    ['rows that do not fit', () => accuracy(logits, [0, 1]), /logits must hold 2 rows|they hold/],
    ['a label that is no class', () => nll(logits, [0, 1, 3]), 'every label must be a class below 3 or -100: one is 3'],
    ['a label between classes', () => nll(logits, [0, 1, 0.5]), 'one is 0.5'],
    ['no labels', () => nll(logits, []), 'there must be a label'],
    ['bytes of zero', () => bitsPerByte(logits, labels, { bytes: 0 }), 'bytes must be positive and finite: it is 0'],
    ['another shape of teacher', () => klToTeacher(logits, Float64Array.of(1, 2, 3), { cols: 3 }), 'teacher must have 3 rows like student'],
    ['a temperature of zero', () => klToTeacher(logits, logits, { cols: 3, temperature: 0 }), 'temperature must be positive'],
    ['half a row', () => topOneAgreement(logits, logits, { cols: 2.5 }), 'cols must be a whole number'],
    ['bins of zero', () => ece(logits, labels, { bins: 0 }), 'bins must be a whole number'],
  ])('%s: RangeError', (_, call, message) => {
    expect(call).toThrow(RangeError);
    expect(call).toThrow(message);
  });

  it.each<[string, () => unknown, string]>([
    ['logits of whole numbers', () => accuracy(Int32Array.of(1, 2) as unknown as Float32Array, [0]), 'logits must be a Tensor'],
    ['labels of floats', () => accuracy(tensor([[1, 2]]), tensor([0])), 'labels must be int32: they are float32'],
    ['no cols', () => klToTeacher(logits, logits), 'cols must be given'],
    ['an option nobody reads', () => ece(logits, labels, { bin: 3 } as object), "did you mean 'bins'"],
  ])('%s: TypeError', (_, call, message) => {
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
  });
});
