// `npm run bench:sampling`: what a sampled target costs in error and bytes against top-k of the same size, on peaked and flat teachers.
import { pathToFileURL } from 'node:url';
import { captureTopK, sampleTarget, tensor, tidy, type SampleMethod, type SparseTarget } from '../src/index.js';

const METHODS: SampleMethod[] = ['with_replacement', 'race', 'head_tail'];

/** Logits −s·ln(rank), the ranks dealt out over the ids by a multiplicative step. */
export function zipf(cols: number, exponent: number, temperature: number): Float32Array {
  const x = new Float32Array(cols);
  let step = Math.floor(cols * 0.618) | 1;
  while (divisor(step, cols) !== 1) step += 2;
  for (let i = 0; i < cols; i += 1) x[(i * step) % cols] = (-exponent * Math.log(i + 1)) / temperature;
  return x;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

function softmax(x: Float32Array): Float64Array {
  const max = x.reduce((most, value) => Math.max(most, value), -Infinity);
  const e = Float64Array.from(x, (value) => Math.exp(value - max));
  const sum = e.reduce((total, value) => total + value, 0);
  return e.map((value) => value / sum);
}

/** Different ids that N draws with replacement find on average: Σ 1 − (1 − p)^N. */
export function equalSize(p: Float64Array, draws: number): number {
  return Math.round(p.reduce((sum, value) => sum - Math.expm1(draws * Math.log1p(-value)), 0));
}

/** Different ids of head and tail on average. */
function headTailSize(p: Float64Array, draws: number): number {
  const head = p.filter((value) => value * draws >= 1);
  const tail = 1 - head.reduce((sum, value) => sum + value, 0);
  if (head.length === draws) return draws;
  return p.reduce(
    (sum, value) => (value * draws >= 1 ? sum : sum - Math.expm1((draws - head.length) * Math.log1p(-value / tail))),
    head.length,
  );
}

/** Degrees between two vectors. */
export function angle(a: Float64Array, b: Float64Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    ab += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return (Math.acos(Math.min(1, Math.max(-1, ab / Math.sqrt(aa * bb)))) * 180) / Math.PI;
}

export function fullGradient(q: Float64Array, p: Float64Array): Float64Array {
  return q.map((value, i) => value - p[i]!);
}

/** Gradient of soft cross-entropy to a target of any mass. */
export function sparseGradient(q: Float64Array, target: Float64Array): Float64Array {
  const mass = target.reduce((sum, value) => sum + value, 0);
  return q.map((value, i) => mass * value - target[i]!);
}

function norm(a: Float64Array): number {
  return Math.sqrt(a.reduce((sum, value) => sum + value * value, 0));
}

interface Line {
  method: string;
  draws: number;
  ids: number;
  error: number;
  bias: number;
  rowAngle: number;
  batchAngle: number;
  batchNorm: number;
  packed: number;
  file: number;
}

function measure(
  method: string,
  draws: number,
  p: Float64Array,
  q: Float64Array,
  targets: Iterable<Float64Array>,
  file: number,
  bytes: (ids: number) => number,
): Line {
  const full = fullGradient(q, p);
  const mean = new Float64Array(p.length);
  let [count, ids, error, rowAngle] = [0, 0, 0, 0];
  for (const target of targets) {
    count += 1;
    target.forEach((value, i) => {
      mean[i]! += value;
      error += (value - p[i]!) ** 2;
      if (value !== 0) ids += 1;
    });
    rowAngle += angle(sparseGradient(q, target), full);
  }
  const average = mean.map((value) => value / count);
  const gradient = sparseGradient(q, average);
  return {
    method,
    draws,
    ids: ids / count,
    error: error / count,
    bias: average.reduce((sum, value, i) => sum + Math.abs(value - p[i]!), 0),
    rowAngle: rowAngle / count,
    batchAngle: angle(gradient, full),
    batchNorm: norm(gradient) / norm(full),
    packed: bytes(ids / count),
    file,
  };
}

function* rowsOf(target: SparseTarget): Generator<Float64Array> {
  const ids = target.indices.data as Int32Array;
  const weights = target.weights!.data as Float32Array;
  for (let begin = 0; begin < ids.length; begin += target.k) {
    const row = new Float64Array(target.cols!);
    for (let j = begin; j < begin + target.k; j += 1) if (ids[j] !== -1) row[ids[j]!]! += weights[j]!;
    yield row;
  }
}

export interface SamplingBench {
  teacher: string;
  entropy: number;
  lines: Line[];
}

/** One teacher: N draws with replacement, and the others at the number of different ids that these find. */
export function benchTeacher(cols: number, exponent: number, temperature: number, draws: number, trials: number): SamplingBench {
  const x = zipf(cols, exponent, temperature);
  const p = softmax(x);
  // A student that has learnt the shape and is still off by 0.4 nat (root mean square) at every id, up or down.
  const q = softmax(x.map((value, i) => value + 0.6 * Math.sin(12.9898 * i)));
  const size = equalSize(p, draws);
  let headTailDraws = size;
  while (headTailSize(p, headTailDraws) < size) headTailDraws += 1;
  const drawsOf: Record<SampleMethod, number> = { with_replacement: draws, race: size, head_tail: headTailDraws };
  const lines = METHODS.map((method) =>
    tidy(() => {
      const logits = new Float32Array(trials * cols);
      for (let r = 0; r < trials; r += 1) logits.set(x, r * cols);
      const count = drawsOf[method];
      const target = sampleTarget(tensor(logits, { shape: [trials, cols] }), count, { method, seed: 2503 });
      // 17 bits of id and 7 of a count make 3 bytes; a float16 weight in place of the count 5, rounded up.
      const heads = p.filter((value) => value * count >= 1).length;
      const bytes = (ids: number): number => (method === 'race' ? 5 * ids : 3 * ids + (method === 'head_tail' ? 2 * heads : 0));
      return measure(method, count, p, q, rowsOf(target), 8 * target.k, bytes);
    }),
  );
  const top = captureTopK(tensor(x, { shape: [1, cols] }), size);
  const kept = new Float64Array(cols);
  const logs = top.logProbs!.data as Float32Array;
  const mass = logs.reduce((sum, value) => sum + Math.exp(value), 0);
  (top.indices.data as Int32Array).forEach((id, j) => (kept[id] = Math.exp(logs[j]!) / mass));
  lines.push(measure('top-k, renormalised', size, p, q, [kept], 8 * size, (ids) => 5 * ids));
  return {
    teacher: `Zipf ${exponent.toFixed(1)}, T ${temperature}`,
    entropy: -p.reduce((sum, value) => sum + value * Math.log(value), 0),
    lines,
  };
}

export function formatSampling({ teacher, entropy, lines }: SamplingBench): string {
  const head = ['method', 'draws', 'ids', 'E|w-p|^2', '|E[w]-p|', 'angle row', 'angle batch', 'norm', 'bytes', 'in file'];
  const table = lines.map((line) => [
    line.method,
    String(line.draws),
    line.ids.toFixed(1),
    line.error.toExponential(2),
    line.bias.toFixed(3),
    line.rowAngle.toFixed(1),
    line.batchAngle.toFixed(1),
    line.batchNorm.toFixed(2),
    line.packed.toFixed(0),
    String(line.file),
  ]);
  const text = [head, ...table].map((cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(20) : cell.padStart(12))).join(''));
  return [`${teacher}: entropy ${entropy.toFixed(2)} nat`, ...text, ''].join('\n');
}

/** The teachers of the estimator check in the reference notes. */
export const TEACHERS = [
  [1, 1],
  [1, 0.6],
  [1.3, 0.6],
] as const;

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [exponent, temperature] of TEACHERS) console.log(formatSampling(benchTeacher(32_000, exponent, temperature, 50, 300)));
}
