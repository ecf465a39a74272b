// The pages of docs/: one for each divergence, residual and target, whole, with links that lead somewhere and examples that print what they say.
// LIMBECK_UPDATE_DOCS=1 writes what the examples print into the pages.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { soften, sampleTarget, tensor } from '../src/index.js';
import { divergenceNames } from '../src/losses/divergences.js';
import { residualNames } from '../src/losses/settings.js';
import * as losses from '../src/losses/index.js';
import * as targets from '../src/targets/index.js';
import { examplesOf, runExample, withOutputs } from './examples.js';
import { isExported, takesOption } from './exports.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const pages = readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
  .map((file) => path.join('docs', file))
  .filter((file) => file.endsWith('.md'))
  .sort();
const inFolder = (folder: string): string[] => pages.filter((file) => path.dirname(file) === `docs/${folder}`);

const sections = ['Formula', 'Gradient', 'When to use it', 'Bias', 'Cost', 'Example', 'Source'];

const withoutCode = (markdown: string): string => markdown.replace(/^```[\s\S]*?^```$/gm, '');
const headings = (markdown: string, level: number): string[] =>
  [...withoutCode(markdown).matchAll(/^(#+) (.+)$/gm)].filter((match) => match[1]!.length === level).map((match) => match[2]!);
const quoted = (text: string): string[] => [...text.matchAll(/`(\w+)`/g)].map((match) => match[1]!);

/** What a refusal names as possible values. */
function namesOf(call: () => unknown): string[] {
  try {
    call();
  } catch (error) {
    return [...(error as Error).message.split(': it is')[0]!.matchAll(/'(\w+)'/g)].map((match) => match[1]!);
  }
  throw new Error('the call was not refused');
}

function expectPage(file: string, of: string): void {
  expect(existsSync(path.join(root, file)), `${of} needs a page: write ${file}, with the sections ${sections.join(', ')}`).toBe(true);
}

describe('every name has its page', () => {
  it.each(divergenceNames)('divergence %s', (name) => expectPage(`docs/divergences/${name}.md`, `divergence '${name}'`));

  it.each(residualNames)('residual %s', (name) => {
    if (name === 'sampled' || takesOption('residual', name)) expectPage(`docs/residuals/${name}.md`, `residual '${name}'`);
  });

  const builders = [...Object.keys(targets), 'soften'].filter((name) => /^[a-z]/.test(name));
  // kdLoss is the divergences' pages.
  const others = Object.keys(losses).filter((name) => /^[a-z]/.test(name) && !/^(kdLoss|crossEntropy)$/.test(name));
  const titled = new Set(pages.flatMap((file) => quoted(headings(read(file), 1)[0] ?? '')));
  it.each(builders)('target %s', async (name) => {
    if (!(await isExported(name))) return;
    expect(titled.has(name), `${name} needs a page: write docs/targets/${name}.md, with \`${name}\` in its title`).toBe(true);
  });

  it.each(others)('loss or score %s', (name) => {
    expect(titled.has(name), `${name} needs a page: write docs/losses/${name}.md, with \`${name}\` in its title`).toBe(true);
  });

  it('nothing has a page that is not there', () => {
    const names = (folder: string): string[] => inFolder(folder).map((file) => path.basename(file, '.md'));
    expect(names('divergences').filter((name) => !(divergenceNames as string[]).includes(name))).toEqual([]);
    expect(names('residuals').filter((name) => !(residualNames as readonly string[]).includes(name))).toEqual([]);
  });

  it('each way to soften and to draw has a heading', () => {
    const p = tensor([[0.5, 0.5]]);
    const operators = namesOf(() => soften(p, { operator: '?' as 'power' }));
    const methods = namesOf(() => sampleTarget(p, 1, { method: '?' as 'race' }));
    expect([operators.length, methods.length].every((count) => count >= 2)).toBe(true);
    for (const [file, names] of [
      ['docs/targets/soften.md', operators],
      ['docs/targets/sampleTarget.md', methods],
    ] as const) {
      const found = headings(read(file), 3).flatMap(quoted);
      for (const name of names) expect(found, `write a section "### \`${name}\`" in ${file}`).toContain(name);
    }
  });
});

describe.each(pages)('%s', (file) => {
  const text = read(file);

  it('has one title, and the sections of its kind in their order', () => {
    expect(headings(text, 1)).toHaveLength(1);
    if (!/^docs\/(divergences|losses|residuals|targets)\//.test(file)) return;
    expect(headings(text, 2)).toEqual(sections);
    const own = path.basename(file, '.md');
    expect(quoted(headings(text, 1)[0]!), 'the title names what the file is named after').toContain(own);
    for (const part of text.split(/^## /m).slice(1))
      expect(part.split('\n').slice(1).join('').trim(), `section ${part.split('\n')[0]}`).not.toBe('');
  });

  it('is listed on the first page', () => {
    if (file !== 'docs/index.md') expect(read('docs/index.md')).toContain(`(${path.relative('docs', file)})`);
  });
});

describe.each([...pages, 'README.md'])('examples of %s', (file) => {
  const examples = examplesOf(read(file));

  if (process.env['LIMBECK_UPDATE_DOCS'] === '1' && file !== 'README.md')
    it('are written anew', async () => writeFileSync(path.join(root, file), await withOutputs(read(file))));

  it('are there, each with its output', () => {
    if (/^docs\/\w+\//.test(file) || file === 'README.md') expect(examples.length).toBeGreaterThan(0);
    for (const { output, line } of examples) expect(output, `the js block of line ${line} needs a text block after it`).toBeDefined();
  });

  it.each(examples.map(({ line, code, output }) => [line, code, output] as const))('line %i', async (_, code, output) => {
    expect(await runExample(code)).toBe(output);
  });
});

/** The anchor of a heading, as GitHub and TypeDoc make it. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');
}

describe.each([...pages, 'README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'])('links of %s', (file) => {
  const links = [...withoutCode(read(file)).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1]!)
    .filter((link) => !/^https?:/.test(link));

  it('lead to files and headings there are', () => {
    for (const link of links) {
      const [target, anchor] = link.split('#') as [string, string | undefined];
      const to = target === '' ? file : path.join(path.dirname(file), target);
      expect(existsSync(path.join(root, to)), `${link} in ${file}`).toBe(true);
      if (anchor === undefined) continue;
      const slugs = [1, 2, 3, 4].flatMap((level) => headings(read(to), level)).map(slug);
      expect(slugs, `${link} in ${file}`).toContain(anchor);
    }
  });
});
