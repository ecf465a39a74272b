// The GPU bundle's program: every case file on the CUDA device, compute-sanitizer and Python peers where the host has them, and the bench.
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { benchLosses, type BenchReport } from '../../src/bench/losses.js';
import { benchText } from '../../src/cli/bench.js';
import { cases } from '../../test/cases/index.js';
import { runCases, type CaseResult } from '../../test/run-cases.js';
import type { Limbeck, Native, Raw, Subject } from '../../test/subject.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const program = fileURLToPath(import.meta.url);

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: path.join(process.cwd(), 'limbeck-gpu-results') },
    emulated: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '1' },
    'skip-bench': { type: 'boolean', default: false },
    'skip-sanitizer': { type: 'boolean', default: false },
    'child-op': { type: 'string' },
    'child-bench': { type: 'boolean', default: false },
    results: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const HELP = `Runs limbeck's device tests and bench on this machine's CUDA device, and writes tests.json and bench.json.

  --out DIR          where the results go (./limbeck-gpu-results)
  --seconds N        seconds per bench measurement (1)
  --skip-bench       tests only
  --skip-sanitizer   without compute-sanitizer
  --emulated         on the emulated device, if the bundle was made with --emulated
  --check            a small selection, to see that the bundle works
`;

interface Outcome {
  status: 'ran' | 'skipped' | 'failed';
  reason?: string;
  [key: string]: unknown;
}

const isSmall = (name: string) => !/\b(50257|128256|262144|long|large|random|seeds?)\b/i.test(name);
// On the emulated device `npm test` has run these very checks: a few of each op show that the bundle runs without the repository.
let met = 0;
const isChosen = (name: string) => isSmall(name) && (!values.emulated || met++ % 12 === 0);
const addonName = values.emulated ? 'limbeck_emulated.node' : 'limbeck.node';
if (values.emulated) process.env.LIMBECK_EMULATE_CUDA = '1';

function loadAddon(): Native {
  return createRequire(import.meta.url)(path.join(root, 'build', 'Release', addonName)) as Native;
}

/** One op's checks, one JSON line each, flushed at once so that a crash leaves what was done. */
async function childTests(op: string, results: string): Promise<void> {
  const load = (name: string) => import(pathToFileURL(path.join(root, 'dist', name)).href) as Promise<unknown>;
  const subject: Subject = {
    limbeck: (await load('index.js')) as Limbeck,
    raw: (await load('raw.js')) as Raw,
    native: loadAddon(),
    device: 'cuda',
  };
  const file = openSync(results, 'w');
  const files = cases.filter((each) => each.op === op);
  for await (const result of runCases(subject, values.check ? isChosen : () => true, files)) writeSync(file, `${JSON.stringify(result)}\n`);
  writeSync(file, '"done"\n');
  closeSync(file);
}

function childBench(results: string): void {
  const small = values.check || values.emulated;
  const report = benchLosses({
    device: 'cuda',
    seconds: small ? 0.01 : Number(values.seconds),
    ...(small ? { rows: 8, cols: [1000] } : {}),
    onLine: (line) => console.log(benchText(line)),
  });
  writeFileSync(results, JSON.stringify(report));
}

function self(args: string[], prefix: string[] = []) {
  const [command, ...rest] = [
    ...prefix,
    process.execPath,
    program,
    ...(values.emulated ? ['--emulated'] : []),
    ...(values.check ? ['--check'] : []),
    ...args,
  ];
  return spawnSync(command as string, rest, { encoding: 'utf8', timeout: 900_000, maxBuffer: 1 << 28, env: process.env });
}

function endOf(result: ReturnType<typeof self>): string {
  if (result.error) return result.error.message;
  return result.signal ? `ended by ${result.signal}` : `exit code ${result.status}`;
}

function runOp(op: string, folder: string, prefix: string[] = []): { results: CaseResult[]; output: string; status: number | null } {
  const file = path.join(folder, 'results.jsonl');
  rmSync(file, { force: true });
  const child = self(['--child-op', op, '--results', file], prefix);
  const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : [];
  const parsed = lines.map((line) => JSON.parse(line) as CaseResult | 'done');
  const results = parsed.filter((entry): entry is CaseResult => entry !== 'done');
  if (!parsed.includes('done')) {
    const message = `the process of these checks did not finish: ${endOf(child)}\n${child.stderr?.slice(-2000) ?? ''}`;
    results.push({ case: `${op}: after ${results.at(-1)?.case ?? 'the start'}`, passed: false, message, milliseconds: 0 });
  }
  return { results, output: `${child.stdout ?? ''}${child.stderr ?? ''}`, status: child.status };
}

function which(name: string, ...places: string[]): string | undefined {
  return [...(process.env.PATH ?? '').split(path.delimiter), ...places]
    .map((place) => path.join(place, name))
    .find((place) => existsSync(place));
}

function sanitize(folder: string): Record<string, Outcome> {
  const tools = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
  const compute = which('compute-sanitizer', '/usr/local/cuda/bin', '/opt/cuda/bin');
  const skip = values['skip-sanitizer']
    ? '--skip-sanitizer'
    : values.emulated
      ? 'the emulated device is no CUDA device'
      : compute === undefined
        ? 'compute-sanitizer is not on this host'
        : '';
  if (skip !== '') return Object.fromEntries(tools.map((tool) => [tool, { status: 'skipped', reason: skip }]));
  values.check = true;
  const outcomes: Record<string, Outcome> = {};
  for (const tool of tools) {
    const started = performance.now();
    const problems: string[] = [];
    for (const { op } of cases) {
      const { results, output, status } = runOp(op, folder, [
        compute as string,
        '--tool',
        tool,
        '--error-exitcode',
        '86',
        '--target-processes',
        'all',
      ]);
      const summary = /========= ERROR SUMMARY: (\d+) error/.exec(output);
      if (status === 86 || (summary !== null && summary[1] !== '0')) problems.push(`${op}: ${output.slice(0, 4000)}`);
      else if (status !== 0) problems.push(`${op}: ${results.find((result) => !result.passed)?.message ?? `exit code ${status}`}`);
    }
    outcomes[tool] = { status: problems.length === 0 ? 'ran' : 'failed', problems, seconds: (performance.now() - started) / 1000 };
    console.log(`compute-sanitizer ${tool}: ${problems.length === 0 ? 'clean' : `${problems.length} ops with errors`}`);
  }
  return outcomes;
}

function peers(): Outcome {
  if (values.emulated) return { status: 'skipped', reason: 'the emulated device is no CUDA device' };
  const python = which('python3');
  if (python === undefined) return { status: 'skipped', reason: 'python3 is not on this host' };
  const result = spawnSync(python, [path.join(root, 'peers.py'), '--seconds', values.seconds], { encoding: 'utf8', timeout: 900_000 });
  try {
    return JSON.parse(result.stdout.trim().split('\n').at(-1) as string) as Outcome;
  } catch {
    return { status: 'failed', reason: result.error?.message ?? `${result.stdout}${result.stderr}`.slice(-2000) };
  }
}

function main(): void {
  if (values.help) {
    process.stdout.write(HELP);
    return;
  }
  mkdirSync(values.out, { recursive: true });
  const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-gpu-run-'));
  try {
    const info = loadAddon().info();
    const device = info.cuda.devices.find((each) => each.usable);
    console.log(`limbeck ${info.version} on ${device?.name ?? 'no CUDA device'}`);
    const host = {
      date: new Date().toISOString(),
      cpus: os.cpus()[0]?.model,
      cores: os.availableParallelism(),
      kernel: os.release(),
      node: process.version,
    };
    const tests: { results: CaseResult[]; passed: number; failed: number; skipped: number } = {
      results: [],
      passed: 0,
      failed: 0,
      skipped: 0,
    };
    let sanitizer: Record<string, Outcome> = {};
    if (device === undefined) {
      tests.skipped = cases.reduce((total, file) => total + file.checks.length, 0);
      console.log(`Cannot run on cuda: ${info.cuda.reason}`);
    } else {
      for (const { op } of cases) {
        const { results } = runOp(op, folder);
        tests.results.push(...results);
        const failures = results.filter((result) => !result.passed);
        console.log(`${op}: ${results.length - failures.length} passed, ${failures.length} failed`);
        for (const failure of failures.slice(0, 5))
          console.log(`  ${failure.case}\n    ${failure.message.split('\n').slice(0, 4).join('\n    ')}`);
      }
      tests.failed = tests.results.filter((result) => !result.passed).length;
      tests.passed = tests.results.length - tests.failed;
      sanitizer = sanitize(folder);
    }
    writeFileSync(
      path.join(values.out, 'tests.json'),
      `${JSON.stringify({ host, info, ...tests, computeSanitizer: sanitizer }, null, 1)}\n`,
    );

    let bench: Outcome = { status: 'skipped', reason: device === undefined ? info.cuda.reason : '--skip-bench' };
    if (device !== undefined && !values['skip-bench']) {
      const file = path.join(folder, 'bench.json');
      const child = self(['--child-bench', '--results', file, '--seconds', values.seconds]);
      process.stdout.write(child.stdout ?? '');
      bench =
        child.status === 0
          ? { status: 'ran', report: JSON.parse(readFileSync(file, 'utf8')) as BenchReport }
          : { status: 'failed', reason: `${endOf(child)}\n${child.stderr ?? ''}` };
      if (bench.status === 'failed') console.log(`bench: ${bench.reason}`);
    }
    const python = device === undefined || values['skip-bench'] ? { status: 'skipped', reason: bench.reason } : peers();
    console.log(`Python peers: ${python.status}${python.reason === undefined ? '' : ` (${String(python.reason).split('\n')[0]})`}`);
    writeFileSync(path.join(values.out, 'bench.json'), `${JSON.stringify({ host, info, ...bench, peers: python }, null, 1)}\n`);
    console.log(`results in ${values.out}`);
    console.log(`${tests.passed} passed, ${tests.failed} failed, ${tests.skipped} skipped`);
    const isSanitizerRed = Object.values(sanitizer).some((outcome) => outcome.status === 'failed');
    process.exitCode = tests.failed > 0 || tests.passed === 0 || isSanitizerRed || bench.status === 'failed' ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (values['child-op'] !== undefined) await childTests(values['child-op'], values.results as string);
else if (values['child-bench']) childBench(values.results as string);
else main();
