// What each kernel loads and stores on the emulated CUDA device, beside the least it could, and what that would take on a card: the traffic audit's table.
import { native } from '../src/native.js';
import {
  captureTopK,
  interpolateTarget,
  kdLoss,
  linearKdLoss,
  sampleTarget,
  softmax,
  sparseTarget,
  tensor,
  tidy,
  type DType,
  type SampleMethod,
  type Tensor,
} from '../src/index.js';
import { divergenceNames, type DivergenceName } from '../src/losses/divergences.js';
import { normals } from './random.js';

/** One line: a kernel on one shape. */
export interface AuditLine {
  what: string;
  dtype: DType;
  rows: number;
  cols: number;
  /** Bytes for each element of the row: what was loaded and stored, and the least. */
  counted: number;
  least: number;
  work: Work;
}

/** What a row costs beside its bytes, and how it is dealt out: counted, too. */
export interface Work {
  /** Exponentials and logarithms of float, for each element. */
  exponentials: number;
  /** Barriers that each block passes, and each cluster, for each row. */
  blockBarriers: number;
  clusterBarriers: number;
  block: number;
  cluster: number;
  sharedBytes: number;
  /** Instructions for each element, where they may be what holds a row up: counted by hand in what nvcc makes for sm_90. */
  instructions?: number;
  /** Counted there, too: what goes to the unit of exponentials, logarithms and reciprocals. nvcc shares what loss and slope both ask for. */
  special?: number;
}

// Of a column of a dense loss with its gradient: ex2, lg2 and reciprocals, and all instructions. Counted in the PTX that nvcc 13.0 makes for sm_90a
// of bfloat16 rows on clusters, along each walk's path for four columns without a new maximum; moves and signs, which take no instruction, left out.
const COLUMN: Partial<Record<DivergenceName, [special: number, instructions: number]>> = {
  forward_kl: [4, 64],
  reverse_kl: [5, 89],
  jensen_shannon: [8, 192],
  skew_forward_kl: [9, 161],
  skew_reverse_kl: [10, 175],
  soft_cross_entropy: [4, 72],
  squared_hellinger: [6, 117],
  symmetric_kl: [6, 111],
  total_variation: [5, 116],
};

const K = 64;
const DRAWS = 50;
const WIDTH = { float32: 4, bfloat16: 2, float16: 2 } as Record<DType, number>;

/** Few rows of short ones, one of a long one: a row's traffic knows nothing of the others. */
function rowsOf(cols: number): number {
  return Math.max(1, Math.min(8, Math.floor(16_384 / cols)));
}

/** Runs `fn` and gives the bytes for each element that kernels whose name matches moved, and what else they did. */
function moved(kernels: RegExp, rows: number, cols: number, fn: () => unknown): { counted: number; work: Work } {
  const { emulator } = native();
  if (emulator === undefined) throw new Error('the audit needs the emulated device: LIMBECK_EMULATE_CUDA=1');
  emulator.resetAudit();
  tidy(fn);
  const found = emulator.audit().filter(({ kernel }) => kernels.test(kernel));
  if (found.length === 0) throw new Error(`no kernel of ${String(kernels)} ran`);
  const sum = (of: (one: (typeof found)[number]) => number): number => found.reduce((total, one) => total + of(one), 0);
  const { block, cluster, sharedBytes } = found.at(-1)!;
  return {
    counted: sum(({ bytesLoaded, bytesStored }) => bytesLoaded + bytesStored) / (rows * cols),
    work: {
      exponentials: sum(({ exponentials }) => exponentials) / (rows * cols),
      blockBarriers: sum(({ blockBarriers }) => blockBarriers) / (rows * cluster),
      clusterBarriers: sum(({ clusterBarriers }) => clusterBarriers) / rows,
      block,
      cluster,
      sharedBytes,
    },
  };
}

function logits(rows: number, cols: number, dtype: DType, seed: number, requiresGrad = false): Tensor {
  const x = tensor(normals(seed, rows * cols, 2), { shape: [rows, cols], device: 'cuda' }).cast(dtype);
  x.requiresGrad = requiresGrad;
  return x;
}

/** Loads of single threads in the large products of linearKdLoss: how wide they are shows in how many there are. */
export function linearLoads(cols: number, dtype: DType, { interpolated = false } = {}): number {
  const [rows, inputs] = [264, 136];
  const { emulator } = native();
  if (emulator === undefined) throw new Error('the audit needs the emulated device: LIMBECK_EMULATE_CUDA=1');
  emulator.resetAudit();
  tidy(() => {
    const [hidden, weight] = [logits(rows, inputs, dtype, 1, true), logits(cols, inputs, dtype, 2, true)];
    const teacher = logits(rows, cols, dtype, 3);
    const target = interpolated ? interpolateTarget(logits(rows, cols, dtype, 4), teacher, { t: 0.4 }) : teacher;
    linearKdLoss(hidden, weight, target).backward();
  });
  const found = emulator.audit().filter(({ kernel }) => /^matmul_(halves|floats)/.test(kernel));
  const loads = found.reduce((total, one) => total + one.loads, 0);
  if (loads === 0) throw new Error('no large product ran');
  return loads;
}

/** A loss with or without its gradient. `k` > 0: against a sparse target. */
export function auditLoss(divergence: DivergenceName, cols: number, dtype: DType, { k = 0, gradient = true } = {}): AuditLine {
  const rows = rowsOf(cols);
  const found = moved(/^divergence_(dense|sparse)/, rows, cols, () => {
    const student = logits(rows, cols, dtype, 1, gradient);
    if (k === 0) return kdLoss(student, logits(rows, cols, dtype, 2), { divergence, reduction: 'none' });
    const indices = Int32Array.from({ length: rows * k }, (_, i) => Math.floor(((i % k) * cols) / k));
    const target = sparseTarget({
      indices: tensor(indices, { shape: [rows, k], device: 'cuda' }),
      logProbs: tensor(new Float32Array(rows * k).fill(Math.log(0.9 / k)), { shape: [rows, k], device: 'cuda' }),
      cols,
    });
    return kdLoss(student, target, { divergence, residual: 'tail_bucket', reduction: 'none' });
  });
  const tensors = k === 0 ? (gradient ? 3 : 2) : gradient ? 2 : 1;
  // A float32 loss for each row; of a sparse target the ids, the log-probabilities and the tail.
  const beside = 4 + (k === 0 ? 0 : 8 * k + 4);
  const what = `${k === 0 ? 'dense' : `sparse, k = ${k}`} ${divergence}${gradient ? '' : ', loss alone'}`;
  const known = k === 0 && gradient ? COLUMN[divergence] : undefined;
  if (known) [found.work.special, found.work.instructions] = known;
  return { what, dtype, rows, cols, ...found, least: tensors * WIDTH[dtype] + beside / cols };
}

/** captureTopK: the logits, and k ids and log-probabilities, the tail and the log-sum-exp. */
export function auditCapture(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const found = moved(/^capture_top_k/, rows, cols, () => captureTopK(logits(rows, cols, dtype, 3), K));
  return { what: `captureTopK, k = ${K}`, dtype, rows, cols, ...found, least: WIDTH[dtype] + (8 * K + 8) / cols };
}

/** sampleTarget: the logits, and ids and weights. */
export function auditSample(cols: number, dtype: DType, method: SampleMethod = 'with_replacement'): AuditLine {
  const rows = rowsOf(cols);
  const { counted, work } = moved(/^sample/, rows, cols, () => sampleTarget(logits(rows, cols, dtype, 4), DRAWS, { method, seed: 1 }));
  // To look for the maximum 5; a mass 21, its sums and loads 8. Of a race a weight 18, a quarter of a Philox counter 21, the comparison and the load 10.
  const instructions = method === 'race' ? 83 : 34;
  return {
    what: `sampleTarget, ${method}`,
    dtype,
    rows,
    cols,
    counted,
    work: { ...work, instructions },
    least: WIDTH[dtype] + (8 * DRAWS) / cols,
  };
}

/** softmax: in and out. */
export function auditSoftmax(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const found = moved(/^softmax$/, rows, cols, () => softmax(logits(rows, cols, dtype, 5)));
  return { what: 'softmax', dtype, rows, cols, ...found, least: 2 * WIDTH[dtype] };
}

/** Its gradient: what softmax gave and the gradient of that in, the gradient out. */
export function auditSoftmaxBackward(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const found = moved(/^softmax_backward/, rows, cols, () =>
    softmax(logits(rows, cols, dtype, 6, true)).backward(logits(rows, cols, dtype, 7)),
  );
  return { what: 'softmax, gradient', dtype, rows, cols, ...found, least: 3 * WIDTH[dtype] };
}

/** Milliseconds of `rows` rows, were nothing else in the way: an estimate from figures of the card, never a measurement. */
export interface Roofline {
  memory: number;
  exponentials: number;
  instructions: number;
  barriers: number;
}

// An H100 SXM: 132 multiprocessors at 1.755 GHz, 90 % of 3.35 TB/s, 16 exponentials or 128 instructions of a thread in each clock of each; supposed: a barrier of a block
// takes 50 ns, one of a cluster 1 µs, and a thread 128 registers.
const CARD = {
  multiprocessors: 132,
  clock: 1.755e9,
  bandwidth: 0.9 * 3.35e12,
  exponentials: 16,
  instructions: 128,
  shared: 233_472,
  blockBarrier: 5e-8,
  clusterBarrier: 1e-6,
};

export function roofline({ cols, counted, work }: AuditLine, rows = 4096): Roofline {
  const { block, cluster, sharedBytes } = work;
  const blocks = Math.max(1, Math.min(Math.floor(CARD.shared / (sharedBytes + 1024)), Math.floor(65_536 / (128 * block)), 32));
  // A block of warps has a row for each of them.
  const inFlight = Math.max(1, Math.floor((CARD.multiprocessors * blocks) / cluster)) * (cols > 1024 ? 1 : block / 32);
  const seconds = {
    memory: (rows * cols * counted) / CARD.bandwidth,
    exponentials: (rows * cols * (work.special ?? work.exponentials)) / (CARD.exponentials * CARD.multiprocessors * CARD.clock),
    instructions: (rows * cols * (work.instructions ?? 0)) / (CARD.instructions * CARD.multiprocessors * CARD.clock),
    barriers: (rows / inFlight) * (work.blockBarriers * CARD.blockBarrier + work.clusterBarriers * CARD.clusterBarrier),
  };
  return {
    memory: seconds.memory * 1e3,
    exponentials: seconds.exponentials * 1e3,
    instructions: seconds.instructions * 1e3,
    barriers: seconds.barriers * 1e3,
  };
}

/** The whole table. */
export function auditTable(): AuditLine[] {
  const lines: AuditLine[] = [];
  for (const dtype of ['bfloat16', 'float32'] as const)
    for (const cols of [1_000, 32_000, 128_256, 151_936, 262_144]) {
      for (const divergence of divergenceNames) if (divergence !== 'adaptive_kl') lines.push(auditLoss(divergence, cols, dtype));
      for (const divergence of ['forward_kl', 'reverse_kl'] as const) lines.push(auditLoss(divergence, cols, dtype, { k: K }));
      lines.push(auditLoss('forward_kl', cols, dtype, { k: K, gradient: false }));
      lines.push(auditCapture(cols, dtype), auditSoftmax(cols, dtype), auditSoftmaxBackward(cols, dtype));
      for (const method of ['with_replacement', 'race', 'head_tail'] as const) lines.push(auditSample(cols, dtype, method));
    }
  return lines;
}
