// The library as ESM and CJS with types, the command line as ESM, and the script that the report carries inside it.
import { readFile, writeFile } from 'node:fs/promises';
import { defineConfig, type Options } from 'tsup';

const shared = { target: 'node20', outDir: 'dist', sourcemap: false, splitting: true, treeshake: false } as const;

// tsup makes require() of import() in CommonJS; before Node 20.19 that cannot load the optional packages, which are ES modules.
const keepImports: NonNullable<Options['plugins']>[number] = {
  name: 'keep-imports',
  async buildEnd({ writtenFiles }) {
    for (const { name } of writtenFiles.filter((file) => file.name.endsWith('.cjs'))) {
      const text = await readFile(name, 'utf8');
      const kept = text.replace(
        /Promise\.resolve\(\)\.then\(\(\) => _interopRequireWildcard\(require\(("[^."][^"]*")\)\)\)/g,
        'import($1)',
      );
      if (kept !== text) await writeFile(name, kept);
    }
  },
};

export default defineConfig([
  {
    ...shared,
    entry: {
      index: 'src/index.ts',
      raw: 'src/raw.ts',
      tfjs: 'src/adapters/tfjs.ts',
      jax: 'src/adapters/jax.ts',
      onnx: 'src/onnx/index.ts',
      'teachers/index': 'src/teachers/index.ts',
      'teachers/onnx': 'src/teachers/onnx.ts',
    },
    format: ['esm', 'cjs'],
    // ESM only, which CommonJS cannot load in every Node there is: inside, with their licences in THIRD_PARTY.md.
    noExternal: ['p-queue', 'p-retry'],
    dts: true,
    shims: true,
    clean: false,
    plugins: [keepImports],
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
