// limbeck/raw as promises: the kernel runs on a thread of libuv's, in place where memory is shared, on copies of everything else.
import { phrase, valueError } from './errors.js';
import { runRowLoss, type StudentPart, type TeacherPart } from './losses/kernel.js';
import { native, reword, type Handle } from './native.js';
import { giveShared, takeShared } from './storage.js';
import { handleOf, outputsOf, type LossResult, type Ready, type Stored } from './raw_loss.js';

type Elements = Exclude<Handle, { free(): void }>;

function isShared(array: Elements): boolean {
  return array.buffer instanceof SharedArrayBuffer;
}

/** The copies of one call. Their memory serves later calls: fresh pages cost more than the copying. */
class Copies {
  readonly #action: string;
  readonly #buffers: SharedArrayBuffer[] = [];

  constructor(action: string) {
    this.#action = action;
  }

  /** Elements of the same type, with unspecified contents. */
  like<A extends Elements>(array: A, length: number): A {
    const bytes = length * array.BYTES_PER_ELEMENT;
    const buffer = takeShared(this.#action, bytes);
    this.#buffers.push(buffer);
    return new (array.constructor as new (buffer: SharedArrayBuffer, begin: number, length: number) => A)(buffer, 0, length);
  }

  /** The array itself where other threads may see it, or else a copy. */
  seen<H extends Handle | null>(handle: H): H {
    if (handle === null || !ArrayBuffer.isView(handle) || isShared(handle)) return handle;
    const copy = this.like<Elements>(handle, handle.length);
    copy.set(handle);
    return copy as H;
  }

  giveBack(): void {
    for (const buffer of this.#buffers) giveShared(buffer);
  }
}

/** Computes a loss on a thread of libuv's. Everything is checked and copied before it returns. */
export async function rowLossAsync(ready: Ready): Promise<LossResult> {
  const { action, student, options, labels, teacher, soft } = ready;
  const { rows, cols, rowStride = cols, rowWeights, dtype } = options;
  const { settings, loss, gradient, gradientStride, isWhole } = outputsOf(ready);
  const copies = new Copies(action);
  const lossOut = isShared(loss) ? loss : copies.like(loss, isWhole ? 1 : rows);
  // Copies have no space between their rows, which stays as it is in the original.
  const isDirect = gradient === null || isShared(gradient);
  const gradientOut = isDirect ? gradient : copies.like(gradient, rows * cols);
  const part: StudentPart = {
    student: copies.seen(handleOf(student, dtype)),
    labels: copies.seen(labels),
    rowWeights: copies.seen(rowWeights ?? null),
    rowLoss: isWhole ? copies.like(loss, rows) : lossOut,
    loss: isWhole ? lossOut : null,
    gradient: gradientOut === null ? null : handleOf(gradientOut, dtype),
    rows,
    cols,
    studentStride: rowStride,
    gradientStride: isDirect ? gradientStride : cols,
  };
  const target: TeacherPart = {
    ...teacher,
    teacher: copies.seen(teacher.teacher),
    indices: copies.seen(teacher.indices),
    values: copies.seen(teacher.values),
    tailLogMass: copies.seen(teacher.tailLogMass),
    rowTemperature: copies.seen(teacher.rowTemperature),
  };
  let done: Promise<void> | undefined;
  try {
    runRowLoss(action, part, target, soft, settings, (...args) => void (done = native().kernelsAsync.divergence(...args)));
    await done;
    if (lossOut !== loss) fill(action, 'out.loss', lossOut, loss, 1, lossOut.length, 0);
    if (gradientOut !== gradient) fill(action, 'out.gradient', gradientOut!, gradient!, rows, cols, gradientStride);
  } catch (error) {
    throw reword(error, action);
  } finally {
    // Nothing of the call runs any more, whether it was ever queued or not.
    copies.giveBack();
  }
  return gradient === null ? { loss } : { loss, gradient };
}

/** Rows of a copy into the array they are for, which may have been taken away meanwhile. */
function fill(action: string, name: string, from: Stored, to: Stored, rows: number, cols: number, stride: number): void {
  const least = rows === 0 ? 0 : (rows - 1) * stride + cols;
  if (to.length < least)
    throw valueError(action, `${name} must still hold ${least} elements when the loss is there`, phrase(`it holds ${to.length}`));
  if (stride === cols || rows < 2) to.set(from);
  else for (let r = 0; r < rows; r++) to.set(from.subarray(r * cols, (r + 1) * cols), r * stride);
}
