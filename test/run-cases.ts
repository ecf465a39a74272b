// Runs every case file against a built limbeck, without a test framework: for vitest and for the GPU bundle alike.
import type { CaseFile, Subject } from './subject.js';
import { cases } from './cases/index.js';

export interface CaseResult {
  case: string;
  passed: boolean;
  /** Why not; empty when passed. */
  message: string;
  milliseconds: number;
}

/** Every check of every op, in order; never throws for a failing check. */
export async function* runCases(
  subject: Subject,
  only: (name: string) => boolean = () => true,
  files: CaseFile[] = cases,
): AsyncGenerator<CaseResult> {
  for (const file of files)
    for (const check of file.checks) {
      const name = `${file.op}: ${check.name}`;
      if (!only(name)) continue;
      const begin = performance.now();
      let message = '';
      try {
        await check.run(subject);
      } catch (error) {
        message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      }
      yield { case: name, passed: message === '', message, milliseconds: performance.now() - begin };
    }
}
