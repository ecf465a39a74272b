// Text as the data of a recipe: a tokenizer learned from the training part, and rows of tokens.
import { dirname, join, resolve } from 'node:path';
import type { Device } from '../device.js';
import { kindError, phrase, valueError } from '../errors.js';
import { checkWhole } from '../check.js';
import { hashOf } from '../cache/index.js';
import { makeSequences, type Sequences } from '../text/sequences.js';
import { readCorpus, splitCorpus } from '../text/corpus.js';
import { trainBpe } from '../text/train_bpe.js';
import type { BpeTokenizer } from '../text/bpe.js';
import { tensor } from '../tensor.js';
import type { DataBatch, DataSource } from './data_source.js';

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

/** A source of text, with its tokenizer. */
export interface TextSource extends DataSource {
  readonly tokenizer: BpeTokenizer;
  readonly train: Sequences;
  readonly test: Sequences;
}

// The order of rows is part of the data, not of a run: every seed sees the same rows.
const ORDER_SEED = 1;

/** Reads, splits and encodes a corpus; the same files and spec give the same rows. */
export async function openText(spec: TextSpec, { device, recipePath }: { device: Device; recipePath?: string }): Promise<TextSource> {
  const action = 'read text data';
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
  test: Sequences,
  domains: readonly string[],
  device: Device,
): TextSource {
  const { context } = train;
  let hash: string | undefined;
  const batch = (from: Sequences, rows: ArrayLike<number>): DataBatch => {
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
  const consecutive = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i);
  const bytesPerToken = test.labelBytes / (test.rows * context);
  const count = (n: number) => n.toLocaleString('en-US');
  return {
    format: 'text',
    tokenizer,
    train,
    test,
    trainRows: train.rows,
    testRows: test.rows,
    logitRows: context,
    classes: tokenizer.size,
    inputShape: [context],
    bytesPerToken,
    domains: { names: domains, train: train.domains, test: test.domains },
    get inputHash() {
      return (hash ??= hashOf(train.tokens));
    },
    trainBatches: ({ shift = 0 } = {}) => {
      if (shift !== 0) throw kindError('train on text', 'shift must be 0: it moves images', shift);
      return (rows) => batch(train, rows);
    },
    trainRowsFrom: (from, rows) => batch(train, consecutive(from, rows)),
    testRowsFrom: (from, rows) => batch(test, consecutive(from, rows)),
    describe: () => [
      ['Text', `${count(train.rows * context)} training and ${count(test.rows * context)} test tokens in rows of ${context}`],
      ['Vocabulary', `${count(tokenizer.size)} byte-level BPE tokens; ${bytesPerToken.toFixed(2)} bytes a token in the test rows`],
      ['Domains', domains.join(', ')],
    ],
    save: (folder) => tokenizer.save(join(folder, 'tokenizer.json')),
    dispose: () => undefined,
  };
}
