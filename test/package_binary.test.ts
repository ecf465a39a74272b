// The built addon as a file: what it exports, needs and carries.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const build = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', 'build');
const addon = path.join(build, 'Release', 'limbeck.node');
const read = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 });

describe.skipIf(process.platform !== 'linux')('the addon', () => {
  for (const name of ['limbeck.node', 'limbeck_emulated.node']) {
    it(`${name} exports what Node-API looks for and nothing else`, () => {
      const symbols = read('nm', '-D', '--defined-only', path.join(build, 'Release', name));
      const names = symbols
        .trim()
        .split('\n')
        .map((line) => line.split(' ').at(-1));
      expect(names.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
    });
  }

  it('stays loaded when the last worker thread ends', () => {
    expect(read('readelf', '-d', addon)).toContain('NODELETE');
  });

  it('needs no CUDA library and no glibc above 2.34', () => {
    const needed = [...read('readelf', '-d', addon).matchAll(/\(NEEDED\)[^[]*\[([^\]]+)\]/g)].map((match) => match[1] as string);
    expect(
      needed.filter(
        (name) => !/^(libstdc\+\+|libgcc_s|libm|libc|libdl|libpthread|librt|ld-linux|lib(open)?blas|libblis|libcblas)/.test(name),
      ),
    ).toEqual([]);
    const versions = [...read('objdump', '-T', addon).matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]));
    expect(Math.max(...versions)).toBeLessThanOrEqual(34);
  });

  it.skipIf(!existsSync(path.join(build, 'CMakeFiles', 'limbeck.dir', 'native', 'cuda', 'runtime.cu.o')))(
    'has at most 400 CUDA kernels',
    () => {
      const kernels = read('nm', addon)
        .split('\n')
        // Each kernel leaves three symbols with its stub's name; its handle is one of them.
        .filter((line) => line.includes('__device_stub__') && line.endsWith('__handle'));
      expect(kernels.length).toBeGreaterThan(0);
      expect(kernels.length).toBeLessThanOrEqual(400);
    },
  );
});
