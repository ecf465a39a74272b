// Runs the recipes of the package and checks their pass rules: node scripts/recipes.mjs --quick | --full [names].
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const words = process.argv.slice(2);
const size = words.includes('--full') ? 'full' : 'quick';
const isVerbose = words.includes('--verbose');
const wanted = words.filter((word) => !word.startsWith('--'));
const all = readdirSync(path.join(root, 'recipes'))
  .filter((name) => name.endsWith('.json') && name !== 'recipe.schema.json')
  .map((name) => name.slice(0, -'.json'.length))
  .sort();
for (const name of wanted) {
  if (all.includes(name)) continue;
  console.error(`Cannot run recipe ${name}: it must be one of ${all.join(', ')}: it is not`);
  process.exit(2);
}

/** One recipe in a process of its own; what it says goes to log.txt of its folder. */
function run(name, folder) {
  const quick = size === 'quick' ? ['--quick'] : [];
  const args = [
    path.join(root, 'dist', 'cli.js'),
    'distill',
    path.join(root, 'recipes', `${name}.json`),
    '--out',
    folder,
    '--fresh',
    ...quick,
  ];
  return new Promise((done) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: root });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (part) => {
        text += part;
        if (isVerbose) process.stderr.write(part);
      });
    }
    child.on('error', (error) => done({ code: 1, text: `${text}${error.message}\n` }));
    child.on('close', (code) => done({ code, text }));
  });
}

const counts = { passed: 0, failed: 0, skipped: 0 };
const width = Math.max(...all.map((name) => name.length));

async function report(name) {
  const recipe = JSON.parse(readFileSync(path.join(root, 'recipes', `${name}.json`), 'utf8'));
  const label = name.padEnd(width);
  if (size === 'quick' && !recipe.quick) {
    counts.skipped++;
    console.log(`- ${label}  skipped: it has no quick size`);
    return;
  }
  const folder = path.join(root, 'runs', size, name);
  const started = performance.now();
  const { code, text } = await run(name, folder);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'log.txt'), text);
  let checks = null;
  try {
    ({ checks } = JSON.parse(readFileSync(path.join(folder, 'results.json'), 'utf8')));
  } catch {
    // The run ended before its results: said below.
  }
  const kept = checks?.filter(({ passed }) => passed).length ?? 0;
  const isGood = code === 0 && checks !== null && kept === checks.length;
  counts[isGood ? 'passed' : 'failed']++;
  console.log(`${isGood ? '✓' : '✗'} ${label}  ${checks === null ? 'did not end' : `${kept} of ${checks.length} checks`}, ${seconds} s`);
  for (const check of checks ?? []) if (!check.passed) console.log(`    ✗ ${check.says}: ${check.text}`);
  if (checks === null)
    console.log(
      text
        .trimEnd()
        .split('\n')
        .slice(-5)
        .map((line) => `    ${line}`)
        .join('\n'),
    );
}

// Small students keep one processor busy. Full runs come one after the other: their times are quoted.
const queue = [...(wanted.length > 0 ? wanted : all)];
const atOnce = size === 'quick' && !isVerbose ? Math.min(4, os.availableParallelism()) : 1;
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) await report(name);
  }),
);
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
if (counts.failed > 0) process.exitCode = 1;
