// limbeck inspect and limbeck verify: what a target cache holds, and whether it is whole.
import { checkHtmlPath, cachePage } from '../report/cache-page.js';
import { writeWhole, shortPath } from '../distill/files.js';
import { count, size } from '../distill/results.js';
import { LimbeckError } from '../errors.js';
import { TargetCache } from '../cache/reader.js';
import { spreadsOf, summarizeCache, type CacheSummary, type Spread } from '../cache/summary.js';
import { RowProgress } from './row-progress.js';

const open = (folder: string): Promise<TargetCache> =>
  TargetCache.open(folder, { inputHash: null, vocabularyHash: null, unfinished: true });

/** Prints what a cache holds; writes it as a page where asked to. */
export async function inspect(folder: string, flags: { json?: true; html?: string }): Promise<void> {
  if (flags.html !== undefined) checkHtmlPath(flags.html);
  const cache = await open(folder);
  const progress = new RowProgress(process.stderr, 'reading', cache.size);
  const summary = await summarizeCache(cache, progress.show)
    .finally(() => progress.clear())
    .finally(() => cache.close());
  if (flags.html !== undefined) await writeWhole(flags.html, await cachePage(folder, summary));
  process.stdout.write(flags.json ? `${JSON.stringify(summary, null, 2)}\n` : summaryText(folder, summary, process.stdout.columns || 80));
  if (flags.html !== undefined) process.stderr.write(`Page: ${shortPath(flags.html)}\n`);
}

/** Checks every checksum and row; throws where one is wrong or a shard is not finished. */
export async function verify(folder: string): Promise<void> {
  const cache = await open(folder);
  const progress = new RowProgress(process.stderr, 'checking', cache.size);
  const { shards, ranges } = cache;
  const { rows, blocks, bytes } = await cache
    .verify(progress.show)
    .finally(() => progress.clear())
    .finally(() => cache.close());
  const part = shards.find(({ finished }) => !finished);
  if (part !== undefined)
    throw new LimbeckError(
      'unfinished_shard',
      `Cannot call ${folder} whole: every shard must be finished: ${shortPath(part.path)} is not (${count(part.rows)} rows in whole blocks; --resume goes on)`,
    );
  const held = ranges.map(([begin, end]) => `${begin} to ${end - 1}`).join(', ');
  process.stdout.write(
    `whole: ${count(rows)} rows (${held}) in ${count(blocks)} block${blocks === 1 ? '' : 's'} of ${shards.length} shard${shards.length === 1 ? '' : 's'}, ${size(bytes)}, every checksum right\n`,
  );
}

/** The summary as lines for people. */
export function summaryText(folder: string, summary: CacheSummary, width: number): string {
  const { kind, k, cols, bits, draws, temperature, spent, bytesPerRow } = summary;
  const values =
    kind === 'log_probs'
      ? `log-probabilities at ${bits} bits`
      : kind === 'weights'
        ? `weights at ${bits} bits`
        : `counts of ${draws} draws`;
  const held = summary.ranges.map(([begin, end]) => `${begin} to ${end - 1}`).join(', ');
  const unfinished = summary.unfinishedShards === 0 ? '' : `, ${summary.unfinishedShards} of them not finished`;
  const facts: [string, string][] = [
    ['rows', `${count(summary.rows)} (${held}), ${summary.shards} shard${summary.shards === 1 ? '' : 's'}${unfinished}`],
    ['entries', `at most ${k} of ${count(cols)} columns, ${values}`],
    ['temperature', temperature === null ? 'its own for each row' : String(temperature)],
    ['input hash', summary.inputHash ?? 'none'],
    ['vocabulary', summary.vocabularyHash ?? 'none'],
    ['size', `${size(summary.bytes)}, ${((100 * bytesPerRow) / (4 * cols)).toPrecision(2)} % of the logits in float32`],
    [
      'bytes a row',
      `${bytesPerRow.toFixed(2)}: ids ${spent.ids.toFixed(2)}, values ${spent.values.toFixed(2)}, row ${spent.row.toFixed(2)}, file ${spent.file.toFixed(2)}`,
    ],
    ...(summary.nanRows > 0 ? [['rows of NaN', count(summary.nanRows)] as [string, string]] : []),
  ];
  const lines = [folder, ...facts.map(([name, value]) => `  ${name.padEnd(13)}${value}`), ''];
  for (const { title, spread, digits } of spreadsOf(summary)) lines.push(...spreadText(title, spread, digits, width), '');
  return `${lines.join('\n')}`;
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

function spreadText(title: string, { from, width: step, bins, mean, least, largest }: Spread, digits: number, width: number): string[] {
  const rows = bins.reduce((sum, bin) => sum + bin, 0);
  const highest = Math.max(...bins, 1);
  const space = Math.max(10, Math.min(60, width - 34));
  const number = (value: number) => value.toFixed(digits).padStart(7);
  const lines = bins.map((bin, i) => {
    const length = Math.round((bin / highest) * space * 8);
    const bar = bin > 0 && length === 0 ? '▏' : '█'.repeat(Math.floor(length / 8)) + eighths[length % 8]!;
    const share = bin === 0 ? '' : `${((100 * bin) / rows).toFixed(1)} %`;
    const range = step === 1 ? `${number(from + i)}         ` : `${number(from + i * step)} –${number(from + (i + 1) * step)}`;
    return `  ${range} ${bar} ${share}`.trimEnd();
  });
  return [`${title}: mean ${mean.toFixed(Math.max(1, digits))}, from ${least.toFixed(digits)} to ${largest.toFixed(digits)}`, ...lines];
}
