// Trains a byte-level BPE vocabulary: words are counted once, and each merge touches only the words that hold its pair.
import { checkOptions, checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { BpeTokenizer, checkText, wordsOf } from './bpe.js';
import { lettersOfBytes } from './letters.js';
import { mostTokens, PairHeap, leftOf, pairOf, rightOf } from './pairs.js';

/** Options of {@link trainBpe}. */
export interface TrainBpeOptions {
  /** Tokens in all, special ones and the 256 bytes included. Default 8192. */
  vocabulary?: number;
  /** Tokens that no text becomes; they take the first ids. Default ['<|endoftext|>']. */
  special?: readonly string[];
  /** A pair that occurs less often is not merged, so that little text gives a smaller vocabulary. Default 2. */
  minFrequency?: number;
}

/**
 * Learns the merges of byte pair encoding from texts: again and again the commonest pair of neighbouring tokens within a word becomes a token;
 * among equally common pairs the one of the lowest ids. Words are those of GPT-2's pattern. The same texts give the same vocabulary, in any
 * order; it is the one that Hugging Face's `BpeTrainer` learns with a byte-level alphabet.
 *
 * @param texts strings of well-formed Unicode
 * @throws TypeError for texts that are no strings; RangeError for lone surrogates, or a vocabulary below the bytes and special tokens
 * @see Sennrich, Haddow and Birch, arXiv 1508.07909; bytes and words as in GPT-2 (Radford et al. 2019, section 2.2)
 *
 * @example
 * const tokenizer = trainBpe([source], { vocabulary: 1024 });
 * tokenizer.decode(tokenizer.encode('export const x = 1;')); // the same
 */
export function trainBpe(texts: Iterable<string>, options?: TrainBpeOptions): BpeTokenizer {
  const action = 'train a tokenizer';
  const given = checkOptions(action, options, ['vocabulary', 'special', 'minFrequency']);
  const { vocabulary = 8192, special = ['<|endoftext|>'], minFrequency = 2 } = given;
  if (!Array.isArray(special) || special.some((token) => typeof token !== 'string'))
    throw kindError(action, 'special must be an array of strings', special);
  if (new Set(special).size !== special.length || special.includes(''))
    throw valueError(action, 'special tokens must differ and not be empty', phrase(`they are ${JSON.stringify(special)}`));
  checkWhole(action, 'vocabulary', vocabulary, 256 + special.length, mostTokens);
  checkWhole(action, 'minFrequency', minFrequency, 1);
  if (typeof texts !== 'object' || texts === null || !(Symbol.iterator in texts))
    throw kindError(action, 'texts must be an array of strings (or another iterable)', texts);
  const firstByte = special.length;
  // Ids of bytes follow their letters, as in Hugging Face's files.
  const letters = [...lettersOfBytes].sort();
  const idOfByte = Uint16Array.from(lettersOfBytes, (letter) => firstByte + letters.indexOf(letter));
  const tokens = new Map(letters.map((letter, i) => [letter, firstByte + i]));
  const merges = learnMerges(countWords(action, texts), idOfByte, { tokens, most: vocabulary - special.length, minFrequency });
  return new BpeTokenizer({ special, letters, merges });
}

function countWords(action: string, texts: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) {
    checkText(action, 'every text', text);
    for (const [word] of wordsOf(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}

/** The pairs to merge, in order. `tokens` begins with the bytes and grows by what is made: some pairs make a token that another pair made. */
function learnMerges(
  counts: ReadonlyMap<string, number>,
  idOfByte: Uint16Array,
  { tokens, most, minFrequency }: { tokens: Map<string, number>; most: number; minFrequency: number },
): [number, number][] {
  const names = new Map([...tokens].map(([name, id]) => [id, name]));
  const known = new Set<number>();
  let nextId = Math.max(...names.keys()) + 1;
  const words: number[][] = [];
  const frequencies: number[] = [];
  const pairCounts = new Map<number, number>();
  const places = new Map<number, number[]>();
  const heap = new PairHeap();
  const note = (pair: number, change: number, word: number) => {
    pairCounts.set(pair, (pairCounts.get(pair) ?? 0) + change);
    if (change < 0) return;
    const found = places.get(pair);
    if (found === undefined) places.set(pair, [word]);
    else if (found[found.length - 1] !== word) found.push(word);
  };
  for (const [word, frequency] of counts) {
    const ids = Array.from(Buffer.from(word, 'utf8'), (byte) => idOfByte[byte]!);
    if (ids.length < 2) continue;
    for (let i = 1; i < ids.length; i++) note(pairOf(ids[i - 1]!, ids[i]!), frequency, words.length);
    words.push(ids);
    frequencies.push(frequency);
  }
  for (const [pair, count] of pairCounts) heap.push(-count, pair);

  const merges: [number, number][] = [];
  while (tokens.size < most) {
    const top = heap.pop();
    if (top === undefined || -top.key < minFrequency) break;
    const pair = top.value;
    const now = pairCounts.get(pair) ?? 0;
    // The heap holds what a count was when it last grew: it is looked up again before it counts.
    if (now !== -top.key) {
      if (now > 0) heap.push(-now, pair);
      continue;
    }
    const [left, right] = [leftOf(pair), rightOf(pair)];
    const name = names.get(left)! + names.get(right)!;
    const id = tokens.get(name) ?? nextId++;
    tokens.set(name, id);
    names.set(id, name);
    const grown = new Set<number>();
    const touched = places.get(pair)!;
    pairCounts.delete(pair);
    places.delete(pair);
    for (const word of touched) {
      mergeInto(words[word]!, left, right, id, (changed, sign) => {
        note(changed, sign * frequencies[word]!, word);
        if (sign > 0) grown.add(changed);
      });
    }
    for (const changed of grown) heap.push(-pairCounts.get(changed)!, changed);
    // A pair that came back, as another merge made its part anew, is merged at its old place in the order.
    if (!known.has(pair)) merges.push([left, right]);
    known.add(pair);
  }
  return merges;
}

/** Puts `id` in the place of each (left, right) of a word, leftmost first, and tells which pairs went and came. */
function mergeInto(word: number[], left: number, right: number, id: number, tell: (pair: number, sign: 1 | -1) => void): void {
  let to = 0;
  for (let from = 0; from < word.length; from++, to++) {
    if (word[from] !== left || word[from + 1] !== right) {
      word[to] = word[from]!;
      continue;
    }
    const merged = pairOf(left, right);
    const tellUnlessMerged = (pair: number, sign: 1 | -1) => {
      if (pair !== merged) tell(pair, sign);
    };
    if (to > 0) {
      tellUnlessMerged(pairOf(word[to - 1]!, left), -1);
      tellUnlessMerged(pairOf(word[to - 1]!, id), 1);
    }
    if (from + 2 < word.length) {
      tellUnlessMerged(pairOf(right, word[from + 2]!), -1);
      tellUnlessMerged(pairOf(id, word[from + 2]!), 1);
    }
    word[to] = id;
    from++;
  }
  word.length = to;
}
