// Picks the test rows that models see differently.
import type { Data } from './data.js';
import { predictions, rowProbabilities } from './metrics.js';
import type { GalleryGroup, GalleryItem } from './results.js';

/** A model's answers on all test rows. */
export interface GallerySource {
  role: 'teacher' | 'distilled' | 'labels' | 'pruned';
  title: string;
  logits: Float32Array;
}

const ITEMS = 4;

/** Groups of rows by who is right, the surest answers first. */
export function buildGallery(data: Data, sources: readonly GallerySource[]): GalleryGroup[] {
  const { classes, test } = data;
  const answers = sources.map((source) => ({ ...source, chosen: predictions(source.logits, classes) }));
  const of = (role: GallerySource['role']) => answers.find((each) => each.role === role);
  const [teacher, distilled, labels] = [of('teacher'), of('distilled'), of('labels')];
  const surety = (row: number) => answers.reduce((sum, each) => sum + Math.max(...rowProbabilities(each.logits, row, classes)), 0);

  const item = (row: number): GalleryItem => ({
    row,
    label: test.labels[row]!,
    pixels: Buffer.from(test.pixels.subarray(row * data.inputs, (row + 1) * data.inputs)).toString('base64'),
    width: data.width,
    height: data.height,
    views: answers.map(({ title, logits, chosen }) => ({
      title,
      predicted: chosen[row]!,
      probability: rowProbabilities(logits, row, classes)[chosen[row]!]!,
    })),
  });
  const group = (
    title: string,
    right: (typeof answers)[number] | undefined,
    wrong: (typeof answers)[number] | undefined,
  ): GalleryGroup[] => {
    if (!right || !wrong) return [];
    const rows: number[] = [];
    for (let row = 0; row < test.rows; row++) {
      if (right.chosen[row] === test.labels[row] && wrong.chosen[row] !== test.labels[row]) rows.push(row);
    }
    const surest = rows.map((row) => [surety(row), row] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    return [{ title, count: rows.length, items: surest.slice(0, ITEMS).map(([, row]) => item(row)) }];
  };
  return [
    ...group('The teacher is right, the distilled student is not', teacher, distilled),
    ...group('The distilled student is right, the teacher is not', distilled, teacher),
    ...group('The distilled student is right, the one from labels is not', distilled, labels),
    ...group('The one from labels is right, the distilled student is not', labels, distilled),
  ];
}
