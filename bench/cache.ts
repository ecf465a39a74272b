// `npm run bench:cache`: bytes a token of a target cache, its error, and how fast it is written and read in logits represented.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  captureTopK,
  randn,
  sampleTarget,
  TargetCache,
  TargetCacheWriter,
  tidy,
  type SparseTarget,
  type TargetCacheWriterOptions,
} from '../src/index.js';

/** Rows of logits with the heavy head of a language model's: normal, the largest few spread by a factor. */
function targetOf(rows: number, cols: number, make: (logits: ReturnType<typeof randn>) => SparseTarget): SparseTarget {
  return tidy(() => {
    const logits = randn([rows, cols], { seed: 1 });
    const x = logits.data as Float32Array;
    for (let i = 0; i < x.length; i++) x[i]! *= x[i]! > 2 ? 3 : 2;
    return make(logits);
  });
}

interface Line {
  what: string;
  cols: number;
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
  make: (logits: ReturnType<typeof randn>) => SparseTarget,
): Promise<Line> {
  const folder = mkdtempSync(join(tmpdir(), 'limbeck-bench-'));
  try {
    const target = targetOf(256, cols, make);
    const batches = Math.ceil(rows / 256);
    const represented = (batches * 256 * cols * 4) / 1e9;
    let started = performance.now();
    const writer = await TargetCacheWriter.open(folder, options);
    for (let i = 0; i < batches; i++) await writer.append(target);
    await writer.finish();
    const writeSeconds = (performance.now() - started) / 1000;
    const cache = await TargetCache.open(folder, { cacheBytes: 0 });
    started = performance.now();
    for (let i = 0; i < batches; i++) (await cache.rows(i * 256, (i + 1) * 256)).dispose();
    const readSeconds = (performance.now() - started) / 1000;
    let next = 1;
    started = performance.now();
    const gathers = Math.min(batches, 40);
    for (let i = 0; i < gathers; i++) {
      const ids = Int32Array.from({ length: 256 }, () => (next = (next * 48271) % 2147483647) % cache.size);
      (await cache.gather(ids)).dispose();
    }
    const gatherSeconds = (performance.now() - started) / 1000;
    const { largest, kl } = errors(target, await cache.rows(0, 256));
    const line: Line = {
      what,
      cols,
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
  return { largest, kl };
}

async function main(): Promise<void> {
  const lines: Line[] = [];
  for (const cols of [32_000, 128_256, 2 ** 18, 2 ** 20]) {
    const rows = Math.min(40_960, Math.floor(2 ** 31 / cols) * 2);
    lines.push(await measure('top 64, 8 bits', cols, rows, {}, (x) => captureTopK(x, 64)));
    lines.push(await measure('top 64, 16 bits', cols, rows, { bits: 16 }, (x) => captureTopK(x, 64)));
    lines.push(await measure('12 drawn, race', cols, rows, {}, (x) => sampleTarget(x, 12, { method: 'race', seed: 1 })));
    lines.push(await measure('50 drawn, counts', cols, rows, { draws: 50 }, (x) => sampleTarget(x, 50, { seed: 1 })));
  }
  console.log('                      V   bytes/token  write GB/s  read GB/s  gather GB/s  largest |Δ ln|  mean KL');
  for (const l of lines)
    console.log(
      `${l.what.padEnd(17)}${String(l.cols).padStart(7)}${l.bytesPerToken.toFixed(2).padStart(13)}${l.writeGB.toFixed(1).padStart(12)}${l.readGB.toFixed(1).padStart(11)}${l.gatherGB.toFixed(1).padStart(13)}${l.largestError.toExponential(1).padStart(16)}${l.meanKl.toExponential(1).padStart(9)}`,
    );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
