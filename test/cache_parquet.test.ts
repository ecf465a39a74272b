// Target caches as Parquet: DuckDB reads what limbeck writes, and limbeck reads what DuckDB writes.
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import {
  captureTopK,
  exportParquet,
  importParquet,
  LimbeckError,
  randn,
  sampleTarget,
  TargetCache,
  TargetCacheWriter,
  tensor,
  type SparseTarget,
  type TargetCacheWriterOptions,
} from '../src/index.js';

let root: string;
let database: DuckDBInstance;
let duckdb: DuckDBConnection;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'limbeck-parquet-'));
  database = await DuckDBInstance.create(':memory:', { threads: '1' });
  duckdb = await database.connect();
});
afterAll(() => {
  duckdb.closeSync();
  database.closeSync();
  rmSync(root, { recursive: true, force: true });
});

let places = 0;
const place = (): string => join(root, String(places++));

async function cacheOf(target: SparseTarget, options: TargetCacheWriterOptions = {}): Promise<TargetCache> {
  const at = place();
  const writer = await TargetCacheWriter.open(at, options);
  await writer.append(target);
  await writer.finish();
  return TargetCache.open(at, { inputHash: null, vocabularyHash: null });
}

const numbers = (tensor: { data: ArrayLike<number> } | null): number[] => Array.from(tensor!.data);
const query = async (sql: string) => (await duckdb.runAndReadAll(sql)).getRowObjectsJson();

it('DuckDB reads the rows of a cache, and the sums it forms are those of the cache', async () => {
  const rows = 20_000;
  const k = 8;
  const cache = await cacheOf(captureTopK(randn([rows, 100], { seed: 1 }), k), { firstRow: 1000, bits: 16 });
  const path = join(root, 'rows.parquet');
  expect(await exportParquet(cache, path)).toMatchObject({ path, rows });
  const target = await cache.rows(1000, 1000 + rows);
  const [schema] = await query(`SELECT string_agg(column_name || ' ' || column_type, ', ') AS s FROM (DESCRIBE SELECT * FROM '${path}')`);
  expect(schema!.s).toBe('row BIGINT, ids INTEGER[], log_probs FLOAT[], tail_log_mass FLOAT');
  const [sums] = await query(
    `SELECT count(*) AS n, min(row) AS first, max(row) AS last, sum(list_sum(ids)) AS ids,
            max(abs(list_sum(list_transform(log_probs, x -> exp(x::DOUBLE))) + exp(tail_log_mass::DOUBLE) - 1)) AS off FROM '${path}'`,
  );
  expect(sums).toMatchObject({ n: String(rows), first: '1000', last: String(999 + rows) });
  expect(Number(sums!.ids)).toBe(numbers(target.indices).reduce((a, b) => a + b));
  expect(Number(sums!.off)).toBeLessThan(3e-6);
  const [row] = await query(`SELECT ids, log_probs, tail_log_mass FROM '${path}' WHERE row = 13456`);
  const one = await cache.rows(13456, 13457);
  expect(row!.ids).toEqual(numbers(one.indices));
  expect((row!.log_probs as number[]).map(Math.fround)).toEqual(numbers(one.logProbs));
  expect(Math.fround(row!.tail_log_mass as number)).toBe(one.tailLogMass!.data[0]);
  await cache.close();
});

it('limbeck reads rows that DuckDB writes', async () => {
  for (const compression of ['snappy', 'zstd', 'uncompressed']) {
    const path = join(root, `duckdb-${compression}.parquet`);
    await duckdb.run(
      `COPY (SELECT i AS row, list_transform(range(i % 3 + 1), j -> (i * 13 + j * 7) % 50) AS ids,
                    list_transform(range(i % 3 + 1), j -> ln(0.5 / (j + 2))) AS log_probs
             FROM range(5000) t(i)) TO '${path}' (FORMAT parquet, COMPRESSION ${compression}, ROW_GROUP_SIZE 2048)`,
    );
    const at = place();
    expect(await importParquet(path, at, { cols: 50, bits: 16, temperature: 2 })).toMatchObject({ rows: 5000 });
    const cache = await TargetCache.open(at);
    expect([cache.size, cache.k, cache.cols, cache.temperature, cache.kind]).toEqual([5000, 3, 50, 2, 'log_probs']);
    const { indices, logProbs, tailLogMass } = await cache.gather([4, 4001]);
    expect(numbers(indices)).toEqual([2, 9, -1, (4001 * 13) % 50, (4001 * 13 + 7) % 50, (4001 * 13 + 14) % 50]);
    numbers(logProbs)
      .slice(3)
      .forEach((value, j) => expect(value).toBeCloseTo(Math.log(0.5 / (j + 2)), 4));
    expect(tailLogMass!.data[1]).toBeCloseTo(Math.log(1 - 0.25 - 1 / 6 - 0.125), 5);
    await cache.close();
  }
});

it('there and back: every kind, with temperatures, hashes, short rows and NaN', async () => {
  const logits = randn([300, 40], { seed: 2 });
  (logits.data as Float32Array)[40 * 7] = NaN;
  const temperature = tensor(Float32Array.from({ length: 300 }, (_, r) => 1 + (r % 3)));
  const cases: [SparseTarget, TargetCacheWriterOptions][] = [
    [captureTopK(logits, 6, { temperature: 1.5 }), { inputHash: 'inputs', vocabularyHash: 'words', firstRow: 50 }],
    [captureTopK(logits, 6, { temperature }), { bits: 16 }],
    [sampleTarget(logits, 6, { method: 'race', seed: 1 }), {}],
    [sampleTarget(randn([300, 40], { seed: 3 }), 20, { seed: 1 }), { draws: 20 }],
  ];
  for (const [target, options] of cases) {
    const cache = await cacheOf(target, options);
    const path = join(root, 'there.parquet');
    await exportParquet(cache, path);
    const at = place();
    await importParquet(path, at);
    const back = await TargetCache.open(at, { inputHash: options.inputHash, vocabularyHash: options.vocabularyHash });
    for (const name of ['size', 'k', 'cols', 'kind', 'bits', 'draws', 'temperature', 'ranges'] as const)
      expect(back[name]).toEqual(cache[name]);
    const [begin, end] = cache.ranges[0]!;
    const [a, b] = [await cache.rows(begin, end), await back.rows(begin, end)];
    const byId = (of: SparseTarget) => {
      const values = numbers(of.logProbs ?? of.weights);
      const rows = Array.from({ length: end - begin }, (_, r) => numbers(of.indices).slice(r * of.k, (r + 1) * of.k));
      return rows.map((ids, r) => ids.map((id, j) => [id, values[r * of.k + j]!] as const).sort(([x], [y]) => x - y));
    };
    const after = byId(b);
    byId(a).forEach((row, r) =>
      row.forEach(([id, value], j) => {
        expect(after[r]![j]![0]).toBe(id);
        const tolerance = options.draws === undefined ? 0.06 : 0;
        const got = after[r]![j]![1];
        if (Number.isFinite(value)) expect(Math.abs(got - value)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(value)));
        else expect(got).toBe(value);
      }),
    );
    if (a.tailLogMass) expect(numbers(b.tailLogMass)).toEqual(numbers(a.tailLogMass));
    if (typeof a.temperature !== 'number') expect(numbers(b.temperature as never)).toEqual(numbers(a.temperature));
    await cache.close();
    await back.close();
  }
});

it('files that are something else are refused, and nothing is left', async () => {
  const at = place();
  const refuse = async (path: string, options: object, expected: object | RegExp): Promise<void> => {
    const error = await importParquet(path, at, options).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (expected instanceof RegExp) expect((error as Error).message).toMatch(expected);
    else expect(error).toMatchObject(expected);
    if (readdirSync(root).includes(at.slice(root.length + 1))) expect(readdirSync(at)).toEqual([]);
  };
  const written = async (select: string): Promise<string> => {
    const path = join(root, 'bad.parquet');
    await duckdb.run(`COPY (${select}) TO '${path}' (FORMAT parquet)`);
    return path;
  };
  await refuse(join(root, 'none.parquet'), { cols: 9 }, { code: 'bad_file' });
  writeFileSync(join(root, 'text.parquet'), 'no parquet at all, just text that goes on for a while');
  await refuse(join(root, 'text.parquet'), { cols: 9 }, { code: 'bad_file' });
  await refuse(await written('SELECT 1 AS a'), { cols: 9 }, /its columns must be ids and one of log_probs, probs and weights: they are a/);
  const good = 'SELECT [1, 2] AS ids, [0.5, 0.25] AS probs';
  await refuse(await written(good), {}, /cols must be given/);
  await refuse(await written(good), { cols: 2 }, /ids must be in \[0, 2\): row 0 has 2/);
  await refuse(await written(good), { cols: 9, k: 1 }, /at most 1 ids: row 0 has 2/);
  await refuse(await written("SELECT ['a'] AS ids, [0.5] AS probs"), { cols: 9 }, { code: 'bad_file' });
  await refuse(await written('SELECT [1] AS ids, [0.5, 0.1] AS probs'), { cols: 9 }, /of one length: those of row 0 are 1 and 2/);
  await refuse(await written('SELECT [1, 1] AS ids, [0.5, 0.1] AS probs'), { cols: 9 }, /row 0 has 1 twice/);
  await refuse(await written('SELECT [1] AS ids, [1.5] AS probs'), { cols: 9 }, RegExp('sum to'));
  await refuse(await written('SELECT [1] AS ids, NULL::FLOAT[] AS probs'), { cols: 9 }, /must hold lists: row 0 has none/);
  await refuse(await written('SELECT 2 * i AS row, [1] AS ids, [0.5] AS probs FROM range(3) t(i)'), { cols: 9 }, /follow one another/);
  const cache = await cacheOf(captureTopK(randn([500, 40], { seed: 2 }), 4));
  await exportParquet(cache, join(root, 'whole.parquet'));
  const bytes = readFileSync(join(root, 'whole.parquet'));
  writeFileSync(join(root, 'cut.parquet'), bytes.subarray(0, bytes.length / 2));
  await refuse(join(root, 'cut.parquet'), {}, { code: 'bad_file' });
  for (let i = 0; i < 60; i++) {
    const flipped = Buffer.from(bytes);
    flipped[Math.floor((i / 60) * bytes.length)]! ^= 0xff;
    writeFileSync(join(root, 'flipped.parquet'), flipped);
    const into = place();
    // Parquet has no checksums of its own here: what is not noticed is at least a whole cache.
    const error = await importParquet(join(root, 'flipped.parquet'), into).then(
      () => undefined,
      (reason: unknown) => reason as Error,
    );
    if (error === undefined) {
      const whole = await TargetCache.open(into);
      await whole.verify();
      await whole.close();
    }
    if (error !== undefined)
      expect(error instanceof LimbeckError || error instanceof RangeError || error instanceof TypeError, error.stack).toBe(true);
  }
  await expect(exportParquet(cache, join(root, 'no', 'such.parquet'))).rejects.toMatchObject({ code: 'bad_file' });
  await expect(exportParquet({} as never, 'x')).rejects.toThrow(TypeError);
  await cache.close();
});

it('CommonJS loads the packages too, where require() cannot load ES modules', () => {
  const script = `
const { captureTopK, exportParquet, importParquet, randn, TargetCache, TargetCacheWriter } = require(${JSON.stringify(resolve('dist/index.cjs'))});
(async () => {
  const writer = await TargetCacheWriter.open('cjs');
  await writer.append(captureTopK(randn([50, 100], { seed: 1 }), 8));
  await writer.finish();
  const cache = await TargetCache.open('cjs');
  await exportParquet(cache, 'cjs.parquet');
  await cache.close();
  console.log((await importParquet('cjs.parquet', 'cjs2')).rows);
})();`;
  const args = ['--no-experimental-require-module', '--input-type=commonjs', '-e', script];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: root });
  expect(stderr).toBe('');
  expect(stdout).toBe('50\n');
});

it('without the packages, the cure is named', async () => {
  const cache = await cacheOf(captureTopK(randn([5, 40], { seed: 2 }), 4));
  vi.doMock('hyparquet-writer', () => {
    throw new Error('not found');
  });
  vi.doMock('hyparquet', () => {
    throw new Error('not found');
  });
  await expect(exportParquet(cache, join(root, 'x.parquet'))).rejects.toMatchObject({
    code: 'not_installed',
    message:
      'Cannot write a Parquet file: the optional package hyparquet-writer must be installed: it is not (npm install hyparquet-writer)',
  });
  await expect(importParquet(join(root, 'x.parquet'), place(), { cols: 4 })).rejects.toMatchObject({ code: 'not_installed' });
  vi.doUnmock('hyparquet-writer');
  vi.doUnmock('hyparquet');
  await cache.close();
});
