// Log-probabilities in the answers of model servers: OpenAI-style chat and completions, vLLM's prompts, llama.cpp's own.
import { LimbeckError } from '../errors.js';

/** Kinds of answers. */
export const formats = ['auto', 'chat', 'completion', 'prompt_logprobs', 'llama_cpp'] as const;
export type AnswerFormat = (typeof formats)[number];

/** A token and what the teacher thinks of it. */
export interface TokenEntry {
  /** As text; null where the answer has only an id. */
  token: string | null;
  /** UTF-8; null where the answer has none. */
  bytes: readonly number[] | null;
  /** The server's own id; null where the answer has none. */
  id: number | null;
  /** −∞ for a probability of 0 and for the sentinels of APIs (−9999, null). */
  logProb: number;
}

/** One place of a sequence. */
export interface AnswerPosition {
  /** The token that stands there; null where the answer does not say. */
  chosen: TokenEntry | null;
  /** What could have stood there. */
  entries: TokenEntry[];
}

/** What was found in an answer. */
export interface ParsedAnswer {
  format: Exclude<AnswerFormat, 'auto'>;
  positions: AnswerPosition[];
  /** The text of the answer; null where there is none. */
  text: string | null;
}

type Json = Record<string, unknown>;

/** Log-probabilities at or below this say "unlikely", not how unlikely. */
const sentinel = -9999;

export function badAnswer(where: string, mustHold: string, was?: string): LimbeckError {
  return new LimbeckError('bad_answer', `Cannot use ${where}: ${mustHold}${was === undefined ? '' : `: ${was}`}`);
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) ?? String(value));
  return `it is ${text.length > 80 ? `${text.slice(0, 77)}...` : text}`;
}

function objectOf(where: string, name: string, value: unknown): Json {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw badAnswer(where, `${name} must be an object`, shown(value));
  return value as Json;
}

function listOf(where: string, name: string, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw badAnswer(where, `${name} must be an array`, shown(value));
  return value;
}

/** Reads an answer; what is not as its format says is a LimbeckError `bad_answer` that names the place. */
export function parseAnswer(answer: unknown, where: string, format: AnswerFormat = 'auto', choice = 0): ParsedAnswer {
  const whole = objectOf(where, 'the answer', answer);
  const { error } = whole;
  if (error !== undefined && error !== null) {
    const message = typeof error === 'object' ? (error as Json)['message'] : error;
    throw badAnswer(where, 'it must be an answer', `it is the error ${shown(message ?? error).replace(/^it is /, '')}`);
  }
  const isLlama = Array.isArray(whole['completion_probabilities']);
  if (format === 'llama_cpp' || (format === 'auto' && isLlama)) return llama(where, whole);
  const choices = listOf(where, 'choices', whole['choices']);
  if (choice >= choices.length) throw badAnswer(where, `it must have ${choice + 1} choices`, `it has ${choices.length}`);
  const chosen = objectOf(where, `choices[${choice}]`, choices[choice]);
  const logprobs = chosen['logprobs'] as Json | null | undefined;
  const message = chosen['message'] as Json | undefined;
  const own = message?.['content'] ?? chosen['text'];
  const text = typeof own === 'string' ? own : null;
  const prompt = chosen['prompt_logprobs'] ?? whole['prompt_logprobs'];
  const isChat = Array.isArray(logprobs?.['content']);
  const isCompletion = Array.isArray(logprobs?.['top_logprobs']) || Array.isArray(logprobs?.['tokens']);
  const found =
    format !== 'auto' ? format : isChat ? 'chat' : isCompletion ? 'completion' : Array.isArray(prompt) ? 'prompt_logprobs' : null;
  const ids = chosen['prompt_token_ids'] ?? whole['prompt_token_ids'];
  if (found === 'chat' && isChat) return { format: found, positions: chat(where, logprobs!['content']), text };
  if (found === 'completion' && isCompletion) return { format: found, positions: completion(where, logprobs!), text };
  if (found === 'prompt_logprobs' && Array.isArray(prompt)) return { format: found, positions: promptRows(where, prompt, ids), text };
  const ask =
    found === 'prompt_logprobs' ? 'prompt_logprobs: k' : found === 'completion' ? 'logprobs: k' : 'logprobs: true and top_logprobs: k';
  throw badAnswer(
    where,
    `it must hold log-probabilities${found === null ? '' : ` of format '${found}'`}`,
    `there are none (ask for them with ${ask})`,
  );
}

/** The text of an answer without looking for log-probabilities. */
export function textOfAnswer(answer: unknown, where: string, choice = 0): string {
  const whole = objectOf(where, 'the answer', answer);
  if (whole['error'] !== undefined && whole['error'] !== null) parseAnswer(answer, where);
  const chosen = Array.isArray(whole['choices']) ? (whole['choices'] as unknown[])[choice] : undefined;
  const { message, text } = (chosen ?? {}) as { message?: { content?: unknown }; text?: unknown };
  const found = message?.content ?? text ?? whole['content'];
  if (typeof found !== 'string')
    throw badAnswer(where, 'it must hold text (choices[].message.content, choices[].text or content)', shown(found));
  return found;
}

/** A log-probability as it stands: null and sentinels are −∞, anything but a number at most 0 is refused. */
function logProbOf(where: string, value: unknown): number {
  if (value === null || value === '-Infinity' || value === '-inf') return -Infinity;
  if (typeof value !== 'number' || Number.isNaN(value)) throw badAnswer(where, 'a log-probability must be a number', shown(value));
  // Rounding makes 1 a little more than 1; more than that is no probability.
  if (value > 1e-3) throw badAnswer(where, 'a log-probability must be at most 0', shown(value));
  return value <= sentinel ? -Infinity : value;
}

function probOf(where: string, value: unknown): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1 + 1e-3))
    throw badAnswer(where, 'a probability must be in [0, 1]', shown(value));
  return Math.log(value);
}

function bytesOf(where: string, value: unknown): readonly number[] | null {
  if (value === undefined || value === null) return null;
  const bytes = listOf(where, 'bytes', value);
  const wrong = bytes.find((byte) => !(Number.isInteger(byte) && (byte as number) >= 0 && (byte as number) <= 255));
  if (wrong !== undefined) throw badAnswer(where, 'bytes must be whole numbers in [0, 255]', shown(wrong));
  // Some servers leave it empty where they mean that they do not know.
  return bytes.length === 0 ? null : (bytes as number[]);
}

function idOf(where: string, value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw badAnswer(where, 'a token id must be a whole number of at least 0', shown(value));
  return value as number;
}

/** One entry; vLLM writes ids as 'token_id:123' where it is asked to. */
function entryOf(where: string, value: unknown, key: 'token' | 'tok_str' = 'token'): TokenEntry {
  const entry = objectOf(where, 'an entry', value);
  const token = entry[key];
  if (token !== undefined && token !== null && typeof token !== 'string') throw badAnswer(where, 'a token must be a string', shown(token));
  const isProb = entry['logprob'] === undefined && entry['prob'] !== undefined;
  const logProb = isProb ? probOf(where, entry['prob']) : logProbOf(where, entry['logprob']);
  const named = typeof token === 'string' ? withId(token) : { token: null, id: null };
  const made = { token: named.token, id: named.id ?? idOf(where, entry['id']), bytes: bytesOf(where, entry['bytes']), logProb };
  if (made.token === null && made.id === null && made.bytes === null) throw badAnswer(where, 'an entry must name its token', shown(entry));
  return made;
}

function withId(token: string): { token: string | null; id: number | null } {
  const found = /^token_id:(\d{1,10})$/.exec(token);
  return found === null ? { token, id: null } : { token: null, id: Number(found[1]) };
}

function chat(where: string, content: unknown): AnswerPosition[] {
  return listOf(where, 'logprobs.content', content).map((place, i) => {
    const at = `${where}, token ${i}`;
    const position = objectOf(at, 'a place', place);
    const top = position['top_logprobs'] ?? [];
    return { chosen: entryOf(at, position), entries: listOf(at, 'top_logprobs', top).map((entry) => entryOf(at, entry)) };
  });
}

function completion(where: string, logprobs: Json): AnswerPosition[] {
  const top = logprobs['top_logprobs'] as unknown;
  const tokens = listOf(where, 'logprobs.tokens', logprobs['tokens'] ?? []);
  const own = listOf(where, 'logprobs.token_logprobs', logprobs['token_logprobs'] ?? []);
  const tops = top === null || top === undefined ? tokens.map(() => ({})) : listOf(where, 'logprobs.top_logprobs', top);
  if (tops.length !== tokens.length || own.length !== tokens.length)
    throw badAnswer(
      where,
      'tokens, token_logprobs and top_logprobs must be of one length',
      `they are of ${tokens.length}, ${own.length} and ${tops.length}`,
    );
  return tokens.flatMap((token, i): AnswerPosition[] => {
    const at = `${where}, token ${i}`;
    if (typeof token !== 'string') throw badAnswer(at, 'a token must be a string', shown(token));
    // With echo, the first token of the prompt was never predicted.
    if (own[i] === null && tops[i] === null) return [];
    const entries = Object.entries(objectOf(at, 'top_logprobs', tops[i] ?? {})).map(([text, value]): TokenEntry => ({
      ...withId(text),
      bytes: null,
      logProb: logProbOf(at, value),
    }));
    return [{ chosen: { ...withId(token), bytes: null, logProb: logProbOf(at, own[i]) }, entries }];
  });
}

function promptRows(where: string, prompt: readonly unknown[], ids: unknown): AnswerPosition[] {
  const known = Array.isArray(ids) && ids.length === prompt.length ? ids : null;
  return prompt.flatMap((place, i): AnswerPosition[] => {
    const at = `${where}, prompt token ${i}`;
    // Nothing precedes the first token, so nothing predicts it.
    if (place === null) {
      if (i > 0) throw badAnswer(at, 'prompt_logprobs must hold an object after the first', shown(place));
      return [];
    }
    const entries = Object.entries(objectOf(at, 'prompt_logprobs', place)).map(([key, value]): TokenEntry => {
      if (!/^\d{1,10}$/.test(key)) throw badAnswer(at, 'a token id must be a whole number of at least 0', shown(key));
      const { logprob, decoded_token: token } = objectOf(at, 'an entry', value);
      return { id: Number(key), token: typeof token === 'string' ? token : null, bytes: null, logProb: logProbOf(at, logprob) };
    });
    const id = known === null ? null : idOf(at, known[i]);
    const chosen = id === null ? null : (entries.find((entry) => entry.id === id) ?? { id, token: null, bytes: null, logProb: -Infinity });
    return [{ chosen, entries }];
  });
}

function llama(where: string, whole: Json): ParsedAnswer {
  const places = listOf(where, 'completion_probabilities', whole['completion_probabilities']);
  const positions = places.map((place, i): AnswerPosition => {
    const at = `${where}, token ${i}`;
    const position = objectOf(at, 'a place', place);
    // Up to 2024 'probs' with 'tok_str' and 'prob', since then 'top_logprobs', or 'top_probs' after sampling.
    if (Array.isArray(position['probs'])) {
      const entries = position['probs'].map((entry) =>
        entryOf(at, entry, (entry as Json | null)?.['tok_str'] === undefined ? 'token' : 'tok_str'),
      );
      const { content } = position;
      const own = entries.find(({ token }) => token === content);
      const chosen = own ?? (typeof content === 'string' ? { token: content, bytes: null, id: null, logProb: -Infinity } : null);
      return { chosen, entries };
    }
    const entries = listOf(at, 'top_logprobs', position['top_logprobs'] ?? position['top_probs']).map((entry) => entryOf(at, entry));
    const isNamed = position['logprob'] !== undefined || position['prob'] !== undefined;
    return { chosen: isNamed ? entryOf(at, position) : null, entries };
  });
  const { content } = whole;
  return { format: 'llama_cpp', positions, text: typeof content === 'string' ? content : null };
}
