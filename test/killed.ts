// Runs `limbeck distill` in a process of its own and kills it (−9) when it has said something.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Results } from '../src/distill/index.js';

/** Kills the run when it has said the text for the n-th time. */
export function distil(
  recipe: string,
  out: string,
  args: readonly string[],
  text?: string,
  times = 1,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [resolve('dist/cli.js'), 'distill', recipe, '--out', out, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => (stdout += part));
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      stderr += part;
      if (text !== undefined && stderr.split(text).length > times) child.kill('SIGKILL');
    });
    child.on('error', fail);
    child.on('close', (code) => done({ code, stdout, stderr }));
  });
}

/** results.json of a run's folder. */
export function resultsIn(folder: string): Results {
  return JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as Results;
}

/** All numbers of a run that do not measure time. */
export function numbersOf({ models, captures, probes, checks }: Results): string {
  return JSON.stringify([models, captures, probes, checks], (key, value: unknown) => (key === 'seconds' ? undefined : value));
}
