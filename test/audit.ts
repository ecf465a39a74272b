// What each kernel loads and stores on the emulated CUDA device, beside the least it could: the traffic audit's table.
import { native } from '../src/native.js';
import { captureTopK, kdLoss, sampleTarget, softmax, sparseTarget, tensor, tidy, type DType, type Tensor } from '../src/index.js';
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
}

const K = 64;
const WIDTH = { float32: 4, bfloat16: 2, float16: 2 } as Record<DType, number>;

/** Few rows of short ones, one of a long one: a row's traffic knows nothing of the others. */
function rowsOf(cols: number): number {
  return Math.max(1, Math.min(8, Math.floor(16_384 / cols)));
}

/** Runs `fn` and gives the bytes that kernels whose name matches moved. */
function moved(kernels: RegExp, fn: () => unknown): number {
  const { emulator } = native();
  if (emulator === undefined) throw new Error('the audit needs the emulated device: LIMBECK_EMULATE_CUDA=1');
  emulator.resetAudit();
  tidy(fn);
  const found = emulator.audit().filter(({ kernel }) => kernels.test(kernel));
  if (found.length === 0) throw new Error(`no kernel of ${String(kernels)} ran`);
  return found.reduce((sum, { bytesLoaded, bytesStored }) => sum + bytesLoaded + bytesStored, 0);
}

function logits(rows: number, cols: number, dtype: DType, seed: number, requiresGrad = false): Tensor {
  const x = tensor(normals(seed, rows * cols, 2), { shape: [rows, cols], device: 'cuda' }).cast(dtype);
  x.requiresGrad = requiresGrad;
  return x;
}

/** A loss with or without its gradient. `k` > 0: against a sparse target. */
export function auditLoss(divergence: DivergenceName, cols: number, dtype: DType, { k = 0, gradient = true } = {}): AuditLine {
  const rows = rowsOf(cols);
  const bytes = moved(/^divergence_(dense|sparse)/, () => {
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
  return { what, dtype, rows, cols, counted: bytes / (rows * cols), least: tensors * WIDTH[dtype] + beside / cols };
}

/** captureTopK: the logits, and k ids and log-probabilities, the tail and the log-sum-exp. */
export function auditCapture(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const bytes = moved(/^capture_top_k/, () => captureTopK(logits(rows, cols, dtype, 3), K));
  return { what: `captureTopK, k = ${K}`, dtype, rows, cols, counted: bytes / (rows * cols), least: WIDTH[dtype] + (8 * K + 8) / cols };
}

/** sampleTarget by race: the logits, and ids and weights. */
export function auditSample(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const bytes = moved(/^sample/, () => sampleTarget(logits(rows, cols, dtype, 4), 50, { method: 'with_replacement', seed: 1 }));
  return { what: 'sampleTarget, 50 draws', dtype, rows, cols, counted: bytes / (rows * cols), least: WIDTH[dtype] + (8 * 50) / cols };
}

/** softmax: in and out. */
export function auditSoftmax(cols: number, dtype: DType): AuditLine {
  const rows = rowsOf(cols);
  const bytes = moved(/^softmax/, () => softmax(logits(rows, cols, dtype, 5)));
  return { what: 'softmax', dtype, rows, cols, counted: bytes / (rows * cols), least: 2 * WIDTH[dtype] };
}

/** The whole table. */
export function auditTable(): AuditLine[] {
  const lines: AuditLine[] = [];
  for (const dtype of ['bfloat16', 'float32'] as const)
    for (const cols of [1_000, 32_000, 128_256, 262_144]) {
      for (const divergence of divergenceNames) if (divergence !== 'adaptive_kl') lines.push(auditLoss(divergence, cols, dtype));
      for (const divergence of ['forward_kl', 'reverse_kl'] as const) lines.push(auditLoss(divergence, cols, dtype, { k: K }));
      lines.push(auditLoss('forward_kl', cols, dtype, { k: K, gradient: false }));
      lines.push(auditCapture(cols, dtype), auditSample(cols, dtype), auditSoftmax(cols, dtype));
    }
  return lines;
}
