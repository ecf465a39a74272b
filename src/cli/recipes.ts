// `limbeck recipes`: the recipes of the package, what each is from and what it shows; and recipes found by name.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { nearest } from '../errors.js';

/** One recipe of the list. */
export interface RecipeEntry {
  name: string;
  path: string;
  title: string;
  paper: string;
  shows: string;
  checks: number;
  hasQuick: boolean;
  /** Of the last run in runs/quick and runs/full, seconds. */
  quickSeconds?: number;
  fullSeconds?: number;
}

// Beside dist/ in the package, or above src/cli in a clone whose sources run as they are.
function recipesFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let up = 0; up < 4; up++) {
    const found = join(folder, 'recipes');
    if (existsSync(join(found, 'recipe.schema.json'))) return found;
    folder = dirname(folder);
  }
  throw new Error('Cannot list recipes: the package must have its folder "recipes": it is not there');
}

function shippedNames(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json') && name !== 'recipe.schema.json')
    .map((name) => name.slice(0, -'.json'.length))
    .sort();
}

/** The file of a recipe: a path as it is, or the name of one that the package has. @throws TypeError with the nearest name */
export function recipePath(given: string): string {
  if (existsSync(given) || /[\\/]|\.json$/.test(given)) return given;
  const folder = recipesFolder();
  const names = shippedNames(folder);
  if (names.includes(given)) return join(folder, `${given}.json`);
  const near = nearest(given, names);
  const hint = near === undefined ? `there are ${names.join(', ')}` : `did you mean "${near}"?`;
  throw new TypeError(`Cannot find recipe ${given}: it must be a file or the name of a recipe of the package: it is neither, ${hint}`);
}

function secondsOf(run: string): number | undefined {
  try {
    return (JSON.parse(readFileSync(join(run, 'results.json'), 'utf8')) as { seconds: number }).seconds;
  } catch {
    return undefined;
  }
}

/** All recipes of the package. */
export function listRecipes(): RecipeEntry[] {
  const folder = recipesFolder();
  return shippedNames(folder).map((name) => {
    const path = join(folder, `${name}.json`);
    const recipe = JSON.parse(readFileSync(path, 'utf8')) as {
      title?: string;
      description?: string;
      paper?: { title: string; id?: string };
      shows?: string;
      checks?: unknown[];
      quick?: object;
    };
    const quickSeconds = secondsOf(join('runs', 'quick', name));
    const fullSeconds = secondsOf(join('runs', 'full', name)) ?? secondsOf(join('runs', name));
    return {
      name,
      path,
      title: recipe.title ?? name,
      paper: recipe.paper ? [recipe.paper.title, recipe.paper.id].filter(Boolean).join(', ') : '',
      shows: recipe.shows ?? recipe.description ?? '',
      checks: recipe.checks?.length ?? 0,
      hasQuick: recipe.quick !== undefined,
      ...(quickSeconds === undefined ? {} : { quickSeconds }),
      ...(fullSeconds === undefined ? {} : { fullSeconds }),
    };
  });
}

function wrapped(text: string, width: number, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(/\s+/)) {
    if (line.length > indent.length && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent;
    }
    line += line.length > indent.length ? ` ${word}` : word;
  }
  return line.length > indent.length ? [...lines, line] : lines;
}

const seconds = (value: number | undefined): string | undefined =>
  value === undefined ? undefined : value < 120 ? `${Math.ceil(value)} s` : `${Math.ceil(value / 60)} min`;

/** The list as text, wrapped to a width. */
export function recipesText(entries: readonly RecipeEntry[], width: number): string {
  const name = Math.max(...entries.map((entry) => entry.name.length)) + 2;
  return entries
    .map((entry) => {
      const indent = ' '.repeat(name);
      const times = [
        ['quick', seconds(entry.quickSeconds)],
        ['full', seconds(entry.fullSeconds)],
      ].flatMap(([size, time]) => (time === undefined ? [] : [`${size} size took ${time} here`]));
      const facts = [entry.paper, `${entry.checks} check${entry.checks === 1 ? '' : 's'}`, ...times].filter((text) => text !== '');
      const [first, ...rest] = wrapped(entry.title, width, indent);
      return [
        entry.name.padEnd(name) + (first ?? '').trimStart(),
        ...rest,
        ...wrapped(entry.shows, width, indent),
        ...wrapped(facts.join(' · '), width, indent),
      ].join('\n');
    })
    .join('\n\n');
}
