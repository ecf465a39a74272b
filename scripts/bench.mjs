// `npm run bench`: bench/main.ts once per instruction set of this machine, and on a CUDA device where there is one.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'tsup';
import { root } from './counts.mjs';

const { values } = parseArgs({ options: { only: { type: 'string', multiple: true }, seconds: { type: 'string' } } });
const info = createRequire(import.meta.url)(path.join(root, 'build/Release/limbeck.node')).info();
const program = path.join(root, 'build', 'bench', 'main.js');
await build({
  config: false,
  entry: { main: path.join(root, 'bench/main.ts') },
  format: ['esm'],
  target: 'node20',
  outDir: path.dirname(program),
  silent: true,
  clean: true,
  dts: false,
});

const results = path.join(root, 'bench', 'results');
mkdirSync(results, { recursive: true });
const configurations = info.instructionSets.map((name) => ({ name, device: 'cpu', env: { LIMBECK_ISA: name } }));
if (info.cuda.devices.some((device) => device.usable)) configurations.push({ name: 'cuda', device: 'cuda', env: {} });
for (const { name, device, env } of configurations) {
  if (values.only && !values.only.includes(name)) continue;
  console.log(`\n--- ${name}`);
  const seconds = values.seconds === undefined ? [] : ['--seconds', values.seconds];
  const args = [program, '--device', device, ...seconds, '--json', path.join(results, `${name}.json`)];
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...env } });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
