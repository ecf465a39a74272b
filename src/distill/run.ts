// Runs a recipe: stages in order, each from files to files, so that a run can stop anywhere and go on with the same numbers.
import { readFile, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { devices, info, setDevice, type Device, type DeviceChoice } from '../device.js';
import { kindError, LimbeckError, notAvailable } from '../errors.js';
import { noGrad, tidy } from '../autograd.js';
import { packageVersion } from '../native.js';
import { KeptCounter } from '../cache/summary.js';
import type { Sequential } from '../nn/index.js';
import { deriveSeed } from '../nn/seed.js';
import { readSafetensors, writeSafetensors, type StoredTensor } from '../safetensors.js';
import { captureTopK, loadTargets, saveTargets, sparseTarget, type DenseTarget, type SparseTarget } from '../targets/index.js';
import { hostCopy, tensor, type Tensor } from '../tensor.js';
import { findings } from '../report/findings.js';
import { reportPage } from '../report/report.js';
import { inputTensor, loadData, shiftedBatches, type Data } from './data.js';
import type { RunListener, Unit } from './events.js';
import { makeFolder, removeUnfinished, shortPath, writeWhole } from './files.js';
import { buildGallery, type GallerySource } from './gallery.js';
import { agreement, evaluateLogits, predictions } from './metrics.js';
import { allLogits, buildModel, countZeros, prunable, pruningMasks, rowsFrom } from './model.js';
import {
  checkRecipe,
  type CaptureStage,
  type PruneStage,
  type Recipe,
  type StageSpec,
  type TargetSpec,
  type TrainStage,
} from './recipe.js';
import { summarize, type CaptureResult, type Machine, type ModelResult, type Results } from './results.js';
import { stageLoss, type CapturedTargets } from './stage_loss/index.js';
import { Trainer, stepsPerEpoch, type BatchLoss } from './trainer.js';

export interface RunOptions {
  /** Default 'cpu'. */
  device?: Device | 'auto';
  /** Where results go; made where it is not there. */
  folder: string;
  /** Folders in the recipe count from the recipe's own. */
  recipePath?: string;
  /** Goes on with an interrupted run in the folder; starts one where there is none. */
  resume?: boolean;
  /** Throws an interrupted run in the folder away. */
  fresh?: boolean;
  /** Stops at the next step, with everything written. */
  signal?: AbortSignal;
  listen?: RunListener;
}

/** The run was stopped by its signal; what is done is on disk. */
export class Interrupted extends Error {
  constructor(readonly folder: string) {
    super(`Interrupted: the run in ${folder} can be resumed`);
    this.name = 'Interrupted';
  }
}

/** What is written down between units. */
interface RunState {
  format: 1;
  recipe: Recipe;
  device: Device;
  finished: string[];
  models: ModelResult[];
  captures: CaptureResult[];
  seconds: number;
  isComplete: boolean;
}

interface UnitPlan extends Unit {
  spec: StageSpec;
  once: boolean;
}

// How long the loop runs before it lets signals and timers in.
const YIELD_MS = 25;

/** Runs a checked recipe and writes results.json, report.html, checkpoints and targets into the folder. */
export async function runRecipe(recipe: Recipe, options: RunOptions): Promise<{ results: Results; report: string }> {
  const action = 'run a recipe';
  if (typeof options !== 'object' || options === null || typeof options.folder !== 'string' || options.folder === '')
    throw kindError(action, 'options must give a folder', options);
  const checked = await checkRecipe(recipe);
  return new Run(checked, options, chooseDevice(options.device ?? 'cpu')).all();
}

// The choice is the run's own: the device of other tensors stays what it was.
function chooseDevice(wanted: Device | 'auto'): DeviceChoice {
  const before = info().device;
  try {
    return setDevice(wanted);
  } finally {
    setDevice(before);
  }
}

class Run {
  private readonly folder: string;
  private readonly device: Device;
  private readonly plan: UnitPlan[];
  private readonly listen: RunListener;
  private state: RunState;
  private data!: Data;
  private trainInputs!: Tensor;
  private testInputs!: Tensor;
  private teacherPredictions: ArrayLike<number> | null = null;
  private lastYield = 0;
  private sittingStarted = 0;

  constructor(
    private readonly recipe: Recipe,
    private readonly options: RunOptions,
    private readonly choice: DeviceChoice,
  ) {
    this.folder = resolve(options.folder);
    this.device = choice.device;
    this.listen = options.listen ?? (() => undefined);
    this.plan = [];
    this.state = { format: 1, recipe, device: choice.device, finished: [], models: [], captures: [], seconds: 0, isComplete: false };
  }

  async all(): Promise<{ results: Results; report: string }> {
    this.data = await loadData(this.recipe.data, this.options.recipePath);
    for (const stage of this.recipe.stages) {
      if (stage.kind === 'capture' && stage.k > this.data.classes) {
        throw new RangeError(
          `Cannot use recipe ${this.recipe.name}: k of stage "${stage.name}" must be at most the ${this.data.classes} classes: it is ${stage.k}`,
        );
      }
    }
    this.makePlan();
    await this.openFolder();
    const { finished } = this.state;
    this.listen({
      type: 'start',
      recipe: this.recipe,
      units: this.plan,
      finished: finished.length,
      device: this.choice.device,
      reason: this.choice.reason,
      folder: shortPath(this.folder),
      trainRows: this.data.train.rows,
      testRows: this.data.test.rows,
    });
    this.sittingStarted = performance.now();
    this.trainInputs = inputTensor(this.data, this.data.train, this.device);
    this.testInputs = inputTensor(this.data, this.data.test, this.device);
    try {
      for (const [index, unit] of this.plan.entries()) {
        if (finished.includes(unit.key)) continue;
        if (unit.spec.kind === 'capture') await this.capture(index, unit, unit.spec);
        else await this.trainUnit(index, unit, unit.spec);
      }
      return await this.conclude();
    } finally {
      this.trainInputs.dispose();
      this.testInputs.dispose();
    }
  }

  private makePlan(): void {
    const once = new Map<string, boolean>();
    const rows = this.data.train.rows;
    for (const spec of this.recipe.stages) {
      const runsOnce = spec.kind === 'train' ? spec.once : spec.kind === 'capture' ? true : once.get(spec.from)!;
      once.set(spec.name, runsOnce);
      const steps = spec.kind === 'capture' ? Math.ceil(rows / CAPTURE_ROWS) : spec.training.epochs * stepsPerEpoch(rows, spec.training);
      for (let repeat = 0; repeat < (runsOnce ? 1 : this.recipe.repeats); repeat++) {
        const seed = this.recipe.seed + repeat;
        const title = `${spec.title ?? spec.name}${runsOnce ? '' : `, seed ${seed}`}`;
        this.plan.push({ key: runsOnce ? spec.name : `${spec.name}-${seed}`, title, seed, steps, spec, once: runsOnce });
      }
    }
  }

  // ---- the folder

  private path(...parts: string[]): string {
    return join(this.folder, ...parts);
  }

  private async openFolder(): Promise<void> {
    const { resume, fresh } = this.options;
    const shown = shortPath(this.folder);
    const earlier = await this.readState();
    if (resume && earlier) {
      const difference = firstDifference({ recipe: earlier.recipe, device: earlier.device }, { recipe: this.recipe, device: this.device });
      if (difference) {
        throw new LimbeckError(
          'wrong_run',
          `Cannot resume ${shown}: recipe, seed, epochs and device must be those it was started with: ${difference}`,
        );
      }
      this.state = { ...earlier, isComplete: false };
      for (const folder of [this.folder, this.path('checkpoints'), this.path('targets')]) await removeUnfinished(folder);
      return;
    }
    if (earlier && !earlier.isComplete && !fresh) {
      const done = earlier.finished.length;
      throw new LimbeckError(
        'unfinished_run',
        `Cannot start in ${shown}: it must not hold an unfinished run: ${done} part${done === 1 ? ' is' : 's are'} done; --resume goes on with it, --fresh starts over`,
      );
    }
    await makeFolder(this.path('checkpoints'));
    await makeFolder(this.path('targets'));
    // An old report beside new numbers would lie.
    for (const name of ['report.html', 'results.json', 'run.json', 'checkpoints', 'targets'])
      await rm(this.path(name), { recursive: true, force: true });
    await makeFolder(this.path('checkpoints'));
    await makeFolder(this.path('targets'));
    await this.writeState();
  }

  private async readState(): Promise<RunState | null> {
    let text: string;
    try {
      text = await readFile(this.path('run.json'), 'utf8');
    } catch {
      return null;
    }
    try {
      const state = JSON.parse(text) as RunState;
      if (state.format === 1 && Array.isArray(state.finished) && Array.isArray(state.models)) return state;
    } catch {
      // Said below.
    }
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${this.path('run.json')}: it must be the state of a run: it is not (--fresh does not need it; remove the file)`,
    );
  }

  private writeState(): Promise<void> {
    return writeWhole(this.path('run.json'), `${JSON.stringify(this.state, null, 1)}\n`);
  }

  private async finishUnit(unit: UnitPlan): Promise<void> {
    this.state.finished.push(unit.key);
    this.countTime();
    await this.writeState();
    await rm(this.progressPath(unit), { force: true });
  }

  private countTime(): void {
    const now = performance.now();
    this.state.seconds += (now - this.sittingStarted) / 1000;
    this.sittingStarted = now;
  }

  private progressPath(unit: Unit): string {
    return this.path('checkpoints', `${unit.key}.progress.safetensors`);
  }

  // ---- training and pruning

  private async trainUnit(index: number, unit: UnitPlan, spec: TrainStage | PruneStage): Promise<void> {
    const sparsities = spec.kind === 'prune' ? spec.sparsity : [undefined];
    const saved = await this.readProgress(unit);
    const results: ModelResult[] = saved ? (JSON.parse(saved.metadata['results']!) as ModelResult[]) : [];
    const firstLevel = saved ? Number(saved.metadata['level']) : 0;
    let seconds = saved ? Number(saved.metadata['seconds']) : 0;
    const loss = this.batchLoss(spec.target);
    const model = this.startModel(unit, spec);
    let masks = saved ? readMasks(saved.tensors) : spec.kind === 'prune' ? this.masksOf(model, this.startKey(unit, spec)) : null;
    const bounds = sparsities.map((_, level) => Math.round((unit.steps * (level + 1)) / sparsities.length));
    try {
      for (let level = firstLevel; level < sparsities.length; level++) {
        const isRestored = saved !== null && level === firstLevel;
        const sparsity = sparsities[level];
        if (sparsity !== undefined && !isRestored) masks = pruningMasks(model, sparsity, masks);
        const before = level === 0 ? 0 : bounds[level - 1]!;
        const trainer = new Trainer({
          model,
          inputs: this.trainInputs,
          loss: loss.of,
          batch: spec.training.shift > 0 ? shiftedBatches(this.data, spec.training.shift, this.device) : undefined,
          training: spec.training,
          steps: bounds[level]! - before,
          seed: deriveSeed(unit.seed, 'data', level),
          masks: masks ?? undefined,
        });
        try {
          if (isRestored) trainer.restore(saved);
          if (level === firstLevel) this.listen({ type: 'unit', index, unit, step: before + trainer.step });
          seconds = await this.trainLevel(index, unit, { trainer, model, before, spec, level, results, masks, seconds });
        } finally {
          trainer.dispose();
        }
        const result = this.measure(unit, spec, model, level, trainer, seconds);
        results.push(result);
        this.listen({ type: 'model', index, result });
        seconds = 0;
      }
      this.state.models.push(...results);
      await this.finishUnit(unit);
    } finally {
      model.dispose();
      loss.dispose();
    }
  }

  private async trainLevel(
    index: number,
    unit: UnitPlan,
    at: {
      trainer: Trainer;
      model: Sequential;
      before: number;
      spec: TrainStage | PruneStage;
      level: number;
      results: ModelResult[];
      masks: Map<string, Float32Array> | null;
      seconds: number;
    },
  ): Promise<number> {
    const { trainer, before, spec } = at;
    const started = performance.now();
    const elapsed = () => at.seconds + (performance.now() - started) / 1000;
    const save = () =>
      trainer.save(
        this.progressPath(unit),
        { level: String(at.level), seconds: String(elapsed()), results: JSON.stringify(at.results) },
        maskTensors(at.masks, at.model),
      );
    while (!trainer.isDone) {
      const { rows, loss } = trainer.takeStep();
      this.listen({ type: 'step', index, step: before + trainer.step, rows, loss });
      if (trainer.isAtEpochEnd) {
        const { accuracy, nll } = evaluateLogits(
          allLogits(at.model, this.testInputs, this.data.classes),
          this.data.test.labels,
          this.data.classes,
        );
        const point = trainer.addPoint(accuracy, nll);
        save();
        this.listen({
          type: 'epoch',
          index,
          epoch: Math.ceil((before + trainer.step) / trainer.stepsPerEpoch),
          epochs: spec.training.epochs,
          loss: point.loss,
          accuracy,
          nll,
        });
      }
      if (await this.isStopped()) {
        save();
        this.countTime();
        await this.writeState();
        throw new Interrupted(this.folder);
      }
    }
    return elapsed();
  }

  /** Lets signals in now and then; true where the run shall stop. */
  private async isStopped(): Promise<boolean> {
    if (performance.now() - this.lastYield > YIELD_MS) {
      await new Promise((resume) => setImmediate(resume));
      this.lastYield = performance.now();
    }
    return this.options.signal?.aborted === true;
  }

  private measure(
    unit: UnitPlan,
    spec: TrainStage | PruneStage,
    model: Sequential,
    level: number,
    trainer: Trainer,
    seconds: number,
  ): ModelResult {
    const isPruning = spec.kind === 'prune';
    const name = isPruning && spec.sparsity.length > 1 ? `${unit.key}-level${level + 1}` : unit.key;
    const checkpoint = `checkpoints/${name}.safetensors`;
    writeSafetensors(this.path(checkpoint), model.stateDict(), { stage: spec.name, seed: String(unit.seed) });
    const logits = allLogits(model, this.testInputs, this.data.classes);
    const evaluation = evaluateLogits(logits, this.data.test.labels, this.data.classes);
    const teacher = this.teacher();
    const zeros = countZeros(model);
    const title = spec.title ?? spec.name;
    return {
      key: name,
      stage: spec.name,
      title: isPruning ? `${title}, ${percentText(spec.sparsity[level]!)} zero` : title,
      kind: spec.kind,
      level: isPruning ? level : undefined,
      seed: unit.seed,
      once: unit.once,
      target: spec.target.kind,
      ...zeros,
      steps: trainer.step,
      seconds,
      evaluation,
      agreement: teacher && spec.name !== this.teacherStage() ? agreement(predictions(logits, this.data.classes), teacher) : undefined,
      curve: trainer.curve,
      checkpoint,
    };
  }

  /** Steps already done in an earlier sitting. */
  private async readProgress(unit: UnitPlan): Promise<ReturnType<typeof readSafetensors> | null> {
    const path = this.progressPath(unit);
    const isThere = await stat(path).then(
      () => true,
      () => false,
    );
    return isThere ? readSafetensors(path) : null;
  }

  // ---- models from files

  private startKey(unit: UnitPlan, spec: PruneStage): string {
    const from = this.recipe.stages.find((stage) => stage.name === spec.from)!;
    return this.keyOf(from, unit.seed);
  }

  /** The checkpoint that a stage ends with, for a seed. */
  private keyOf(stage: StageSpec, seed: number): string {
    const found = this.state.models.filter((m) => m.stage === stage.name && (m.once || m.seed === seed)).at(-1);
    if (!found) throw new LimbeckError('bad_file', `Cannot go on: stage "${stage.name}" must be done for seed ${seed}: it is not`);
    return found.key;
  }

  private startModel(unit: UnitPlan, spec: TrainStage | PruneStage): Sequential {
    if (spec.kind === 'prune') return this.loadModel(this.startKey(unit, spec));
    return this.newModel(spec.model, unit.seed);
  }

  private newModel(name: string, seed: number): Sequential {
    return buildModel(this.recipe.models[name]!, this.data.inputs, this.data.classes, deriveSeed(seed, 'model'), this.device);
  }

  /** A trained model from its checkpoint. */
  private loadModel(key: string): Sequential {
    const result = this.state.models.find((m) => m.key === key)!;
    const model = this.newModel(this.modelName(result.stage), result.seed);
    const { tensors } = readSafetensors(this.path(result.checkpoint));
    model.loadStateDict(Object.fromEntries(tensors));
    return model;
  }

  private modelName(stage: string): string {
    const spec = this.recipe.stages.find((each) => each.name === stage)!;
    if (spec.kind === 'train') return spec.model;
    return this.modelName(spec.from);
  }

  /** What an earlier pruning stage cut stays cut. */
  private masksOf(model: Sequential, key: string): Map<string, Float32Array> | null {
    const result = this.state.models.find((m) => m.key === key)!;
    if (result.kind !== 'prune') return null;
    const values = prunable(model).map(([name, parameter]) => [name, hostCopy(parameter, 'read masks') as Float32Array] as const);
    return new Map(values.map(([name, weights]) => [name, weights.map((weight) => (weight === 0 ? 0 : 1))]));
  }

  private teacherStage(): string | undefined {
    return this.recipe.stages.find((stage): stage is CaptureStage => stage.kind === 'capture')?.from;
  }

  /** The teacher's choices on the test rows, from its checkpoint; null before it is trained. */
  private teacher(): ArrayLike<number> | null {
    const name = this.teacherStage();
    const trained = this.state.models.find((m) => m.stage === name);
    if (!trained) return null;
    if (!this.teacherPredictions) {
      const model = this.loadModel(trained.key);
      this.teacherPredictions = predictions(allLogits(model, this.testInputs, this.data.classes), this.data.classes);
      model.dispose();
    }
    return this.teacherPredictions;
  }

  // ---- targets

  private async capture(index: number, unit: UnitPlan, spec: CaptureStage): Promise<void> {
    this.listen({ type: 'unit', index, unit, step: 0 });
    const started = performance.now();
    const { classes, train } = this.data;
    const { k, temperature } = spec;
    const from = this.recipe.stages.find((stage) => stage.name === spec.from)!;
    const model = this.loadModel(this.keyOf(from, unit.seed));
    model.eval();
    const indices = new Int32Array(train.rows * k);
    const logProbs = new Float32Array(train.rows * k);
    const tailLogMass = new Float32Array(train.rows);
    for (let row = 0; row < train.rows; row += CAPTURE_ROWS) {
      const rows = Math.min(CAPTURE_ROWS, train.rows - row);
      tidy(() =>
        noGrad(() => {
          const captured = captureTopK(model.forward(rowsFrom(this.trainInputs, row, rows)), k, { temperature });
          indices.set(hostCopy(captured.indices, 'capture') as Int32Array, row * k);
          logProbs.set(hostCopy(captured.logProbs!, 'capture') as Float32Array, row * k);
          tailLogMass.set(hostCopy(captured.tailLogMass!, 'capture') as Float32Array, row);
        }),
      );
      this.listen({ type: 'step', index, step: row / CAPTURE_ROWS + 1, rows });
      if (await this.isStopped()) {
        model.dispose();
        this.countTime();
        await this.writeState();
        throw new Interrupted(this.folder);
      }
    }
    // From here on the students learn from the file alone.
    model.dispose();
    const file = `targets/${spec.name}.safetensors`;
    tidy(() => {
      const host = (data: Int32Array | Float32Array, cols?: number) =>
        tensor(data, { shape: cols === undefined ? [train.rows] : [train.rows, cols], device: 'cpu' });
      const target = sparseTarget({
        indices: host(indices, k),
        logProbs: host(logProbs, k),
        tailLogMass: host(tailLogMass),
        temperature,
        cols: classes,
      });
      saveTargets(this.path(file), target);
    });
    let tail = 0;
    for (const mass of tailLogMass) tail += Math.exp(mass);
    const counter = new KeptCounter('log_probs', k);
    for (let row = 0; row < train.rows; row++) counter.add(row, indices, logProbs, tailLogMass);
    const result: CaptureResult = {
      stage: spec.name,
      from: spec.from,
      file,
      bytes: (await stat(this.path(file))).size,
      rows: train.rows,
      cols: classes,
      k,
      temperature,
      meanTail: tail / train.rows,
      kept: counter.spreads(),
      seconds: (performance.now() - started) / 1000,
    };
    this.state.captures.push(result);
    this.listen({ type: 'capture', index, result });
    await this.finishUnit(unit);
  }

  /** The loss that a stage trains by. */
  private batchLoss(spec: TargetSpec): { of: BatchLoss; dispose(): void } {
    const { labels, rows: count } = this.data.train;
    const files: (SparseTarget | DenseTarget)[] = [];
    const captured = (name: string): CapturedTargets => {
      const { file } = this.state.captures.find((each) => each.stage === name)!;
      const target = loadTargets(this.path(file), { device: this.device });
      files.push(target);
      return { rows: (rows) => target.rows(rows) };
    };
    const loss = stageLoss({ spec, device: this.device, seed: 0, rows: count, cols: this.data.classes, captured });
    const of: BatchLoss = (logits, _, rows) =>
      loss.of(
        { logits, features: [] },
        {
          rows,
          labels: Int32Array.from(rows, (row) => labels[row]!),
          step: 0,
          steps: 1,
          epoch: 0,
          seed: 0,
          input: this.trainInputs,
          teacher: (name) => {
            throw notAvailable('train a stage', `the live teacher "${name}"`);
          },
        },
      );
    const dispose = () => {
      loss.dispose();
      for (const file of files) file.dispose();
    };
    return { of, dispose };
  }

  // ---- the end

  private async conclude(): Promise<{ results: Results; report: string }> {
    const { models, captures } = this.state;
    const table = summarize(models);
    const sources = this.gallerySources();
    this.countTime();
    const results: Results = {
      format: 1,
      recipe: this.recipe,
      machine: this.machine(),
      trainRows: this.data.train.rows,
      testRows: this.data.test.rows,
      seconds: this.state.seconds,
      models,
      captures,
      table,
      findings: findings(models, captures, table, this.data.train.rows),
      gallery: buildGallery(this.data, sources),
    };
    const report = this.path('report.html');
    await writeWhole(this.path('results.json'), `${JSON.stringify(results, null, 1)}\n`);
    await writeWhole(report, await reportPage(results));
    this.state.isComplete = true;
    await this.writeState();
    this.listen({ type: 'end', results, report });
    return { results, report };
  }

  /** The first seed's models whose answers the report compares. */
  private gallerySources(): GallerySource[] {
    const seed = this.recipe.seed;
    const teacherStage = this.teacherStage();
    const shown = this.recipe.stages.flatMap((stage) => {
      const last = this.state.models.filter((m) => m.stage === stage.name && (m.once || m.seed === seed)).at(-1);
      return last ? [{ stage, last }] : [];
    });
    return shown.map(({ stage, last }) => {
      const model = this.loadModel(last.key);
      const logits = allLogits(model, this.testInputs, this.data.classes);
      model.dispose();
      const role =
        stage.name === teacherStage ? 'teacher' : stage.kind === 'prune' ? 'pruned' : last.target === 'captured' ? 'distilled' : 'labels';
      return { role, title: last.title, logits };
    });
  }

  private machine(): Machine {
    const { instructionSet, threads, matrixProduct, node, platform } = info();
    return {
      limbeck: packageVersion(),
      node,
      platform,
      device: this.choice.device,
      deviceReason: this.choice.reason,
      deviceName: devices().find((each) => each.device === this.choice.device)?.name ?? this.choice.device,
      instructionSet,
      threads,
      matrixProduct,
    };
  }
}

const CAPTURE_ROWS = 1000;
const MASK = 'mask.';

function maskTensors(masks: ReadonlyMap<string, Float32Array> | null, model: Sequential): Record<string, StoredTensor> {
  const tensors: Record<string, StoredTensor> = {};
  if (!masks) return tensors;
  for (const [name, parameter] of prunable(model)) {
    tensors[MASK + name] = { dtype: 'uint8', shape: parameter.shape, data: Uint8Array.from(masks.get(name)!) };
  }
  return tensors;
}

function readMasks(tensors: ReadonlyMap<string, StoredTensor>): Map<string, Float32Array> | null {
  const masks = [...tensors]
    .filter(([name]) => name.startsWith(MASK))
    .map(([name, { data }]) => [name.slice(MASK.length), Float32Array.from(data)] as const);
  return masks.length > 0 ? new Map(masks) : null;
}

function percentText(share: number): string {
  return `${Number((share * 100).toFixed(2))} %`;
}

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
