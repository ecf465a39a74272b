// What the feature losses share: student and teacher rows side by side, through a projector where there is one, and which rows count.
import { checkConstant, checkRows, checkSameDevice, checkSameDType, checkTensor, sameShape } from '../../check.js';
import { kindError, phrase, shapeText, valueError } from '../../errors.js';
import { Module } from '../../nn/module.js';
import { add, mul, silenced } from '../../ops/binary.js';
import { applyReduce } from '../../ops/reduce.js';
import { addScalar, applyUnary } from '../../ops/unary.js';
import { ordinalOf, view, type Tensor } from '../../tensor.js';
import { checkRowWeights } from '../labels.js';
import { checkRowsOf, checkTeacher, composedNames, constants, isNotZero, type ComposedLossOptions, type Rows } from '../row_loss.js';

/** Options of the losses that compare features row by row. */
export interface FeatureLossOptions extends ComposedLossOptions {
  /** Brings the student's features to the teacher's width; trained with the student. */
  projector?: Module;
}

export const featureNames = [...composedNames, 'projector'] as const;

/** Rows of both sides, of one width. */
export interface FeaturePair {
  /** What the loss is a function of: the student's features, or what the projector made of them. */
  student: Rows;
  /** [rows, cols], constant. */
  teacher: Tensor;
}

/** Student and teacher of one width, the student's through the projector. */
export function checkFeatures(action: string, student: unknown, teacher: unknown, options: FeatureLossOptions): FeaturePair {
  const { projector, rowWeights } = options;
  const given = checkRowsOf(action, 'student', student);
  if (projector === undefined) {
    const other = checkTensor(action, 'the teacher', teacher);
    const width = other.shape.at(-1);
    if (width !== undefined && width !== given.cols) {
      throw valueError(
        action,
        `the teacher must have shape ${shapeText(given.tensor.shape)} like student where there is no projector`,
        phrase(`it has ${shapeText(other.shape)}; { projector: new FeatureProjector(${given.cols}, ${width}) } fits`),
      );
    }
    return { student: given, teacher: checkTeacher(action, teacher, given) };
  }
  if (!(projector instanceof Module)) throw kindError(action, 'projector must be a Module', projector);
  let { tensor } = given;
  if (rowWeights !== undefined) {
    // What a row of weight 0 holds must not reach the projector's gradient.
    const weights = checkRowWeights(action, rowWeights, tensor, given.rows, given.leading);
    const counts = constants(() => isNotZero(action, view(weights, [given.rows, 1]).cast(tensor.dtype)));
    tensor = silenced(tensor.reshape([given.rows, given.cols]), counts).reshape(tensor.shape);
  }
  const projected = checkRowsOf(action, "the projector's output", projector.forward(tensor));
  if (!sameShape(projected.leading, given.leading)) {
    throw valueError(
      action,
      `the projector must keep the student's rows ${shapeText(given.leading)}`,
      phrase(`it gives ${shapeText(projected.tensor.shape)}`),
    );
  }
  return { student: projected, teacher: checkTeacher(action, teacher, projected) };
}

/** Teacher features with the student's rows and a width of their own, as [rows, width]. */
export function checkOtherWidth(action: string, value: unknown, { tensor, rows, leading }: Rows): Tensor {
  const teacher = checkTensor(action, 'the teacher', value);
  checkConstant(action, 'the teacher', teacher);
  checkSameDType(action, 'the teacher', teacher, 'student', tensor);
  checkSameDevice(action, 'the teacher', teacher, 'student', tensor);
  const own = checkRows(action, 'the teacher', teacher, 1);
  if (!sameShape(own.leading, leading) && !sameShape(own.leading, [rows])) {
    throw valueError(
      action,
      `the teacher must have rows ${shapeText(leading)} like student`,
      phrase(`its shape is ${shapeText(teacher.shape)}`),
    );
  }
  ordinalOf(teacher, action);
  return view(teacher, [rows, own.cols]);
}

/** Which rows take part where rows are compared with each other. */
export interface Counted {
  /** [rows]: 1, or 0 for rows of weight 0 and rows with a number that is not finite: those are nobody's partner. */
  counts: Tensor;
  /** [rows]: 0, or NaN for rows with a number that is not finite; added to their loss. */
  fault: Tensor;
}

/** Constants, to be called within `constants()`. */
export function countedRows(action: string, student: Tensor, teacher: Tensor, weights: Tensor | null): Counted {
  const squares = (x: Tensor): Tensor => {
    const [rows, cols] = x.shape as [number, number];
    return applyReduce(action, 'sum_squares', x, rows, cols, 1, [rows]);
  };
  const fault = mul(add(squares(student.detach()), squares(teacher)), 0);
  const sound = applyUnary(action, 'finite_or_zero', addScalar(fault, 1));
  return { counts: weights === null ? sound : silenced(sound, isNotZero(action, weights)), fault };
}
