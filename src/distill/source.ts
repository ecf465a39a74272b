// Where batches come from: one interface over images, text and data that a caller brings.
import type { Device } from '../device.js';
import { hashOf } from '../cache/hash.js';
import { gatherRows } from '../ops/index.js';
import { tensor, type Tensor } from '../tensor.js';
import { inputTensor, movedRows, shiftedBatches, type Data } from './data.js';

/** One batch: made in the caller's tidy(). */
export interface Batch {
  /** What the models see. */
  input: Tensor;
  /** One for each row of logits; −100 where there is none. */
  labels: Int32Array;
}

/** A data set as stages see it. A row is an image, or a sequence of tokens. */
export interface DataSource {
  readonly kind: 'images' | 'text' | 'custom' | 'none';
  readonly trainRows: number;
  readonly testRows: number;
  /** Rows of logits that belong to one row: 1, or the tokens of a sequence. */
  readonly rowsEach: number;
  /** Classes, or the vocabulary. */
  readonly cols: number;
  /** Of the input of one row: [pixels], or [tokens]. */
  readonly inputShape: readonly number[];
  /** Channels, height and width, where the rows are images. */
  readonly imageShape?: readonly [number, number, number];
  /** Names of the domains that rows belong to, and the number of each row's; what `training.domains` draws by. */
  readonly domains?: readonly string[];
  readonly trainDomains?: ArrayLike<number>;
  readonly testDomains?: ArrayLike<number>;
  /** Bytes that all test labels together stand for; for bits per byte. */
  readonly testBytes?: number;
  /** Training rows; `seed` is for what is drawn, such as the moves of images by up to `shift` pixels. */
  batch(rows: Int32Array, seed: number, shift: number): Batch;
  /** Training rows as they were when their targets were captured: each moved by what seed and row say, in whatever batch. */
  moved?(rows: Int32Array, seed: number, shift: number): Batch;
  /** Consecutive test rows. */
  test(from: number, count: number): Batch;
  /** Hash of the training inputs: what captured targets belong to. */
  hash?(): string;
  /** Facts for the report: names and values. */
  describe?(): [string, string][];
  /** Writes what belongs to a run beside its results: a tokenizer. */
  save?(folder: string): Promise<void>;
  dispose(): void;
}

/** Images and their classes. */
export class ImageSource implements DataSource {
  readonly kind = 'images';
  readonly rowsEach = 1;
  private readonly train: Tensor;
  private readonly tests: Tensor;
  /** The moves of all rows in the view that was asked for last. */
  private replay: { seed: number; shift: number; of: (rows: Int32Array) => Tensor } | null = null;

  constructor(
    readonly data: Data,
    private readonly device: Device,
  ) {
    this.train = inputTensor(data, data.train, device);
    this.tests = inputTensor(data, data.test, device);
  }

  get trainRows(): number {
    return this.data.train.rows;
  }
  get testRows(): number {
    return this.data.test.rows;
  }
  get cols(): number {
    return this.data.classes;
  }
  get inputShape(): readonly number[] {
    return [this.data.inputs];
  }
  get imageShape(): readonly [number, number, number] {
    return [1, this.data.height, this.data.width];
  }

  batch(rows: Int32Array, seed: number, shift: number): Batch {
    const { labels } = this.data.train;
    if (shift === 0) return this.chosen(this.train, labels, rows);
    return { input: shiftedBatches(this.data, shift, this.device)(rows, seed), labels: Int32Array.from(rows, (row) => labels[row]!) };
  }

  moved(rows: Int32Array, seed: number, shift: number): Batch {
    const { labels } = this.data.train;
    if (this.replay?.seed !== seed || this.replay.shift !== shift)
      this.replay = { seed, shift, of: movedRows(this.data, shift, this.device, seed) };
    return { input: this.replay.of(rows), labels: Int32Array.from(rows, (row) => labels[row]!) };
  }

  test(from: number, count: number): Batch {
    return this.chosen(
      this.tests,
      this.data.test.labels,
      Int32Array.from({ length: count }, (_, i) => from + i),
    );
  }

  private chosen(inputs: Tensor, labels: Int32Array, rows: Int32Array): Batch {
    const indices = tensor(rows, { device: this.device });
    const input = gatherRows(inputs, indices);
    indices.dispose();
    return { input, labels: Int32Array.from(rows, (row) => labels[row]!) };
  }

  hash(): string {
    return hashOf(this.data.train.pixels);
  }

  dispose(): void {
    this.train.dispose();
    this.tests.dispose();
  }
}

/** No data: recipes of probes. */
export const noData: DataSource = {
  kind: 'none',
  trainRows: 0,
  testRows: 0,
  rowsEach: 1,
  cols: 0,
  inputShape: [],
  batch: () => {
    throw new RangeError('Cannot take a batch: the recipe must have data: its format is none');
  },
  test: () => {
    throw new RangeError('Cannot take test rows: the recipe must have data: its format is none');
  },
  dispose: () => undefined,
};
