#!/usr/bin/env node
// The command line: limbeck info, methods, recipes, distill, export, capture, inspect, verify, bench.
import { resolve } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { shortPath } from '../distill/files.js';
import { packageVersion } from '../native.js';
import type { BenchDType } from '../bench/arena.js';
import type { RunOptions } from '../distill/run.js';
import type { BenchFlags } from './bench.js';
import type { CaptureFlags } from './capture.js';
import type { ExportFlags } from './export.js';
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

function positive(text: string): number {
  const value = Number(text);
  if (!(text.trim() !== '' && value > 0 && value < Infinity)) throw new InvalidArgumentError('It must be a positive number.');
  return value;
}

function rowRange(text: string): { begin: number; end: number } {
  const [begin, end] = (/^(\d{1,15}):(\d{1,15})$/.exec(text) ?? []).slice(1).map(Number);
  if (begin === undefined || end === undefined || end <= begin) throw new InvalidArgumentError('It must be begin:end, such as 0:1000.');
  return { begin, end };
}

function wholeNumbers(text: string): number[] {
  return text.split(',').map(wholeNumber(1, 2 ** 24));
}

function benchDTypes(text: string): BenchDType[] {
  return text.split(',').map((name) => {
    if (name !== 'float32' && name !== 'bfloat16' && name !== 'float16')
      throw new InvalidArgumentError('It must name float32, bfloat16 or float16, with commas between them.');
    return name;
  });
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
    .command('recipes')
    .description("list the package's recipes: the paper of each, and what it shows")
    .option('--json', 'print it as JSON')
    .action(async ({ json }: { json?: true }) => {
      const { listRecipes, recipesText } = await import('./recipes.js');
      const width = process.stdout.isTTY ? process.stdout.columns || 80 : 100;
      process.stdout.write(`${json ? JSON.stringify(listRecipes(), null, 2) : recipesText(listRecipes(), width)}\n`);
    });

  root
    .command('distill')
    .description('run a recipe: train the teacher, capture its targets, distil, prune, report; exit code 1 where a check of it fails')
    .argument('<recipe>', 'a recipe file, or the name of one of the package (limbeck recipes)')
    .addOption(new Option('--device <device>', 'auto, cpu, cuda or cuda:<number>').default('cpu').argParser(deviceName))
    .addOption(new Option('--seed <number>', "first seed, in place of the recipe's").argParser(wholeNumber(0, 2 ** 32 - 1)))
    .addOption(new Option('--epochs <number>', 'epochs of every stage that trains').argParser(wholeNumber(1, 100_000)))
    .option('--out <folder>', 'where results go (default: runs/<name of the recipe>)')
    .addOption(new Option('--threads <number>', 'CPU threads').argParser(wholeNumber(1, 256)))
    .option('--quick', "the recipe's small version")
    .option('--resume', 'go on with an interrupted run')
    .option('--fresh', 'start over, throwing an interrupted run away')
    .action(distill);

  root
    .command('export')
    .description('write the student of a stage as an ONNX file, pruned structure and all')
    .argument('<run>', 'the folder of a run')
    .argument('<stage>', 'the stage whose model is exported, or the key of a checkpoint')
    .requiredOption('--out <file>', 'the ONNX file')
    .addOption(new Option('--seed <number>', 'which seed (default: the first)').argParser(wholeNumber(0, 2 ** 32 - 1)))
    .addOption(new Option('--level <number>', 'which level or generation, from 0 (default: the last)').argParser(wholeNumber(0, 100_000)))
    .action(async (run: string, stage: string, flags: ExportFlags) => {
      process.stdout.write(await (await import('./export.js')).exportStage(run, stage, flags));
    });

  root
    .command('capture')
    .description("write a teacher's targets into a cache: from a file of logits, or from the trained teacher of a recipe")
    .argument('[recipe]', 'a recipe whose teacher is trained (limbeck distill); or --logits')
    .option('--logits <file>', 'logits [..., columns] in a .safetensors or .npy file')
    .option('--tensor <name>', 'which tensor of the .safetensors file')
    .option('--run <folder>', "where the recipe's run is (default: runs/<name of the recipe>)")
    .option('--stage <name>', "which of the recipe's capture stages")
    .requiredOption('--out <folder>', 'the cache')
    .addOption(new Option('--k <number>', "columns kept of each row (default: 64, or the recipe's)").argParser(wholeNumber(1, 2 ** 20)))
    .addOption(new Option('--temperature <number>', "default: 1, or the recipe's").argParser(positive))
    .addOption(
      new Option('--method <name>', 'top_k, or how to draw').choices(['top_k', 'with_replacement', 'race', 'head_tail']).default('top_k'),
    )
    .addOption(new Option('--draws <number>', 'draws of each row, where they are drawn').argParser(wholeNumber(1, 2 ** 20)).default(50))
    .addOption(new Option('--seed <number>', 'of the draws').argParser(wholeNumber(0, 2 ** 32 - 1)).default(0))
    .addOption(new Option('--bits <number>', 'of each log-probability (default: 8) or weight (default: 7)').argParser(wholeNumber(4, 16)))
    .addOption(new Option('--rows <begin:end>', 'only these rows, for several writers (default: all)').argParser(rowRange))
    .addOption(new Option('--shard <number>', "number of this writer's shard").argParser(wholeNumber(0, 999_999_999)).default(0))
    .option('--inputs <file>', 'what the teacher saw; its hash must then be named to read the cache')
    .option('--vocabulary <file>', 'for the same purpose')
    .addOption(new Option('--device <device>', 'auto, cpu, cuda or cuda:<number>').default('cpu').argParser(deviceName))
    .option('--resume', 'go on with an interrupted capture')
    .option('--fresh', 'start over')
    .action(capture);

  root
    .command('inspect')
    .description('show what a cache of targets holds: kept mass, entropy, sizes')
    .argument('<folder>', 'the cache')
    .option('--html <file>', 'write it as a page too')
    .option('--json', 'print it as JSON')
    .action(async (folder: string, flags: { json?: true; html?: string }) => (await import('./cache.js')).inspect(folder, flags));

  root
    .command('verify')
    .description('check every checksum and row of a cache; exit code 1 where something is wrong')
    .argument('<folder>', 'the cache')
    .action(async (folder: string) => (await import('./cache.js')).verify(folder));

  root
    .command('bench')
    .description('time the losses on a device, beside the rate at which it copies memory')
    .addOption(new Option('--device <device>', 'auto, cpu, cuda or cuda:<number>').default('auto').argParser(deviceName))
    .addOption(new Option('--rows <number>', 'default: 4096; fewer of long rows on the CPU').argParser(wholeNumber(1, 2 ** 20)))
    .addOption(
      new Option('--cols <numbers>', 'vocabularies, with commas (default: 1000,32000,50257,128256,151936,262144)').argParser(wholeNumbers),
    )
    .addOption(new Option('--dtypes <names>', 'default: bfloat16,float32').argParser(benchDTypes))
    .addOption(new Option('--k <number>', 'columns kept of each row').argParser(wholeNumber(1, 256)).default(64))
    .addOption(new Option('--seconds <number>', 'of each measurement (default: 0.3)').argParser(positive))
    .addOption(new Option('--threads <number>', 'CPU threads').argParser(wholeNumber(1, 256)))
    .option('--quick', 'two vocabularies, one divergence, a sixth of the time')
    .option('--json <file>', 'write the numbers to a file too')
    .action(async (flags: BenchFlags) => (await import('./bench.js')).bench(flags));
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

async function distill(given: string, flags: DistillFlags): Promise<void> {
  const path = (await import('./recipes.js')).recipePath(given);
  const [{ loadRecipe, overrideRecipe }, { runRecipe, Interrupted }, { checksText, tableText, valuesText }, { Progress }] =
    await Promise.all([
      import('../distill/recipe.js'),
      import('../distill/run.js'),
      import('../distill/results.js'),
      import('./progress.js'),
    ]);
  const recipe = overrideRecipe(await loadRecipe(path), flags);
  if (flags.threads !== undefined) (await import('../device.js')).setThreads(flags.threads);
  const progress = new Progress(process.stderr);
  const stop = onSignals();
  try {
    const options: RunOptions = {
      device: flags.device as RunOptions['device'],
      folder: flags.out ?? resolve('runs', recipe.name),
      recipePath: path,
      resume: flags.resume === true,
      fresh: flags.fresh === true,
      signal: stop.signal,
      listen: progress.listen,
    };
    const { results, report } = await runRecipe(recipe, options);
    progress.clear();
    if (results.table.length > 0) process.stdout.write(`\n${tableText(results.table)}\n\n`);
    for (const text of results.findings) process.stdout.write(`• ${text}\n`);
    for (const { title, values } of results.probes ?? []) process.stdout.write(`${title}\n${valuesText(values)}\n`);
    const checks = results.checks ?? [];
    if (checks.length > 0) process.stdout.write(`\n${checksText(checks)}\n`);
    if (checks.some(({ passed }) => !passed)) process.exitCode = 1;
    process.stdout.write(`\n${results.seconds.toFixed(0)} s in all. Report: ${shortPath(report)}\n`);
  } catch (error) {
    progress.clear();
    if (!(error instanceof Interrupted)) throw error;
    process.stderr.write(
      `limbeck: interrupted; what is done is in ${shortPath(error.folder)}, and the same command with --resume goes on\n`,
    );
    process.exitCode = INTERRUPTED;
  } finally {
    stop.release();
  }
}

/** The first signal asks to stop, the second one does. */
function onSignals(): { signal: AbortSignal; release(): void } {
  const stop = new AbortController();
  const onSignal = (): void => {
    // A second Ctrl-C does not wait: files are whole at every moment.
    if (stop.signal.aborted) process.exit(INTERRUPTED);
    stop.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    signal: stop.signal,
    release() {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    },
  };
}

async function capture(given: string | undefined, flags: CaptureFlags): Promise<void> {
  const recipePath = given === undefined ? undefined : (await import('./recipes.js')).recipePath(given);
  if ((recipePath === undefined) === (flags.logits === undefined))
    throw new Error('Cannot capture: a recipe or --logits must be given, and not both');
  const stop = onSignals();
  try {
    if (await (await import('./capture.js')).capture(recipePath, flags, stop.signal)) return;
    process.stderr.write(`limbeck: interrupted; what is done is in ${shortPath(flags.out)}, and the same command with --resume goes on\n`);
    process.exitCode = INTERRUPTED;
  } finally {
    stop.release();
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
