// How linearKdLoss keeps to its scratch: the rows of a chunk, and where the gradient of a weight of a half type is gathered from several chunks.

/** What a plan is made for. */
export interface Shape {
  rows: number;
  cols: number;
  inputs: number;
  /** Bytes that a row of a chunk takes. */
  perRow: number;
  /** The most bytes, and the most rows of a chunk. */
  scratch: number;
  longest: number;
  /** Bytes of what only several chunks need: sums of the bias's gradient. */
  beside: number;
  /** The weight's gradient is wanted, and its sums need another place than itself. */
  isGathered: boolean;
  /** The logits are of the weight's own type. */
  mayKeep: boolean;
  /** Bytes of a copy of all hidden states, where 'kept' needs one. */
  copy: number;
  /** Bytes at the front of the weight's gradient that are left alone, so that the rest begins at a multiple of 16. */
  skipped: number;
}

/** Columns [from, to), whose gradient one walk over all chunks makes. */
export interface Part {
  from: number;
  to: number;
  /** How much of it lies in the room: lines of sums, or blocks of kept columns. The rest lies in front of the weight's gradient. */
  inRoom: number;
}

/**
 * 'direct': chunks write or add to the weight's gradient itself. 'sums': to float32 sums of a part, rounded once. 'kept': the gradient over
 * the logits is kept for all rows, in blocks of columns, and multiplied out once.
 */
export interface Plan {
  way: 'direct' | 'sums' | 'kept';
  /** Rows of a chunk. */
  chunk: number;
  /** From the last columns to the first: the memory of the gradient before a part is free until its turn. */
  parts: readonly Part[];
  /** Bytes beside the chunk. */
  room: number;
  /** 'kept': columns of a block. */
  width: number;
}

/** Chunks of whole steps add to the weight's gradient in the order of the matrix product itself. */
export const stepRows = 512;

/** Rows whose products take as long as reading the weight: what a chunk costs beside its own rows. */
const idleRows = 256;

/** Columns of a kept block: enough for a product of full speed. */
const widest = 4096;

/** More walks over all rows, or more blocks, each of them a copy for every chunk, are worth no kept columns. */
const mostWalks = 64;
const mostBlocks = 512;

const HALF = 2;
const FLOAT = 4;

/** Rows of a chunk where so many fit. */
function wholeSteps(fitting: number, rows: number): number {
  if (fitting >= rows) return Math.max(rows, 1);
  return fitting < stepRows ? fitting : fitting - (fitting % stepRows);
}

/** Chunks to choose from, the longest first. */
function* chunksUpTo(most: number): Generator<number> {
  for (let chunk = most; chunk >= stepRows; chunk -= stepRows) yield chunk;
  if (most < stepRows) yield most;
  for (let chunk = stepRows / 2; chunk >= 1; chunk /= 2) if (chunk < most) yield chunk;
}

const multipleOf8 = (value: number): number => (value < 8 ? value : value - (value % 8));

function sumsPlan({ cols, inputs, skipped }: Shape, chunk: number, room: number): Plan | null {
  const line = FLOAT * inputs;
  const lines = multipleOf8(Math.floor(room / line));
  if (lines < 1) return null;
  const parts: Part[] = [];
  for (let to = cols; to > 0;) {
    // Lines of the gradient before the part hold half as many lines of sums.
    const fits = (from: number): boolean => lines + Math.floor(Math.max(from * HALF * inputs - skipped, 0) / line) >= to - from;
    let from = 0;
    if (!fits(0)) from = multipleOf8(Math.ceil((2 * (to - lines)) / 3));
    while (!fits(from)) from = Math.min(from + 8, to - lines);
    parts.push({ from, to, inRoom: Math.min(lines, to - from) });
    to = from;
  }
  return { way: 'sums', chunk, parts, room: Math.max(...parts.map(({ inRoom }) => inRoom)) * line, width: 0 };
}

function keptPlan(shape: Shape, chunk: number, room: number): Plan | null {
  const { rows, cols, inputs, skipped } = shape;
  const width = multipleOf8(Math.floor(Math.min(widest, cols + 7, room / (4 * HALF * rows))));
  if (width < 8 || cols > mostBlocks * width) return null;
  const block = HALF * rows * width;
  // A block's product goes where no earlier block lies: the blocks behind those in the room end before its own columns do begin.
  const fits = (from: number, blocks: number, inRoom: number): boolean =>
    blocks <= inRoom || [inRoom, blocks - 1].every((b) => skipped + (b - inRoom + 1) * block <= (from + b * width) * HALF * inputs);
  const begin = (to: number, blocks: number): number => Math.max(to - blocks * width, 0);
  const most = Math.floor(room / block);
  const parts: Part[] = [];
  for (let to = cols; to > 0;) {
    if (parts.length === mostWalks) return null;
    let blocks = Math.ceil(to / width);
    while (!fits(begin(to, blocks), blocks, most)) blocks--;
    parts.push({ from: begin(to, blocks), to, inRoom: Math.min(most, blocks) });
    to = begin(to, blocks);
  }
  const [only] = parts;
  if (parts.length === 1) while (only!.inRoom > 1 && fits(0, Math.ceil(cols / width), only!.inRoom - 1)) only!.inRoom--;
  return { way: 'kept', chunk, parts, room: Math.max(...parts.map(({ inRoom }) => inRoom)) * block + shape.copy, width };
}

/**
 * The plan of least cost. Each part but the first costs one more product of the logits; a chunk costs reading the weight. Of equal ones the one
 * that takes less memory.
 */
export function planOf(shape: Shape): Plan {
  const { rows, cols, inputs, perRow, scratch, longest, beside, isGathered, mayKeep, copy } = shape;
  const all = Math.min(longest, Math.floor(scratch / perRow));
  const direct = (chunk: number): Plan => ({ way: 'direct', chunk, parts: [{ from: 0, to: cols, inRoom: 0 }], room: 0, width: 0 });
  if (all >= rows) return direct(Math.max(rows, 1));
  const left = scratch - beside;
  const fitting = (bytes: number): number => wholeSteps(Math.max(Math.min(longest, Math.floor(bytes / perRow)), 1), rows);
  if (!isGathered) return direct(fitting(left));
  let best: Plan | null = null;
  let least = Infinity;
  for (const chunk of chunksUpTo(fitting(left - FLOAT * inputs))) {
    const each = 1 + idleRows / chunk;
    if (6 * each > least) break;
    const room = left - chunk * perRow;
    for (const plan of [mayKeep ? keptPlan(shape, chunk, room - copy) : null, sumsPlan(shape, chunk, room)]) {
      if (plan === null) continue;
      const cost = (4 + 2 * plan.parts.length) * each;
      if (best !== null && (cost > least || (cost === least && plan.room >= best.room))) continue;
      [best, least] = [plan, cost];
    }
  }
  // A row and a line of sums fit, which was checked.
  return best!;
}
