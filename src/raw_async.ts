// limbeck/raw as promises: the kernel runs on a thread of libuv's, in place where memory is shared, on copies of everything else.
import { phrase, valueError } from './errors.js';
import { runRowLoss, type StudentPart, type TeacherPart } from './losses/kernel.js';
import { native, reword, type Handle } from './native.js';
import { handleOf, outputsOf, type LossResult, type Ready, type Stored } from './raw_loss.js';

type Elements = Exclude<Handle, { free(): void }>;

function isShared(array: Elements): boolean {
  return array.buffer instanceof SharedArrayBuffer;
}

/** Shared memory of the same type. */
function sharedLike<A extends Elements>(array: A, length: number): A {
  const type = array.constructor as new (buffer: SharedArrayBuffer) => A;
  return new type(new SharedArrayBuffer(length * array.BYTES_PER_ELEMENT));
}

/** The array itself where other threads may see it, or else a copy. */
function seen<H extends Handle | null>(handle: H): H {
  if (handle === null || !ArrayBuffer.isView(handle) || isShared(handle)) return handle;
  const copy = sharedLike<Elements>(handle, handle.length);
  copy.set(handle);
  return copy as H;
}

/** Computes a loss on a thread of libuv's. Everything is checked and copied before it returns. */
export async function rowLossAsync(ready: Ready): Promise<LossResult> {
  const { action, student, options, labels, teacher, soft } = ready;
  const { rows, cols, rowStride = cols, rowWeights, dtype } = options;
  const { settings, loss, gradient, gradientStride, isWhole } = outputsOf(ready);
  const lossOut = isShared(loss) ? loss : sharedLike(loss, isWhole ? 1 : rows);
  // Copies have no space between their rows, which stays as it is in the original.
  const isDirect = gradient === null || isShared(gradient);
  const gradientOut = isDirect ? gradient : sharedLike(gradient, rows * cols);
  const part: StudentPart = {
    student: seen(handleOf(student, dtype)),
    labels: seen(labels),
    rowWeights: seen(rowWeights ?? null),
    rowLoss: isWhole ? sharedLike(loss, rows) : lossOut,
    loss: isWhole ? lossOut : null,
    gradient: gradientOut === null ? null : handleOf(gradientOut, dtype),
    rows,
    cols,
    studentStride: rowStride,
    gradientStride: isDirect ? gradientStride : cols,
  };
  const target: TeacherPart = {
    ...teacher,
    teacher: seen(teacher.teacher),
    indices: seen(teacher.indices),
    values: seen(teacher.values),
    tailLogMass: seen(teacher.tailLogMass),
    rowTemperature: seen(teacher.rowTemperature),
  };
  let done: Promise<void> | undefined;
  try {
    runRowLoss(action, part, target, soft, settings, (...args) => void (done = native().kernelsAsync.divergence(...args)));
    await done;
  } catch (error) {
    throw reword(error, action);
  }
  if (lossOut !== loss) giveBack(action, 'out.loss', lossOut, loss, 1, lossOut.length, 0);
  if (gradient === null) return { loss };
  if (gradientOut !== gradient) giveBack(action, 'out.gradient', gradientOut!, gradient, rows, cols, gradientStride);
  return { loss, gradient };
}

/** Rows of a copy into the array they are for, which may have been taken away meanwhile. */
function giveBack(action: string, name: string, from: Stored, to: Stored, rows: number, cols: number, stride: number): void {
  const least = rows === 0 ? 0 : (rows - 1) * stride + cols;
  if (to.length < least)
    throw valueError(action, `${name} must still hold ${least} elements when the loss is there`, phrase(`it holds ${to.length}`));
  if (stride === cols || rows < 2) to.set(from);
  else for (let r = 0; r < rows; r++) to.set(from.subarray(r * cols, (r + 1) * cols), r * stride);
}
