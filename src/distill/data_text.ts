// Text as the data of a recipe: a tokenizer learned from the training part, and rows of tokens.
import { dirname, join, resolve } from 'node:path';
import type { Device } from '../device.js';
import { kindError, phrase, valueError } from '../errors.js';
import { checkOptions, checkWhole } from '../check.js';
import { hashOf } from '../cache/index.js';
import { makeSequences, type Sequences } from '../text/sequences.js';
import { readCorpus, splitCorpus } from '../text/corpus.js';
import { trainBpe } from '../text/train_bpe.js';
import type { BpeTokenizer } from '../text/bpe.js';
import { tensor, type Tensor } from '../tensor.js';

/** `data` of a recipe for language models. */
export interface TextSpec {
  format: 'text';
  /** 'typescript', or a folder. */
  corpus: string;
  /** Endings of a folder's files. */
  extensions?: string[];
  /** Tokens of the vocabulary. */
  vocabulary: number;
  /** Tokens of a row. */
  context: number;
  /** Tokens to train and test on; all there are by default. */
  trainTokens?: number;
  testTokens?: number;
  /** Only these domains. */
  domains?: string[];
}

/** Rows of tokens in the order of a run's batches: what stages read, in the shape of a pipeline's data source. */
export interface TextSource {
  readonly kind: 'text';
  /** Sequences. */
  readonly trainRows: number;
  readonly testRows: number;
  /** Rows of logits of one sequence: the context. */
  readonly rowsEach: number;
  /** The vocabulary. */
  readonly cols: number;
  /** [context] */
  readonly inputShape: readonly number[];
  /** Bytes that all test labels together stand for: bits per byte = their summed NLL / (ln 2 · testBytes). */
  readonly testBytes: number;
  readonly tokenizer: BpeTokenizer;
  readonly train: Sequences;
  readonly tests: Sequences;
  /** Names of the domains, and the number of each row's. */
  readonly domains: readonly string[];
  readonly trainDomains: Uint8Array;
  readonly testDomains: Uint8Array;
  /** int32 [rows, context] and the token after each; the input is the caller's to dispose. A row's tokens never move: seed and shift (0) change nothing. */
  batch(rows: ArrayLike<number>, seed?: number, shift?: number): { input: Tensor; labels: Int32Array };
  /** Consecutive test rows. */
  test(from: number, count: number): { input: Tensor; labels: Int32Array };
  /** Fingerprint of the training rows, for files of targets. */
  hash(): string;
  /** Facts for a report: names and values. */
  describe(): [string, string][];
  /** Writes what belongs to a run beside its results: tokenizer.json. */
  save(folder: string): Promise<void>;
  dispose(): void;
}

// The order of rows is part of the data, not of a run: every seed sees the same rows.
const ORDER_SEED = 1;

/** Reads, splits and encodes a corpus; the same files and spec give the same rows. */
export async function openText(spec: TextSpec, options: { device: Device; recipePath?: string }): Promise<TextSource> {
  const action = 'read text data';
  if (typeof spec !== 'object' || spec === null || typeof spec.corpus !== 'string')
    throw kindError(action, 'spec must be an object that names a corpus', spec);
  const { device, recipePath } = checkOptions(action, options, ['device', 'recipePath']);
  if (typeof device !== 'string') throw kindError(action, 'options must give a device', device);
  const { corpus, extensions, vocabulary, context, trainTokens, testTokens } = spec;
  checkWhole(action, 'vocabulary', vocabulary, 257);
  checkWhole(action, 'context', context, 1);
  const base = recipePath ? dirname(resolve(recipePath)) : process.cwd();
  const files = await readCorpus(corpus, { extensions, base });
  const all = [...new Set(files.map(({ domain }) => domain))].sort();
  const names = spec.domains ?? all;
  for (const name of names) {
    if (!all.includes(name)) throw valueError(action, `domains must be among ${all.join(', ')}`, phrase(`'${name}' is not`));
  }
  if (new Set(names).size !== names.length || names.length === 0 || names.length > 256)
    throw valueError(action, 'domains must be 1 to 256 different names', phrase(`they are ${names.join(', ')}`));
  const blocks = splitCorpus(files.filter(({ domain }) => names.includes(domain)));
  const tokenizer = trainBpe(
    blocks.train.map(({ text }) => text),
    { vocabulary },
  );
  const rowsOf = (part: 'train' | 'test', tokens: number | undefined) => {
    const most = tokens === undefined ? undefined : Math.floor(checkWhole(action, `${part}Tokens`, tokens, context) / context);
    const made = makeSequences(blocks[part], tokenizer, { context, domains: names, most, seed: ORDER_SEED });
    if (made.rows === 0)
      throw valueError(action, `context must fit the ${part} text`, phrase(`it is ${context}, and no domain has as many tokens`));
    return made;
  };
  return textSource(tokenizer, rowsOf('train', trainTokens), rowsOf('test', testTokens), names, device);
}

/** Rows of tokens as a source. */
export function textSource(
  tokenizer: BpeTokenizer,
  train: Sequences,
  tests: Sequences,
  domains: readonly string[],
  device: Device,
): TextSource {
  const { context } = train;
  let hash: string | undefined;
  const chosen = (from: Sequences, rows: ArrayLike<number>) => {
    const inputs = new Int32Array(rows.length * context);
    const labels = new Int32Array(rows.length * context);
    for (let i = 0; i < rows.length; i++) {
      const at = rows[i]! * (context + 1);
      if (!(rows[i]! >= 0 && rows[i]! < from.rows))
        throw valueError('take rows of text', `rows must be in [0, ${from.rows - 1}]`, phrase(`number ${i} is ${rows[i]}`));
      inputs.set(from.tokens.subarray(at, at + context), i * context);
      labels.set(from.tokens.subarray(at + 1, at + context + 1), i * context);
    }
    return { input: tensor(inputs, { shape: [rows.length, context], device }), labels };
  };
  const count = (n: number) => n.toLocaleString('en-US');
  return {
    kind: 'text',
    trainRows: train.rows,
    testRows: tests.rows,
    rowsEach: context,
    cols: tokenizer.size,
    inputShape: [context],
    testBytes: tests.labelBytes,
    tokenizer,
    train,
    tests,
    domains,
    trainDomains: train.domains,
    testDomains: tests.domains,
    batch: (rows, _seed, shift = 0) => {
      if (shift !== 0) throw valueError('train on text', 'shift must be 0: it moves images', shift);
      return chosen(train, rows);
    },
    test: (from, rows) =>
      chosen(
        tests,
        Int32Array.from({ length: rows }, (_, i) => from + i),
      ),
    hash: () => (hash ??= hashOf(train.tokens)),
    describe: () => [
      ['Text', `${count(train.rows * context)} training and ${count(tests.rows * context)} test tokens in rows of ${context}`],
      [
        'Vocabulary',
        `${count(tokenizer.size)} byte-level BPE tokens; ${(tests.labelBytes / (tests.rows * context)).toFixed(2)} bytes a token in the test rows`,
      ],
      ['Domains', domains.join(', ')],
    ],
    save: (folder) => tokenizer.save(join(folder, 'tokenizer.json')),
    dispose: () => undefined,
  };
}
