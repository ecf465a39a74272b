// Whole files only: text is written beside its place, flushed, and renamed over it; interrupted writes are cleared away.
import { randomBytes } from 'node:crypto';
import { access, constants, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { LimbeckError } from '../errors.js';

// The names that safetensors.ts gives to unfinished files too.
const UNFINISHED = /^\..+\.\d+-[0-9a-f]{8}\.tmp$/;

/** Writes text or bytes as a whole file; leaves the old file, and nothing beside it, when that fails. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  const beside = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  try {
    const file = await open(beside, 'wx');
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw writeError(path, error);
  }
}

/** Sees before long work that a file could be written. @throws LimbeckError `bad_file` */
export async function checkWritable(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK);
    if ((await stat(path).catch(() => undefined))?.isDirectory() === true) throw Object.assign(new Error(), { code: 'EISDIR' });
  } catch (error) {
    throw writeError(path, error);
  }
}

/** Makes a folder that files can be written to. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw writeError(path, error);
  }
}

/** A path as people read it: from where they are, or whole where that leads out. */
export function shortPath(path: string): string {
  const short = relative(process.cwd(), path) || '.';
  return short.startsWith('..') ? path : short;
}

/** Removes what an interrupted write left in a folder. */
export async function removeUnfinished(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  await Promise.all(names.filter((name) => UNFINISHED.test(name)).map((name) => rm(join(folder, name), { force: true })));
}

function writeError(path: string, error: unknown): LimbeckError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const must: Record<string, string> = {
    ENOSPC: 'the disk must have room: it is full (what was written before is whole)',
    EDQUOT: 'the disk must have room: the quota is used up (what was written before is whole)',
    EACCES: 'its folder must be writable: permission is denied',
    EPERM: 'its folder must be writable: it is not permitted',
    EROFS: 'its folder must be writable: the file system is read-only',
    ENOTDIR: 'its folder must be a folder: part of the path is a file',
    EEXIST: 'it must be a folder: it is a file',
    ENOENT: 'its folder must exist: it does not',
    EISDIR: 'it must be a file: it is a folder',
  };
  return new LimbeckError('bad_file', `Cannot write ${path}: ${must[code] ?? `it must be writable: ${(error as Error).message}`}`, {
    cause: error,
  });
}
