// Which move each image had when its target was captured: the seed of a view.
import { deriveSeed } from '../nn/seed.js';
import type { Moves } from './results.js';

/** What moves the images of one view; with a row it fixes that row's move. */
export function viewSeed({ seed }: Moves, view: number): number {
  return deriveSeed(seed, 'view', view);
}
