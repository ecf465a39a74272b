// The folder of a run: what is written down between units, and the log.
import { appendFile, open, readFile, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Device } from '../device.js';
import { LimbeckError } from '../errors.js';
import { readSafetensors } from '../safetensors.js';
import { makeFolder, removeUnfinished, shortPath, writeWhole } from './files.js';
import type { CaptureResult, ModelResult, ProbeResult } from './results.js';
import type { Recipe } from './spec.js';

/** What is written down between units. */
export interface RunState {
  format: 2;
  recipe: Recipe;
  device: Device;
  finished: string[];
  models: ModelResult[];
  captures: CaptureResult[];
  probes: ProbeResult[];
  seconds: number;
  isComplete: boolean;
}

export interface OpenOptions {
  resume: boolean;
  fresh: boolean;
}

/** A run's folder. */
export class RunFolder {
  readonly path: string;
  state: RunState;

  constructor(folder: string, recipe: Recipe, device: Device) {
    this.path = resolve(folder);
    this.state = { format: 2, recipe, device, finished: [], models: [], captures: [], probes: [], seconds: 0, isComplete: false };
  }

  file(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  /** Goes on with an unfinished run, or starts one; never over an unfinished one unasked. */
  async open({ resume, fresh }: OpenOptions): Promise<void> {
    const shown = shortPath(this.path);
    const earlier = fresh ? null : await this.readState();
    if (resume && earlier) {
      const difference = firstDifference(
        { recipe: withoutChecks(earlier.recipe), device: earlier.device },
        { recipe: withoutChecks(this.state.recipe), device: this.state.device },
      );
      if (difference) {
        throw new LimbeckError(
          'wrong_run',
          `Cannot resume ${shown}: recipe, seed, epochs and device must be those it was started with: ${difference}`,
        );
      }
      this.state = { ...earlier, recipe: this.state.recipe, isComplete: false };
      for (const folder of [this.path, this.file('checkpoints'), this.file('targets')]) await removeUnfinished(folder);
      await this.mendLog();
      return;
    }
    if (earlier && !earlier.isComplete) {
      const done = earlier.finished.length;
      throw new LimbeckError(
        'unfinished_run',
        `Cannot start in ${shown}: it must not hold an unfinished run: ${done} part${done === 1 ? ' is' : 's are'} done; --resume goes on with it, --fresh starts over`,
      );
    }
    await makeFolder(this.file('checkpoints'));
    await makeFolder(this.file('targets'));
    // An old report beside new numbers would lie.
    for (const name of ['report.html', 'results.json', 'run.json', 'log.jsonl', 'checkpoints', 'targets'])
      await rm(this.file(name), { recursive: true, force: true });
    await makeFolder(this.file('checkpoints'));
    await makeFolder(this.file('targets'));
    await this.writeState();
  }

  private async readState(): Promise<RunState | null> {
    const path = this.file('run.json');
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch {
      return null;
    }
    const refuse = (was: string): never => {
      throw new LimbeckError('bad_file', `Cannot read ${path}: it must be the state of a run: ${was} (--fresh does not need it)`);
    };
    let state: { format?: unknown; finished?: unknown; models?: unknown };
    try {
      state = JSON.parse(text) as typeof state;
    } catch {
      return refuse('it is not');
    }
    if (state === null || typeof state !== 'object' || !Array.isArray(state.finished) || !Array.isArray(state.models))
      return refuse('it is not');
    if (state.format !== 2) return refuse(`it is one of another version of limbeck, format ${String(state.format)}`);
    return state as RunState;
  }

  writeState(): Promise<void> {
    return writeWhole(this.file('run.json'), `${JSON.stringify(this.state, null, 1)}\n`);
  }

  /** Where a unit that is under way keeps its place. */
  progressFile(key: string): string {
    return this.file('checkpoints', `${key}.progress.safetensors`);
  }

  /** Steps already done in an earlier sitting. */
  async readProgress(key: string): Promise<ReturnType<typeof readSafetensors> | null> {
    const path = this.progressFile(key);
    const isThere = await stat(path).then(
      () => true,
      () => false,
    );
    return isThere ? readSafetensors(path) : null;
  }

  // ---- the log

  private pending: string[] = [];

  /** Notes a line of log.jsonl; it is written with the next {@link flushLog}. */
  log(entry: Record<string, unknown>): void {
    this.pending.push(`${JSON.stringify({ time: new Date().toISOString(), ...entry })}\n`);
  }

  async flushLog(): Promise<void> {
    if (this.pending.length === 0) return;
    const lines = this.pending.join('');
    this.pending = [];
    await appendFile(this.file('log.jsonl'), lines);
  }

  /** A process that was killed may have left half a line. */
  private async mendLog(): Promise<void> {
    const path = this.file('log.jsonl');
    const bytes = await readFile(path).catch(() => null);
    if (bytes === null || bytes.length === 0 || bytes.at(-1) === 10) return;
    const file = await open(path, 'r+');
    try {
      await file.truncate(bytes.lastIndexOf(10) + 1);
    } finally {
      await file.close();
    }
  }
}

// Checks judge the numbers and make none: they may change between sittings.
const withoutChecks = (recipe: Recipe): Partial<Recipe> => {
  const { checks: _, quick: __, title: ___, description: ____, shows: _____, paper: ______, ...rest } = recipe;
  return rest;
};

/** Where two values of JSON differ first: 'recipe.seed was 1, is 2'. */
function firstDifference(was: unknown, is: unknown, path = ''): string | undefined {
  if (was !== null && is !== null && typeof was === 'object' && typeof is === 'object') {
    for (const key of new Set([...Object.keys(was), ...Object.keys(is)])) {
      const found = firstDifference(
        (was as Record<string, unknown>)[key],
        (is as Record<string, unknown>)[key],
        path === '' ? key : `${path}.${key}`,
      );
      if (found) return found;
    }
    return undefined;
  }
  return was === is ? undefined : `${path} was ${JSON.stringify(was)}, is ${JSON.stringify(is)}`;
}
