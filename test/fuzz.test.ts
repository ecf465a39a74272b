// 10,000 random calls of the public functions: the process ends by itself, and every throw is one of ours.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const here = path.dirname(fileURLToPath(import.meta.url));

for (const seed of [1, 2])
  test(`10,000 random calls, seed ${seed}`, () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-fuzz-'));
    try {
      // Files that a call may write land in the temporary folder.
      const child = spawnSync(process.execPath, [path.join(here, 'fuzz-calls.mjs'), path.join(here, '..', 'dist'), String(seed), '10000'], {
        cwd: folder,
        encoding: 'utf8',
        timeout: 110_000,
        maxBuffer: 1 << 26,
      });
      expect(`${child.signal} ${child.status}\n${child.stderr}`).toBe('null 0\n');
      const report = JSON.parse(child.stdout.trim().split('\n').at(-1) as string) as {
        calls: number;
        functions: number;
        milliseconds: number;
        wrong: string[];
      };
      expect(report.wrong).toEqual([]);
      expect(report.calls).toBe(10_000);
      expect(report.functions).toBeGreaterThan(40);
      expect(report.milliseconds).toBeLessThan(60_000);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }, 120_000);
