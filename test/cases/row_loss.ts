// Runs one LossCall through the divergence kernel and measures it against the float64 reference.
import { expectClose, expectTrue } from '../compare.js';
import { fromBits, rounded, spacing, toBits, type HalfBits, type HalfType } from '../half.js';
import { gaussian, integers, normals, random } from '../random.js';
import { captureTopKRow, each, rowLossReference, softmaxRow, type LossCall, type LossReference } from '../reference.js';
import { codeOf, kernel, withMemory, type Argument, type Memory, type Subject } from '../subject.js';

/** DESIGN.md 4.2: one part in 1e5 of max(|loss|, 1e-3·s), and of w·(s/T)·max(p, q). */
export const EXACTNESS = 1e-5;
const UNLABELLED_NONE = -2147483648;

export interface Layout {
  gradientStride?: number;
  /** Elements past an aligned address at which each tensor begins (CPU). */
  offset?: number;
  /** The gradient overwrites the student. */
  inPlace?: boolean;
  /** No gradient is asked for. */
  lossOnly?: boolean;
}

export interface LossResult {
  rowLoss: Float32Array | Float64Array;
  /** Empty for reduction none. */
  loss: Float32Array | Float64Array;
  /** [rows, cols], taken out of its stride. */
  gradient: Float32Array | Float64Array;
}

export function runLoss(subject: Subject, call: LossCall, layout: Layout = {}): LossResult {
  return withMemory(subject, (memory) => runLossIn(subject, memory, call, layout));
}

function runLossIn(subject: Subject, memory: Memory, call: LossCall, layout: Layout): LossResult {
  const { native } = subject;
  const { rows, cols } = call;
  const { studentType, teacherType } = call;
  // Losses are of the student's type, or float32 where that is a half type.
  const type = call.student.constructor as new (size: number) => Float32Array;
  const offset = layout.offset ?? 0;
  const put = <A extends Float32Array | Float64Array | Int32Array | HalfBits>(values: A | undefined): A | null =>
    values === undefined ? null : memory.input(values, offset);
  const studentStride = call.studentStride ?? cols;
  const gradientStride = layout.inPlace ? studentStride : (layout.gradientStride ?? cols);
  const reduction = call.reduction ?? 'none';
  const bits = studentType === undefined ? call.student : toBits(call.student, studentType);
  const stored = bits.constructor as new (size: number) => Float32Array | Float64Array | HalfBits;
  const student = memory.input(bits, offset);
  const gradient = layout.lossOnly ? null : layout.inPlace ? student : memory.output(stored, rows * gradientStride, offset);
  const rowLoss = memory.output(type, rows, offset);
  const loss = reduction === 'none' ? null : memory.output(type, 1, offset);
  const inputs: Argument[] = [
    student,
    put(call.teacher === undefined || teacherType === undefined ? call.teacher : toBits(call.teacher, teacherType)),
    put(call.indices),
    put(call.values),
    put(call.tailLogMass),
    put(call.labels),
    put(call.rowWeights),
    put(call.rowTemperature),
    put(call.anchor === undefined || studentType === undefined ? call.anchor : toBits(call.anchor, studentType)),
    put(call.rowParameter),
  ];
  kernel(
    subject,
    'divergence',
    ...inputs,
    rowLoss,
    loss,
    gradient,
    rows,
    cols,
    studentStride,
    call.teacherStride ?? cols,
    gradientStride,
    call.k ?? 0,
    codeOf(native, 'target', call.target),
    codeOf(native, 'divergence', call.divergence?.name ?? 'forward_kl'),
    call.divergence?.parameters?.[0] ?? 0,
    call.divergence?.parameters?.[1] ?? 0,
    call.interpolation ?? 0,
    call.assistant !== undefined,
    call.assistant?.alpha ?? 0,
    call.assistant?.lambda ?? 0,
    codeOf(native, 'residual', call.residual ?? 'none'),
    call.logProbScale ?? 1,
    call.temperature ?? 1,
    call.temperatureSquared ?? true,
    call.hardWeight ?? 0,
    call.labelSmoothing ?? 0,
    call.ignoreIndex ?? -100,
    call.unlabelledIndex ?? UNLABELLED_NONE,
    codeOf(native, 'reduction', reduction),
    codeOf(native, 'denominator', call.denominator ?? 'rows'),
    call.denominatorValue ?? 1,
  );
  const dense = new type(layout.lossOnly ? 0 : rows * cols);
  if (gradient !== null) {
    const read = memory.read(gradient);
    const strided = studentType === undefined ? (read as Float32Array) : fromBits(read, studentType);
    for (let r = 0; r < rows; r++) dense.set(strided.subarray(r * gradientStride, r * gradientStride + cols), r * cols);
  }
  inputs.forEach((input, i) => {
    if (input !== null && !(layout.inPlace && i === 0)) memory.read(input as Float32Array);
  });
  return { rowLoss: memory.read(rowLoss), loss: loss === null ? new type(0) : memory.read(loss), gradient: dense };
}

/** Loss rows, reduced loss and gradient against the reference, within c of the scales of DESIGN.md 4.2. */
export function expectLoss(what: string, result: LossResult, reference: LossReference, call: LossCall, c = EXACTNESS): void {
  // float32 stores: half an ulp of the value; and exponentials below 1e-30 of the row's largest may be flushed.
  const stored = call.student instanceof Float64Array ? 1e-15 : 6e-8;
  expectClose(
    `${what}: row loss`,
    result.rowLoss,
    reference.rowLoss,
    (r) => c * (reference.rowScale[r] as number) + stored * Math.abs(reference.rowLoss[r] as number),
  );
  if (result.loss.length === 1)
    expectClose(`${what}: loss`, result.loss, [reference.loss], c * reference.lossScale + stored * Math.abs(reference.loss));
  if (result.gradient.length === 0 && reference.gradient.length > 0) return;
  const { studentType } = call;
  expectClose(
    `${what}: gradient`,
    result.gradient,
    // Beyond the largest finite number of a half type lies its infinity.
    studentType === undefined
      ? reference.gradient
      : reference.gradient.map((g) => (Math.abs(g) < 65520 ? g : rounded(Float64Array.of(g), studentType)[0]!)),
    (i) => {
      const bound =
        c *
        Math.min(
          reference.gradientScale[i] as number,
          1.0001 * (reference.elementScale[i] as number) + 1e-30 * (reference.gradientScale[i] as number),
        );
      // A gradient of a half type is rounded once: half a step at what was rounded.
      if (studentType === undefined) return bound;
      return bound + spacing(Math.abs(reference.gradient[i] as number) + bound, studentType) / 2;
    },
  );
}

/** Runs a call and compares it. Returns what it gave. */
export function checkLoss(subject: Subject, what: string, call: LossCall, layout: Layout = {}, c = EXACTNESS): LossResult {
  const result = runLoss(subject, call, layout);
  expectLoss(what, result, rowLossReference(call), call, c);
  return result;
}

/** The call with its logits, or its dense target, moved to half types and stored in them. */
export function inHalf(call: LossCall, studentType?: HalfType, teacherType?: HalfType): LossCall {
  return {
    ...call,
    studentType,
    teacherType,
    student: studentType === undefined ? call.student : rounded(call.student, studentType),
    teacher: call.teacher === undefined || teacherType === undefined ? call.teacher : rounded(call.teacher, teacherType),
  };
}

// ---- inputs

export interface Logits {
  student: Float32Array;
  teacher: Float32Array;
}

/** Teacher N(offset, spread), student the teacher plus N(shift, noise). */
export function logits(seed: number, rows: number, cols: number, { spread = 3, noise = 1, offset = 0, shift = 0 } = {}): Logits {
  const teacher = normals(seed, rows * cols, spread, offset);
  const next = random(seed + 1);
  return { teacher, student: teacher.map((value) => value + shift + noise * gaussian(next)) };
}

export function denseCall(
  seed: number,
  rows: number,
  cols: number,
  options: Partial<LossCall> & { spread?: number; noise?: number; offset?: number; shift?: number } = {},
): LossCall {
  const { spread, noise, offset, shift, ...rest } = options;
  return { rows, cols, target: 'logits', ...logits(seed, rows, cols, { spread, noise, offset, shift }), ...rest };
}

/** Teacher probabilities at T = 1 as float32, scaled to the given mass. */
export function probabilities(teacher: Float32Array, rows: number, cols: number, mass = 1): Float32Array {
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++)
    out.set(
      each(softmaxRow(teacher.subarray(r * cols, (r + 1) * cols), 1), (p) => p * mass),
      r * cols,
    );
  return out;
}

export interface SparseOptions extends Partial<LossCall> {
  spread?: number;
  noise?: number;
  /** Temperature the target was captured at; the loss temperature unless given. */
  captured?: number;
  /** Leave the tail out of the call. */
  noTail?: boolean;
  /** Slots to empty in each row. */
  empty?: number;
}

/** A call whose target is the k best of a teacher, captured at its temperature. */
export function sparseCall(seed: number, rows: number, cols: number, k: number, options: SparseOptions = {}): LossCall {
  const { spread = 3, noise = 1, captured, noTail = false, empty = 0, ...rest } = options;
  const { student, teacher } = logits(seed, rows, cols, { spread, noise });
  const temperature = rest.temperature ?? 1;
  const indices = new Int32Array(rows * k).fill(-1);
  const values = new Float32Array(rows * k).fill(-Infinity);
  const tailLogMass = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    const best = captureTopKRow(
      teacher.subarray(r * cols, (r + 1) * cols),
      Math.min(k, cols),
      captured ?? rest.rowTemperature?.[r] ?? temperature,
    );
    // Stored out of order, as any order is legal.
    best.indices.forEach((id, j) => {
      const slot = (j * 7 + r) % k;
      const free = indices[r * k + slot] === -1 ? slot : Array.from({ length: k }, (_, s) => s).find((s) => indices[r * k + s] === -1);
      if (j < best.indices.length - empty || best.indices.length <= empty) {
        indices[r * k + (free as number)] = id;
        values[r * k + (free as number)] = best.logProbs[j] as number;
      }
    });
    const dropped = best.indices.length > empty ? best.logProbs.slice(best.indices.length - empty) : new Float64Array(0);
    tailLogMass[r] = Math.log(Math.exp(best.tailLogMass) + dropped.reduce((total, value) => total + Math.exp(value), 0));
  }
  return {
    rows,
    cols,
    target: 'sparse_log_probs',
    student,
    k,
    indices,
    values,
    ...(noTail ? {} : { tailLogMass }),
    ...(captured === undefined ? {} : { logProbScale: captured / temperature }),
    ...(rest.residual === 'label' ? { labels: integers(seed + 5, rows, 0, cols) } : {}),
    ...rest,
  };
}

/** Throws unless the row is NaN all through, loss and gradient. */
export function expectNanRow(what: string, result: LossResult, cols: number, row: number): void {
  expectTrue(`${what}: the loss of row ${row} must be NaN: it is ${result.rowLoss[row]}`, Number.isNaN(result.rowLoss[row]));
  for (let i = 0; i < cols; i++)
    expectTrue(
      `${what}: gradient [${row}, ${i}] must be NaN: it is ${result.gradient[row * cols + i]}`,
      Number.isNaN(result.gradient[row * cols + i]),
    );
}

/** A call with every option at random: target, residual, masks, offsets, labels, weights, temperatures, reduction. */
export function randomCall(seed: number, residuals: readonly NonNullable<LossCall['residual']>[], anyMass: boolean): LossCall {
  const next = random(seed);
  const pick = <A>(list: readonly A[]): A => list[Math.floor(next() * list.length)] as A;
  const rows = 1 + Math.floor(next() * 5);
  const cols = Math.max(1, Math.floor(Math.exp(next() * Math.log(4097))));
  const temperature = pick([0.01, 0.05, 0.5, 1, 1, 2, 7.3, 1e3, 1e4]);
  const spread = Math.min(Math.exp(next() * 5 - 2) * temperature, 2500);
  const shape = { spread, noise: spread * Math.exp(-next() * 7) };
  const hardWeight = pick([0, 0, 0.3, 1]);
  const common: Partial<LossCall> = {
    temperature,
    temperatureSquared: next() < 0.7,
    hardWeight,
    labelSmoothing: pick([0, 0, 0.1]),
    reduction: pick(['none', 'sum', 'mean'] as const),
    denominator: pick(['rows', 'weights', 'number'] as const),
    denominatorValue: 2.5,
    ...(hardWeight > 0 || next() < 0.3
      ? {
          labels: Int32Array.from({ length: rows }, () => (next() < 0.2 ? -100 : next() < 0.2 ? -9 : Math.floor(next() * cols))),
          unlabelledIndex: -9,
        }
      : {}),
    ...(next() < 0.4 ? { rowWeights: Float32Array.from({ length: rows }, () => (next() < 0.2 ? 0 : next() * 3)) } : {}),
    ...(next() < 0.3 ? { rowTemperature: Float32Array.from({ length: rows }, () => temperature * (0.5 + next())) } : {}),
  };
  const kind = pick(['logits', 'logits', 'probs', 'log_probs', ...residuals] as const);
  let call: LossCall;
  if (kind === 'logits')
    call = denseCall(seed + 1, rows, cols, {
      ...shape,
      ...common,
      shift: next() < 0.3 ? pick([1e4, -1e4, 64]) : 0,
      offset: next() < 0.3 ? 5e3 : 0,
    });
  else if (kind === 'probs' || kind === 'log_probs') {
    const dense = denseCall(seed + 1, rows, cols, {
      ...shape,
      ...common,
      ...(anyMass && next() < 0.5 ? { temperature: 1, rowTemperature: undefined } : {}),
    });
    const probs = probabilities(dense.teacher as Float32Array, rows, cols);
    call = { ...dense, target: kind, teacher: kind === 'probs' ? probs : probs.map(Math.log) };
  } else
    call = sparseCall(seed + 1, rows, cols, Math.min(cols, 1 + Math.floor(next() * 40)), {
      ...shape,
      ...common,
      residual: kind,
      noTail: next() < 0.3,
      // Every row that counts needs one here.
      ...(kind === 'label' ? { labels: Int32Array.from({ length: rows }, () => (next() < 0.2 ? -100 : Math.floor(next() * cols))) } : {}),
    });
  // Masks where both sides have them, or where a dense teacher alone has.
  if (next() < 0.3) {
    const share = pick([0.01, 0.3, 0.9]);
    for (let i = 0; i < rows * cols; i++) {
      if (next() >= share || i % cols === 0) continue;
      if (call.teacher !== undefined && call.target !== 'probs') call.teacher[i] = -Infinity;
      if (call.teacher !== undefined && call.target === 'logits' && next() < 0.7) call.student[i] = -Infinity;
    }
  }
  return call;
}
