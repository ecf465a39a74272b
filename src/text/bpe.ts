// A byte-level BPE tokenizer: any text to ids and back exactly, and its file in Hugging Face's tokenizer.json layout.
import { readFileSync } from 'node:fs';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';
import { writeWhole } from '../distill/files.js';
import { bytesOfToken, lettersOfBytes } from './letters.js';
import { mostTokens, PairHeap, pairOf } from './pairs.js';

// GPT-2's pattern. White space is Unicode's, as in Hugging Face's `tokenizers`; JavaScript's \s differs in two letters.
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** The words of a text: no token reaches over their ends, and together they are the text. */
export function wordsOf(text: string): IterableIterator<RegExpMatchArray> {
  return text.matchAll(WORDS);
}

export function checkText(action: string, name: string, text: unknown): string {
  if (typeof text !== 'string') throw kindError(action, `${name} must be a string`, text);
  // The file's types are those of ES2023; Node has had the method since 20.
  if (!(text as string & { isWellFormed(): boolean }).isWellFormed())
    throw valueError(action, `${name} must be well-formed Unicode`, phrase('it holds half of a surrogate pair'));
  return text;
}

/** What a tokenizer is made of. */
interface BpeParts {
  /** Ids 0, 1, ... */
  special: readonly string[];
  /** The 256 letters of bytes, in the order of their ids. */
  letters: readonly string[];
  /** Pairs of ids, in the order they are merged in; ids are numbered as tokens are first made. */
  merges: readonly (readonly [number, number])[];
}

const CACHED_WORDS = 1 << 16;

/** Bytes, merged into tokens. Made by {@link trainBpe} or {@link readTokenizer}. */
export class BpeTokenizer {
  /** How many tokens there are: ids are in [0, size). */
  readonly size: number;
  /** Tokens that no text becomes, and their ids. */
  readonly special: ReadonlyMap<string, number>;
  readonly #parts: BpeParts;
  readonly #idOfByte = new Int32Array(256);
  /** By pair: its place in the order. */
  readonly #ranks = new Map<number, number>();
  /** By that place: the token it becomes. */
  readonly #made: Int32Array;
  /** Empty for special tokens. */
  readonly #bytes: Uint8Array[];
  readonly #cache = new Map<string, Int32Array>();
  readonly #heap = new PairHeap();

  /** @internal */
  constructor(parts: BpeParts) {
    this.#parts = parts;
    const { special, letters, merges } = parts;
    this.special = new Map(special.map((token, id) => [token, id]));
    this.#bytes = [...special.map(() => new Uint8Array()), ...letters.map((letter) => bytesOfToken(letter)!)];
    letters.forEach((letter, i) => (this.#idOfByte[bytesOfToken(letter)![0]!] = special.length + i));
    this.#made = new Int32Array(merges.length);
    const ids = new Map(this.#bytes.map((bytes, id) => [Buffer.from(bytes).toString('latin1'), id]));
    merges.forEach(([left, right], rank) => {
      const bytes = Buffer.concat([this.#bytes[left]!, this.#bytes[right]!]);
      const name = bytes.toString('latin1');
      let id = ids.get(name);
      if (id === undefined) {
        id = this.#bytes.push(bytes) - 1;
        ids.set(name, id);
      }
      this.#made[rank] = id;
      this.#ranks.set(pairOf(left, right), rank);
    });
    this.size = this.#bytes.length;
  }

  /**
   * The ids of a text. Special tokens' names in it are text like any other.
   *
   * @throws RangeError where the text holds half of a surrogate pair
   */
  encode(text: string): Int32Array {
    checkText('encode a text', 'text', text);
    const parts: Int32Array[] = [];
    let length = 0;
    for (const [word] of wordsOf(text)) {
      let ids = this.#cache.get(word);
      if (ids === undefined) {
        ids = this.#encodeWord(Buffer.from(word, 'utf8'));
        if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
        this.#cache.set(word, ids);
      }
      parts.push(ids);
      length += ids.length;
    }
    const all = new Int32Array(length);
    let at = 0;
    for (const ids of parts) {
      all.set(ids, at);
      at += ids.length;
    }
    return all;
  }

  /** The bytes of ids; special tokens have none. @throws RangeError for an id that there is not */
  decodeBytes(ids: ArrayLike<number>): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let i = 0; i < ids.length; i++) parts.push(this.bytesOf(ids[i]!));
    return Buffer.concat(parts);
  }

  /** The text of ids, with U+FFFD where their bytes are no whole letters. */
  decode(ids: ArrayLike<number>): string {
    if (typeof ids !== 'object' || ids === null || typeof ids.length !== 'number')
      throw kindError('decode ids', 'ids must be an array of numbers', ids);
    return Buffer.from(this.decodeBytes(ids)).toString('utf8');
  }

  /** The bytes of one token. */
  bytesOf(id: number): Uint8Array {
    const bytes = this.#bytes[id];
    if (bytes === undefined) throw valueError('decode ids', `every id must be a whole number in [0, ${this.size - 1}]`, id);
    return bytes;
  }

  /** The tokens by id, in byte-level letters, as vocabulary files hold them. */
  tokens(): string[] {
    const names = [...this.special.keys()];
    for (let id = names.length; id < this.size; id++) names.push(Array.from(this.#bytes[id]!, (byte) => lettersOfBytes[byte]).join(''));
    return names;
  }

  /** The content of a tokenizer.json. */
  toJSON(): object {
    const names = this.tokens();
    const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [...this.special].map(([content, id]) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(names.map((name, id) => [name, id])),
        merges: this.#parts.merges.map(([left, right]) => [names[left], names[right]]),
      },
    };
  }

  /** Writes a tokenizer.json, which Hugging Face's `tokenizers` reads too (and gives the same ids). The old file stays until it is whole. */
  async save(path: string): Promise<void> {
    if (typeof path !== 'string' || path === '') throw kindError('save a tokenizer', 'path must be a string', path);
    await writeWhole(path, `${JSON.stringify(this)}\n`);
  }

  // Neighbours are a linked list, and the earliest merge comes from a heap: a word of any length takes n log n.
  #encodeWord(bytes: Uint8Array): Int32Array {
    const size = bytes.length;
    const ids = Int32Array.from(bytes, (byte) => this.#idOfByte[byte]!);
    if (size < 2) return ids;
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const heap = this.#heap;
    heap.clear();
    const consider = (at: number) => {
      if (at < 0 || next[at]! >= size) return;
      const rank = this.#ranks.get(pairOf(ids[at]!, ids[next[at]!]!));
      if (rank !== undefined) heap.push(rank, at);
    };
    for (let i = 0; i + 1 < size; i++) consider(i);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const { key: rank, value: at } = top;
      const right = next[at]!;
      // Entries of pairs that a merge has since changed.
      if (ids[at] === -1 || right >= size || this.#ranks.get(pairOf(ids[at]!, ids[right]!)) !== rank) continue;
      ids[at] = this.#made[rank]!;
      ids[right] = -1;
      next[at] = next[right]!;
      if (next[at]! < size) previous[next[at]!] = at;
      consider(previous[at]!);
      consider(at);
    }
    return ids.filter((id) => id !== -1);
  }
}

interface TokenizerFile {
  added_tokens?: { id: number; content: string }[];
  normalizer?: unknown;
  pre_tokenizer?: { type?: string; add_prefix_space?: boolean; use_regex?: boolean } | null;
  model?: { type?: string; vocab?: Record<string, number>; merges?: (string | [string, string])[] };
}

/**
 * Reads a tokenizer.json of {@link BpeTokenizer.save}, or one of Hugging Face's that is made in the same way: byte-level BPE with GPT-2's words,
 * special tokens first, then the 256 bytes, then one token for each merge.
 *
 * @throws LimbeckError `bad_file` where the file is missing or made otherwise, with what is different
 */
export function readTokenizer(path: string): BpeTokenizer {
  if (typeof path !== 'string' || path === '') throw kindError('read a tokenizer', 'path must be a string', path);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new LimbeckError('bad_file', `Cannot read ${path}: the file must be readable: ${(error as Error).message}`, { cause: error });
  }
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch (error) {
    throw new LimbeckError('bad_file', `Cannot read ${path}: it must be JSON: ${(error as Error).message}`, { cause: error });
  }
  return new BpeTokenizer(partsOf(path, file as TokenizerFile));
}

function partsOf(path: string, file: TokenizerFile): BpeParts {
  const must = (holds: boolean, what: string, was: string) => {
    if (!holds) throw new LimbeckError('bad_file', `Cannot read ${path}: ${what}: ${was}`);
  };
  const { model, pre_tokenizer: words, added_tokens: added = [] } = file ?? {};
  const { vocab, merges } = model ?? {};
  must(
    model?.type === 'BPE' && typeof vocab === 'object' && vocab !== null && Array.isArray(merges),
    'its model must be BPE',
    `it is ${String(model?.type)}`,
  );
  must(
    words?.type === 'ByteLevel' && words.use_regex !== false && words.add_prefix_space === false,
    'its words must be those of ByteLevel without a prefix space',
    `they are made by ${JSON.stringify(words)}`,
  );
  must((file.normalizer ?? null) === null, 'it must have no normalizer', 'it has one');
  const special = [...added].sort((a, b) => a.id - b.id).map(({ content }) => content);
  must(
    added.every(({ id }) => id < special.length),
    'special tokens must have the first ids',
    `they are ${added.map(({ id }) => id).join(', ')}`,
  );
  const size = Object.keys(vocab!).length + special.filter((token) => !Object.hasOwn(vocab!, token)).length;
  const names = new Array<string | undefined>(size);
  special.forEach((token, id) => (names[id] = token));
  for (const [token, id] of Object.entries(vocab!)) names[id] = token;
  must(names.length === size && !names.includes(undefined), 'ids must be 0, 1, 2, ... without a gap', `${size} tokens have others`);
  must(size <= mostTokens, `it must have at most ${mostTokens} tokens`, `it has ${size}`);
  const letters = names.slice(special.length, special.length + 256) as string[];
  must(
    letters.length === 256 &&
      letters.every((letter) => letter.length === 1 && bytesOfToken(letter) !== undefined) &&
      new Set(letters).size === 256,
    'the 256 bytes must follow the special tokens',
    `the tokens there are ${JSON.stringify(letters.slice(0, 3))} and so on`,
  );
  const idOf = new Map(names.map((name, id) => [name!, id]));
  let made = special.length + 256;
  const pairs = merges!.map((merge, i): [number, number] => {
    const [left = '', right = ''] = typeof merge === 'string' ? merge.split(' ') : merge;
    const ids = [left, right, left + right].map((name) => idOf.get(name) ?? size);
    must(
      ids[0]! < made && ids[1]! < made && ids[2]! <= made && ids[2]! < size,
      `merge ${i} must make the next token, or one there is, from earlier ones`,
      JSON.stringify(merge),
    );
    if (ids[2] === made) made++;
    return [ids[0]!, ids[1]!];
  });
  must(made === size, 'every token must be made by a merge', `tokens from ${made} on are not`);
  return { special, letters, merges: pairs };
}
