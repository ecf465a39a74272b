// A distillation as data: read, checked against recipes/recipe.schema.json and completed; its quick size.
import { readFile } from 'node:fs/promises';
import type { ValidateFunction } from 'ajv';
import schema from '../../recipes/recipe.schema.json' with { type: 'json' };
import { kindError } from '../errors.js';
import { checkMetrics } from './known.js';
import { describeErrors, suggestion } from './recipe_errors.js';
import { checkReferences } from './references.js';
import type { QuickSpec, Recipe } from './spec.js';

export type * from './spec.js';

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

/**
 * Checks a parsed recipe and fills in the defaults, of its quick size too.
 *
 * @throws TypeError that names the field and the nearest legal name
 */
export async function checkRecipe(value: unknown, name = 'recipe'): Promise<Recipe> {
  if (typeof name !== 'string') throw kindError('check a recipe', 'name must be a string', name);
  const recipe = await checkOne(completed(copied(`use ${label(name)}`, value)), label(name));
  if (recipe.quick)
    await checkOne(withQuick(copied('use a recipe', recipe), recipe.quick, label(name)), `${label(name)} at its quick size`);
  return recipe;
}

async function checkOne(recipe: unknown, what: string): Promise<Recipe> {
  const validate = await validator();
  if (!validate(recipe)) {
    const problems = describeErrors(validate.errors ?? [], recipe);
    const more = problems.length > 3 ? ` (and ${problems.length - 3} more)` : '';
    throw new TypeError(`Cannot use ${what}: ${problems.slice(0, 3).join('; ')}${more}`);
  }
  checkReferences(recipe as Recipe, what);
  checkMetrics(recipe as Recipe, what);
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
  if (overrides.quick && result.quick) withQuick(result, result.quick, `recipe ${recipe.name}`);
  if (overrides.seed !== undefined) result.seed = overrides.seed;
  if (overrides.epochs !== undefined) setLength(result, { epochs: overrides.epochs });
  return result;
}

function withQuick(recipe: Recipe, quick: QuickSpec, what: string): Recipe {
  recipe.size = 'quick';
  if (quick.repeats !== undefined) recipe.repeats = quick.repeats;
  const { trainRows, testRows } = quick;
  Object.assign(recipe.data, quick.data, trainRows === undefined ? {} : { trainRows }, testRows === undefined ? {} : { testRows });
  for (const [name, model] of Object.entries(quick.models ?? {})) {
    if (!Object.hasOwn(recipe.models, name))
      throw new TypeError(`Cannot use ${what}: quick.models has no place for "${name}": ${suggestion(name, Object.keys(recipe.models))}`);
    recipe.models[name] = model;
  }
  setLength(recipe, quick);
  for (const [name, fields] of Object.entries(quick.stages ?? {})) {
    const stage = recipe.stages.find((each) => each.name === name);
    if (!stage) {
      const names = recipe.stages.map((each) => each.name);
      throw new TypeError(`Cannot use ${what}: quick.stages has no place for "${name}": ${suggestion(name, names)}`);
    }
    merge(stage as unknown as Record<string, unknown>, fields);
  }
  return recipe;
}

function setLength(recipe: Recipe, { epochs, steps }: { epochs?: number; steps?: number }): void {
  for (const stage of recipe.stages) {
    if (!('training' in stage)) continue;
    if (epochs !== undefined && stage.training.epochs !== undefined) stage.training.epochs = epochs;
    if (steps !== undefined && stage.training.steps !== undefined) stage.training.steps = steps;
  }
}

// Of two fields that exclude each other the one that is put in place takes the other away.
const rivals: readonly (readonly [string, string])[] = [
  ['epochs', 'steps'],
  ['k', 'sample'],
];

function merge(into: Record<string, unknown>, from: Record<string, unknown>): void {
  const isObject = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  for (const [key, value] of Object.entries(from)) {
    const old = into[key];
    // Another kind of target or optimiser has fields of its own.
    if (isObject(value) && isObject(old) && (value['kind'] === undefined || value['kind'] === old['kind'])) merge(old, value);
    else into[key] = value;
    for (const [a, b] of rivals) {
      if (key === a) delete into[b];
      if (key === b) delete into[a];
    }
  }
}

/** What may be left out before the schema is asked: data, and the kind of a model. */
function completed(recipe: unknown): unknown {
  if (typeof recipe !== 'object' || recipe === null || Array.isArray(recipe)) return recipe;
  const { data, models, quick } = recipe as { data?: unknown; models?: unknown; quick?: { models?: unknown } | null };
  if (data === undefined) Object.assign(recipe, { data: { format: 'none' } });
  for (const group of [models, quick?.models]) {
    if (typeof group !== 'object' || group === null) continue;
    for (const model of Object.values(group) as unknown[]) {
      if (typeof model === 'object' && model !== null && !('kind' in model)) Object.assign(model, { kind: 'mlp' });
    }
  }
  return recipe;
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
