// DLPack descriptors as arguments of limbeck/raw: on the CPU they become typed arrays, on CUDA borrowed tensors.
import { checkOptions } from './check.js';
import { isHalf, type HalfType, type TypedArray } from './dtypes.js';
import { borrowed, hostRows, isDLPack, isOnCuda, type DLPack, type HostRows } from './dlpack.js';
import { kindError, phrase, shapeText, valueError } from './errors.js';
import { crossEntropy, kdLoss, type KdLossOptions } from './losses/kd_loss.js';
import { attempt, type DeviceBuffer } from './native.js';
import { denseTarget, sparseTarget } from './targets/target.js';
import { handleOf, Tensor, tensor } from './tensor.js';
import { tidy } from './autograd.js';

/** The options of a raw loss as far as descriptors can stand in them. */
export interface RawOptions {
  rows?: number;
  cols?: number;
  rowStride?: number;
  teacherRowStride?: number;
  gradientRowStride?: number;
  dtype?: HalfType;
  teacherDtype?: HalfType;
  out?: { loss?: unknown; gradient?: unknown };
}

const dense = ['logits', 'probs', 'logProbs'];

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !Array.isArray(value);
}

/** The descriptors among the arguments as typed arrays; sizes, strides and half types are theirs where none are given. */
export function hostArguments(action: string, student: unknown, teacher: unknown, options: unknown): [unknown, unknown, unknown] {
  if (options !== undefined && !isObject(options)) return [student, teacher, options];
  const given: RawOptions & Record<string, unknown> = { ...options };
  const place = (name: string, from: DLPack): HostRows => hostRows(action, name, from);
  const halfOf = ({ dtype }: HostRows): HalfType | undefined => (isHalf(dtype) ? dtype : undefined);
  const sameSize = (name: string, { rows, cols }: HostRows): void => {
    if (rows !== given.rows || cols !== given.cols)
      throw valueError(action, `${name} must have ${given.rows} rows of ${given.cols}`, phrase(`its shape is ${shapeText([rows, cols])}`));
  };
  /** One element for each row, or a compact block. */
  const compact = (name: string, value: unknown): unknown => {
    if (!isDLPack(value)) return value;
    const { array, rows, cols, stride } = place(name, value);
    if (stride !== cols && rows > 1) throw valueError(action, `${name} must have no space between its rows`, phrase('it has'));
    return array;
  };

  let x = student;
  if (isDLPack(student)) {
    const found = place('student', student);
    given.rows ??= found.rows;
    given.cols ??= found.cols;
    sameSize('student', found);
    given.rowStride ??= found.stride;
    given.dtype ??= halfOf(found);
    x = found.array;
  }
  const ofTeacher = (name: string, value: unknown): unknown => {
    if (!isDLPack(value)) return value;
    const found = place(name, value);
    sameSize(name, found);
    given.teacherRowStride ??= found.stride;
    given.teacherDtype ??= halfOf(found);
    return found.array;
  };
  let u = teacher;
  if (isDLPack(teacher)) u = teacherOrLabels(teacher, ofTeacher, compact);
  else if (isObject(teacher))
    u = Object.fromEntries(
      Object.entries(teacher).map(([name, value]) => [
        name,
        dense.includes(name) && !('indices' in teacher) ? ofTeacher(`teacher.${name}`, value) : compact(`teacher.${name}`, value),
      ]),
    );
  for (const name of ['rowWeights', 'temperature', 'labels']) if (isDLPack(given[name])) given[name] = compact(name, given[name]);
  if (isObject(given.out)) {
    const { loss, gradient } = given.out;
    let into = gradient;
    if (isDLPack(gradient)) {
      const found = place('out.gradient', gradient);
      sameSize('out.gradient', found);
      given.gradientRowStride ??= found.stride;
      if (halfOf(found) !== given.dtype)
        throw kindError(action, 'out.gradient must be of the type of student', phrase(`it is ${found.dtype}`));
      into = found.array;
    }
    given.out = {
      ...given.out,
      ...(loss === undefined ? {} : { loss: compact('out.loss', loss) }),
      ...(gradient === undefined ? {} : { gradient: into }),
    };
  }
  return [x, u, given];
}

/** Integers are labels, everything else is a teacher's rows. */
function teacherOrLabels(
  value: DLPack,
  ofTeacher: (name: string, value: unknown) => unknown,
  compact: (name: string, value: unknown) => unknown,
): unknown {
  return value.dtype?.code === 0 ? compact('labels', value) : ofTeacher('teacher', value);
}

/** Whether the loss is to be computed on a CUDA device. */
export function isCudaCall(action: string, student: unknown): student is DLPack {
  return isDLPack(student) && isOnCuda(action, 'student', student);
}

/** A loss that a CUDA device is computing. */
export interface CudaLoss {
  /** Reading it waits for all of the call. */
  loss: Tensor;
  /** Puts its numbers where they are wanted. */
  settle(numbers: TypedArray): { loss: unknown; gradient?: unknown };
}

/**
 * A loss on CUDA memory of others: every array is a descriptor on that device, without space between rows; labels may be numbers. The gradient
 * is copied to `out.gradient` on the device.
 */
export function cudaLoss(action: string, student: DLPack, teacher: unknown, options: unknown, isHard: boolean): CudaLoss {
  const given = checkOptions(action, options as (RawOptions & Record<string, unknown>) | undefined, Object.keys(options ?? {}));
  const { rows, cols, rowStride, teacherRowStride, gradientRowStride, dtype, teacherDtype, out, ...rest } = given;
  for (const [name, value] of Object.entries({ rowStride, teacherRowStride, gradientRowStride, dtype, teacherDtype }))
    if (value !== undefined) throw kindError(action, `${name} must be left to the descriptors on a CUDA device`, value);
  const { loss: lossOut, gradient: gradientOut } = checkOptions(action, out, ['loss', 'gradient']);
  if (gradientOut !== undefined && !isDLPack(gradientOut))
    throw kindError(action, 'out.gradient must be a DLPack descriptor like student', gradientOut);
  if (lossOut !== undefined && !isDLPack(lossOut) && !(lossOut instanceof Float32Array))
    throw kindError(action, 'out.loss must be a Float32Array or a DLPack descriptor', lossOut);
  const taken = (name: string, value: unknown): unknown => (isDLPack(value) ? borrowed(action, name, value) : value);
  const takenAll = (prefix: string, from: object): Record<string, unknown> =>
    Object.fromEntries(Object.entries(from).map(([name, value]) => [name, taken(`${prefix}${name}`, value)]));
  const loss = tidy(() => {
    const x = borrowed(action, 'student', student);
    const width = x.shape[x.shape.length - 1]!;
    if ((rows !== undefined && rows * width !== x.size) || (cols !== undefined && cols !== width))
      throw valueError(action, `student must have ${rows} rows of ${cols}`, phrase(`its shape is ${shapeText(x.shape)}`));
    if (gradientOut !== undefined) x.requiresGrad = true;
    const settings = takenAll('', rest) as KdLossOptions;
    const u = taken(isHard ? 'labels' : 'teacher', teacher);
    const value = isHard
      ? crossEntropy(x, u as Tensor, settings)
      : kdLoss(x, isObject(u) && !(u instanceof Tensor) ? targetOf(takenAll('teacher.', u)) : (u as Tensor), settings);
    if (gradientOut !== undefined) {
      const ones = (): Tensor => tensor(new Float32Array(value.size).fill(1), { shape: value.shape, device: x.device });
      value.backward(value.shape.length === 0 ? undefined : ones());
      copied(action, 'out.gradient', x.grad!, gradientOut);
    }
    if (isDLPack(lossOut)) copied(action, 'out.loss', value, lossOut);
    return value.detach();
  });
  return {
    loss,
    settle(numbers) {
      const result = gradientOut === undefined ? {} : { gradient: gradientOut };
      if (!(lossOut instanceof Float32Array)) return { loss: lossOut ?? numbers, ...result };
      if (lossOut.length < numbers.length)
        throw valueError(action, `out.loss must hold ${numbers.length} elements`, phrase(`it holds ${lossOut.length}`));
      lossOut.set(numbers);
      return { loss: lossOut, ...result };
    },
  };
}

function targetOf(parts: Record<string, unknown>): Parameters<typeof kdLoss>[1] {
  return 'indices' in parts ? sparseTarget(parts as never) : denseTarget(parts as never);
}

function copied(action: string, name: string, from: Tensor, to: DLPack): void {
  const into = borrowed(action, name, to);
  if (into.device !== from.device || into.dtype !== from.dtype || into.size !== from.size)
    throw valueError(
      action,
      `${name} must be ${from.dtype} ${shapeText(from.shape)} on ${from.device}`,
      phrase(`it is ${into.dtype} ${shapeText(into.shape)} on ${into.device}`),
    );
  attempt(action, (addon) => addon.copy(handleOf(into, action) as DeviceBuffer, handleOf(from, action) as DeviceBuffer));
}
