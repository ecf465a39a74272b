// From the token strings and bytes that an API answers with to the student's ids.
import { readFileSync } from 'node:fs';
import { checkOneOf, checkOptions, checkWhole } from '../check.js';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';
import { bytesOfLetters } from '../text/letters.js';

const encodings = ['text', 'byte_level', 'sentencepiece'] as const;

/** How the strings of a vocabulary stand for bytes. */
export type TokenEncoding = (typeof encodings)[number];

/** Options of {@link vocabulary}. */
export interface VocabularyOptions {
  /**
   * 'text': as they are. 'byte_level': GPT-2's letters for bytes ('Ġ' is a space). 'sentencepiece': '▁' is a space, '<0x0A>' a byte.
   * Default 'text'.
   */
  encoding?: TokenEncoding;
  /** Columns of the student. Default: the largest id + 1. */
  size?: number;
}

/** Strings and bytes to ids. Made by {@link vocabulary} or {@link readVocabulary}. */
export class Vocabulary {
  /** Ids are in [0, size). */
  readonly size: number;
  /** How many tokens have the bytes of another with a lower id, and are never found by them. */
  readonly ambiguous: number;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #keys: ReadonlyMap<number, string>;

  /** @internal */
  constructor(ids: ReadonlyMap<string, number>, keys: ReadonlyMap<number, string>, size: number, ambiguous: number) {
    this.#ids = ids;
    this.#keys = keys;
    this.size = size;
    this.ambiguous = ambiguous;
  }

  /** The id of a token as text, or undefined. */
  idOf(token: string): number | undefined {
    return this.#ids.get(keyOfText(token));
  }

  /** The id of a token as UTF-8 bytes, or undefined. */
  idOfBytes(bytes: Iterable<number>): number | undefined {
    return this.#ids.get(Buffer.from([...bytes]).toString('latin1'));
  }

  /** The text of an id, with U+FFFD where its bytes are no whole letters; undefined where the id has none. */
  textOf(id: number): string | undefined {
    const key = this.#keys.get(id);
    return key === undefined ? undefined : Buffer.from(key, 'latin1').toString('utf8');
  }
}

/** Bytes as a string of the code points 0 to 255, which a Map can hold. */
const keyOfText = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

/**
 * A vocabulary from its tokens: an array (the id is the place), a Map, or an object from token to id. Tokens of the same bytes
 * go to the lowest id.
 *
 * @throws RangeError where an id is not a whole number, is used twice, or does not fit `size`
 *
 * @example
 * vocabulary(['<s>', 'Hello', ' world']).idOf(' world'); // 2
 */
export function vocabulary(
  tokens: readonly string[] | ReadonlyMap<string, number> | Readonly<Record<string, number>>,
  options?: VocabularyOptions,
): Vocabulary {
  const action = 'make a vocabulary';
  const { encoding = 'text', size } = checkOptions(action, options, ['encoding', 'size']);
  checkOneOf(action, 'encoding', encoding, encodings);
  if (tokens === null || typeof tokens !== 'object') throw kindError(action, 'tokens must be an array, a Map or an object', tokens);
  const pairs: Iterable<readonly [unknown, unknown]> = Array.isArray(tokens)
    ? (tokens as unknown[]).map((token, id) => [token, id] as const)
    : tokens instanceof Map
      ? (tokens as ReadonlyMap<unknown, unknown>)
      : Object.entries(tokens);
  const keys = new Map<number, string>();
  let largest = -1;
  for (const [token, id] of pairs) {
    if (typeof token !== 'string') throw kindError(action, 'every token must be a string', token);
    const number = checkWhole(action, `the id of '${token.slice(0, 40)}'`, id, 0, 2 ** 31 - 2);
    if (keys.has(number))
      throw valueError(action, 'every id must be used once', phrase(`${number} is used again by '${token.slice(0, 40)}'`));
    keys.set(number, keyOf(token, encoding));
    largest = Math.max(largest, number);
  }
  if (largest < 0) throw valueError(action, 'tokens must hold at least one', phrase('there is none'));
  if (size !== undefined) checkWhole(action, 'size', size, largest + 1, 2 ** 31 - 1);
  const ids = new Map<string, number>();
  let ambiguous = 0;
  for (const id of [...keys.keys()].sort((a, b) => a - b)) {
    const key = keys.get(id)!;
    if (ids.has(key)) ambiguous++;
    else ids.set(key, id);
  }
  return new Vocabulary(ids, keys, size ?? largest + 1, ambiguous);
}

function keyOf(token: string, encoding: TokenEncoding): string {
  if (encoding === 'byte_level') {
    const bytes = [...token].map((letter) => bytesOfLetters.get(letter));
    // Special tokens may hold letters that stand for no byte.
    return bytes.includes(undefined) ? keyOfText(token) : String.fromCharCode(...(bytes as number[]));
  }
  if (encoding === 'sentencepiece') {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
    return byte === null ? keyOfText(token.replaceAll('▁', ' ')) : String.fromCharCode(Number.parseInt(byte[1]!, 16));
  }
  return keyOfText(token);
}

/**
 * A vocabulary from a file: a `tokenizer.json` of Hugging Face (BPE or Unigram, with its added tokens; the encoding is found in it),
 * a `vocab.json` from token to id, or text with a token a line.
 *
 * @param options `encoding` and `size` override what the file says
 * @throws LimbeckError `bad_file` where it is none of them
 */
export function readVocabulary(path: string, options?: VocabularyOptions): Vocabulary {
  const action = 'read a vocabulary';
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  checkOptions(action, options, ['encoding', 'size']);
  try {
    const text = readFileSync(path, 'utf8');
    if (!path.endsWith('.json')) return vocabulary(text.replace(/\r?\n$/, '').split(/\r?\n/), options);
    const file = JSON.parse(text) as TokenizerFile | Record<string, number>;
    if (typeof (file as TokenizerFile).model !== 'object') return vocabulary(file as Record<string, number>, options);
    return fromTokenizer(file as TokenizerFile, options);
  } catch (error) {
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${path}: it must be a tokenizer.json, a vocab.json or a token a line: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

interface TokenizerFile {
  model: { vocab?: Record<string, number> | [string, number][]; byte_fallback?: boolean };
  added_tokens?: { id: number; content: string }[];
  decoder?: unknown;
  pre_tokenizer?: unknown;
}

function fromTokenizer(file: TokenizerFile, options: VocabularyOptions = {}): Vocabulary {
  const { vocab } = file.model;
  const ids = new Map<string, number>(Array.isArray(vocab) ? vocab.map(([token], id) => [token, id]) : Object.entries(vocab ?? {}));
  for (const { id, content } of file.added_tokens ?? []) ids.set(content, id);
  const parts = JSON.stringify([file.decoder, file.pre_tokenizer]);
  const found: TokenEncoding = parts.includes('"ByteLevel"')
    ? 'byte_level'
    : parts.includes('▁') || file.model.byte_fallback === true
      ? 'sentencepiece'
      : 'text';
  return vocabulary(ids, { encoding: options.encoding ?? found, size: options.size });
}
