// The checks of half types that every divergence must pass: any mix of stored types, computed in float32, the gradient rounded once.
import { expectAll, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { halfValues, HALF_TYPES, rounded, type HalfType } from '../half.js';
import { integers, uniforms } from '../random.js';
import type { DivergenceReference, LossCall } from '../reference.js';
import type { Check, Subject } from '../subject.js';
import { checkLoss, denseCall, expectNanRow, inHalf, probabilities, runLoss, sparseCall, type Layout } from './row_loss.js';

type Stored = HalfType | undefined;

/** Student and teacher: both halves, one of them, and the two of different kinds. */
const MIXES: readonly (readonly [Stored, Stored])[] = [
  ['bfloat16', 'bfloat16'],
  ['float16', 'float16'],
  ['float16', 'bfloat16'],
  ['bfloat16', undefined],
  [undefined, 'float16'],
];

/** Gradients of each outcome by itself, and with the row's mean. */
export const SCHEDULES = ['forward_kl', 'reverse_kl'];

// One column, a tail, whole vectors, a block and a bit.
const COLS = [1, 10, 33, 256, 1030, 2500];

export function halfChecks(
  formula: DivergenceReference,
  residuals: readonly NonNullable<LossCall['residual']>[],
  anyMass: boolean,
  again: boolean,
): Check[] {
  const checks: Check[] = [];
  const push = (everyDivergence: boolean) => (name: string, run: (subject: Subject) => void) =>
    void checks.push({
      name: `half types: ${name}`,
      run,
      unsanitized: again || (!everyDivergence && !SCHEDULES.includes(formula.name)),
    });
  const check = push(true);
  const shared = push(false);
  const dense = (seed: number, rows: number, cols: number, options: Parameters<typeof denseCall>[3] = {}): LossCall =>
    denseCall(seed, rows, cols, { divergence: formula, ...options });
  const sparse = (seed: number, rows: number, cols: number, k: number, options: Parameters<typeof sparseCall>[4] = {}): LossCall =>
    sparseCall(seed, rows, cols, k, { divergence: formula, ...options });

  check('logits, in every mix (trap 23)', (subject) => {
    MIXES.forEach(([student, teacher], i) =>
      COLS.forEach((cols, j) => {
        const temperature = [0.5, 1, 2][(i + j) % 3] as number;
        const call = inHalf(dense(cols, 2, cols, { temperature }), student, teacher);
        checkLoss(subject, `${student} and ${teacher}, V ${cols}, T ${temperature}`, call);
      }),
    );
  });

  shared('labels, weights and every other option', (subject) => {
    for (const [student, teacher] of MIXES) {
      const plain = dense(5, 6, 130, {
        temperature: 3,
        labels: Int32Array.of(1, -100, 129, -9, 0, 64),
        unlabelledIndex: -9,
        hardWeight: 0.4,
        labelSmoothing: 0.1,
        rowWeights: Float32Array.of(1, 2, 0, 0.5, 3, 1),
        reduction: 'mean',
        denominator: 'weights',
      });
      checkLoss(subject, `${student} and ${teacher}`, inHalf(plain, student, teacher));
      checkLoss(subject, 'the label alone', inHalf({ ...plain, hardWeight: 1 }, student, teacher));
      checkLoss(subject, 'no gradient', inHalf(plain, student, teacher), { lossOnly: true });
    }
  });

  shared('probabilities and log-probabilities', (subject) => {
    for (const [student, teacher] of MIXES)
      for (const cols of [10, 257]) {
        const plain = dense(cols, 2, cols, { temperature: anyMass ? 1 : 2 });
        const probs = probabilities(plain.teacher as Float32Array, 2, cols);
        checkLoss(subject, `${student} and ${teacher}, probs`, inHalf({ ...plain, target: 'probs', teacher: probs }, student, teacher));
        const logProbs = inHalf({ ...plain, target: 'log_probs', teacher: probs.map(Math.log) }, student, teacher);
        checkLoss(subject, `${student} and ${teacher}, log-probs`, logProbs);
      }
  });

  for (const residual of residuals)
    check(`sparse targets, ${residual}`, (subject) => {
      for (const type of HALF_TYPES)
        for (const cols of [7, 130, 1030]) {
          checkLoss(
            subject,
            `${type}, V ${cols}`,
            inHalf(sparse(cols, 2, cols, Math.min(9, cols - 1), { residual, temperature: 2 }), type),
          );
          const labels = integers(cols, 2, 0, cols);
          const both = sparse(cols, 2, cols, 3, { residual, labels, hardWeight: 0.3, labelSmoothing: 0.1, reduction: 'mean' });
          checkLoss(subject, `${type}, V ${cols}, labels`, inHalf(both, type));
        }
    });

  // The schedules are shared: one divergence of each kind meets every layout and every special row.
  if (!SCHEDULES.includes(formula.name)) return checks;

  check('strides, unaligned rows and in place', (subject) => {
    const calls: [string, LossCall][] = [
      ['dense', dense(1, 3, 40, { studentStride: 47, teacherStride: 43 })],
      ['odd', dense(2, 3, 263)],
      ['block', dense(3, 3, 1100, { studentStride: 1103, teacherStride: 1101 })],
      ...residuals.map((residual): [string, LossCall] => [residual, sparse(4, 3, 1027, 5, { residual })]),
    ];
    const wide = (values: Float32Array, rows: number, stride: number): Float32Array => {
      const cols = values.length / rows;
      const out = new Float32Array(rows * stride).fill(NaN);
      for (let r = 0; r < rows; r++) out.set(values.subarray(r * cols, (r + 1) * cols), r * stride);
      return out;
    };
    for (const type of HALF_TYPES)
      for (const [name, plain] of calls) {
        const call = inHalf(plain, type, plain.teacher === undefined ? undefined : type);
        const spread: LossCall = {
          ...call,
          student: wide(call.student as Float32Array, 3, call.studentStride ?? call.cols),
          teacher: call.teacher === undefined ? undefined : wide(call.teacher as Float32Array, 3, call.teacherStride ?? call.cols),
        };
        const straight = runLoss(subject, { ...call, studentStride: undefined, teacherStride: undefined });
        for (const layout of [{}, { inPlace: true }, { offset: 1 }, { offset: 3, gradientStride: call.cols + 5 }] satisfies Layout[]) {
          const result = checkLoss(subject, `${type}, ${name}, ${JSON.stringify(layout)}`, spread, layout);
          expectSameBits(`${type}, ${name}, ${JSON.stringify(layout)}: gradient`, result.gradient, straight.gradient);
          expectSameBits(`${type}, ${name}, ${JSON.stringify(layout)}: loss`, result.rowLoss, straight.rowLoss);
        }
      }
  });

  check('NaN and infinities, in the order of precedence', (subject) => {
    for (const type of HALF_TYPES)
      for (const cols of [9, 40, 1100]) {
        for (const bad of [NaN, Infinity]) {
          for (const side of ['student', 'teacher'] as const) {
            const call = inHalf(dense(cols, 3, cols, { labels: Int32Array.of(-100, 1, 2) }), type, type);
            const poisoned = call[side] as Float32Array;
            poisoned[1] = bad;
            poisoned[cols + 2] = bad;
            const result = runLoss(subject, call);
            expectAll(
              `${type}, ${bad} in the ${side} of an ignored row`,
              [result.rowLoss[0]!, ...result.gradient.slice(0, cols)],
              (x) => x === 0,
              '0',
            );
            expectNanRow(`${type}, ${bad} in the ${side}`, result, cols, 1);
            expectTrue(
              'the row after it is finite',
              Number.isFinite(result.rowLoss[2]) && result.gradient.slice(2 * cols).every(Number.isFinite),
            );
          }
        }
        const masked = inHalf(dense(cols, 2, cols), type, type);
        for (let i = 0; i < 2 * cols; i += 3) masked.student[i] = (masked.teacher as Float32Array)[i] = -Infinity;
        checkLoss(subject, `${type}, V ${cols}, −inf on both sides`, masked);
        masked.student.fill(-Infinity, cols);
        expectNanRow(`${type}, V ${cols}, −inf alone`, runLoss(subject, masked), cols, 1);
      }
  });

  check('a gradient is rounded once, to nearest, and overflows to infinity', (subject) => {
    for (const type of HALF_TYPES)
      for (const weight of [1, 3e-5, 1e-7, 1e5, 1e9]) {
        const call = inHalf(dense(7, 4, 1030, { rowWeights: new Float32Array(4).fill(weight) }), type, type);
        // The same numbers in float32 give the gradient before it is rounded.
        const whole = runLoss(subject, { ...call, studentType: undefined, teacherType: undefined });
        const half = runLoss(subject, call);
        expectSameBits(`${type}, weight ${weight}: loss`, half.rowLoss, whole.rowLoss);
        expectSameBits(`${type}, weight ${weight}: gradient`, half.gradient, rounded(whole.gradient as Float32Array, type));
      }
    const most = inHalf(dense(7, 1, 40, { rowWeights: Float32Array.of(1e9) }), 'float16', 'float16');
    expectTrue(
      'float16 overflows',
      runLoss(subject, most).gradient.some((g) => Math.abs(g) === Infinity),
    );
  });

  check('logits at the ends of the types', (subject) => {
    for (const type of HALF_TYPES) {
      const finite = halfValues[type].filter((x) => Number.isFinite(x) && Math.abs(x) <= 1e4);
      const pick = (seed: number): Float32Array => Float32Array.from(integers(seed, 3 * 300, 0, finite.length), (i) => finite[i] as number);
      for (const temperature of [1, 700])
        checkLoss(subject, `${type}, T ${temperature}`, {
          ...inHalf(dense(1, 3, 300, { temperature }), type, type),
          student: pick(1),
          teacher: pick(2),
        });
    }
  });

  check('a row alone, another number of threads: the same bits', (subject) => {
    const before = subject.native.info().threads;
    try {
      for (const type of HALF_TYPES)
        for (const plain of [
          dense(1, 33, 257, { reduction: 'mean', rowWeights: uniforms(1, 33) }),
          ...residuals.slice(0, 1).map((residual) => sparse(3, 33, 513, 9, { residual, reduction: 'mean' as const })),
        ]) {
          const call = inHalf(plain, type, plain.teacher === undefined ? undefined : type);
          subject.native.setThreads(1);
          const one = runLoss(subject, call);
          subject.native.setThreads(5);
          const five = runLoss(subject, call);
          expectSameBits(`${type}: gradient`, five.gradient, one.gradient);
          expectSameBits(`${type}: loss`, five.loss, one.loss);
          const all = runLoss(subject, { ...call, reduction: 'none' });
          const { cols, k = 0 } = call;
          const cut = <A extends Float32Array | Int32Array>(x: A | undefined, width: number): A | undefined =>
            x?.slice(32 * width) as A | undefined;
          const alone = runLoss(subject, {
            ...call,
            reduction: 'none',
            rows: 1,
            student: cut(call.student as Float32Array, cols) as Float32Array,
            teacher: cut(call.teacher as Float32Array | undefined, cols),
            indices: cut(call.indices, k),
            values: cut(call.values, k),
            tailLogMass: cut(call.tailLogMass, 1),
            rowWeights: cut(call.rowWeights, 1),
          });
          expectSameBits(`${type}: a row alone`, alone.gradient, all.gradient.slice(32 * cols));
        }
    } finally {
      subject.native.setThreads(before);
    }
  });

  check('float64 students take any teacher; a float64 teacher needs one', (subject) => {
    if (subject.device !== 'cpu') return;
    for (const type of [...HALF_TYPES, undefined]) {
      const call = inHalf(dense(3, 3, 70, { temperature: 2 }), undefined, type);
      checkLoss(subject, `teacher ${type}`, { ...call, student: Float64Array.from(call.student) }, {}, 1e-10);
    }
    const call = inHalf(dense(3, 3, 70), 'bfloat16');
    expectThrows(
      'float64',
      () => runLoss(subject, { ...call, teacher: Float64Array.from(call.teacher as Float32Array) }),
      TypeError,
      /teacher/,
    );
  });

  return checks;
}
