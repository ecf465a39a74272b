// What importing loads: limbeck alone none of the teachers, and the teachers none of the packages that only some of them need.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';

const dist = (file: string): string => pathToFileURL(path.join(import.meta.dirname, '../dist/', file)).href;

/** Everything that is resolved while a module is imported. */
function imported(file: string): string[] {
  const hooks = `import { writeSync } from 'node:fs';
    export async function resolve(name, context, next) {
      const found = await next(name, context);
      writeSync(1, found.url + '\\n');
      return found;
    }`;
  const source = `
    import { register } from 'node:module';
    register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));
    await import(${JSON.stringify(dist(file))});`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  // Paths from dist/ on: the folder that all is in may have any name.
  return stdout
    .trim()
    .split('\n')
    .map((url) => url.replace(dist(''), 'dist/'));
}

describe('importing', () => {
  it('limbeck loads nothing of the teachers', () => {
    const urls = imported('index.js');
    expect(urls).toContain('dist/index.js');
    expect(urls.filter((url) => /teachers|onnx|p-queue|p-retry/.test(url))).toEqual([]);
  });

  it('the teachers loads no package that must be installed for some of them', () => {
    for (const file of ['teachers/index.js', 'teachers/onnx.js', 'onnx.js']) {
      const urls = imported(file);
      expect(urls).toContain(`dist/${file}`);
      expect(urls.filter((url) => /node_modules/.test(url) && !/node-gyp-build/.test(url))).toEqual([]);
    }
  });

  it('works from CommonJS with the same classes', () => {
    const at = (file: string): string => JSON.stringify(path.resolve(import.meta.dirname, '../dist', file));
    const source = `
      const { logitsTeacher } = require(${at('teachers/index.cjs')});
      const { onnxTeacher } = require(${at('teachers/onnx.cjs')});
      const { kdLoss, tensor, LimbeckError } = require(${at('index.cjs')});
      (async () => {
        for await (const it of logitsTeacher((batch) => tensor(batch), { access: 'topk', k: 1, residual: 'tail_bucket' }).targets([[[1, 0]]]))
          console.log(kdLoss(tensor([[1, 0]]), it.target, it.lossOptions).item().toFixed(6));
        await onnxTeacher('none.onnx').catch((error) => console.log(error instanceof LimbeckError, error.code));
      })();`;
    const { stdout, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8' });
    expect(stdout, stderr).toBe('0.000000\ntrue bad_file\n');
  });
});
