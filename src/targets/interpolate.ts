// TAID's target: logits between the student's own and the teacher's, which the loss forms while it reads them.
import {
  checkConstant,
  checkFloating,
  checkFraction,
  checkOptions,
  checkRows,
  checkSameDevice,
  checkSameDType,
  sameShape,
} from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { view, type Tensor } from '../tensor.js';

/** What lies between a student and a teacher. Made by {@link interpolateTarget}; holds no [rows, cols] of its own. */
export class InterpolatedTarget {
  /** The student's logits as they are when the loss is computed, without their gradient. */
  readonly student: Tensor;
  readonly teacher: Tensor;
  readonly t: number;

  /** @internal */
  constructor(parts: { student: Tensor; teacher: Tensor; t: number }) {
    if (parts?.student === undefined)
      throw kindError('construct an InterpolatedTarget', 'interpolateTarget(...) must be used', phrase('new InterpolatedTarget was'));
    this.student = parts.student;
    this.teacher = parts.teacher;
    this.t = parts.t;
  }

  dispose(): void {
    this.student.dispose();
    this.teacher.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * The target p = softmax(((1 − t)·student + t·teacher)/T) of TAID, with T the temperature of the loss (Shing et al. 2025, arXiv 2501.16937,
 * equation 3). Lazy: the loss computes the mixture of logits as it reads them, so nothing of size [rows, cols] is made. The student's part is
 * detached: the gradient is q − p. t = 1 is the teacher alone, bit for bit; t = 0 the student itself. `TaidScheduler` moves t.
 *
 * @param student logits [..., cols]; usually the very tensor the loss is computed of
 * @param teacher logits of the same shape
 * @param options.t in [0, 1]
 * @throws TypeError for a teacher that requires grad, other element types or devices; RangeError for t outside [0, 1] and for other shapes
 *
 * @example
 * kdLoss(student, interpolateTarget(student, teacher, { t: 0.4 })).backward();
 */
export function interpolateTarget(student: Tensor, teacher: Tensor, options: { t: number }): InterpolatedTarget {
  const action = 'interpolate a target';
  const { t } = checkOptions(action, options, ['t']);
  checkFraction(action, 't', t);
  checkFloating(action, 'student', student);
  checkFloating(action, 'teacher', teacher);
  checkConstant(action, 'teacher', teacher);
  checkSameDType(action, 'teacher', teacher, 'student', student);
  checkSameDevice(action, 'teacher', teacher, 'student', student);
  checkRows(action, 'student', student, 1);
  if (!sameShape(teacher.shape, student.shape))
    throw valueError(
      action,
      `teacher must have shape ${shapeText(student.shape)} like student`,
      phrase(`it has ${shapeText(teacher.shape)}`),
    );
  return new InterpolatedTarget({ student: view(student), teacher: view(teacher), t });
}
