// What the stages of a run share: the data, the folder, the models of earlier stages, and signals to stop.
import { mkdir } from 'node:fs/promises';
import type { Device } from '../device.js';
import { LimbeckError } from '../errors.js';
import type { Module } from '../nn/index.js';
import type { StoredTensor } from '../safetensors.js';
import { loadTargets, SparseTarget } from '../targets/index.js';
import { tensor } from '../tensor.js';
import { loadModel, makeModel, type BuildEnvironment, type Kept, type ModelMaker } from './build.js';
import { TestTeacher } from './evaluate.js';
import type { RunEvent, RunListener, Unit } from './events.js';
import type { RunFolder } from './folder.js';
import type { Probe } from './probes/index.js';
import { openRecording, type OpenRecording } from './recording.js';
import { teacherStage } from './references.js';
import type { CaptureResult, ModelResult, Moves } from './results.js';
import type { DataSource } from './source.js';
import type { Recipe, StageSpec } from './spec.js';
import type { CapturedTargets, CustomTargets } from './stage_loss/index.js';

/** Parts of a recipe that are written in TypeScript, by the names that the recipe calls them. */
export interface CustomParts extends CustomTargets {
  /** `{ "kind": "custom", "name" }` among the models. */
  models?: Record<string, ModelMaker>;
  /** `{ "format": "custom", "name" }` as data. */
  data?: Record<string, (environment: { device: Device; options: Record<string, unknown> }) => DataSource | Promise<DataSource>>;
  /** `{ "kind": "probe", "probe" }`. */
  probes?: Record<string, Probe>;
}

/** A unit with the stage that it is of. */
export interface UnitPlan extends Unit {
  spec: StageSpec;
  once: boolean;
  /** Of a recursion, from 1. */
  generation?: number;
}

/** The run was stopped by its signal; what is done is on disk. */
export class Interrupted extends Error {
  constructor(readonly folder: string) {
    super(`Interrupted: the run in ${folder} can be resumed`);
    this.name = 'Interrupted';
  }
}

export interface RunContextOptions {
  recipe: Recipe;
  device: Device;
  source: DataSource;
  folder: RunFolder;
  custom: CustomParts;
  listen: RunListener;
  signal?: AbortSignal;
}

// How long the loop runs before it lets signals and timers in.
const YIELD_MS = 25;

export class RunContext {
  readonly recipe: Recipe;
  readonly device: Device;
  readonly source: DataSource;
  readonly folder: RunFolder;
  readonly custom: CustomParts;
  private readonly testTeachers = new Map<string, TestTeacher>();
  /** By file: open from the first unit after the capture on, to the end of the run. */
  private readonly recordings = new Map<string, OpenRecording>();
  private lastYield = 0;
  private sittingStarted = performance.now();

  constructor(private readonly options: RunContextOptions) {
    ({ recipe: this.recipe, device: this.device, source: this.source, folder: this.folder, custom: this.custom } = options);
  }

  get signal(): AbortSignal | undefined {
    return this.options.signal;
  }

  listen(event: RunEvent): void {
    this.options.listen(event);
  }

  // ---- time and signals

  /** Lets signals in now and then; true where the run shall stop. */
  async isStopped(): Promise<boolean> {
    if (performance.now() - this.lastYield > YIELD_MS) {
      await this.folder.flushLog();
      await new Promise((resume) => setImmediate(resume));
      this.lastYield = performance.now();
    }
    return this.options.signal?.aborted === true;
  }

  /** Writes down where the run is and leaves it. */
  async interrupt(): Promise<never> {
    this.countTime();
    await this.folder.writeState();
    await this.folder.flushLog();
    throw new Interrupted(this.folder.path);
  }

  countTime(): void {
    const now = performance.now();
    this.folder.state.seconds += (now - this.sittingStarted) / 1000;
    this.sittingStarted = now;
  }

  // ---- earlier stages

  /** The models of a stage for a seed, in the order of levels or generations. */
  resultsOf(stage: string, seed: number): ModelResult[] {
    return this.folder.state.models.filter((m) => (m.stage === stage || m.of === stage) && (m.once || m.seed === seed));
  }

  /** The model that a stage hands on, for a seed. */
  resultOf(stage: string, seed: number): ModelResult {
    const found = this.resultsOf(stage, seed).at(-1);
    if (!found) throw new LimbeckError('bad_file', `Cannot go on: stage "${stage}" must be done for seed ${seed}: it is not`);
    return found;
  }

  get environment(): BuildEnvironment {
    return { source: this.source, device: this.device, ...(this.custom.models ? { models: this.custom.models } : {}) };
  }

  newModel(name: string, seed: number): { model: Module; kept: Kept } {
    return { model: makeModel(this.recipe.models[name]!, seed, this.environment), kept: { name, seed, masks: null } };
  }

  /** A trained model from its checkpoint. */
  load(result: ModelResult): { model: Module; kept: Kept } {
    return loadModel(this.folder.file(result.checkpoint), this.recipe.models, this.environment);
  }

  /** The model that others are measured against, on the test rows; null before it is trained, and for itself. */
  testTeacher(stage: string, seed: number): TestTeacher | null {
    const name = teacherStage(this.recipe);
    if (name === undefined || name === stage) return null;
    const result = this.resultsOf(name, seed).at(-1);
    if (!result || result.stage === stage) return null;
    const found = this.testTeachers.get(result.key) ?? new TestTeacher(this.load(result).model, this.source);
    this.testTeachers.set(result.key, found);
    return found;
  }

  private captureOf(stage: string, seed: number): CaptureResult {
    const capture = this.folder.state.captures.find((each) => each.stage === stage && (each.once !== false || each.seed === seed));
    if (!capture) throw new LimbeckError('bad_file', `Cannot go on: stage "${stage}" must be done for seed ${seed}: it is not`);
    return capture;
  }

  /** How the images were moved that a capture stage showed its teacher; null where they were not. */
  movesOf(stage: string, seed: number): Moves | null {
    return this.captureOf(stage, seed).moves ?? null;
  }

  /** The targets that a capture stage left, for a seed. */
  captured(stage: string, seed: number): CapturedTargets & { dispose(): void } {
    const capture = this.captureOf(stage, seed);
    const recording = this.recordings.get(capture.file);
    if (recording) return { rows: (rows) => recording.rows(rows), dispose: () => undefined };
    const target = loadTargets(this.folder.file(capture.file), { device: this.device });
    if (!(target instanceof SparseTarget))
      throw new LimbeckError('wrong_target', `Cannot learn from ${capture.file}: it must hold a sparse target: it does not`);
    const { trainRows } = this.source;
    const views = capture.moves?.views ?? 1;
    return {
      rows: (rows, pass = 0) => {
        const first = (pass % views) * trainRows;
        return target.rows(
          tensor(
            rows.map((row) => first + row),
            { device: this.device },
          ),
        );
      },
      dispose: () => target.dispose(),
    };
  }

  /** Opens the folders of targets there are: losses read from them without waiting. */
  async openRecordings(): Promise<void> {
    const { source, device } = this;
    if (source.rowsEach === 1) return;
    for (const { file } of this.folder.state.captures) {
      if (this.recordings.has(file)) continue;
      const hash = source.hash?.();
      this.recordings.set(
        file,
        await openRecording(this.folder.file(file), { rowsEach: source.rowsEach, device, ...(hash === undefined ? {} : { hash }) }),
      );
    }
  }

  /** Makes the folders that units write to. */
  async prepare(): Promise<void> {
    for (const name of ['checkpoints', 'targets']) await mkdir(this.folder.file(name), { recursive: true });
  }

  async dispose(): Promise<void> {
    for (const teacher of this.testTeachers.values()) teacher.dispose();
    this.testTeachers.clear();
    for (const recording of this.recordings.values()) await recording.close();
    this.recordings.clear();
  }
}

const MASK = 'mask.';

/** Masks as tensors of a file of progress. */
export function maskTensors(masks: ReadonlyMap<string, Float32Array> | null): Record<string, StoredTensor> {
  const tensors: Record<string, StoredTensor> = {};
  for (const [name, mask] of masks ?? []) tensors[MASK + name] = { dtype: 'uint8', shape: [mask.length], data: Uint8Array.from(mask) };
  return tensors;
}

export function readMasks(tensors: ReadonlyMap<string, StoredTensor>): Map<string, Float32Array> | null {
  const masks = [...tensors]
    .filter(([name]) => name.startsWith(MASK))
    .map(([name, { data }]) => [name.slice(MASK.length), Float32Array.from(data)] as const);
  return masks.length > 0 ? new Map(masks) : null;
}
