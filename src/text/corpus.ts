// The corpus of a language model: files by domain, in blocks of whole lines, nothing twice, split by a hash of each block.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, extname, join, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkOptions } from '../check.js';
import { kindError, LimbeckError, phrase, valueError } from '../errors.js';

/** A file of a corpus. */
export interface CorpusFile {
  /** Its path, relative to the corpus. */
  name: string;
  /** The group it belongs to. */
  domain: string;
  text: string;
}

/** Options of {@link readCorpus}. */
export interface CorpusOptions {
  /** Endings of the files of a folder, with the dot. Default: all files. */
  extensions?: readonly string[];
  /** What a relative folder counts from, and where packages are looked for first. Default: the working directory. */
  base?: string;
}

/** Name of the corpus that comes with npm packages. */
export const typescriptCorpus = 'typescript';

/** Its domains. */
export const typescriptDomains = ['compiler', 'dom', 'es', 'node'] as const;

/**
 * Reads a corpus: `'typescript'`, the declaration files that come with the npm packages typescript and @types/node (4.5 MB of code and prose, in
 * the domains es, dom, compiler and node), or a folder, whose first level of folders are the domains. Files are in order of their names.
 *
 * @throws LimbeckError `bad_file` where a package is not installed, or a folder cannot be read or holds no text
 */
export async function readCorpus(corpus: string, options?: CorpusOptions): Promise<CorpusFile[]> {
  const action = 'read a corpus';
  const { extensions, base = process.cwd() } = checkOptions(action, options, ['extensions', 'base']);
  if (typeof corpus !== 'string' || corpus === '') throw kindError(action, "corpus must be 'typescript' or a folder", corpus);
  if (corpus === typescriptCorpus) return readTypescript(base);
  const folder = resolve(base, corpus);
  const files = await readFolder(folder, (name) => extensions === undefined || extensions.some((ending) => name.endsWith(ending)));
  if (files.length === 0)
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${folder}: it must hold files${extensions ? ` that end in ${extensions.join(' or ')}` : ''}: it holds none`,
    );
  return files.map(({ name, text }) => {
    const parts = name.split(sep);
    return { name, domain: parts.length > 1 ? parts[0]! : 'files', text };
  });
}

async function readTypescript(base: string): Promise<CorpusFile[]> {
  const compiler = packageFolder('typescript', base);
  const node = packageFolder('@types/node', base);
  const isDeclaration = (name: string) => name.endsWith('.d.ts');
  const [lib, types] = await Promise.all([readFolder(join(compiler, 'lib'), isDeclaration), readFolder(node, isDeclaration)]);
  // The worker's library repeats the one of the page, and the server's the compiler's.
  const kept = lib.filter(({ name }) => !/^lib\.webworker|^tsserverlibrary|scripthost/.test(name));
  return [
    ...kept.map(({ name, text }) => ({
      name: `typescript/${name}`,
      domain: name.startsWith('lib.dom') ? 'dom' : name.startsWith('lib.') ? 'es' : 'compiler',
      text,
    })),
    ...types.map(({ name, text }) => ({ name: `@types/node/${name}`, domain: 'node', text })),
  ];
}

function packageFolder(name: string, base: string): string {
  for (const start of [base, process.cwd()]) {
    try {
      return dirname(createRequire(pathToFileURL(join(start, 'recipe.json'))).resolve(`${name}/package.json`));
    } catch {
      // Looked for in the next place.
    }
  }
  throw new LimbeckError(
    'bad_file',
    `Cannot read the corpus 'typescript': the npm package ${name} must be installed (npm install --save-dev ${name}), or data.corpus must name a folder: neither is so`,
  );
}

async function readFolder(folder: string, isWanted: (name: string) => boolean): Promise<{ name: string; text: string }[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const paths = entries
      .filter((entry) => entry.isFile() && isWanted(entry.name))
      .map((entry) => join(entry.parentPath ?? (entry as { path?: string }).path ?? folder, entry.name));
    // By letter, whatever the machine's language is.
    paths.sort((a, b) => (a < b ? -1 : 1));
    return await Promise.all(paths.map(async (path) => ({ name: relative(folder, path), text: textOf(path, await readFile(path)) })));
  } catch (error) {
    if (error instanceof LimbeckError) throw error;
    throw new LimbeckError('bad_file', `Cannot read ${folder}: it must be a folder of readable files: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function textOf(path: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    const hint = extname(path) === '' ? '' : ` (extensions choose the files)`;
    throw new LimbeckError('bad_file', `Cannot read ${path}: it must be text in UTF-8: it is not${hint}`, { cause: error });
  }
}

/** A block of whole lines. */
export interface CorpusBlock {
  domain: string;
  text: string;
}

/** Options of {@link splitCorpus}. */
export interface SplitOptions {
  /** About which share of the blocks is for testing, in (0, 1). Default 0.1. */
  testShare?: number;
  /** Letters from which on a block ends at the next empty line. Default 2000. */
  blockLength?: number;
}

/**
 * Splits a corpus into blocks for training and testing. Paragraphs (what stands between empty lines) that were there before are left out, so
 * that no test block repeats a training one; a block is in the same part whatever else the corpus holds, by the SHA-256 of its text.
 */
export function splitCorpus(files: readonly CorpusFile[], options?: SplitOptions): { train: CorpusBlock[]; test: CorpusBlock[] } {
  const action = 'split a corpus';
  const { testShare = 0.1, blockLength = 2000 } = checkOptions(action, options, ['testShare', 'blockLength']);
  if (!(testShare > 0 && testShare < 1)) throw valueError(action, 'testShare must be in (0, 1)', testShare);
  if (!(Number.isSafeInteger(blockLength) && blockLength > 0))
    throw valueError(action, 'blockLength must be a whole number of at least 1', blockLength);
  if (!Array.isArray(files)) throw kindError(action, 'files must be those of readCorpus()', files);
  const seen = new Set<string>();
  const train: CorpusBlock[] = [];
  const test: CorpusBlock[] = [];
  for (const { domain, text } of files) {
    let block = '';
    const end = () => {
      if (block === '') return;
      const hash = createHash('sha256').update(block).digest().readUInt32BE() / 2 ** 32;
      (hash < testShare ? test : train).push({ domain, text: block });
      block = '';
    };
    for (const paragraph of text.replaceAll('\r\n', '\n').split(/\n(?:[ \t]*\n)+/)) {
      const key = paragraph.trim();
      if (key === '' || seen.has(key)) continue;
      seen.add(key);
      block += `${paragraph}\n\n`;
      if (block.length >= blockLength) end();
    }
    end();
  }
  if (train.length === 0 || test.length === 0)
    throw valueError(
      action,
      'it must have blocks for training and for testing',
      phrase(`there are ${train.length} and ${test.length} (smaller blocks or another testShare may help)`),
    );
  return { train, test };
}
