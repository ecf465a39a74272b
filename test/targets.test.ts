// Targets on disk: what goes in comes out, and a broken file, a full disk or an interruption is a LimbeckError that loses nothing.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import {
  captureTopK,
  denseTarget,
  kdLoss,
  LimbeckError,
  loadTargets,
  saveTargets,
  sparseTarget,
  tensor,
  type DenseTarget,
  type SparseTarget,
} from '../src/index.js';
import { normals } from './random.js';

const home = mkdtempSync(path.join(os.tmpdir(), 'limbeck-targets-'));
let folder = home;
let count = 0;

beforeEach(() => {
  folder = path.join(home, String(count++));
  mkdirSync(folder);
});

afterAll(() => rmSync(home, { recursive: true, force: true }));

const logits = (rows = 4, cols = 20) => tensor(normals(1, rows * cols, 3), { shape: [rows, cols] });
const sample = (): SparseTarget => captureTopK(logits(), 5, { temperature: 2 });
const at = (name = 'target.safetensors') => path.join(folder, name);
const bits = (x: { data: ArrayLike<number> } | null) => (x === null ? null : Array.from(x.data));

function refusal(fn: () => unknown): LimbeckError {
  try {
    fn();
  } catch (error) {
    expect(error).toBeInstanceOf(LimbeckError);
    expect((error as LimbeckError).message).toMatch(/^Cannot /);
    return error as LimbeckError;
  }
  throw new Error('nothing was thrown');
}

describe('round trip', () => {
  test('a captured target, bit for bit', () => {
    const target = sample();
    saveTargets(at(), target);
    const back = loadTargets(at()) as SparseTarget;
    expect(bits(back.indices)).toEqual(bits(target.indices));
    expect(bits(back.logProbs)).toEqual(bits(target.logProbs));
    expect(bits(back.tailLogMass)).toEqual(bits(target.tailLogMass));
    expect([back.temperature, back.cols, back.k]).toEqual([2, 20, 5]);
    const student = logits();
    expect(kdLoss(student, back, { residual: 'tail_bucket' }).item()).toBe(kdLoss(student, target, { residual: 'tail_bucket' }).item());
  });

  test('temperatures per row, empty slots, no tail, no width', () => {
    const target = sparseTarget({
      indices: [
        [1, -1],
        [0, 2],
      ],
      probs: [
        [0.5, 0],
        [0.25, 0.5],
      ],
      temperature: tensor(Float32Array.of(1, 3)),
    });
    saveTargets(at(), target);
    const back = loadTargets(at()) as SparseTarget;
    expect(bits(back.indices)).toEqual([1, -1, 0, 2]);
    expect(bits(back.logProbs)).toEqual(bits(target.logProbs));
    expect(bits(back.temperature as never)).toEqual([1, 3]);
    expect(back.cols).toBe(null);
  });

  test('weights and dense targets of each kind', () => {
    const weights = sparseTarget({ indices: [[1, 1]], weights: [[0.5, 0.5]] });
    saveTargets(at(), weights);
    expect(bits((loadTargets(at()) as SparseTarget).weights)).toEqual([0.5, 0.5]);
    for (const made of [
      denseTarget({ logits: logits() }),
      denseTarget({ probs: tensor([[0.25, 0.75]]) }),
      denseTarget({ logProbs: tensor([[-1, -2]]) }),
    ]) {
      saveTargets(at(), made);
      const back = loadTargets(at()) as DenseTarget;
      expect(back.kind).toBe(made.kind);
      expect([...back.values.shape]).toEqual([...made.values.shape]);
      expect(bits(back.values)).toEqual(bits(made.values));
    }
  });

  test('the file is safetensors: a length, a JSON header, the tensors', () => {
    saveTargets(at(), sample());
    const file = readFileSync(at());
    const length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, 8 + length).toString('utf8')) as Record<string, { dtype: string; shape: number[] }>;
    expect(header.indices).toMatchObject({ dtype: 'I32', shape: [4, 5] });
    expect(header.log_probs).toMatchObject({ dtype: 'F32', shape: [4, 5] });
    expect(header.tail_log_mass).toMatchObject({ dtype: 'F32', shape: [4] });
  });
});

describe('a broken file is bad_file and says where', () => {
  test('cut off anywhere', () => {
    saveTargets(at(), sample());
    const whole = readFileSync(at());
    const header = 8 + Number(whole.readBigUInt64LE(0));
    for (const length of new Set([0, 1, 7, 8, 9, 10, header >> 1, header - 1, header, header + 1, whole.length - 5, whole.length - 1])) {
      writeFileSync(at('cut'), whole.subarray(0, length));
      const error = refusal(() => loadTargets(at('cut')));
      expect(error.code, `cut at ${length}: ${error.message}`).toBe('bad_file');
      expect(error.message).toContain(at('cut'));
    }
    writeFileSync(at('long'), Buffer.concat([whole, Buffer.alloc(3)]));
    expect(refusal(() => loadTargets(at('long'))).code).toBe('bad_file');
  });

  test('any byte of the header flipped: read as it was, or refused; never a crash', () => {
    saveTargets(at(), sample());
    const whole = readFileSync(at());
    const header = 8 + Number(whole.readBigUInt64LE(0));
    let refused = 0;
    for (let byte = 0; byte < header; byte++)
      for (const flip of [0x01, 0x20, 0x80]) {
        const broken = Buffer.from(whole);
        broken[byte] = (broken[byte] as number) ^ flip;
        writeFileSync(at('flipped'), broken);
        try {
          loadTargets(at('flipped'));
        } catch (error) {
          refused++;
          expect(error, `byte ${byte}`).toBeInstanceOf(LimbeckError);
          expect(['bad_file', 'wrong_target']).toContain((error as LimbeckError).code);
          expect((error as Error).message).toMatch(/^Cannot /);
        }
      }
    expect(refused).toBeGreaterThan(header);
  });

  test('a header that promises more than memory', () => {
    for (const length of [2n ** 63n, 2n ** 40n, 100_000_001n, 1n, 0n]) {
      const file = Buffer.alloc(64, 0x20);
      file.writeBigUInt64LE(length);
      writeFileSync(at(), file);
      expect(refusal(() => loadTargets(at())).code).toBe('bad_file');
    }
    const lie = (entry: object): void => {
      const text = Buffer.from(JSON.stringify({ __metadata__: { format: 'limbeck targets 1', kind: 'logits' }, values: entry }));
      const prefix = Buffer.alloc(8);
      prefix.writeBigUInt64LE(BigInt(text.length));
      writeFileSync(at(), Buffer.concat([prefix, text, Buffer.alloc(16)]));
      expect(refusal(() => loadTargets(at())).code).toBe('bad_file');
    };
    lie({ dtype: 'F32', shape: [1e9, 1e9], data_offsets: [0, 16] });
    lie({ dtype: 'F32', shape: [2 ** 30, 2 ** 30], data_offsets: [0, 4] });
    lie({ dtype: 'F32', shape: [4], data_offsets: [0, 1e15] });
    lie({ dtype: 'F32', shape: [4], data_offsets: [16, 0] });
    lie({ dtype: 'F32', shape: [-4], data_offsets: [0, 16] });
    lie({ dtype: 'F32', shape: [4.5], data_offsets: [0, 18] });
    lie({ dtype: 'Q8', shape: [16], data_offsets: [0, 16] });
    lie([] as object);
  });

  test('foreign files', () => {
    writeFileSync(at('text'), 'these are not the bytes you are looking for, not at all');
    expect(refusal(() => loadTargets(at('text'))).code).toBe('bad_file');
    expect(refusal(() => loadTargets(at('missing'))).message).toContain('there is no such file');
    expect(refusal(() => loadTargets(folder)).code).toBe('bad_file');
    const text = Buffer.from('{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}');
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(at('model'), Buffer.concat([prefix, text, Buffer.alloc(4)]));
    expect(refusal(() => loadTargets(at('model'))).message).toContain('it must be a file of saveTargets');
    if (existsSync('/dev/zero')) expect(refusal(() => loadTargets('/dev/zero')).code).toBe('bad_file');
  });

  test('a target of a kind this version does not know is wrong_target', () => {
    const text = Buffer.from(
      JSON.stringify({
        __metadata__: { format: 'limbeck targets 1', kind: 'holographic' },
        values: { dtype: 'F32', shape: [1, 1], data_offsets: [0, 4] },
      }),
    );
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(at(), Buffer.concat([prefix, text, Buffer.alloc(4)]));
    expect(refusal(() => loadTargets(at())).code).toBe('wrong_target');
  });
});

describe('writing', () => {
  test('a folder that is not there, a path that is a folder', () => {
    expect(refusal(() => saveTargets(at('no/such/folder'), sample())).code).toBe('bad_file');
    mkdirSync(at('folder'));
    expect(refusal(() => saveTargets(at('folder'), sample())).code).toBe('bad_file');
    expect(readdirSync(folder)).toEqual(['folder']);
  });

  test('a full disk leaves the old file whole and nothing beside it', (context) => {
    const disk = at('disk');
    mkdirSync(disk);
    if (process.getuid?.() !== 0 || spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]).status !== 0)
      return context.skip('mounting a small tmpfs needs root');
    try {
      const file = path.join(disk, 'target.safetensors');
      saveTargets(file, sample());
      const before = readFileSync(file);
      const large = denseTarget({ logits: tensor(new Float32Array(1 << 20), { shape: [1024, 1024] }) });
      const error = refusal(() => saveTargets(file, large));
      expect(error.code).toBe('bad_file');
      expect(error.message).toContain('ENOSPC');
      expect(readFileSync(file).equals(before)).toBe(true);
      expect(readdirSync(disk)).toEqual(['target.safetensors']);
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  test('a device that is always full', () => {
    if (!existsSync('/dev/full')) return;
    symlinkSync('/dev/full', at('full'));
    // The rename replaces the link itself; /dev is not a place to make files in, which must be said, not crashed on.
    saveTargets(at('full'), sample());
    expect((loadTargets(at('full')) as SparseTarget).k).toBe(5);
    expect(existsSync('/dev/full')).toBe(true);
  });

  test('killed in the middle: the old file is whole', () => {
    saveTargets(at(), sample());
    const before = readFileSync(at());
    const script = `
      import fs from 'node:fs';
      import { syncBuiltinESMExports } from 'node:module';
      const write = fs.writeSync;
      let calls = 0;
      fs.writeSync = (...args) => { if (++calls === 3) process.kill(process.pid, 'SIGKILL'); return write(...args); };
      syncBuiltinESMExports();
      const { saveTargets, denseTarget, tensor } = await import(${JSON.stringify(path.resolve('dist/index.js'))});
      saveTargets(${JSON.stringify(at())}, denseTarget({ logits: tensor(new Float32Array(4096), { shape: [64, 64] }) }));
    `;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(child.signal, child.stderr).toBe('SIGKILL');
    expect(readFileSync(at()).equals(before)).toBe(true);
    expect((loadTargets(at()) as SparseTarget).k).toBe(5);
  });

  test('what is not a target, what is not a path', () => {
    for (const wrong of [null, undefined, 5, {}, logits()])
      expect(() => saveTargets(at(), wrong as never)).toThrow(
        /^Cannot save a target: target must be made by captureTopK, sparseTarget or denseTarget/,
      );
    for (const wrong of [null, undefined, 5, '', {}]) {
      expect(() => saveTargets(wrong as never, sample())).toThrow(TypeError);
      expect(() => loadTargets(wrong as never)).toThrow(TypeError);
    }
  });
});
