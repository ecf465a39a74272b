// `npm run bench:cache`: bytes a token of a target cache, its error, and how fast it is written and read in logits represented.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  captureTopK,
  sampleTarget,
  TargetCache,
  TargetCacheWriter,
  tensor,
  tidy,
  type SparseTarget,
  type Tensor,
  type TargetCacheWriterOptions,
} from '../src/index.js';

/** Rows whose probabilities fall as rank^−1.5, the ranks dealt out over the columns differently in each row. */
function teacherLogits(rows: number, cols: number): Tensor {
  const x = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    let step = Math.floor(cols * 0.618) + r;
    while (divisor(step, cols) !== 1) step++;
    let id = (r * 7919) % cols;
    for (let rank = 1; rank <= cols; rank++) {
      x[r * cols + id] = -1.5 * Math.log(rank);
      id = (id + step) % cols;
    }
  }
  return tensor(x, { shape: [rows, cols] });
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

interface Line {
  what: string;
  cols: number;
  entries: number;
  bytesPerToken: number;
  writeGB: number;
  readGB: number;
  gatherGB: number;
  largestError: number;
  meanKl: number;
}

async function measure(
  what: string,
  cols: number,
  rows: number,
  options: TargetCacheWriterOptions,
  make: (logits: Tensor) => SparseTarget,
): Promise<Line> {
  const folder = mkdtempSync(join(tmpdir(), 'limbeck-bench-'));
  try {
    const batch = Math.max(16, Math.min(256, 2 ** Math.floor(Math.log2(2 ** 23 / cols))));
    const target = tidy(() => make(teacherLogits(batch, cols)));
    const batches = Math.ceil(rows / batch);
    const represented = (batches * batch * cols * 4) / 1e9;
    let started = performance.now();
    const writer = await TargetCacheWriter.open(folder, options);
    for (let i = 0; i < batches; i++) await writer.append(target);
    await writer.finish();
    const writeSeconds = (performance.now() - started) / 1000;
    const cache = await TargetCache.open(folder, { cacheBytes: 0 });
    started = performance.now();
    for (let i = 0; i < batches; i++) (await cache.rows(i * batch, (i + 1) * batch)).dispose();
    const readSeconds = (performance.now() - started) / 1000;
    let next = 1;
    started = performance.now();
    const gathers = Math.min(batches, 40);
    for (let i = 0; i < gathers; i++) {
      const ids = Int32Array.from({ length: 256 }, () => (next = (next * 48271) % 2147483647) % cache.size);
      (await cache.gather(ids)).dispose();
    }
    const gatherSeconds = (performance.now() - started) / 1000;
    const { largest, kl } = errors(target, await cache.rows(0, batch));
    const line: Line = {
      what,
      cols,
      entries: Array.from(target.indices.data).filter((id) => id >= 0).length / batch,
      bytesPerToken: cache.bytes / cache.size,
      writeGB: represented / writeSeconds,
      readGB: represented / readSeconds,
      gatherGB: (gathers * 256 * cols * 4) / 1e9 / gatherSeconds,
      largestError: largest,
      meanKl: kl,
    };
    await cache.close();
    return line;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Largest |Δ ln p| and the mean KL divergence of what is kept, of log-probabilities; relative errors of weights. */
function errors(wrote: SparseTarget, read: SparseTarget): { largest: number; kl: number } {
  const k = read.k;
  const rows = read.indices.shape[0]!;
  const before = new Map<number, number>();
  let largest = 0;
  let kl = 0;
  for (let r = 0; r < rows; r++) {
    before.clear();
    for (let j = 0; j < wrote.k; j++) {
      const id = wrote.indices.data[r * wrote.k + j]!;
      const value = (wrote.logProbs ?? wrote.weights)!.data[r * wrote.k + j]!;
      if (id >= 0) before.set(id, wrote.logProbs === null ? Math.log(value) : value);
    }
    for (let j = 0; j < k; j++) {
      const id = read.indices.data[r * k + j]!;
      if (id < 0) continue;
      const value = (read.logProbs ?? read.weights)!.data[r * k + j]!;
      const difference = before.get(id)! - (read.logProbs === null ? Math.log(value) : value);
      largest = Math.max(largest, Math.abs(difference));
      kl += (Math.exp(before.get(id)!) * difference) / rows;
    }
  }
  return { largest, kl: wrote.logProbs === null ? NaN : kl };
}

async function main(): Promise<void> {
  const lines: Line[] = [];
  for (const cols of [32_000, 128_256, 2 ** 18, 2 ** 20]) {
    const rows = cols > 2 ** 17 ? 8192 : 32_768;
    lines.push(await measure('top 64, 8 bits', cols, rows, {}, (x) => captureTopK(x, 64)));
    lines.push(await measure('top 64, 16 bits', cols, rows, { bits: 16 }, (x) => captureTopK(x, 64)));
    lines.push(await measure('12 drawn, race', cols, rows, {}, (x) => sampleTarget(x, 12, { method: 'race', seed: 1 })));
    lines.push(await measure('50 drawn, counts', cols, rows, { draws: 50 }, (x) => sampleTarget(x, 50, { seed: 1 })));
  }
  // What DistillKit's and Megatron's figures are of.
  const peers = 2 ** 17;
  for (const [k, bits] of [
    [128, 8],
    [128, 16],
    [50, 8],
    [50, 4],
  ] as const)
    lines.push(await measure(`top ${k}, ${bits} bits`, peers, 8192, { bits }, (x) => captureTopK(x, k)));
  console.log('                      V  entries  bytes/token  write GB/s  read GB/s  gather GB/s  largest |Δ ln|  mean KL');
  for (const l of lines)
    console.log(
      `${l.what.padEnd(17)}${String(l.cols).padStart(7)}${l.entries.toFixed(1).padStart(9)}${l.bytesPerToken.toFixed(2).padStart(13)}${l.writeGB.toFixed(1).padStart(12)}${l.readGB.toFixed(1).padStart(11)}${l.gatherGB.toFixed(1).padStart(13)}${l.largestError.toExponential(1).padStart(16)}${(Number.isNaN(l.meanKl) ? '' : l.meanKl.toExponential(1)).padStart(9)}`,
    );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
