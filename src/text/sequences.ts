// Encoded text as rows of equal length: inputs and the tokens that follow them.
import { shuffledOrder } from '../random.js';
import type { BpeTokenizer } from './bpe.js';
import type { CorpusBlock } from './corpus.js';

/** Rows of `context` tokens and their next tokens. */
export interface Sequences {
  rows: number;
  context: number;
  /** [rows, context + 1]: the labels are the inputs moved by one. */
  tokens: Int32Array;
  /** Of each row: the number of its domain. */
  domains: Uint8Array;
  /** Bytes that all labels stand for. */
  labelBytes: number;
}

/**
 * Encodes blocks and cuts each domain's tokens, blocks divided by the end token, into rows; what is left at the end of a domain is dropped.
 * The rows come in an order that the seed fixes, so that the first of them are a sample of all.
 *
 * @param most rows wanted; fewer where there are not as many
 */
export function makeSequences(
  blocks: readonly CorpusBlock[],
  tokenizer: BpeTokenizer,
  { context, domains, most = Infinity, seed }: { context: number; domains: readonly string[]; most?: number; seed: number },
): Sequences {
  const end = tokenizer.special.values().next().value;
  const cut: { stream: Int32Array; from: number; domain: number }[] = [];
  domains.forEach((name, domain) => {
    const parts = blocks.filter((block) => block.domain === name).map((block) => tokenizer.encode(block.text));
    const stream = new Int32Array(parts.reduce((sum, part) => sum + part.length + (end === undefined ? 0 : 1), 0));
    let at = 0;
    for (const part of parts) {
      stream.set(part, at);
      at += part.length;
      if (end !== undefined) stream[at++] = end;
    }
    for (let from = 0; from + context < stream.length; from += context) cut.push({ stream, from, domain });
  });
  const rows = Math.min(cut.length, most);
  const tokens = new Int32Array(rows * (context + 1));
  const domainOf = new Uint8Array(rows);
  const order = shuffledOrder(cut.length, seed);
  let labelBytes = 0;
  for (let row = 0; row < rows; row++) {
    const { stream, from, domain } = cut[order[row]!]!;
    tokens.set(stream.subarray(from, from + context + 1), row * (context + 1));
    domainOf[row] = domain;
    for (let i = 1; i <= context; i++) labelBytes += tokenizer.bytesOf(stream[from + i]!).length;
  }
  return { rows, context, tokens, domains: domainOf, labelBytes };
}
