// Lines of real text as pictures: words of this package's own pages, drawn in the DejaVu fonts.
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCanvas, GlobalFonts } from '@napi-rs/canvas';

export const height = 48;
export const width = 320;

const docs = fileURLToPath(new URL('../../docs', import.meta.url));
const fontFolder = path.join(path.dirname(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/package.json')), 'ttf');

/** Fonts that are learned from, and one that is kept for the test. */
export const fonts = ['DejaVuSans', 'DejaVuSans-Bold', 'DejaVuSans-Oblique', 'DejaVuSansCondensed', 'DejaVuSansMono', 'DejaVuSerif'];
export const newFont = 'DejaVuSerif-Bold';
for (const name of [...fonts, newFont]) GlobalFonts.registerFromPath(path.join(fontFolder, `${name}.ttf`), name);

/** Numbers in [0, 1) that a seed fixes (mulberry32). */
export function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The prose of the pages as lines of at most 18 letters; lines of the test occur nowhere in training. */
export function readLines() {
  const text = readdirSync(docs, { recursive: true })
    .filter((file) => file.endsWith('.md') && !file.startsWith('api'))
    .sort()
    .map((file) => readFileSync(path.join(docs, file), 'utf8').replace(/^```[\s\S]*?^```$/gm, ''))
    .join(' ')
    .replace(/\]\([^)]*\)/g, ' ');
  const words = text.match(/[A-Za-z0-9][A-Za-z0-9,.:;'-]*/g).filter((word) => word.length <= 18);
  const lines = new Set();
  let line = '';
  for (const word of words) {
    if (`${line} ${word}`.trim().length <= 18) line = `${line} ${word}`.trim();
    else {
      lines.add(line);
      line = word;
    }
  }
  const random = randomNumbers(1);
  return [...lines]
    .map((each) => [random(), each])
    .sort(([a], [b]) => a - b)
    .map(([, each]) => each);
}

/** A line as grey values in [0, 1], [height, width], 1 is ink; size, place, and shade vary. */
export function draw(text, font, random) {
  const canvas = createCanvas(width, height);
  const context = canvas.getContext('2d');
  const paper = 225 + Math.floor(30 * random());
  const ink = Math.floor(90 * random());
  context.fillStyle = `rgb(${paper}, ${paper}, ${paper})`;
  context.fillRect(0, 0, width, height);
  context.fillStyle = `rgb(${ink}, ${ink}, ${ink})`;
  context.textBaseline = 'middle';
  let size = 26 + Math.floor(8 * random());
  do context.font = `${size--}px ${font}`;
  while (context.measureText(text).width > width - 12);
  context.fillText(text, 4 + 4 * random(), height / 2 + 4 * random() - 2);
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: height * width }, (_, i) => 1 - data[4 * i] / 255);
}

/** As PP-OCR wants it: [3, height, width] on a scale of −1 to 1, paper bright. */
export function forTeacher(pictures) {
  const size = height * width;
  const data = new Float32Array(pictures.length * 3 * size);
  pictures.forEach((grey, n) => {
    for (let c = 0; c < 3; c++) for (let i = 0; i < size; i++) data[(3 * n + c) * size + i] = 1 - 2 * grey[i];
  });
  return { data, dims: [pictures.length, 3, height, width] };
}
