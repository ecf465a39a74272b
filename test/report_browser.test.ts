// The pages as a reader has them: in headless Chromium, narrow and wide, light and dark, with the keyboard alone.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TargetCache, TargetCacheWriter } from '../src/cache/index.js';
import { summarizeCache } from '../src/cache/summary.js';
import { loadRecipe, overrideRecipe, runRecipe, textReport } from '../src/distill/index.js';
import { captureTopK, randn } from '../src/index.js';
import { cachePage } from '../src/report/cache-page.js';

const named = process.env['CHROMIUM_PATH'];
const usual = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const program = (named === undefined ? usual : [named]).find((path) => existsSync(path));
const shots = resolve('build/report-shots');
const widths = [390, 1400];
const schemes = ['light', 'dark'] as const;
const names = ['run', 'cache', 'text'] as const;

let folder: string;
let browser: Browser;
const pageOf = (name: string): string => join(folder, `${name}.html`);

/** Words of a readme, and two made-up models of it. */
function words(): { tokens: string[]; vocabulary: string[] } {
  const tokens = readFileSync('README.md', 'utf8')
    .match(/\s*\w+|\s*[^\w\s]+|\s+/g)!
    .slice(0, 400);
  return { tokens, vocabulary: [...new Set(tokens)] };
}

async function writePages(): Promise<void> {
  const recipe = overrideRecipe(await loadRecipe(resolve('recipes/digits.json')), { quick: true, epochs: 3 });
  recipe.repeats = 2;
  Object.assign(recipe.data, { trainRows: 600, testRows: 300 });
  const { report } = await runRecipe(recipe, { folder: join(folder, 'run'), recipePath: resolve('recipes/digits.json') });
  writeFileSync(pageOf('run'), readFileSync(report));

  const target = captureTopK(randn([500, 300], { seed: 1 }), 16);
  const cache = join(folder, 'cache');
  const writer = await TargetCacheWriter.open(cache, { k: 16, cols: 300 });
  await writer.append(target);
  await writer.finish();
  const reader = await TargetCache.open(cache);
  writeFileSync(pageOf('cache'), await cachePage('cache', await summarizeCache(reader)));
  await reader.close();

  const { tokens, vocabulary } = words();
  const shape = [tokens.length, vocabulary.length];
  const [teacher, student] = [randn(shape, { seed: 2 }), randn(shape, { seed: 3 })];
  writeFileSync(pageOf('text'), await textReport({ title: 'A <readme> & two models', tokens, vocabulary, teacher, student }));
}

/** A page of its own, and what it complains of. */
async function open(name: string, width: number, colorScheme: (typeof schemes)[number]): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!/^(file|data):/.test(request.url())) complaints.push(`asks for ${request.url()}`);
  });
  await page.goto(pathToFileURL(pageOf(name)).href);
  return { page, complaints };
}

// What runs in the page is text: the project is compiled without the browser's names.
const inPage = <T>(page: Page, code: string): Promise<T> => page.evaluate(`(() => { ${code} })()`);

const luminance = `
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);`;

/** Texts whose contrast with what is behind them is below 4.5. */
const faint = `${luminance}
  document.querySelectorAll('details').forEach((each) => (each.open = true));
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(color)) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest('script, noscript, .skip')) continue;
    const style = getComputedStyle(element);
    const color = element.closest('svg') ? style.fill : style.color;
    if (!color.startsWith('rgb')) continue;
    const contrast = ratio(luminance(color), luminance(behind(element)));
    if (!(contrast >= 4.5)) found.push(contrast.toFixed(2) + ' ' + node.textContent.trim().slice(0, 40));
  }
  return [...new Set(found)];`;

/** What has the focus: its kind, its words, and how wide its outline is. */
const focused = `
  const at = document.activeElement;
  const plot = at.closest('[data-chart]');
  const style = getComputedStyle(at);
  return {
    kind: plot ? 'point' : at.getAttribute('role') ?? at.tagName.toLowerCase(),
    words: at.getAttribute('aria-label') ?? at.textContent.trim().slice(0, 60),
    plot: plot ? [...document.querySelectorAll('[data-chart]')].indexOf(plot) : null,
    outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
  };`;
interface Focused {
  kind: string;
  words: string;
  plot: number | null;
  outline: number;
}

const word = program === undefined ? ' (skipped: no Chromium here; CHROMIUM_PATH names one)' : '';

describe.skipIf(program === undefined)(`pages in Chromium${word}`, () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'limbeck-pages-'));
    mkdirSync(shots, { recursive: true });
    await writePages();
    browser = await chromium.launch({ executablePath: program });
  });
  afterAll(async () => {
    await browser?.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });

  const views = names.flatMap((name) => widths.flatMap((width) => schemes.map((scheme) => [name, width, scheme] as const)));
  it.each(views)('%s, %i px wide, %s: whole, quiet, readable', async (name, width, scheme) => {
    const { page, complaints } = await open(name, width, scheme);
    const plots = await inPage<{ kind: string; marks: number; tables: number }[]>(
      page,
      `return [...document.querySelectorAll('[data-chart]')].map((place) => ({
        kind: place.dataset.chart,
        marks: place.querySelectorAll('svg [aria-label] path, svg [aria-label] circle, svg [aria-label] rect').length,
        tables: place.closest('section').querySelectorAll('details table tbody tr').length,
      }))`,
    );
    const kinds = new Set(plots.map(({ kind }) => kind));
    const expected = {
      run: ['histogram', 'loss', 'error', 'nll', 'sparsity', 'pruning', 'reliability', 'key'],
      cache: ['histogram'],
      text: ['histogram'],
    };
    expect([...kinds].sort()).toEqual(expected[name].sort());
    for (const plot of plots) {
      expect(plot.marks, plot.kind).toBeGreaterThan(0);
      if (plot.kind !== 'key') expect(plot.tables, `table behind ${plot.kind}`).toBeGreaterThan(0);
    }
    const overflow = 'return document.documentElement.scrollWidth - document.documentElement.clientWidth';
    expect(await inPage<number>(page, overflow)).toBe(0);
    const shot = join(shots, `${name}-${width}-${scheme}.png`);
    await page.screenshot({ path: shot, fullPage: true });
    expect(statSync(shot).size).toBeGreaterThan(10_000);
    expect(await inPage<string[]>(page, faint)).toEqual([]);
    // With every table open, too.
    expect(await inPage<number>(page, overflow)).toBe(0);
    expect(complaints).toEqual([]);
    await page.close();
  });

  it('a plot is drawn anew where the page is resized', async () => {
    const { page } = await open('cache', 1400, 'light');
    const wide = await inPage<number>(page, `return document.querySelector('[data-chart] svg').getBoundingClientRect().width`);
    await page.setViewportSize({ width: 390, height: 900 });
    await page.waitForFunction(`document.querySelector('[data-chart] svg').getBoundingClientRect().width < 390`);
    expect(wide).toBeGreaterThan(390);
    await page.close();
  });

  it.each(names)('%s by keyboard: the skip link, then one stop for each plot, each in sight', async (name) => {
    const { page } = await open(name, 1400, 'light');
    await page.keyboard.press('Tab');
    expect((await inPage<Focused>(page, focused)).words).toBe('Skip to the contents');
    expect(await inPage<number>(page, `return document.querySelector('.skip').getBoundingClientRect().top`)).toBeGreaterThanOrEqual(0);
    await page.keyboard.press('Enter');
    expect(await inPage<string>(page, 'return document.activeElement.id')).toBe('main');
    const stops: Focused[] = [];
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press('Tab');
      const at = await inPage<Focused>(page, focused);
      if (at.kind === 'body') break;
      stops.push(at);
    }
    for (const stop of stops) expect(stop.outline, stop.words).toBeGreaterThanOrEqual(1);
    const plots = await inPage<number[]>(
      page,
      `return [...document.querySelectorAll('[data-chart]')].flatMap((place, i) => (place.dataset.chart === 'key' ? [] : [i]))`,
    );
    expect(stops.filter(({ kind }) => kind === 'point').map(({ plot }) => plot)).toEqual(plots);
    expect(stops.some(({ kind }) => kind === 'summary')).toBe(true);
    await page.close();
  });

  it('the arrow keys walk through the points of a plot, and each shows its tip', async () => {
    const { page } = await open('run', 1400, 'light');
    const plot = `[...document.querySelectorAll('[data-chart="loss"]')][0]`;
    await inPage(page, `${plot}.querySelector('[tabindex="0"]').focus()`);
    const first = await inPage<Focused>(page, focused);
    expect(first.words).toMatch(/^Teacher, epoch 1, \d\.\d{4}, seeds from/);
    await page.keyboard.press('ArrowRight');
    const second = await inPage<Focused>(page, focused);
    expect(second.words).toMatch(/^Teacher, epoch 2, /);
    expect(await inPage<string>(page, `return ${plot}.querySelector('[aria-label="tip"]').textContent`)).toMatch(/Teacher.*epoch 2/);
    await page.keyboard.press('End');
    expect((await inPage<Focused>(page, focused)).words).toMatch(/^Pruned in one shot, /);
    await page.keyboard.press('Home');
    expect((await inPage<Focused>(page, focused)).words).toBe(first.words);
    // The plot stays one stop, at the point that was left.
    expect(await inPage<number>(page, `return ${plot}.querySelectorAll('[tabindex="0"]').length`)).toBe(1);
    await page.close();
  });

  it('models differ by dash and by symbol', async () => {
    const { page } = await open('run', 1400, 'light');
    const looks = await inPage<string[]>(
      page,
      `return [...document.querySelector('.legend').querySelectorAll('[data-chart="key"] svg')].map((svg) => {
        const [line] = svg.querySelectorAll('[aria-label="link"]');
        return line.getAttribute('stroke-dasharray') + '|' + svg.querySelector('[aria-label="dot"] > *').outerHTML.replace(/transform="[^"]*"/, '');
      })`,
    );
    expect(looks.length).toBeGreaterThan(2);
    expect(new Set(looks.map((each) => each.split('|')[0])).size).toBe(looks.length);
    expect(new Set(looks.map((each) => each.split('|')[1])).size).toBe(looks.length);
    await page.close();
  });

  it('tokens: by arrow keys and by pointer, each says its divergence and both choices', async () => {
    const { page } = await open('text', 1400, 'light');
    const { tokens } = words();
    const detail = () => inPage<string>(page, `return document.getElementById('detail').textContent`);
    const hint = await detail();
    await inPage(page, `document.querySelector('#tokens [tabindex="0"]').focus()`);
    expect(await detail()).toMatch(/^token 1: .* · forward KL \d+\.\d{3} · teacher: .* at [\d.]+ % · student: .* at [\d.]+ %/);
    await page.keyboard.press('ArrowRight');
    expect(await detail()).toMatch(/^token 2: /);
    const line = () => inPage<number>(page, 'return document.activeElement.getClientRects()[0].top + scrollY');
    const top = await line();
    await page.keyboard.press('ArrowDown');
    expect(await line()).toBeGreaterThan(top);
    await page.keyboard.press('End');
    expect(await detail()).toMatch(new RegExp(`^token ${tokens.length}: `));
    expect(await inPage<string>(page, `return document.querySelector('[aria-selected="true"]').id`)).toBe(`t${tokens.length}`);
    await page.keyboard.press('Tab');
    expect(await detail()).toBe(hint);
    await page.hover('#t5');
    expect(await detail()).toMatch(/^token 5: /);
    // The text itself is unharmed.
    const shown = await inPage<string>(page, `return document.getElementById('tokens').textContent`);
    expect(shown.replaceAll('⏎', '\n')).toBe(tokens.join(''));
    await page.close();
  });

  it.each(schemes)('the scale is one of lightness and of bars, %s', async (scheme) => {
    const { page } = await open('text', 1400, scheme);
    const steps = await inPage<{ light: number; bar: string; count: number }[]>(
      page,
      `${luminance}
      return [0, 1, 2, 3, 4].map((level) => {
        const { backgroundColor, boxShadow } = getComputedStyle(document.querySelector('.scale .v' + level));
        const color = level === 0 ? getComputedStyle(document.body).backgroundColor : backgroundColor;
        return { light: luminance(color), bar: boxShadow.replace(/rgba?\\([^)]*\\)/, ''), count: document.querySelectorAll('#tokens .v' + level).length };
      })`,
    );
    const { tokens } = words();
    expect(steps.reduce((sum, { count }) => sum + count, 0)).toBe(tokens.length);
    expect(steps.map(({ count }) => count)).toEqual([0.5, 0.25, 0.15, 0.07, 0.03].map((share) => Math.round(share * tokens.length)));
    const way = scheme === 'light' ? -1 : 1;
    for (let i = 1; i < 5; i++) {
      const [a, b] = [steps[i - 1]!.light + 0.05, steps[i]!.light + 0.05];
      expect((b / a) ** way, `level ${i}`).toBeGreaterThan(1.15);
    }
    expect(new Set(steps.map(({ bar }) => bar)).size).toBe(5);
    await page.check('#numbers');
    const number = `return getComputedStyle(document.querySelector('#t1'), '::after').content`;
    expect(await inPage<string>(page, number)).toMatch(/^"\d+\.\d{3}"$/);
    await page.close();
  });
});
