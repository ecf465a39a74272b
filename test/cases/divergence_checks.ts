// The checks every divergence must pass: a new divergence calls rowLossChecks with its float64 formula and is done.
import { expectAll, expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals, uniforms } from '../random.js';
import { rowLossReference, type DivergenceReference, type LossCall } from '../reference.js';
import { COLS, FEW_COLS, LARGE_VOCABULARY, ODD_VOCABULARY, TEMPERATURES } from '../sizes.js';
import type { Check, Subject } from '../subject.js';
import { halfChecks, SCHEDULES } from './half_checks.js';
import {
  EXACTNESS,
  checkLoss,
  denseCall,
  expectLoss,
  expectNanRow,
  probabilities,
  randomCall,
  runLoss,
  sparseCall,
  type LossResult,
} from './row_loss.js';

/** What a divergence allows, as DESIGN.md 4.1 has it. */
export interface DivergenceRules {
  /** Is it finite, and defined, for renormalize (p = 0 off the k)? */
  renormalize: boolean;
  /** Does it take targets whose mass is not 1 (probabilities as given, truncate)? */
  anyMass: boolean;
  /** Zero where student and teacher agree, never negative. */
  isDistance: boolean;
  /** Which side's zero, where the other side is positive, makes it infinite. */
  infinite: readonly ('student' | 'teacher')[];
  /** Grows with the distance itself, not with its square. */
  linear?: boolean;
}

// Teacher and student of different sharpness: logits that grow with T so that the loss is not only its rounding.
function spreads(temperature: number): { spread: number; noise: number }[] {
  const wide = Math.min(3 * temperature, 2000);
  return [
    { spread: 3, noise: 1 },
    { spread: wide, noise: wide / 3 },
  ];
}

/** again: the divergence has been met with another parameter. */
export function rowLossChecks(formula: DivergenceReference, rules: DivergenceRules, again = false): Check[] {
  const checks: Check[] = [];
  // The sanitizers look for what the source does, not for digits. They meet in each divergence what depends on its formula (check), in one
  // with and one without a row's mean what all divergences share (shared), and not what brings other numbers only (numbers).
  const push = (everyDivergence: boolean, isNumbers: boolean) => (name: string, run: (subject: Subject) => void) =>
    void checks.push({ name, run, unsanitized: isNumbers || again || (!everyDivergence && !SCHEDULES.includes(formula.name)) });
  const check = push(true, false);
  const shared = push(false, false);
  const numbers = push(true, true);
  const dense = (seed: number, rows: number, cols: number, options: Parameters<typeof denseCall>[3] = {}): LossCall =>
    denseCall(seed, rows, cols, { divergence: formula, ...options });
  const sparse = (seed: number, rows: number, cols: number, k: number, options: Parameters<typeof sparseCall>[4] = {}): LossCall =>
    sparseCall(seed, rows, cols, k, { divergence: formula, ...options });
  const residuals = (['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform', 'label'] as const).filter((name) =>
    name === 'renormalize' ? rules.renormalize : name === 'truncate' ? rules.anyMass : true,
  );

  // ---- exactness

  for (const temperature of TEMPERATURES)
    (temperature === 1 ? check : shared)(`logits at temperature ${temperature}, every width (trap 15)`, (subject) => {
      for (const cols of COLS)
        for (const { spread, noise } of spreads(temperature))
          checkLoss(subject, `V ${cols}, spread ${spread}`, dense(cols, 3, cols, { temperature, spread, noise }));
    });

  for (const temperature of TEMPERATURES)
    numbers(`student nearly the teacher at temperature ${temperature}`, (subject) => {
      for (const cols of [2, 33, 1025])
        for (const noise of [1e-2, 1e-3]) {
          const call = dense(cols + 7, 3, cols, {
            temperature,
            spread: Math.min(3 * temperature, 2000),
            noise: noise * Math.min(temperature, 700),
          });
          const result = checkLoss(subject, `V ${cols}, noise ${noise}`, call);
          // More than the contract asks: these digits are what the form Σ p·φ(d) keeps and a difference of log-sum-exps loses.
          const reference = rowLossReference(call);
          expectClose(
            'digits of a small loss',
            result.rowLoss,
            reference.rowLoss,
            (r) => 2e-3 * Math.abs(reference.rowLoss[r] as number) + 1e-11 * temperature * temperature,
          );
        }
    });

  // The CPU does rows that clearly differ from sums, in blocks of 2,048 columns, and all others outcome by outcome.
  check('from near the teacher to far from it, around blocks of columns', (subject) => {
    for (const cols of [2047, 4099])
      for (const noise of [0.1, 0.2, 0.35, 0.6, 2.5]) {
        const call = dense(cols, 2, cols, { temperature: 2, spread: 4, noise: noise * 2 });
        checkLoss(subject, `V ${cols}, noise ${noise}`, call);
        if (noise !== 0.6) continue;
        checkLoss(subject, `V ${cols}, a peak`, { ...call, student: call.student.map((x, i) => (i % cols === 7 ? x + 24 : x)) });
        const steep = (x: LossCall['student']): LossCall['student'] => x.map((v, i) => v + (i % cols) / 40);
        checkLoss(subject, `V ${cols}, larger from block to block`, {
          ...call,
          student: steep(call.student),
          teacher: steep(call.teacher!),
        });
      }
  });

  check('a block without a finite logit, on either side or both', (subject) => {
    const call = dense(3, 3, 4500, { spread: 2, noise: 1 });
    const masked = (x: ArrayLike<number>, rows: number[]): Float32Array =>
      Float32Array.from(x, (v, i) => (rows.includes(Math.floor(i / 4500)) && i % 4500 >= 2048 && i % 4500 < 4096 ? -Infinity : v));
    for (const [student, teacher] of [
      [[0, 2], []],
      [[], [0, 3]],
      [
        [1, 2],
        [1, 2],
      ],
    ] as const)
      checkLoss(subject, `student ${student.join()}, teacher ${teacher.join()}`, {
        ...call,
        student: masked(call.student, [...student]),
        teacher: masked(call.teacher!, [...teacher]),
      });
  });

  // Exponentials are taken against the largest logit met so far: here a later one rises above it, by little and by more than a float's sum can bear.
  check('the largest logit late in a row, on either side or both', (subject) => {
    const cols = 4500;
    const call = dense(5, 4, cols, { spread: 2, noise: 1 });
    const raised = (x: ArrayLike<number>, rows: number[], at: number, by: number): Float32Array =>
      Float32Array.from(x, (v, i) => (rows.includes(Math.floor(i / cols)) && i % cols === at ? v + by : v));
    for (const at of [100, 2100, cols - 1])
      for (const by of [5, 9, 40])
        checkLoss(subject, `column ${at} higher by ${by}`, {
          ...call,
          student: raised(call.student, [0, 2], at, by),
          teacher: raised(call.teacher!, [1, 2], at, by),
        });
  });

  shared('temperature squared or not, per call and per row (trap 15)', (subject) => {
    for (const cols of FEW_COLS)
      for (const temperatureSquared of [true, false]) {
        checkLoss(subject, `V ${cols}`, dense(cols, 4, cols, { temperature: 2.5, temperatureSquared }));
        checkLoss(
          subject,
          `V ${cols}, rows`,
          dense(cols, 4, cols, { rowTemperature: Float32Array.of(0.5, 1, 2.25, 40), temperatureSquared }),
        );
      }
  });

  numbers('logits of ±1e4 at temperature 0.05 and 0.01 (trap 15)', (subject) => {
    for (const temperature of [0.05, 0.01])
      for (const cols of FEW_COLS) {
        const call = dense(cols, 3, cols, { temperature, spread: 1, noise: 0.05 });
        const big = uniforms(cols + 3, call.student.length, -1e4, 1e4);
        checkLoss(subject, `V ${cols}`, { ...call, student: big.slice(), teacher: big.map((x, i) => x + Math.sin(i)) });
      }
  });

  // Here ln(q/p) is in the thousands in all columns but one, and what the gradient is made of is how it differs between them.
  check('the teacher certain of what the student rules out, at temperature 0.02', (subject) => {
    for (const cols of [5, 33, 300, 2100]) {
      const call = dense(cols, 3, cols, { temperature: 0.02, spread: 0.1, noise: 0.1 });
      const changed = (x: LossCall['student'], by: number): LossCall['student'] => x.map((v, i) => (i % cols === 1 ? v + by : v));
      checkLoss(subject, `V ${cols}`, { ...call, student: changed(call.student, -4), teacher: changed(call.teacher!, 200) });
      checkLoss(subject, `V ${cols}, uniform`, sparse(cols, 3, cols, 2, { residual: 'uniform', temperature: 0.02, spread: 1, noise: 1 }));
    }
  });

  check('a student certain by 15 and more, the teacher too or not', (subject) => {
    for (const cols of [10, 31, 300])
      for (const certain of [14, 20]) {
        const call = dense(cols, 4, cols, { spread: 2, noise: 1 });
        const raised = (x: LossCall['student'], row: number): LossCall['student'] =>
          x.map((v, i) => (i % cols === 2 && i >= row * cols ? v + certain : v));
        checkLoss(subject, `V ${cols}, by ${certain}`, { ...call, student: raised(call.student, 0), teacher: raised(call.teacher!, 2) });
      }
  });

  numbers('a common offset of 1e4 changes nothing (trap 5)', (subject) => {
    for (const cols of [33, 1025, 4097])
      for (const offset of [100, 1e4, -1e4]) {
        checkLoss(subject, `V ${cols}, both`, dense(cols, 2, cols, { spread: 2, noise: 0.05, offset }));
        checkLoss(subject, `V ${cols}, student`, dense(cols, 2, cols, { spread: 2, noise: 0.05, shift: offset }));
      }
  });

  shared(`one row of ${LARGE_VOCABULARY}, student offset by 1e4 (trap 5)`, (subject) => {
    checkLoss(subject, 'near', dense(1, 1, LARGE_VOCABULARY, { spread: 2, noise: 0.05, shift: 1e4 }));
    checkLoss(subject, 'far', dense(2, 1, LARGE_VOCABULARY, { spread: 2, noise: 1, temperature: 2 }));
  });

  shared(`rows of ${ODD_VOCABULARY}, never aligned (trap 19)`, (subject) => {
    checkLoss(subject, 'dense', dense(3, 3, ODD_VOCABULARY, { spread: 2, noise: 0.5 }));
  });

  // ---- probability targets

  if (rules.anyMass)
    shared('probabilities and log-probabilities as given, mass 0.9, 1 and 1.3 (trap 17)', (subject) => {
      for (const cols of COLS.filter((size) => size <= 1025))
        for (const mass of [0.9, 1, 1.3]) {
          const call = dense(cols, 3, cols);
          const probs = probabilities(call.teacher as Float32Array, 3, cols, mass);
          checkLoss(subject, `V ${cols}, probs of mass ${mass}`, { ...call, target: 'probs', teacher: probs });
          checkLoss(subject, `V ${cols}, log-probs of mass ${mass}`, { ...call, target: 'log_probs', teacher: probs.map(Math.log) });
        }
    });

  check('probabilities softened by power at other temperatures', (subject) => {
    for (const cols of COLS.filter((size) => size <= 1025))
      for (const temperature of [0.5, 2, 7.3]) {
        const call = dense(cols, 3, cols, { temperature });
        const probs = probabilities(call.teacher as Float32Array, 3, cols);
        checkLoss(subject, `V ${cols}, probs`, { ...call, target: 'probs', teacher: probs });
        checkLoss(subject, `V ${cols}, log-probs`, { ...call, target: 'log_probs', teacher: probs.map(Math.log) });
      }
  });

  shared('probabilities of exactly 0 and 1', (subject) => {
    const student = Float32Array.of(1, 2, 3, 0.5, -1, 4, 0, 0, 0);
    const probs = Float32Array.of(0, 1, 0, 0.25, 0, 0.75, 0.5, 0.5, 0);
    for (const temperature of [1, 2]) {
      checkLoss(subject, 'probs', { rows: 3, cols: 3, student, target: 'probs', teacher: probs, temperature, divergence: formula });
      checkLoss(subject, 'log-probs', {
        rows: 3,
        cols: 3,
        student,
        target: 'log_probs',
        teacher: probs.map(Math.log),
        temperature,
        divergence: formula,
      });
    }
  });

  // ---- what is put in the teacher's or the student's place

  // What is not a square of the distance shows the rounding of the mixture, which is not an input: total variation counts less than 2^-22
  // in d as a tie, and ties in all columns are up to 1.2e-7 of loss.
  const near = (subject: Subject, what: string, call: LossCall): LossResult =>
    checkLoss(subject, what, call, {}, rules.linear ? 20 * EXACTNESS : EXACTNESS);

  shared('interpolated: logits between an anchor and the teacher, never in memory (TAID)', (subject) => {
    const between = (
      seed: number,
      rows: number,
      cols: number,
      interpolation: number,
      options: Parameters<typeof denseCall>[3] = {},
    ): LossCall => {
      const call = dense(seed, rows, cols, options);
      return { ...call, target: 'interpolated', anchor: call.student.slice(), interpolation };
    };
    for (const cols of [1, 7, 33, 257, 1025, 4097])
      for (const interpolation of [0.01, 0.4, 0.9999])
        for (const temperature of [0.05, 1, 7.3])
          near(subject, `V ${cols}, t ${interpolation}, T ${temperature}`, between(cols, 3, cols, interpolation, { temperature }));
    near(subject, 'offset', between(5, 3, 33, 0.3, { offset: 5e3, shift: 1e4 }));
    near(subject, 'labels', between(6, 3, 33, 0.3, { labels: Int32Array.of(1, -100, 3), hardWeight: 0.4 }));
    const other = between(7, 4, 300, 0.7, { rowTemperature: Float32Array.of(0.5, 1, 2.25, 40) });
    near(subject, 'another anchor', { ...other, anchor: normals(9, 4 * 300, 3) });
    // Peaks far apart: what lies between them is far below both.
    const far = between(8, 1, 65, 0.5);
    (far.student as Float32Array)[3] = 900;
    (far.teacher as Float32Array)[40] = 800.3;
    near(subject, 'far peaks', { ...far, anchor: far.student.slice() });
    const masked = between(9, 4, 40, 0.5);
    (masked.teacher as Float32Array).fill(-Infinity, 3, 20);
    (masked.anchor as Float32Array).fill(-Infinity, 40, 60);
    (masked.anchor as Float32Array)[90] = NaN;
    (masked.teacher as Float32Array).fill(-Infinity, 120, 160);
    const result = near(subject, 'masks', masked);
    for (const row of [2, 3]) expectNanRow('masks', result, 40, row);
  });

  const mixtures = [
    { alpha: -5, lambda: 0.6 },
    { alpha: -1, lambda: 0.1 },
    { alpha: 0, lambda: 0.6 },
    { alpha: 1, lambda: 0.3 },
    { alpha: 3, lambda: 0.1 },
    { alpha: -3, lambda: 0 },
    { alpha: 2, lambda: 1 },
  ];
  shared("assistant: AMiD's mixture in the student's place", (subject) => {
    for (const assistant of mixtures) {
      for (const cols of [1, 7, 33, 1025])
        near(subject, `α ${assistant.alpha}, λ ${assistant.lambda}, V ${cols}`, dense(cols, 3, cols, { assistant }));
      const call = dense(3, 3, 65, { assistant, temperature: 2.5 });
      near(subject, `α ${assistant.alpha}, λ ${assistant.lambda}, T 2.5`, call);
      const probs = probabilities(call.teacher as Float32Array, 3, 65);
      near(subject, `α ${assistant.alpha}, λ ${assistant.lambda}, probs`, {
        ...call,
        temperature: 1,
        target: 'probs',
        teacher: probs,
      });
      near(subject, 'labels', { ...call, labels: Int32Array.of(1, -100, 3), hardWeight: 0.4, labelSmoothing: 0.1 });
      const [student, teacher] = [call.student.slice(), (call.teacher as Float32Array).slice()];
      teacher.fill(-Infinity, 3, 20);
      student.fill(-Infinity, 65 + 3, 65 + 20);
      teacher.fill(-Infinity, 130 + 3, 130 + 20);
      student.fill(-Infinity, 130 + 10, 130 + 30);
      near(subject, `α ${assistant.alpha}, λ ${assistant.lambda}, masks`, { ...call, student, teacher });
    }
  });

  // Each side's likely outcome has no probability in float on the other: for α > 1 the whole mixture is that small. Its logarithm, near −100,
  // is known to 4e-6, and slopes of the size of the logarithm multiply that.
  numbers('assistant: likely outcomes far apart', (subject) => {
    for (const assistant of [...mixtures, { alpha: 0.98, lambda: 0.2 }])
      for (const gap of [100, 130]) {
        const call = dense(5, 2, 65, { assistant });
        (call.student as Float32Array)[3] = gap;
        (call.teacher as Float32Array)[40] = gap;
        checkLoss(subject, `α ${assistant.alpha}, λ ${assistant.lambda}, ${gap} apart`, call, {}, 50 * EXACTNESS);
      }
  });

  for (const residual of residuals.filter((name) => name !== 'truncate'))
    shared(`assistant: ${residual}`, (subject) => {
      for (const assistant of mixtures)
        for (const [cols, temperature] of [
          [7, 1],
          [65, 2.5],
          [513, 1],
        ] as const)
          near(
            subject,
            `α ${assistant.alpha}, λ ${assistant.lambda}, V ${cols}`,
            sparse(cols, 3, cols, 5, { residual, assistant, temperature }),
          );
    });

  shared('assistant: λ = 0 is the divergence itself, λ = 1 has no gradient', (subject) => {
    const call = dense(4, 3, 65);
    for (const alpha of [-1, 1, 3]) {
      expectClose(
        'λ 0',
        runLoss(subject, { ...call, assistant: { alpha, lambda: 0 } }).rowLoss,
        runLoss(subject, call).rowLoss,
        (r) => 1e-5 * Math.max(1, r),
      );
      const { gradient } = runLoss(subject, { ...call, assistant: { alpha, lambda: 1 } });
      expectAll('λ 1', gradient, (g) => g === 0, '0');
    }
  });

  // ---- sparse targets

  for (const residual of residuals) {
    check(`${residual}: every width and k`, (subject) => {
      for (const cols of COLS)
        for (const k of new Set([1, Math.min(5, cols), Math.min(64, cols), cols <= 257 ? cols : 300]))
          checkLoss(subject, `V ${cols}, k ${k}`, sparse(cols + k, 3, cols, k, { residual }));
    });

    shared(`${residual}: temperatures, one per call and one per row`, (subject) => {
      for (const temperature of [0.05, 0.5, 2, 7.3, 1e3])
        for (const { spread, noise } of spreads(temperature))
          for (const cols of [7, 33, 1025])
            checkLoss(
              subject,
              `V ${cols}, T ${temperature}, spread ${spread}`,
              sparse(cols, 3, cols, 5, { residual, temperature, spread, noise }),
            );
      checkLoss(subject, 'per row', sparse(5, 4, 300, 8, { residual, rowTemperature: Float32Array.of(0.5, 1, 2.25, 40) }));
    });

    shared(`${residual}: empty slots and slots of probability 0 (trap 17)`, (subject) => {
      for (const cols of [7, 33, 1025]) {
        checkLoss(subject, `V ${cols}`, sparse(cols, 3, cols, 6, { residual, empty: 2 }));
        const call = sparse(cols, 3, cols, 6, { residual });
        // A slot of probability 0 says the same as an empty one, except that the id leaves the tail.
        (call.values as Float32Array)[2] = -Infinity;
        checkLoss(subject, `V ${cols}, log 0`, call);
      }
    });

    shared(`${residual}: long rows`, (subject) => {
      checkLoss(subject, 'odd', sparse(3, 1, ODD_VOCABULARY, 64, { residual, spread: 2, noise: 0.5 }));
      // Above the odd rows' schedule nothing depends on the residual.
      if (residual === 'tail_bucket')
        checkLoss(subject, 'large', sparse(4, 1, LARGE_VOCABULARY, 64, { residual, spread: 2, noise: 0.5, temperature: 2 }));
    });

    shared(`${residual}: student's infinities, NaN inputs, other rows untouched`, (subject) => {
      const cols = 40;
      const call = sparse(9, 6, cols, 4, { residual });
      const student = call.student as Float32Array;
      const values = call.values as Float32Array;
      const indices = call.indices as Int32Array;
      student[0 * cols + 3] = NaN;
      student[1 * cols + 9] = Infinity;
      student.fill(-Infinity, 2 * cols, 3 * cols);
      values[3 * 4 + 1] = NaN;
      // Row 4: the student rules out an outcome the teacher believes in.
      student[4 * cols + (indices[4 * 4] as number)] = -Infinity;
      const result = checkLoss(subject, 'special rows', call);
      for (const row of [0, 1, 2, 3]) expectNanRow('special rows', result, cols, row);
      // 'label' leaves the teacher 0 in most columns.
      if (residual !== 'label')
        expectTrue(
          '+inf where the teacher is positive and the student −inf, if at all',
          (result.rowLoss[4] === Infinity) === rules.infinite.includes('student'),
        );
    });
  }

  for (const residual of ['tail_bucket', 'uniform', 'label'] as const)
    shared(`${residual}: an infinite loss has no gradient, in columns that the student rules out neither`, (subject) => {
      for (const cols of [4, 40, 1500, 9000]) {
        // All of the teacher is on the list, and the student is elsewhere, too.
        const call = sparse(12, 2, cols, 1, { residual });
        const ids = call.indices as Int32Array;
        const all = {
          ...call,
          values: new Float32Array(2),
          tailLogMass: new Float32Array(2).fill(-Infinity),
          ...(residual === 'label' ? { labels: ids } : {}),
        };
        for (let r = 0; r < 2; r++) all.student[r * cols + (((ids[r] as number) + 1) % cols)] = -Infinity;
        const { rowLoss, gradient } = checkLoss(subject, `V ${cols}`, all);
        if (!rules.infinite.includes('teacher')) continue;
        expectAll(`V ${cols}`, rowLoss, (loss) => loss === Infinity, 'infinite');
        expectAll(`V ${cols}, gradient`, gradient, Number.isNaN, 'NaN');
      }
    });

  for (const residual of residuals.filter((name) => name.startsWith('renormalize')))
    shared(`${residual}: retempered targets, p^(Tc/T)`, (subject) => {
      for (const [captured, temperature] of [
        [1, 2],
        [2, 1],
        [4, 0.5],
      ] as const)
        for (const cols of [7, 33, 1025])
          checkLoss(subject, `V ${cols}, ${captured} to ${temperature}`, sparse(cols, 3, cols, 5, { residual, captured, temperature }));
    });

  for (const residual of ['tail_bucket', 'uniform', 'label'] as const)
    shared(`${residual}: a tail that is not given is what the log-probs leave`, (subject) => {
      for (const cols of [7, 33, 1025]) checkLoss(subject, `V ${cols}`, sparse(cols, 3, cols, 3, { residual, noTail: true }));
      for (const cols of [1, 2, 9, 300]) checkLoss(subject, `V ${cols}, every id`, sparse(cols, 3, cols, cols, { residual, noTail: true }));
    });

  numbers('uniform: student and teacher agree wherever both are one number off the list', (subject) => {
    for (const cols of [33, 4097]) {
      const call = sparse(cols, 3, cols, 5, { residual: 'uniform', spread: 2 });
      const student = new Float32Array(3 * cols);
      const [indices, values, tail] = [call.indices as Int32Array, call.values as Float32Array, call.tailLogMass as Float32Array];
      for (let r = 0; r < 3; r++) {
        student.fill((tail[r] as number) - Math.log(cols - 5), r * cols, (r + 1) * cols);
        for (let j = 0; j < 5; j++) student[r * cols + (indices[r * 5 + j] as number)] = values[r * 5 + j] as number;
      }
      // A distance that is not a square is here no more than the rounding of its logits.
      const result = rules.linear ? runLoss(subject, { ...call, student }) : checkLoss(subject, `V ${cols}`, { ...call, student });
      if (rules.isDistance) expectAll('loss', result.rowLoss, (value) => Math.abs(value) <= (rules.linear ? 4e-6 : 1e-6), '0');
    }
  });

  shared('renormalize_both: the columns off the list get gradient 0 and do not move the loss', (subject) => {
    for (const cols of [33, 1025]) {
      const call = sparse(cols, 3, cols, 5, { residual: 'renormalize_both' });
      const listed = new Set(Array.from(call.indices as Int32Array, (id, slot) => Math.floor(slot / 5) * cols + id));
      const before = runLoss(subject, call);
      const off = (i: number): boolean => !listed.has(i);
      expectAll(
        'gradient off the list',
        before.gradient.filter((_, i) => off(i)),
        (g) => g === 0,
        '0',
      );
      const student = (call.student as Float32Array).map((x, i) => (off(i) ? x + 30 * Math.sin(i) : x));
      const after = checkLoss(subject, `V ${cols}, other columns moved`, { ...call, student });
      expectSameBits('loss', after.rowLoss, before.rowLoss);
      expectSameBits('gradient', after.gradient, before.gradient);
    }
  });

  shared('label: the label on the list, off it, and a row without one', (subject) => {
    for (const cols of [7, 300]) {
      const call = sparse(cols, 4, cols, 3, { residual: 'label' });
      const indices = call.indices as Int32Array;
      const off = Array.from({ length: cols }, (_, id) => id).find((id) => !indices.subarray(3, 6).includes(id)) as number;
      checkLoss(subject, `V ${cols}`, { ...call, labels: Int32Array.of(indices[1] as number, off, -100, indices[10] as number) });
      const missing = { ...call, labels: Int32Array.of(1, -7, 2, 3), unlabelledIndex: -7 };
      if (subject.device === 'cpu') expectThrows('no label', () => runLoss(subject, missing), RangeError, /label/);
      else expectNanRow('no label', runLoss(subject, missing), cols, 1);
    }
  });

  numbers('tail_bucket: the tail of a confident row, from its own log-mass (trap 7)', (subject) => {
    for (const a of [10, 20, 25, 30, 40, 80]) {
      const cols = LARGE_VOCABULARY;
      const student = new Float32Array(cols);
      student[5] = a - 1;
      student[6] = 1;
      const tail = Math.log(cols - 1) - a - Math.log1p(Math.exp(Math.log(cols - 1) - a));
      checkLoss(subject, `one logit ${a}`, {
        rows: 1,
        cols,
        student,
        target: 'sparse_log_probs',
        residual: 'tail_bucket',
        k: 1,
        indices: Int32Array.of(5),
        values: Float32Array.of(-Math.log1p(Math.exp(Math.log(cols - 1) - a))),
        tailLogMass: Float32Array.of(tail),
        divergence: formula,
      });
    }
  });

  if (rules.anyMass)
    shared('truncate may be negative and is not clamped (trap 9)', (subject) => {
      const result = checkLoss(subject, 'p (.5, .3, .2), q (.7, .2, .1), k 1', {
        rows: 1,
        cols: 3,
        student: Float32Array.of(Math.log(0.7), Math.log(0.2), Math.log(0.1)),
        target: 'sparse_log_probs',
        residual: 'truncate',
        k: 1,
        indices: Int32Array.of(0),
        values: Float32Array.of(Math.log(0.5)),
        divergence: formula,
      });
      if (formula.name === 'forward_kl') expectClose('forward', result.rowLoss, [-0.1682], 1e-4);
      expectTrue(
        'the gradient is alive',
        result.gradient.some((g) => g !== 0),
      );
    });

  shared('no slots at all: an empty list (trap 17)', (subject) => {
    for (const residual of residuals.filter((name) => !name.startsWith('renormalize')))
      checkLoss(subject, residual, {
        rows: 2,
        cols: 33,
        student: dense(1, 2, 33).student,
        target: 'sparse_log_probs',
        residual,
        k: 0,
        indices: new Int32Array(0),
        values: new Float32Array(0),
        tailLogMass: new Float32Array(2),
        labels: Int32Array.of(3, 32),
        divergence: formula,
      });
  });

  shared('duplicate ids and ids outside the vocabulary: an error on the CPU, a NaN row on CUDA (trap 17)', (subject) => {
    for (const residual of residuals)
      for (const [what, id] of [
        ['duplicate', -7],
        ['too large', 40],
        ['far too large', 2147483647],
        ['negative', -2],
      ] as const) {
        const call = sparse(11, 3, 40, 4, { residual });
        const indices = call.indices as Int32Array;
        indices[4 + 2] = what === 'duplicate' ? (indices[4] as number) : id;
        if (subject.device === 'cpu') expectThrows(`${residual}, ${what}`, () => runLoss(subject, call), RangeError, /./);
        else expectNanRow(`${residual}, ${what}`, checkLoss(subject, what, call), 40, 1);
      }
  });

  shared('more probability than 1: up to 1e-3 too much counts as no tail, above is refused', (subject) => {
    const call = (mass: number): LossCall => ({
      rows: 1,
      cols: 9,
      student: dense(1, 1, 9).student,
      target: 'sparse_log_probs',
      residual: 'tail_bucket',
      k: 2,
      indices: Int32Array.of(3, 5),
      values: Float32Array.of(Math.log(0.5 * mass), Math.log(0.5 * mass)),
      divergence: formula,
    });
    checkLoss(subject, 'mass 1.0005', call(1.0005));
    if (subject.device === 'cpu') expectThrows('mass 1.01', () => runLoss(subject, call(1.01)), RangeError, /./);
    else expectNanRow('mass 1.01', runLoss(subject, call(1.01)), 9, 0);
  });

  // ---- labels, weights, reductions

  shared('hard labels mixed in, with smoothing', (subject) => {
    for (const cols of [2, 33, 1025, 4097])
      for (const hardWeight of [0, 0.3, 1])
        for (const labelSmoothing of [0, 0.1, 1]) {
          const labels = integers(cols, 4, 0, cols);
          checkLoss(
            subject,
            `V ${cols}, h ${hardWeight}, smoothing ${labelSmoothing}`,
            dense(cols, 4, cols, { labels, hardWeight, labelSmoothing, temperature: 2 }),
          );
        }
  });

  shared('hard labels mixed into sparse targets', (subject) => {
    for (const residual of residuals)
      for (const cols of [33, 1025])
        checkLoss(
          subject,
          `${residual}, V ${cols}`,
          sparse(cols, 4, cols, 5, { residual, labels: integers(cols, 4, 0, cols), hardWeight: 0.4, labelSmoothing: 0.05, temperature: 3 }),
        );
  });

  shared('ignored rows are exactly 0 and unread; unlabelled rows lose only the hard term', (subject) => {
    const cols = 33;
    const call = dense(4, 5, cols, { labels: Int32Array.of(1, -100, -5, 7, -100), hardWeight: 0.5, unlabelledIndex: -5, temperature: 2 });
    (call.student as Float32Array).fill(NaN, cols, 2 * cols);
    (call.teacher as Float32Array).fill(Infinity, 4 * cols, 5 * cols);
    const result = checkLoss(subject, 'mixed', call);
    for (const row of [1, 4]) {
      expectTrue('the loss is +0', Object.is(result.rowLoss[row], 0));
      expectAll('the gradient', result.gradient.subarray(row * cols, (row + 1) * cols), (g) => Object.is(g, 0), '+0');
    }
    checkLoss(subject, 'another ignore index', { ...call, ignoreIndex: 7, labels: Int32Array.of(7, 7, -5, 7, 7) });
    // With h = 0 labels only select rows.
    checkLoss(subject, 'h = 0', { ...call, hardWeight: 0 });
  });

  shared('weight 0 is exactly 0 and unread, other weights scale', (subject) => {
    const cols = 33;
    const call = dense(5, 4, cols, { rowWeights: Float32Array.of(0, 2.5, 0, 1e-3) });
    (call.student as Float32Array).fill(NaN, 0, cols);
    (call.teacher as Float32Array).fill(NaN, 2 * cols, 3 * cols);
    const result = checkLoss(subject, 'weights', call);
    expectAll('row 0', result.gradient.subarray(0, cols), (g) => Object.is(g, 0), '+0');
  });

  for (const reduction of ['none', 'sum', 'mean'] as const)
    for (const denominator of reduction === 'mean' ? (['rows', 'weights', 'number'] as const) : (['rows'] as const))
      shared(`reduction ${reduction}${reduction === 'mean' ? ` over ${denominator}` : ''} (trap 26)`, (subject) => {
        for (const cols of FEW_COLS) {
          const common = { reduction, denominator, denominatorValue: 7.5, temperature: 2 };
          checkLoss(subject, `V ${cols}, plain`, dense(cols, 6, cols, common));
          checkLoss(
            subject,
            `V ${cols}, weights (1, 3), one ignored`,
            dense(cols, 3, cols, { ...common, rowWeights: Float32Array.of(1, 3, 5), labels: Int32Array.of(0, 0, -100) }),
          );
          checkLoss(subject, `V ${cols}, weight 0 counts`, dense(cols, 4, cols, { ...common, rowWeights: Float32Array.of(1, 0, 2, 0) }));
        }
        checkLoss(subject, 'many rows', dense(1, 1000, 17, { reduction, denominator, denominatorValue: 3, rowWeights: uniforms(2, 1000) }));
      });

  shared('nothing to average gives 0, not NaN, and a gradient of zeros (trap 14)', (subject) => {
    for (const cols of FEW_COLS)
      for (const denominator of ['rows', 'weights'] as const) {
        const common = { reduction: 'mean', denominator } as const;
        for (const call of [
          dense(cols, 3, cols, { ...common, labels: new Int32Array(3).fill(-100) }),
          dense(cols, 3, cols, { ...common, rowWeights: new Float32Array(3) }),
        ]) {
          call.student.fill(NaN);
          const result = checkLoss(subject, `V ${cols}, ${denominator}`, call);
          expectAll('loss', result.loss, (value) => Object.is(value, 0), '+0');
          expectAll('gradient', result.gradient, (value) => value === 0, '0');
        }
      }
  });

  shared('no rows', (subject) => {
    const result = checkLoss(subject, 'empty', dense(1, 0, 5, { reduction: 'mean' }));
    expectTrue('the loss of nothing is 0', result.loss[0] === 0);
  });

  shared('a label outside the classes: an error on the CPU, a NaN row on CUDA', (subject) => {
    for (const label of [33, -1, 2147483647]) {
      const call = dense(6, 3, 33, { labels: Int32Array.of(0, label, 2), hardWeight: 0.5 });
      if (subject.device === 'cpu') expectThrows(`label ${label}`, () => runLoss(subject, call), RangeError, /./);
      else expectNanRow(`label ${label}`, checkLoss(subject, `label ${label}`, call), 33, 1);
    }
  });

  shared('a term with coefficient 0 is not evaluated', (subject) => {
    const call = dense(7, 3, 33, { labels: Int32Array.of(0, 1, 2), hardWeight: 1 });
    (call.teacher as Float32Array).fill(NaN);
    checkLoss(subject, 'h = 1 leaves a NaN teacher unread', call);
    const { teacher, ...alone } = call;
    expectTrue('a teacher was there', teacher !== undefined);
    checkLoss(subject, 'h = 1 needs no target', { ...alone, target: 'none' });
  });

  // ---- special rows

  check('special rows: masks, equal rows, huge logits, NaN (traps 2, 4, 25)', (subject) => {
    const inf = Infinity;
    const rows: { student: number[]; teacher: number[] }[] = [
      { student: [0, 0, 0, 0], teacher: [0, 0, 0, -inf] },
      { student: [1, 2, 3, -inf], teacher: [3, 1, 2, -inf] },
      { student: [1, -inf, 3, -inf], teacher: [-inf, -inf, 2, 5] },
      { student: [-inf, 2, 3, 4], teacher: [0, 1, 2, 3] },
      { student: [0, 0, 0, 0], teacher: [0, 0, 0, 0] },
      { student: [7, 7, 7, 7], teacher: [-9, -9, -9, -9] },
      { student: [1e5, -1e5, 0, 1], teacher: [-1e5, 1e5, 0, 1] },
      { student: [0, 100, 0, 0], teacher: [100, 0, 0, 0] },
      { student: [0, 90, -90, 0], teacher: [90, 0, 0, -90] },
      { student: [NaN, 1, 2, 3], teacher: [1, 2, 3, 4] },
      { student: [1, 2, 3, 4], teacher: [1, 2, 3, NaN] },
      { student: [1, 2, inf, 4], teacher: [1, 2, 3, 4] },
      { student: [1, 2, 3, 4], teacher: [inf, 2, 3, 4] },
      { student: [-inf, -inf, -inf, -inf], teacher: [1, 2, 3, 4] },
      { student: [1, 2, 3, 4], teacher: [-inf, -inf, -inf, -inf] },
      { student: [-inf, -inf, -inf, -inf], teacher: [-inf, -inf, -inf, -inf] },
      { student: [1, 2, 3, -inf], teacher: [NaN, 2, 3, 4] },
      { student: [3, 1, 4, 1], teacher: [2, 7, 1, 8] },
    ];
    for (const temperature of [1, 2, 0.05])
      for (const target of ['logits', 'log_probs'] as const) {
        const call: LossCall = {
          rows: rows.length,
          cols: 4,
          student: Float32Array.from(rows.flatMap((row) => row.student)),
          target,
          teacher: Float32Array.from(rows.flatMap((row) => (target === 'logits' ? row.teacher : row.teacher.map((x) => x / 10 - 3)))),
          temperature,
          divergence: formula,
        };
        if (target === 'log_probs' && (temperature !== 1 || !rules.anyMass)) continue;
        // A log-probability of 1e4 is none.
        if (target === 'log_probs') (call.teacher as Float32Array).fill(-1.5, 24, 28);
        const result = checkLoss(subject, `${target}, T ${temperature}`, call);
        for (let row = 9; row < 17; row++) expectNanRow(`${target}, T ${temperature}`, result, 4, row);
      }
  });

  shared('a mask that covers whole blocks, first, last or all but one (trap 4)', (subject) => {
    for (const cols of [8, 33, 257, 1025, 4097]) {
      const call = dense(cols, 6, cols);
      const student = call.student as Float32Array;
      const teacher = call.teacher as Float32Array;
      const mask = (row: number, from: number, to: number, both = true): void => {
        teacher.fill(-Infinity, row * cols + from, row * cols + to);
        if (both) student.fill(-Infinity, row * cols + from, row * cols + to);
      };
      mask(0, 0, cols >> 1);
      mask(1, cols >> 1, cols);
      mask(2, 0, cols - 1);
      mask(3, 1, cols);
      mask(4, 0, cols - 2, false);
      for (let i = 0; i < cols; i++) if (i % 32 !== 5) mask(5, i, i + 1);
      checkLoss(subject, `V ${cols}`, call);
    }
  });

  if (formula.name === 'forward_kl')
    check('ln 1.5 for a masked teacher logit; 100 for extreme confidence (traps 2, 25)', (subject) => {
      const first = runLoss(subject, {
        rows: 1,
        cols: 3,
        student: new Float32Array(3),
        target: 'logits',
        teacher: Float32Array.of(0, 0, -Infinity),
      });
      expectClose('masked', first.rowLoss, [0.405465108], 1e-6);
      const second = runLoss(subject, {
        rows: 1,
        cols: 3,
        student: Float32Array.of(0, 100, 0),
        target: 'logits',
        teacher: Float32Array.of(100, 0, 0),
      });
      expectClose('confident', second.rowLoss, [100], 1e-3);
      expectClose('confident gradient', second.gradient, [-1, 1, 0], 1e-6);
    });

  check('infinite where one side is impossible and the other all but', (subject) => {
    for (const cols of [2, 40, 1500])
      for (const side of ['student', 'teacher'] as const) {
        const [impossible, faint] = [-Infinity, -110].map((last) => new Float32Array(cols).fill(last, 1));
        const given = side === 'student' ? { student: impossible, teacher: faint } : { student: faint, teacher: impossible };
        const { rowLoss } = runLoss(subject, { ...dense(cols, 1, cols), ...given });
        expectAll(
          `V ${cols}, ${side}`,
          rowLoss,
          (loss) => (loss === Infinity) === rules.infinite.includes(side),
          rules.infinite.includes(side) ? 'infinite' : 'finite',
        );
      }
  });

  // ---- properties

  if (rules.isDistance)
    shared('never negative, 0 for itself, unmoved by an offset (trap 24)', (subject) => {
      for (const cols of COLS) {
        const call = dense(cols, 4, cols, { noise: 1e-3 });
        expectAll(`V ${cols}`, runLoss(subject, call).rowLoss, (value) => value >= 0, 'at least 0');
        const self = runLoss(subject, { ...call, teacher: call.student });
        expectAll(`V ${cols}, itself`, self.rowLoss, (value) => value >= 0 && value <= 1e-6, '0');
        expectAll(`V ${cols}, gradient`, self.gradient, (value) => Math.abs(value) <= 1e-6, '0');
        const moved = runLoss(subject, { ...call, teacher: call.student, student: call.student.map((x) => x + 64) as Float32Array });
        // x + 64 is rounded to 4e-6.
        expectAll(`V ${cols}, moved`, moved.rowLoss, (value) => value >= 0 && value <= (rules.linear ? 4e-6 : 1e-6), '0');
      }
      const wide = dense(1, 1, 262144);
      expectAll(
        'V 262144, itself',
        runLoss(subject, { ...wide, teacher: wide.student }).rowLoss,
        (value) => value >= 0 && value <= 1e-6,
        '0',
      );
    });

  numbers('renaming the classes renames the gradient', (subject) => {
    const cols = 257;
    const call = dense(8, 1, cols);
    const turn = (x: Float32Array): Float32Array => x.map((_, i) => x[(i * 100) % cols] as number);
    const plain = runLoss(subject, call);
    const turned = runLoss(subject, { ...call, student: turn(call.student as Float32Array), teacher: turn(call.teacher as Float32Array) });
    const reference = rowLossReference(call);
    expectClose('loss', turned.rowLoss, plain.rowLoss, (r) => 2 * EXACTNESS * (reference.rowScale[r] as number));
    expectClose(
      'gradient',
      turned.gradient,
      turn(plain.gradient as Float32Array),
      (i) => 2 * EXACTNESS * (reference.gradientScale[i] as number),
    );
  });

  // ---- layout and bits

  shared('row strides above cols, NaN between the rows (traps 11, 19)', (subject) => {
    for (const cols of [1, 31, 33, 1025]) {
      const call = dense(cols, 3, cols, { temperature: 2 });
      const spreadOut = (x: Float32Array, stride: number): Float32Array => {
        const out = new Float32Array(3 * stride).fill(NaN);
        for (let r = 0; r < 3; r++) out.set(x.subarray(r * cols, (r + 1) * cols), r * stride);
        return out;
      };
      const strided: LossCall = {
        ...call,
        student: spreadOut(call.student as Float32Array, cols + 3),
        studentStride: cols + 3,
        teacher: spreadOut(call.teacher as Float32Array, cols + 8),
        teacherStride: cols + 8,
      };
      const plain = checkLoss(subject, `V ${cols}, packed`, call);
      const apart = checkLoss(subject, `V ${cols}, apart`, strided, { gradientStride: cols + 5 });
      expectSameBits('strides do not change the bits', apart.gradient, plain.gradient);
      expectSameBits('strides do not change the loss', apart.rowLoss, plain.rowLoss);
      const inside = checkLoss(subject, `V ${cols}, in place`, strided, { inPlace: true });
      expectSameBits('in place does not change the bits', inside.gradient, plain.gradient);
    }
  });

  shared('bases one, two and three elements off an aligned address (trap 19)', (subject) => {
    for (const cols of [31, 32, 33, 1024, 1025]) {
      const call = dense(cols, 3, cols, { temperature: 2, labels: integers(1, 3, 0, cols), hardWeight: 0.25 });
      const plain = checkLoss(subject, 'aligned', call);
      for (const offset of [1, 2, 3]) {
        const moved = checkLoss(subject, `V ${cols}, offset ${offset}`, call, { offset });
        expectSameBits('alignment does not change the bits', moved.gradient, plain.gradient);
        expectSameBits('alignment does not change the loss', moved.rowLoss, plain.rowLoss);
      }
    }
  });

  check('the gradient may overwrite the student, or not be asked for', (subject) => {
    for (const cols of [5, 33, 1025, 4097]) {
      for (const call of [
        dense(cols, 3, cols, { temperature: 2 }),
        ...residuals.map((residual) => sparse(cols, 3, cols, 5, { residual })),
      ]) {
        const plain = checkLoss(subject, 'apart', call);
        const inside = checkLoss(subject, 'in place', call, { inPlace: true });
        expectSameBits('in place', inside.gradient, plain.gradient);
        const alone = checkLoss(subject, 'loss only', call, { lossOnly: true });
        expectSameBits('loss only', alone.rowLoss, plain.rowLoss);
      }
    }
  });

  shared('same input, same bits; a row alone is the row in its batch (trap 20)', (subject) => {
    for (const cols of [1, 33, 1025, 4097]) {
      for (const call of [
        dense(cols, 7, cols, { temperature: 2 }),
        ...residuals.map((residual) => sparse(cols, 7, cols, Math.min(5, cols), { residual })),
      ]) {
        const first = runLoss(subject, call);
        const second = runLoss(subject, call);
        expectSameBits('twice, gradient', second.gradient, first.gradient);
        expectSameBits('twice, loss', second.rowLoss, first.rowLoss);
        for (const row of [0, 6]) {
          const cut = <A extends Float32Array | Int32Array>(x: A | undefined, width: number): A | undefined =>
            x?.slice(row * width, (row + 1) * width) as A | undefined;
          const alone = runLoss(subject, {
            ...call,
            rows: 1,
            student: cut(call.student as Float32Array, cols) as Float32Array,
            teacher: cut(call.teacher as Float32Array | undefined, cols),
            indices: cut(call.indices, call.k ?? 0),
            values: cut(call.values, call.k ?? 0),
            tailLogMass: cut(call.tailLogMass, 1),
            labels: cut(call.labels, 1),
          });
          expectSameBits(`V ${cols}: row ${row} alone`, alone.gradient, first.gradient.slice(row * cols, (row + 1) * cols));
          expectSameBits(`V ${cols}: loss of row ${row} alone`, alone.rowLoss, first.rowLoss.slice(row, row + 1));
        }
      }
    }
  });

  shared('1, 2 and 5 threads give the same bits (trap 20)', (subject) => {
    const before = subject.native.info().threads;
    try {
      for (const call of [
        dense(1, 97, 257, { reduction: 'mean', rowWeights: uniforms(1, 97) }),
        dense(2, 5, 4097, { reduction: 'sum' }),
        ...residuals.map((residual) => sparse(3, 50, 513, 9, { residual, reduction: 'mean' })),
      ]) {
        subject.native.setThreads(1);
        const one = runLoss(subject, call);
        for (const threads of [2, 5]) {
          subject.native.setThreads(threads);
          const more = runLoss(subject, call);
          expectSameBits(`${threads} threads, gradient`, more.gradient, one.gradient);
          expectSameBits(`${threads} threads, rows`, more.rowLoss, one.rowLoss);
          expectSameBits(`${threads} threads, loss`, more.loss, one.loss);
        }
      }
    } finally {
      subject.native.setThreads(before);
    }
  });

  check('float64 computes in float64 on the CPU and is refused on CUDA', (subject) => {
    const plain = dense(9, 3, 33, { temperature: 2, labels: Int32Array.of(1, 2, 3), hardWeight: 0.3, reduction: 'mean' });
    const call: LossCall = {
      ...plain,
      student: Float64Array.from(plain.student),
      teacher: Float64Array.from(plain.teacher as Float32Array),
    };
    if (subject.device === 'cpu') {
      checkLoss(subject, 'float64', call, {}, 1e-11);
      for (const residual of residuals) {
        const listed = sparse(10, 3, 33, 5, { residual, temperature: 2 });
        checkLoss(subject, `float64, ${residual}`, { ...listed, student: Float64Array.from(listed.student) }, {}, 1e-8);
      }
    } else expectThrows('float64', () => runLoss(subject, call), TypeError, /float32/);
  });

  shared('mixed dtypes are refused by name (trap 23)', (subject) => {
    const call = dense(10, 2, 5);
    expectThrows(
      'teacher float64',
      () => runLoss(subject, { ...call, teacher: Float64Array.from(call.teacher as Float32Array) }),
      TypeError,
      /teacher/,
    );
  });

  shared('the mean of a mixed batch is the mean of its reference', (subject) => {
    const call = dense(12, 64, 100, {
      labels: integers(3, 64, -1, 100).map((label, i) => (i % 9 === 0 ? -100 : label < 0 ? -7 : label)),
      unlabelledIndex: -7,
      hardWeight: 0.35,
      labelSmoothing: 0.1,
      rowWeights: uniforms(4, 64, 0, 2),
      rowTemperature: uniforms(5, 64, 0.5, 5),
      reduction: 'mean',
      denominator: 'weights',
    });
    expectLoss('mixed', runLoss(subject, call), rowLossReference(call), call);
  });

  for (const group of [0, 1, 2, 3])
    (group === 0 ? check : numbers)(`random calls with every option at once, ${group + 1} of 4`, (subject) => {
      for (let i = 0; i < 60; i++) {
        const seed = 100_000 * (group + 1) + i;
        checkLoss(subject, `seed ${seed}`, { ...randomCall(seed, residuals, rules.anyMass), divergence: formula });
      }
    });

  checks.push(...halfChecks(formula, residuals, rules.anyMass, again));

  return checks;
}
