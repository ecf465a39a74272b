// What a teacher says of training rows, recorded once: streamed to a target cache on disk, and read back batch by batch.
import { noGrad, tidy } from '../autograd.js';
import { KeptCounter, type KeptSpreads } from '../cache/summary.js';
import { TargetCache, TargetCacheWriter } from '../cache/index.js';
import { checkOptions, checkPositive, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';
import { topK } from '../ops/index.js';
import { captureTopK, sampleTarget, sparseTarget, type SampleMethod, type SparseTarget } from '../targets/index.js';
import { ones, type Tensor } from '../tensor.js';

/** What of each row of logits is written down. */
export interface RecordingSpec {
  /**
   * What the teacher shows. 'full' (default): all of its logits, to take the k best or a sample from. 'topk': its k best log-probabilities alone,
   * as an endpoint gives them; of the rest only the mass is known. 'text': one token a row, its best or, with `sample`, a drawn one.
   */
  access?: 'full' | 'topk' | 'text';
  /** How many of the best, beside the log-mass of the rest. */
  k?: number;
  /** Drawn entries in the place of the k best: an unbiased target. */
  sample?: { draws: number; method?: SampleMethod };
  /** Default 1. */
  temperature?: number;
  /** Of each log-probability or weight on disk; default 8 and 7. Weights of `with_replacement` are counts, and exact. */
  bits?: number;
}

/** Where rows come from and who hears of it. */
export interface RecordingOptions extends RecordingSpec {
  /** Training rows: images, or sequences. */
  rows: number;
  /** Rows of logits of each: 1, or the context. */
  rowsEach: number;
  /** Columns of the logits. */
  cols: number;
  /** Fingerprint of the training rows; {@link openRecording} must name the same. */
  hash?: string;
  /** Of what is drawn. */
  seed: number;
  /** The teacher's logits of consecutive rows, [count · rowsEach, cols]. */
  logits: (from: number, count: number) => Tensor;
  /** Rows at once. Default: as many as keep the logits below 64 MiB. */
  rowsAtOnce?: number;
  /** Called with how many rows are done. */
  onRows?: (rows: number) => void;
  /** Asked between batches; true stops, and a second call with the same options goes on with the same result. */
  isStopped?: () => boolean | Promise<boolean>;
}

/** What a recording holds. */
export interface Recording {
  bytes: number;
  /** Rows of logits. */
  rows: number;
  /** Slots of each. */
  k: number;
  kind: 'log_probs' | 'weights' | 'counts';
  bytesPerRow: number;
  /** Mean probability outside the entries; 0 for weights. */
  meanTail: number;
  kept: KeptSpreads;
}

const BATCH_BYTES = 64 * 2 ** 20;
const BLOCK_ROWS = 128;

/** Rows that are recorded at once where nobody says: their logits stay below 64 MiB, and they fill whole blocks. */
export function recordingRows(rowsEach: number, cols: number): number {
  const perBlock = Math.ceil(BLOCK_ROWS / rowsEach);
  return Math.max(1, Math.floor(BATCH_BYTES / (4 * cols * rowsEach) / perBlock)) * perBlock;
}

const names = [
  'access',
  'k',
  'sample',
  'temperature',
  'bits',
  'rows',
  'rowsEach',
  'cols',
  'hash',
  'seed',
  'logits',
  'rowsAtOnce',
  'onRows',
  'isStopped',
];

/**
 * Records a teacher's answers in a folder, a block of whole rows at a time: a run that is stopped or killed goes on behind the last whole block.
 *
 * @returns what is there, or null where it was stopped
 * @throws RangeError where neither k nor a sample says what to keep, or k is above the columns
 */
export async function recordTargets(folder: string, options: RecordingOptions): Promise<Recording | null> {
  const action = 'record targets';
  const given = checkOptions(action, options, names);
  const { rows, rowsEach, cols, hash, seed, logits, onRows, isStopped, sample } = given;
  const take = taker(action, given);
  checkWhole(action, 'rows', rows, 1);
  checkWhole(action, 'rowsEach', rowsEach, 1);
  checkWhole(action, 'seed', seed);
  const perBlock = Math.ceil(BLOCK_ROWS / rowsEach);
  // Batches are whole blocks: what was written before a stop is what would have been written without one.
  const atOnce =
    given.rowsAtOnce === undefined
      ? recordingRows(rowsEach, cols)
      : Math.max(1, Math.floor(checkWhole(action, 'rowsAtOnce', given.rowsAtOnce, 1) / perBlock)) * perBlock;
  const isCounts = sample !== undefined && (sample.method ?? 'with_replacement') === 'with_replacement';
  const writer = await TargetCacheWriter.open(folder, {
    ...(hash === undefined ? {} : { inputHash: hash }),
    ...(isCounts || given.access === 'text' ? { draws: sample?.draws ?? 1 } : given.bits === undefined ? {} : { bits: given.bits }),
    cols,
    blockRows: perBlock * rowsEach,
    resume: true,
  });
  try {
    for (let row = Math.floor(writer.rows / rowsEach); row < rows && !writer.isFinished;) {
      const count = Math.min(atOnce, rows - row);
      const target = tidy(() => noGrad(() => take(logits(row, count), row * rowsEach, seed)));
      await writer.append(target);
      target.dispose();
      row += count;
      onRows?.(row);
      if (row < rows && (await isStopped?.())) {
        await writer.close();
        return null;
      }
    }
    if (!writer.isFinished) await writer.finish();
  } finally {
    await writer.close();
  }
  return summarize(folder, hash);
}

function taker(action: string, { access = 'full', k, sample, temperature = 1, cols }: RecordingOptions) {
  checkPositive(action, 'temperature', temperature);
  checkWhole(action, 'cols', cols, 1);
  if (!['full', 'topk', 'text'].includes(access)) throw valueError(action, "access must be 'full', 'topk' or 'text'", access);
  if (sample !== undefined) {
    const { draws, method } = checkOptions(`${action}: sample`, sample, ['draws', 'method']);
    checkWhole(action, 'sample.draws', draws, 1);
    if (k !== undefined) throw kindError(action, 'k and sample must not both be given', phrase('they are'));
    if (access === 'topk')
      throw kindError(action, "sample must not be given with access 'topk', which shows the best alone", phrase('it is'));
    if (access === 'text' && draws !== 1) throw valueError(action, "sample.draws must be 1 with access 'text'", draws);
    return (logits: Tensor, rowOffset: number, seed: number) => sampleTarget(logits, draws, { method, temperature, seed, rowOffset });
  }
  if (access === 'text') {
    if (k !== undefined) throw kindError(action, "k must not be given with access 'text', which is one token", phrase('it is'));
    return (logits: Tensor) => {
      const { indices } = topK(logits, 1);
      return sparseTarget({ indices, weights: ones([indices.shape[0]!, 1], { device: logits.device }), temperature, cols });
    };
  }
  if (k === undefined) throw kindError(action, 'k or sample must be given', undefined);
  checkWhole(action, 'k', k, 1, cols);
  return (logits: Tensor) => captureTopK(logits, k, { temperature });
}

async function summarize(folder: string, hash: string | undefined): Promise<Recording> {
  const cache = await TargetCache.open(folder, { inputHash: hash });
  try {
    const { kind, k, size, bytes } = cache;
    const counter = new KeptCounter(kind, k);
    let tail = 0;
    for await (const { rows, out } of cache.blocks()) {
      for (let r = 0; r < rows; r++) {
        counter.add(r, out.ids, out.values, out.tail);
        if (out.tail !== null) tail += Math.exp(out.tail[r]!);
      }
    }
    return { bytes, rows: size, k, kind, bytesPerRow: bytes / size, meanTail: tail / size, kept: counter.spreads() };
  } finally {
    await cache.close();
  }
}

/** A recording, open for training. */
export interface OpenRecording {
  readonly k: number;
  readonly cols: number;
  readonly bytes: number;
  readonly kind: 'log_probs' | 'weights' | 'counts';
  readonly temperature: number;
  /** The targets of training rows, one row for each row of logits; from disk, a block at a time. The caller's to dispose. */
  rows(rows: ArrayLike<number>): SparseTarget;
  close(): Promise<void>;
}

/**
 * Opens what {@link recordTargets} wrote.
 *
 * @param options `rowsEach`: rows of logits of a training row; `hash`: fingerprint of the training rows
 * @throws LimbeckError `wrong_target` where it was recorded from other rows; `bad_file` where it is not whole
 */
export async function openRecording(
  folder: string,
  options: { rowsEach: number; hash?: string; device?: Device; cacheBytes?: number },
): Promise<OpenRecording> {
  const action = 'open a recording';
  const { rowsEach, hash, device, cacheBytes } = checkOptions(action, options, ['rowsEach', 'hash', 'device', 'cacheBytes']);
  checkWhole(action, 'rowsEach', rowsEach, 1);
  const cache = await TargetCache.open(folder, { inputHash: hash, ...(cacheBytes === undefined ? {} : { cacheBytes }) });
  const { k, cols, bytes, kind, temperature } = cache;
  if (temperature === null) {
    await cache.close();
    throw new LimbeckError('wrong_target', `Cannot open ${folder}: it must have one temperature: each row has its own`);
  }
  return {
    k,
    cols,
    bytes,
    kind,
    temperature,
    rows(rows) {
      const all = new Int32Array(rows.length * rowsEach);
      for (let i = 0; i < rows.length; i++) for (let j = 0; j < rowsEach; j++) all[i * rowsEach + j] = rows[i]! * rowsEach + j;
      return cache.gatherSync(all, device === undefined ? {} : { device });
    },
    close: () => cache.close(),
  };
}
