// Runs a recipe: stages in order, each from files to files, so that a run can stop anywhere and go on with the same numbers.
import { devices, info, setDevice, type Device, type DeviceChoice } from '../device.js';
import { kindError } from '../errors.js';
import { packageVersion } from '../native.js';
import { findings } from '../report/findings.js';
import { reportPage } from '../report/report.js';
import { evaluateChecks } from './checks.js';
import { RunContext, type CustomParts, type UnitPlan } from './context.js';
import { testLogits } from './evaluate.js';
import type { RunEvent, RunListener } from './events.js';
import { shortPath, writeWhole } from './files.js';
import { RunFolder } from './folder.js';
import { buildGallery, type GallerySource } from './gallery.js';
import { checkMetrics } from './known.js';
import { checkRecipe } from './recipe.js';
import { suggestion } from './recipe_errors.js';
import { onceByStage, resultNames, teacherStage } from './references.js';
import { summarize, type Machine, type Results } from './results.js';
import { openSource } from './open_source.js';
import { ImageSource, type DataSource } from './source.js';
import type { DomainsSpec, Recipe, StageSpec } from './spec.js';
import { captureSteps, captureUnit } from './stages/capture.js';
import { findProbe, probeUnit } from './stages/probe.js';
import { trainUnit } from './stages/train.js';
import { spreadsOf } from './spread.js';
import { stepsPerEpoch } from './trainer.js';

export { Interrupted, type CustomParts } from './context.js';

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
  /** What the recipe calls by name and is written in TypeScript: models, data, losses, targets, probes. */
  custom?: CustomParts;
}

/** A recipe as it is written down: what has a default may be left out. */
export interface RecipeData {
  name: string;
  stages: readonly object[];
  [field: string]: unknown;
}

/**
 * Runs a recipe and writes results.json, report.html, log.jsonl, checkpoints and targets into the folder.
 * Whether its checks held is in `results.checks`; a check that fails is no exception.
 *
 * @throws TypeError where the recipe is wrong, LimbeckError for devices and files, Interrupted where the signal stopped it
 */
export async function runRecipe(recipe: Recipe | RecipeData, options: RunOptions): Promise<{ results: Results; report: string }> {
  const action = 'run a recipe';
  if (typeof options !== 'object' || options === null || typeof options.folder !== 'string' || options.folder === '')
    throw kindError(action, 'options must give a folder', options);
  const checked = await checkRecipe(recipe);
  const choice = chooseDevice(options.device ?? 'cpu');
  checkParts(checked, options.custom ?? {});
  const source = await openSource(checked, choice.device, options);
  try {
    checkSizes(checked, source);
    return await runOn(checked, source, choice, options);
  } finally {
    source.dispose();
  }
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

/** What is called by name must be there before anything is written. */
function checkParts(recipe: Recipe, custom: CustomParts): void {
  recipe.stages.forEach((stage, i) => {
    if (stage.kind === 'probe') findProbe(stage, `stages[${i}]`, `recipe ${recipe.name}`, custom.probes);
  });
  if (custom.probes) checkMetrics(recipe, `recipe ${recipe.name}`, custom.probes);
  for (const [name, model] of Object.entries(recipe.models)) {
    if (model.kind !== 'custom' || custom.models?.[model.name]) continue;
    const legal = Object.keys(custom.models ?? {}).join(', ') || 'none';
    throw new TypeError(
      `Cannot use recipe ${recipe.name}: models.${name}.name must be one of custom.models: it is "${model.name}", and there are ${legal}`,
    );
  }
}

function checkSizes(recipe: Recipe, source: DataSource): void {
  const { cols } = source;
  for (const stage of recipe.stages) {
    if ('training' in stage && stage.training.domains) checkDomains(recipe, stage.name, stage.training.domains, source);
    if (stage.kind === 'capture' && stage.k !== undefined && stage.k > cols)
      throw new RangeError(
        `Cannot use recipe ${recipe.name}: k of stage "${stage.name}" must be at most the ${cols} classes: it is ${stage.k}`,
      );
  }
}

/** Domains are known when the data are: there must be some, and rows enough of each. */
function checkDomains(
  { name }: Recipe,
  stage: string,
  { rows, weights = {} }: DomainsSpec,
  { domains = [], trainDomains = [] }: DataSource,
): void {
  const refuse = (text: string): never => {
    throw new RangeError(`Cannot use recipe ${name}: ${text}`);
  };
  if (domains.length < 2)
    refuse(`data must have at least two domains for training.domains of stage "${stage}": they have ${domains.join(', ') || 'none'}`);
  for (const domain of Object.keys(weights)) {
    if (!domains.includes(domain))
      refuse(`training.domains.weights of stage "${stage}" must be of domains: "${domain}" is none, ${suggestion(domain, domains)}`);
  }
  const counts = domains.map(() => 0);
  for (let row = 0; row < trainDomains.length; row++) counts[trainDomains[row]!]!++;
  const few = counts.findIndex((count) => count <= rows);
  if (few >= 0)
    refuse(
      `training.domains.rows of stage "${stage}" must leave rows of every domain: it is ${rows}, and "${domains[few]}" has ${counts[few]} training rows`,
    );
}

/** The units of a run, in order: each stage for each of its seeds, each generation of a recursion. */
function planOf(recipe: Recipe, source: DataSource): UnitPlan[] {
  const once = onceByStage(recipe);
  const plan: UnitPlan[] = [];
  for (const spec of recipe.stages) {
    const runsOnce = once.get(resultNames(spec)[0]!)!;
    const steps = unitSteps(spec, source);
    for (let repeat = 0; repeat < (runsOnce ? 1 : recipe.repeats); repeat++) {
      const seed = recipe.seed + repeat;
      const title = spec.title ?? spec.name;
      const unit = (name: string, text: string, part: Partial<UnitPlan> = {}): UnitPlan => ({
        key: runsOnce ? name : `${name}-${seed}`,
        title: `${text}${runsOnce ? '' : `, seed ${seed}`}`,
        seed,
        steps,
        spec,
        once: runsOnce,
        ...part,
      });
      if (spec.kind !== 'recursion') plan.push(unit(spec.name, title));
      else {
        for (let g = 1; g <= spec.generations; g++) plan.push(unit(`${spec.name}-g${g}`, `${title}, generation ${g}`, { generation: g }));
      }
    }
  }
  return plan;
}

function unitSteps(spec: StageSpec, { trainRows, rowsEach, cols }: DataSource): number {
  if (spec.kind === 'probe') return 1;
  if (spec.kind === 'capture') return captureSteps(trainRows, rowsEach, cols, spec.views);
  const { training } = spec;
  return training.steps ?? training.epochs! * stepsPerEpoch(trainRows, training);
}

async function runOn(recipe: Recipe, source: DataSource, choice: DeviceChoice, options: RunOptions) {
  const folder = new RunFolder(options.folder, recipe, choice.device);
  const plan = planOf(recipe, source);
  await folder.open({ resume: options.resume === true, fresh: options.fresh === true });
  const listen = (event: RunEvent): void => {
    logEvent(folder, plan, event);
    options.listen?.(event);
  };
  const context = new RunContext({
    recipe,
    device: choice.device,
    source,
    folder,
    custom: options.custom ?? {},
    listen,
    ...(options.signal ? { signal: options.signal } : {}),
  });
  try {
    const { finished } = folder.state;
    listen({
      type: 'start',
      recipe,
      units: plan,
      finished: finished.length,
      device: choice.device,
      reason: choice.reason,
      folder: shortPath(folder.path),
      trainRows: source.trainRows,
      testRows: source.testRows,
    });
    await source.save?.(folder.path);
    for (const [index, unit] of plan.entries()) {
      if (finished.includes(unit.key)) continue;
      const { spec } = unit;
      if (spec.kind === 'capture') await captureUnit(context, index, unit, spec);
      else if (spec.kind === 'probe') await probeUnit(context, index, unit, spec);
      else {
        await context.openRecordings();
        await trainUnit(context, index, unit, spec);
      }
    }
    return await conclude(context, choice, listen);
  } finally {
    await context.dispose();
  }
}

async function conclude(context: RunContext, choice: DeviceChoice, listen: RunListener): Promise<{ results: Results; report: string }> {
  const { recipe, source, folder } = context;
  const { models, captures, probes } = folder.state;
  const table = summarize(models);
  const gallery = source instanceof ImageSource ? buildGallery(source.data, gallerySources(context)) : [];
  const spreads = spreadsOf(context);
  context.countTime();
  const results: Results = {
    format: 1,
    recipe,
    machine: machineOf(choice),
    trainRows: source.trainRows,
    testRows: source.testRows,
    ...(source.describe ? { facts: source.describe() } : {}),
    seconds: folder.state.seconds,
    models,
    captures,
    probes,
    spreads,
    checks: evaluateChecks(recipe.checks ?? [], recipe.size, { models, captures, probes, spreads }),
    table,
    findings: source.kind === 'images' ? findings(models, captures, table, source.trainRows) : [],
    gallery,
  };
  const report = folder.file('report.html');
  await writeWhole(folder.file('results.json'), `${JSON.stringify(results, null, 1)}\n`);
  await writeWhole(report, await reportPage(results));
  folder.state.isComplete = true;
  await folder.writeState();
  listen({ type: 'end', results, report });
  await folder.flushLog();
  return { results, report };
}

/** The first seed's models whose answers the report compares. */
function gallerySources(context: RunContext): GallerySource[] {
  const { recipe, source } = context;
  const teacher = teacherStage(recipe);
  const shown = recipe.stages.flatMap((stage) => {
    const last = context.resultsOf(stage.name, recipe.seed).at(-1);
    return last ? [{ stage, last }] : [];
  });
  return shown.map(({ stage, last }) => {
    const { model } = context.load(last);
    const logits = testLogits(model, source);
    model.dispose();
    const isTeacher = resultNames(stage).includes(teacher ?? '');
    const role = isTeacher ? 'teacher' : stage.kind === 'prune' ? 'pruned' : last.target === 'labels' ? 'labels' : 'distilled';
    return { role, title: last.title, logits };
  });
}

function machineOf(choice: DeviceChoice): Machine {
  const { instructionSet, threads, matrixProduct, node, platform } = info();
  return {
    limbeck: packageVersion(),
    node,
    platform,
    device: choice.device,
    deviceReason: choice.reason,
    deviceName: devices().find((each) => each.device === choice.device)?.name ?? choice.device,
    instructionSet,
    threads,
    matrixProduct,
  };
}

/** Lines of log.jsonl for a unit's steps, at most. */
const STEP_LINES = 100;

/** An event as a line of log.jsonl. */
function logEvent(folder: RunFolder, plan: readonly UnitPlan[], event: RunEvent): void {
  const unit = 'index' in event ? plan[event.index] : undefined;
  const at = unit ? { unit: unit.key } : {};
  switch (event.type) {
    case 'start': {
      const { recipe, finished, device, trainRows, testRows } = event;
      folder.log({ event: 'start', recipe: recipe.name, size: recipe.size, units: plan.length, finished, device, trainRows, testRows });
      break;
    }
    case 'unit':
      folder.log({ event: 'unit', ...at, seed: event.unit.seed, step: event.step, steps: event.unit.steps });
      break;
    case 'step': {
      const every = Math.ceil(unit!.steps / STEP_LINES);
      if (event.step % every === 0)
        folder.log({ event: 'step', ...at, step: event.step, ...(event.loss === undefined ? {} : { loss: event.loss }), ...event.numbers });
      break;
    }
    case 'domains': {
      const { step, weights, student, teacher } = event;
      folder.log({ event: 'domains', ...at, step, weights, student, teacher });
      break;
    }
    case 'epoch': {
      const { epoch, by, loss, accuracy, nll } = event;
      folder.log({ event: 'point', ...at, [by ?? 'epoch']: epoch, loss, accuracy, nll });
      break;
    }
    case 'model': {
      const { key, seconds, parameters, nonZero, evaluation, agreement, accepted } = event.result;
      const { bins: _, ...measured } = evaluation;
      folder.log({ event: 'model', ...at, key, seconds, parameters, nonZero, ...measured, agreement, accepted });
      break;
    }
    case 'capture': {
      const { file, rows, k, bytes, meanTail, seconds } = event.result;
      folder.log({ event: 'capture', ...at, file, rows, k, bytes, meanTail, seconds });
      break;
    }
    case 'probe':
      folder.log({ event: 'probe', ...at, values: event.result.values, seconds: event.result.seconds });
      break;
    case 'end':
      for (const { says, passed, text } of event.results.checks ?? []) folder.log({ event: 'check', says, passed, text });
      folder.log({ event: 'end', seconds: event.results.seconds });
  }
}
