// Stages that train: afresh or from an earlier student, with pruning before each level, or several students on the same batches.
import { rm } from 'node:fs/promises';
import { noGrad, tidy } from '../../autograd.js';
import { crossEntropy } from '../../losses/index.js';
import type { Module } from '../../nn/index.js';
import { deriveSeed } from '../../nn/seed.js';
import { flops, parameterCount, pruneStep } from '../../prune/index.js';
import type { readSafetensors } from '../../safetensors.js';
import { asFromFile, describeModel, modelOf, output, saveModel, type Kept } from '../build.js';
import { isAccepted } from '../checks.js';
import { maskTensors, readMasks, type RunContext, type UnitPlan } from '../context.js';
import { DomainRows } from '../domain_rows.js';
import { evaluateModel, evaluatePoint } from '../evaluate.js';
import { generationTarget, resultNames, teacherStage, wantsFeatures } from '../references.js';
import type { ModelResult } from '../results.js';
import type { Batch } from '../source.js';
import {
  stageLevels,
  type AcceptSpec,
  type DomainsSpec,
  type PruningSpec,
  type TargetSpec,
  type TrainingSpec,
  type TrainingStage,
} from '../spec.js';
import { stageLoss, targetNeeds, type StageLoss, type StageLossEnvironment, type StudentOutput } from '../stage_loss/index.js';
import { Trainer } from '../trainer.js';
import { viewSeed } from '../views.js';

/** What a unit of training does, whatever kind of stage it is of. */
interface Job {
  /** Name of the result, which is that of the student for the others. */
  students: { name: string; title: string; start: () => { model: Module; kept: Kept } }[];
  /** The student that each starts from, for acceptIf. */
  before?: ModelResult;
  /** Share that is gone after each level; undefined where nothing is pruned. */
  levels: (number | undefined)[];
  pruning?: PruningSpec;
  target: TargetSpec;
  training: TrainingSpec;
  acceptIf?: AcceptSpec;
  /** Orders the data, for each level. */
  seeds: (number | string)[];
}

function jobOf(context: RunContext, unit: UnitPlan, spec: TrainingStage): Job {
  const { seed, generation } = unit;
  const { target, training } = spec;
  const title = spec.title ?? spec.name;
  const fresh =
    (name: string, ...part: (number | string)[]) =>
    () =>
      context.newModel(name, deriveSeed(seed, 'model', ...part));
  const loaded = (result: ModelResult) => () => context.load(result);
  const accept = 'acceptIf' in spec && spec.acceptIf ? { acceptIf: spec.acceptIf } : {};
  switch (spec.kind) {
    case 'train': {
      const before = spec.from === undefined ? undefined : context.resultOf(spec.from, seed);
      const start = before ? loaded(before) : fresh(spec.model!);
      return {
        students: [{ name: spec.name, title, start }],
        levels: [undefined],
        target,
        training,
        seeds: [],
        ...accept,
        ...(before ? { before } : {}),
      };
    }
    case 'prune': {
      const before = context.resultOf(spec.from, seed);
      const students = [{ name: spec.name, title, start: loaded(before) }];
      return { students, before, levels: stageLevels(spec), pruning: spec, target, training, seeds: [], ...accept };
    }
    case 'recursion': {
      const g = generation!;
      const names = resultNames(spec);
      const before = context.resultOf(g === 1 ? spec.from : names[g - 1]!, seed);
      const start = spec.model === undefined ? loaded(before) : fresh(spec.model, 'generation', g);
      return {
        students: [{ name: names[g]!, title: `${title}, generation ${g}`, start }],
        before,
        levels: [spec.sparsity],
        pruning: spec,
        target: generationTarget(spec, g === 1 ? spec.from : names[g - 1]!),
        training,
        seeds: ['generation', g],
        ...accept,
      };
    }
    case 'mutual': {
      const names = resultNames(spec);
      const students = spec.models.map((name, i) => ({
        name: names[i]!,
        title: `${title}, student ${i + 1}`,
        start: i === 0 ? fresh(name) : fresh(name, i),
      }));
      return { students, levels: [undefined], target, training, seeds: [] };
    }
  }
}

interface Running {
  model: Module;
  kept: Kept;
}

/** Runs a unit of training to its end, from where an earlier sitting left it. */
export async function trainUnit(context: RunContext, index: number, unit: UnitPlan, spec: TrainingStage): Promise<void> {
  const job = jobOf(context, unit, spec);
  const saved = await context.folder.readProgress(unit.key);
  const results: ModelResult[] = saved ? (JSON.parse(saved.metadata['results']!) as ModelResult[]) : [];
  const firstLevel = saved ? Number(saved.metadata['level']) : 0;
  let seconds = saved ? Number(saved.metadata['seconds']) : 0;
  const running: Running[] = saved ? restoredModels(context, unit, saved) : job.students.map(({ start }) => start());
  const teachers = new Teachers(context, unit.seed, wantsFeatures(job.target));
  const losses: StageLoss[] = [];
  const bounds = job.levels.map((_, level) => Math.round((unit.steps * (level + 1)) / job.levels.length));
  try {
    for (let level = firstLevel; level < job.levels.length; level++) {
      const isRestored = saved !== null && level === firstLevel;
      const share = job.levels[level];
      if (share !== undefined && !isRestored) running.forEach((each) => prune(context, unit, each, share, job.pruning!));
      // What a loss learns and remembers is the level's own: its schedules run over the level.
      losses.splice(0).forEach((loss) => loss.dispose());
      losses.push(...running.map(({ model }, i) => stageLoss(teachers.environment(job.target, model, i))));
      const before = level === 0 ? 0 : bounds[level - 1]!;
      const seed = deriveSeed(unit.seed, 'data', level, ...job.seeds);
      const trainer = new Trainer({
        students: running.map(({ model, kept }, i) => ({
          name: job.students[i]!.name,
          model,
          loss: losses[i]!,
          ...(kept.masks ? { masks: kept.masks } : {}),
        })),
        source: context.source,
        training: job.training,
        steps: bounds[level]! - before,
        seed,
        teacher: teachers.output,
        features: wantsFeatures(job.target),
        ...replayed(context, unit.seed, job.target),
        ...(job.training.domains ? { domains: domainRows(context, teachers, job.training.domains, seed) } : {}),
      });
      try {
        if (isRestored) trainer.restore(saved);
        if (level === firstLevel) context.listen({ type: 'unit', index, unit, step: before + trainer.step });
        seconds = await trainLevel(context, index, unit, { trainer, running, before, level, results, seconds });
        trainer.finish();
        running.forEach((each, i) => {
          const candidate = measure(context, unit, job, spec, { running: each, student: i, level, trainer, seconds });
          const result = accepted(context, job, candidate, results);
          if (result.accepted === false) {
            each.model.dispose();
            Object.assign(each, context.load(result));
          }
          results.push(result);
          context.listen({ type: 'model', index, result });
        });
      } finally {
        trainer.dispose();
      }
      seconds = 0;
    }
    context.folder.state.models.push(...results);
    await finishUnit(context, unit);
  } finally {
    running.forEach(({ model }) => model.dispose());
    losses.forEach((loss) => loss.dispose());
    teachers.dispose();
  }
}

/** The moves of the images that the targets of a stage were captured of; the recipe's check lets no two of them differ. */
function replayed(context: RunContext, seed: number, target: TargetSpec): { moves?: { shift: number; seeds: number[] } } {
  const [capture] = targetNeeds(target).captures;
  const moves = capture === undefined ? null : context.movesOf(capture, seed);
  if (moves === null) return {};
  return { moves: { shift: moves.shift, seeds: Array.from({ length: moves.views }, (_, view) => viewSeed(moves, view)) } };
}

function domainRows(context: RunContext, teachers: Teachers, spec: DomainsSpec, seed: number): DomainRows {
  const name = spec.teacher ?? teacherStage(context.recipe)!;
  return new DomainRows({ source: context.source, spec, seed, teacher: (input) => teachers.output(name, input) });
}

/** Notes that a unit is done; its progress is needed no longer. */
export async function finishUnit(context: RunContext, unit: UnitPlan): Promise<void> {
  const { folder } = context;
  folder.state.finished.push(unit.key);
  context.countTime();
  await folder.writeState();
  await folder.flushLog();
  await rm(folder.progressFile(unit.key), { force: true });
}

function restoredModels(context: RunContext, unit: UnitPlan, saved: ReturnType<typeof readSafetensors>): Running[] {
  const path = context.folder.progressFile(unit.key);
  const words = JSON.parse(saved.metadata['models']!) as Record<string, string>[];
  return words.map((metadata, i) => {
    const original = metadata['original'];
    const masks = readMasks(
      new Map([...saved.tensors].flatMap(([name, stored]) => (name.startsWith(`${i}.mask.`) ? [[name.slice(2), stored] as const] : []))),
    );
    return {
      model: modelOf(path, metadata, context.recipe.models, context.environment),
      kept: {
        name: metadata['model']!,
        seed: Number(metadata['modelSeed']),
        masks,
        ...(original === undefined ? {} : { original: JSON.parse(original) as Record<string, number> }),
      },
    };
  });
}

async function trainLevel(
  context: RunContext,
  index: number,
  unit: UnitPlan,
  at: { trainer: Trainer; running: Running[]; before: number; level: number; results: ModelResult[]; seconds: number },
): Promise<number> {
  const { trainer, before, running } = at;
  const started = performance.now();
  const elapsed = () => at.seconds + (performance.now() - started) / 1000;
  const save = (): void => {
    const masks = Object.fromEntries(
      running.flatMap(({ kept }, i) => Object.entries(maskTensors(kept.masks)).map(([name, stored]) => [`${i}.${name}`, stored] as const)),
    );
    const words = {
      level: String(at.level),
      seconds: String(elapsed()),
      results: JSON.stringify(at.results),
      models: JSON.stringify(running.map(({ model, kept }) => describeModel(model, kept))),
    };
    trainer.save(context.folder.progressFile(unit.key), words, masks);
  };
  while (!trainer.isDone) {
    const { rows, loss, measured } = trainer.takeStep();
    if (measured) context.listen({ type: 'domains', index, step: before + trainer.step - 1, ...measured });
    const numbers = trainer.numbers();
    context.listen({
      type: 'step',
      index,
      step: before + trainer.step,
      rows,
      loss,
      ...(Object.keys(numbers).length > 0 ? { numbers } : {}),
    });
    if (trainer.isAtPoint) {
      running.forEach(({ model }, i) => {
        const values = trainer.averaged(i, () => evaluatePoint(model, context.source));
        const point = trainer.addPoint(i, { ...values, ...(Object.keys(numbers).length > 0 ? { numbers } : {}) });
        if (i > 0) return;
        const { training } = unit.spec as TrainingStage;
        context.listen({
          type: 'epoch',
          index,
          ...(training.epochs === undefined
            ? { epoch: before + trainer.step, epochs: unit.steps, by: 'step' as const }
            : { epoch: Math.ceil((before + trainer.step) / trainer.stepsPerEpoch), epochs: training.epochs, by: 'epoch' as const }),
          loss: point.loss,
          accuracy: point.accuracy,
          nll: point.nll,
        });
      });
      save();
    }
    if (await context.isStopped()) {
      save();
      await context.interrupt();
    }
  }
  return elapsed();
}

/** Takes away what matters least; the rest of the unit goes on with what is left. */
function prune(
  context: RunContext,
  unit: UnitPlan,
  running: Running,
  share: number,
  { method, structure, calibrationRows }: PruningSpec,
): void {
  const { source } = context;
  const count = Math.min(calibrationRows, source.trainRows);
  const rows = Int32Array.from({ length: count }, (_, i) => Math.floor((i * source.trainRows) / count));
  const batchRows = 64;
  const before = running.model;
  const pruned = pruneStep<Module, Batch>(before, {
    method,
    ...(typeof structure === 'object' ? { structure } : { structure, sparsity: share }),
    earlier: running.kept.masks,
    ...(running.kept.original ? { original: running.kept.original } : {}),
    calibration: function* () {
      for (let from = 0; from < count; from += batchRows) {
        const batch = source.batch(rows.subarray(from, from + batchRows), deriveSeed(unit.seed, 'calibration', from), 0);
        yield batch;
        batch.input.dispose();
      }
    },
    forward: (model, { input }) => model.forward(input),
    loss: (model, { input, labels }) => crossEntropy(output(model, input, source.cols).logits, labels),
  });
  const isSmaller = Object.keys(pruned.report.original).length > 0;
  running.kept = {
    ...running.kept,
    masks: isSmaller && pruned.masks.size === 0 ? null : pruned.masks,
    ...(isSmaller ? { original: pruned.report.original } : {}),
  };
  running.model = before;
  if (pruned.model === before) return;
  before.dispose();
  running.model = asFromFile(pruned.model, running.kept, context.device);
}

function measure(
  context: RunContext,
  unit: UnitPlan,
  job: Job,
  spec: TrainingStage,
  at: { running: Running; student: number; level: number; trainer: Trainer; seconds: number },
): ModelResult {
  const { source, folder } = context;
  const { model, kept } = at.running;
  const { name, title } = job.students[at.student]!;
  const share = job.levels[at.level];
  const isPruning = spec.kind === 'prune';
  const base = unit.once ? name : `${name}-${unit.seed}`;
  const key = job.levels.length > 1 ? `${base}-level${at.level + 1}` : base;
  const checkpoint = `checkpoints/${key}.safetensors`;
  saveModel(folder.file(checkpoint), model, kept, { stage: name, seed: String(unit.seed) });
  const teacher = context.testTeacher(name, unit.seed);
  // By domain too, where the recipe draws by them.
  const byDomain = context.recipe.stages.some((each) => 'training' in each && each.training.domains !== undefined);
  const { evaluation, domains } = evaluateModel(model, source, teacher, byDomain);
  const { parameters, nonZero, sparsity } = parameterCount(model);
  const cost = flops(model, [1, ...source.inputShape]);
  // From the curve, which is in the file that a stopped run goes on from.
  const curve = at.trainer.curve(at.student);
  const numbers = curve.at(-1)?.numbers;
  return {
    key,
    stage: name,
    ...(name === spec.name ? {} : { of: spec.name }),
    title: isPruning ? `${title}, ${pruningText(share!, spec)}` : title,
    kind: spec.kind,
    ...(isPruning ? { level: at.level } : {}),
    ...(unit.generation === undefined ? {} : { generation: unit.generation }),
    seed: unit.seed,
    once: unit.once,
    target: job.target.kind,
    model: kept.name,
    parameters,
    nonZero,
    sparsity,
    flops: cost.total,
    flopsNonZero: cost.nonZero,
    steps: at.trainer.step,
    seconds: at.seconds,
    evaluation,
    ...(evaluation.topOneAgreement === undefined ? {} : { agreement: evaluation.topOneAgreement }),
    ...(domains === undefined ? {} : { domains }),
    ...(numbers === undefined ? {} : { numbers }),
    curve,
    checkpoint,
  };
}

function pruningText(share: number, { structure }: PruningSpec): string {
  const percent = `${Number((share * 100).toFixed(2))} %`;
  if (structure === 'unstructured') return `${percent} zero`;
  if (typeof structure === 'object') return `${structure.n} of ${structure.m} kept`;
  return `${percent} of ${structure} removed`;
}

/** The result that a stage hands on: the candidate, or the student that it started from where the candidate is not accepted. */
function accepted(context: RunContext, job: Job, candidate: ModelResult, earlier: readonly ModelResult[]): ModelResult {
  if (!job.acceptIf) return candidate;
  const before = earlier.at(-1) ?? job.before!;
  const { models, captures, probes } = context.folder.state;
  if (isAccepted(job.acceptIf, candidate, before, { models: [...models, ...earlier], captures, probes }))
    return { ...candidate, accepted: true };
  const { parameters, nonZero, sparsity, flops: total, flopsNonZero, evaluation, domains, agreement, model, checkpoint } = before;
  return {
    ...candidate,
    accepted: false,
    candidate: candidate.evaluation,
    parameters,
    nonZero,
    sparsity,
    evaluation,
    ...(domains === undefined ? {} : { domains }),
    checkpoint,
    ...(total === undefined ? {} : { flops: total }),
    ...(flopsNonZero === undefined ? {} : { flopsNonZero }),
    ...(agreement === undefined ? {} : { agreement }),
    ...(model === undefined ? {} : { model }),
  };
}

/** The frozen models and files that a unit learns from, loaded when first asked for. */
class Teachers {
  private readonly models = new Map<string, Module>();
  private readonly files = new Map<string, ReturnType<RunContext['captured']>>();

  constructor(
    private readonly context: RunContext,
    private readonly seed: number,
    private readonly features: boolean,
  ) {}

  private model(name: string): Module {
    const found = this.models.get(name) ?? this.context.load(this.context.resultOf(name, this.seed)).model.eval();
    this.models.set(name, found);
    return found;
  }

  readonly output = (name: string, input: Parameters<typeof output>[1]): StudentOutput =>
    output(this.model(name), input, this.context.source.cols, this.features);

  environment(spec: TargetSpec, student: Module, number: number): StageLossEnvironment {
    const { device, source, custom } = this.context;
    return {
      spec,
      device,
      seed: deriveSeed(this.seed, 'loss', number),
      rows: source.trainRows,
      cols: source.cols,
      captured: (name) => {
        const found = this.files.get(name) ?? this.context.captured(name, this.seed);
        this.files.set(name, found);
        return found;
      },
      ...(this.features
        ? { featureWidths: { student: this.widths(student), teacher: (name: string) => this.widths(this.model(name)) } }
        : {}),
      custom,
    };
  }

  /** Of each of a model's inner values: its last dimension, the channels of images. */
  private widths(model: Module): number[] {
    const wasTraining = model.training;
    model.eval();
    try {
      return tidy(() =>
        noGrad(() => {
          const { input } = this.context.source.batch(Int32Array.of(0), 0, 0);
          return output(model, input, this.context.source.cols, true).features.map(({ shape }) =>
            shape.length === 4 ? shape[1]! : shape.at(-1)!,
          );
        }),
      );
    } finally {
      model.train(wasTraining);
    }
  }

  dispose(): void {
    for (const model of this.models.values()) model.dispose();
    for (const file of this.files.values()) file.dispose();
  }
}
