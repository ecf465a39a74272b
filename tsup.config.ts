// The library as ESM and CJS with types, the command line as ESM, and the script that the report carries inside it.
import { defineConfig } from 'tsup';

const shared = { target: 'node20', outDir: 'dist', sourcemap: false, splitting: true, treeshake: false } as const;

export default defineConfig([
  {
    ...shared,
    entry: { index: 'src/index.ts', raw: 'src/raw.ts', tfjs: 'src/adapters/tfjs.ts', jax: 'src/adapters/jax.ts' },
    format: ['esm', 'cjs'],
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
