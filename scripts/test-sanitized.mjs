// `npm run test:asan`: both addons built with AddressSanitizer and UBSan into build-asan/, then the native and device tests run on them.
import { execFileSync, spawnSync } from 'node:child_process';
import path from 'node:path';
import { add, capture, line, root, runAll, runVitest, testFiles } from './counts.mjs';

const parts = process.argv.slice(2);
const build = spawnSync(process.execPath, ['scripts/build-native.cjs'], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, LIMBECK_BUILD_DIR: 'build-asan', LIMBECK_SANITIZE: 'address,undefined' },
});
if (build.status !== 0) process.exit(build.status ?? 1);

const runtime = execFileSync(process.env.CXX ?? 'c++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
const sanitized = {
  LIMBECK_ADDON_DIR: path.join(root, 'build-asan', 'Release'),
  LD_PRELOAD: runtime,
  ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=0:allocator_may_return_null=1',
  UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
  LIMBECK_SANITIZED: '1',
};
const files = testFiles().filter(
  (file) => file.endsWith('.device.test.ts') && (parts.length === 0 || parts.some((part) => file.includes(part))),
);

async function runLanes() {
  const { output, status } = await capture(path.join(root, 'build-asan/Release/limbeck_lanes_test'), [], { ...sanitized, LD_PRELOAD: '' });
  return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0, output };
}

const cpu = { LIMBECK_TEST_DEVICE: 'cpu' };
const emulated = { LIMBECK_TEST_DEVICE: 'cuda', LIMBECK_EMULATE_CUDA: '1' };
const onDevice = (name, env, these = files) => ({
  name,
  files: these,
  run: () => runVitest(these, { ...sanitized, ...env }, ['--testTimeout=600000']),
});
const ops = files.filter((file) => file.endsWith('ops.device.test.ts'));
const others = files.filter((file) => !ops.includes(file));
// Longest first. The ops on the emulated device take as long as all else together: two processes.
const jobs = [
  onDevice('cuda/emulated, ops 1/2', { ...emulated, LIMBECK_TEST_PART: '1/2' }, ops),
  onDevice('cuda/emulated, ops 2/2', { ...emulated, LIMBECK_TEST_PART: '2/2' }, ops),
  onDevice('cpu', cpu),
  onDevice('cuda/emulated, all else', emulated, others),
].filter((job) => job.files.length > 0);
const counts = await runAll([...jobs, { name: 'lanes', run: runLanes }]);
const total = counts.reduce(add, { passed: 0, failed: 0, skipped: 0 });
console.log(line(total));
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
