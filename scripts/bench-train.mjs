// `npm run bench:train`: training steps beside PyTorch and TensorFlow.js, same weights and data, in turns; ratios are taken within a round.
// (a) a perceptron 784-128-10, one epoch of 10,000 rows; (b) a GPT of 4 layers, 4 steps. Losses must agree before anything is timed.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { KEEP_PAGES, NO_TORCH, Peer, python } from '../bench/peers/peer.mjs';
import { median } from '../bench/peers/serve.mjs';
import { root } from './counts.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    task: { type: 'string', multiple: true },
    peer: { type: 'string', multiple: true },
    out: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1)
  throw new RangeError(`Cannot run the bench: --rounds must be a whole number of at least 1: it is ${values.rounds}`);

const TASKS = {
  mlp: 'perceptron 784-128-10, batch 128, KD loss and Adam: an epoch of 10,000 rows',
  gpt: 'GPT of 4 layers, width 128, vocabulary 8192, 16 × 64 tokens, KD loss and AdamW: 4 steps',
};
const names = Object.keys(TASKS).filter((name) => values.task === undefined || values.task.includes(name));
/** How far apart the losses of one step may be, relative to ours. */
const AGREE = 1e-3;

const folder = path.join(root, 'build', 'train');
mkdirSync(folder, { recursive: true });
const ours = path.join(folder, 'ours.js');
const tsup = path.join(root, 'node_modules', 'tsup', 'dist', 'cli-default.js');
const flags = ['--no-config', '--format', 'esm', '--target', 'node20', '--out-dir', folder, '--silent'];
execFileSync(process.execPath, [tsup, path.join(root, 'bench', 'train', 'ours.ts'), ...flags], { stdio: 'inherit', cwd: root });
execFileSync(process.execPath, [ours, 'prepare', folder], { stdio: 'inherit' });

const script = (name) => path.join(root, 'bench', 'train', name);
const torch = (level, threads) => ({
  command: python,
  args: [script('torch_train.py'), folder, String(threads)],
  env: { ...KEEP_PAGES, ATEN_CPU_CAPABILITY: level, OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) },
  missing: NO_TORCH,
});
// Its threads wait for each other by spinning: on a machine with other work, one alone is faster than two.
const PEERS = {
  'limbeck, one thread': { command: process.execPath, args: [ours, 'serve', folder], env: { LIMBECK_THREADS: '1' } },
  'PyTorch avx512': torch('avx512', 2),
  'PyTorch avx512, one thread': torch('avx512', 1),
  'PyTorch avx2': torch('avx2', 2),
  tfjs: { command: process.execPath, args: [script('tfjs.mjs'), folder] },
};

/** The steps at which two runs are further apart than allowed. */
function disagreement(losses, expected) {
  if (losses.length !== expected.length) return `${losses.length} steps, ours ${expected.length}`;
  const at = losses.findIndex((loss, i) => !(Math.abs(loss - expected[i]) <= AGREE * Math.abs(expected[i])));
  return at < 0 ? undefined : `step ${at + 1} has loss ${losses[at]}, ours ${expected[at]}`;
}

async function contest(task, us, peers) {
  const first = (await us.measure({ task })).step;
  if (first === undefined) return { task, missing: 'not in this build' };
  const contenders = [];
  for (const peer of peers) {
    for (const [variant, { losses }] of Object.entries(await peer.measure({ task }))) {
      const differs = disagreement(losses, first.losses);
      if (differs === undefined) contenders.push({ peer, variant, times: [], cpu: [] });
      else console.log(`${peer.name}: ${task}, ${variant}: ${differs}: left out`);
    }
  }
  const times = [];
  const cpu = [];
  for (let round = 0; round < rounds; round += 1) {
    const own = (await us.measure({ task })).step;
    times.push(own.ms);
    cpu.push(own.cpu);
    for (const peer of new Set(contenders.map((contender) => contender.peer))) {
      const mine = contenders.filter((contender) => contender.peer === peer);
      const timed = await peer.measure({ task, only: mine.map(({ variant }) => variant) });
      for (const contender of mine) {
        contender.times.push(timed[contender.variant]?.ms ?? Infinity);
        contender.cpu.push(timed[contender.variant]?.cpu ?? Infinity);
      }
    }
  }
  const table = contenders.map(({ peer, variant, times: own, cpu: spent }) => {
    const ratios = own.map((ms, round) => ms / times[round]);
    return { peer: peer.name, variant, ms: median(own), cpu: median(spent), least: Math.min(...own), ratio: median(ratios), ratios };
  });
  table.sort((a, b) => a.ms - b.ms);
  return {
    task,
    steps: first.losses.length,
    firstLoss: first.losses[0],
    lastLoss: first.losses.at(-1),
    ms: median(times),
    cpu: median(cpu),
    least: Math.min(...times),
    peers: table,
  };
}

const digits = (x) => (x >= 100 ? x.toFixed(0) : x.toPrecision(3));
const us = await Peer.start('limbeck', { command: process.execPath, args: [ours, 'serve', folder] });
if (us === undefined) process.exit(1);
const peers = await Peer.startAll(PEERS, values.peer);
console.log([us, ...peers].map(({ title }) => title).join('; '));
console.log('Skipped: a GPT in tfjs and both in plain JavaScript, seconds a step.');
const results = [];
for (const name of names) {
  const result = await contest(name, us, peers);
  results.push(result);
  console.log(`\n${TASKS[name]}`);
  if (result.missing !== undefined) {
    console.log(result.missing);
    continue;
  }
  console.log(
    `\n| | ms, median | least | processor ms | times ours |\n|---|---|---|---|---|\n| limbeck | ${digits(result.ms)} | ${digits(result.least)} | ${digits(result.cpu)} | 1 |`,
  );
  for (const { peer, variant, ms, cpu, least, ratio, ratios } of result.peers) {
    const spread = ` (${digits(Math.min(...ratios))} to ${digits(Math.max(...ratios))})`;
    console.log(`| ${peer}, ${variant} | ${digits(ms)} | ${digits(least)} | ${digits(cpu)} | ${digits(ratio)}${spread} |`);
  }
  const torches = result.peers.filter(({ peer }) => peer.startsWith('PyTorch'));
  if (torches.length === 0) continue;
  const [clock, spent] = [Math.min(...torches.map(({ ratio }) => ratio)), Math.min(...torches.map(({ cpu }) => cpu / result.cpu))];
  const says = (best) => `${best >= 1 ? 'yes' : 'NO'} (its best is ${digits(best)} times ours)`;
  console.log(`\nat least as fast as PyTorch by the clock: ${says(clock)}; by processor time: ${says(spent)}`);
}
for (const peer of [us, ...peers]) peer.stop();
const file = path.resolve(values.out ?? path.join(folder, 'results.json'));
mkdirSync(path.dirname(file), { recursive: true });
const report = {
  date: new Date().toISOString().slice(0, 10),
  processor: cpus()[0]?.model,
  cores: cpus().length,
  node: process.version,
  rounds,
  ours: us.title,
  peers: peers.map(({ title }) => title),
  results,
};
writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
console.log(`\nwritten to ${path.relative(root, file)}`);
