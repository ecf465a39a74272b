// The library as ESM and CJS with types, the command line as ESM, and the script that the report carries inside it.
import { defineConfig } from 'tsup';

const shared = { target: 'node20', outDir: 'dist', sourcemap: false, splitting: true, treeshake: false } as const;

export default defineConfig([
  {
    ...shared,
    entry: ['src/index.ts', 'src/raw.ts', 'src/teachers/index.ts', 'src/teachers/onnx.ts'],
    format: ['esm', 'cjs'],
    // ESM only, which CommonJS cannot load in every Node there is: inside, with their licences in THIRD_PARTY.md.
    noExternal: ['p-queue', 'p-retry'],
    dts: true,
    shims: true,
    clean: false,
  },
  { ...shared, entry: { cli: 'src/cli/main.ts' }, format: ['esm'], dts: false },
  {
    ...shared,
    entry: { 'report-client': 'src/report/client.ts' },
    format: ['iife'],
    platform: 'browser',
    target: 'es2022',
    minify: true,
    dts: false,
    outExtension: () => ({ js: '.js' }),
  },
]);
