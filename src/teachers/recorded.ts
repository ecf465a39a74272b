// Teachers that are answers: of a file of JSON Lines, of a batch job, or of a live endpoint.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { checkOneOf, checkOptions, checkPositive, checkWhole } from '../check.js';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';
import { tensor } from '../tensor.js';
import { badAnswer, formats, parseAnswer, textOfAnswer, type AnswerFormat } from './answers.js';
import { addReport, emptyReport, rowOf, sparseOf, type AnswerReport, type Columns, type Row } from './rows.js';
import {
  checkAccess,
  checkFunction,
  checkResidual,
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
import { Vocabulary } from './vocabulary.js';

/** An answer and where it stands, for messages. */
export interface RecordedAnswer {
  answer: unknown;
  where: string;
}

/** Options of every teacher that answers with JSON. */
export interface AnswerOptions extends SharedOptions {
  /** 'topk' reads log-probabilities, 'text' what was chosen. Default 'topk'. */
  access?: 'topk' | 'text';
  /** With 'topk': the most probable entries kept of each row; a chosen token outside them is kept too, so that rows have k + 1 slots. Default 20. */
  k?: number;
  /** From texts to the student's ids. */
  vocabulary?: Vocabulary;
  /** Instead of a vocabulary, with `ids: 'server'`: the student's columns. */
  cols?: number;
  /** 'server' where teacher and student share a tokenizer and answers have ids. Default: 'vocabulary' where there is one. */
  ids?: 'server' | 'vocabulary';
  /** What the answers are. Default 'auto'. */
  format?: AnswerFormat;
  /** Which of `choices`. Default 0. */
  choice?: number;
  /** The temperature the server takes its log-probabilities at. Default 1. */
  temperature?: number;
  /** With 'text': from an answer's text to the student's ids. Default: the chosen tokens that come with the log-probabilities. */
  tokenize?: (text: string) => ArrayLike<number>;
  /** 'throw' stops at an answer that cannot be used; 'skip' leaves it out, counts it and keeps what was wrong (an API's refusals of single requests, status 400, 413 and 422, too). Default 'throw'. */
  badAnswers?: 'throw' | 'skip';
}

export const answerOptionNames = [
  'access',
  'k',
  'vocabulary',
  'cols',
  'ids',
  'format',
  'choice',
  'temperature',
  'tokenize',
  'badAnswers',
  'residual',
  'device',
] as const;

/** Answers to rows, the same for files and endpoints. */
export class AnswerReader {
  readonly access: 'topk' | 'text';
  readonly k: number;
  readonly format: AnswerFormat;
  readonly report = emptyReport();
  readonly #columns: Columns;
  readonly #options: AnswerOptions;

  constructor(action: string, options: AnswerOptions) {
    const { access = 'topk', k = 20, vocabulary, cols, format = 'auto', choice = 0, temperature = 1, tokenize, badAnswers } = options;
    this.access = checkAccess(action, access, ['topk', 'text'], 'an API has no whole rows');
    this.k = checkWhole(action, 'k', k, 1, 2 ** 20);
    this.format = checkOneOf(action, 'format', format, formats);
    checkWhole(action, 'choice', choice);
    checkPositive(action, 'temperature', temperature);
    checkFunction(action, 'tokenize', tokenize);
    checkOneOf(action, 'badAnswers', badAnswers ?? 'throw', ['throw', 'skip']);
    checkResidual(action, options.residual);
    if (vocabulary !== undefined && !(vocabulary instanceof Vocabulary))
      throw kindError(action, 'vocabulary must be made by vocabulary or readVocabulary', vocabulary);
    if ((vocabulary === undefined) === (cols === undefined))
      throw kindError(
        action,
        'exactly one of vocabulary and cols must be given',
        phrase(cols === undefined ? 'there is none' : 'there are both'),
      );
    if (cols !== undefined) checkWhole(action, 'cols', cols, 1, 2 ** 31 - 1);
    const ids = checkOneOf(action, 'ids', options.ids ?? (vocabulary === undefined ? 'server' : 'vocabulary'), ['server', 'vocabulary']);
    if (ids === 'vocabulary' && vocabulary === undefined)
      throw kindError(action, "vocabulary must be given with ids: 'vocabulary'", vocabulary);
    if (tokenize !== undefined && access !== 'text')
      throw kindError(action, "tokenize must not be given with access 'topk'", phrase('it would not be read'));
    this.#columns = { vocabulary: vocabulary ?? null, ids, cols: vocabulary?.size ?? cols! };
    this.#options = options;
  }

  get cols(): number {
    return this.#columns.cols;
  }

  /** Whether answers must have log-probabilities. */
  get needsLogProbs(): boolean {
    return this.access === 'topk' || this.#options.tokenize === undefined;
  }

  /** The rows of one answer. @throws LimbeckError `bad_answer` */
  rows(answer: unknown, where: string, report: AnswerReport = emptyReport()): Row[] {
    const { tokenize, choice } = this.#options;
    if (this.access === 'text' && tokenize !== undefined) {
      const ids = Array.from(tokenize(textOfAnswer(answer, where, choice)));
      report.rows += ids.length;
      report.answers++;
      return ids.map((label) => {
        if (!(Number.isInteger(label) && label >= 0 && label < this.cols))
          throw valueError('use an answer', `every id of tokenize must be in [0, ${this.cols})`, label);
        return { ids: [], logProbs: [], tailLogMass: 0, label };
      });
    }
    const { positions } = parseAnswer(answer, where, this.format, choice);
    const rows = positions.map((position, i) => rowOf(`${where}, row ${i}`, position, this.k, this.#columns, report));
    report.answers++;
    return rows;
  }

  /** The target of a batch; an answer that is a LimbeckError already is thrown or skipped like one that cannot be used. */
  target<B>(batch: B, answers: readonly (RecordedAnswer | LimbeckError)[]): TeacherTarget<B> {
    const { badAnswers = 'throw', temperature = 1, residual, device } = this.#options;
    const report = emptyReport();
    const lengths: number[] = [];
    const all: Row[] = [];
    for (const it of answers) {
      const own = emptyReport();
      try {
        if (it instanceof LimbeckError) throw it;
        const rows = this.rows(it.answer, it.where, own);
        addReport(report, own);
        lengths.push(rows.length);
        for (const row of rows) all.push(row);
      } catch (error) {
        if (badAnswers === 'throw' || !(error instanceof LimbeckError)) throw error;
        report.skipped++;
        report.problems.push(error.message);
        lengths.push(0);
      }
    }
    const action = 'make a target of answers';
    const labels = Int32Array.from(all, ({ label }) => label);
    const target =
      this.access === 'text' ? choiceTarget(action, labels, this.cols, device) : sparseOf(all, this.k, this.cols, temperature, device);
    const isKnown = (row: Row): boolean => (this.access === 'text' ? row.label !== -100 : row.ids.length > 0);
    const rowWeights = all.every(isKnown)
      ? null
      : tensor(
          Float32Array.from(all, (row) => (isKnown(row) ? 1 : 0)),
          { device },
        );
    addReport(this.report, report);
    return teacherTarget(batch, target, all.length, { labels, rowWeights, lengths, residual });
  }
}

/** Made by {@link answersTeacher}. */
export class AnswersTeacher implements Teacher<readonly unknown[]> {
  readonly #reader: AnswerReader;

  /** @internal */
  constructor(reader: AnswerReader) {
    this.#reader = reader;
  }

  get access(): 'topk' | 'text' {
    return this.#reader.access;
  }

  /** Columns of the targets. */
  get cols(): number {
    return this.#reader.cols;
  }

  /** What was met so far. */
  get report(): Readonly<AnswerReport> {
    return this.#reader.report;
  }

  async *targets<B extends readonly unknown[]>(
    batches: Batches<B>,
    options?: TargetsOptions,
  ): AsyncGenerator<TeacherTarget<B>, void, void> {
    const action = 'read answers';
    const signal = checkSignal(action, checkOptions(action, options, ['signal']).signal);
    let count = 0;
    for await (const batch of each(action, batches, signal)) {
      if (!Array.isArray(batch)) throw kindError(action, 'a batch must be an array of answers', batch);
      const answers = batch.map((it: unknown) => {
        count++;
        return isRecorded(it) ? it : { answer: it, where: `answer ${count - 1}` };
      });
      yield this.#reader.target(batch, answers);
    }
  }
}

function isRecorded(value: unknown): value is RecordedAnswer {
  return typeof (value as RecordedAnswer | null)?.where === 'string' && 'answer' in (value as object);
}

/**
 * A teacher that is answers with log-probabilities, as {@link readAnswers} gives them or as any client does: OpenAI-style chat and completions,
 * vLLM's `prompt_logprobs`, llama.cpp's `completion_probabilities`. Batches are arrays of answers; each token is a row.
 *
 * @throws LimbeckError `bad_answer` that names the answer and the token: no log-probabilities, one above 0, mass above 1 + 1e-3,
 *   ids outside the columns or not of their text, a token with two probabilities
 *
 * @example
 * const teacher = answersTeacher({ vocabulary: readVocabulary('tokenizer.json'), residual: 'tail_bucket' });
 * for await (const it of teacher.targets(readAnswers('answers.jsonl', { batch: 8 }))) ...
 */
export function answersTeacher(options: AnswerOptions): AnswersTeacher {
  const action = 'make a teacher of answers';
  return new AnswersTeacher(new AnswerReader(action, checkOptions(action, options, answerOptionNames)));
}

/** Options of {@link readAnswers}. */
export interface ReadAnswersOptions {
  /** Answers of a batch. Default 32. */
  batch?: number;
  /** Stops reading. */
  signal?: AbortSignal;
}

/**
 * Reads a file of JSON Lines in batches, one line at a time in memory: an answer a line, a journal of {@link apiTeacher}, or the output of a
 * batch job (`{ response: { body } }`). Empty lines are passed over.
 *
 * @throws LimbeckError `bad_file` that names the line where one is no JSON, as the last of a file cut short is
 */
export async function* readAnswers(path: string, options?: ReadAnswersOptions): AsyncGenerator<RecordedAnswer[], void, void> {
  const action = 'read answers';
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  const { batch = 32, signal } = checkOptions(action, options, ['batch', 'signal']);
  checkWhole(action, 'batch', batch, 1);
  checkSignal(action, signal);
  let held: RecordedAnswer[] = [];
  for await (const { value, line } of readLines(path, signal)) {
    const answer = unwrapped(path, line, value);
    if (answer === undefined) continue;
    held.push({ answer, where: `${path} line ${line}` });
    if (held.length === batch) {
      yield held;
      held = [];
    }
  }
  if (held.length > 0) yield held;
}

/** The parsed lines of a file, from 1. */
async function* readLines(path: string, signal: AbortSignal | undefined): AsyncGenerator<{ value: unknown; line: number }> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Infinity })[Symbol.asyncIterator]();
  try {
    for (let line = 1; ; line++) {
      signal?.throwIfAborted();
      const { value: text, done } = await lines.next().catch((error: unknown) => {
        throw new LimbeckError('bad_file', `Cannot read ${path}: it must be a file that can be read: ${(error as Error).message}`, {
          cause: error,
        });
      });
      if (done === true) return;
      if (text.trim() === '') continue;
      let value: unknown;
      try {
        value = JSON.parse(line === 1 ? text.replace(/^\uFEFF/, '') : text);
      } catch (error) {
        throw new LimbeckError('bad_file', `Cannot read ${path}: line ${line} must be JSON: ${(error as Error).message}`, { cause: error });
      }
      yield { value, line };
    }
  } finally {
    await lines.return?.();
  }
}

/** The answer of a line, out of what batch jobs and journals put around it; undefined for a journal's first line. */
function unwrapped(path: string, line: number, value: unknown): unknown {
  if (value === null || typeof value !== 'object')
    throw badAnswer(`${path} line ${line}`, 'it must be an object', `it is ${JSON.stringify(value)}`);
  const it = value as { journal?: unknown; answer?: unknown; response?: { body?: unknown } | null; error?: unknown; choices?: unknown };
  if (typeof it.journal === 'string') return undefined;
  if (it.answer !== undefined) return it.answer;
  if (it.response?.body !== undefined) return it.response.body;
  return value;
}
