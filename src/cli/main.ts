#!/usr/bin/env node
// The command line: limbeck info, limbeck methods, limbeck distill.
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { shortPath } from '../distill/files.js';
import { packageVersion } from '../native.js';
import type { RunOptions } from '../distill/run.js';
import type { MethodFilters } from './methods.js';

interface DistillFlags {
  device: string;
  seed?: number;
  epochs?: number;
  out?: string;
  threads?: number;
  quick?: true;
  resume?: true;
  fresh?: true;
}

interface MethodsFlags extends MethodFilters {
  primitives?: true;
  json?: true;
}

const INTERRUPTED = 130;

function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !Number.isInteger(value) || value < least || value > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

function deviceName(text: string): string {
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(text)) throw new InvalidArgumentError('It must be auto, cpu, cuda or cuda:<number>.');
  return text;
}

// commander puts its suggestion on a line of its own; here an error is one line.
function oneLine(text: string): string {
  return text
    .trim()
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ');
}

function program(): Command {
  const root = new Command('limbeck')
    .description('Knowledge distillation in Node: distil a teacher into a small student, and see what it gained.')
    .version(packageVersion(), '-V, --version')
    .configureOutput({ outputError: (text, write) => write(`limbeck: ${oneLine(text)}\n`) })
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2))
    .showSuggestionAfterError(true);

  root
    .command('info')
    .description('show version, CPU, CUDA and devices, or why one cannot be used')
    .option('--json', 'print it as JSON')
    .action(async ({ json }: { json?: true }) => {
      const { gatherInfo, infoText } = await import('./info.js');
      const report = gatherInfo();
      process.stdout.write(`${json ? JSON.stringify(report, null, 2) : infoText(report)}\n`);
      if (!report.binary.loaded) process.exitCode = 1;
    });

  root
    .command('methods')
    .description('list the methods of the field, what each needs and whether it runs here; one in full by its name or entry')
    .argument('[words...]', 'a name (TAID), an entry (B130), a primitive (FKL), or words to look for')
    .addOption(new Option('--primitive <code>', 'only those that need it').argParser((text) => text.toUpperCase()))
    .addOption(new Option('--runs <how>', 'only those that run here so far').choices(['yes', 'partly', 'no', 'outside']))
    .addOption(new Option('--list <letter>', 'A: papers, B: bibliography').choices(['A', 'B']))
    .option('--primitives', 'what methods are made of, in place of the methods')
    .option('--json', 'print it as JSON')
    .action(methods);

  root
    .command('distill')
    .description('run a recipe: train the teacher, capture its targets, distil, prune, report')
    .argument('<recipe>', 'a recipe file, such as recipes/digits.json')
    .addOption(new Option('--device <device>', 'auto, cpu, cuda or cuda:<number>').default('cpu').argParser(deviceName))
    .addOption(new Option('--seed <number>', "first seed, in place of the recipe's").argParser(wholeNumber(0, 2 ** 32 - 1)))
    .addOption(new Option('--epochs <number>', 'epochs of every stage that trains').argParser(wholeNumber(1, 100_000)))
    .option('--out <folder>', 'where results go (default: runs/<name of the recipe>)')
    .addOption(new Option('--threads <number>', 'CPU threads').argParser(wholeNumber(1, 256)))
    .option('--quick', "the recipe's small version")
    .option('--resume', 'go on with an interrupted run')
    .option('--fresh', 'start over, throwing an interrupted run away')
    .action(distill);
  return root;
}

async function methods(words: string[], flags: MethodsFlags): Promise<void> {
  const list = await import('./methods.js');
  // A pipe gets every row whole.
  const width = process.stdout.isTTY ? process.stdout.columns || 80 : Infinity;
  const print = (text: () => string, data: () => object): void => {
    process.stdout.write(`${flags.json ? JSON.stringify(data(), null, 2) : text()}\n`);
  };
  const { primitives, json: _, ...filters } = flags;
  if (primitives) {
    if (words.length > 0 || Object.keys(filters).length > 0)
      throw new Error('Cannot list primitives: no other filter can be given with --primitives');
    return print(() => list.primitivesText(width), list.primitivesJson);
  }
  const found = list.selectMethods(words, filters);
  const one = list.namedOne(words, found);
  if (one !== undefined) {
    print(
      () => list.oneText(one, width),
      () => list.oneJson(one),
    );
  } else {
    print(
      () => list.methodsText(found, width),
      () => list.methodsJson(found),
    );
  }
}

async function distill(recipePath: string, flags: DistillFlags): Promise<void> {
  const [{ loadRecipe, overrideRecipe }, { runRecipe, Interrupted }, { tableText }, { Progress }] = await Promise.all([
    import('../distill/recipe.js'),
    import('../distill/run.js'),
    import('../distill/results.js'),
    import('./progress.js'),
  ]);
  const recipe = overrideRecipe(await loadRecipe(recipePath), flags);
  if (flags.threads !== undefined) (await import('../device.js')).setThreads(flags.threads);
  const progress = new Progress(process.stderr);
  const stop = new AbortController();
  const onSignal = (): void => {
    // A second Ctrl-C does not wait: files are whole at every moment.
    if (stop.signal.aborted) process.exit(INTERRUPTED);
    stop.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    const options: RunOptions = {
      device: flags.device as RunOptions['device'],
      folder: flags.out ?? resolve('runs', recipe.name),
      recipePath,
      resume: flags.resume === true,
      fresh: flags.fresh === true,
      signal: stop.signal,
      listen: progress.listen,
    };
    const { results, report } = await runRecipe(recipe, options);
    progress.clear();
    process.stdout.write(`\n${tableText(results.table)}\n\n`);
    for (const text of results.findings) process.stdout.write(`• ${text}\n`);
    process.stdout.write(`\n${results.seconds.toFixed(0)} s in all. Report: ${shortPath(report)}\n`);
  } catch (error) {
    progress.clear();
    if (!(error instanceof Interrupted)) throw error;
    process.stderr.write(
      `limbeck: interrupted; what is done is in ${shortPath(error.folder)}, and the same command with --resume goes on\n`,
    );
    process.exitCode = INTERRUPTED;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

// A reader that goes away (limbeck info | head) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await program().parseAsync();
} catch (error) {
  const isVerbose = process.env['LIMBECK_DEBUG'] === '1';
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  process.stderr.write(`limbeck: ${isVerbose ? stack : message}\n`);
  process.exitCode = 1;
}
