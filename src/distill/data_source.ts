// Data as pipelines see it, images or text: batches of rows with a label for each row of logits.
import type { Device } from '../device.js';
import { gatherRows } from '../ops/index.js';
import { tensor, type Tensor } from '../tensor.js';
import { keep } from '../autograd.js';
import { hashOf } from '../cache/index.js';
import { inputTensor, loadData, shiftedBatches, type Data } from './data.js';
import { openText, type TextSpec } from './data_text.js';
import type { DataSpec } from './recipe.js';

/** Inputs and what is to be said of them. */
export interface DataBatch {
  /** Images: float32 [rows, inputs]. Text: int32 [rows, context]. The caller's to dispose. */
  input: Tensor;
  /** One for each row of logits, [rows · logitRows]; −100 where there is none. */
  labels: Int32Array;
}

/** Which rows belong to which group. */
export interface Domains {
  names: readonly string[];
  /** Of each training and test row: the number of its domain. */
  train: Uint8Array;
  test: Uint8Array;
}

/** Training and test rows. */
export interface DataSource {
  readonly format: 'mnist' | 'text';
  /** Images, or sequences. */
  readonly trainRows: number;
  readonly testRows: number;
  /** Rows of logits of one row: 1 for images, the context for text. */
  readonly logitRows: number;
  /** Columns of the logits: classes, or the vocabulary. */
  readonly classes: number;
  /** Of one row, without the batch: [inputs], or [context]. */
  readonly inputShape: readonly number[];
  /** Images alone: their size, and the pixels for a report. */
  readonly images?: Data;
  /** Text alone: mean bytes of a test label, so that bits per byte = NLL / (ln 2 · bytesPerToken). */
  readonly bytesPerToken?: number;
  readonly domains?: Domains;
  /** Fingerprint of the training inputs, for files of targets. */
  readonly inputHash: string;
  /** Batches of training rows, as a function of rows and seed alone. `shift`: images are moved by up to so many pixels. */
  trainBatches(options?: { shift?: number }): (rows: Int32Array, seed: number) => DataBatch;
  /** Consecutive training rows as they are: what capture stages read. */
  trainRowsFrom(from: number, count: number): DataBatch;
  /** Consecutive test rows. */
  testRowsFrom(from: number, count: number): DataBatch;
  /** Facts for a report: names and values. */
  describe(): [string, string][];
  /** Writes what belongs to a run beside its results: a tokenizer.json. Images have nothing. */
  save(folder: string): Promise<void>;
  dispose(): void;
}

/** Opens the data that a recipe names; relative folders count from the recipe's own. */
export async function openData(spec: DataSpec | TextSpec, options: { device: Device; recipePath?: string }): Promise<DataSource> {
  if (spec.format === 'text') return openText(spec, options);
  return imageSource(await loadData(spec, options.recipePath), options.device);
}

/** Images as a source; the tensors of all rows are made when first asked for. */
export function imageSource(data: Data, device: Device): DataSource {
  const { train, test, inputs, classes } = data;
  let trainInputs: Tensor | null = null;
  let testInputs: Tensor | null = null;
  let hash: string | undefined;
  const trainTensor = () => (trainInputs ??= keep(inputTensor(data, train, device)));
  const testTensor = () => (testInputs ??= keep(inputTensor(data, test, device)));
  const chosen = (from: Tensor, labels: Int32Array, rows: Int32Array): DataBatch => {
    const indices = tensor(rows, { device });
    const input = gatherRows(from, indices);
    indices.dispose();
    return { input, labels: Int32Array.from(rows, (row) => labels[row]!) };
  };
  const consecutive = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i);
  return {
    format: 'mnist',
    trainRows: train.rows,
    testRows: test.rows,
    logitRows: 1,
    classes,
    inputShape: [inputs],
    images: data,
    get inputHash() {
      return (hash ??= hashOf(train.pixels));
    },
    trainBatches({ shift = 0 } = {}) {
      if (shift === 0) return (rows) => chosen(trainTensor(), train.labels, rows);
      const moved = shiftedBatches(data, shift, device);
      return (rows, seed) => ({ input: moved(rows, seed), labels: Int32Array.from(rows, (row) => train.labels[row]!) });
    },
    trainRowsFrom: (from, count) => chosen(trainTensor(), train.labels, consecutive(from, count)),
    testRowsFrom: (from, count) => chosen(testTensor(), test.labels, consecutive(from, count)),
    describe: () => [['Data', `${train.rows.toLocaleString('en-US')} training and ${test.rows.toLocaleString('en-US')} test rows`]],
    save: () => Promise.resolve(),
    dispose() {
      trainInputs?.dispose();
      testInputs?.dispose();
      trainInputs = testInputs = null;
    },
  };
}
