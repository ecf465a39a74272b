// `npm run bench:peers`: us and what a user would take instead, in turns, on the same data; ratios are taken within a round.
// Peers are installed into build/peers, outside the package; one that is missing is skipped with a word.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { prepare } from '../bench/peers/data.mjs';
import { KEEP_PAGES, NO_TORCH, Peer, python } from '../bench/peers/peer.mjs';
import { median } from '../bench/peers/serve.mjs';
import { root } from './counts.mjs';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '0.2' },
    task: { type: 'string', multiple: true },
    peer: { type: 'string', multiple: true },
    json: { type: 'string' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const folder = path.join(root, 'build', 'peers');
const data = path.join(folder, 'data');

const SHAPES = { large: [256, 32_000], vocabulary: [64, 128_256], thousand: [4096, 1000], digits: [16_384, 10] };
const OTHERS = [
  'reverse_kl',
  'symmetric_kl',
  'jensen_shannon',
  'skew_forward_kl',
  'skew_reverse_kl',
  'total_variation',
  'squared_hellinger',
  'soft_cross_entropy',
];

/** What is measured, and how many times faster than the best peer it has to be. */
const TASKS = [
  { task: 'dense forward_kl', shape: SHAPES.large, bar: 8 },
  { task: 'dense forward_kl', shape: SHAPES.vocabulary, bar: 8 },
  { task: 'dense forward_kl', shape: SHAPES.thousand, bar: 5 },
  { task: 'dense forward_kl', shape: SHAPES.digits, bar: 2 },
  ...OTHERS.map((name) => ({ task: `dense ${name}`, shape: SHAPES.large, bar: 8 })),
  { task: 'sparse renormalize', shape: SHAPES.large, bar: 4 },
  { task: 'sparse renormalize', shape: SHAPES.vocabulary, bar: 4 },
  { task: 'top-k', shape: SHAPES.large, bar: 3 },
  { task: 'top-k', shape: SHAPES.vocabulary, bar: 2 },
  { task: 'softmax', shape: SHAPES.large, bar: 2 },
  { task: 'softmax', shape: SHAPES.vocabulary, bar: 2 },
].filter(({ task }) => values.task === undefined || values.task.some((part) => task.includes(part)));

/** Our own variant that a bar is about, where there are several. */
const OURS = { 'top-k': 'captureTopK' };

/** Our own losses beside each other, call by call in turns: sparse ones at most this many times cross-entropy, and students near the teacher beside students far from it. */
const BESIDE = [
  ...['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform'].map((residual) => ({
    task: `sparse ${residual}`,
    other: 'cross-entropy',
    name: `sparse ${residual}, time over our cross-entropy`,
    bar: 1.05,
  })),
  ...['forward_kl', ...OTHERS].map((divergence) => ({
    task: `near ${divergence}`,
    other: `dense ${divergence}`,
    name: `${divergence} of a student near the teacher, time over our far one`,
  })),
];

const PACKAGES = ['@tensorflow/tfjs@4.22.0', '@tensorflow/tfjs-backend-wasm@4.22.0', '@jax-js/jax', 'onnxruntime-node', 'onnx-proto'];
const script = (name) => path.join(root, 'bench', 'peers', name);
const node = (name) => ({ command: process.execPath, args: [script(name), data, folder] });
const torch = (level) => ({
  command: python,
  args: [script('torch_peer.py'), data],
  env: { ...KEEP_PAGES, ATEN_CPU_CAPABILITY: level },
  missing: NO_TORCH,
});
const PEERS = {
  'PyTorch avx512': torch('avx512'),
  'PyTorch avx2': torch('avx2'),
  onnxruntime: node('onnxruntime.mjs'),
  tfjs: node('tfjs.mjs'),
  'jax-js': node('jax.mjs'),
  'plain JavaScript': node('plain.mjs'),
};

function install() {
  mkdirSync(folder, { recursive: true });
  if (existsSync(path.join(folder, 'node_modules', 'onnx-proto'))) return;
  console.log(`installing the peers into ${path.relative(root, folder)}`);
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' };
  const npm = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...PACKAGES], {
    cwd: folder,
    env,
    stdio: 'inherit',
  });
  if (npm.status !== 0) console.log('npm could not install them: the peers in Node other than plain JavaScript are left out');
}

/** Every variant once, then rounds of us and those within twice the best, each round's ratio to its best peer. */
async function contest({ task, shape: [rows, cols], bar }, us, peers) {
  const request = { task, rows, cols };
  const first = await us.measure({ ...request, seconds });
  const own = first[OURS[task] ?? Object.keys(first)[0]];
  const found = [];
  for (const peer of peers) {
    for (const [variant, timing] of Object.entries(await peer.measure({ ...request, seconds: seconds / 2 }))) {
      const agrees = own?.check === undefined || Math.abs(timing.check - own.check) <= 2e-3 * Math.abs(own.check);
      if (!agrees) console.log(`${peer.name}: ${task}, ${variant}: its result differs (${timing.check}, ours ${own.check}): left out`);
      else found.push({ peer, variant, first: timing.ms, times: [timing.ms] });
    }
  }
  const best = Math.min(...found.map(({ first: time }) => time));
  const contenders = found.filter(({ first: time }) => time <= 2 * best);
  for (const contender of contenders) contender.times = [];
  const name = OURS[task];
  const ours = [];
  const others = {};
  const ratios = [];
  for (let round = 0; round < rounds; round += 1) {
    const timings = await us.measure({ ...request, seconds });
    const main = name === undefined ? Object.values(timings)[0] : timings[name];
    if (main === undefined) return { task, rows, cols, bar, missing: 'not in this build' };
    ours.push(main.ms);
    for (const [variant, { ms }] of Object.entries(timings)) (others[variant] ??= []).push(ms);
    for (const peer of new Set(contenders.map((contender) => contender.peer))) {
      const mine = contenders.filter((contender) => contender.peer === peer);
      const timed = await peer.measure({ ...request, seconds, only: mine.map(({ variant }) => variant) });
      for (const contender of mine) contender.times.push(timed[contender.variant]?.ms ?? Infinity);
    }
    ratios.push(Math.min(...contenders.map(({ times }) => times[round])) / main.ms);
  }
  const table = found.map(({ peer, variant, times }) => ({ peer: peer.name, variant, ms: median(times), rounds: times.length }));
  table.sort((a, b) => a.ms - b.ms);
  const ratio = contenders.length === 0 ? undefined : median(ratios);
  const variants = Object.fromEntries(Object.entries(others).map(([variant, times]) => [variant, median(times)]));
  return {
    task,
    rows,
    cols,
    bar,
    ms: median(ours),
    own: variants,
    ratio,
    ratios,
    met: ratio === undefined ? null : ratio >= bar,
    peers: table,
  };
}

async function beside(us) {
  const [rows, cols] = SHAPES.large;
  const results = [];
  for (const { task, other, name, bar } of BESIDE) {
    const ratios = [];
    const times = [];
    for (let round = 0; round < rounds; round += 1) {
      const timed = await us.measure({ task, against: other, rows, cols, seconds: 2 * seconds });
      if (timed.mine === undefined) break;
      ratios.push(timed.mine.ms / timed.other.ms);
      times.push(timed.mine.ms);
    }
    if (ratios.length === 0) continue;
    const ratio = median(ratios);
    results.push({ task: name, rows, cols, bar, ms: median(times), ratio, ratios, met: bar === undefined ? null : ratio <= bar });
  }
  return results;
}

const digits = (x) => (x === undefined ? '' : x >= 100 ? x.toFixed(0) : x.toPrecision(3));
const verdict = (met) => (met === null ? 'no peer' : met ? 'met' : 'MISSED');

function line({ task, rows, cols, bar, ms, ratio, ratios, met, peers, missing }) {
  if (missing !== undefined) return `| ${task} | ${rows}x${cols} | ${missing} | | | | |`;
  const best = peers?.[0];
  const spread = ratios.length > 1 ? ` (${digits(Math.min(...ratios))} to ${digits(Math.max(...ratios))})` : '';
  const against = best === undefined ? '' : `${best.peer}, ${best.variant}: ${digits(best.ms)}`;
  const limit = bar === undefined ? '' : `${task.includes('over our') ? '≤' : '≥'} ${bar}`;
  return `| ${task} | ${rows}x${cols} | ${digits(ms)} | ${against} | ${digits(ratio)}${spread} | ${limit} | ${bar === undefined ? '' : verdict(met)} |`;
}

install();
prepare(
  data,
  Object.values(SHAPES).filter((shape) => TASKS.some((entry) => entry.shape === shape) || shape === SHAPES.large),
);
const us = await Peer.start('limbeck', { command: process.execPath, args: [script('limbeck.mjs'), data] });
if (us === undefined) process.exit(1);
const peers = await Peer.startAll(PEERS, values.peer);
console.log([us, ...peers].map(({ title }) => title).join('; '));
const header = '| task | shape | ours, ms | best peer, ms | times faster | bar | |\n|---|---|---|---|---|---|---|';
console.log(`\n${header}`);
const results = [];
for (const entry of TASKS) {
  results.push(await contest(entry, us, peers));
  console.log(line(results.at(-1)));
}
if (values.task === undefined || values.task.some((part) => 'beside'.includes(part))) {
  for (const result of await beside(us)) {
    results.push(result);
    console.log(line(result));
  }
}
for (const peer of [us, ...peers]) peer.stop();

console.log('\nAll that was measured, ms (median over rounds; one round where it was far behind):\n');
for (const { task, rows, cols, own, peers: table } of results) {
  if (table === undefined) continue;
  const mine = Object.entries(own).map(([variant, ms]) => `limbeck ${variant} ${digits(ms)}`);
  console.log(
    `- ${task} ${rows}x${cols}: ${[...mine, ...table.map(({ peer, variant, ms }) => `${peer} (${variant}) ${digits(ms)}`)].join(', ')}`,
  );
}
const date = new Date().toISOString().slice(0, 10);
const file = values.json ?? path.join(root, 'bench', 'results', `${date}-peers.json`);
mkdirSync(path.dirname(file), { recursive: true });
const report = {
  date,
  processor: cpus()[0]?.model,
  cores: cpus().length,
  node: process.version,
  rounds,
  seconds,
  ours: us.title,
  peers: peers.map(({ title }) => title),
  results,
};
writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
const bars = results.filter(({ met }) => typeof met === 'boolean');
console.log(`\n${bars.filter(({ met }) => met).length} of ${bars.length} bars met; written to ${path.relative(root, file)}`);
