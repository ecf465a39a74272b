// Answers on disk, a checked line each, so that a run that ends early goes on without asking again.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { LimbeckError } from '../errors.js';

const header = `${JSON.stringify({ journal: 'limbeck answers 1' })}\n`;

/** A SHA-256 in hex. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

interface Place {
  offset: number;
  length: number;
  line: number;
}

interface Line {
  key: string;
  sum: string;
  request: unknown;
  answer: unknown;
}

const sumOf = (key: string, request: unknown, answer: unknown): string => hashOf(JSON.stringify([key, request, answer])).slice(0, 16);

/**
 * A file that answers are appended to, each as a whole line that is on disk when `add` has come back. Memory holds keys and places.
 * What a crash leaves of a last line is cut off at the next start; anything else that is wrong is an error.
 */
export class Journal {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #places: Map<string, Place>;
  #end: number;
  #lines: number;
  #last: Promise<void> = Promise.resolve();

  private constructor(path: string, file: FileHandle, places: Map<string, Place>, end: number, lines: number) {
    this.path = path;
    this.#file = file;
    this.#places = places;
    this.#end = end;
    this.#lines = lines;
  }

  /** @throws LimbeckError `bad_file` naming path and line */
  static async open(path: string): Promise<Journal> {
    let file: FileHandle;
    try {
      file = await open(path, 'a+');
    } catch (error) {
      throw badJournal(path, `it must be a file that can be written: ${(error as Error).message}`, error);
    }
    try {
      const places = new Map<string, Place>();
      let end = 0;
      let lines = 0;
      for await (const { text, offset, isWhole } of rawLines(path)) {
        if (!isWhole) break;
        lines++;
        if (lines === 1 && text !== header)
          throw badJournal(path, `its first line must be ${header.trim()}: it is '${text.trim().slice(0, 60)}'`);
        const length = Buffer.byteLength(text);
        if (lines > 1) places.set(checkedLine(path, lines, text).key, { offset, length, line: lines });
        end = offset + length;
      }
      await file.truncate(end);
      const journal = new Journal(path, file, places, end, lines);
      if (lines === 0) await journal.#append(header);
      return journal;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** How many answers there are. */
  get size(): number {
    return this.#places.size;
  }

  has(key: string): boolean {
    return this.#places.has(key);
  }

  /** An answer that is there. */
  async read(key: string): Promise<{ answer: unknown; where: string }> {
    const { offset, length, line } = this.#places.get(key)!;
    const bytes = Buffer.alloc(length);
    const { bytesRead } = await this.#file.read(bytes, 0, length, offset);
    const text = bytes.toString('utf8', 0, bytesRead);
    return { answer: checkedLine(this.path, line, text).answer, where: `${this.path} line ${line}` };
  }

  /** Adds an answer, after all that were added before it. */
  add(key: string, request: unknown, answer: unknown): Promise<void> {
    const text = `${JSON.stringify({ key, sum: sumOf(key, request, answer), request, answer } satisfies Line)}\n`;
    const added = this.#last.then(async () => {
      const offset = this.#end;
      await this.#append(text);
      this.#places.set(key, { offset, length: this.#end - offset, line: this.#lines });
    });
    // The next one is tried even where this one failed: the disk may have room again.
    this.#last = added.catch(() => undefined);
    return added;
  }

  async #append(text: string): Promise<void> {
    try {
      await this.#file.appendFile(text);
      await this.#file.datasync();
    } catch (error) {
      await this.#file.truncate(this.#end).catch(() => undefined);
      throw badJournal(this.path, `the disk must have room for its lines (those before are whole): ${(error as Error).message}`, error);
    }
    this.#end += Buffer.byteLength(text);
    this.#lines++;
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#file.close();
  }
}

function badJournal(path: string, rest: string, cause?: unknown): LimbeckError {
  return new LimbeckError('bad_file', `Cannot use journal ${path}: ${rest}`, { cause });
}

function checkedLine(path: string, line: number, text: string): Line {
  let value: Partial<Line> | null;
  try {
    value = JSON.parse(text) as Partial<Line> | null;
  } catch (error) {
    throw badJournal(path, `line ${line} must be JSON: ${(error as Error).message}`, error);
  }
  const { key, sum, request, answer } = value ?? {};
  if (typeof key !== 'string' || sum !== sumOf(key, request, answer))
    throw badJournal(path, `line ${line} must have the checksum it was written with: it does not (delete the line to ask again)`);
  return { key, sum, request, answer };
}

/** Lines with their ends and places; the last may be cut short. */
async function* rawLines(path: string): AsyncGenerator<{ text: string; offset: number; isWhole: boolean }> {
  let held: Buffer[] = [];
  let offset = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      const bytes = Buffer.concat([...held, chunk.subarray(start, end + 1)]);
      yield { text: bytes.toString('utf8'), offset, isWhole: true };
      offset += bytes.length;
      held = [];
      start = end + 1;
    }
    if (start < chunk.length) held.push(chunk.subarray(start));
  }
  if (held.length > 0) yield { text: Buffer.concat(held).toString('utf8'), offset, isWhole: false };
}
