// The library as ESM and CJS with types, and the command line as ESM.
import { defineConfig } from 'tsup';

const shared = { target: 'node20', outDir: 'dist', sourcemap: false, splitting: true, treeshake: false } as const;

export default defineConfig([
  { ...shared, entry: ['src/index.ts', 'src/raw.ts'], format: ['esm', 'cjs'], dts: true, shims: true, clean: false },
  { ...shared, entry: { cli: 'src/cli/index.ts' }, format: ['esm'], dts: false },
]);
