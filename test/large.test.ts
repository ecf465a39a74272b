// Element offsets beyond 2^31 (trap 13): two rows far apart in memory that the system maps but never fills.
import { describe, expect, test } from 'vitest';
import * as raw from '../src/raw.js';
import { expectClose, expectSameBits } from './compare.js';
import { toBits } from './half.js';
import { denseCall } from './cases/row_loss.js';
import { normals } from './random.js';
import { rowLossReference, type LossReference } from './reference.js';

describe('offsets beyond 2^31 elements', () => {
  test('the last row of a strided batch', (context) => {
    const stride = 2 ** 30 + 4099;
    const cols = 1025;
    const rows = 3;
    let student: Float32Array;
    try {
      // Untouched pages cost nothing: 8.6 GB of addresses, a few pages of memory.
      student = new Float32Array((rows - 1) * stride + cols);
    } catch {
      return context.skip('this machine refuses 8.6 GB of addresses');
    }
    const teacher = normals(2, rows * cols);
    const values = normals(1, rows * cols);
    for (let r = 0; r < rows; r++) student.set(values.subarray(r * cols, (r + 1) * cols), r * stride);
    const near = { loss: new Float32Array(rows), gradient: new Float32Array(rows * cols) };
    raw.kdLoss(values, teacher, { rows, cols, reduction: 'none', out: near });
    const far = { loss: new Float32Array(rows), gradient: student };
    raw.kdLoss(student, teacher, { rows, cols, rowStride: stride, teacherRowStride: cols, reduction: 'none', out: far });
    expectClose('loss', far.loss, near.loss, 0);
    for (let r = 0; r < rows; r++)
      expectClose(
        `gradient of row ${r}`,
        student.subarray(r * stride, r * stride + cols),
        near.gradient.subarray(r * cols, (r + 1) * cols),
        0,
      );
    expect(far.loss.every(Number.isFinite)).toBe(true);
  });

  test('the last row of half types, beyond 2^32 bytes and 2^31 elements', (context) => {
    const stride = 2 ** 31 + 4099;
    const cols = 1025;
    const rows = 2;
    let student: Uint16Array;
    try {
      student = new Uint16Array(stride + cols);
    } catch {
      return context.skip('this machine refuses 4.3 GB of addresses');
    }
    const values = new Uint16Array(toBits(normals(1, rows * cols), 'bfloat16'));
    const teacher = new Uint16Array(toBits(normals(2, rows * cols), 'float16'));
    for (let r = 0; r < rows; r++) student.set(values.subarray(r * cols, (r + 1) * cols), r * stride);
    const options = { rows, cols, dtype: 'bfloat16', teacherDtype: 'float16', reduction: 'none' } as const;
    const near = { loss: new Float32Array(rows), gradient: new Uint16Array(rows * cols) };
    raw.kdLoss(values, teacher, { ...options, out: near });
    const far = { loss: new Float32Array(rows), gradient: student };
    raw.kdLoss(student, teacher, { ...options, rowStride: stride, teacherRowStride: cols, out: far });
    expectClose('loss', far.loss, near.loss, 0);
    for (let r = 0; r < rows; r++)
      expectSameBits(`gradient of row ${r}`, student.slice(r * stride, r * stride + cols), near.gradient.slice(r * cols, (r + 1) * cols));
    expect(far.loss.every(Number.isFinite)).toBe(true);
  });
});

describe('rows of 2^20 columns', () => {
  const cols = 2 ** 20;
  const call = denseCall(1, 1, cols, { spread: 2, noise: 0.5, target: 'logits', reduction: 'none' });
  const student = call.student as Float32Array;
  const check = (what: string, { loss, gradient }: raw.LossResult, reference: LossReference): void => {
    expectClose(`${what}: loss`, loss as Float32Array, reference.rowLoss, (r) => 1e-5 * (reference.rowScale[r] as number));
    expectClose(`${what}: gradient`, gradient as Float32Array, reference.gradient, (i) => 1e-5 * (reference.gradientScale[i] as number));
  };
  const out = (): { loss: Float32Array; gradient: Float32Array } => ({ loss: new Float32Array(1), gradient: new Float32Array(cols) });

  test('forward KL of a dense target', () => {
    check(
      'dense',
      raw.kdLoss(student, call.teacher as Float32Array, { rows: 1, cols, reduction: 'none', out: out() }),
      rowLossReference(call),
    );
  });

  test('a list of three columns and its tail', () => {
    const [indices, values] = [Int32Array.of(5, cols - 1, 77), Float32Array.of(-1, -2, -3)];
    const target = { indices, logProbs: values };
    const options = { rows: 1, cols, residual: 'tail_bucket', reduction: 'none', out: out() } as const;
    const reference = rowLossReference({ ...call, target: 'sparse_log_probs', residual: 'tail_bucket', k: 3, indices, values });
    check('sparse', raw.kdLoss(student, target, options), reference);
  });
});
