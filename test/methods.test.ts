// The list of methods against its schema, its own numbers and what limbeck exports.
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { groups, methods, primitiveRuns, primitives, runsHere } from '../src/methods/index.js';
import { calledNames, isExported, namedOptions, takesOption } from './exports.js';

const json = (name: string): unknown => JSON.parse(readFileSync(new URL(`../src/methods/${name}`, import.meta.url), 'utf8'));

const listA = methods.filter(({ list }) => list === 'A');
const listB = methods.filter(({ list }) => list === 'B');

/** Names in backticks. */
const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);

describe('the data', () => {
  it('fits its schema', () => {
    const validate = new Ajv({ allErrors: true }).compile(json('methods.schema.json') as object);
    validate(json('methods.json'));
    expect(validate.errors ?? []).toEqual([]);
  });

  it('holds list A whole: 41 papers', () => {
    expect(listA.flatMap(({ entries }) => entries)).toEqual(Array.from({ length: 41 }, (_, i) => i + 1));
  });

  it('holds list B whole: 206 rows of 215 entries and 218 in groups, 433 in all, each once', () => {
    expect(listB).toHaveLength(206);
    const rows = listB.flatMap(({ entries }) => entries);
    const grouped = groups.flatMap(({ entries }) => entries);
    expect([rows.length, grouped.length]).toEqual([215, 218]);
    expect([...rows, ...grouped].sort((a, b) => a - b)).toEqual(Array.from({ length: 433 }, (_, i) => i + 1));
  });

  it('says of repeated papers the same as list A', () => {
    const repeats = listB.filter(({ sameAs }) => sameAs !== undefined);
    expect(repeats.map(({ entries, sameAs }) => [entries[0], sameAs])).toEqual([
      [42, 30],
      [261, 16],
      [369, 31],
      [399, 7],
    ]);
    for (const { sameAs, summary, primitives: codes } of repeats) {
      const original = listA.find(({ entries }) => entries[0] === sameAs)!;
      expect(summary).toBe(original.summary);
      expect([...codes].sort()).toEqual([...original.primitives].sort());
    }
  });

  it('uses the primitives it defines, each as often as its place in the ranking says', () => {
    const known = new Set(primitives.map(({ code }) => code));
    expect(known.size).toBe(primitives.length);
    for (const { primitives: codes } of [...methods, ...groups]) for (const code of codes) expect(known).toContain(code);
    const needed = primitives.map(({ code }) => methods.filter((m) => m.sameAs === undefined && m.primitives.includes(code)).length);
    expect(needed.every((count) => count > 0)).toBe(true);
    expect(needed).toEqual([...needed].sort((a, b) => b - a));
    expect(needed.slice(0, 3)).toEqual([122, 68, 55]);
  });

  it('repeats no name within a list', () => {
    for (const list of [listA, listB]) expect(new Set(list.map(({ name }) => name)).size).toBe(list.length);
  });
});

describe('whether it runs here', () => {
  it('follows from the primitives', () => {
    const only = (runs: string): string[] => primitives.filter((p) => primitiveRuns(p) === runs).map(({ code }) => code);
    const [yes, no] = [only('yes')[0]!, only('no')[0]!];
    expect(runsHere([])).toBe('outside');
    expect(runsHere([yes])).toBe('yes');
    expect(runsHere([no])).toBe('no');
    expect(runsHere([yes, no])).toBe('partly');
    for (const code of only('partly')) expect(runsHere([code])).toBe('partly');
  });

  it.each(primitives.filter((primitive) => primitiveRuns(primitive) !== 'no').map(({ code, calls }) => [code, calls] as const))(
    '%s: every call is to something there is',
    async (_, calls) => {
      for (const call of calls) {
        const names = calledNames(call).filter((name) => !name.startsWith('peer.'));
        expect(names, call).not.toHaveLength(0);
        for (const name of names) expect(await isExported(name), `${name} in '${call}'`).toBe(true);
        for (const [name, value] of namedOptions(call)) expect(takesOption(name, value), `${name}: '${value}' in '${call}'`).toBe(true);
      }
    },
  );

  it.each(primitives.filter(({ notYet }) => notYet !== undefined).map(({ code, notYet }) => [code, notYet!] as const))(
    '%s: what is said to be missing is',
    async (code, notYet) => {
      for (const name of quoted(notYet)) {
        const option = namedOptions(name)[0] ?? (name.startsWith('assistant:') ? ['assistant', { alpha: -1, lambda: 0.5 }] : undefined);
        const isThere = option === undefined ? await isExported(name) : takesOption(option[0] as string, option[1]);
        expect(isThere, `${name} is there: in src/methods/methods.json move it from "notYet" of ${code} to "calls"`).toBe(false);
      }
    },
  );
});
