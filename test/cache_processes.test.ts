// The target cache between processes: a writer killed at random points, and readers while a writer is at work.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TargetCache, TargetCacheWriter } from '../src/index.js';
import { random } from './random.js';

const rows = 6000;
const blockRows = 4;

/** Rows told by their number, so that any process knows what must be there. */
const shared = `
import { sparseTarget, TargetCache, TargetCacheWriter } from ${JSON.stringify(pathToFileURL(resolve('dist/index.js')).href)};
const [folder, rows, blockRows] = [process.argv[2], ${rows}, ${blockRows}];
const idOf = (row, j) => (row * 7919 + j * 131) % 1000;
function targetOf(begin, end) {
  const indices = new Int32Array((end - begin) * 6);
  const logProbs = new Float32Array((end - begin) * 6);
  for (let i = 0; i < indices.length; i++) {
    const [row, j] = [begin + Math.floor(i / 6), i % 6];
    indices[i] = idOf(row, j);
    logProbs[i] = -1 - j;
  }
  const shape = (data) => Array.from({ length: end - begin }, (_, r) => [...data.subarray(r * 6, r * 6 + 6)]);
  return sparseTarget({ indices: shape(indices), logProbs: shape(logProbs), cols: 1000 });
}
`;
const writerScript = `${shared}
const shard = Number(process.argv[3] ?? 0);
const firstRow = shard * rows;
const writer = await TargetCacheWriter.open(folder, { blockRows, shard, firstRow, resume: true });
process.stdout.write('ready ' + writer.rows + '\\n');
for (let row = writer.rows; row < rows; row += 7) {
  await writer.append(targetOf(firstRow + row, firstRow + Math.min(rows, row + 7)));
  process.stdout.write('safe ' + writer.safeRows + '\\n');
}
await writer.finish();
process.stdout.write('finished\\n');
`;
const readerScript = `${shared}
let cache;
while (!cache) cache = await TargetCache.open(folder, { unfinished: true, cacheBytes: 0 }).catch((error) => {
  if (error.code !== 'bad_file' || !/there is none/.test(error.message)) throw error;
});
const seen = new Map();
let looks = 0, unfinished = 0, size = 0;
for (; size < 2 * rows; looks++) {
  await cache.refresh();
  if (cache.shards.some(({ finished }) => !finished)) unfinished++;
  if (cache.size < size) throw new Error('rows went away');
  size = cache.size;
  for (const [begin, end] of cache.ranges) {
    const from = seen.get(begin) ?? begin;
    const target = await cache.rows(from, end);
    for (let r = 0; r < end - from; r++)
      for (let j = 0; j < 6; j++)
        if (target.indices.data[r * 6 + j] !== idOf(from + r, j)) throw new Error('row ' + (from + r) + ' is another one');
    seen.set(begin, end);
  }
}
await cache.close();
console.log(JSON.stringify({ size, looks, unfinished }));
`;

let folder: string;
let writerFile: string;
let readerFile: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-cache-processes-'));
  writerFile = join(folder, 'writer.mjs');
  readerFile = join(folder, 'reader.mjs');
  writeFileSync(writerFile, writerScript);
  writeFileSync(readerFile, readerScript);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  lines: string[];
  code: number | null;
  errors: string;
}

function start(script: string, args: string[], onReady?: (child: ChildProcess) => void): Promise<Ended> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [text, errors] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => {
      if (text === '') onReady?.(child);
      text += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    child.on('close', (code) => done({ lines: text.trim().split('\n'), code, errors }));
  });
}

it('kill −9 at 60 random points loses the last block at most, and the end is the same bytes', { timeout: 240_000 }, async () => {
  const whole = join(folder, 'whole');
  let started = 0;
  const undisturbed = await start(writerFile, [whole], () => (started = performance.now()));
  const time = performance.now() - started;
  expect(undisturbed, undisturbed.errors).toMatchObject({ code: 0 });
  const expected = readFileSync(join(whole, 'shard-00000.targets'));

  const next = random(6);
  let kills = 0;
  let stoppedInside = 0;
  for (let capture = 0; kills < 60; capture++) {
    const at = join(folder, `capture-${capture}`);
    for (let isDone = false; !isDone;) {
      let isKilled = false;
      const delay = next() * time * 0.4;
      const kill = (child: ChildProcess): void => {
        const end = performance.now() + delay;
        // Timers are too coarse for points this close together.
        const wait = (): void => {
          if (performance.now() < end) return void setImmediate(wait);
          isKilled = child.kill('SIGKILL');
        };
        wait();
      };
      const { lines, errors } = await start(writerFile, [at], kills < 60 ? kill : undefined);
      expect(errors).toBe('');
      isDone = lines.at(-1) === 'finished';
      if (isKilled && !isDone) {
        kills++;
        const safe = Math.max(0, ...lines.map((line) => Number(/^(?:safe|ready) (\d+)$/.exec(line)?.[1] ?? 0)));
        const writer = await TargetCacheWriter.open(at, { resume: true });
        if (writer.isFinished) {
          isDone = true;
          expect(writer.rows).toBe(rows);
        } else {
          if (writer.rows > 0 && writer.rows < rows) stoppedInside++;
          expect(writer.rows).toBeGreaterThanOrEqual(safe);
          expect(writer.rows === rows || writer.rows % blockRows === 0).toBe(true);
          await writer.close();
          if (writer.rows > 0) {
            const cache = await TargetCache.open(at, { unfinished: true });
            expect(await cache.verify()).toMatchObject({ rows: writer.rows });
            await cache.close();
          }
        }
      }
    }
    expect(readFileSync(join(at, 'shard-00000.targets')).equals(expected)).toBe(true);
  }
  expect(kills).toBeGreaterThanOrEqual(50);
  expect(stoppedInside).toBeGreaterThanOrEqual(40);
});

it('two readers see whole and right rows while two writers are at work', { timeout: 60_000 }, async () => {
  const at = join(folder, 'live');
  mkdirSync(at);
  const all = [
    [writerFile, at],
    [writerFile, at, '1'],
    [readerFile, at],
    [readerFile, at],
  ].map(([script, ...args]) => start(script!, args));
  const [one, two, ...readers] = await Promise.all(all);
  for (const { code, errors } of [one!, two!]) expect(code, errors).toBe(0);
  for (const { code, errors, lines } of readers) {
    expect(code, errors).toBe(0);
    const { size, unfinished } = JSON.parse(lines[0]!) as { size: number; unfinished: number };
    expect(size).toBe(2 * rows);
    expect(unfinished).toBeGreaterThan(0);
  }
});
