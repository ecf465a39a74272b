// Teachers that give only text: sequences as labels, weighted by a critic.
import { checkFinite, checkOneOf, checkOptions, checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { tensor } from '../tensor.js';
import {
  checkFunction,
  checkSignal,
  choiceTarget,
  each,
  teacherTarget,
  type Batches,
  type SharedOptions,
  type TargetsOptions,
  type Teacher,
  type TeacherTarget,
} from './teacher.js';

/** A sequence that a teacher wrote. */
export interface TextSequence {
  /** The student's ids; or `text`. */
  tokens?: ArrayLike<number>;
  /** Text, which `tokenize` makes into ids. */
  text?: string;
  /** How many tokens at the start are the prompt, which is not learned. Default 0. */
  prompt?: number;
  /** What a critic thinks of the sequence, at least 0. Default 1. */
  weight?: number;
  /** The same for each token, [tokens], at least 0; multiplied by `weight`. */
  tokenWeights?: ArrayLike<number>;
}

/** Options of {@link textTeacher}. */
export interface TextOptions extends Omit<SharedOptions, 'residual'> {
  /** Columns of the student. */
  cols: number;
  /** From text to the student's ids. */
  tokenize?: (text: string) => ArrayLike<number>;
  /** Sequences of less weight are left out (symbolic KD's critic). Default 0: none. */
  threshold?: number;
  /** 'token' gives each token the weight of its sequence; 'sequence' shares it out, so that a long one counts no more than a short. Default 'token'. */
  per?: 'token' | 'sequence';
}

/** What was met so far. */
export interface TextReport {
  sequences: number;
  /** Sequences left out by the threshold. */
  rejected: number;
  rows: number;
  /** Rows that are learned: no prompt, weight above 0. */
  learned: number;
}

/** Made by {@link textTeacher}. */
export class TextTeacher implements Teacher<readonly (TextSequence | string)[]> {
  readonly access = 'text';
  readonly #options: TextOptions;
  readonly #report: TextReport = { sequences: 0, rejected: 0, rows: 0, learned: 0 };

  /** @internal */
  constructor(options: TextOptions) {
    this.#options = options;
  }

  get cols(): number {
    return this.#options.cols;
  }

  get report(): Readonly<TextReport> {
    return this.#report;
  }

  async *targets<B extends readonly (TextSequence | string)[]>(
    batches: Batches<B>,
    options?: TargetsOptions,
  ): AsyncGenerator<TeacherTarget<B>, void, void> {
    const action = 'read sequences';
    const signal = checkSignal(action, checkOptions(action, options, ['signal']).signal);
    for await (const batch of each(action, batches, signal)) {
      if (!Array.isArray(batch)) throw kindError(action, 'a batch must be an array of sequences', batch);
      yield this.#target(action, batch);
    }
  }

  #target<B extends readonly (TextSequence | string)[]>(action: string, batch: B): TeacherTarget<B> {
    const { cols, device, threshold = 0, per = 'token' } = this.#options;
    const labels: number[] = [];
    const weights: number[] = [];
    const lengths: number[] = [];
    batch.forEach((given, i) => {
      const { ids, prompt, weight, tokenWeights } = this.#sequence(action, given, i);
      const isKept = weight >= threshold;
      const own = ids.map((_, j) => (isKept && j >= prompt ? weight * (tokenWeights === null ? 1 : tokenWeights[j]!) : 0));
      const total = own.reduce((sum, value) => sum + value, 0);
      // Shared out: the rows of a sequence sum to its weight.
      const factor = per === 'sequence' && total > 0 ? weight / total : 1;
      ids.forEach((id, j) => {
        labels.push(own[j]! > 0 ? id : -100);
        weights.push(own[j]! * factor);
      });
      lengths.push(ids.length);
      this.#report.sequences++;
      if (!isKept) this.#report.rejected++;
    });
    const rowWeights = weights.every((weight) => weight === 1) ? null : tensor(Float32Array.from(weights), { device });
    const all = Int32Array.from(labels);
    const target = choiceTarget(action, all, cols, device);
    this.#report.rows += all.length;
    this.#report.learned += all.reduce((count, label) => count + (label === -100 ? 0 : 1), 0);
    return teacherTarget(batch, target, all.length, { labels: all, rowWeights, lengths });
  }

  #sequence(
    action: string,
    given: TextSequence | string,
    i: number,
  ): { ids: number[]; prompt: number; weight: number; tokenWeights: ArrayLike<number> | null } {
    const name = `sequence ${i}`;
    if (typeof given !== 'string' && (given === null || typeof given !== 'object'))
      throw kindError(action, `${name} must be text or an object`, given);
    const { tokens, text, prompt = 0, weight = 1, tokenWeights } = typeof given === 'string' ? ({ text: given } as TextSequence) : given;
    const { cols, tokenize } = this.#options;
    if ((tokens === undefined) === (text === undefined))
      throw kindError(action, `${name} must have either tokens or text`, phrase(tokens === undefined ? 'it has neither' : 'it has both'));
    if (text !== undefined && tokenize === undefined) throw kindError(action, `tokenize must be given for text (${name})`, tokenize);
    const ids = Array.from(tokens ?? tokenize!(text!));
    const wrong = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < cols));
    if (wrong >= 0) throw valueError(action, `every id of ${name} must be in [0, ${cols})`, phrase(`token ${wrong} is ${ids[wrong]}`));
    checkWhole(action, `prompt of ${name}`, prompt, 0, ids.length);
    checkWeight(action, `weight of ${name}`, weight);
    if (tokenWeights !== undefined && tokenWeights.length !== ids.length)
      throw valueError(action, `tokenWeights of ${name} must be ${ids.length} like its tokens`, phrase(`they are ${tokenWeights.length}`));
    for (let j = 0; j < (tokenWeights?.length ?? 0); j++) checkWeight(action, `tokenWeights[${j}] of ${name}`, tokenWeights![j]!);
    return { ids, prompt, weight, tokenWeights: tokenWeights ?? null };
  }
}

function checkWeight(action: string, name: string, value: number): void {
  if (checkFinite(action, name, value) < 0) throw valueError(action, `${name} must be at least 0`, value);
}

/**
 * A teacher of which only text is known (sequence-level KD, arXiv 1606.07947): every token is a label with weight 1, as one sample of the
 * teacher is, and a critic's weights are row weights. Batches are arrays of sequences; row i is token i, which the student predicts
 * from the tokens before it.
 *
 * @example
 * const teacher = textTeacher({ cols: 50257, tokenize, threshold: 0.5 });
 * for await (const it of teacher.targets([[{ text: 'A proof.', weight: 0.9 }]])) kdLoss(student, it.target, it.lossOptions);
 */
export function textTeacher(options: TextOptions): TextTeacher {
  const action = 'make a teacher of text';
  const {
    cols,
    tokenize,
    threshold = 0,
    per = 'token',
  } = checkOptions(action, options, ['cols', 'tokenize', 'threshold', 'per', 'device']);
  checkWhole(action, 'cols', cols, 1, 2 ** 31 - 1);
  checkFunction(action, 'tokenize', tokenize);
  checkFinite(action, 'threshold', threshold);
  checkOneOf(action, 'per', per, ['token', 'sequence']);
  return new TextTeacher(options);
}
