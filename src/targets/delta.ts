// Logit arithmetic between teachers: what tuning changed in one, carried over to another.
import { tidy } from '../autograd.js';
import { checkConstant, checkDType, checkFinite, checkLive, checkOptions, checkSameDevice } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { checkPerRow } from '../losses/labels.js';
import { applyBinary } from '../ops/binary.js';
import { applyUnary } from '../ops/unary.js';
import { hostCopy, Tensor } from '../tensor.js';
import { DenseTarget } from './target.js';
import { checkAlike, checkTeacher, logProbabilitiesOf, timesRows } from './teacher.js';

/** Options of {@link deltaTarget}. */
export interface DeltaOptions {
  /** α, how far the shift is carried: a finite number, which may be negative, or a float32 Tensor with one for each row. Default 1. */
  alpha?: number | Tensor;
}

/** Nothing that a logarithm of a probability reaches survives this factor, and −∞ does. */
const tiny = 1e-30;

/**
 * Logit arithmetic, z₀ + α·(u₁ − u₂): the base's logits moved the way from an untuned teacher u₂ to a tuned one u₁
 * (Delta-KD, arXiv 2509.14526, in its logit form). With base = tuned it extrapolates beyond the tuned teacher, α for each row
 * (AlignDistil, arXiv 2503.02832). Targets of probabilities and log-probabilities stand for their logarithms; the result is a
 * target of logits, and as such right at every temperature. Each row is first centred to log-probabilities, which changes no
 * probability and keeps digits.
 *
 * What the base excludes (−∞, probability 0) stays excluded. Elsewhere a teacher that excludes an outcome makes its shift
 * infinite, and two that do make it NaN.
 *
 * @param base what is moved: a dense target, or a Tensor of logits [..., cols]
 * @param tuned the teacher after tuning, of the same rows and columns
 * @param untuned the teacher before it
 * @throws RangeError where shapes differ or α is not finite; TypeError where one requires grad
 *
 * @example
 * kdLoss(student, deltaTarget(studentBase, teacherTuned, teacherBase, { alpha: 0.5 }));
 */
export function deltaTarget(
  base: DenseTarget | Tensor,
  tuned: DenseTarget | Tensor,
  untuned: DenseTarget | Tensor,
  options?: DeltaOptions,
): DenseTarget {
  const action = 'make a delta target';
  const first = checkTeacher(action, 'base', base);
  const [to, from] = [checkTeacher(action, 'tuned', tuned), checkTeacher(action, 'untuned', untuned)];
  checkAlike(action, 'tuned', to, 'base', first);
  checkAlike(action, 'untuned', from, 'base', first);
  const { rows, cols, leading, values } = first;
  const { alpha = 1 } = checkOptions(action, options, ['alpha']);
  if (alpha instanceof Tensor) {
    checkLive(action, 'alpha', alpha);
    checkConstant(action, 'alpha', alpha);
    checkDType(action, 'alpha', alpha, 'float32');
    checkSameDevice(action, 'alpha', alpha, 'base', values);
    checkPerRow(action, 'alpha', alpha.shape, rows, leading);
    const wrong = hostCopy(alpha, action).findIndex((value) => !Number.isFinite(value));
    if (wrong >= 0) throw valueError(action, 'alpha must be finite', phrase(`it is ${hostCopy(alpha, action)[wrong]} in row ${wrong}`));
  } else if (typeof alpha !== 'number') throw kindError(action, 'alpha must be a number or a Tensor with one for each row', alpha);
  else checkFinite(action, 'alpha', alpha);
  return tidy(() => {
    const shift = logProbabilitiesOf(action, to);
    const away = logProbabilitiesOf(action, from);
    const same = { rows: 1, cols: shift.size, how: 'same' } as const;
    applyBinary(action, 'sub', shift, away, same, shift);
    away.dispose();
    timesRows(action, shift, alpha, rows, cols);
    const logits = logProbabilitiesOf(action, first);
    // 1 where the base allows an outcome and 0 where it does not: there the shift says nothing.
    const allowed = applyUnary(action, 'scale', logits, tiny);
    applyUnary(action, 'exp', allowed, 0, allowed);
    applyBinary(action, 'mul0', shift, allowed, same, shift);
    allowed.dispose();
    return new DenseTarget('logits', applyBinary(action, 'add', logits, shift, same, logits));
  });
}
