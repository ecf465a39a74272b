// Teacher and student side by side on each token of a text: how far apart they are, and what each would have said.
import { noGrad, tidy } from '../autograd.js';
import { checkFloating, checkOptions, checkRows } from '../check.js';
import { isHalf } from '../dtypes.js';
import { kindError, phrase, valueError } from '../errors.js';
import { kdLoss, type KdLossOptions } from '../losses/kd_loss.js';
import { softmax, topK } from '../ops/index.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { checkTeacher, logProbabilitiesOf } from '../targets/teacher.js';
import { hostCopy, Tensor } from '../tensor.js';

/** A model's likeliest token and its probability. */
export interface Choice {
  token: string;
  probability: number;
}

/** What there is to say of one token. */
export interface TokenRow {
  token: string;
  /** How far apart teacher and student are on it, in the divergence's own unit (nats for KL); may be infinite or NaN. */
  value: number;
  teacher?: Choice;
  student?: Choice;
}

/** What {@link compareTokens} is given. */
export interface TokenComparison extends Pick<KdLossOptions, 'divergence' | 'temperature' | 'residual'> {
  /** The text, token by token. */
  tokens: readonly string[];
  /** Logits [..., cols]: row i is what the teacher said where token i stood, that is before it saw it. Or a target of as many rows. */
  teacher: Tensor | DenseTarget | SparseTarget;
  /** Logits [..., cols] of the same rows. */
  student: Tensor;
  /** The words of the columns, or a function of the column. */
  vocabulary: readonly string[] | ((id: number) => string);
}

const names = ['tokens', 'teacher', 'student', 'vocabulary', 'divergence', 'temperature', 'residual'] as const;

/**
 * The divergence of each token, without the factor T², and the choices of teacher and student: D(p_i, q_i), arg max p_i and arg max q_i, with p and q
 * at the temperature. Nothing is shifted: of a causal model's logits give row i − 1 for token i. The choice of a target of weights is not known and is left out.
 *
 * @throws TypeError where tokens, vocabulary or teacher are of another kind, or a residual is missing
 * @throws RangeError where rows or columns do not match
 *
 * @example
 * const [row] = compareTokens({ tokens: ['b'], teacher: tensor([[0, 2]]), student: tensor([[1, 0]]), vocabulary: ['a', 'b'] });
 * row.teacher.token; // 'b'
 */
export function compareTokens(comparison: TokenComparison): TokenRow[] {
  const action = 'compare tokens';
  if (comparison === undefined) throw kindError(action, 'tokens, teacher, student and vocabulary must be given', comparison);
  const { tokens, teacher, student, vocabulary, ...options } = checkOptions(action, comparison, names);
  checkTokens(action, tokens);
  checkFloating(action, 'student', student);
  const { rows, cols } = checkRows(action, 'student', student, 1);
  if (rows !== tokens.length)
    throw valueError(action, `student must have a row for each of the ${tokens.length} tokens`, phrase(`it has ${rows}`));
  if (!(teacher instanceof Tensor || teacher instanceof DenseTarget || teacher instanceof SparseTarget))
    throw kindError(
      action,
      'teacher must be a Tensor of logits, or made by denseTarget, captureTopK, sampleTarget or sparseTarget',
      teacher,
    );
  const word = wordsOf(action, vocabulary, cols);
  return tidy(() =>
    noGrad(() => {
      const own = student.detach();
      const temperature = options.temperature ?? (teacher instanceof SparseTarget ? teacher.temperature : 1);
      const values = hostCopy(kdLoss(own, teacher, { ...options, reduction: 'none', temperatureSquared: false }), action);
      const likeliest = {
        student: denseChoices(action, own, temperature),
        teacher: teacher instanceof SparseTarget ? sparseChoices(action, teacher) : denseChoices(action, teacher, temperature),
      };
      const choice = (from: Choices | null, i: number): Choice | undefined =>
        from === null || !(from.ids[i]! >= 0) ? undefined : { token: word(from.ids[i]!), probability: from.probabilities[i]! };
      return tokens.map((token, i) => ({
        token,
        value: values[i]!,
        teacher: choice(likeliest.teacher, i),
        student: choice(likeliest.student, i),
      }));
    }),
  );
}

/** @internal */
export function checkTokens(action: string, tokens: unknown): asserts tokens is readonly string[] {
  if (!Array.isArray(tokens)) throw kindError(action, 'tokens must be an array of strings', tokens);
  const wrong = tokens.findIndex((token) => typeof token !== 'string');
  if (wrong !== -1) throw kindError(action, `tokens[${wrong}] must be a string`, tokens[wrong]);
}

function wordsOf(action: string, vocabulary: unknown, cols: number): (id: number) => string {
  if (typeof vocabulary === 'function') return (id) => String((vocabulary as (id: number) => unknown)(id));
  if (!Array.isArray(vocabulary)) throw kindError(action, 'vocabulary must be an array of strings or a function', vocabulary);
  if (vocabulary.length < cols)
    throw valueError(action, `vocabulary must have a word for each of the ${cols} columns`, phrase(`it has ${vocabulary.length}`));
  return (id) => String(vocabulary[id]);
}

/** Of each row; −1 where there is none. */
interface Choices {
  ids: ArrayLike<number>;
  probabilities: ArrayLike<number>;
}

function denseChoices(action: string, model: Tensor | DenseTarget, temperature: number | Tensor): Choices {
  const given = model instanceof Tensor ? new DenseTarget('logits', model) : model;
  const target = isHalf(given.values.dtype) ? new DenseTarget(given.kind, given.values.cast('float32')) : given;
  const whole =
    target.kind === 'logits'
      ? softmax(target.values, { temperature })
      : logProbabilitiesOf(action, checkTeacher(action, 'teacher', target), temperature);
  const { values, indices } = topK(whole.dtype === 'float64' ? whole.cast('float32') : whole, 1);
  const found = hostCopy(values, action) as Float32Array;
  const probabilities = target.kind === 'logits' ? found : found.map(Math.exp);
  // topK puts NaN first: such a row chooses nothing.
  return { ids: (hostCopy(indices, action) as Int32Array).map((id, r) => (Number.isNaN(probabilities[r]!) ? -1 : id)), probabilities };
}

function sparseChoices(action: string, { indices, logProbs, k }: SparseTarget): Choices | null {
  if (logProbs === null) return null;
  const ids = hostCopy(indices, action) as Int32Array;
  const logs = hostCopy(logProbs, action) as Float32Array;
  const rows = ids.length / k;
  const best = Int32Array.from({ length: rows }, (_, r) => {
    let at = -1;
    for (let j = r * k; j < (r + 1) * k; j++) if (ids[j] !== -1 && (at === -1 || logs[j]! > logs[at]!)) at = j;
    return at;
  });
  return { ids: best.map((at) => (at === -1 ? -1 : ids[at]!)), probabilities: Float64Array.from(best, (at) => Math.exp(logs[at] ?? NaN)) };
}
