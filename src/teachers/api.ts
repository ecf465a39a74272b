// Teachers behind an HTTP endpoint: asked at a given rate, again where that may help, and never twice for the same.
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import PQueue from 'p-queue';
import pRetry from 'p-retry';
import { checkNumber, checkOptions, checkPositive, checkWhole } from '../check.js';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';
import { EndpointError, post } from './endpoint.js';
import { hashOf, Journal } from './journal.js';
import { AnswerReader, answerOptionNames, type AnswerOptions, type RecordedAnswer } from './recorded.js';
import type { AnswerReport } from './rows.js';
import { checkFunction, checkSignal, each, type Batches, type TargetsOptions, type Teacher, type TeacherTarget } from './teacher.js';

/** What is asked: a prompt, messages of a chat, or (part of) a request's body. */
export type ApiRequest = string | readonly { role: string; content: unknown }[] | Readonly<Record<string, unknown>>;

/** How far a teacher is. */
export interface ApiProgress {
  /** Requests that have an answer. */
  answered: number;
  /** Of these, how many the journal had. */
  fromJournal: number;
  /** Attempts that failed and were made again. */
  retries: number;
  /** Requests on their way or waiting. */
  pending: number;
  /** What the last failed attempt was, or null. */
  lastProblem: string | null;
}

/** Options of {@link apiTeacher}. */
export interface ApiOptions extends AnswerOptions {
  /** The endpoint: .../v1/chat/completions, .../v1/completions or llama.cpp's .../completion; others with `request`. */
  url: string;
  /** Sent as `Authorization: Bearer`. It is never written anywhere. */
  apiKey?: string;
  headers?: Record<string, string>;
  /** Joined to every request: model, max_tokens, temperature, seed, ... */
  parameters?: Readonly<Record<string, unknown>>;
  /** The whole body for a request, instead of the one that the URL suggests. */
  request?: (asked: ApiRequest) => Record<string, unknown>;
  /** Requests at a time. Default 4. */
  concurrency?: number;
  /** Attempts a minute, repeated ones too, over any minute. Default: no limit. */
  requestsPerMinute?: number;
  /** Milliseconds for one attempt, until the last byte, at most 300,000, where Node's own patience ends. Default 60,000. */
  timeout?: number;
  /** How often a request is made again where that may help. Default 6. */
  retries?: number;
  /** Milliseconds before the first repetition, doubled for each and lengthened at random up to twice. Default 1,000. */
  minDelay?: number;
  /** Milliseconds that a repetition waits at most; a server's Retry-After above it is an error. Default 120,000. */
  maxDelay?: number;
  /** Bytes of an answer. Default 64 MiB. */
  maxBytes?: number;
  /** A file that answers are kept in, so that a later run does not ask for them again. One process at a time. */
  journal?: string;
  onProgress?: (progress: ApiProgress) => void;
}

const apiOptionNames = [
  ...answerOptionNames,
  'url',
  'apiKey',
  'headers',
  'parameters',
  'request',
  'concurrency',
  'requestsPerMinute',
  'timeout',
  'retries',
  'minDelay',
  'maxDelay',
  'maxBytes',
  'journal',
  'onProgress',
] as const;

/** Made by {@link apiTeacher}. */
export class ApiTeacher implements Teacher<readonly ApiRequest[]> {
  readonly #reader: AnswerReader;
  readonly #options: ApiOptions & {
    concurrency: number;
    timeout: number;
    retries: number;
    minDelay: number;
    maxDelay: number;
    maxBytes: number;
  };
  readonly #headers: Record<string, string>;
  readonly #progress: ApiProgress = { answered: 0, fromJournal: 0, retries: 0, pending: 0, lastProblem: null };
  readonly #asking = new Map<string, Promise<RecordedAnswer>>();
  /** Open while a loop over targets runs. */
  #journal: Promise<Journal> | null = null;
  #loops = 0;
  readonly #queue: PQueue;
  /** No attempt starts before: what a server asked for counts for all. */
  #notBefore = 0;

  /** @internal */
  constructor(action: string, options: ApiOptions) {
    const { url, apiKey, headers = {}, concurrency = 4, requestsPerMinute, timeout = 60_000, retries = 6 } = options;
    const { minDelay = 1000, maxDelay = 120_000, maxBytes = 2 ** 26, journal, request, onProgress, parameters } = options;
    if (typeof url !== 'string') throw kindError(action, 'url must be a string', url);
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw valueError(action, 'url must be an http or https address', url);
    if (apiKey !== undefined && typeof apiKey !== 'string') throw kindError(action, 'apiKey must be a string', phrase('it is not'));
    checkWhole(action, 'concurrency', concurrency, 1, 1024);
    if (requestsPerMinute !== undefined) checkPositive(action, 'requestsPerMinute', requestsPerMinute);
    checkWhole(action, 'timeout', timeout, 1, 300_000);
    checkWhole(action, 'retries', retries, 0, 1000);
    for (const [name, value] of Object.entries({ minDelay, maxDelay }))
      if (!(checkNumber(action, name, value) >= 0 && value < 2 ** 31))
        throw valueError(action, `${name} must be milliseconds in [0, 2^31)`, value);
    checkWhole(action, 'maxBytes', maxBytes, 1);
    if (journal !== undefined && (typeof journal !== 'string' || journal === ''))
      throw kindError(action, 'journal must be a path', journal);
    checkFunction(action, 'request', request);
    checkFunction(action, 'onProgress', onProgress);
    for (const [name, value] of Object.entries({ parameters, headers }))
      if (value !== undefined && (value === null || typeof value !== 'object')) throw kindError(action, `${name} must be an object`, value);
    this.#reader = new AnswerReader(action, options);
    this.#headers = { ...headers, ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }) };
    this.#options = { ...options, concurrency, timeout, retries, minDelay, maxDelay, maxBytes };
    this.#queue = makeQueue(this.#options);
    if (request === undefined) bodyFor(action, this.#options, this.#reader, 'x');
  }

  get access(): 'topk' | 'text' {
    return this.#reader.access;
  }

  /** Columns of the targets. */
  get cols(): number {
    return this.#reader.cols;
  }

  /** What was met in the answers so far. */
  get report(): Readonly<AnswerReport> {
    return this.#reader.report;
  }

  /** How far it is. */
  get progress(): Readonly<ApiProgress> {
    return { ...this.#progress };
  }

  async *targets<B extends readonly ApiRequest[]>(
    batches: Batches<B>,
    options?: TargetsOptions,
  ): AsyncGenerator<TeacherTarget<B>, void, void> {
    const action = 'ask a teacher';
    const signal = checkSignal(action, checkOptions(action, options, ['signal']).signal);
    // Leaving the loop early ends what is on its way.
    const stop = new AbortController();
    const both = AbortSignal.any(signal === undefined ? [stop.signal] : [signal, stop.signal]);
    // Every request listens to it.
    setMaxListeners(0, both);
    this.#loops++;
    try {
      for await (const batch of each(action, batches, signal)) {
        if (!Array.isArray(batch)) throw kindError(action, 'a batch must be an array of requests', batch);
        yield this.#reader.target(batch, await this.#askAll(batch as B, both, stop));
      }
    } finally {
      stop.abort(new DOMException('The loop over targets was left', 'AbortError'));
      if (--this.#loops === 0) await this.#closeJournal();
    }
  }

  async #askAll(batch: readonly ApiRequest[], signal: AbortSignal, stop: AbortController): Promise<(RecordedAnswer | LimbeckError)[]> {
    const { badAnswers = 'throw', journal } = this.#options;
    if (journal !== undefined) await (this.#journal ??= Journal.open(journal));
    this.#progress.pending += batch.length;
    const asked = batch.map(async (one) => {
      try {
        return await this.#ask(one, signal);
      } catch (error) {
        if (badAnswers === 'skip' && isOfRequest(error)) return error;
        stop.abort(error);
        throw error;
      } finally {
        this.#progress.pending--;
        this.#tell();
      }
    });
    const settled = await Promise.allSettled(asked);
    signal.throwIfAborted();
    return settled.map((each) => (each as PromiseFulfilledResult<RecordedAnswer | LimbeckError>).value);
  }

  async #closeJournal(): Promise<void> {
    const journal = this.#journal;
    this.#journal = null;
    await (await journal?.catch(() => undefined))?.close();
  }

  #tell(): void {
    this.#options.onProgress?.(this.progress);
  }

  async #ask(one: ApiRequest, signal: AbortSignal): Promise<RecordedAnswer> {
    const action = 'ask a teacher';
    const body = this.#options.request?.(one) ?? bodyFor(action, this.#options, this.#reader, one);
    if (body === null || typeof body !== 'object' || Array.isArray(body)) throw kindError(action, 'request must give an object', body);
    if (body['stream'] === true) throw valueError(action, 'stream must be false: answers are read whole', true);
    const key = hashOf(JSON.stringify([this.#options.url, sorted(body)]));
    const known = await this.#journal;
    if (known?.has(key) === true) {
      const found = await known.read(key);
      this.#progress.answered++;
      this.#progress.fromJournal++;
      return found;
    }
    // The same request twice at a time is one request.
    for (let other = this.#asking.get(key); other !== undefined; other = this.#asking.get(key)) {
      const it = await other.catch((error: unknown) => {
        // Another loop's signal is not ours: asked again.
        if (error instanceof LimbeckError) throw error;
        signal.throwIfAborted();
        return null;
      });
      if (it === null) continue;
      this.#progress.answered++;
      return it;
    }
    const it = await this.#askOnce(key, one, body, signal, known);
    this.#progress.answered++;
    return it;
  }

  #askOnce(
    key: string,
    one: ApiRequest,
    body: Record<string, unknown>,
    signal: AbortSignal,
    journal: Journal | null,
  ): Promise<RecordedAnswer> {
    const answer = this.#answer(one, JSON.stringify(body), signal).then(async (it) => {
      await journal?.add(key, body, it.answer);
      return it;
    });
    this.#asking.set(key, answer);
    const forget = (): void => void this.#asking.delete(key);
    answer.then(forget, forget);
    return answer;
  }

  #answer(one: ApiRequest, body: string, signal: AbortSignal): Promise<RecordedAnswer> {
    const { url, retries, minDelay, maxDelay, timeout, maxBytes } = this.#options;
    const attempt = async (): Promise<RecordedAnswer> => {
      await this.#waitForServer(signal);
      const answer = await post(url, body, { headers: this.#headers, timeout, maxBytes, signal }).catch((error: unknown) => {
        this.#heed(error);
        throw error;
      });
      const where = `the answer of ${new URL(url).host} to ${(typeof one === 'string' ? `'${one}'` : JSON.stringify(one)).slice(0, 60)}`;
      // Read before it is kept: nothing that cannot be used gets into the journal.
      this.#reader.rows(answer, where);
      return { answer, where };
    };
    return pRetry(() => this.#queue.add(attempt, { signal }), {
      retries,
      minTimeout: minDelay,
      maxTimeout: maxDelay,
      randomize: true,
      signal,
      shouldRetry: ({ error }) => error instanceof EndpointError && error.mayPass,
      onFailedAttempt: ({ error, retriesLeft }) => this.#failed(error, retriesLeft),
    });
  }

  #failed(error: Error, retriesLeft: number): void {
    if (!(error instanceof EndpointError) || !error.mayPass || retriesLeft === 0) return;
    const { retryAfter } = error;
    const { maxDelay } = this.#options;
    if (retryAfter !== null && retryAfter > maxDelay)
      throw new EndpointError(
        'endpoint_failed',
        `${error.message}; it asks to wait ${Math.ceil(retryAfter / 1000)} s, more than maxDelay allows`,
        {
          status: error.status ?? undefined,
          mayPass: false,
          cause: error,
        },
      );
    this.#progress.retries++;
    this.#progress.lastProblem = error.message;
    this.#tell();
  }

  /** Takes a server's Retry-After for all requests, while the one that was told still holds its place in the queue. */
  #heed(error: unknown): void {
    if (!(error instanceof EndpointError) || error.retryAfter === null || error.retryAfter > this.#options.maxDelay) return;
    this.#notBefore = Math.max(this.#notBefore, Date.now() + error.retryAfter);
  }

  async #waitForServer(signal: AbortSignal): Promise<void> {
    for (let left = this.#notBefore - Date.now(); left > 0; left = this.#notBefore - Date.now()) await sleep(left, undefined, { signal });
  }
}

/** Statuses that are about the request; others would meet every one, and skipping would leave out all that is left. */
const ofRequest: readonly (number | null)[] = [200, 400, 413, 422];

function isOfRequest(error: unknown): error is LimbeckError {
  if (error instanceof EndpointError) return error.code === 'endpoint_refused' && ofRequest.includes(error.status);
  return error instanceof LimbeckError && error.code === 'bad_answer';
}

function makeQueue({ concurrency, requestsPerMinute }: ApiOptions): PQueue {
  if (requestsPerMinute === undefined) return new PQueue({ concurrency });
  // Evenly: one each 60,000/n ms never exceeds n in any minute, whatever window the server counts in.
  return new PQueue({ concurrency, interval: 60_000 / requestsPerMinute, intervalCap: 1, strict: true });
}

/** Keys in order, so that equal requests are equal text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value as Record<string, unknown>).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, entry]) => [key, sorted(entry)]);
}

/** The body that an endpoint of this address takes. */
function bodyFor(action: string, { url, parameters }: ApiOptions, reader: AnswerReader, one: ApiRequest): Record<string, unknown> {
  const path = new URL(url).pathname.replace(/\/+$/, '');
  const isObject = typeof one === 'object' && one !== null && !Array.isArray(one);
  if (typeof one !== 'string' && !Array.isArray(one) && !isObject)
    throw kindError(action, 'a request must be text, messages or an object', one);
  const own = isObject ? (one as Record<string, unknown>) : {};
  const { k, access, format, needsLogProbs: wants } = reader;
  const best = access === 'topk' ? k : 1;
  if (path.endsWith('/chat/completions')) {
    const messages = typeof one === 'string' ? [{ role: 'user', content: one }] : Array.isArray(one) ? one : undefined;
    const ask = format === 'prompt_logprobs' ? { prompt_logprobs: k } : wants ? { logprobs: true, top_logprobs: best } : {};
    return { ...(messages === undefined ? {} : { messages }), ...ask, ...parameters, ...own };
  }
  const prompt = typeof one === 'string' ? { prompt: one } : {};
  if (path.endsWith('/completions')) {
    if (Array.isArray(one)) throw kindError(action, 'a request to a completions endpoint must be text or an object', one);
    const ask = format === 'prompt_logprobs' ? { prompt_logprobs: k, max_tokens: 1 } : wants ? { logprobs: best } : {};
    return { ...prompt, ...ask, ...parameters, ...own };
  }
  if (path.endsWith('/completion')) {
    if (Array.isArray(one)) throw kindError(action, 'a request to a completion endpoint must be text or an object', one);
    return { ...prompt, ...(wants ? { n_probs: best } : {}), ...parameters, ...own };
  }
  throw valueError(action, 'url must end in /chat/completions, /completions or /completion, or request must be given', path);
}

/**
 * A teacher behind an HTTP endpoint that gives log-probabilities (OpenAI-style, vLLM, llama.cpp). Batches are arrays of prompts, chats or bodies; each
 * token of the answers is a row. Requests of a batch run side by side.
 *
 * Attempts that may pass (no connection, timeout, cut answers, status 408, 409, 425, 429, 5xx) are repeated with growing pauses; a server's
 * Retry-After holds for all requests. With `journal`, answers that could be used are on disk before they are trained on,
 * and the next run asks for the rest. Equal requests are asked once: give them different seeds where several samples are wanted.
 *
 * @throws EndpointError (a LimbeckError) `endpoint_refused`, `endpoint_failed`, `endpoint_timeout`, `endpoint_unreachable`; LimbeckError `bad_answer`,
 *   `bad_file` for the journal; the signal's reason
 *
 * @example
 * const teacher = apiTeacher({ url: 'http://localhost:8000/v1/completions', vocabulary, k: 20, parameters: { model: 'teacher', max_tokens: 64 } });
 * for await (const it of teacher.targets([['Once upon a time']])) ...
 */
export function apiTeacher(options: ApiOptions): ApiTeacher {
  const action = 'make an API teacher';
  if (options === undefined) throw kindError(action, 'options must be an object', options);
  return new ApiTeacher(action, checkOptions(action, options, apiOptionNames));
}
