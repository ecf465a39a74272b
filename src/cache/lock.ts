// One writer for each shard: a file with its process beside it, which a process that is no more leaves without force.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { LimbeckError } from '../errors.js';
import { fileError } from '../safetensors.js';

// The same in every thread of the process, and another one in a later process of the same number.
const startedAt = (): number => Math.round(Date.now() / 1000 - process.uptime());

/** @throws LimbeckError `in_use` where another writer has it, `bad_file` where the folder cannot be written to */
export function lock(path: string): void {
  const text = `${process.pid} ${hostname()} ${startedAt()}\n`;
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      writeFileSync(path, text, { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw fileError('write', path, 'its folder must be writable', error);
    }
    const holder = readHolder(path);
    if (holder === null) continue;
    if (isAlive(holder))
      throw new LimbeckError(
        'in_use',
        `Cannot write ${path.replace(/\.lock$/, '')}: no other writer must be at it: process ${holder.pid} on ${holder.host} is (if it is not, remove ${path})`,
      );
    rmSync(path, { force: true });
  }
  throw new LimbeckError('in_use', `Cannot write ${path.replace(/\.lock$/, '')}: no other writer must be at it: one is`);
}

export function unlock(path: string): void {
  rmSync(path, { force: true });
}

interface Holder {
  pid: number;
  host: string;
  started: number;
}

function readHolder(path: string): Holder | null {
  try {
    const [pid = '', host = '', started = ''] = readFileSync(path, 'utf8').trim().split(' ');
    return { pid: Number(pid), host, started: Number(started) };
  } catch {
    return null;
  }
}

function isAlive({ pid, host, started }: Holder): boolean {
  // Killed before it wrote its number.
  if (!Number.isInteger(pid) || pid <= 0) return false;
  if (host !== hostname()) return true;
  if (pid === process.pid) return Math.abs(started - startedAt()) <= 5;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
