// Float64 references, written from the formulas of DESIGN.md 4.1 and METHODS.md; nothing shared with the kernels. Device tests spend most
// of their time here, so what is done for each column is a plain loop over typed arrays.
import type { HalfType } from './half.js';

/** f of each value. Float64Array.from walks an iterator, which is ten times slower. */
export function each(values: ArrayLike<number>, f: (value: number, i: number) => number): Float64Array {
  const out = new Float64Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = f(values[i] as number, i);
  return out;
}

function countUp(size: number): Int32Array {
  const ids = new Int32Array(size);
  for (let i = 0; i < size; i++) ids[i] = i;
  return ids;
}

// ---- sums

/** Compensated sum (Neumaier). */
export function sum(values: ArrayLike<number>): number {
  let total = 0;
  let rest = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    const next = total + value;
    if (Number.isFinite(next)) rest += Math.abs(total) >= Math.abs(value) ? total - next + value : value - next + total;
    total = next;
  }
  return total + rest;
}

/** ln Σ e^x, −inf for no terms. */
export function logSumExp(values: ArrayLike<number>): number {
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) return NaN;
    most = Math.max(most, values[i] as number);
  }
  if (most === -Infinity || most === Infinity) return most;
  return most + Math.log(sum(each(values, (value) => Math.exp(value - most))));
}

// ---- softmax

/** Log-probabilities of one row of logits at temperature T. NaN, +inf or nothing but −inf gives a NaN row. */
export function logSoftmaxRow(x: ArrayLike<number>, temperature: number): Float64Array {
  let most = -Infinity;
  for (let i = 0; i < x.length; i++) {
    if (Number.isNaN(x[i])) return new Float64Array(x.length).fill(NaN);
    most = Math.max(most, x[i] as number);
  }
  if (!Number.isFinite(most)) return new Float64Array(x.length).fill(NaN);
  const scaled = new Float64Array(x.length);
  const exponentials = new Float64Array(x.length);
  for (let i = 0; i < scaled.length; i++) {
    scaled[i] = ((x[i] as number) - most) / temperature;
    exponentials[i] = Math.exp(scaled[i] as number);
  }
  const normaliser = Math.log(sum(exponentials));
  for (let i = 0; i < scaled.length; i++) scaled[i] = (scaled[i] as number) - normaliser;
  return scaled;
}

export function softmaxRow(x: ArrayLike<number>, temperature: number): Float64Array {
  return each(logSoftmaxRow(x, temperature), Math.exp);
}

/** ∂/∂x of Σ g·softmax(x/T), from y = softmax(x/T): y(g − Σ g·y)/T. */
export function softmaxBackwardRow(y: ArrayLike<number>, g: ArrayLike<number>, temperature: number): Float64Array {
  const mean = sum(Float64Array.from(y, (value, i) => value * (g[i] as number)));
  return Float64Array.from(y, (value, i) => (value * ((g[i] as number) - mean)) / temperature);
}

/** ∂/∂x of Σ g·logSoftmax(x/T), from y = logSoftmax(x/T): (g − e^y Σ g)/T. */
export function logSoftmaxBackwardRow(y: ArrayLike<number>, g: ArrayLike<number>, temperature: number): Float64Array {
  const total = sum(g);
  return Float64Array.from(y, (value, i) => ((g[i] as number) - Math.exp(value) * total) / temperature);
}

// ---- selection

/** Ids of the k best: NaN above everything, then by value, ties by the lowest id; −0 equals +0. */
export function topKRow(x: ArrayLike<number>, k: number): number[] {
  const rank = (value: number): number => (Number.isNaN(value) ? Infinity : value);
  // Sorting the values alone is far quicker than sorting ids, and leaves few of them: those from the k-th best up.
  const sorted = each(x, (value) => value).sort();
  const least = Number.isNaN(sorted.at(-1)) ? -Infinity : (sorted[Math.max(0, sorted.length - k)] ?? -Infinity);
  const candidates: number[] = [];
  for (let i = 0; i < x.length; i++) if (!((x[i] as number) < least)) candidates.push(i);
  return candidates
    .sort((a, b) => {
      const first = x[a] as number;
      const second = x[b] as number;
      if (Number.isNaN(first) !== Number.isNaN(second)) return Number.isNaN(first) ? -1 : 1;
      return rank(first) === rank(second) ? a - b : rank(second) - rank(first);
    })
    .slice(0, k);
}

export interface Captured {
  indices: number[];
  logProbs: Float64Array;
  tailLogMass: number;
  logSumExp: number;
}

export function captureTopKRow(logits: ArrayLike<number>, k: number, temperature: number): Captured {
  const logProbs = logSoftmaxRow(logits, temperature);
  if (Number.isNaN(logProbs[0]))
    return { indices: Array.from({ length: k }, (_, i) => i), logProbs: new Float64Array(k).fill(NaN), tailLogMass: NaN, logSumExp: NaN };
  const indices = topKRow(logits, k);
  const chosen = new Set(indices);
  return {
    indices,
    logProbs: each(indices, (i) => logProbs[i] as number),
    tailLogMass: logSumExp(logProbs.filter((_, i) => !chosen.has(i))),
    logSumExp: logSumExp(each(logits, (value) => value / temperature)),
  };
}

// ---- divergences

/** φ(d) = e^d − 1 − d, by its series near 0. */
export function phi(d: number): number {
  if (Math.abs(d) > 0.3) return Math.expm1(d) - d;
  let term = (d * d) / 2;
  let total = 0;
  for (let n = 3; n < 24; n++) {
    total += term;
    term *= d / n;
  }
  return total;
}

/** What a divergence is, for the references: over outcomes with log-probabilities of teacher (logP) and student (logQ). */
export interface DivergenceReference {
  name: string;
  /** What the kernel is told beside the name. */
  parameters?: readonly [number, number];
  /** Contribution of one outcome to D. d is ln q − ln p, more exactly than their difference where the caller knows it so. */
  loss(logP: number, logQ: number, d: number): number;
  /** What the mass a = Σp adds to the sum of the contributions. */
  massTerm(a: number): number;
  /** q·∂D/∂q of one outcome; the gradient to the logits follows as that minus q times its sum. */
  pull(logP: number, logQ: number): number;
  /** Does the row take targets whose mass is not 1? */
  anyMass: boolean;
  /** Part of the pull that the rounding of the inputs decides. */
  undecided?(logP: number, logQ: number, d: number): number;
}

/** Σ p ln(p/q) = Σ p·φ(ln q − ln p) + a − 1 (Σq = 1). */
export const forwardKl: DivergenceReference = {
  name: 'forward_kl',
  loss(logP, logQ, d) {
    if (logP === -Infinity) return Math.exp(logQ);
    if (logQ === -Infinity) return Infinity;
    const p = Math.exp(logP);
    // Far apart as q − p − p·d: e^d alone may overflow where p is 0.
    return Math.abs(d) > 0.3 ? Math.exp(logQ) - p - p * d : p * phi(d);
  },
  massTerm: (a) => a - 1,
  pull: (logP) => -Math.exp(logP),
  anyMass: true,
};

export type TargetKind = 'none' | 'logits' | 'log_probs' | 'probs' | 'interpolated' | 'sparse_log_probs' | 'sparse_weights';
export type ResidualKind = 'none' | 'renormalize' | 'renormalize_both' | 'truncate' | 'tail_bucket' | 'sampled' | 'uniform' | 'label';
export type ReductionKind = 'none' | 'sum' | 'mean';
export type DenominatorKind = 'rows' | 'weights' | 'number';

/** One call of the row loss: what the kernel, kdLoss and raw.kdLoss are all given in the tests. */
export interface LossCall {
  rows: number;
  cols: number;
  /** Of a half type: its numbers, each exactly one of that type. */
  student: Float32Array | Float64Array;
  /** What the student is stored in, and the gradient; by default the array's own type. */
  studentType?: HalfType;
  studentStride?: number;
  target: TargetKind;
  teacher?: Float32Array | Float64Array;
  teacherType?: HalfType;
  teacherStride?: number;
  k?: number;
  indices?: Int32Array;
  values?: Float32Array;
  tailLogMass?: Float32Array;
  residual?: ResidualKind;
  /** Captured temperature over the loss temperature, for renormalize. */
  logProbScale?: number;
  labels?: Int32Array;
  rowWeights?: Float32Array;
  temperature?: number;
  rowTemperature?: Float32Array;
  temperatureSquared?: boolean;
  hardWeight?: number;
  labelSmoothing?: number;
  ignoreIndex?: number;
  unlabelledIndex?: number;
  reduction?: ReductionKind;
  denominator?: DenominatorKind;
  denominatorValue?: number;
  divergence?: DivergenceReference;
  /** [rows, cols] with the student's stride: logits the target interpolates from (target 'interpolated'). */
  anchor?: Float32Array | Float64Array;
  interpolation?: number;
  /** The first parameter of the divergence, for each row. */
  rowParameter?: Float32Array;
  assistant?: { alpha: number; lambda: number };
}

export interface LossReference {
  rowLoss: Float64Array;
  loss: number;
  /** [rows, cols], dense, of the reduced loss; for 'none' of the sum of the rows. */
  gradient: Float64Array;
  /** Bounds of DESIGN.md 4.2 for one part in 1e5: multiply by c. */
  rowScale: Float64Array;
  lossScale: number;
  /** Row bound: w·(s/T)·max over the row of max(p, q). */
  gradientScale: Float64Array;
  /** Element bound: the same with the element's own max(p, q), grown for entries deep below the maximum. */
  elementScale: Float64Array;
}

interface RowTerm {
  loss: number;
  gradient: Float64Array;
  lossScale: number;
  /** max(p, q) of each column, over T. */
  size: Float64Array;
  /** The same times what an exponent of that depth loses to rounding. */
  depth: Float64Array;
}

function poisoned(cols: number): RowTerm {
  return {
    loss: NaN,
    gradient: new Float64Array(cols).fill(NaN),
    lossScale: 0,
    size: new Float64Array(cols),
    depth: new Float64Array(cols),
  };
}

// e^a with a rounded to float32 is off by |a|·2^-24 in relative terms: entries deep below the maximum are known less exactly.
function withDepth(size: number): number {
  return size > 0 ? size * Math.max(1, 1 - Math.log(size) / 16) : 0;
}

function unusable(row: ArrayLike<number>): boolean {
  let most = -Infinity;
  for (let i = 0; i < row.length; i++) {
    if (Number.isNaN(row[i]) || row[i] === Infinity) return true;
    most = Math.max(most, row[i] as number);
  }
  return most === -Infinity;
}

// Outcomes of a row: which one each column falls into (−1: none), and both sides' log-probabilities.
interface Outcomes {
  logP: Float64Array;
  logQ: Float64Array;
  /** ln q − ln p where it is known more exactly than from the two logarithms; NaN, or no array at all, where it is not. */
  difference?: Float64Array;
  ofColumn: Int32Array;
  mass: number;
  /** The student's log-probability of each column, where it is not that of all columns. */
  columns?: Float64Array;
}

function denseOutcomes(
  call: LossCall,
  logQ: Float64Array,
  student: ArrayLike<number>,
  teacher: ArrayLike<number>,
  anchor: ArrayLike<number>,
  temperature: number,
): Outcomes | null {
  const cols = call.cols;
  let logP: Float64Array;
  let mass = 1;
  let difference: Float64Array | undefined;
  if (call.target === 'interpolated') {
    if (unusable(teacher) || unusable(anchor)) return null;
    const t = call.interpolation as number;
    const between = each(teacher, (u, i) => (1 - t) * (anchor[i] as number) + t * u);
    if (unusable(between)) return null;
    logP = logSoftmaxRow(between, temperature);
  } else if (call.target === 'logits') {
    if (unusable(teacher)) return null;
    logP = logSoftmaxRow(teacher, temperature);
    // d from the centred logits: exact where student and teacher nearly agree.
    const ms = maximum(student);
    const mt = maximum(teacher);
    const ss = sum(each(student, (value) => Math.exp((value - ms) / temperature)));
    const st = sum(each(teacher, (value) => Math.exp((value - mt) / temperature)));
    const shift = Math.log(ss / st);
    difference = new Float64Array(cols).fill(NaN);
    for (let i = 0; i < cols; i++)
      if (Number.isFinite(student[i]) && Number.isFinite(teacher[i]))
        difference[i] = ((student[i] as number) - ms - ((teacher[i] as number) - mt)) / temperature - shift;
  } else {
    const given = each(teacher, call.target === 'probs' ? Math.log : (value) => value);
    if (unusable(given)) return null;
    if (temperature === 1 && (call.divergence ?? forwardKl).anyMass && call.assistant === undefined) {
      logP = given;
      mass = sum(call.target === 'probs' ? teacher : each(given, Math.exp));
    } else {
      logP = logSoftmaxRow(given, temperature);
    }
  }
  return { logP, logQ, difference, ofColumn: countUp(cols), mass };
}

function maximum(values: ArrayLike<number>): number {
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i] as number);
  return most;
}

function sparseOutcomes(call: LossCall, logQ: Float64Array, row: number): Outcomes | null {
  const k = call.k ?? 0;
  const cols = call.cols;
  const ids: number[] = [];
  let stored: number[] = [];
  for (let j = 0; j < k; j++) {
    const id = (call.indices as Int32Array)[row * k + j] as number;
    const value = (call.values as Float32Array)[row * k + j] as number;
    if (id === -1) continue;
    if (call.target === 'sparse_weights') {
      if (!(value >= 0 && value < Infinity) || id < 0 || id >= cols) return null;
      const same = ids.indexOf(id);
      if (same < 0) {
        ids.push(id);
        stored.push(Math.log(value));
      } else stored[same] = Math.log(Math.exp(stored[same] as number) + value);
      continue;
    }
    if (Number.isNaN(value) || value === Infinity) return null;
    if (id < 0 || id >= cols || ids.includes(id)) return null;
    ids.push(id);
    stored.push(value);
  }
  const residual = call.residual;
  const renormalizes = residual === 'renormalize' || residual === 'renormalize_both';
  const scale = renormalizes ? (call.logProbScale ?? 1) : 1;
  stored = stored.map((value) => value * scale);
  if (renormalizes) {
    const normaliser = logSumExp(stored);
    stored = stored.map((value) => value - normaliser);
    if (stored.length === 0 || stored.some(Number.isNaN)) return null;
  }
  if (residual === 'renormalize_both') {
    const own = logSumExp(ids.map((id) => logQ[id] as number));
    if (own === -Infinity) return null;
    const columns = new Float64Array(cols).fill(-Infinity);
    for (const id of ids) columns[id] = (logQ[id] as number) - own;
    const ofColumn = new Int32Array(cols).fill(-1);
    ids.forEach((id, j) => (ofColumn[id] = j));
    return {
      logP: Float64Array.from(stored),
      logQ: each(ids, (id) => columns[id] as number),
      ofColumn,
      mass: 1,
      columns,
    };
  }
  let mass = renormalizes ? 1 : sum(stored.map(Math.exp));
  let tail = call.tailLogMass?.[row];
  if (residual === 'tail_bucket' || residual === 'uniform' || residual === 'label') {
    if (Number.isNaN(tail) || tail === Infinity) return null;
    if (tail === undefined) {
      const kept = logSumExp(stored);
      // With every column listed, what is missing to 1 is rounding: there is nowhere for it to be.
      tail = kept >= 0 || ids.length === cols ? -Infinity : Math.log(-Math.expm1(kept));
    }
  }
  if (residual === 'tail_bucket') {
    const bucket = tail as number;
    const ofColumn = new Int32Array(cols).fill(ids.length);
    ids.forEach((id, j) => (ofColumn[id] = j));
    const rest: number[] = [];
    for (let i = 0; i < cols; i++) if (ofColumn[i] === ids.length) rest.push(logQ[i] as number);
    return {
      logP: Float64Array.of(...stored, bucket),
      logQ: Float64Array.of(...ids.map((id) => logQ[id] as number), logSumExp(rest)),
      ofColumn,
      mass: mass + Math.exp(bucket),
    };
  }
  const logP = new Float64Array(cols).fill(residual === 'uniform' ? (tail as number) - Math.log(cols - ids.length) : -Infinity);
  ids.forEach((id, j) => (logP[id] = stored[j] as number));
  if (residual === 'uniform' && ids.length < cols) mass += Math.exp(tail as number);
  if (residual === 'label') {
    const label = (call.labels as Int32Array)[row] as number;
    if (label < 0 || label >= cols) return null;
    logP[label] = logSumExp([logP[label] as number, tail as number]);
    mass += Math.exp(tail as number);
  }
  return { logP, logQ, ofColumn: countUp(cols), mass };
}

// ln q − ln p of each outcome.
function differences(logP: Float64Array, logQ: Float64Array, known?: Float64Array): Float64Array {
  const out = new Float64Array(logP.length);
  for (let i = 0; i < out.length; i++) {
    const exact = known === undefined ? NaN : (known[i] as number);
    out[i] = Number.isNaN(exact) ? (logQ[i] as number) - (logP[i] as number) : exact;
  }
  return out;
}

// D(p, r) with AMiD's assistant r, and its gradient to the student's logits: METHODS.md section 3, INTERP.
function assistedTerm(
  call: LossCall,
  { alpha, lambda }: { alpha: number; lambda: number },
  { logP, logQ, difference, ofColumn }: Outcomes,
  columns: Float64Array,
  temperature: number,
): RowTerm {
  const formula = call.divergence ?? forwardKl;
  const power = (1 - alpha) / 2;
  const ratio = differences(logP, logQ, difference);
  // ln(m/p), where p > 0.
  const rises = each(ratio, (d) => {
    if (lambda === 0) return d;
    if (lambda === 1) return 0;
    if (power === 0) return (1 - lambda) * d;
    const bent = power * d;
    if (Math.abs(bent) < 1) return Math.log1p((1 - lambda) * Math.expm1(bent)) / power;
    if (bent > 30) return (bent + Math.log(1 - lambda) + Math.log1p((lambda / (1 - lambda)) * Math.exp(-bent))) / power;
    return Math.log(lambda + (1 - lambda) * Math.exp(bent)) / power;
  });
  const alone = lambda === 0 ? 0 : power > 0 ? Math.log(1 - lambda) / power : -Infinity;
  const logM = each(logP, (p, i) => (p === -Infinity ? (logQ[i] as number) + alone : p + (rises[i] as number)));
  const logZ = logSumExp(logM);
  const logR = each(logM, (m) => m - logZ);
  const apart = each(logP, (p, i) => (p === -Infinity ? (logR[i] === -Infinity ? 0 : Infinity) : (rises[i] as number) - logZ));
  const loss = sum(each(logP, (p, i) => formula.loss(p, logR[i] as number, apart[i] as number)));
  const pulls = each(logP, (p, i) => formula.pull(p, logR[i] as number));
  const total = sum(pulls);
  const undecided = each(logP, (p, i) => formula.undecided?.(p, logR[i] as number, apart[i] as number) ?? 0);
  const allUndecided = sum(undecided);
  const omegas = each(logP, (p, i) => {
    if (logQ[i] === -Infinity) return 0;
    if (lambda === 0 || lambda === 1) return 1 - lambda;
    if (power === 0) return 1 - lambda;
    return 1 / (1 + (lambda / (1 - lambda)) * Math.exp(-power * (p === -Infinity ? Infinity : (ratio[i] as number))));
  });
  const bent = each(pulls, (pull, i) => (omegas[i] === 0 ? 0 : (omegas[i] as number) * (pull - Math.exp(logR[i] as number) * total)));
  const all = sum(bent);
  const { cols } = call;
  const [gradient, size, depth] = [new Float64Array(cols), new Float64Array(cols), new Float64Array(cols)];
  for (let i = 0; i < cols; i++) {
    const o = ofColumn[i] as number;
    if (o < 0) continue;
    const share = logQ[o] === columns[i] ? 1 : Math.exp((columns[i] as number) - (logQ[o] as number));
    const q = Math.exp(columns[i] as number);
    gradient[i] = (share * (bent[o] as number) - q * all) / temperature;
    const largest = Math.max(Math.exp(logP[o] as number), Math.exp(logR[o] as number)) * share;
    const unknown = (share * (undecided[o] as number) + Math.exp(logR[o] as number) * share * allUndecided + q * allUndecided) * 1e5;
    size[i] = (Math.max(largest, q) + unknown) / temperature;
    depth[i] = (withDepth(Math.max(largest, q, Math.abs(share * (pulls[o] as number)) || 0)) + unknown) / temperature;
  }
  if (loss === Infinity) gradient.fill(NaN);
  return { loss, gradient, lossScale: Math.max(Math.abs(loss), 1e-3), size, depth };
}

// D of one row at T and its gradient to the logits (with 1/T, without T²).
function divergenceTerm(call: LossCall, student: ArrayLike<number>, row: number, temperature: number): RowTerm {
  const cols = call.cols;
  const formula = call.divergence ?? forwardKl;
  const logQ = logSoftmaxRow(student, temperature);
  const teacherStride = call.teacherStride ?? cols;
  const outcomes =
    call.target === 'sparse_log_probs' || call.target === 'sparse_weights'
      ? sparseOutcomes(call, logQ, row)
      : denseOutcomes(
          call,
          logQ,
          student,
          (call.teacher as Float32Array).subarray(row * teacherStride, row * teacherStride + cols),
          (call.anchor ?? call.student).subarray(row * (call.studentStride ?? cols), row * (call.studentStride ?? cols) + cols),
          temperature,
        );
  if (outcomes === null) return poisoned(cols);
  const { logP, logQ: logQs, difference, ofColumn, mass, columns = logQ } = outcomes;
  if (call.assistant !== undefined) return assistedTerm(call, call.assistant, outcomes, columns, temperature);
  const apart = differences(logP, logQs, difference);
  const terms = each(logP, (p, i) => formula.loss(p, logQs[i] as number, apart[i] as number));
  const loss = sum(terms) + formula.massTerm(mass);
  const pulls = each(logP, (p, i) => formula.pull(p, logQs[i] as number));
  // Σ of the pulls t is −a; a summed from the outcomes would lose the digits that mass keeps.
  const total = formula.anyMass ? -mass : sum(pulls);
  const undecided = each(logP, (p, i) => formula.undecided?.(p, logQs[i] as number, apart[i] as number) ?? 0);
  const allUndecided = sum(undecided);
  const gradient = new Float64Array(cols);
  const size = new Float64Array(cols);
  const depth = new Float64Array(cols);
  for (let i = 0; i < cols; i++) {
    const outcome = ofColumn[i] as number;
    if (outcome < 0) continue;
    const q = Math.exp(columns[i] as number);
    const share = logQs[outcome] === columns[i] ? 1 : Math.exp((columns[i] as number) - (logQs[outcome] as number));
    const p = Math.exp(logP[outcome] as number) * share;
    gradient[i] = (share * (pulls[outcome] as number) - q * total) / temperature;
    const larger = Math.max(p, q * Math.max(1, mass));
    // Scales are multiplied by 1e-5 of DESIGN.md 4.2; what nobody can know counts in full.
    const unknown = (share * (undecided[outcome] as number) + q * allUndecided) * 1e5;
    size[i] = (larger + unknown) / temperature;
    // q·d is known to the precision of d.
    depth[i] = (withDepth(Math.max(larger, Math.abs(share * (pulls[outcome] as number)) || 0)) + unknown) / temperature;
  }
  // An infinite loss has no gradient, except where each outcome knows its own.
  if (loss === Infinity && !formula.anyMass) gradient.fill(NaN);
  // Given probabilities of mass a ≠ 1: a − 1 may cancel the sum of the terms, which is then what float32 inputs are measured against.
  const given = call.target === 'probs' || call.target === 'log_probs';
  const scale = Math.max(Math.abs(loss), given ? Math.abs(loss - formula.massTerm(mass)) : 0, 1e-3);
  return { loss, gradient, lossScale: scale, size, depth };
}

// Cross-entropy of one row at T = 1 against the smoothed label (1−ε)e_y + ε/V.
function hardTerm(call: LossCall, student: ArrayLike<number>, label: number): RowTerm {
  const cols = call.cols;
  if (label < 0 || label >= cols) return poisoned(cols);
  const epsilon = call.labelSmoothing ?? 0;
  const logQ = logSoftmaxRow(student, 1);
  const target = (i: number): number => (i === label ? 1 - epsilon : 0) + epsilon / cols;
  const terms = new Float64Array(cols);
  const gradient = new Float64Array(cols);
  const size = new Float64Array(cols);
  const depth = new Float64Array(cols);
  for (let i = 0; i < cols; i++) {
    const t = target(i);
    const q = Math.exp(logQ[i] as number);
    terms[i] = t === 0 ? 0 : -t * (logQ[i] as number);
    // q − 1 at the label without cancellation.
    gradient[i] = i === label && epsilon === 0 ? Math.expm1(logQ[i] as number) : q - t;
    size[i] = Math.max(q, t);
    depth[i] = withDepth(size[i] as number);
  }
  const loss = sum(terms);
  return { loss, gradient, lossScale: Math.max(Math.abs(loss), 1e-3), size, depth };
}

/** The row loss of DESIGN.md 4.1 with its gradient, and the scales its errors are measured against. */
export function rowLossReference(call: LossCall): LossReference {
  const { rows, cols } = call;
  const hardWeight = call.hardWeight ?? 0;
  const reduction = call.reduction ?? 'none';
  const rowLoss = new Float64Array(rows);
  const gradient = new Float64Array(rows * cols);
  const rowScale = new Float64Array(rows);
  const gradientScale = new Float64Array(rows * cols);
  const elementScale = new Float64Array(rows * cols);
  const weights: number[] = [];
  for (let r = 0; r < rows; r++) {
    const label = call.labels?.[r];
    if (label !== undefined && label === (call.ignoreIndex ?? -100)) continue;
    const weight = call.rowWeights?.[r] ?? 1;
    weights.push(weight);
    if (weight === 0) continue;
    const temperature = call.rowTemperature?.[r] ?? call.temperature ?? 1;
    const square = (call.temperatureSquared ?? true) ? temperature * temperature : 1;
    const studentStride = call.studentStride ?? cols;
    const student = call.student.subarray(r * studentStride, r * studentStride + cols);
    const parts: [number, RowTerm][] = [];
    const labelled = label !== undefined && label !== call.unlabelledIndex;
    if (unusable(student)) {
      parts.push([1, poisoned(cols)]);
    } else {
      if (hardWeight < 1) parts.push([(1 - hardWeight) * square, divergenceTerm(call, student, r, temperature)]);
      if (hardWeight > 0 && labelled) parts.push([hardWeight, hardTerm(call, student, label)]);
    }
    for (const [factor, term] of parts) {
      rowLoss[r] = (rowLoss[r] as number) + weight * factor * term.loss;
      rowScale[r] = (rowScale[r] as number) + Math.abs(weight) * factor * term.lossScale;
      let most = 0;
      for (let i = 0; i < cols; i++) {
        gradient[r * cols + i] = (gradient[r * cols + i] as number) + weight * factor * (term.gradient[i] as number);
        const scale = Math.abs(weight) * factor;
        elementScale[r * cols + i] = (elementScale[r * cols + i] as number) + scale * (term.depth[i] as number);
        most = Math.max(most, scale * (term.size[i] as number));
      }
      for (let i = 0; i < cols; i++) gradientScale[r * cols + i] = (gradientScale[r * cols + i] as number) + most;
    }
  }
  let coefficient = 1;
  if (reduction === 'mean') {
    const kind = call.denominator ?? 'rows';
    const by = kind === 'rows' ? weights.length : kind === 'weights' ? sum(weights) : (call.denominatorValue ?? 1);
    coefficient = by === 0 ? 0 : 1 / by;
  }
  const times = (values: Float64Array): Float64Array =>
    coefficient === 0 ? new Float64Array(values.length) : each(values, (value) => value * coefficient);
  return {
    rowLoss,
    loss: coefficient === 0 ? 0 : sum(rowLoss) * coefficient,
    gradient: times(gradient),
    rowScale,
    lossScale: sum(rowScale) * Math.abs(coefficient),
    gradientScale: each(times(gradientScale), Math.abs),
    elementScale: each(times(elementScale), Math.abs),
  };
}

// ---- what a small student needs

export interface Product {
  c: Float64Array;
  /** Σ |a||b|: what the rounding of a product is measured against. */
  size: Float64Array;
}

/** op(a)·op(b), [m, n]; a is [m, k] or its transpose [k, m], b [k, n] or [n, k]. */
export function matmul(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  m: number,
  n: number,
  k: number,
  transposeA: boolean,
  transposeB: boolean,
): Product {
  const c = new Float64Array(m * n);
  const size = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let total = 0;
      let magnitude = 0;
      for (let l = 0; l < k; l++) {
        const product = (a[transposeA ? l * m + i : i * k + l] as number) * (b[transposeB ? j * k + l : l * n + j] as number);
        total += product;
        magnitude += Math.abs(product);
      }
      c[i * n + j] = total;
      size[i * n + j] = magnitude;
    }
  return { c, size };
}

export interface UnaryReference {
  forward(x: number, parameter: number): number;
  /** dy/dx from x and y. */
  slope(x: number, y: number, parameter: number): number;
  /** Where inputs are drawn from. */
  domain: [number, number];
}

/** The normal distribution's mass beyond z >= 0: a series of positive terms for small z, a continued fraction for large. */
export function normalTail(z: number): number {
  if (!(z >= 0)) return NaN;
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z > 3.5) {
    let fraction = z;
    for (let n = 200; n > 0; n--) fraction = z + n / fraction;
    return z === Infinity ? 0 : density / fraction;
  }
  let term = z;
  let sum = z;
  for (let n = 1; n < 100; n++) {
    term *= (z * z) / (2 * n + 1);
    sum += term;
  }
  return 0.5 - density * sum;
}

export const unary: Record<string, UnaryReference> = {
  copy: { forward: (x) => x, slope: () => 1, domain: [-5, 5] },
  neg: { forward: (x) => -x, slope: () => -1, domain: [-5, 5] },
  relu: { forward: (x) => (Number.isNaN(x) ? NaN : Math.max(x, 0)), slope: (x) => (x > 0 ? 1 : 0), domain: [-5, 5] },
  exp: { forward: Math.exp, slope: (_, y) => y, domain: [-20, 20] },
  log: { forward: Math.log, slope: (x) => 1 / x, domain: [1e-3, 100] },
  square: { forward: (x) => x * x, slope: (x) => 2 * x, domain: [-5, 5] },
  sqrt: { forward: Math.sqrt, slope: (_, y) => 0.5 / y, domain: [1e-3, 100] },
  abs: { forward: Math.abs, slope: (x) => Math.sign(x), domain: [-5, 5] },
  tanh: { forward: Math.tanh, slope: (x) => 1 / Math.cosh(x) ** 2, domain: [-6, 6] },
  sigmoid: {
    forward: (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x))),
    slope: (_, y) => y * (1 - y),
    domain: [-20, 20],
  },
  scale: { forward: (x, parameter) => x * parameter, slope: (_x, _y, parameter) => parameter, domain: [-5, 5] },
  add_scalar: { forward: (x, parameter) => x + parameter, slope: () => 1, domain: [-5, 5] },
  expm1: { forward: Math.expm1, slope: (_, y) => y + 1, domain: [-20, 20] },
  log1p: { forward: Math.log1p, slope: (x) => 1 / (1 + x), domain: [-0.9, 100] },
  softplus: {
    forward: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    slope: (x) => 1 / (1 + Math.exp(-x)),
    domain: [-20, 20],
  },
  silu: {
    forward: (x) => (x === -Infinity ? 0 : x / (1 + Math.exp(-x))),
    slope: (x) => (1 + x * (1 - 1 / (1 + Math.exp(-x)))) / (1 + Math.exp(-x)),
    domain: [-20, 20],
  },
  gelu: {
    forward: (x) => (x < 0 ? (x === -Infinity ? 0 : x * normalTail(-x)) : x * (1 - normalTail(x))),
    slope: (x) => (x < 0 ? normalTail(-x) : 1 - normalTail(x)) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
    domain: [-12, 12],
  },
  finite_or_zero: { forward: (x) => (Number.isFinite(x) ? x : 0), slope: () => 1, domain: [-5, 5] },
};

export const binary: Record<string, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  mul0: (a, b) => (b === 0 ? 0 : a * b),
  less: (a, b) => (a < b ? 1 : 0),
  log_add_exp: (a, b) => (a === b ? a + Math.LN2 : Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)))),
};

const largest = (values: number[], better: (a: number, b: number) => boolean, empty: number): number =>
  values.reduce((best, value) => (Number.isNaN(best) || Number.isNaN(value) ? NaN : better(value, best) ? value : best), empty);

export const reductions: Record<string, (values: number[]) => number> = {
  sum: (values) => sum(values),
  mean: (values) => sum(values) / values.length,
  sum_squares: (values) => sum(values.map((value) => value * value)),
  max: (values) => largest(values, (a, b) => a > b, -Infinity),
  min: (values) => largest(values, (a, b) => a < b, Infinity),
};

/** One output block of Philox4x32-10 (Salmon et al. 2011). */
export function philox(counter: [number, number, number, number], key: [number, number]): [number, number, number, number] {
  const high = (a: number, b: number): number => Number((BigInt(a >>> 0) * BigInt(b >>> 0)) >> 32n);
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const h0 = high(0xd2511f53, c0);
    const l0 = Math.imul(0xd2511f53, c0) >>> 0;
    const h1 = high(0xcd9e8d57, c2);
    const l1 = Math.imul(0xcd9e8d57, c2) >>> 0;
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Uniform of element i: 24 bits of word i mod 4 of counter floor(i/4), keyed by the seed. */
export function counterUniform(seed: number, element: number): number {
  const counter = Math.floor(element / 4);
  const words = philox([counter >>> 0, Math.floor(counter / 2 ** 32) >>> 0, 0, 0], [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0]);
  return ((words[element % 4] as number) >>> 8) / 2 ** 24;
}

export interface SgdOptions {
  learningRate: number;
  momentum: number;
  weightDecay: number;
  nesterov: boolean;
  gradientScale: number;
}

/** One step on one element; returns [parameter, momentum buffer]. */
export function sgd(p: number, gradient: number, v: number, mask: number, o: SgdOptions): [number, number] {
  if (mask === 0) return [0, 0];
  const g = gradient * o.gradientScale + o.weightDecay * p;
  const next = o.momentum * v + g;
  return [p - o.learningRate * (o.nesterov ? g + o.momentum * next : next), next];
}

export interface AdamWOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  step: number;
  gradientScale: number;
}

/** One step on one element; returns [parameter, first moment, second moment]. */
export function adamw(p: number, gradient: number, m: number, v: number, mask: number, o: AdamWOptions): [number, number, number] {
  if (mask === 0) return [0, 0, 0];
  const g = gradient * o.gradientScale;
  const first = o.beta1 * m + (1 - o.beta1) * g;
  const second = o.beta2 * v + (1 - o.beta2) * g * g;
  const mHat = first / (1 - o.beta1 ** o.step);
  const vHat = second / (1 - o.beta2 ** o.step);
  return [p - o.learningRate * (mHat / (Math.sqrt(vHat) + o.epsilon) + o.weightDecay * p), first, second];
}

export interface LionOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  weightDecay: number;
  gradientScale: number;
}

/** One step on one element; returns [parameter, momentum]. */
export function lion(p: number, gradient: number, m: number, mask: number, o: LionOptions): [number, number] {
  if (mask === 0) return [0, 0];
  const g = gradient * o.gradientScale;
  const sign = Math.sign(o.beta1 * m + (1 - o.beta1) * g);
  return [p - o.learningRate * (sign + o.weightDecay * p), o.beta2 * m + (1 - o.beta2) * g];
}
