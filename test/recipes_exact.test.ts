// The recipes of the package: each is legal in both sizes, and the exact part of its pass rule holds, and can fail.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadRecipe, overrideRecipe } from '../src/distill/recipe.js';
import { runRecipe } from '../src/distill/run.js';
import type { Recipe } from '../src/distill/spec.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-recipes-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const names = readdirSync('recipes').filter((name) => name.endsWith('.json') && name !== 'recipe.schema.json');
const opposite = { '<': '>=', '<=': '>', '>': '<=', '>=': '<' } as const;

/** The probes of a recipe and the checks that look at nothing else; null where there are none. */
function exactPart(recipe: Recipe): Recipe | null {
  const stages = recipe.stages.filter(({ kind }) => kind === 'probe');
  const known = new Set(stages.map(({ name }) => name));
  const isKnown = (value: NonNullable<Recipe['checks']>[number]['value']): boolean => typeof value === 'number' || known.has(value.stage);
  const checks = (recipe.checks ?? []).filter(({ value, than, is }) => isKnown(value) && isKnown(than) && is !== 'within');
  const { name, title, seed, size } = recipe;
  return stages.length === 0 ? null : { name, title, seed, size, repeats: 1, data: { format: 'none' }, models: {}, stages, checks };
}

describe.each(names)('%s', (file) => {
  it('is legal, says its paper, what it shows and its pass rule, and has a quick size', async () => {
    const recipe = await loadRecipe(join('recipes', file));
    expect(file).toBe(`${recipe.name}.json`);
    expect(recipe.quick).toBeDefined();
    overrideRecipe(recipe, { quick: true });
    // The demonstration has no paper.
    if (recipe.name === 'digits') return;
    expect(recipe.paper?.title).toBeTruthy();
    expect(recipe.shows).toMatch(/\.$/);
    expect(recipe.checks!.length).toBeGreaterThan(0);
  });

  it('its exact checks hold, and fail where they are turned round', async () => {
    const recipe = exactPart(overrideRecipe(await loadRecipe(join('recipes', file)), { quick: true }));
    if (recipe === null) return;
    const checksOf = async (of: Recipe, place: string) =>
      (await runRecipe(of, { folder: join(folder, `${recipe.name}-${place}`) })).results.checks!;
    const held = await checksOf(recipe, 'held');
    expect(held.filter(({ passed }) => !passed).map(({ text }) => text)).toEqual([]);
    const turned = { ...recipe, checks: recipe.checks!.map((check) => ({ ...check, is: opposite[check.is as keyof typeof opposite] })) };
    const failed = await checksOf(turned, 'turned');
    expect(failed).toHaveLength(held.length);
    expect(failed.filter(({ passed }) => passed).map(({ text }) => text)).toEqual([]);
  });
});
