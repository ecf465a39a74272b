// A distillation as data: its types, the check against recipes/recipe.schema.json, and errors that name the field.
import { readFile } from 'node:fs/promises';
import type { ErrorObject, ValidateFunction } from 'ajv';
import schema from '../../recipes/recipe.schema.json' with { type: 'json' };
import { kindError, nearest } from '../errors.js';
import { checkTarget } from './stage_loss/check.js';
import type { TargetSpec } from './stage_loss/spec.js';

export interface Recipe {
  name: string;
  title?: string;
  description?: string;
  seed: number;
  repeats: number;
  data: DataSpec;
  models: Record<string, ModelSpec>;
  stages: StageSpec[];
  quick?: QuickSpec;
}

export interface DataSpec {
  format: 'mnist';
  directory?: string;
  trainRows?: number;
  testRows?: number;
}

export interface ModelSpec {
  hidden: number[];
  inputDropout: number;
  dropout: number;
}

export type OptimizerSpec =
  | { kind: 'sgd'; learningRate: number; momentum: number; nesterov: boolean; weightDecay: number }
  | { kind: 'adamw'; learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number };

export interface ScheduleSpec {
  kind: 'constant' | 'linear' | 'cosine';
  warmup: number;
  floor: number;
}

export interface TrainingSpec {
  epochs: number;
  batchSize: number;
  optimizer: OptimizerSpec;
  schedule?: ScheduleSpec;
  clipNorm?: number;
  /** Largest random move of each image, in pixels. */
  shift: number;
}

export type { TargetSpec };

export interface TrainStage {
  kind: 'train';
  name: string;
  title?: string;
  once: boolean;
  model: string;
  target: TargetSpec;
  training: TrainingSpec;
}

export interface CaptureStage {
  kind: 'capture';
  name: string;
  title?: string;
  from: string;
  k: number;
  temperature: number;
}

export interface PruneStage {
  kind: 'prune';
  name: string;
  title?: string;
  from: string;
  sparsity: number[];
  target: TargetSpec;
  training: TrainingSpec;
}

export type StageSpec = TrainStage | CaptureStage | PruneStage;

export interface QuickSpec {
  repeats?: number;
  epochs?: number;
  trainRows?: number;
  testRows?: number;
  models?: Record<string, ModelSpec>;
}

/** What a caller may put in place of the recipe's own numbers. */
export interface RecipeOverrides {
  seed?: number;
  epochs?: number;
  quick?: boolean;
}

/** Reads, checks and completes a recipe file. */
export async function loadRecipe(path: string): Promise<Recipe> {
  if (typeof path !== 'string' || path === '') throw kindError('read a recipe', 'path must be a string', path);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const was = code === 'ENOENT' ? 'there is none' : code === 'EISDIR' ? 'it is a folder' : (error as Error).message;
    throw new TypeError(`Cannot read recipe ${path}: the file must be there and readable: ${was}`, { cause: error });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TypeError(`Cannot read recipe ${path}: it must be JSON: ${(error as Error).message.replaceAll('\n', ' ')}`, { cause: error });
  }
  return checkRecipe(value, path);
}

/** Checks a parsed recipe and fills in the defaults; the error names the field and the nearest legal name. */
export async function checkRecipe(value: unknown, name = 'recipe'): Promise<Recipe> {
  if (typeof name !== 'string') throw kindError('check a recipe', 'name must be a string', name);
  const validate = await validator();
  const recipe: unknown = copied(`use ${label(name)}`, value);
  if (!validate(recipe)) {
    const problems = describeErrors(validate.errors ?? [], recipe);
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
    throw new TypeError(`Cannot use ${label(name)}: ${problems[0]}${more}`);
  }
  checkReferences(recipe as Recipe, label(name));
  return recipe as Recipe;
}

/** The recipe with the caller's seed and epochs, and its `quick` part where asked for. */
export function overrideRecipe(recipe: Recipe, overrides: RecipeOverrides): Recipe {
  const action = 'override a recipe';
  const result = copied(action, recipe);
  if (typeof result !== 'object' || result === null || !Array.isArray(result.stages))
    throw kindError(action, 'recipe must be one that checkRecipe gives', recipe);
  if (typeof overrides !== 'object' || overrides === null) throw kindError(action, 'overrides must be an object', overrides);
  if (overrides.quick && !result.quick)
    throw new TypeError(`Cannot run recipe ${recipe.name} quickly: it must have a field "quick": it has none`);
  const quick = (overrides.quick && result.quick) || {};
  if (overrides.seed !== undefined) result.seed = overrides.seed;
  if (quick.repeats !== undefined) result.repeats = quick.repeats;
  if (quick.trainRows !== undefined) result.data.trainRows = quick.trainRows;
  if (quick.testRows !== undefined) result.data.testRows = quick.testRows;
  Object.assign(result.models, quick.models);
  const epochs = overrides.epochs ?? quick.epochs;
  if (epochs !== undefined) {
    for (const stage of result.stages) if (stage.kind !== 'capture') stage.training.epochs = epochs;
  }
  return result;
}

/** A copy of what JSON can say; functions, rings, big integers and the like are none of it. */
function copied<T>(action: string, value: T): T {
  try {
    JSON.stringify(value);
    return structuredClone(value);
  } catch (error) {
    throw new TypeError(`Cannot ${action}: it must be plain data: ${(error as Error).message.replaceAll('\n', ' ')}`, { cause: error });
  }
}

let compiled: ValidateFunction | undefined;

// ajv is read only where a recipe is: importing the library stays quick.
async function validator(): Promise<ValidateFunction> {
  if (!compiled) {
    const { Ajv } = await import('ajv');
    compiled = new Ajv({
      allErrors: true,
      discriminator: true,
      useDefaults: true,
      verbose: true,
      strict: true,
      strictRequired: false,
      strictTypes: false,
    }).compile(schema);
  }
  return compiled;
}

function label(name: string): string {
  return name === 'recipe' ? 'recipe' : `recipe ${name}`;
}

/** '/stages/2/training' as 'stages[2].training'. */
function fieldPath(pointer: string, field?: string): string {
  const parts = pointer.split('/').slice(1);
  if (field !== undefined) parts.push(field);
  return parts.map((part, i) => (/^\d+$/.test(part) ? `[${part}]` : i > 0 ? `.${part}` : part)).join('') || 'the recipe';
}

function suggestion(wrong: string, legal: readonly string[]): string {
  const near = nearest(wrong, legal);
  return near === undefined ? `legal names are ${legal.join(', ')}` : `did you mean "${near}"?`;
}

// A misspelt field is both unknown and missing: the unknown one is said first, and the missing one only where no unknown explains it.
function describeErrors(errors: readonly ErrorObject[], recipe: unknown): string[] {
  const unknown = errors.filter((e) => e.keyword === 'additionalProperties');
  const explained = new Set<string>();
  const texts: string[] = [];
  for (const error of unknown) {
    const wrong = (error.params as { additionalProperty: string }).additionalProperty;
    const legal = Object.keys((error.parentSchema?.['properties'] ?? {}) as object).filter((key) => key !== '$schema');
    const near = nearest(wrong, legal);
    if (near) explained.add(`${error.instancePath}/${near}`);
    const place = error.instancePath === '' ? 'the recipe' : fieldPath(error.instancePath);
    texts.push(`${place} has no field "${wrong}": ${suggestion(wrong, legal)}`);
  }
  for (const error of errors) {
    const path = error.instancePath;
    const params = error.params as Record<string, unknown>;
    const was = `it is ${JSON.stringify(error.data) ?? 'absent'}`.slice(0, 120);
    if (error.keyword === 'additionalProperties' || error.keyword === 'oneOf' || error.keyword === 'if') continue;
    if (error.keyword === 'required') {
      const missing = params['missingProperty'] as string;
      if (!explained.has(`${path}/${missing}`)) texts.push(`${fieldPath(path, missing)} must be given: it is absent`);
    } else if (error.keyword === 'discriminator') {
      const tag = params['tag'] as string;
      const value = params['tagValue'];
      const legal = tagValues(error);
      const text =
        value === undefined
          ? `it is absent: legal values are ${legal.join(', ')}`
          : `it is ${JSON.stringify(value)}: ${suggestion(String(value), legal)}`;
      texts.push(`${fieldPath(path, tag)} must be one of the kinds there are: ${text}`);
    } else if (error.keyword === 'enum' || error.keyword === 'const') {
      const legal = (params['allowedValues'] ?? [params['allowedValue']]) as unknown[];
      texts.push(
        `${fieldPath(path)} must be one of ${legal.join(', ')}: ${was}${typeof error.data === 'string' && nearest(error.data, legal.map(String)) ? `, ${suggestion(error.data, legal.map(String))}` : ''}`,
      );
    } else if (error.keyword === 'pattern' || error.keyword === 'propertyNames') {
      const subject = error.propertyName ?? error.data;
      if (error.keyword === 'propertyNames') continue;
      texts.push(`${fieldPath(path)} must hold a name of letters, digits, "-" and "_": it is ${JSON.stringify(subject)}`);
    } else {
      texts.push(`${fieldPath(path)} ${plain(error)}: ${was}`);
    }
  }
  if (texts.length === 0) texts.push(`it must match the schema: it is ${JSON.stringify(recipe)?.slice(0, 80)}`);
  return [...new Set(texts)];
}

/** ajv's words in the ones used here. */
function plain({ keyword, params, message }: ErrorObject): string {
  const { type, limit } = params as { type?: string; limit?: number };
  if (keyword === 'type') return `must be ${type === 'integer' ? 'a whole number' : `${/^[aeiou]/.test(type!) ? 'an' : 'a'} ${type}`}`;
  if (keyword === 'minItems' || keyword === 'minProperties') return `must have at least ${limit} ${limit === 1 ? 'entry' : 'entries'}`;
  return message ?? 'must be legal';
}

function tagValues(error: ErrorObject): string[] {
  const { tag } = error.params as { tag: string };
  const branches = (error.parentSchema?.['oneOf'] ?? []) as { properties: Record<string, { const?: string; enum?: string[] }> }[];
  return branches.flatMap(({ properties }) => properties[tag]!.enum ?? [properties[tag]!.const!]);
}

// What a JSON schema cannot say: names that must exist, and in which order.
function checkReferences(recipe: Recipe, what: string): void {
  const refuse = (text: string): never => {
    throw new TypeError(`Cannot use ${what}: ${text}`);
  };
  const earlier = new Map<string, StageSpec>();
  const runsOnce = new Map<string, boolean>();
  recipe.stages.forEach((stage, i) => {
    const at = `stages[${i}]`;
    const named = (field: string, name: string, kinds: StageSpec['kind'][]): StageSpec => {
      const legal = [...earlier.values()].filter((s) => kinds.includes(s.kind)).map((s) => s.name);
      const found = earlier.get(name);
      if (found && kinds.includes(found.kind)) return found;
      const hint = legal.length > 0 ? suggestion(name, legal) : `there is none before it`;
      return refuse(`${at}.${field} must name an earlier ${kinds.join(' or ')} stage: it is "${name}", ${hint}`);
    };
    if (earlier.has(stage.name)) refuse(`${at}.name must differ from the other stages' names: it is "${stage.name}" again`);
    if (stage.kind === 'train') {
      if (!Object.hasOwn(recipe.models, stage.model)) {
        refuse(`${at}.model must name one of the models: it is "${stage.model}", ${suggestion(stage.model, Object.keys(recipe.models))}`);
      }
      runsOnce.set(stage.name, stage.once);
    } else {
      const from = named('from', stage.from, ['train', 'prune']);
      const once = runsOnce.get(from.name)!;
      runsOnce.set(stage.name, once);
      if (stage.kind === 'capture' && !once) {
        refuse(`${at}.from must name a stage that runs once: "${stage.from}" runs for each seed (give it "once": true)`);
      }
      if (stage.kind === 'prune') {
        stage.sparsity.forEach((s, l) => {
          if (l > 0 && !(s > stage.sparsity[l - 1]!))
            refuse(`${at}.sparsity must rise from level to level: it is [${stage.sparsity.join(', ')}]`);
        });
      }
    }
    if (stage.kind !== 'capture' && stage.target.kind === 'captured' && stage.training.shift > 0) {
      refuse(
        `${at}.training.shift must be 0 where the target is captured (it belongs to the images as they are): it is ${stage.training.shift}`,
      );
    }
    if (stage.kind !== 'capture') {
      checkTarget(stage.target, {
        at,
        refuse,
        teacher: (field, name) => void named(field, name, ['train', 'prune']),
        capture: (field, name) => (named(field, name, ['capture']), { isSampled: false }),
      });
    }
    earlier.set(stage.name, stage);
  });
  for (const name of Object.keys(recipe.quick?.models ?? {})) {
    if (!Object.hasOwn(recipe.models, name)) {
      refuse(`quick.models has no place for "${name}": ${suggestion(name, Object.keys(recipe.models))}`);
    }
  }
}
